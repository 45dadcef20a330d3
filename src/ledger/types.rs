//! The ledger's answers: plain values, with explicit units.

use std::time::Duration;

use crate::work::{BlockOutcome, Reject};

/// Hashes per second, as exponential averages over a minute, five minutes and an hour.
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

/// The best share.
#[derive(Clone, Debug, PartialEq)]
pub struct BestShare {
    /// The real difficulty of its hash.
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
    /// Real difficulty of its best share; 0: none yet.
    pub best_difficulty: f64,
    /// Unix seconds; 0: none yet.
    pub(crate) best_at: u64,
    /// Unix seconds of its first share or rejection.
    pub first_seen: u64,
    /// Unix seconds of its last one.
    pub last_seen: u64,
    pub(crate) hashrate: Hashrates,
}

/// A found block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockRecord {
    pub(crate) height: u32,
    /// In the usual display order.
    pub(crate) hash: String,
    /// Unix seconds when it was found, or first seen after a restart.
    pub at: u64,
    /// Empty: not known any more.
    pub worker: String,
    /// Each node's final answer.
    pub submissions: Vec<NodeAnswer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct NodeAnswer {
    pub node: String,
    pub outcome: BlockOutcome,
    /// Unix seconds.
    pub(crate) at: u64,
}

/// Something that happened to a block, as reported by `blocks/`.
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
    /// By this worker, if known.
    Found(Option<String>),
    Answered {
        node: String,
        outcome: BlockOutcome,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metric {
    /// Hashes per second.
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
    /// One of several lines, some of them workers': it uses the steps available for workers, which
    /// may be coarser. A worker's line always does.
    pub beside_workers: bool,
    /// The period up to now.
    pub window: Duration,
}

/// Points in order of time; none where gatewayd did not run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Seconds that each point covers.
    pub step_s: u32,
    /// Unix seconds when the step began, and its value.
    pub points: Vec<(u64, f64)>,
}

/// Whether history is being saved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LedgerState {
    Ok,
    /// In plain words, with what to do.
    Degraded {
        reason: String,
    },
}

/// Why history cannot be shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    #[error("too many requests for history at once: try again in a few seconds")]
    Busy,
    #[error(
        "the history took too long to read: the disk is slow or busy; ask for a shorter \
             period"
    )]
    TimedOut,
    #[error("the history cannot be read: {0}")]
    Unavailable(String),
}
