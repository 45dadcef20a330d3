//! Which shares a connection has already sent.

use rustc_hash::FxHashSet;

use crate::work::{Hash256, JobId};

/// Share hashes of the jobs that still count, owned by one connection (extranonce1 is unique, so
/// nobody else can repeat its shares).
#[derive(Debug, Default)]
pub struct SeenShares {
    /// Oldest first.
    jobs: Vec<(JobId, FxHashSet<u64>)>,
    len: usize,
}

impl SeenShares {
    /// Remembers a share; false when it was there already.
    pub fn insert(&mut self, job: JobId, hash: &Hash256) -> bool {
        let at = self.jobs.iter().position(|(id, _)| *id == job).unwrap_or_else(|| {
            self.jobs.push((job, FxHashSet::default()));
            self.jobs.len() - 1
        });
        let fresh = self.jobs[at].1.insert(fingerprint(hash));
        self.len += usize::from(fresh);
        if self.len > SHARES_MAX {
            self.shed(job);
        }
        fresh
    }

    /// Forgets jobs that `keep` says no to.
    pub fn retain(&mut self, keep: impl Fn(JobId) -> bool) {
        self.jobs.retain(|(id, _)| keep(*id));
        self.len = self.jobs.iter().map(|(_, shares)| shares.len()).sum();
    }

    /// Makes room: the oldest other job goes whole, else this one starts afresh. The pool has its
    /// own duplicate check, so the price of forgetting is a reject there.
    fn shed(&mut self, current: JobId) {
        let at = self.jobs.iter().position(|(id, _)| *id != current).unwrap_or(0);
        self.jobs.remove(at);
        self.len = self.jobs.iter().map(|(_, shares)| shares.len()).sum();
    }
}

/// 64 of the hash's bits, from where no difficulty makes zeros.
fn fingerprint(hash: &Hash256) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    u64::from_le_bytes(bytes)
}

/// A miner at 8 shares a minute sends about 32 in the life of its jobs; this bounds a flood to
/// about 300 KiB.
const SHARES_MAX: usize = 16_384;
