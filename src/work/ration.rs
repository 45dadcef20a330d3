//! Limits how often the same thing is logged: whoever can cause a log line must not fill the log.

use std::time::{Duration, Instant};

/// Lets one line through in a while, and counts the others, which an `Allowance` does not.
#[derive(Clone, Debug)]
pub(crate) struct LogRation {
    each: Duration,
    last: Option<Instant>,
    unsaid: u64,
}

impl LogRation {
    pub(crate) const fn new(each: Duration) -> Self {
        Self { each, last: None, unsaid: 0 }
    }

    /// How many were swallowed since the last line, when it is time for another.
    pub(crate) fn may_say(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + self.each) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// For what strangers cause by the thousand: often enough to see that it continues.
impl Default for LogRation {
    fn default() -> Self {
        Self::new(SAY_EACH)
    }
}

const SAY_EACH: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_per_interval_gets_through_and_says_how_many_did_not() {
        let mut ration = LogRation::default();
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        assert_eq!(ration.may_say(start), Some(0));
        assert_eq!(ration.may_say(start), None);
        assert_eq!(ration.may_say(start + SAY_EACH), Some(1));
        assert_eq!(ration.may_say(start + 2 * SAY_EACH), Some(0));
    }
}
