//! The difficulty that one miner may have: the operator's rules, those of its class, and what it
//! asks for.

use std::time::Instant;

use super::Config;
use crate::{
    books::client_mistakes::ClientMistake,
    work::{
        Difficulty, Work,
        vardiff::{Vardiff, VardiffConfig},
    },
};

/// What sets one miner's difficulty apart from the others'. Owned by its session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct DifficultyTerms {
    /// The minimum for its class.
    pub(crate) class_floor: Option<Difficulty>,
    /// The minimum that it says it needs.
    pub(crate) own_floor: Option<Difficulty>,
    /// What its owner asked for.
    pub(crate) asked: Option<RequestedDifficulty>,
    /// `stratum.worker_difficulty`: the operator's last word, except in a flood.
    pub(crate) set: Option<Difficulty>,
    /// The minimum for a fixed difficulty, because the miner would flood the gateway below it.
    pub(crate) lift: Option<Difficulty>,
}

impl DifficultyTerms {
    /// Sets what is wanted now. A different request gets another chance.
    pub(crate) fn want(&mut self, set: Option<Difficulty>, asked: Option<RequestedDifficulty>) {
        if (self.set, self.asked) != (set, asked) {
            (self.set, self.asked, self.lift) = (set, asked, None);
        }
    }
}

/// A difficulty that was asked for with the login.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RequestedDifficulty {
    /// To start with, and never less.
    AtLeast(Difficulty),
    /// Always.
    Fixed(Difficulty),
}

impl RequestedDifficulty {
    pub(crate) fn difficulty(self) -> Difficulty {
        match self {
            Self::AtLeast(difficulty) | Self::Fixed(difficulty) => difficulty,
        }
    }
}

impl Config {
    /// The rules for vardiff under this work, for a miner with these terms.
    ///
    /// Whatever anybody wants, a miner is never asked for more than a block takes: it would not
    /// send the block. Only a pool's floor, below which the pool accepts nothing, and the miner's
    /// own minimum come before that.
    pub(crate) fn vardiff_rules(&self, work: &Work, terms: &DifficultyTerms) -> VardiffConfig {
        let pooled = work.latest().payout.pooled.as_ref();
        // 0: the pool sets none. Powers of two are exact in an f64.
        let pool_floor = pooled.and_then(|terms| Difficulty::new(terms.min_difficulty as f64));
        let block = block_difficulty(work);
        let most = self.difficulty_max.map_or(block, |max| max.min(block));
        let least = terms.class_floor.map_or(self.difficulty_min, |it| it.max(self.difficulty_min));
        let lifted = |fixed: Difficulty| terms.lift.map_or(fixed, |lift| fixed.max(lift));
        let (floor, ceiling) = match (terms.set, terms.asked) {
            (Some(set), _) => {
                let fixed = lifted(set).min(block);
                (fixed, fixed)
            }
            (None, Some(RequestedDifficulty::Fixed(asked))) => {
                let fixed = lifted(asked.max(least)).min(most);
                (fixed, fixed)
            }
            (None, Some(RequestedDifficulty::AtLeast(asked))) => (asked.max(least).min(most), most),
            (None, None) => (least.min(most), most),
        };
        let hard = [pool_floor, terms.own_floor].into_iter().flatten().reduce(Difficulty::max);
        let (floor, mut ceiling) =
            hard.map_or((floor, ceiling), |hard| (floor.max(hard), ceiling.max(hard)));
        // Rounded like vardiff: firmware truncates fractions, and a pool credits powers of two.
        let is_pooled = pooled.is_some();
        let below = if is_pooled { ceiling.floor_pow2() } else { ceiling.floor_whole() };
        ceiling = match hard.filter(|hard| below < *hard) {
            None => below,
            Some(hard) if is_pooled => hard.ceil_pow2(),
            Some(hard) => hard.ceil_whole(),
        };
        let floor = floor.min(ceiling);
        VardiffConfig {
            floor,
            start: terms.asked.map_or(self.difficulty_start, RequestedDifficulty::difficulty),
            ceiling: Some(ceiling),
            shares_per_minute: self.shares_per_minute,
            powers_of_two: is_pooled,
        }
    }

    /// Raises a fixed difficulty at which its miner floods the gateway, to `enough` if the rules allow
    /// that. None when they do not.
    pub(crate) fn lift(
        &self,
        terms: &mut DifficultyTerms,
        vardiff: &mut Vardiff,
        enough: Difficulty,
        work: &Work,
        now: Instant,
    ) -> Option<ClientMistake> {
        let fixed = vardiff.difficulty();
        terms.lift = Some(terms.lift.map_or(enough, |lift| lift.max(enough)));
        vardiff.configure(self.vardiff_rules(work, terms), now);
        let raised = vardiff.difficulty();
        let each_s = enough.get() / fixed.get();
        let is_set = terms.set.is_some();
        (raised > fixed).then_some(ClientMistake::Flood { fixed, raised, each_s, is_set })
    }

    /// What the operator has set for the worker with this name.
    pub(crate) fn difficulty_of(&self, worker: &str) -> Option<Difficulty> {
        self.worker_difficulty.get(worker).copied()
    }
}

/// The most that a miner may be asked for. Only regtest is below 1; there blocks are found at will,
/// and the floor keeps a miner from flooding the node with them.
pub(crate) fn block_difficulty(work: &Work) -> Difficulty {
    let block = work.latest().template.nbits.target().difficulty();
    // A share's target must not end up below the block's through rounding.
    let most = Difficulty::new(block * (1.0 - f64::EPSILON));
    most.map_or(Difficulty::ONE, |most| most.max(Difficulty::ONE))
}

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;
