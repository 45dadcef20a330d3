//! Counts what became of every share, for logs, metrics and the operator.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{memory::POOLS_MAX, protocol::message::ShareReason};

/// Counters for the pool. Only the pool's task writes them.
#[derive(Debug, Default)]
pub struct PoolStats {
    received: AtomicU64,
    accepted: AtomicU64,
    tentative: AtomicU64,
    accepted_difficulty: AtomicU64,
    rejected: [AtomicU64; REASONS],
    lost: [AtomicU64; Lost::ALL.len()],
    unanswered: AtomicU64,
    held: AtomicU64,
    awaiting: AtomicU64,
    replayed: AtomicU64,
    coinbasers: AtomicU64,
    coinbasers_refused: AtomicU64,
    coinbasers_cut: AtomicU64,
    connections: AtomicU64,
    /// How each pool answered its shares, in the order in which the pools came up.
    pools: Mutex<Vec<(Arc<str>, PoolTally)>>,
}

/// One pool's answers.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PoolTally {
    /// Tentatively accepted ones included.
    pub(crate) accepted: u64,
    pub(crate) tentative: u64,
    pub(crate) accepted_difficulty: u64,
    pub(crate) rejected: BTreeMap<ShareReason, u64>,
    /// Shares to which it gave no answer in time, or before its connection ended for good.
    pub unanswered: u64,
    /// From a share to its answer, for the last one.
    pub(crate) round_trip: Duration,
}

/// A pool's verdict on a share.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolVerdict {
    pub(crate) target_byte: u8,
    pub(crate) tentative: bool,
    pub(crate) rejected: Option<ShareReason>,
}

/// A snapshot.
///
/// With the task at rest, `received` = accepted (tentative ones among them) + rejected + lost +
/// unanswered + held + awaiting.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PoolStatsView {
    /// Shares that were handed over.
    pub received: u64,
    /// Tentatively accepted ones included.
    pub accepted: u64,
    pub tentative: u64,
    /// Σ 2^target byte of accepted shares, as the pool credits them.
    pub(crate) accepted_difficulty: u64,
    pub rejected: Vec<(ShareReason, u64)>,
    pub lost: Vec<(Lost, u64)>,
    /// Sent, or about to be when the connection ended, and given up without an answer: whether the
    /// pool counted them is not known.
    pub unanswered: u64,
    /// Waiting for the pool to come back, or for room.
    pub held: u64,
    /// Sent but not answered yet.
    pub awaiting: u64,
    /// Sent a second time, after a connection was lost.
    pub replayed: u64,
    pub coinbasers: u64,
    pub coinbasers_refused: u64,
    /// Valid except for outputs beyond the value, which were left out.
    pub(crate) coinbasers_cut: u64,
    /// Connections on which the pool sent its configuration.
    pub connections: u64,
    /// The pools that have answered anything.
    pub pools: Vec<(Arc<str>, PoolTally)>,
}

/// Why a share that the miner was told is accepted earns nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Lost {
    /// The pool now has another script or other tags than the share's job.
    TermsChanged,
    /// Its job became stale while it was held.
    Stale,
    /// The pool was away for longer than shares are held.
    Expired,
    /// More shares than are held.
    Overflow,
    /// Its job does not pay a pool.
    Solo,
    /// Not sent or not answered when the gateway stopped.
    Shutdown,
}

impl Lost {
    pub(crate) const ALL: [Self; 6] = [
        Self::TermsChanged,
        Self::Stale,
        Self::Expired,
        Self::Overflow,
        Self::Solo,
        Self::Shutdown,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TermsChanged => "terms-changed",
            Self::Stale => "stale",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
            Self::Solo => "solo",
            Self::Shutdown => "shutdown",
        }
    }
}

impl PoolStats {
    pub fn view(&self) -> PoolStatsView {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let reason = |at| ShareReason(u16::try_from(at).unwrap_or(u16::MAX));
        let rejected = self.rejected.iter().enumerate();
        PoolStatsView {
            received: load(&self.received),
            accepted: load(&self.accepted),
            tentative: load(&self.tentative),
            accepted_difficulty: load(&self.accepted_difficulty),
            rejected: rejected
                .map(|(at, count)| (reason(at), load(count)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            lost: Lost::ALL
                .into_iter()
                .zip(self.lost.iter().map(load))
                .filter(|(_, count)| *count > 0)
                .collect(),
            unanswered: load(&self.unanswered),
            held: load(&self.held),
            awaiting: load(&self.awaiting),
            replayed: load(&self.replayed),
            coinbasers: load(&self.coinbasers),
            coinbasers_refused: load(&self.coinbasers_refused),
            coinbasers_cut: load(&self.coinbasers_cut),
            connections: load(&self.connections),
            pools: self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(super) fn add_received(&self, shares: usize) {
        self.received.fetch_add(shares as u64, Relaxed);
    }

    /// Counts a pool's verdict on a share; returns how many of that kind there are by now.
    pub(crate) fn add_answer(
        &self,
        pool: &Arc<str>,
        verdict: PoolVerdict,
        round_trip: Duration,
    ) -> u64 {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tally_of(&mut pools, pool);
        tally.round_trip = round_trip;
        let credit = 1u64.checked_shl(verdict.target_byte.into()).unwrap_or(u64::MAX);
        if let Some(reason) = verdict.rejected {
            *tally.rejected.entry(reason.bounded()).or_default() += 1;
            return self.rejected[usize::from(reason.bounded().0)].fetch_add(1, Relaxed) + 1;
        }
        tally.accepted += 1;
        tally.tentative += u64::from(verdict.tentative);
        tally.accepted_difficulty = tally.accepted_difficulty.saturating_add(credit);
        self.tentative.fetch_add(verdict.tentative.into(), Relaxed);
        self.accepted_difficulty.fetch_add(credit, Relaxed);
        self.accepted.fetch_add(1, Relaxed) + 1
    }

    /// Counts shares that a pool did not answer; returns how many there are by now.
    pub(super) fn add_unanswered(&self, pool: &Arc<str>, shares: usize) -> u64 {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        tally_of(&mut pools, pool).unanswered += shares as u64;
        self.unanswered.fetch_add(shares as u64, Relaxed) + shares as u64
    }

    pub(super) fn add_lost(&self, why: Lost, shares: usize) {
        self.lost[why as usize].fetch_add(shares as u64, Relaxed);
    }

    pub(super) fn set_waiting(&self, held: usize, awaiting: usize) {
        self.held.store(held as u64, Relaxed);
        self.awaiting.store(awaiting as u64, Relaxed);
    }

    pub(super) fn add_replayed(&self) {
        self.replayed.fetch_add(1, Relaxed);
    }

    pub(super) fn add_coinbaser(&self, cut: bool) {
        self.coinbasers.fetch_add(1, Relaxed);
        self.coinbasers_cut.fetch_add(cut.into(), Relaxed);
    }

    pub(super) fn add_coinbaser_refused(&self) {
        self.coinbasers_refused.fetch_add(1, Relaxed);
    }

    pub(super) fn add_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }
}

/// The tally of `pool`. Changed settings can bring any number of pools, so the last tally is
/// shared.
fn tally_of<'a>(pools: &'a mut Vec<(Arc<str>, PoolTally)>, pool: &Arc<str>) -> &'a mut PoolTally {
    let at = pools.iter().position(|(name, _)| name == pool).unwrap_or_else(|| {
        if pools.len() < POOLS_MAX {
            pools.push((Arc::clone(pool), PoolTally::default()));
        }
        pools.len() - 1
    });
    &mut pools[at].1
}

impl PoolStatsView {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().map(|(_, count)| count).sum()
    }

    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }
}

/// Reasons 0 to 30 of the protocol, and one for all higher numbers.
const REASONS: usize = 32;
