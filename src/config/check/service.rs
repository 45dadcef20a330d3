//! What surrounds the mining: [api], [ledger], [log].

use std::time::Duration;

use super::Check;
use crate::config::{Api, Log, LogFormat, raw};

impl Check {
    pub(super) fn api(&mut self, raw: &raw::Api) -> Option<Api> {
        let listen = match raw.listen.as_str() {
            "" => None,
            text => Some(self.address_like("api.listen", text, EXAMPLE)?),
        };
        let admin_password_file = match raw.admin_password_file.as_str() {
            "" => None,
            text => Some(self.path("api.admin_password_file", text)?),
        };
        Some(Api { listen, admin_password_file, metrics: raw.metrics })
    }

    pub(super) fn keep_history(&mut self, raw: &raw::Ledger) -> Option<Duration> {
        const KEY: &str = "ledger.keep_history";
        let keep = self.duration(KEY, &raw.keep_history)?;
        if keep < KEEP_HISTORY_MIN {
            return self.note(KEY, "should be at least 1d, as much as the dashboard shows");
        }
        Some(keep)
    }

    pub(super) fn log(&mut self, raw: raw::Log) -> Option<Log> {
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
        // A lone word that is no level would be the name of a module, and silence all others.
        let is_known = |part: &str| {
            part.contains(['=', '[']) || LEVELS.contains(&part.to_ascii_lowercase().as_str())
        };
        if let Some(word) = raw.level.split(',').map(str::trim).find(|part| !is_known(part)) {
            let levels = LEVELS.join(", ");
            return self.note("log.level", &format!("\"{word}\" is none of {levels}"));
        }
        let file = match raw.file.as_str() {
            "" => None,
            text => Some(self.path("log.file", text)?),
        };
        Some(Log { level: raw.level, format: format?, file })
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const EXAMPLE: &str = "127.0.0.1:7152 (or be empty: no dashboard)";
const KEEP_HISTORY_MIN: Duration = Duration::from_secs(86_400);
