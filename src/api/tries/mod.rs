//! Tries of new settings, as many as a person needs: whoever may try could else make gatewayd knock at
//! doors all day, and so could a page that is open in sixty tabs.

pub(super) mod task;

use std::time::{Duration, Instant};

/// Some at once, and one more each while.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    /// When all that were taken are given back; none: none was.
    full_at: Option<Instant>,
}

impl Allowance {
    /// Takes one, or says how long there is none.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + EACH;
        let wait = full_at.saturating_duration_since(now + EACH * AT_ONCE);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = Some(full_at);
        Ok(())
    }
}

/// Whoever makes settings tries a few times in a row.
const AT_ONCE: u32 = 12;
/// And goes on at the pace of somebody who reads what is wrong.
const EACH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_tries_is_one_each_five_seconds() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let mut left = Allowance::default();
        let at_once = (0..64).filter(|_| left.take(start).is_ok()).count();
        assert_eq!(at_once, 12, "sixty-four tabs");
        assert_eq!(left.take(start), Err(EACH));
        let of_an_hour = (0..3600).map(|second| start + Duration::from_secs(second));
        assert_eq!(of_an_hour.filter(|now| left.take(*now).is_ok()).count(), 719);
        assert!(left.take(start + Duration::from_secs(7200)).is_ok());
    }
}
