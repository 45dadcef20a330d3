//! Hosts, ports and URLs as people write them: accepts what is unambiguous, and explains the rest.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use super::Check;
use crate::{config::raw, node::RpcUrl, work::Cidr};

/// A host with an optional port.
#[derive(Debug, Eq, PartialEq)]
struct HostAndPort<'a> {
    /// Without brackets.
    host: &'a str,
    port: Option<u16>,
}

/// What is wrong with a host and port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unclear {
    Host,
    Port,
    /// IPv6 followed by something that may be a port.
    Bare,
}

impl Unclear {
    fn told(self) -> &'static str {
        match self {
            Self::Host => "contains an invalid host name",
            Self::Port => "has an invalid port: it should be 1 to 65535",
            Self::Bare => {
                "contains several colons: write an IPv6 address in brackets, like [::1]:1234"
            }
        }
    }
}

impl<'a> HostAndPort<'a> {
    fn parse(text: &'a str) -> Result<Self, Unclear> {
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Self { host: text, port: None });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or(Unclear::Host)?;
            host.parse::<Ipv6Addr>().map_err(|_| Unclear::Host)?;
            let port = match after.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if after.is_empty() => None,
                None => return Err(Unclear::Port),
            };
            return Ok(Self { host, port });
        }
        let (host, port) = match text.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err(Unclear::Bare),
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(is_name) {
            return Err(Unclear::Host);
        }
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, Unclear> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = u16::from_str(text).ok().filter(|port| is_number && *port > 0);
    port.ok_or(Unclear::Port)
}

/// The scheme in lower case, and what follows it.
fn split_scheme(text: &str) -> (Option<String>, &str) {
    match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    }
}

/// Host with port, and the path, which is empty if it is only a slash.
fn split_path(text: &str) -> (&str, &str) {
    let (place, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    (place, path.trim_end_matches('/'))
}

impl Check {
    /// `pool.host` and `pool.port`; `host:port` in `pool.host` is accepted too.
    pub(super) fn pool_place(&mut self, raw: &raw::Pool) -> Option<(String, u16)> {
        const KEY: &str = "pool.host";
        let text = raw.host.trim();
        if text.is_empty() || raw.port == 0 {
            return self.note(KEY, "and pool.port must name the pool's DATUM server");
        }
        if text.contains('@') {
            // Not shown: there may be a password in it.
            return self.note(KEY, "contains a '@': write only the host; DATUM needs no login");
        }
        let (scheme, rest) = split_scheme(text);
        let (place, path) = split_path(rest);
        let place = match HostAndPort::parse(place) {
            _ if scheme.is_some() || !path.is_empty() => {
                let host = HostAndPort::parse(place).map_or("pool.example", |place| place.host);
                return self
                    .note(KEY, &format!("\"{text}\" {} (host = \"{host}\")", no_url(scheme)));
            }
            Ok(place) => place,
            Err(unclear) => {
                let example = "write host = \"pool.example\" and port = 28915";
                return self.note(KEY, &format!("\"{text}\" {}; {example}", unclear.told()));
            }
        };
        let is_free = |port: u16| raw.port == port || raw.port == raw::Pool::default().port;
        let port = place.port.unwrap_or(raw.port);
        if !is_free(port) {
            let both =
                format!("\"{text}\" has another port than pool.port = {}: remove one", raw.port);
            return self.note(KEY, &both);
        }
        Some((place.host.to_owned(), port))
    }

    /// The URL, and the node's name: its host and port, and the path if there is one.
    pub(super) fn node_url(&mut self, url: &str) -> Option<(RpcUrl, String)> {
        const KEY: &str = "node.rpc_url";
        if url.contains('@') {
            // Not shown: there is a password in it.
            return self.note(
                KEY,
                "contains a '@': set rpc_user and rpc_password instead of putting them into the \
                 URL",
            );
        }
        let text = url.trim();
        let (scheme, rest) = split_scheme(text);
        if let Some(scheme) = scheme.filter(|scheme| scheme != "http") {
            let why = match scheme.as_str() {
                "https" => {
                    "nodes only speak plain HTTP: over a network that you do not trust, use a \
                     tunnel"
                }
                "tcp" => "tcp:// is for ZeroMQ addresses (zmq_hashblock)",
                _ => "nodes speak HTTP",
            };
            return self.note(KEY, &format!("\"{text}\" does not begin with http://: {why}"));
        }
        let (place, path) = split_path(rest);
        let is_clean =
            !text.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c));
        let why = match HostAndPort::parse(place) {
            Ok(HostAndPort { port: Some(_), .. }) if is_clean => {
                return Some((RpcUrl::of(place, path), format!("{place}{path}")));
            }
            Ok(HostAndPort { host, port: None }) if place == host && has_port(host) => {
                Unclear::Bare.told()
            }
            Ok(HostAndPort { port: None, .. }) if is_clean => {
                "it has no port: bitcoind's is 8332 (testnet4 48332, signet 38332, regtest 18443)"
            }
            Ok(_) => "it contains something that does not belong in a URL",
            Err(Unclear::Host) => "it contains an invalid host name",
            Err(unclear) => unclear.told(),
        };
        let form = "should read http://host:port, like http://127.0.0.1:8332";
        self.note(KEY, &format!("\"{text}\" {form}: {why}"))
    }

    /// `tcp://host:port`, or a path as `ipc://…`.
    pub(super) fn zmq_endpoint(&mut self, written: &str) -> Option<String> {
        let text = written.trim();
        let (scheme, rest) = split_scheme(text);
        let rest = match scheme.as_deref() {
            Some("ipc") => return Some(text.to_owned()),
            Some("tcp") | None => rest.trim_end_matches('/'),
            Some(_) => "",
        };
        let why = match HostAndPort::parse(rest) {
            Ok(HostAndPort { port: Some(_), .. }) => return Some(format!("tcp://{rest}")),
            Ok(HostAndPort { host, .. }) if rest == host && has_port(host) => Unclear::Bare.told(),
            Ok(_) => "it has no port",
            Err(_) if rest.starts_with("*:") => {
                "'*' is for the node to listen on: write the address of its machine"
            }
            Err(_) if rest.is_empty() => "it is not a ZeroMQ address",
            Err(unclear) => unclear.told(),
        };
        let form = "should read tcp://host:port, like zmqpubhashblock in bitcoin.conf";
        self.note("node.zmq_hashblock", &format!("\"{text}\" {form}: {why}"))
    }

    /// Networks and addresses.
    pub(super) fn networks(&mut self, key: &'static str, written: &[String]) -> Vec<Cidr> {
        self.each(key, written, |check, text| match text.parse() {
            Ok(network) => Some(network),
            Err(error) => check.note(key, &format!("\"{text}\" {error}")),
        })
    }

    /// An address to listen on.
    pub(super) fn listen(&mut self, key: &str, written: &str, example: &str) -> Option<SocketAddr> {
        let text = written.trim();
        let (scheme, rest) = split_scheme(text);
        let rest = rest.trim_end_matches('/');
        let is_plain =
            scheme.as_deref().is_none_or(|it| matches!(it, "http" | "tcp" | "stratum+tcp"));
        if let Some(addr) = rest.parse().ok().filter(|_| is_plain) {
            return Some(addr);
        }
        let why = match HostAndPort::parse(rest) {
            _ if !is_plain => "it contains a scheme that is not served here".into(),
            Ok(HostAndPort { host: "localhost", port: Some(port) }) => {
                return Some((Ipv4Addr::LOCALHOST, port).into());
            }
            Ok(HostAndPort { host, port: None })
                if host.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                which_addresses(host)
            }
            Ok(HostAndPort { host, port: None })
                if host.parse::<Ipv6Addr>().is_ok() && has_port(host) =>
            {
                Unclear::Bare.told().into()
            }
            Ok(HostAndPort { port: None, .. }) => "it has no port".into(),
            Ok(_) => "it contains a name: write an IP address of this machine, or 0.0.0.0 for \
                      all"
            .into(),
            Err(_) if rest.starts_with("*:") || rest.starts_with(':') => {
                which_addresses(rest.trim_start_matches(['*', ':']))
            }
            Err(unclear) => unclear.told().into(),
        };
        self.note(key, &format!("\"{text}\" should read like {example}: {why}"))
    }
}

/// Why a URL cannot name a pool.
fn no_url(scheme: Option<String>) -> &'static str {
    let is_stratum = scheme.is_some_and(|scheme| scheme.starts_with("stratum"));
    if is_stratum {
        "is the address of a Stratum server, but gatewayd uses the pool over DATUM: write only the \
         host of the pool's DATUM server, and its port as pool.port"
    } else {
        "is a URL: write only the host of the pool's DATUM server, and its port as pool.port"
    }
}

/// Whether the end of, say, `::1:7152` may be meant as a port.
fn has_port(host: &str) -> bool {
    let start = host.rsplit_once(':').map_or("", |(start, _)| start);
    start.parse::<IpAddr>().is_ok()
}

fn which_addresses(port: &str) -> String {
    format!(
        "it has no address: write 127.0.0.1:{port} for this machine alone, 0.0.0.0:{port} for your \
         whole network"
    )
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
