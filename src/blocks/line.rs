//! Which found blocks are on their way, and which wait. Pure.
//!
//! On a real network there is one a year. Where any share is a block (a regtest, or a node that lies
//! about the target) hundreds come at once, and each has megabytes: a few are on their way, those
//! with the hardest target first, then the highest; the others wait. A better one waits for nobody.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::work::{Nbits, Target};

/// A block's place among others: the lesser goes first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Rank {
    target: Target,
    height: Reverse<u32>,
    /// Of several alike, the first counts.
    number: u64,
}

/// Blocks that wait, as `W`, and handles of those on their way.
#[derive(Debug)]
pub(super) struct Line<W, F> {
    waiting: BTreeMap<Rank, W>,
    flying: BTreeMap<Rank, F>,
    count: u64,
}

impl<W, F> Default for Line<W, F> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), flying: BTreeMap::new(), count: 0 }
    }
}

impl<W, F> Line<W, F> {
    /// Takes a block in; gives the one that there is no room for any more, if any.
    pub(super) fn add(&mut self, bits: Nbits, height: u32, block: W) -> Option<W> {
        self.count += 1;
        let rank = Rank { target: bits.target(), height: Reverse(height), number: self.count };
        self.waiting.insert(rank, block);
        let is_over = self.waiting.len() > WAITING_MAX;
        is_over.then(|| self.waiting.pop_last()).flatten().map(|(_, worst)| worst)
    }

    /// The next block to set out, if one may, and whom it displaces: first one that `is_done`, then
    /// one that is worse.
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

    /// A block's way is over.
    pub(super) fn arrived(&mut self, rank: &Rank) {
        self.flying.remove(rank);
    }
}

/// Blocks on their way at once: as hex each has up to 8 MB, and every node up to four calls.
const FLYING_MAX: usize = 8;
/// Each is a job and a coinbase of at most 16 kB. More than these nobody can submit before the tip
/// has moved on.
const WAITING_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const EASY: u32 = 0x207f_ffff;
    const HARD: u32 = 0x1702_1fff;

    fn bits(bits: u32) -> Nbits {
        Nbits::new(bits).unwrap()
    }

    /// Sets out all that may; gives their names, and those of the displaced.
    fn pump(line: &mut Line<u32, u32>) -> (Vec<u32>, Vec<u32>) {
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
        let mut line = Line::default();
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
        let mut line = Line::default();
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
        let mut line = Line::default();
        for block in [0, 0, 0, 1, 0, 0, 0, 0, 2] {
            line.add(bits(EASY), 5, block);
        }
        assert_eq!(pump(&mut line), (vec![0, 0, 0, 1, 0, 0, 0, 0, 2], vec![1]));
    }

    #[test]
    fn what_waits_is_bounded_and_the_worst_goes() {
        let mut line: Line<u32, u32> = Line::default();
        let lost = (0..3000).filter_map(|block| line.add(bits(EASY), 10 + block, block)).count();
        assert_eq!(lost, 3000 - WAITING_MAX);
        assert_eq!(line.next(|_| false).map(|(_, block, _)| block), Some(2999));
        assert_eq!(line.waiting.last_key_value().map(|it| *it.1), Some(3000 - 1024));
    }
}
