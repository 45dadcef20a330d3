//! Decides which found blocks are submitted now, and which wait. Pure.
//!
//! On a real network there is one a year. Where any share is a block (on regtest, or with a node
//! that lies about the target), hundreds come at once, with megabytes each: a few are submitted at
//! a time, those with the hardest target first, then the highest; the others wait. A better one
//! never waits for a worse one.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::work::{Nbits, Target};

/// A block's rank: lower goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank {
    target: Target,
    height: Reverse<u32>,
    /// Among equals, the first goes first.
    number: u64,
}

/// Waiting blocks, as `W`, and handles of those being submitted.
#[derive(Debug)]
pub(super) struct BlockQueue<W, F> {
    waiting: BTreeMap<Rank, W>,
    flying: BTreeMap<Rank, F>,
    count: u64,
}

impl<W, F> Default for BlockQueue<W, F> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), flying: BTreeMap::new(), count: 0 }
    }
}

impl<W, F> BlockQueue<W, F> {
    /// Adds a block; returns the one that there is no room for any more, if any.
    pub(super) fn add(&mut self, bits: Nbits, height: u32, block: W) -> Option<W> {
        self.count += 1;
        let rank = Rank { target: bits.target(), height: Reverse(height), number: self.count };
        self.waiting.insert(rank, block);
        let is_over = self.waiting.len() > WAITING_MAX;
        is_over.then(|| self.waiting.pop_last()).flatten().map(|(_, worst)| worst)
    }

    /// The next block to submit, if there is room, and which one it displaces: first one that
    /// `is_done`, then a worse one.
    pub(super) fn next(&mut self, is_done: impl Fn(&F) -> bool) -> Option<(Rank, W, Option<F>)> {
        let (best, _) = self.waiting.first_key_value()?;
        let displaced = if self.flying.len() < FLYING_MAX {
            None
        } else {
            let done = self.flying.iter().find(|(_, flight)| is_done(flight));
            let worst = self.flying.last_key_value().filter(|(worst, _)| best < *worst);
            Some(*done.or(worst)?.0)
        };
        let displaced = displaced.and_then(|rank| self.flying.remove(&rank));
        let (rank, block) = self.waiting.pop_first()?;
        Some((rank, block, displaced))
    }

    pub(super) fn set_out(&mut self, rank: Rank, flight: F) {
        self.flying.insert(rank, flight);
    }

    /// A block's submission has ended.
    pub(super) fn arrived(&mut self, rank: &Rank) {
        self.flying.remove(rank);
    }
}

/// Blocks being submitted at once: each has up to 8 MB as hex, and every node gets up to four
/// calls.
const FLYING_MAX: usize = 8;
/// Each is a job and a coinbase of at most 16 kB. Nobody can submit more than these before the tip
/// has moved on.
const WAITING_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const EASY: u32 = 0x207f_ffff;
    const HARD: u32 = 0x1702_1fff;

    fn bits(bits: u32) -> Nbits {
        Nbits::new(bits).unwrap()
    }

    /// Sets out all that may; gives their names, and those of the displaced.
    fn pump(line: &mut BlockQueue<u32, u32>) -> (Vec<u32>, Vec<u32>) {
        let (mut out, mut displaced) = (Vec::new(), Vec::new());
        while let Some((rank, block, other)) = line.next(|flight| flight % 2 == 1) {
            line.set_out(rank, block);
            out.push(block);
            displaced.extend(other);
        }
        (out, displaced)
    }

    #[test]
    fn a_real_block_passes_three_hundred_easy_ones() {
        let mut line = BlockQueue::default();
        for block in 0..300 {
            assert_eq!(line.add(bits(EASY), 900_000, 2 * block), None);
        }
        let (out, displaced) = pump(&mut line);
        assert_eq!((out, displaced), ((0..8).map(|it| 2 * it).collect(), Vec::new()));
        // None of the eight ever ends.
        line.add(bits(HARD), 850_000, 1000);
        assert_eq!(pump(&mut line), (vec![1000], vec![14]));
        assert_eq!(line.flying.len(), FLYING_MAX);
        assert_eq!(line.waiting.len(), 292);
    }

    #[test]
    fn of_blocks_with_one_target_the_highest_goes_first() {
        let mut line = BlockQueue::default();
        for height in [5, 7, 6, 7] {
            line.add(bits(EASY), height, 2 * height);
        }
        assert_eq!(pump(&mut line).0, [14, 14, 12, 10]);
        for _ in 0..4 {
            line.add(bits(EASY), 6, 20);
        }
        pump(&mut line);
        // No better than those on their way: it waits.
        line.add(bits(EASY), 5, 30);
        assert_eq!(pump(&mut line), (vec![], vec![]));
        line.add(bits(EASY), 8, 40);
        assert_eq!(pump(&mut line), (vec![40], vec![10]));
    }

    #[test]
    fn a_block_that_a_node_has_makes_room() {
        let mut line = BlockQueue::default();
        for block in [0, 0, 0, 1, 0, 0, 0, 0, 2] {
            line.add(bits(EASY), 5, block);
        }
        assert_eq!(pump(&mut line), (vec![0, 0, 0, 1, 0, 0, 0, 0, 2], vec![1]));
    }

    #[test]
    fn what_waits_is_bounded_and_the_worst_goes() {
        let mut line: BlockQueue<u32, u32> = BlockQueue::default();
        let lost = (0..3000).filter_map(|block| line.add(bits(EASY), 10 + block, block)).count();
        assert_eq!(lost, 3000 - WAITING_MAX);
        assert_eq!(line.next(|_| false).map(|(_, block, _)| block), Some(2999));
        assert_eq!(line.waiting.last_key_value().map(|it| *it.1), Some(3000 - 1024));
    }

    /// An invented load, in no order that anybody chose; each step is checked.
    #[test]
    fn the_best_go_first_and_none_is_lost_but_the_worst_whatever_comes() {
        let mut lost = 0;
        for seed in 0..25 {
            let mut walk = Walk::new(seed);
            walk.run(2500);
            lost += walk.lost;
        }
        assert!(lost > 0, "the line was never full");
    }

    /// A line, and what is known of it: blocks by number, with target and height.
    struct Walk {
        rng: StdRng,
        line: BlockQueue<u32, u32>,
        added: Vec<(Target, Reverse<u32>)>,
        waiting: BTreeSet<u32>,
        flying: BTreeMap<u32, Rank>,
        /// Those whose way goes on though a node has the block.
        done: BTreeSet<u32>,
        lost: usize,
    }

    impl Walk {
        fn new(seed: u64) -> Self {
            Self {
                rng: StdRng::seed_from_u64(seed),
                line: BlockQueue::default(),
                added: Vec::new(),
                waiting: BTreeSet::new(),
                flying: BTreeMap::new(),
                done: BTreeSet::new(),
                lost: 0,
            }
        }

        fn run(&mut self, steps: usize) {
            let busy = self.rng.gen_range(1..6);
            for _ in 0..steps {
                match self.rng.gen_range(0..6) {
                    it if it < busy => self.add(),
                    5 => self.arrive(),
                    _ => self.finish(),
                }
                if self.rng.gen_bool(0.7) {
                    self.pump();
                }
                assert!(self.flying.len() <= FLYING_MAX && self.waiting.len() <= WAITING_MAX);
                assert_eq!(self.line.flying.len(), self.flying.len());
                assert_eq!(self.line.waiting.len(), self.waiting.len());
            }
        }

        fn key(&self, block: u32) -> (Target, Reverse<u32>, u32) {
            let (target, height) = self.added[block as usize];
            (target, height, block)
        }

        fn worst(&self, of: impl Iterator<Item = u32>) -> u32 {
            of.max_by_key(|block| self.key(*block)).unwrap()
        }

        fn add(&mut self) {
            let bits = bits([EASY, EASY, 0x1d00_ffff, HARD][self.rng.gen_range(0..4)]);
            let (height, block) = (self.rng.gen_range(1..40), self.added.len().try_into().unwrap());
            self.added.push((bits.target(), Reverse(height)));
            self.waiting.insert(block);
            let over = self.line.add(bits, height, block);
            assert_eq!(over.is_some(), self.waiting.len() > WAITING_MAX);
            if let Some(over) = over {
                assert_eq!(over, self.worst(self.waiting.iter().copied()));
                self.waiting.remove(&over);
                self.lost += 1;
            }
        }

        fn pump(&mut self) {
            loop {
                let (done, is_full) = (self.done.clone(), self.flying.len() == FLYING_MAX);
                let Some((rank, block, displaced)) = self.line.next(|it| done.contains(it)) else {
                    break;
                };
                let best = self.waiting.iter().copied().min_by_key(|it| self.key(*it));
                assert_eq!(Some(block), best, "the best goes first");
                assert_eq!(displaced.is_some(), is_full, "nobody gives way without need");
                if let Some(displaced) = displaced {
                    let worst = self.worst(self.flying.keys().copied());
                    let is_worse = displaced == worst && self.key(worst) > self.key(block);
                    assert!(done.contains(&displaced) || is_worse && done.is_empty());
                    self.done.remove(&displaced);
                    self.flying.remove(&displaced);
                }
                self.waiting.remove(&block);
                self.line.set_out(rank, block);
                self.flying.insert(block, rank);
            }
            let waits = self.waiting.iter().copied().min_by_key(|it| self.key(*it));
            if let Some(best) = waits {
                assert_eq!(self.flying.len(), FLYING_MAX, "one waits, and there is room");
                let worst = self.worst(self.flying.keys().copied());
                assert!(self.key(worst) < self.key(best), "a better one waits for a worse");
            }
        }

        fn any_flying(&mut self) -> Option<u32> {
            let at = self.rng.gen_range(0..self.flying.len().max(1));
            self.flying.keys().nth(at).copied()
        }

        fn arrive(&mut self) {
            if let Some(block) = self.any_flying() {
                self.line.arrived(&self.flying.remove(&block).unwrap());
                self.done.remove(&block);
            }
        }

        fn finish(&mut self) {
            if let Some(block) = self.any_flying() {
                self.done.insert(block);
            }
        }
    }
}
