//! Which shares a connection has already sent.
//!
//! Nothing that still counts is ever forgotten: a miner that sends more than can be remembered is
//! refused until its jobs end.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use rustc_hash::FxHashSet;

use crate::work::{Hash256, JobId};

/// Share hashes of the jobs that still count, owned by one connection (extranonce1 is unique, so
/// nobody else can repeat its shares).
#[derive(Debug)]
pub struct SeenShares {
    /// Oldest first.
    jobs: Vec<(JobId, FxHashSet<u64>)>,
    len: u32,
    /// How many it may hold.
    most: u32,
    seen_budget: Arc<SeenBudget>,
    /// Taken from the budget.
    lent: u32,
}

/// The result of trying to remember a share.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DuplicateCheck {
    Fresh,
    Before,
    /// Unknown whether it was sent before: there is no room to remember it.
    Full,
}

/// The memory that all connections share, for miners that send more shares than others.
#[derive(Debug)]
pub struct SeenBudget {
    left: AtomicU32,
}

impl Default for SeenBudget {
    fn default() -> Self {
        Self { left: AtomicU32::new(SEEN_BUDGET) }
    }
}

impl SeenBudget {
    /// Lends room for [`LOAN`] shares; false when there is none.
    fn lend(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(LOAN)).is_ok()
    }

    fn take_back(&self, shares: u32) {
        self.left.fetch_add(shares, Relaxed);
    }
}

impl Default for SeenShares {
    /// For a miner that shares its budget with nobody.
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl SeenShares {
    pub(crate) fn new(seen_budget: Arc<SeenBudget>) -> Self {
        Self { jobs: Vec::new(), len: 0, most: SHARES_MAX, seen_budget, lent: 0 }
    }

    /// Makes room for a miner that is expected to send `expected` shares in the life of its jobs.
    pub(crate) fn expect(&mut self, expected: usize) {
        let most = u32::try_from(expected).unwrap_or(u32::MAX).saturating_mul(EXPECTED_TIMES);
        self.most = most.clamp(SHARES_MAX, SHARES_MOST);
    }

    /// Remembers a share.
    pub(crate) fn insert(&mut self, job: JobId, hash: &Hash256, is_block: bool) -> DuplicateCheck {
        let at = self.jobs.iter().position(|(id, _)| *id == job).unwrap_or_else(|| {
            self.jobs.push((job, FxHashSet::default()));
            self.jobs.len() - 1
        });
        let shares = &mut self.jobs[at].1;
        let fingerprint = fingerprint(hash);
        if self.len < OWN + self.lent {
            let fresh = shares.insert(fingerprint);
            self.len += u32::from(fresh);
            return if fresh { DuplicateCheck::Fresh } else { DuplicateCheck::Before };
        }
        if shares.contains(&fingerprint) {
            return DuplicateCheck::Before;
        }
        if !self.make_room(is_block) {
            return DuplicateCheck::Full;
        }
        self.jobs[at].1.insert(fingerprint);
        self.len += 1;
        DuplicateCheck::Fresh
    }

    /// Forgets jobs for which `keep` returns false.
    pub(crate) fn retain(&mut self, keep: impl Fn(JobId) -> bool) {
        self.jobs.retain(|(id, _)| keep(*id));
        let len: usize = self.jobs.iter().map(|(_, shares)| shares.len()).sum();
        self.len = u32::try_from(len).unwrap_or(u32::MAX);
        let needed = self.len.saturating_sub(OWN).next_multiple_of(LOAN);
        if needed < self.lent {
            self.seen_budget.take_back(self.lent - needed);
            self.lent = needed;
        }
    }

    /// Makes room for one more. A block gets room where a share does not: it is rare, and worth
    /// more.
    fn make_room(&mut self, is_block: bool) -> bool {
        if self.len < self.most && self.seen_budget.lend() {
            self.lent += LOAN;
            return true;
        }
        is_block && self.len < OWN + self.lent + BLOCKS_MAX
    }
}

impl Drop for SeenShares {
    fn drop(&mut self) {
        self.seen_budget.take_back(self.lent);
    }
}

/// 64 of the hash's bits, from where no difficulty forces zeros.
fn fingerprint(hash: &Hash256) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    u64::from_le_bytes(bytes)
}

/// A miner at 8 shares a minute sends about 30 in the life of its jobs; room for these is
/// guaranteed, in about 5 KiB.
const OWN: u32 = 256;
/// What a busier miner takes from the budget at a time.
const LOAN: u32 = 1024;
/// All loans together: some 80 MiB.
const SEEN_BUDGET: u32 = 1 << 22;
/// The most that one miner may send in the life of its jobs, about 160 s: a hundred a second. Only
/// a miner whose difficulty cannot be raised comes near it.
const SHARES_MAX: u32 = 16_384;
/// The same where the operator wants more shares: this many times the wanted number,
const EXPECTED_TIMES: u32 = 16;
/// and at most this.
const SHARES_MOST: u32 = 1 << 20;
/// Room for blocks beyond all that; more than a test network has in the life of a job.
const BLOCKS_MAX: u32 = 4096;
