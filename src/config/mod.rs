//! gatewayd.toml: `raw` is the file as written, [`Config`] what it means, in each part's own
//! configuration type: a part is given nothing else.

mod check;
mod defaults;
pub mod edit;
mod file;
mod first;
mod import;
mod module;
mod problem;
mod raw;
mod read;
mod written;

use std::{
    borrow::Cow,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bitcoin::Network;
use figment::{Figment, providers::Env};

#[cfg(test)]
pub(crate) use check::OWN_PATHS;
pub(crate) use check::parse_duration;
pub(crate) use file::{
    Applied, Change, Edit, Outlook, SettingsError, SettingsFile, SettingsTrial, SettingsView,
};
pub use import::import_datum;
pub use module::Module;
pub(crate) use problem::Problem;
pub(crate) use raw::Raw;
use written::Written;

use crate::{
    datum::DatumConfig,
    ledger::LedgerConfig,
    listener,
    logging::LogConfig,
    stratum,
    template::TemplateConfig,
    work::{AssemblerConfig, Cidr, limits::LimitRules},
};

/// What the operator wants, checked: a configuration for each part.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub(crate) path: Option<PathBuf>,
    /// What the file begins as, where there is none yet.
    pub(crate) draft: Arc<str>,
    /// The whole file as written, overridden by the environment.
    pub(crate) written: Arc<Raw>,
    /// `mining.address`; none: not set up yet, so nothing is mined.
    pub(crate) address: Option<PayoutAddress>,
    pub(crate) template: TemplateConfig,
    /// None while there is no address.
    pub(crate) work: Option<AssemblerConfig>,
    pub(crate) datum: DatumConfig,
    pub(crate) stratum: Stratum,
    pub(crate) limits: LimitRules,
    pub(crate) ledger: LedgerConfig,
    pub(crate) api: Api,
    pub log: LogConfig,
}

/// Whom blocks pay that are found without a pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PayoutAddress {
    /// Its network is checked once the node reports its own.
    pub(crate) address: bitcoin::Address<bitcoin::address::NetworkUnchecked>,
    /// As written.
    pub(crate) text: String,
}

impl PayoutAddress {
    fn script(&self) -> Box<[u8]> {
        self.address.clone().assume_checked().script_pubkey().into_bytes().into()
    }
}

/// Where miners connect, and under which rules.
#[derive(Clone, Debug)]
pub(crate) struct Stratum {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) rules: stratum::Config,
    pub(crate) ports: Vec<Port>,
    /// Limited by how many files this process may open.
    pub(crate) limits: listener::ConnectionLimits,
    /// Whose PROXY header is believed.
    pub(crate) trusted_proxies: Arc<[Cidr]>,
    pub(crate) tls: Tls,
    pub(crate) sv2: Sv2,
}

/// `[stratum.tls]`: the certificate for Stratum V1 miners that use TLS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Tls {
    Off,
    /// Issued by the gateway's own authority, also for these names.
    Own {
        names: Vec<String>,
    },
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// `[[stratum.port]]`.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) rules: stratum::Config,
    /// Its own Stratum V2 authority key.
    pub(crate) authority_key_file: Option<PathBuf>,
}

/// `[stratum.sv2]`.
#[derive(Clone, Debug)]
pub(crate) struct Sv2 {
    /// None: in `data_dir`.
    pub(crate) authority_key_file: Option<PathBuf>,
    pub(crate) certificate_lifetime: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// None: no dashboard, no API, no metrics.
    pub(crate) listen: Option<SocketAddr>,
    /// None: read only.
    pub(crate) admin_password_file: Option<PathBuf>,
    pub(crate) metrics: bool,
    /// The prefix of every path at the proxy in front, like "/gatewayd"; may be empty.
    pub(crate) base_path: Arc<str>,
    /// Names by which the dashboard may be opened, in lower case; "*.x" for all below x.
    pub(crate) allowed_hosts: Arc<[Box<str>]>,
}

/// Why there is no configuration: each line says where, which key, what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.iter().map(|it| it.in_file(.path)).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    pub(crate) path: String,
    pub(crate) problems: Vec<Problem>,
}

impl Config {
    /// Reads `path`, overridden by `GATEWAYD_…` from the environment. There may be only the
    /// environment: that is how containers are configured. `mining.address` may be missing.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let error = |problems| ConfigError { path: path.display().to_string(), problems };
        let has_keys = environment().iter().next().is_some()
            || (Module::of_environment().is_some() && Module::keys().iter().next().is_some());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(error(vec![Problem::of_file(format!("cannot be read: {why}"))]));
            }
            Err(_) if !has_keys => {
                return Err(error(vec![Problem::of_file(
                    "no such file. Write one with `gatewayd example-config > gatewayd.toml`, set \
                     mining.address and [[node]], and name it with --config; or leave --config out, \
                     and `gatewayd run` sets it up in your browser",
                )]));
            }
            Err(_) => String::new(),
        };
        let config = read::with_environment(&text).map_err(error)?;
        Ok(Self { path: Some(path.to_owned()), ..config })
    }

    /// The same; but where there is no file, the defaults, and a folder that can be written to: all
    /// else is said on the dashboard.
    pub fn load_or_first(path: &Path) -> Result<Self, ConfigError> {
        // What is there is there, whether or not it can be read.
        if std::fs::symlink_metadata(path).is_ok() {
            return Self::load(path);
        }
        let draft = first::draft(path);
        let error = |problems| ConfigError { path: path.display().to_string(), problems };
        let config = read::with_environment(&draft).map_err(error)?;
        // As an absolute path: it is shown to whoever saves.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { path: Some(path), draft: draft.into(), ..config })
    }

    /// What a file with this text would mean, overridden by the environment. `mining.address` may
    /// be missing.
    pub(crate) fn preview(toml: &str, path: &Path) -> Result<Self, Vec<String>> {
        let lines = |problems: Vec<Problem>| -> Vec<String> {
            problems.iter().map(ToString::to_string).collect()
        };
        let config = read::with_environment(toml).map_err(lines)?;
        Ok(Self { path: Some(path.to_owned()), ..config })
    }

    /// This one, except for what cannot change while `running` is in use.
    pub(crate) fn without_restart(&self, running: &Raw) -> Result<Self, Vec<String>> {
        let raw = Raw::clone(&self.written).without_restart(running);
        let config = check::config(raw, false);
        let config =
            config.map_err(|faults| faults.into_iter().map(|it| it.text).collect::<Vec<_>>())?;
        Ok(Self { path: self.path.clone(), ..config })
    }

    /// The same from text, without the environment.
    pub fn parse(toml: &str) -> Result<Self, ConfigError> {
        let error = |problems| ConfigError { path: "configuration".into(), problems };
        read::alone(toml).map_err(error)
    }

    /// The scriptPubKey of `mining.address`; none if it is not set yet.
    pub(crate) fn own_script(&self) -> Option<&[u8]> {
        self.work.as_ref().map(|work| &*work.solo.script)
    }

    /// Whether blocks on this network can pay `mining.address`.
    pub(crate) fn fits_network(&self, network: Network) -> bool {
        self.template.chains.contains(&network)
    }
}

/// What the file says, overridden by the environment.
fn merged(toml: &str) -> Figment {
    let module = Module::of_environment();
    let figment = module.as_ref().map_or_else(Figment::new, Module::defaults);
    let mut figment = figment.merge(Written(toml));
    if module.is_some() {
        figment = figment.merge(Module::keys());
    }
    figment.merge(environment())
}

/// A parser's message, without the passwords in the lines that it quotes.
fn without_secrets(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(line_without_secrets).collect();
    lines.join("\n")
}

fn line_without_secrets(line: &str) -> Cow<'_, str> {
    let is_set = |at: usize, key: &str| {
        let rest = line[at + key.len()..].trim_start_matches([' ', '\t', '"', '\'', '\\']);
        rest.starts_with(['=', ':'])
    };
    let password = line.match_indices("rpc_password").find(|(at, key)| is_set(*at, key));
    let url = line.contains('@').then(|| line.find("://")).flatten();
    let cut = [password.map(|(at, key)| at + key.len()), url].into_iter().flatten().min();
    cut.map_or_else(|| line.into(), |at| format!("{} <redacted>", &line[..at]).into())
}

/// `GATEWAYD_MINING__ADDRESS` is mining.address. Lists are written as in TOML.
///
/// Other names with the prefix are not ours: Kubernetes sets `GATEWAYD_PORT` for a service called
/// gatewayd.
fn environment() -> Env {
    let is_ours = |key: &figment::value::UncasedStr| {
        key.as_str().contains("__") || key == "node" || key == "pool"
    };
    Env::prefixed("GATEWAYD_").filter(is_ours).split("__")
}

/// The keys that the environment sets.
pub(crate) fn keys_of_environment() -> Vec<String> {
    use figment::Provider;
    let data = environment().data().unwrap_or_default();
    let mut keys = Vec::new();
    for (key, value) in data.values().flatten() {
        match value {
            figment::value::Value::Dict(_, below) => {
                keys.extend(below.keys().map(|deeper| format!("{key}.{deeper}")));
            }
            _ => keys.push(key.clone()),
        }
    }
    keys
}

/// The annotated example that `gatewayd example-config` prints.
pub const EXAMPLE: &str = include_str!("../../gatewayd.toml");

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
