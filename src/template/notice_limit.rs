//! Limits log lines about something that comes and goes: a few times at first, then only now and
//! then. Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// Remembers what was logged last, and how often recently. A `Ration` forgets what it said, and
/// would say again and again that a node is down.
#[derive(Debug)]
pub(super) struct NoticeLimit<T> {
    said: Option<T>,
    at: Option<Instant>,
    times: u32,
}

impl<T> Default for NoticeLimit<T> {
    fn default() -> Self {
        Self { said: None, at: None, times: 0 }
    }
}

impl<T: PartialEq> NoticeLimit<T> {
    /// It has come: true if that is to be logged now. If not, a later call may say so.
    pub(super) fn on(&mut self, what: T, now: Instant) -> bool {
        if self.said.as_ref() == Some(&what) {
            return false;
        }
        let is_recent = self.at.is_some_and(|at| now.saturating_duration_since(at) < QUIET_OFTEN);
        if !is_recent {
            self.times = 0;
        }
        let is_due = self.times < OFTEN;
        if is_due {
            self.times += 1;
            (self.said, self.at) = (Some(what), Some(now));
        }
        is_due
    }

    /// It has gone: true if its coming was logged.
    pub(super) fn off(&mut self) -> bool {
        self.said.take().is_some()
    }
}

/// Logged this many times, and then not for this long.
pub(super) const OFTEN: u32 = 5;
pub(super) const QUIET_OFTEN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn what_lasts_is_said_once_and_its_end_once() {
        let (mut limit, start) = (NoticeLimit::default(), start());
        let days = (0..100).map(|day| start + Duration::from_secs(day * 86_400));
        assert_eq!(days.filter(|now| limit.on("a", *now)).count(), 1);
        assert!(limit.off() && !limit.off());
    }

    #[test]
    fn what_comes_and_goes_each_second_is_said_five_times_in_ten_minutes() {
        let (mut limit, start) = (NoticeLimit::default(), start());
        let (mut came, mut went) = (0, 0);
        for second in 0..3600 {
            came += u32::from(limit.on("a", start + Duration::from_secs(second)));
            went += u32::from(limit.off());
        }
        assert_eq!((came, went), (6 * OFTEN, came));
    }

    #[test]
    fn something_else_is_news_and_what_could_not_be_said_comes_later() {
        let (mut limit, start) = (NoticeLimit::default(), start());
        for at in 0..OFTEN {
            assert!(limit.on(at, start), "{at}");
        }
        assert!(!limit.on(OFTEN, start));
        assert!(!limit.on(OFTEN, start + QUIET_OFTEN / 2));
        assert!(limit.on(OFTEN, start + QUIET_OFTEN));
    }
}
