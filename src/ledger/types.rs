//! What the ledger tells: plain values, without units hidden in them.

use std::time::Duration;

use crate::work::{BlockOutcome, Reject};

/// Hashes a second, as exponential averages over a minute, five and an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hashrates {
    pub m1: f64,
    pub(crate) m5: f64,
    pub(crate) h1: f64,
}

/// Sums that survive restarts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub accepted: u64,
    /// Σ credited difficulty.
    pub difficulty: f64,
    /// In the order of `Reject::ALL`.
    pub rejected: [u64; Reject::ALL.len()],
    pub(crate) blocks: u64,
    /// Unix seconds at which the counting began.
    pub since: u64,
    pub best: Option<BestShare>,
}

/// The greatest share.
#[derive(Clone, Debug, PartialEq)]
pub struct BestShare {
    /// What its hash was really worth.
    pub difficulty: f64,
    pub worker: String,
    /// Unix seconds.
    pub(crate) at: u64,
}

/// One username across connections and restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerRecord {
    pub name: String,
    pub accepted: u64,
    /// Σ credited difficulty.
    pub(crate) difficulty: f64,
    /// In the order of `Reject::ALL`.
    pub rejected: [u64; Reject::ALL.len()],
    pub(crate) blocks: u64,
    /// Real difficulty of its greatest share; 0: none yet.
    pub best_difficulty: f64,
    /// Unix seconds; 0: none yet.
    pub(crate) best_at: u64,
    /// Unix seconds of its first share or refusal.
    pub first_seen: u64,
    /// Unix seconds of its last one.
    pub last_seen: u64,
    pub(crate) hashrate: Hashrates,
}

/// A found block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockRecord {
    pub(crate) height: u32,
    /// As people write it.
    pub(crate) hash: String,
    /// Unix seconds at which it was found, or first heard of after a restart.
    pub at: u64,
    /// Empty: it is not known any more.
    pub worker: String,
    /// The last word of each node.
    pub submissions: Vec<NodeAnswer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeAnswer {
    pub node: String,
    pub outcome: BlockOutcome,
    /// Unix seconds.
    pub(crate) at: u64,
}

/// What happened to a block, as `blocks/` tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockNews {
    pub height: u32,
    pub hash: String,
    /// Unix seconds.
    pub at: u64,
    pub what: BlockEvent,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BlockEvent {
    /// By this worker, if that is known.
    Found(Option<String>),
    Answered {
        node: String,
        outcome: BlockOutcome,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metric {
    /// Hashes a second.
    Hashrate,
    /// Shares in each step.
    Accepted,
    Rejected,
    /// Σ credited difficulty in each step.
    Difficulty,
}

#[derive(Clone, Debug)]
pub struct HistoryQuery {
    pub metric: Metric,
    /// None: all of them together.
    pub worker: Option<String>,
    /// One of several lines, some of them workers': it is asked for in the steps that those have,
    /// which may be coarser. A worker's always is.
    pub beside_workers: bool,
    /// Up to now.
    pub window: Duration,
}

/// Points in order of time. Where gatewayd did not run there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Seconds that each point stands for.
    pub step_s: u32,
    /// Unix seconds at which the step began, and its value.
    pub points: Vec<(u64, f64)>,
}

/// Whether what happens is being kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LedgerState {
    Ok,
    /// In plain words, with what to do.
    Degraded {
        reason: String,
    },
}

/// Why there is no history to show.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    #[error("too many requests for history at once: try again in a few seconds")]
    Busy,
    #[error("the history took too long to read: the disk is slow or busy; ask for a shorter time")]
    TimedOut,
    #[error("the history cannot be read: {0}")]
    Unavailable(String),
}
