//! Shares in flight, whatever the protocol: what became of each, and whether a rejected one was
//! merely late.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{MinerStats, scan::Found};
use crate::work::Hash256;

/// The shares of one connection that are not accounted for yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// By the numbers under which they were sent, which are ascending.
    sent: BTreeMap<u64, Sent>,
    /// Stale shares that a clean job on another block may yet explain, oldest first.
    undecided: VecDeque<Undecided>,
}

/// A share that was sent.
#[derive(Debug)]
struct Sent {
    prevhash: Hash256,
    /// True as soon as a clean job on another block has been read.
    replaced: bool,
    difficulty: f64,
    at: Instant,
}

#[derive(Debug)]
struct Undecided {
    prevhash: Hash256,
    kind: String,
    until: Instant,
}

impl InFlight {
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < IN_FLIGHT_MAX
    }

    /// True if no share is waiting for an answer or an explanation.
    pub(super) fn is_settled(&self) -> bool {
        self.sent.is_empty() && self.undecided.is_empty()
    }

    pub(super) fn on_sent(
        &mut self,
        number: u64,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
    ) {
        let (prevhash, difficulty) = (found.work.job.prevhash, found.work.difficulty);
        self.sent.insert(number, Sent { prevhash, replaced: false, difficulty, at: now });
        stats.submitted += 1;
        stats.blocks_hint += u64::from(found.meets_nbits);
    }

    /// The share with this number was accepted. False: no such share is in flight.
    pub(super) fn on_accepted(
        &mut self,
        number: u64,
        now: Instant,
        stats: &mut MinerStats,
    ) -> bool {
        let Some(sent) = self.sent.remove(&number) else { return false };
        stats.add_latency(now.duration_since(sent.at));
        stats.accepted += 1;
        stats.accepted_difficulty += sent.difficulty;
        true
    }

    /// All up to this number that were not rejected were accepted. Returns how many.
    pub(super) fn on_accepted_up_to(
        &mut self,
        number: u64,
        now: Instant,
        stats: &mut MinerStats,
    ) -> u64 {
        let mut count = 0;
        while let Some(first) = self.sent.keys().next().copied().filter(|first| *first <= number) {
            count += u64::from(self.on_accepted(first, now, stats));
        }
        count
    }

    /// The share with this number was rejected; `stale`: the server calls it stale. False: no such
    /// share is in flight.
    pub(super) fn on_refused(
        &mut self,
        number: u64,
        kind: String,
        stale: bool,
        now: Instant,
        stats: &mut MinerStats,
    ) -> bool {
        let Some(sent) = self.sent.remove(&number) else { return false };
        stats.add_latency(now.duration_since(sent.at));
        match (stale, sent.replaced) {
            (true, true) => stats.late += 1,
            (true, false) => {
                let (prevhash, until) = (sent.prevhash, now + LATE_WAIT);
                self.undecided.push_back(Undecided { prevhash, kind, until });
            }
            (false, _) => stats.add_rejected(&kind),
        }
        true
    }

    /// A clean job on `prevhash` explains why shares on other blocks are stale.
    pub(super) fn on_clean(&mut self, prevhash: &Hash256, stats: &mut MinerStats) {
        for sent in self.sent.values_mut() {
            sent.replaced |= sent.prevhash != *prevhash;
        }
        let before = self.undecided.len();
        self.undecided.retain(|undecided| undecided.prevhash == *prevhash);
        stats.late += (before - self.undecided.len()) as u64;
    }

    /// When `on_deadline` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // They were sent in the order of their numbers.
        let oldest = self.sent.values().next().map(|sent| sent.at + ANSWER_TIMEOUT);
        let undecided = self.undecided.front().map(|undecided| undecided.until);
        [oldest, undecided].into_iter().flatten().min()
    }

    /// False: the server has left a share unanswered for too long.
    pub(super) fn on_deadline(&mut self, now: Instant, stats: &mut MinerStats) -> bool {
        while self.undecided.front().is_some_and(|first| first.until <= now) {
            if let Some(undecided) = self.undecided.pop_front() {
                stats.add_rejected(&undecided.kind);
            }
        }
        self.sent.values().next().is_none_or(|sent| now < sent.at + ANSWER_TIMEOUT)
    }

    /// Accounts for what is still open when the connection ends.
    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        stats.unanswered += std::mem::take(&mut self.sent).len() as u64;
        for undecided in self.undecided.drain(..) {
            stats.add_rejected(&undecided.kind);
        }
    }
}

/// Shares in flight; with more, hashing waits.
pub(super) const IN_FLIGHT_MAX: usize = 64;
/// After this much silence the connection counts as lost.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long after a stale share's rejection the clean job that explains it may come. A gateway
/// sends it within milliseconds; a busy machine may need seconds.
pub(super) const LATE_WAIT: Duration = Duration::from_secs(5);
