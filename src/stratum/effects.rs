//! What a miner's messages lead to, besides the answers.

use crate::{
    books::{Counters, MinerProtocol},
    work::{FoundBlock, Reject, Share},
};

/// Collected over one read, then acted on by the connection, blocks first. Owned by the caller and
/// reused.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the nodes, before anything else.
    pub blocks: Vec<Box<FoundBlock>>,
    /// Accepted; for the pool, after the replies.
    pub shares: Vec<Share>,
    pub tally: Tally,
    /// Where frames are put together before they are sealed.
    pub(crate) frames: Vec<u8>,
    /// Where coinbases are put together for hashing.
    pub(crate) scratch: Vec<u8>,
    /// The turn ended before everything received was handled.
    pub is_cut: bool,
}

/// How much a connection may handle before it is others' turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TurnBudget {
    messages: u32,
}

impl TurnBudget {
    /// Whether another message may be handled after answers of `said` bytes.
    pub(crate) fn goes_on(&mut self, said: usize) -> bool {
        self.messages += 1;
        self.messages <= MESSAGES_MAX && said < SAID_MAX
    }
}

/// What goes to the counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    shares: [ShareTally; MinerProtocol::ALL.len()],
    pub(crate) blocks: u64,
    /// Shares that name their worker in a way that cannot be read.
    pub(crate) nameless: u64,
    /// Refused for something that no working miner does.
    bad: u32,
}

/// What goes to the counters of one protocol.
#[derive(Clone, Debug, Default, PartialEq)]
struct ShareTally {
    accepted: u64,
    /// Σ credited difficulty.
    difficulty: f64,
    rejected: [u32; Reject::ALL.len()],
    /// Σ difficulty that the refused shares had to meet.
    rejected_difficulty: f64,
    rejected_any: bool,
}

impl Tally {
    pub(crate) fn accept(&mut self, protocol: MinerProtocol, difficulty: f64) {
        let tally = &mut self.shares[protocol as usize];
        tally.accepted += 1;
        tally.difficulty += difficulty;
    }

    /// `difficulty` is what the share had to meet; 0 if unknown.
    pub(crate) fn reject(&mut self, protocol: MinerProtocol, reject: Reject, difficulty: f64) {
        let tally = &mut self.shares[protocol as usize];
        tally.rejected_difficulty += difficulty;
        tally.rejected[reject as usize] += 1;
        tally.rejected_any = true;
        self.bad += u32::from(reject.is_bad());
    }

    pub fn accepted(&self) -> u64 {
        self.shares.iter().map(|tally| tally.accepted).sum()
    }

    /// Σ credited difficulty.
    #[cfg(test)]
    pub(crate) fn difficulty(&self) -> f64 {
        self.shares.iter().map(|tally| tally.difficulty).sum()
    }

    pub(crate) fn bad(&self) -> u32 {
        self.bad
    }

    #[cfg(test)]
    pub(crate) fn rejected(&self, reject: Reject) -> u32 {
        self.shares.iter().map(|tally| tally.rejected[reject as usize]).sum()
    }

    /// True when there was at least one submit.
    pub(crate) fn has_any(&self) -> bool {
        self.shares.iter().any(|tally| tally.accepted > 0 || tally.rejected_any)
    }

    /// Adds everything to `counters` and starts again.
    pub(crate) fn settle(&mut self, counters: &Counters) {
        for (protocol, tally) in MinerProtocol::ALL.into_iter().zip(&mut self.shares) {
            if tally.accepted > 0 {
                counters.add_accepted(protocol, tally.accepted, tally.difficulty);
                (tally.accepted, tally.difficulty) = (0, 0.0);
            }
            if tally.rejected_any {
                counters.add_rejected_difficulty(protocol, tally.rejected_difficulty);
                for (reject, count) in Reject::ALL.into_iter().zip(tally.rejected) {
                    if count > 0 {
                        counters.add_rejected(protocol, reject, u64::from(count));
                    }
                }
                *tally = ShareTally::default();
            }
        }
        self.bad = 0;
        for _ in 0..std::mem::take(&mut self.blocks) {
            counters.add_block();
        }
        if self.nameless > 0 {
            counters.add_nameless(std::mem::take(&mut self.nameless));
        }
    }
}

/// A tenth of a millisecond of empty lines, half a millisecond of shares.
const MESSAGES_MAX: u32 = 128;
/// Answers to shares are far shorter. A single message, such as a large job, may exceed it.
const SAID_MAX: usize = 32_768;
