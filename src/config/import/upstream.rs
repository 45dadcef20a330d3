//! The node, its templates, the pool.

use super::{
    INT, INT_MAX, seconds,
    source::Source,
    url::{NodeUrl, node_url},
    writer::Writer,
};
use crate::config::raw;

pub(super) fn node(source: &mut Source, out: &mut Writer) {
    const URL: &str = "bitcoind.rpcurl";
    out.section("[[node]]");
    let url = source.some_text(URL);
    let NodeUrl { url, login } = node_url(&url.unwrap_or_else(|| {
        out.note(URL, "is missing: set rpc_url if your node is not on this machine");
        "http://127.0.0.1:8332".into()
    }));
    node_address(out, &url, URL);
    if login.is_some() {
        out.note(URL, "contained a login, which datum_gateway does not use either: it is left out");
    }
    let cookie = source.some_text("bitcoind.rpccookiefile");
    let user = source.some_text("bitcoind.rpcuser");
    let password = source.some_text("bitcoind.rpcpassword");
    match (user, password) {
        (Some(user), Some(password)) => {
            out.key("rpc_user", user, "bitcoind.rpcuser");
            out.key("rpc_password", password, "bitcoind.rpcpassword");
            if cookie.is_some() {
                out.note(
                    "bitcoind.rpccookiefile",
                    "is left out: rpcuser takes precedence over it, in datum_gateway too",
                );
            }
        }
        (Some(_), None) => source.problem(
            "bitcoind.rpcpassword",
            "is missing, but bitcoind.rpcuser is set: set both, or neither to use the cookie file",
        ),
        (None, password) => {
            if password.is_some() {
                out.note("bitcoind.rpcpassword", "is left out: there is no bitcoind.rpcuser");
            }
            match cookie {
                Some(cookie) => out.key("rpc_cookie_file", cookie, "bitcoind.rpccookiefile"),
                None => out.note(
                    "bitcoind.rpccookiefile",
                    "is missing, and so is rpcuser: gatewayd looks for ~/.bitcoin/.cookie",
                ),
            }
        }
    }
}

fn node_address(out: &mut Writer, url: &str, origin: &str) {
    out.key("rpc_url", url, origin);
    if url.starts_with("https://") {
        out.note(
            origin,
            "is https, which gatewayd does not support for nodes: use http in a network that you \
             trust",
        );
    }
}

pub(super) fn extra_nodes(source: &mut Source, out: &mut Writer) {
    const URLS: &str = "extra_block_submissions.urls";
    for url in source.texts(URLS) {
        let NodeUrl { url, login } = node_url(&url);
        out.section("[[node]]");
        node_address(out, &url, URLS);
        match login {
            Some((user, password)) => {
                out.key("rpc_user", user, URLS);
                out.key("rpc_password", password, URLS);
            }
            None => out.note(
                URLS,
                &format!(
                    "has no login for {url}: set rpc_user and rpc_password, or rpc_cookie_file"
                ),
            ),
        }
        out.key("submit_only", true, "only gets found blocks");
    }
}

/// How long templates and jobs are valid: the three values depend on each other.
pub(super) struct Times {
    refresh: i64,
    asked_refresh: i64,
    stale_after: i64,
    asked_stale_after: i64,
}

impl Times {
    pub(super) fn read(source: &mut Source) -> Self {
        let asked_refresh = source.int("bitcoind.work_update_seconds", INT).unwrap_or(40);
        let refresh = asked_refresh.clamp(5, 120);
        let asked_stale_after = source.int("stratum.share_stale_seconds", 60..=150).unwrap_or(120);
        // Jobs are remembered for 28 times template.refresh, and outlive one template at least.
        let stale_after = asked_stale_after.clamp(refresh, refresh * 27);
        Self { refresh, asked_refresh, stale_after, asked_stale_after }
    }

    pub(super) fn template(&self, out: &mut Writer) {
        const REFRESH: &str = "bitcoind.work_update_seconds";
        out.section("[template]");
        out.key("refresh", seconds(self.refresh), REFRESH);
        if self.refresh != self.asked_refresh {
            out.note(REFRESH, "was limited to 5 to 120, as datum_gateway does");
        }
        let stale_after = 120.clamp(self.refresh * 2, self.refresh + self.stale_after);
        if stale_after != 120 {
            out.key(
                "stale_after",
                seconds(stale_after),
                "follows from refresh and share_stale_seconds",
            );
        }
    }

    pub(super) fn stratum(&self, out: &mut Writer) {
        const STALE: &str = "stratum.share_stale_seconds";
        out.key("stale_after", seconds(self.stale_after), STALE);
        if self.stale_after != self.asked_stale_after {
            out.note(
                STALE,
                &format!(
                    "was {}: with a template every {} s, gatewayd accepts {} to {}",
                    self.asked_stale_after,
                    self.refresh,
                    self.refresh,
                    self.refresh * 27
                ),
            );
        }
    }
}

/// How gatewayd hears of new blocks.
pub(super) fn notify(source: &mut Source, out: &mut Writer) {
    if let Some(fallback) = source.bool("bitcoind.notify_fallback") {
        let off = if fallback { "" } else { ", and there is no need to turn that off" };
        out.note(
            "bitcoind.notify_fallback",
            &format!("is always on: gatewayd also asks the node by long poll{off}"),
        );
    }
}

pub(super) fn mining(source: &mut Source, out: &mut Writer) {
    const ADDRESS: &str = "mining.pool_address";
    out.section("[mining]");
    match source.some_text(ADDRESS) {
        Some(address) => out.key("address", address, ADDRESS),
        None => {
            out.key("address", "", ADDRESS);
            out.note(ADDRESS, "is missing: set address to your bitcoin address");
        }
    }
    // Without a setting, datum_gateway uses its own tags, which its blocks are known by.
    for (key, old, default) in [
        ("coinbase_tag", "mining.coinbase_tag_primary", "DATUM Gateway"),
        ("coinbase_tag_secondary", "mining.coinbase_tag_secondary", "DATUM User"),
    ] {
        out.key(key, source.text(old).unwrap_or_else(|| default.to_owned()), old);
    }
    if let Some(id) = source.int("mining.coinbase_unique_id", 1..=65_535) {
        out.key("unique_id", id, "mining.coinbase_unique_id");
    }
    if source.some_text("mining.save_submitblocks_dir").is_some() {
        out.note(
            "mining.save_submitblocks_dir",
            "is not needed: every found block is kept in ledger.data_dir until a node has it",
        );
    }
}

/// Writes `[[pool]]`, if there is one. Without a setting, datum_gateway uses OCEAN's.
pub(super) fn pool(source: &mut Source, out: &mut Writer) -> bool {
    const KEY: &str = "datum.pool_pubkey";
    let default = raw::Pool::default();
    let host = source.text("datum.pool_host").unwrap_or_else(|| default.host.clone());
    let port = source.int("datum.pool_port", 1..=65_535).unwrap_or_else(|| default.port.into());
    let public_key = source.text(KEY).unwrap_or_else(|| default.public_key.clone());
    if source.some_text("datum.pool_host(old)").is_some() {
        out.note("datum.pool_host(old)", "is only where its web page remembers a former pool");
    }
    if host.is_empty() {
        out.comment("No [[pool]]: datum.pool_host is empty, so mining is solo.");
        return false;
    }
    out.section("[[pool]]");
    let is_known = host == default.host && public_key.is_empty();
    out.key("host", host, "datum.pool_host");
    out.key("port", port, "datum.pool_port");
    if is_known {
        out.key("public_key", default.public_key, "OCEAN's published key");
        out.note(
            KEY,
            "was empty, which trusts the first key that comes: OCEAN's key is used \
                       instead",
        );
    } else {
        let is_missing = public_key.is_empty();
        out.key("public_key", public_key, KEY);
        if is_missing {
            out.note(
                KEY,
                "was empty, which trusts the first key that comes: gatewayd needs the key that the \
                 pool publishes",
            );
        }
    }
    true
}

pub(super) fn pooling(source: &mut Source, out: &mut Writer, is_pooled: bool) {
    const ONLY: &str = "datum.pooled_mining_only";
    const FULL: &str = "datum.pool_pass_full_users";
    const WORKERS: &str = "datum.pool_pass_workers";
    out.section("[pooling]");
    if let Some(only) = source.bool(ONLY) {
        out.key("when_down", if only { "disconnect" } else { "solo" }, ONLY);
        if only && !is_pooled {
            out.note(ONLY, "makes no difference without a pool: mining is solo");
        }
    }
    let full = source.bool(FULL);
    let workers = source.bool(WORKERS);
    let (mode, origin) = match (full.unwrap_or(true), workers.unwrap_or(true)) {
        (true, _) => ("full", FULL),
        (false, true) => ("worker", WORKERS),
        (false, false) => ("address", WORKERS),
    };
    if full.or(workers).is_some() {
        out.key("usernames", mode, origin);
    }
    if mode == "full" && workers.is_some() {
        out.note(WORKERS, "makes no difference: names are passed in full");
    }
    if let Some(always) = source.bool("datum.always_pay_self") {
        out.key("always_pay_self", always, "datum.always_pay_self");
    }
    if let Some(timeout) = source.int("datum.protocol_global_timeout", 5..=INT_MAX) {
        out.key("timeout", seconds(timeout), "datum.protocol_global_timeout");
    }
}
