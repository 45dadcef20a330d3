//! The operator's settings for pools.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    protocol::cipher::PublicIdentity,
    relay::RelayOptions,
    usernames::{Modifier, UsernameMode, Usernames},
};
use crate::net::HostPort;

/// The pool task's configuration.
#[derive(Clone, Debug)]
pub struct DatumConfig {
    /// In order of preference; none: the task waits until there is one.
    pub pools: Vec<PoolConfig>,
    pub usernames: UsernameMode,
    /// `mining.address`, as it appears in names sent to the pool.
    pub address: String,
    pub modifiers: Vec<Modifier>,
    /// `Payout::own_script` for pooled work (`pooling.always_pay_self`).
    pub own_script: Option<Box<[u8]>>,
    /// How long shares are held for a pool that is away. Zero: they are not.
    pub hold_shares: Duration,
    /// The file for what was learnt about pools; none: it is forgotten at the end.
    pub memory_file: Option<PathBuf>,
    /// Reconnect after this long without anything from the pool.
    pub timeout: Duration,
    pub user_agent: String,
    pub tag_secondary: Box<[u8]>,
    pub unique_id: u16,
    pub backoff: Backoff,
}

/// One pool.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolConfig {
    pub host: String,
    pub port: u16,
    pub public_key: PublicIdentity,
}

/// When connections are retried.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// The longest wait before the first retry after a good connection was closed.
    pub quick: Duration,
    /// Bounds of the random wait after all pools have been tried, at first: most pools that go away
    /// are only being restarted.
    pub soon_least: Duration,
    pub soon_most: Duration,
    /// How long that first period is.
    pub soon: Duration,
    /// Bounds of the wait afterwards.
    pub least: Duration,
    pub most: Duration,
    /// A connection that lasted this long earns quick retries when it ends.
    pub lasted: Duration,
    pub connect_timeout: Duration,
    /// How long gatewayd waits for answers to its last shares when it stops.
    pub drain: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            quick: Duration::from_millis(500),
            soon_least: Duration::from_secs(1),
            soon_most: Duration::from_secs(2),
            soon: Duration::from_secs(30),
            least: Duration::from_secs(5),
            most: Duration::from_secs(20),
            lasted: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(2),
        }
    }
}

impl DatumConfig {
    pub(super) fn relay(&self) -> RelayOptions {
        RelayOptions {
            usernames: Usernames::new(self.usernames, self.address.clone(), &self.modifiers),
            tag_secondary: self.tag_secondary.clone(),
            unique_id: self.unique_id,
            own_script: self.own_script.clone(),
            user_agent: self.user_agent.clone(),
            timeout: self.timeout,
            hold_shares: self.hold_shares,
        }
    }
}

impl PoolConfig {
    /// Its name in logs.
    pub(crate) fn name(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl fmt::Display for PoolConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HostPort(&self.host, self.port).fmt(f)
    }
}

/// Begins like the C gateway's, since pools look at it.
pub(crate) fn default_user_agent() -> String {
    format!("v0.4.1-beta/gatewayd-{}", env!("CARGO_PKG_VERSION"))
}
