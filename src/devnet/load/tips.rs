//! How a new tip reaches all connections.

use std::time::{Duration, Instant};

use crate::work::Hash256;

/// Tips seen, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tips {
    tips: Vec<Tip>,
}

#[derive(Debug)]
struct Tip {
    prevhash: Hash256,
    clean: Spread,
    full: Spread,
}

/// The first and the last connection that something has reached.
#[derive(Debug, Default)]
struct Spread {
    first: Option<Instant>,
    last: Option<Instant>,
    count: usize,
}

/// How one tip that was made here spread. Times are since it was triggered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TipTimes {
    pub(super) first_clean: Duration,
    pub(super) last_clean: Duration,
    /// None if not everybody got full work in time.
    pub(super) last_full: Option<Duration>,
    /// Connections without clean and without full work when time was up.
    pub(super) without_clean: usize,
    pub(super) without_full: usize,
}

impl Spread {
    fn add(&mut self, at: Instant) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
        self.count += 1;
    }
}

impl Tips {
    pub(super) fn count(&self) -> usize {
        self.tips.len()
    }

    /// A connection's first clean work on a tip.
    pub(super) fn on_clean(&mut self, prevhash: &Hash256, at: Instant) {
        if let Some(tip) = self.tip(prevhash) {
            tip.clean.add(at);
        }
    }

    /// A connection's first work with transactions on a tip.
    pub(super) fn on_full(&mut self, prevhash: &Hash256, at: Instant) {
        if let Some(tip) = self.tip(prevhash) {
            tip.full.add(at);
        }
    }

    /// True if `wanted` connections have full work on the tip that came after `seen` others.
    pub(super) fn is_complete(&self, seen: usize, wanted: usize) -> bool {
        self.tips.get(seen).is_some_and(|tip| tip.full.count >= wanted && tip.clean.count >= wanted)
    }

    pub(super) fn times(&self, seen: usize, triggered: Instant, wanted: usize) -> Option<TipTimes> {
        let Tip { clean, full, .. } = self.tips.get(seen)?;
        let since = |at: Instant| at.saturating_duration_since(triggered);
        Some(TipTimes {
            first_clean: since(clean.first?),
            last_clean: since(clean.last?),
            last_full: full.last.map(since),
            without_clean: wanted.saturating_sub(clean.count),
            without_full: wanted.saturating_sub(full.count),
        })
    }

    fn tip(&mut self, prevhash: &Hash256) -> Option<&mut Tip> {
        let known = self.tips.iter().rposition(|tip| tip.prevhash == *prevhash);
        let at = known.unwrap_or(self.tips.len());
        if known.is_none() && at < TIPS_MAX {
            let (clean, full) = (Spread::default(), Spread::default());
            self.tips.push(Tip { prevhash: *prevhash, clean, full });
        }
        self.tips.get_mut(at)
    }
}

/// More than anybody would wait for.
const TIPS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_is_complete_when_all_have_full_work() {
        let mut tips = Tips::default();
        let triggered = crate::clock::now();
        let at = |ms| triggered + Duration::from_millis(ms);
        tips.on_clean(&Hash256([1; 32]), at(0));
        let new = Hash256([2; 32]);
        assert_eq!(tips.times(1, triggered, 2), None);
        tips.on_clean(&new, at(4));
        tips.on_clean(&new, at(3));
        tips.on_full(&new, at(9));
        assert!(!tips.is_complete(1, 2));
        let times = tips.times(1, triggered, 2).unwrap();
        assert_eq!((times.without_clean, times.without_full), (0, 1));
        tips.on_full(&new, at(11));
        assert!(tips.is_complete(1, 2));
        let times = tips.times(1, triggered, 2).unwrap();
        let ms = Duration::from_millis;
        assert_eq!((times.first_clean, times.last_clean), (ms(3), ms(4)));
        assert_eq!((times.last_full, times.without_full), (Some(ms(11)), 0));
    }
}
