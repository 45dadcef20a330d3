//! gatewayd.toml as written: names and defaults, nothing resolved yet.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, Visitor},
};

/// A section of the file: its keys, each with its default.
macro_rules! section {
    (
        $(#[$about:meta])*
        pub(crate) struct $name:ident {
            $($(#[$attribute:meta])* $key:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
        #[serde(deny_unknown_fields, default)]
        pub(crate) struct $name {
            $($(#[$attribute])* pub(crate) $key: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }
    };
}

/// The whole file. Unknown keys are refused, so that a typo is never silently ignored.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    pub(crate) node: Vec<Node>,
    pub(crate) template: Template,
    pub(crate) mining: Mining,
    pub(crate) pool: Vec<Pool>,
    pub(crate) pooling: Pooling,
    pub(crate) stratum: Stratum,
    pub(crate) api: Api,
    pub(crate) limits: Limits,
    pub(crate) ledger: Ledger,
    pub(crate) log: Log,
}

section! {
    pub(crate) struct Node {
        kind: String = "bitcoind".into(),
        rpc_url: String = "http://127.0.0.1:8332".into(),
        rpc_cookie_file: String = "~/.bitcoin/.cookie".into(),
        #[serde(skip_serializing_if = "String::is_empty")]
        rpc_user: String = String::new(),
        #[serde(skip_serializing_if = "Secret::is_empty")]
        rpc_password: Secret = Secret::default(),
        zmq_hashblock: String = String::new(),
        nodeapi_socket: String = String::new(),
        submit_only: bool = false,
    }
}

section! {
    pub(crate) struct Template {
        refresh: String = "40s".into(),
        stale_after: String = "120s".into(),
        propose: bool = true,
        allow_rules: Vec<String> = Vec::new(),
    }
}

section! {
    pub(crate) struct Mining {
        address: String = String::new(),
        coinbase_tag: String = "gatewayd".into(),
        coinbase_tag_secondary: String = String::new(),
        unique_id: u16 = 4242,
    }
}

section! {
    pub(crate) struct Pool {
        host: String = "datum-beta1.mine.ocean.xyz".into(),
        port: u16 = 28915,
        public_key: String = "f21f2f0ef0aa1970468f22bad9bb7f4535146f8e4a8f646bebc93da3d89b1406\
                         f40d032f09a417d94dc068055df654937922d2c89522e3e8f6f0e649de473003"
                .into(),
    }
}

section! {
    pub(crate) struct Pooling {
        when_down: String = "disconnect".into(),
        usernames: String = "full".into(),
        without_address: String = "tell".into(),
        always_pay_self: bool = true,
        hold_shares: String = "120s".into(),
        reconnect_grace: String = "10s".into(),
        version_mask: String = "1fffe000".into(),
        timeout: String = "60s".into(),
        user_agent: String = String::new(),
    }
}

section! {
    pub(crate) struct Stratum {
        listen: Vec<String> = vec!["0.0.0.0:23334".into(), "[::]:23334".into()],
        trusted_proxies: Vec<String> = Vec::new(),
        max_connections: usize = 50_000,
        max_connections_per_ip: usize = 5_000,
        difficulty_min: f64 = 16_384.0,
        difficulty_start: f64 = 16_384.0,
        difficulty_max: f64 = 0.0,
        shares_per_minute: u32 = 8,
        stale_after: String = "120s".into(),
        login_timeout: String = "15s".into(),
        idle_timeout: String = "7200s".into(),
        fingerprint: bool = true,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        class: Vec<Class> = Vec::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        port: Vec<Port> = Vec::new(),
        /// Worker -> difficulty.
        worker_difficulty: BTreeMap<String, f64> = BTreeMap::new(),
        /// Modifier -> address ("" is the miner's own) -> fraction.
        username_modifiers: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new(),
        tls: Tls = Tls::default(),
        sv2: Sv2 = Sv2::default(),
    }
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) enabled: bool,
    pub(crate) certificate_file: String,
    pub(crate) key_file: String,
    pub(crate) names: Vec<String>,
}

section! {
    pub(crate) struct Sv2 {
        authority_key_file: String = String::new(),
        certificate_lifetime: String = "24h".into(),
    }
}

impl Raw {
    /// These settings, but everything that needs a restart stays as it is in `running`.
    pub(crate) fn without_restart(mut self, running: &Self) -> Self {
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

    /// These settings with `mask` in place of each secret.
    pub(crate) fn masked(mut self, mask: &str) -> Self {
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
pub(crate) struct Class {
    #[serde(rename = "match")]
    pub(crate) pattern: String,
    pub(crate) max_coinbase: usize,
    #[serde(default)]
    pub(crate) difficulty_min: f64,
}

/// A port with its own rules; keys left out are as for all ports.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Port {
    pub(crate) listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difficulty_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difficulty_start: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) difficulty_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_coinbase: Option<usize>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) authority_key_file: String,
}

section! {
    pub(crate) struct Api {
        listen: String = "127.0.0.1:7152".into(),
        admin_password_file: String = String::new(),
        metrics: bool = true,
        base_path: String = String::new(),
        allowed_hosts: Vec<String> = Vec::new(),
    }
}

section! {
    pub(crate) struct Limits {
        connections_per_minute: u32 = 12_000,
        logins_per_minute: u32 = 24_000,
        bad_shares_per_minute: u32 = 600,
        bytes_per_second: u32 = 2_000_000,
        unproven_places: usize = 5_000,
        ban_first: String = "60s".into(),
        ban_longest: String = "24h".into(),
        allow: Vec<String> = Vec::new(),
        deny: Vec<String> = Vec::new(),
    }
}

section! {
    pub(crate) struct Ledger {
        data_dir: String = "/var/lib/gatewayd".into(),
        keep_history: String = "90d".into(),
    }
}

section! {
    pub(crate) struct Log {
        level: String = "info".into(),
        format: String = "text".into(),
        file: String = String::new(),
    }
}

/// A password: never printed.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
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

/// Refuses anything but text, in its own words, since serde's would show the value. Converting it
/// to text would be wrong: 1_000 and 0x10 would become other passwords.
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
