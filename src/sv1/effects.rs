//! What lines from a miner lead to, beside the answers.

use crate::work::{Counters, FoundBlock, Reject, Share};

/// Collected over the lines of one read and acted on by the connection, blocks first. Owned by
/// the caller and reused.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the nodes, before anything else.
    pub blocks: Vec<Box<FoundBlock>>,
    /// Accepted; for the pool, after the replies.
    pub shares: Vec<Share>,
    pub tally: Tally,
    /// Where coinbases are put together for hashing.
    pub(super) scratch: Vec<u8>,
}

/// What goes to the counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    pub accepted: u64,
    /// Σ credited difficulty.
    pub difficulty: f64,
    pub blocks: u64,
    rejected: [u32; Reject::ALL.len()],
    rejected_any: bool,
}

impl Tally {
    pub(super) fn accept(&mut self, difficulty: f64) {
        self.accepted += 1;
        self.difficulty += difficulty;
    }

    pub(super) fn reject(&mut self, reject: Reject) {
        self.rejected[reject as usize] += 1;
        self.rejected_any = true;
    }

    pub fn rejected(&self, reject: Reject) -> u32 {
        self.rejected[reject as usize]
    }

    /// Adds everything to `counters` and starts again.
    pub fn settle(&mut self, counters: &Counters) {
        if self.accepted > 0 {
            counters.add_accepted(self.accepted, self.difficulty);
        }
        for _ in 0..self.blocks {
            counters.add_block();
        }
        if self.rejected_any {
            for (reject, count) in Reject::ALL.into_iter().zip(self.rejected) {
                if count > 0 {
                    counters.add_rejected(reject, u64::from(count));
                }
            }
        }
        *self = Self::default();
    }
}
