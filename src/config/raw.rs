//! gatewayd.toml as written: names, defaults, nothing resolved yet.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};

/// The whole file. Unknown keys are refused, so that a typing error never passes for a setting.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    pub node: Vec<Node>,
    pub template: Template,
    pub mining: Mining,
    pub pool: Vec<Pool>,
    pub pooling: Pooling,
    pub stratum: Stratum,
    pub api: Api,
    pub limits: Limits,
    pub ledger: Ledger,
    pub log: Log,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    pub kind: String,
    pub rpc_url: String,
    pub rpc_cookie_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rpc_user: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub rpc_password: Secret,
    pub zmq_hashblock: String,
    pub nodeapi_socket: String,
    pub submit_only: bool,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            kind: "bitcoind".into(),
            rpc_url: "http://127.0.0.1:8332".into(),
            rpc_cookie_file: "~/.bitcoin/.cookie".into(),
            rpc_user: String::new(),
            rpc_password: Secret::default(),
            zmq_hashblock: String::new(),
            nodeapi_socket: String::new(),
            submit_only: false,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Template {
    pub refresh: String,
    pub stale_after: String,
    pub propose: bool,
    pub allow_rules: Vec<String>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            refresh: "40s".into(),
            stale_after: "120s".into(),
            propose: true,
            allow_rules: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mining {
    pub address: String,
    pub coinbase_tag: String,
    pub coinbase_tag_secondary: String,
    pub unique_id: u16,
}

impl Default for Mining {
    fn default() -> Self {
        Self {
            address: String::new(),
            coinbase_tag: "gatewayd".into(),
            coinbase_tag_secondary: String::new(),
            unique_id: 4242,
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    pub host: String,
    pub port: u16,
    pub public_key: String,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            host: "datum-beta1.mine.ocean.xyz".into(),
            port: 28915,
            public_key: "f21f2f0ef0aa1970468f22bad9bb7f4535146f8e4a8f646bebc93da3d89b1406\
                         f40d032f09a417d94dc068055df654937922d2c89522e3e8f6f0e649de473003"
                .into(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pooling {
    pub when_down: String,
    pub usernames: String,
    pub always_pay_self: bool,
    pub hold_shares: String,
    pub reconnect_grace: String,
    pub version_mask: String,
    pub timeout: String,
    pub user_agent: String,
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            when_down: "disconnect".into(),
            usernames: "full".into(),
            always_pay_self: true,
            hold_shares: "120s".into(),
            reconnect_grace: "10s".into(),
            version_mask: "1fffe000".into(),
            timeout: "60s".into(),
            user_agent: String::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stratum {
    pub listen: Vec<String>,
    pub trusted_proxies: Vec<String>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub difficulty_min: f64,
    pub difficulty_start: f64,
    pub difficulty_max: f64,
    pub shares_per_minute: u32,
    pub stale_after: String,
    pub login_timeout: String,
    pub idle_timeout: String,
    pub fingerprint: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<Class>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<Port>,
    /// Worker -> its difficulty.
    pub worker_difficulty: BTreeMap<String, f64>,
    /// Modifier -> address ("" is the miner's own) -> fraction.
    pub username_modifiers: BTreeMap<String, BTreeMap<String, f64>>,
    pub tls: Tls,
    pub sv2: Sv2,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    pub enabled: bool,
    pub certificate_file: String,
    pub key_file: String,
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sv2 {
    pub authority_key_file: String,
    pub certificate_lifetime: String,
}

impl Default for Sv2 {
    fn default() -> Self {
        Self { authority_key_file: String::new(), certificate_lifetime: "24h".into() }
    }
}

impl Default for Stratum {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:23334".into(), "[::]:23334".into()],
            trusted_proxies: Vec::new(),
            max_connections: 50_000,
            max_connections_per_ip: 5_000,
            difficulty_min: 16_384.0,
            difficulty_start: 16_384.0,
            difficulty_max: 0.0,
            shares_per_minute: 8,
            stale_after: "120s".into(),
            login_timeout: "15s".into(),
            idle_timeout: "7200s".into(),
            fingerprint: true,
            class: Vec::new(),
            port: Vec::new(),
            worker_difficulty: BTreeMap::new(),
            username_modifiers: BTreeMap::new(),
            tls: Tls::default(),
            sv2: Sv2::default(),
        }
    }
}

impl Raw {
    /// Without what takes a restart to change: that stays as it is in `running`.
    pub fn without_restart(mut self, running: &Self) -> Self {
        self.stratum.listen.clone_from(&running.stratum.listen);
        let listens = |stratum: &Stratum| -> Vec<_> {
            let ports = stratum.port.iter();
            ports.map(|port| (port.listen.clone(), port.authority_key_file.clone())).collect()
        };
        if listens(&self.stratum) != listens(&running.stratum) {
            self.stratum.port.clone_from(&running.stratum.port);
        }
        self.stratum.sv2.clone_from(&running.stratum.sv2);
        self.api.listen.clone_from(&running.api.listen);
        self.ledger.data_dir.clone_from(&running.ledger.data_dir);
        self.log.format.clone_from(&running.log.format);
        self.log.file.clone_from(&running.log.file);
        self
    }

    /// Without what nobody else may know: `mask` stands for each secret.
    pub fn masked(mut self, mask: &str) -> Self {
        for node in &mut self.node {
            if !node.rpc_password.is_empty() {
                node.rpc_password = Secret::new(mask);
            }
            if let Some(url) = super::edit::hide_in_url(&node.rpc_url, mask) {
                node.rpc_url = url;
            }
        }
        self
    }
}

/// An operator's own rule for a kind of miner.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    #[serde(rename = "match")]
    pub pattern: String,
    pub max_coinbase: usize,
    #[serde(default)]
    pub difficulty_min: f64,
}

/// A port with rules of its own; what is missing is as for all.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Port {
    pub listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difficulty_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difficulty_start: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difficulty_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_coinbase: Option<usize>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub authority_key_file: String,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    pub listen: String,
    pub admin_password_file: String,
    pub metrics: bool,
    pub base_path: String,
    pub allowed_hosts: Vec<String>,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7152".into(),
            admin_password_file: String::new(),
            metrics: true,
            base_path: String::new(),
            allowed_hosts: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    pub connections_per_minute: u32,
    pub logins_per_minute: u32,
    pub bad_shares_per_minute: u32,
    pub bytes_per_second: u32,
    pub unproven_places: usize,
    pub ban_first: String,
    pub ban_longest: String,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_minute: 12_000,
            logins_per_minute: 24_000,
            bad_shares_per_minute: 600,
            bytes_per_second: 2_000_000,
            unproven_places: 5_000,
            ban_first: "60s".into(),
            ban_longest: "24h".into(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    pub data_dir: String,
    pub keep_history: String,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { data_dir: "/var/lib/gatewayd".into(), keep_history: "90d".into() }
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub level: String,
    pub format: String,
    pub file: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: "text".into(), file: String::new() }
    }
}

/// A password: never printed.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Refuses what is no text in words of its own: serde's would show the value. Making it text would
/// not do: 1_000 and 0x10 would become other passwords.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password in quotes")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        Err(E::custom(UNQUOTED))
    }
}

const UNQUOTED: &str = "a password is text: write it in quotes";
