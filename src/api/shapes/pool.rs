//! `/api/v1/pool`.

use serde::Serialize;
use utoipa::ToSchema;

use super::Reasons;

/// The DATUM pools, in order of preference, and what became of the shares that they were meant for.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Pools {
    /// Empty when solo. A pool that is no longer configured comes last, while it is still used
    /// because the configured ones do not work.
    pub(crate) pools: Vec<Pool>,
    pub(crate) relay: Relay,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Pool {
    /// `host:port`.
    pub(crate) name: String,
    pub(crate) state: PoolState,
    /// It is the one in use, or the one tried last.
    pub(crate) is_active: bool,
    /// Null while it is up.
    pub(crate) down_for_s: Option<f64>,
    /// Its message of the day.
    pub(crate) motd: Option<String>,
    pub(crate) last_error: Option<String>,
    pub(crate) prime_id: Option<u32>,
    /// Whether it gives the same prime id to each connection; null if not known yet. If it does
    /// not, miners work for `mining.address` while it is away.
    pub(crate) keeps_prime_id: Option<bool>,
    /// What it writes into the coinbase.
    pub(crate) tag: Option<String>,
    /// 0: none.
    pub(crate) difficulty_min: Option<u64>,
    /// Where its own part goes.
    pub(crate) script_hex: Option<String>,
    pub(crate) address: Option<String>,
    pub shares: PoolShares,
    /// From the last answered share to its answer.
    pub(crate) round_trip_ms: Option<f64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PoolState {
    /// The first attempt is being made.
    Connecting,
    /// Accepts shares.
    Up,
    Down,
    /// Not needed: a preferred one is in use.
    Standby,
}

/// The pool's answers since this process started.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct PoolShares {
    /// Tentatively accepted ones included.
    pub(crate) accepted: u64,
    pub(crate) tentative: u64,
    /// Σ difficulty credited by the pool.
    pub(crate) accepted_difficulty: u64,
    pub(crate) rejected: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub(crate) rejected_by_reason: Reasons,
    /// No answer came within a minute or before the connection ended: whether they were counted is
    /// not known.
    pub(crate) unanswered: u64,
}

/// Shares for all pools since this process started: received = accepted + rejected + unanswered +
/// held + awaiting + lost.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Relay {
    pub(crate) received: u64,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    /// Sent, but given up after a minute without an answer, or when the connection ended.
    pub(crate) unanswered: u64,
    /// Waiting for the pool to come back.
    pub(crate) held: u64,
    /// Sent but not answered yet.
    pub(crate) awaiting: u64,
    pub(crate) lost: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub(crate) lost_by_reason: Reasons,
    /// Sent a second time, after a connection was lost.
    pub(crate) replayed: u64,
    /// Not included in `received`: the queue to the pool's task was full.
    pub(crate) dropped: u64,
    /// Payout splits that the pool sent.
    pub(crate) splits: u64,
    pub(crate) splits_refused: u64,
    /// Valid except for outputs beyond the block's value, which were left out.
    pub(crate) splits_cut: u64,
    /// Connections on which the pool sent its configuration.
    pub(crate) connections: u64,
}
