//! Turns datum_gateway's configuration (JSON) into gatewayd.toml, with comments.
//!
//! `source` reads what is there; `upstream`, `stratum` and `service` say what each key becomes;
//! `writer` writes it down. Whatever does not carry over is mentioned in the new file and in the
//! notes; nothing is dropped silently.

mod service;
mod source;
mod stratum;
mod upstream;
mod url;
mod writer;

use std::{net::IpAddr, ops::RangeInclusive};

use self::{source::Source, upstream::Times, writer::Writer};
use super::{Config, ConfigError};

/// A configuration in its new form.
#[derive(Debug)]
pub struct Imported {
    pub toml: String,
    /// What did not carry over unchanged, and why: also in the file, as comments.
    pub notes: Vec<String>,
    /// What `gatewayd check` will refuse until it is changed.
    pub problems: Vec<String>,
}

/// Turns the text of a datum_gateway configuration into gatewayd.toml. The error has one line for
/// each value that is not understood.
pub fn import_datum(json: &str) -> Result<Imported, Vec<String>> {
    let mut source = Source::parse(json)?;
    let mut writer = Writer::default();
    write(&mut source, &mut writer);
    let (known, unknown) = source.keys();
    let unsaid: Vec<_> = known.into_iter().filter(|key| !writer.mentions(key)).collect();
    if !unsaid.is_empty() {
        writer.section(
            "# These keys need no line here: they are empty, not needed, or what gatewayd \
                      does anyway.",
        );
        unsaid.iter().for_each(|key| writer.comment(key));
    }
    for key in unknown {
        writer.note(&key, "is not a key of datum_gateway 0.4.1, so it is not carried over");
    }
    if !source.problems.is_empty() {
        return Err(source.problems);
    }
    let (toml, notes) = writer.finish();
    let texts = |error: ConfigError| error.problems.iter().map(|it| it.text().into()).collect();
    let problems = Config::parse(&toml).map_or_else(texts, |_| Vec::new());
    Ok(Imported { toml, notes, problems })
}

/// Reads every key that datum_gateway has, and writes the file.
fn write(source: &mut Source, out: &mut Writer) {
    out.comment(HEADER);
    upstream::node(source, out);
    upstream::extra_nodes(source, out);
    let times = Times::read(source);
    times.template(out);
    upstream::notify(source, out);
    upstream::mining(source, out);
    let is_pooled = upstream::pool(source, out);
    upstream::pooling(source, out, is_pooled);
    stratum::stratum(source, out, &times);
    stratum::modifiers(source, out);
    service::api(source, out);
    service::log(source, out);
}

/// `ip:port`, from what getaddrinfo would accept.
fn socket(source: &mut Source, key: &str, host: &str, port: i64) -> Option<String> {
    let host = if host == "localhost" { "127.0.0.1" } else { host };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => Some(format!("{ip}:{port}")),
        Ok(IpAddr::V6(ip)) => Some(format!("[{ip}]:{port}")),
        Err(_) => {
            source.problem(key, &format!("is \"{host}\"; it should be an IP address"));
            None
        }
    }
}

fn seconds(seconds: i64) -> String {
    format!("{seconds}s")
}

const HEADER: &str = "\
gatewayd.toml, made from a datum_gateway configuration by `gatewayd import-datum`.
Keys that are not here have their defaults: `gatewayd example-config` shows them all.
Next: see whether all is well with `gatewayd --config FILE check`.";
/// datum_gateway's numbers are C ints.
const INT_MAX: i64 = 2_147_483_647;
const INT: RangeInclusive<i64> = -INT_MAX - 1..=INT_MAX;

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
