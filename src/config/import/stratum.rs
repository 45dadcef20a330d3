//! The settings for miners.

use toml_edit::{Array, Value};

use super::{INT, INT_MAX, seconds, socket, source::Source, upstream::Times, writer::Writer};

pub(super) fn stratum(source: &mut Source, out: &mut Writer, times: &Times) {
    out.section("[stratum]");
    let address = source.some_text("stratum.listen_addr");
    let port = source.int("stratum.listen_port", 1..=65_535);
    if address.is_some() || port.is_some() {
        let port = port.unwrap_or(23_334);
        let listen: Vec<_> = match address {
            Some(host) => socket(source, "stratum.listen_addr", &host, port).into_iter().collect(),
            None => vec![format!("0.0.0.0:{port}"), format!("[::]:{port}")],
        };
        let origin = "stratum.listen_addr and stratum.listen_port";
        out.key("listen", Array::from_iter(listen), origin);
    }
    connections(source, out);
    difficulty(source, out);
    times.stratum(out);
    timeouts(source, out);
    if let Some(fingerprint) = source.bool("stratum.fingerprint_miners") {
        out.key("fingerprint", fingerprint, "stratum.fingerprint_miners");
    }
}

fn connections(source: &mut Source, out: &mut Writer) {
    const CLIENTS: &str = "stratum.max_clients";
    const PROXY: &str = "stratum.trust_proxy";
    if let Some(clients) = source.int(CLIENTS, 1..=INT_MAX) {
        out.key("max_connections", clients, CLIENTS);
        if clients > PER_IP_DEFAULT {
            out.key("max_connections_per_ip", clients, "datum_gateway has no such limit");
        }
    }
    for key in ["stratum.max_threads", "stratum.max_clients_per_thread"] {
        if source.int(key, INT).is_some() {
            out.note(key, "is not needed: gatewayd uses all processors, without a limit for each");
        }
    }
    match source.int(PROXY, INT) {
        None => {}
        Some(..=-1) => out.note(PROXY, "is off, as it is by default in gatewayd"),
        Some(_) => out.note(
            PROXY,
            "is not carried over, since it trusts a PROXY header from anybody. List your proxies' \
             addresses in stratum.trusted_proxies, like [\"10.0.0.5\"]",
        ),
    }
}

fn difficulty(source: &mut Source, out: &mut Writer) {
    const MIN: &str = "stratum.vardiff_min";
    const TARGET: &str = "stratum.vardiff_target_shares_min";
    if let Some(asked) = source.int(MIN, 1..=INT_MAX) {
        let min = 1_i32 << asked.ilog2();
        out.key("difficulty_min", f64::from(min), MIN);
        out.key("difficulty_start", f64::from(min), MIN);
        if i64::from(min) != asked {
            out.note(
                MIN,
                &format!("was {asked}: rounded down to a power of two, as datum_gateway does"),
            );
        }
    }
    if let Some(shares) = source.int(TARGET, 1..=INT_MAX) {
        out.key("shares_per_minute", shares, TARGET);
    }
    for key in ["stratum.vardiff_quickdiff_count", "stratum.vardiff_quickdiff_delta"] {
        if source.int(key, INT).is_some() {
            out.note(key, "is not needed: gatewayd adjusts quickly to fast miners by itself");
        }
    }
}

fn timeouts(source: &mut Source, out: &mut Writer) {
    const SUBSCRIBE: &str = "stratum.idle_timeout_no_subscribe";
    const SHARES: &str = "stratum.idle_timeout_no_shares";
    const LAST: &str = "stratum.idle_timeout_max_last_work";
    match source.int(SUBSCRIBE, 0..=INT_MAX) {
        None => {}
        Some(0) => {
            out.key("login_timeout", "3600s", SUBSCRIBE);
            out.note(SUBSCRIBE, "was 0 (never): gatewayd waits for an hour");
        }
        Some(timeout) => out.key("login_timeout", seconds(timeout), SUBSCRIBE),
    }
    let shares = source.int(SHARES, 0..=INT_MAX);
    let last = source.int(LAST, 0..=INT_MAX);
    if let Some(timeout) = shares.max(last) {
        let origin = if last > shares { LAST } else { SHARES };
        out.key("idle_timeout", seconds(timeout), origin);
    }
    if shares.is_some() && last.is_some() && shares != last {
        out.note(
            if last > shares { SHARES } else { LAST },
            "is left out: gatewayd has one timeout, since the last share; the longer of the two \
             was taken",
        );
    }
}

pub(super) fn modifiers(source: &mut Source, out: &mut Writer) {
    const KEY: &str = "stratum.username_modifiers";
    let modifiers = source.modifiers(KEY);
    if modifiers.is_empty() {
        return;
    }
    out.section("[stratum.username_modifiers]");
    out.comment(KEY);
    for (name, parts) in modifiers {
        let old = format!("{KEY}.{name}");
        let mut left = 1.0;
        let mut table = toml_edit::InlineTable::new();
        for (address, part) in parts {
            if part < 0.0 {
                source.problem(&format!("{old}.{address}"), "is below 0");
            } else if part > left + f64::EPSILON {
                out.note(
                    &format!("{old}.{address}"),
                    "was reduced: the parts add up to more than \
                                   1",
                );
            }
            let part = part.clamp(0.0, left);
            left -= part;
            if part > 0.0 {
                table.insert(address, Value::from(part));
            }
        }
        if left > 1e-9 {
            out.note(&old, "does not add up to 1: the rest goes to mining.address");
        }
        out.key(&name, table, "");
    }
}

/// stratum.max_connections_per_ip, unless it is set.
const PER_IP_DEFAULT: i64 = 5_000;
