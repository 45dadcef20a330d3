//! From the file as written to what it means. Finds everything that is wrong before it answers.

mod limits;
mod miners;
mod places;
mod pooling;
mod service;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use service::OWN_PATHS;

use super::{
    Config, Mining, Module, Node, NodeAuth, NodeKind, PayoutAddress, Pool, Stratum, Template,
    problem::Fault, raw,
};
use crate::work::Difficulty;

/// Checks all of `raw`; the error has all problems. Without `mining.address` nothing can be mined, but
/// everything else may be started: `complete` says whether it has to be there.
pub(super) fn config(raw: raw::Raw, complete: bool) -> Result<Config, Vec<Fault>> {
    let mut check = Check { problems: Vec::new(), entry: None };
    let written = Arc::new(raw.clone());
    let has_address = !raw.mining.address.is_empty();
    let config = check.config(raw, written);
    if !has_address && (complete || !check.problems.is_empty()) {
        check.note::<()>("mining.address", ADDRESS_MISSING);
    }
    match config {
        Some(config) if check.problems.is_empty() => Ok(config),
        _ => Err(check.problems),
    }
}

/// Collects what is wrong. Each method gives None only after it has noted a problem.
struct Check {
    problems: Vec<Fault>,
    /// The list and the number of the entry that is being checked.
    entry: Option<(&'static str, usize)>,
}

impl Check {
    fn config(&mut self, raw: raw::Raw, written: Arc<raw::Raw>) -> Option<Config> {
        let modifiers = self.modifiers(&raw.stratum);
        // Every part is checked before the first `?`, so that one run names all problems.
        let nodes = self.nodes(raw.node, !raw.mining.address.is_empty());
        let template = self.template(&raw.template);
        let mining = self.mining(raw.mining);
        let pools = self.each("pool", &raw.pool, Self::pool);
        let pooling = self.pooling(raw.pooling, modifiers);
        let stratum = self.stratum(raw.stratum);
        if let (Some(template), Some(stratum)) = (&template, &stratum) {
            self.job_life(template, stratum);
        }
        let api = self.api(&raw.api);
        let limits = self.limits(&raw.limits);
        let data_dir = self.path("ledger.data_dir", &raw.ledger.data_dir);
        let keep_history = self.keep_history(&raw.ledger);
        let log = self.log(raw.log);
        Some(Config {
            path: None,
            written,
            nodes,
            template: template?,
            mining: mining?,
            pools,
            pooling: pooling?,
            stratum: stratum?,
            api: api?,
            limits: limits?,
            data_dir: data_dir?,
            keep_history: keep_history?,
            log: log?,
        })
    }

    fn nodes(&mut self, raw: Vec<raw::Node>, needed: bool) -> Vec<Node> {
        let nodes = self.each("node", raw, Self::node);
        if needed && nodes.iter().all(|node| node.submit_only) && self.problems.is_empty() {
            self.note::<()>(
                "node",
                "no [[node]] gives templates: add one with rpc_url and rpc_cookie_file (or \
                 rpc_user and rpc_password) of your bitcoind",
            );
        }
        nodes
    }

    fn node(&mut self, raw: raw::Node) -> Option<Node> {
        let kind = self.node_kind(&raw)?;
        let (rpc_url, name) = self.node_url(&raw.rpc_url)?;
        let zmq_hashblock = match raw.zmq_hashblock.as_str() {
            "" => None,
            text => Some(self.zmq_endpoint(text)?),
        };
        let auth = match (raw.rpc_user.is_empty(), raw.rpc_password.is_empty()) {
            (false, false) => NodeAuth::Password { user: raw.rpc_user, password: raw.rpc_password },
            (true, true) => {
                NodeAuth::Cookie(self.path("node.rpc_cookie_file", &raw.rpc_cookie_file)?)
            }
            _ => {
                return self.note(
                    "node",
                    "rpc_user and rpc_password go together: set both, or neither to use the cookie",
                );
            }
        };
        Some(Node { name, rpc_url, auth, zmq_hashblock, submit_only: raw.submit_only, kind })
    }

    fn node_kind(&mut self, raw: &raw::Node) -> Option<NodeKind> {
        let is_blvm =
            self.choice("node.kind", &raw.kind, &[("bitcoind", false), ("blvm", true)])?;
        let socket = &raw.nodeapi_socket;
        if !is_blvm {
            return if socket.is_empty() {
                Some(NodeKind::Bitcoind)
            } else {
                self.note("node.nodeapi_socket", "is only for kind = \"blvm\": remove it")
            };
        }
        if !raw.zmq_hashblock.is_empty() {
            return self.note(
                "node.zmq_hashblock",
                "is only for kind = \"bitcoind\": remove it, and set nodeapi_socket for the same",
            );
        }
        if raw.rpc_user.is_empty() && raw.rpc_cookie_file == raw::Node::default().rpc_cookie_file {
            return self.note(
                "node.rpc_cookie_file",
                "is bitcoind's: set it to .cookie in your blvm-node's data folder",
            );
        }
        let nodeapi_socket = match socket.as_str() {
            "" => Module::of_environment().and_then(|module| module.socket),
            path => Some(self.path("node.nodeapi_socket", path)?),
        };
        Some(NodeKind::Blvm { nodeapi_socket })
    }

    fn template(&mut self, raw: &raw::Template) -> Option<Template> {
        let refresh = self.duration("template.refresh", &raw.refresh);
        let stale_after = self.duration("template.stale_after", &raw.stale_after);
        let (refresh, stale_after) = (refresh?, stale_after?);
        if refresh < Duration::from_secs(1) {
            return self.note("template.refresh", "less than 1s would only tire the node");
        }
        if stale_after < refresh * 2 {
            return self.note(
                "template.stale_after",
                "should be at least twice template.refresh, or miners are sent away between two templates",
            );
        }
        let allow_rules = self.allow_rules(&raw.allow_rules)?;
        Some(Template { refresh, stale_after, propose: raw.propose, allow_rules })
    }

    /// Names as templates have them; the mark before them may be there or not.
    fn allow_rules(&mut self, raw: &[String]) -> Option<Vec<String>> {
        const KEY: &str = "template.allow_rules";
        let names: Vec<String> =
            raw.iter().map(|rule| rule.trim().trim_start_matches('!').to_owned()).collect();
        if names.iter().any(String::is_empty) {
            return self.note(KEY, "holds an empty name: write rules as the refusal names them");
        }
        if names.iter().any(|rule| rule == "blake2b") {
            return self.note(
                KEY,
                "holds \"blake2b\": that is another proof of work, which SHA-256 miners cannot do, \
                 so no block would be one; use a node of the SHA-256 chain (Bitcoin Core)",
            );
        }
        Some(names)
    }

    /// Jobs must live as long as miners are kept on them, and no longer than they are remembered.
    fn job_life(&mut self, template: &Template, stratum: &Stratum) {
        let life = stratum.stale_after + template.refresh;
        if template.stale_after > life {
            self.note::<()>(
                "template.stale_after",
                &format!(
                    "is longer than a job may be submitted to ({life:?}: stratum.stale_after and \
                     one template.refresh): miners would stay on work that is refused; make it \
                     at most that, or stratum.stale_after longer"
                ),
            );
        }
        if life > template.refresh * REFRESHES_MAX {
            let most = template.refresh * (REFRESHES_MAX - 1);
            self.note::<()>(
                "stratum.stale_after",
                &format!(
                    "keeps jobs for more than {REFRESHES_MAX} times template.refresh, longer than \
                     they are remembered: make it at most {most:?}, or template.refresh longer"
                ),
            );
        }
    }

    fn mining(&mut self, raw: raw::Mining) -> Option<Mining> {
        // As it comes from a clipboard.
        let text = raw.address.trim();
        let address = match text.parse() {
            _ if text.is_empty() => None,
            Ok(address) => Some(PayoutAddress { address, text: text.into() }),
            Err(error) => {
                return self.note(
                    "mining.address",
                    &format!("\"{text}\" is not a bitcoin address ({error})"),
                );
            }
        };
        if raw.unique_id == 0 {
            return self.note("mining.unique_id", "must be 1 to 65535");
        }
        for (key, tag) in [
            ("mining.coinbase_tag", &raw.coinbase_tag),
            ("mining.coinbase_tag_secondary", &raw.coinbase_tag_secondary),
        ] {
            if tag.len() > TAG_LEN_MAX {
                self.note::<()>(
                    key,
                    &format!("has {} bytes; a tag may have {TAG_LEN_MAX}", tag.len()),
                );
            }
        }
        Some(Mining {
            address,
            coinbase_tag: raw.coinbase_tag,
            coinbase_tag_secondary: raw.coinbase_tag_secondary,
            unique_id: raw.unique_id,
        })
    }

    fn pool(&mut self, raw: &raw::Pool) -> Option<Pool> {
        let mut public_key = [0; 64];
        let hex = raw.public_key.as_bytes();
        if hex.len() != 128 || faster_hex::hex_decode(hex, &mut public_key).is_err() {
            return self.note(
                "pool.public_key",
                &format!("of {} should be 128 hex digits, as the pool publishes them", raw.host),
            );
        }
        let (host, port) = self.pool_place(raw)?;
        Some(Pool { host, port, public_key })
    }

    fn stratum(&mut self, raw: raw::Stratum) -> Option<Stratum> {
        let listen = self.each("stratum.listen", raw.listen.iter(), |check, text| {
            check.listen("stratum.listen", text, "0.0.0.0:23334 or [::]:23334")
        });
        if raw.listen.is_empty() {
            self.note::<()>("stratum.listen", "is empty: miners need an address to connect to");
        }
        let trusted_proxies = self.networks("stratum.trusted_proxies", &raw.trusted_proxies);
        let difficulty_min = self.difficulty("stratum.difficulty_min", raw.difficulty_min);
        let difficulty_start = self.difficulty("stratum.difficulty_start", raw.difficulty_start);
        let difficulty_max = self.difficulty_max(raw.difficulty_max, difficulty_min);
        let worker_difficulty = self.worker_difficulty(&raw.worker_difficulty);
        let stale_after = self.duration("stratum.stale_after", &raw.stale_after);
        let login_timeout = self.duration("stratum.login_timeout", &raw.login_timeout);
        if login_timeout.is_some_and(|timeout| timeout < Duration::from_secs(1)) {
            self.note::<()>(
                "stratum.login_timeout",
                "must be at least 1s, or no miner could log in; \"1h\" is as good as never",
            );
        }
        let idle_timeout = self.duration("stratum.idle_timeout", &raw.idle_timeout);
        if raw.shares_per_minute == 0 {
            self.note::<()>("stratum.shares_per_minute", "must be at least 1");
        }
        if raw.max_connections == 0 || raw.max_connections_per_ip == 0 {
            self.note::<()>(
                "stratum.max_connections",
                "and max_connections_per_ip must be at least 1",
            );
        }
        let tls = self.tls(&raw.tls);
        let sv2 = self.sv2(&raw.sv2);
        let classes = self.each("stratum.class", raw.class, Self::class);
        let ports = self.each("stratum.port", raw.port, Self::port);
        self.ports_differ(&listen, &ports);
        Some(Stratum {
            listen,
            trusted_proxies: trusted_proxies.into(),
            max_connections: raw.max_connections,
            max_connections_per_ip: raw.max_connections_per_ip,
            difficulty_min: difficulty_min?,
            difficulty_start: difficulty_start?,
            difficulty_max: difficulty_max?,
            worker_difficulty: worker_difficulty?,
            shares_per_minute: raw.shares_per_minute,
            stale_after: stale_after?,
            login_timeout: login_timeout?,
            idle_timeout: idle_timeout?,
            fingerprint: raw.fingerprint,
            classes,
            ports,
            tls: tls?,
            sv2: sv2?,
        })
    }

    fn choice<T: Copy>(&mut self, key: &str, text: &str, known: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<_> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.note(key, &format!("\"{text}\" is not one of {}", names.join(", ")))
    }

    fn difficulty(&mut self, key: &str, value: f64) -> Option<Difficulty> {
        let difficulty = Difficulty::new(value);
        if difficulty.is_none() {
            self.note::<()>(key, &format!("{value} is not a difficulty: it must be above 0"));
        }
        difficulty
    }

    /// A path; `~` is the home folder of whoever runs gatewayd.
    fn path(&mut self, key: &str, text: &str) -> Option<PathBuf> {
        let Some(rest) = text.strip_prefix("~/") else {
            if text.is_empty() {
                return self.note(key, "is empty");
            }
            return Some(PathBuf::from(text));
        };
        let Some(home) = std::env::var_os("HOME") else {
            return self.note(key, "begins with ~ but HOME is not set: write the whole path");
        };
        Some(PathBuf::from(home).join(rest))
    }

    fn duration(&mut self, key: &str, text: &str) -> Option<Duration> {
        let duration = parse_duration(text);
        if duration.is_none() {
            self.note::<()>(
                key,
                &format!(
                    "\"{text}\" is not a time: write a number and ms, s, m, h or d, like \"40s\""
                ),
            );
        }
        duration
    }

    /// Checks the entries of a list, so that problems are known to be of the right one.
    fn each<T, U>(
        &mut self,
        list: &'static str,
        entries: impl IntoIterator<Item = T>,
        check: impl Fn(&mut Self, T) -> Option<U>,
    ) -> Vec<U> {
        let mut good = Vec::new();
        for (at, entry) in entries.into_iter().enumerate() {
            self.entry = Some((list, at));
            good.extend(check(self, entry));
        }
        self.entry = None;
        good
    }

    fn note<T>(&mut self, key: &str, what: &str) -> Option<T> {
        let entry = self.entry.and_then(|(list, at)| Some((list, at, key.strip_prefix(list)?)));
        let path =
            entry.map_or_else(|| key.into(), |(list, at, rest)| format!("{list}.{at}{rest}"));
        self.problems.push(Fault { path, text: format!("{key} {what}") });
        None
    }
}

/// Reads "40s", "1500ms", "2m", "1h", "90d".
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    let seconds = |each: u64| number.checked_mul(each).filter(|s| *s <= DURATION_MAX_S);
    match unit {
        "ms" => Some(Duration::from_millis(number)).filter(|d| d.as_secs() <= DURATION_MAX_S),
        "s" => seconds(1).map(Duration::from_secs),
        "m" => seconds(60).map(Duration::from_secs),
        "h" => seconds(3600).map(Duration::from_secs),
        "d" => seconds(86_400).map(Duration::from_secs),
        _ => None,
    }
}

const ADDRESS_MISSING: &str =
    "is missing: set it to your bitcoin address; it is paid for blocks found while not pooled";
/// Each tag; both are cut to 86 bytes together.
const TAG_LEN_MAX: usize = 60;
/// How many templates a job may outlive, with some left of the 32 jobs that are kept for new tips
/// and new terms of the pool.
const REFRESHES_MAX: u32 = 28;
/// Ten years: keeps sums with the clock from overflowing.
const DURATION_MAX_S: u64 = 315_360_000;
