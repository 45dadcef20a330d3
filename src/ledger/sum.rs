//! Sums of shares.

use crate::{
    books::{CountersView, ScoreView},
    work::Reject,
};

/// How many shares, and their difficulty: at some moment, in a minute, or in total.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sum {
    pub(super) accepted: u64,
    /// Σ credited difficulty.
    pub(super) difficulty: f64,
    pub(super) rejected: [u64; Reject::ALL.len()],
    pub(super) blocks: u64,
}

impl Sum {
    /// Both together.
    pub(super) fn plus(&self, other: &Self) -> Self {
        Self {
            accepted: self.accepted.saturating_add(other.accepted),
            difficulty: self.difficulty + other.difficulty,
            rejected: std::array::from_fn(|at| {
                self.rejected[at].saturating_add(other.rejected[at])
            }),
            blocks: self.blocks.saturating_add(other.blocks),
        }
    }

    /// What was added since `before`, an earlier sum of the same counters.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(before.accepted),
            difficulty: (self.difficulty - before.difficulty).max(0.0),
            rejected: std::array::from_fn(|at| {
                self.rejected[at].saturating_sub(before.rejected[at])
            }),
            blocks: self.blocks.saturating_sub(before.blocks),
        }
    }

    /// The reasons that occurred, with their counts.
    pub(super) fn rejects(&self) -> impl Iterator<Item = (Reject, u64)> {
        Reject::ALL.into_iter().zip(self.rejected).filter(|(_, shares)| *shares > 0)
    }

    /// The reasons as the database keeps them: `duplicate=3 stale-work=1`.
    pub(super) fn rejects_text(&self) -> String {
        let parts: Vec<_> =
            self.rejects().map(|(reject, shares)| format!("{reject}={shares}")).collect();
        parts.join(" ")
    }

    /// Parses [`Self::rejects_text`]. Reasons that this version does not know are left out.
    pub(super) fn set_rejects(&mut self, text: &str) {
        for (name, shares) in text.split(' ').filter_map(|part| part.split_once('=')) {
            let reject = Reject::ALL.into_iter().find(|reject| reject.to_string() == name);
            if let (Some(reject), Ok(shares)) = (reject, shares.parse()) {
                self.rejected[reject as usize] = shares;
            }
        }
    }
}

impl From<&ScoreView> for Sum {
    fn from(view: &ScoreView) -> Self {
        Self {
            accepted: view.accepted,
            difficulty: view.difficulty,
            rejected: view.rejected,
            blocks: view.blocks,
        }
    }
}

impl From<&CountersView> for Sum {
    fn from(view: &CountersView) -> Self {
        Self {
            accepted: view.accepted,
            difficulty: view.accepted_difficulty,
            rejected: view.rejected,
            blocks: view.blocks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_survive_as_text() {
        let mut sum = Sum::default();
        sum.rejected[Reject::Duplicate as usize] = 3;
        sum.rejected[Reject::HashNotZero as usize] = 70;
        let text = sum.rejects_text();
        assert_eq!(text, "duplicate=3 H-not-zero=70");
        let mut read = Sum::default();
        read.set_rejects(&text);
        assert_eq!(read, sum);
        let mut strange = Sum::default();
        strange.set_rejects("of-the-future=3 duplicate=x = junk stale-work=2");
        assert_eq!(strange.rejects().collect::<Vec<_>>(), [(Reject::StaleWork, 2)]);
    }
}
