//! What parts go by where nothing is configured: for tests and tools, which have no file. So each
//! default stands once, in `raw`.

use super::{Config, check, raw::Raw};
use crate::{
    datum::{DatumConfig, PoolConfig},
    stratum,
    work::Username,
};

impl Config {
    /// No address, no node, no pool.
    ///
    /// # Panics
    /// Never: a test reads them too.
    pub(crate) fn defaults() -> Self {
        let checked = check::config(Raw::default(), false);
        checked.unwrap_or_else(|faults| unreachable!("the defaults are refused: {faults:?}"))
    }
}

impl stratum::Config {
    /// The defaults of gatewayd.toml, with `address` for nameless miners.
    pub fn with_address(address: &str) -> Self {
        let default_username = Username(address.into());
        Self { dashboard: None, default_username, ..Config::defaults().stratum.rules }
    }
}

impl DatumConfig {
    /// These pools, all else as it is by default; what is learnt of them is forgotten at the end.
    pub fn new(pools: Vec<PoolConfig>, address: String) -> Self {
        Self { pools, address, memory_file: None, ..Config::defaults().datum }
    }
}
