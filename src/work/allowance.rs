//! How often something that others cause may happen. Pure: `now` is an argument.

use std::time::{Duration, Instant};

/// Lets so many happen at once, and then one after another as time pays them off: what happened is a
/// debt that is paid off at a steady pace.
///
/// Each takes `EACH_US` microseconds to be paid off, and whoever owes no more than `OWED_MAX` may go
/// on. Both are in the type, since every connection has an allowance.
///
/// There is one for each thing that is limited. What strangers do is limited by address in
/// `work/limits`, which uses governor's table for that; log lines are limited by [`super::LogRation`],
/// which counts what it swallows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance<const EACH_US: u64, const OWED_MAX: u32> {
    /// When nothing is owed any more; None: nothing ever was.
    even_at: Option<Instant>,
}

impl<const EACH_US: u64, const OWED_MAX: u32> Allowance<EACH_US, OWED_MAX> {
    const EACH: Duration = Duration::from_micros(EACH_US);
    const DEBT_MAX: Duration = Self::EACH.saturating_mul(OWED_MAX);

    /// Takes note of what happened, whether it might or not.
    pub(crate) fn spend(&mut self, count: usize, now: Instant) {
        let cost = Self::EACH.saturating_mul(count.try_into().unwrap_or(u32::MAX));
        self.even_at = Some(self.even_at.map_or(now, |at| at.max(now)) + cost);
    }

    /// When the next may be, if not now.
    pub(crate) fn pause(&self, now: Instant) -> Option<Instant> {
        let until = self.even_at?.checked_sub(Self::DEBT_MAX)?;
        (until > now).then_some(until)
    }

    /// Whether one may be now; if so, it is taken note of.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let may = self.pause(now).is_none();
        if may {
            self.spend(1, now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any origin will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_is_spent_beyond_the_most_is_waited_for() {
        let (mut allowance, start) = (Allowance::<4, 1_000_000>::default(), start());
        assert_eq!(allowance.pause(start), None);
        allowance.spend(1_000_000, start);
        assert_eq!(allowance.pause(start), None);
        allowance.spend(16_000, start);
        assert_eq!(allowance.pause(start), Some(start + Duration::from_millis(64)));
        // A second pays off a quarter of it.
        let later = start + Duration::from_secs(1);
        allowance.spend(234_000, later);
        assert_eq!(allowance.pause(later), None);
        allowance.spend(1, later);
        assert!(allowance.pause(later).is_some());
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_at_a_time() {
        let (mut allowance, start) = (Allowance::<200_000, 19>::default(), start());
        assert_eq!((0..30).filter(|_| allowance.take(start)).count(), 20);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..30).filter(|_| allowance.take(later)).count(), 5);
        // Rest saves up a burst and no more.
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..30).filter(|_| allowance.take(later)).count(), 20);
    }
}
