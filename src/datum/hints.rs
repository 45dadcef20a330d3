//! A pool's hints that there is a new block, passed on at a limited rate.

use std::time::{Duration, Instant};

/// Each hint makes the node build a template, and a pool may send any number. One that comes too early
/// is kept until its time, where an `Allowance` would drop it.
#[derive(Debug, Default)]
pub(super) struct Hints {
    last: Option<Instant>,
    pending: bool,
}

impl Hints {
    /// The pool has sent a hint.
    pub(super) fn offer(&mut self) {
        self.pending = true;
    }

    /// True if a hint is to be passed on now.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let due = self.pending && self.last.is_none_or(|last| now >= last + GAP);
        if due {
            self.pending = false;
            self.last = Some(now);
        }
        due
    }

    /// When a hint that came too early is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.last.filter(|_| self.pending).map(|last| last + GAP)
    }
}

const GAP: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn hints_come_one_by_one_and_the_last_is_not_lost() {
        let (start, mut hints) = (Instant::now(), Hints::default());
        assert!(!hints.take(start));
        hints.offer();
        assert!(hints.take(start) && !hints.take(start));
        assert_eq!(hints.deadline(), None);
        hints.offer();
        hints.offer();
        assert!(!hints.take(start + GAP / 2));
        assert_eq!(hints.deadline(), Some(start + GAP));
        assert!(hints.take(start + GAP) && !hints.take(start + 2 * GAP));
    }
}
