//! The parts' configuration when nothing is configured: for tests and tools, which have no file. So
//! each default is written once, in `raw`.

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
    /// Never: a test checks the defaults too.
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
    /// These pools, everything else by default; what is learnt about them is not kept.
    pub fn new(pools: Vec<PoolConfig>, address: String) -> Self {
        Self { pools, address, memory_file: None, ..Config::defaults().datum }
    }
}
