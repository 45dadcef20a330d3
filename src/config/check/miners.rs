//! [stratum]: where miners connect, and under which rules.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{Check, mining::Times};
use crate::{
    config::{Api, PayoutAddress, Port, Stratum, Sv2, Tls, raw},
    listener,
    stratum::{self, ClassRule, Classes, NameRule},
    work::{CoinbaseClass, Difficulty, Username},
};

impl Check {
    pub(super) fn stratum(
        &mut self,
        raw: &raw::Raw,
        address: Option<&PayoutAddress>,
        times: Option<Times>,
        api: Option<&Api>,
    ) -> Option<Stratum> {
        let stratum = &raw.stratum;
        let listen = self.each("stratum.listen", &stratum.listen, |check, text| {
            check.listen("stratum.listen", text, "0.0.0.0:23334 or [::]:23334")
        });
        if stratum.listen.is_empty() {
            self.note::<()>("stratum.listen", "is empty: miners need an address to connect to");
        }
        let trusted_proxies = self.networks("stratum.trusted_proxies", &stratum.trusted_proxies);
        let limits = self.places(raw);
        let rules = self.rules(raw, address, times, api);
        let tls = self.tls(&stratum.tls);
        let sv2 = self.sv2(&stratum.sv2);
        let ports = self
            .each("stratum.port", &stratum.port, |check, port| check.port(port, rules.as_ref()));
        self.ports_differ(&listen, &ports);
        Some(Stratum {
            listen,
            rules: rules?,
            ports,
            limits,
            trusted_proxies: trusted_proxies.into(),
            tls: tls?,
            sv2: sv2?,
        })
    }

    fn places(&mut self, raw: &raw::Raw) -> listener::ConnectionLimits {
        let (connections, connections_per_ip) =
            (raw.stratum.max_connections, raw.stratum.max_connections_per_ip);
        if connections == 0 || connections_per_ip == 0 {
            self.note::<()>(
                "stratum.max_connections",
                "and max_connections_per_ip must be at least 1",
            );
        }
        let unproven = raw.limits.unproven_places;
        listener::ConnectionLimits { connections, connections_per_ip, unproven }
    }

    /// The rules for all miners, except on ports that set their own.
    fn rules(
        &mut self,
        raw: &raw::Raw,
        address: Option<&PayoutAddress>,
        times: Option<Times>,
        api: Option<&Api>,
    ) -> Option<stratum::Config> {
        let stratum = &raw.stratum;
        let difficulty_min = self.difficulty("stratum.difficulty_min", stratum.difficulty_min);
        let difficulty_start =
            self.difficulty("stratum.difficulty_start", stratum.difficulty_start);
        let difficulty_max = self.difficulty_max(stratum.difficulty_max, difficulty_min);
        let worker_difficulty = self.worker_difficulty(&stratum.worker_difficulty);
        let login_timeout = self.duration("stratum.login_timeout", &stratum.login_timeout);
        if login_timeout.is_some_and(|timeout| timeout < Duration::from_secs(1)) {
            self.note::<()>(
                "stratum.login_timeout",
                "must be at least 1s, or no miner could log in; for practically no limit, set \
                 \"1h\"",
            );
        }
        let idle_timeout = self.duration("stratum.idle_timeout", &stratum.idle_timeout);
        if stratum.shares_per_minute == 0 {
            self.note::<()>("stratum.shares_per_minute", "must be at least 1");
        }
        let classes = self.each("stratum.class", &stratum.class, Self::class);
        let version_mask = self.version_mask(&raw.pooling.version_mask);
        let without_address = &raw.pooling.without_address;
        let known = [("tell", false), ("refuse", true)];
        let refuses = self.choice("pooling.without_address", without_address, &known);
        let goes_by_names = !raw.pool.is_empty() && raw.pooling.usernames == "full";
        let Times { refresh, job_stale_after, .. } = times?;
        Some(stratum::Config {
            difficulty_min: difficulty_min?,
            difficulty_start: difficulty_start?,
            difficulty_max: difficulty_max?,
            worker_difficulty: worker_difficulty?,
            shares_per_minute: stratum.shares_per_minute,
            stale_after: job_stale_after,
            refresh,
            login_timeout: login_timeout?,
            idle_timeout: idle_timeout?,
            classes: Classes::new(stratum.fingerprint, classes),
            pooled_version_mask: version_mask?,
            class_most: None,
            dashboard: api?.listen.filter(|addr| addr.port() != 0),
            default_username: Username(address.map_or("", |address| &address.text).into()),
            names: goes_by_names
                .then_some(NameRule { chains: super::chains(address).into(), refuses: refuses? }),
        })
    }

    fn sv2(&mut self, raw: &raw::Sv2) -> Option<Sv2> {
        let key = "stratum.sv2.certificate_lifetime";
        let certificate_lifetime = self.duration(key, &raw.certificate_lifetime)?;
        if certificate_lifetime < CERTIFICATE_LIFETIME_MIN {
            return self.note(
                key,
                "is too short, since clocks differ by minutes: set at least \
                                   \"10m\"",
            );
        }
        let authority_key_file =
            self.key_file("stratum.sv2.authority_key_file", &raw.authority_key_file)?;
        Some(Sv2 { authority_key_file, certificate_lifetime })
    }

    fn tls(&mut self, raw: &raw::Tls) -> Option<Tls> {
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
                     \"mine.example.org\" or \"203.0.113.5\", without scheme and port"
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

    #[expect(clippy::option_option, reason = "leaving it out is allowed")]
    fn key_file(&mut self, key: &str, file: &str) -> Option<Option<PathBuf>> {
        if file.is_empty() { Some(None) } else { self.path(key, file).map(Some) }
    }

    fn class(&mut self, raw: &raw::Class) -> Option<ClassRule> {
        if raw.pattern.is_empty() {
            return self.note("stratum.class.match", "is empty: it would match every miner");
        }
        let difficulty_min = if raw.difficulty_min == 0.0 {
            None
        } else {
            Some(self.difficulty("stratum.class.difficulty_min", raw.difficulty_min)?)
        };
        Some(ClassRule::within(&raw.pattern, raw.max_coinbase, difficulty_min))
    }

    /// 0 is none.
    #[expect(clippy::option_option, reason = "leaving it out is allowed")]
    fn difficulty_max(&mut self, max: f64, min: Option<Difficulty>) -> Option<Option<Difficulty>> {
        const KEY: &str = "stratum.difficulty_max";
        if max == 0.0 {
            return Some(None);
        }
        let max = self.difficulty(KEY, max)?;
        if min.is_some_and(|min| max < min) {
            return self.note(KEY, "is below stratum.difficulty_min: set 0.0 for no limit");
        }
        Some(Some(max))
    }

    fn worker_difficulty(
        &mut self,
        raw: &BTreeMap<String, f64>,
    ) -> Option<HashMap<Box<str>, Difficulty>> {
        let before = self.problems.len();
        let mut all = HashMap::new();
        for (worker, value) in raw {
            let key = format!("stratum.worker_difficulty.{worker}");
            if let Some(difficulty) = self.difficulty(&key, *value) {
                all.insert(worker.as_str().into(), difficulty);
            }
        }
        (self.problems.len() == before).then_some(all)
    }

    /// A port with its rules: its own, and the rest from `all`.
    fn port(&mut self, raw: &raw::Port, all: Option<&stratum::Config>) -> Option<Port> {
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
        let listen = raw.listen.iter().filter_map(|text| {
            self.listen("stratum.port.listen", text, "0.0.0.0:23335 or [::]:23335")
        });
        let listen = listen.collect();
        let key = "stratum.port.authority_key_file";
        let authority_key_file = self.key_file(key, &raw.authority_key_file);
        let (authority_key_file, all) = (authority_key_file?, all?);
        let rules = stratum::Config {
            difficulty_min: difficulty_min.unwrap_or(all.difficulty_min),
            // A port for small miners starts them at a small difficulty.
            difficulty_start: difficulty_start.or(difficulty_min).unwrap_or(all.difficulty_start),
            difficulty_max: difficulty_max.or(all.difficulty_max),
            class_most: raw.max_coinbase.map(CoinbaseClass::within),
            ..all.clone()
        };
        (self.problems.len() == before).then_some(Port { listen, rules, authority_key_file })
    }

    /// An address has one set of rules.
    fn ports_differ(&mut self, listen: &[SocketAddr], ports: &[Port]) {
        let all = ports.iter().flat_map(|port| &port.listen);
        let mut known: Vec<_> = listen.iter().collect();
        let mut twice = Vec::new();
        for addr in all {
            // Port 0 is a different port each time.
            if addr.port() != 0 && known.contains(&addr) {
                twice.push(addr);
            }
            known.push(addr);
        }
        for addr in twice {
            let what = format!(
                "has {addr}, which is already in use in this file: choose another \
                                port"
            );
            self.note::<()>("stratum.port", &what);
        }
    }
}

const ALONE: &str = "is missing: set both certificate_file and key_file, or neither to have \
                     gatewayd issue a certificate";
const CERTIFICATE_LIFETIME_MIN: Duration = Duration::from_secs(600);
