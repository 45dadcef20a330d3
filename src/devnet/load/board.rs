//! Where all connections record what they see.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::tips::Tips;
use crate::devnet::miner::REJECT_KINDS_MAX;

pub(super) struct Board {
    /// Just before the first connection was opened.
    pub(super) began: Instant,
    /// For each connection that ever got work: how long that took.
    arrivals: Mutex<Vec<Duration>>,
    tips: Mutex<Tips>,
    /// By error code and text.
    rejects: Mutex<BTreeMap<String, u64>>,
    pub(super) submitted: AtomicU64,
    pub(super) accepted: AtomicU64,
    rejected: AtomicU64,
    /// Miners that have work now.
    pub(super) connected: AtomicUsize,
    pub(super) disconnects: AtomicU64,
    pub(super) connect_failures: AtomicU64,
}

impl Board {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            arrivals: Mutex::default(),
            tips: Mutex::default(),
            rejects: Mutex::default(),
            submitted: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
            disconnects: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
        }
    }

    pub(super) fn arrivals(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tips(&self) -> MutexGuard<'_, Tips> {
        self.tips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rejects(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.rejects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn answered(&self) -> u64 {
        self.accepted.load(Relaxed) + self.rejected.load(Relaxed)
    }

    pub(super) fn add_rejected(&self, kind: String) {
        self.rejected.fetch_add(1, Relaxed);
        let mut rejects = self.rejects();
        let known = rejects.contains_key(&kind) || rejects.len() < REJECT_KINDS_MAX;
        *rejects.entry(if known { kind } else { "other".into() }).or_default() += 1;
    }
}
