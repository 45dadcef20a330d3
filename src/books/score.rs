//! What a miner or a worker has done, counted share by share.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crate::work::Reject;

/// Shares counted. Written share by share, read at any time.
#[derive(Debug, Default)]
pub(crate) struct Score {
    pub(super) accepted: AtomicU64,
    /// Σ credited difficulty, an `f64`'s bits.
    difficulty: AtomicU64,
    rejected: [AtomicU64; Reject::ALL.len()],
    /// The greatest real difficulty of a share: bits of a positive `f64` sort like the number.
    best: AtomicU64,
    /// Milliseconds after the roster began, plus one; 0: never.
    pub(super) last_share: AtomicU64,
    blocks: AtomicU64,
}

/// A snapshot of a [`Score`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ScoreView {
    pub(crate) accepted: u64,
    /// Σ credited difficulty.
    pub(crate) difficulty: f64,
    pub(crate) rejected: [u64; Reject::ALL.len()],
    /// The greatest real difficulty of an accepted share.
    pub(crate) best: f64,
    /// Since the roster began.
    pub(crate) last_share: Option<Duration>,
    pub(crate) blocks: u64,
}

impl Score {
    pub(crate) fn view(&self) -> ScoreView {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        ScoreView {
            accepted: load(&self.accepted),
            difficulty: f64::from_bits(load(&self.difficulty)),
            rejected: std::array::from_fn(|at| load(&self.rejected[at])),
            best: f64::from_bits(load(&self.best)),
            last_share: load(&self.last_share).checked_sub(1).map(Duration::from_millis),
            blocks: load(&self.blocks),
        }
    }

    pub(super) fn accept(&self, credited: f64, real: f64, is_block: bool, at: Duration) {
        let add = |bits| Some((f64::from_bits(bits) + credited).to_bits());
        // Never fails: `add` always returns a value.
        let _ = self.difficulty.fetch_update(Relaxed, Relaxed, add);
        self.note(real, is_block, at);
    }

    /// The same for a score that only one task writes.
    pub(super) fn accept_alone(&self, credited: f64, real: f64, is_block: bool, at: Duration) {
        let sum = f64::from_bits(self.difficulty.load(Relaxed)) + credited;
        self.difficulty.store(sum.to_bits(), Relaxed);
        self.note(real, is_block, at);
    }

    pub(super) fn reject(&self, reject: Reject) {
        self.rejected[reject as usize].fetch_add(1, Relaxed);
    }

    fn note(&self, real: f64, is_block: bool, at: Duration) {
        self.accepted.fetch_add(1, Relaxed);
        if real.to_bits() > self.best.load(Relaxed) {
            self.best.fetch_max(real.to_bits(), Relaxed);
        }
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.last_share.store(at, Relaxed);
        if is_block {
            self.blocks.fetch_add(1, Relaxed);
        }
    }
}

impl ScoreView {
    pub(crate) fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }
}
