//! What a session must know of the configuration.

use std::time::Duration;

use super::Classes;
use crate::work::{Difficulty, Username, VERSION_ROLLING_MASK};

/// The `[stratum]` section, as sessions use it.
#[derive(Clone, Debug)]
pub struct Config {
    /// `stratum.difficulty_min`: floor of vardiff.
    pub difficulty_min: Difficulty,
    pub difficulty_start: Difficulty,
    pub shares_per_minute: u32,
    /// `stratum.stale_after`: a job lives this long after its successor is due.
    pub stale_after: Duration,
    /// `template.refresh`: how long after a job its successor is due.
    pub refresh: Duration,
    /// To the subscribe.
    pub login_timeout: Duration,
    /// To the first and the next share; zero: for ever.
    pub idle_timeout: Duration,
    pub classes: Classes,
    /// `pooling.version_mask`: bits of the version that may be rolled on pooled work, where the
    /// protocol allows more.
    pub pooled_version_mask: u32,
    /// Whom shares without a username belong to: `mining.address`.
    pub default_username: Username,
}

impl Config {
    /// The defaults of gatewayd.toml, with `address` for nameless miners.
    pub fn with_address(address: &str) -> Self {
        Self {
            difficulty_min: Difficulty::pow2(14),
            difficulty_start: Difficulty::pow2(14),
            shares_per_minute: 8,
            stale_after: Duration::from_secs(120),
            refresh: Duration::from_secs(40),
            login_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(7200),
            classes: Classes::new(true, Vec::new()),
            pooled_version_mask: VERSION_ROLLING_MASK,
            default_username: Username(address.into()),
        }
    }
}
