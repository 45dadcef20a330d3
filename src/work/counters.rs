//! What has happened since the start, for logs and the demo. Sessions add once per read, not per share.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Reject;

/// Totals over all miners.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    /// Σ credited difficulty, an `f64`'s bits.
    accepted_difficulty: AtomicU64,
    rejected: [AtomicU64; Reject::ALL.len()],
    blocks: AtomicU64,
    connections: AtomicU64,
    /// Shares that never reached a pool though a miner saw them accepted, by this side's fault.
    relay_dropped: AtomicU64,
}

/// A moment's copy of [`Counters`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountersView {
    pub accepted: u64,
    pub accepted_difficulty: f64,
    pub rejected: [u64; Reject::ALL.len()],
    pub blocks: u64,
    /// Miners connected now.
    pub connections: u64,
    pub relay_dropped: u64,
}

impl Counters {
    pub fn add_accepted(&self, shares: u64, difficulty: f64) {
        self.accepted.fetch_add(shares, Relaxed);
        let add = |bits| Some((f64::from_bits(bits) + difficulty).to_bits());
        // Never fails: `add` always gives a value.
        let _ = self.accepted_difficulty.fetch_update(Relaxed, Relaxed, add);
    }

    pub fn add_rejected(&self, reject: Reject, shares: u64) {
        self.rejected[reject as usize].fetch_add(shares, Relaxed);
    }

    pub fn add_block(&self) {
        self.blocks.fetch_add(1, Relaxed);
    }

    pub fn add_relay_dropped(&self, shares: u64) {
        self.relay_dropped.fetch_add(shares, Relaxed);
    }

    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub fn view(&self) -> CountersView {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        CountersView {
            accepted: load(&self.accepted),
            accepted_difficulty: f64::from_bits(load(&self.accepted_difficulty)),
            rejected: std::array::from_fn(|at| load(&self.rejected[at])),
            blocks: load(&self.blocks),
            connections: load(&self.connections),
            relay_dropped: load(&self.relay_dropped),
        }
    }
}

impl CountersView {
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Reasons that occurred, with how often.
    pub fn rejects(&self) -> impl Iterator<Item = (Reject, u64)> {
        Reject::ALL.into_iter().zip(self.rejected).filter(|(_, count)| *count > 0)
    }
}
