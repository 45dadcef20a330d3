//! The pool's status, for the operator and for making work.

use std::{sync::Arc, time::Instant};

use crate::work::PoolHealth;

/// The pool's status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolStatus {
    pub state: PoolState,
    /// `host:port` of the pool that is in use or was tried last.
    pub pool: Arc<str>,
    pub motd: Arc<str>,
    pub last_error: Option<Arc<str>>,
    /// Pools that are to be used instead of this one and have not proven themselves yet.
    pub next: Vec<NextPool>,
    /// Whether the pool gives the same prime id to each connection; None: not known yet.
    pub keeps_prime_id: Option<bool>,
}

/// A pool that is tried while another is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NextPool {
    pub pool: Arc<str>,
    /// Since when it cannot be used, and why.
    pub failing: Option<(Instant, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolState {
    /// The first attempt has not ended yet.
    Connecting,
    /// Configured: accepts shares.
    Up,
    Down {
        since: Instant,
    },
}

impl Default for PoolStatus {
    fn default() -> Self {
        Self {
            state: PoolState::Connecting,
            pool: "".into(),
            motd: "".into(),
            last_error: None,
            next: Vec::new(),
            keeps_prime_id: None,
        }
    }
}

impl PoolStatus {
    /// The same, as far as work depends on it.
    pub fn health(&self) -> PoolHealth {
        if self.state == PoolState::Up { PoolHealth::Up } else { PoolHealth::Down }
    }
}

/// How many more lines a pool may cause to be logged on one connection. Counted without a clock and
/// over the whole connection, unlike a `LogRation`: the first lines of a pool that is at odds with us
/// all matter.
#[derive(Debug, Default)]
pub(super) struct LogAllowance {
    lines: u64,
}

impl LogAllowance {
    /// False once a pool has caused enough lines.
    pub(super) fn may_log(&mut self) -> bool {
        self.lines += 1;
        self.lines <= TALK_LINES_MAX || self.lines.is_power_of_two()
    }
}

/// Log lines that a pool may cause on one connection by sending odd things.
const TALK_LINES_MAX: u64 = 200;
