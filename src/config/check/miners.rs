//! Kinds of miners: [stratum.tls], [stratum.sv2], [[stratum.class]], [[stratum.port]], [stratum.worker_difficulty].

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::Check;
use crate::{
    config::{Class, Port, Sv2, Tls, raw},
    work::Difficulty,
};

impl Check {
    pub(super) fn sv2(&mut self, raw: &raw::Sv2) -> Option<Sv2> {
        let key = "stratum.sv2.certificate_lifetime";
        let certificate_lifetime = self.duration(key, &raw.certificate_lifetime)?;
        if certificate_lifetime < CERTIFICATE_LIFETIME_MIN {
            return self.note(key, "is too short: clocks differ by minutes; set at least \"10m\"");
        }
        let authority_key_file =
            self.key_file("stratum.sv2.authority_key_file", &raw.authority_key_file)?;
        Some(Sv2 { authority_key_file, certificate_lifetime })
    }

    pub(super) fn tls(&mut self, raw: &raw::Tls) -> Option<Tls> {
        let is_part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        let is_name = |name: &String| {
            let plain = name.strip_prefix("*.").unwrap_or(name);
            name.parse::<IpAddr>().is_ok() || plain.split('.').all(is_part)
        };
        if let Some(name) = raw.names.iter().find(|name| !is_name(name)) {
            return self.note(
                "stratum.tls.names",
                &format!(
                    "\"{name}\" should be a name or an address that miners connect to, like \
                     \"mine.example.org\" or \"203.0.113.5\", without a scheme and a port"
                ),
            );
        }
        let files = match (raw.certificate_file.as_str(), raw.key_file.as_str()) {
            ("", "") => None,
            ("", _) => return self.note("stratum.tls.certificate_file", ALONE),
            (_, "") => return self.note("stratum.tls.key_file", ALONE),
            (certificate, key) => Some(Tls::Files {
                certificate: self.path("stratum.tls.certificate_file", certificate)?,
                key: self.path("stratum.tls.key_file", key)?,
            }),
        };
        let tls = files.unwrap_or_else(|| Tls::Own { names: raw.names.clone() });
        Some(if raw.enabled { tls } else { Tls::Off })
    }

    #[expect(clippy::option_option, reason = "none is not wrong")]
    fn key_file(&mut self, key: &str, file: &str) -> Option<Option<PathBuf>> {
        if file.is_empty() { Some(None) } else { self.path(key, file).map(Some) }
    }

    pub(super) fn class(&mut self, raw: raw::Class) -> Option<Class> {
        if raw.pattern.is_empty() {
            return self.note("stratum.class.match", "is empty: it would match every miner");
        }
        let difficulty_min = if raw.difficulty_min == 0.0 {
            None
        } else {
            Some(self.difficulty("stratum.class.difficulty_min", raw.difficulty_min)?)
        };
        Some(Class { pattern: raw.pattern, max_coinbase: raw.max_coinbase, difficulty_min })
    }

    /// 0 is none.
    #[expect(clippy::option_option, reason = "none is not wrong")]
    pub(super) fn difficulty_max(
        &mut self,
        max: f64,
        min: Option<Difficulty>,
    ) -> Option<Option<Difficulty>> {
        const KEY: &str = "stratum.difficulty_max";
        if max == 0.0 {
            return Some(None);
        }
        let max = self.difficulty(KEY, max)?;
        if min.is_some_and(|min| max < min) {
            return self.note(KEY, "is below stratum.difficulty_min: make it 0.0 for no limit");
        }
        Some(Some(max))
    }

    pub(super) fn worker_difficulty(
        &mut self,
        raw: &BTreeMap<String, f64>,
    ) -> Option<BTreeMap<String, Difficulty>> {
        let before = self.problems.len();
        let mut all = BTreeMap::new();
        for (worker, value) in raw {
            let key = format!("stratum.worker_difficulty.{worker}");
            if let Some(difficulty) = self.difficulty(&key, *value) {
                all.insert(worker.clone(), difficulty);
            }
        }
        (self.problems.len() == before).then_some(all)
    }

    pub(super) fn port(&mut self, raw: raw::Port) -> Option<Port> {
        if raw.listen.is_empty() {
            return self.note(
                "stratum.port.listen",
                "is missing: give the port an address, like [\"0.0.0.0:23335\"]",
            );
        }
        let before = self.problems.len();
        let mut some = |key: &str, value: Option<f64>| {
            value.and_then(|value| self.difficulty(&format!("stratum.port.{key}"), value))
        };
        let difficulty_min = some("difficulty_min", raw.difficulty_min);
        let difficulty_start = some("difficulty_start", raw.difficulty_start);
        let difficulty_max = some("difficulty_max", raw.difficulty_max);
        if difficulty_max.zip(difficulty_min).is_some_and(|(max, min)| max < min) {
            self.note::<()>("stratum.port.difficulty_max", "is below its difficulty_min");
        }
        let addresses = raw.listen.into_iter();
        let listen = addresses.filter_map(|text| {
            self.listen("stratum.port.listen", &text, "0.0.0.0:23335 or [::]:23335")
        });
        let listen = listen.collect();
        let key = "stratum.port.authority_key_file";
        let authority_key_file = self.key_file(key, &raw.authority_key_file);
        (self.problems.len() == before).then_some(Port {
            listen,
            difficulty_min,
            difficulty_start,
            difficulty_max,
            max_coinbase: raw.max_coinbase,
            authority_key_file: authority_key_file?,
        })
    }

    /// An address has one set of rules.
    pub(super) fn ports_differ(&mut self, listen: &[SocketAddr], ports: &[Port]) {
        let all = ports.iter().flat_map(|port| &port.listen);
        let mut known: Vec<_> = listen.iter().collect();
        let mut twice = Vec::new();
        for addr in all {
            // 0 is another one each time.
            if addr.port() != 0 && known.contains(&addr) {
                twice.push(addr);
            }
            known.push(addr);
        }
        for addr in twice {
            let what = format!("has {addr}, which is listened on already: choose another port");
            self.note::<()>("stratum.port", &what);
        }
    }
}

const ALONE: &str = "is missing: set certificate_file and key_file, or neither for a certificate that \
                     gatewayd makes";
const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(600);
