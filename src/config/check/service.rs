//! Everything around mining: [api], [ledger], [log].

use std::{sync::Arc, time::Duration};

use super::Check;
use crate::{
    config::{Api, raw},
    ledger::LedgerConfig,
    logging::{LogConfig, LogFormat},
};

impl Check {
    pub(super) fn api(&mut self, raw: &raw::Api) -> Option<Api> {
        let listen = match raw.listen.as_str() {
            "" => None,
            text => Some(self.listen("api.listen", text, EXAMPLE)?),
        };
        let admin_password_file = match raw.admin_password_file.as_str() {
            "" => None,
            text => Some(self.path("api.admin_password_file", text)?),
        };
        let base_path = self.base_path(&raw.base_path)?;
        let allowed_hosts = self.allowed_hosts(&raw.allowed_hosts)?;
        Some(Api { listen, admin_password_file, metrics: raw.metrics, base_path, allowed_hosts })
    }

    fn allowed_hosts(&mut self, names: &[String]) -> Option<Arc<[Box<str>]>> {
        let is_part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        let is_name = |name: &str| {
            let plain = name.strip_prefix("*.").unwrap_or(name);
            name.len() <= HOST_LEN_MAX && plain.split('.').all(is_part)
        };
        match names.iter().find(|name| !is_name(name)) {
            None => Some(names.iter().map(|name| name.to_ascii_lowercase().into()).collect()),
            Some(name) => self.note(
                "api.allowed_hosts",
                &format!(
                    "\"{name}\" should read like \"mine.example.org\", or \"*.example.org\" for \
                     all below it, without scheme and port"
                ),
            ),
        }
    }

    fn base_path(&mut self, text: &str) -> Option<Arc<str>> {
        const KEY: &str = "api.base_path";
        let path = text.trim_end_matches('/');
        if path.is_empty() {
            return Some("".into());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let is_name = |part: &str| !matches!(part, "" | "." | "..") && part.chars().all(plain);
        let rest = path.strip_prefix('/').filter(|rest| rest.split('/').all(is_name));
        let Some(rest) = rest.filter(|_| path.len() <= BASE_PATH_LEN_MAX) else {
            return self.note(
                KEY,
                &format!("\"{text}\" should read like \"/gatewayd\", the path at the proxy"),
            );
        };
        let first = rest.split('/').next().unwrap_or(rest);
        if OWN_PATHS.contains(&first) {
            return self.note(
                KEY,
                &format!("\"{text}\" begins like one of gatewayd's own paths: use \"/gatewayd\""),
            );
        }
        Some(path.into())
    }

    pub(super) fn ledger(&mut self, raw: &raw::Ledger) -> Option<LedgerConfig> {
        const KEEP: &str = "ledger.keep_history";
        let data_dir = self.path("ledger.data_dir", &raw.data_dir);
        let keep_history = self.duration(KEEP, &raw.keep_history)?;
        if keep_history < KEEP_HISTORY_MIN {
            return self.note(KEEP, "should be at least 1d, which the dashboard shows");
        }
        Some(LedgerConfig { data_dir: data_dir?, keep_history })
    }

    pub(super) fn log(&mut self, raw: &raw::Log) -> Option<LogConfig> {
        let format = self.choice(
            "log.format",
            &raw.format,
            &[
                ("text", LogFormat::Text),
                ("json", LogFormat::Json),
                ("journald", LogFormat::Journald),
            ],
        );
        if let Err(error) = raw.level.parse::<tracing_subscriber::EnvFilter>() {
            return self.note("log.level", &format!("\"{}\": {error}", raw.level));
        }
        // A single word that is not a level would be the name of a module, and silence all others.
        let is_known = |part: &str| {
            part.contains(['=', '[']) || LEVELS.contains(&part.to_ascii_lowercase().as_str())
        };
        if let Some(word) = raw.level.split(',').map(str::trim).find(|part| !is_known(part)) {
            let levels = LEVELS.join(", ");
            return self.note("log.level", &format!("\"{word}\" is not one of {levels}"));
        }
        let file = match raw.file.as_str() {
            "" => None,
            text => Some(self.path("log.file", text)?),
        };
        Some(LogConfig { level: raw.level.clone(), format: format?, file })
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const EXAMPLE: &str = "127.0.0.1:7152 (or be empty for no dashboard)";
/// What gatewayd's own paths begin with: a base path that began like this would hide them.
pub(crate) const OWN_PATHS: [&str; 12] = [
    "api",
    "v1",
    "healthz",
    "readyz",
    "metrics",
    "NOTIFY",
    "umbrel-api",
    "css",
    "js",
    "vendor",
    "icon.svg",
    "index.html",
];
/// Longer than anybody would type.
const BASE_PATH_LEN_MAX: usize = 128;
/// A DNS name is no longer than this.
const HOST_LEN_MAX: usize = 253;
const KEEP_HISTORY_MIN: Duration = Duration::from_secs(86_400);
