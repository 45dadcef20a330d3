//! What happened in a run, and what was checked.

use std::{collections::BTreeMap, fmt};

/// Counts of a run, or of several.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub events: u64,
    pub tips: u64,
    pub works: u64,
    pub accepted: u64,
    pub refused: u64,
    pub blocks: u64,
    pub blocks_accepted: u64,
    pub pool_accepted: u64,
    pub pool_unanswered: u64,
    pub lost: u64,
    pub connections: u64,
    pub restarts: u64,
    pub troubles: u64,
    pub takeovers: u64,
    pub jobs_alive_max: usize,
    /// What went wrong, and how often.
    pub mishaps: BTreeMap<&'static str, u64>,
    checks: [u64; Promise::ALL.len()],
}

/// What always holds according to ARCHITECTURE.md, as far as it can be checked here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Promise {
    Accounts,
    Answers,
    Blocks,
    Tip,
    Ids,
    Splits,
    Pool,
    Bounds,
    Deadlines,
    Honest,
    Calm,
}

impl Promise {
    const ALL: [Self; 11] = [
        Self::Accounts,
        Self::Answers,
        Self::Blocks,
        Self::Tip,
        Self::Ids,
        Self::Splits,
        Self::Pool,
        Self::Bounds,
        Self::Deadlines,
        Self::Honest,
        Self::Calm,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Accounts => {
                "each share handed over is accepted, refused, unanswered, lost, held or awaited, and \
                 a pool has all that are called accepted (after each step)"
            }
            Self::Answers => {
                "each submit is answered once, in order, and as a model of its own expects; a share \
                 goes to the pool if and only if it was accepted or is a block (each answer)"
            }
            Self::Blocks => {
                "no block is lost or submitted without proof of work, with another merkle root or \
                 height, or paying more or less than all (each block)"
            }
            Self::Tip => "each miner that is told of work mines on its tip (each piece of work)",
            Self::Ids => {
                "publications are numbered without a gap, job ids are unique, and a published job \
                 never changes (each publication)"
            }
            Self::Splits => {
                "no split is used for another tip or value, and open admission never gives \
                 work that nobody pays for (each publication)"
            }
            Self::Pool => {
                "a strict pool rejects nothing except through faults of its own, and no spot check \
                 fails (each message to it)"
            }
            Self::Bounds => "jobs alive, shares held and awaited stay bounded (each 64th step)",
            Self::Deadlines => "every deadline passes (each deadline)",
            Self::Honest => "no honest miner is sent away (each close)",
            Self::Calm => {
                "when mishaps end, admission is open, all miners are served and the pool has its \
                 shares (end of each run)"
            }
        }
    }
}

impl Tally {
    pub fn checked(&mut self, promise: Promise) {
        self.checks[promise as usize] += 1;
    }

    pub fn mishap(&mut self, what: &'static str) {
        *self.mishaps.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.events, other.events),
            (&mut self.tips, other.tips),
            (&mut self.works, other.works),
            (&mut self.accepted, other.accepted),
            (&mut self.refused, other.refused),
            (&mut self.blocks, other.blocks),
            (&mut self.blocks_accepted, other.blocks_accepted),
            (&mut self.pool_accepted, other.pool_accepted),
            (&mut self.pool_unanswered, other.pool_unanswered),
            (&mut self.lost, other.lost),
            (&mut self.connections, other.connections),
            (&mut self.restarts, other.restarts),
            (&mut self.troubles, other.troubles),
            (&mut self.takeovers, other.takeovers),
        ];
        pairs.into_iter().for_each(|(sum, more)| *sum += more);
        self.jobs_alive_max = self.jobs_alive_max.max(other.jobs_alive_max);
        for (what, count) in &other.mishaps {
            *self.mishaps.entry(what).or_default() += count;
        }
        self.checks.iter_mut().zip(other.checks).for_each(|(sum, more)| *sum += more);
    }
}

/// For whoever reads the log.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} steps, {} tips, {} publications, {} connections, {} restarts, {} changes of pool",
            self.events, self.tips, self.works, self.connections, self.restarts, self.takeovers
        )?;
        writeln!(
            f,
            "shares: {} accepted, {} refused; of the pool's {} accepted, {} unanswered, {} lost and \
             counted; blocks: {} found, {} accepted; {} jobs alive at the most",
            self.accepted,
            self.refused,
            self.pool_accepted,
            self.pool_unanswered,
            self.lost,
            self.blocks,
            self.blocks_accepted,
            self.jobs_alive_max
        )?;
        writeln!(f, "mishaps:")?;
        for (what, count) in &self.mishaps {
            writeln!(f, "  {count:>9}  {what}")?;
        }
        writeln!(f, "invariants, and how often each was checked:")?;
        for promise in Promise::ALL {
            writeln!(f, "  {:>12}  {}", self.checks[promise as usize], promise.text())?;
        }
        Ok(())
    }
}
