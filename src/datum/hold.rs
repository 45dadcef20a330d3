//! Shares that are held for their pool.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::work::Share;

/// A bounded queue, oldest first, that shares leave when they are sent or too old. Blocks have a
/// queue of their own, which is served first, so that no flood of shares can push one out.
#[derive(Debug)]
pub(super) struct Hold {
    blocks: VecDeque<Held>,
    shares: VecDeque<Held>,
    age_max: Duration,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) share: Share,
    pub(super) since: Instant,
    /// It was sent before, and its connection was lost before the answer.
    pub(super) replay: bool,
}

impl Hold {
    pub(super) fn new(age_max: Duration) -> Self {
        Self { blocks: VecDeque::new(), shares: VecDeque::new(), age_max }
    }

    pub(super) fn set_age_max(&mut self, age_max: Duration) {
        self.age_max = age_max;
    }

    /// Adds a share. Returns how many were dropped for it: the oldest of the miners that have the
    /// most here.
    pub(super) fn push(&mut self, share: Share, now: Instant) -> usize {
        let held = Held { share, since: now, replay: false };
        if held.share.is_block && self.blocks.len() < BLOCKS_MAX {
            self.blocks.push_back(held);
            return 0;
        }
        self.shares.push_back(held);
        self.shed()
    }

    /// Puts back shares that were sent but not answered, in front of all others.
    ///
    /// Returns how many shares were dropped.
    pub(super) fn put_back(&mut self, shares: impl DoubleEndedIterator<Item = Held>) -> usize {
        for held in shares.rev() {
            let is_block = held.share.is_block && self.blocks.len() < BLOCKS_MAX;
            let queue = if is_block { &mut self.blocks } else { &mut self.shares };
            queue.push_front(held);
        }
        self.shed()
    }

    /// Makes room if there is too much: every miner may keep the same number of shares, as many as
    /// then fit. Returns how many were dropped.
    fn shed(&mut self) -> usize {
        if self.shares.len() <= SHARES_MAX {
            return 0;
        }
        let mut counts = FxHashMap::<u64, usize>::default();
        for held in &self.shares {
            *counts.entry(held.share.miner).or_default() += 1;
        }
        let level = level(counts.values().copied().collect(), SHARES_KEPT);
        let before = self.shares.len();
        self.shares.retain(|held| {
            let Some(count) = counts.get_mut(&held.share.miner).filter(|count| **count > level)
            else {
                return true;
            };
            *count -= 1;
            false
        });
        before - self.shares.len()
    }

    pub(super) fn front(&self) -> Option<&Share> {
        self.blocks.front().or_else(|| self.shares.front()).map(|held| &held.share)
    }

    pub(super) fn pop(&mut self) -> Option<Held> {
        self.blocks.pop_front().or_else(|| self.shares.pop_front())
    }

    /// Drops shares that have waited for too long; returns their number.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let block_age_max = self.block_age_max();
        expire(&mut self.blocks, block_age_max, now) + expire(&mut self.shares, self.age_max, now)
    }

    /// When the oldest share will be too old.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let blocks = self.blocks.front().map(|held| held.since + self.block_age_max());
        let shares = self.shares.front().map(|held| held.since + self.age_max);
        blocks.into_iter().chain(shares).min()
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len() + self.shares.len()
    }

    /// Drops everything; returns the number of shares.
    pub(super) fn clear(&mut self) -> usize {
        let count = self.len();
        self.blocks.clear();
        self.shares.clear();
        count
    }

    /// Drops all shares that are not blocks. Returns how many of them had been sent before, and how
    /// many had not.
    pub(super) fn clear_shares(&mut self) -> (usize, usize) {
        let sent = self.shares.iter().filter(|held| held.replay).count();
        let count = self.shares.len();
        self.shares.clear();
        (sent, count - sent)
    }

    fn block_age_max(&self) -> Duration {
        self.age_max.max(BLOCK_AGE)
    }
}

/// The most that each may have so that all together fit into `room`.
fn level(mut counts: Vec<usize>, mut room: usize) -> usize {
    counts.sort_unstable();
    let mut left = counts.len();
    for count in counts {
        if count * left > room {
            return room / left;
        }
        room -= count;
        left -= 1;
    }
    usize::MAX
}

fn expire(queue: &mut VecDeque<Held>, age_max: Duration, now: Instant) -> usize {
    let old = |held: &&Held| now.saturating_duration_since(held.since) >= age_max;
    let count = queue.iter().take_while(old).count();
    queue.drain(..count);
    count
}

/// Two minutes of 4,000 miners at 8 shares a minute; about 13 MB.
const SHARES_MAX: usize = 65_536;
/// How many are left after there were too many: choosing which to drop takes a while, so it is done
/// rarely.
const SHARES_KEPT: usize = SHARES_MAX - SHARES_MAX / 16;
/// More than anybody finds while a pool is away, except on test networks: there the rest are
/// treated as shares. Each may keep a template of megabytes in memory.
const BLOCKS_MAX: usize = 64;
/// A pool that comes back within this time is told of the blocks found on its work.
const BLOCK_AGE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_may_have_as_much_as_fits_when_all_may() {
        assert_eq!(level(vec![1, 2, 3], 6), usize::MAX);
        assert_eq!(level(vec![100, 1, 2], 10), 7);
        assert_eq!(level(vec![100, 100, 2], 10), 4);
        assert_eq!(level(vec![], 10), usize::MAX);
    }
}
