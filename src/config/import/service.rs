//! The dashboard and the log.

use std::net::Ipv4Addr;

use super::{socket, source::Source, writer::Writer};

pub(super) fn api(source: &mut Source, out: &mut Writer) {
    const PASSWORD: &str = "api.admin_password";
    out.section("[api]");
    let address = source.some_text("api.listen_addr");
    match source.int("api.listen_port", 0..=65_535) {
        Some(0) => out.key("listen", "", "api.listen_port is 0: off"),
        Some(port) => {
            let host = address.unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.to_string());
            if let Some(listen) = socket(source, "api.listen_addr", &host, port) {
                out.key("listen", listen, "api.listen_addr and api.listen_port");
            }
        }
        None if address.is_some() => {
            out.note("api.listen_addr", "is left out: there is no api.listen_port");
        }
        None => {}
    }
    if source.some_text(PASSWORD).is_some() {
        out.note(
            PASSWORD,
            "is not carried over: gatewayd reads it from a separate file. Until \
             api.admin_password_file is set, the dashboard is read-only",
        );
    }
    if let Some(modify) = source.bool("api.modify_conf") {
        let what = if modify {
            "is not needed: whoever has the admin password may change the configuration"
        } else {
            "is false; in gatewayd, whoever has the admin password may change the configuration"
        };
        out.note("api.modify_conf", what);
    }
    if source.bool("api.allow_insecure_auth").is_some() {
        out.note(
            "api.allow_insecure_auth",
            "is not needed: signing in to gatewayd works in every browser",
        );
    }
}

pub(super) fn log(source: &mut Source, out: &mut Writer) {
    const FILE: &str = "logger.log_file";
    const TO_FILE: &str = "logger.log_to_file";
    const CONSOLE: &str = "logger.log_to_console";
    const CONSOLE_LEVEL: &str = "logger.log_level_console";
    const FILE_LEVEL: &str = "logger.log_level_file";
    out.section("[log]");
    let console = source.bool(CONSOLE);
    let to_file = source.bool(TO_FILE);
    let console_level = source.int(CONSOLE_LEVEL, 0..=5);
    let file_level = source.int(FILE_LEVEL, 0..=5);
    let is_file_only = console == Some(false) && to_file == Some(true);
    let (level, origin) = match (console_level, file_level) {
        (_, Some(level)) if is_file_only => (Some(level), FILE_LEVEL),
        (level, _) => (level, CONSOLE_LEVEL),
    };
    if let Some(level) = level {
        out.key("level", log_level(level), origin);
    }
    if console_level.is_some() && file_level.is_some() && console_level != file_level {
        let other = if is_file_only { CONSOLE_LEVEL } else { FILE_LEVEL };
        out.note(other, "is left out: gatewayd has one level for console and file");
    } else if level.is_none() && file_level.is_some() {
        out.note(FILE_LEVEL, "is left out: gatewayd has one level for console and file");
    }
    match (source.some_text(FILE), to_file) {
        (Some(file), Some(true)) => out.key("file", file, "logger.log_file and logger.log_to_file"),
        (None, Some(true)) => out.note(TO_FILE, "is true, but logger.log_file is empty"),
        (Some(_), _) => out.note(FILE, "is left out: logger.log_to_file is not true"),
        (None, _) => {}
    }
    if console == Some(false) {
        out.note(
            CONSOLE,
            "is false, but gatewayd always logs to standard error: redirect it if \
                           you do not want it",
        );
    }
    if source.bool("logger.log_to_stderr") == Some(false) {
        out.note("logger.log_to_stderr", "is false, but gatewayd always logs to standard error");
    }
    if source.bool("logger.log_rotate_daily") == Some(false) {
        out.note("logger.log_rotate_daily", "is false, but gatewayd begins a new file each day");
    }
    if source.bool("logger.log_calling_function").is_some() {
        out.note(
            "logger.log_calling_function",
            "is not needed: log lines name the part that they \
                  come from",
        );
    }
}

fn log_level(level: i64) -> &'static str {
    match level {
        0 => "info,gatewayd=trace",
        1 => "info,gatewayd=debug",
        2 => "info",
        3 => "warn",
        _ => "error",
    }
}
