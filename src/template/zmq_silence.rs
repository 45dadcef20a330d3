//! Detects a ZeroMQ publisher that announces no blocks. Pure; `now` is an argument.
//!
//! A subscriber gets no error if a publisher does not publish the topic, or belongs to another
//! node: there is only silence. The sign is that blocks arrive by other means.

use std::time::{Duration, Instant};

/// Watches one subscription.
#[derive(Debug, Default)]
pub(super) struct ZmqSilence {
    /// When a block arrived by other means that ZeroMQ has not announced since.
    waiting_since: Option<Instant>,
    missed: u32,
}

impl ZmqSilence {
    /// ZeroMQ announced something.
    pub(super) fn heard(&mut self) {
        *self = Self::default();
    }

    /// A new block arrived, by whichever means.
    pub(super) fn block(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// True once it is clear that nothing is announced.
    pub(super) fn is_silent(&mut self, now: Instant) -> bool {
        let is_over = |since: &Instant| now.saturating_duration_since(*since) >= WAIT;
        if self.waiting_since.take_if(|since| is_over(since)).is_some() {
            self.missed = self.missed.saturating_add(1);
        }
        self.missed >= MISSED_MAX
    }
}

/// ZeroMQ usually announces a block first, and never seconds later.
const WAIT: Duration = Duration::from_secs(5);
/// One may be lost while the subscription is made.
const MISSED_MAX: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn two_blocks_without_a_word_are_enough() {
        let (mut silence, start) = (ZmqSilence::default(), start());
        for (second, is_silent) in [(0, false), (100, true)] {
            silence.block(start + Duration::from_secs(second));
            assert!(!silence.is_silent(start + Duration::from_secs(second + 4)));
            assert_eq!(silence.is_silent(start + Duration::from_secs(second + 5)), is_silent);
        }
        assert!(silence.is_silent(start + Duration::from_secs(1000)));
        silence.heard();
        assert!(!silence.is_silent(start + Duration::from_secs(1000)));
    }

    #[test]
    fn a_word_in_time_starts_anew() {
        let (mut silence, start) = (ZmqSilence::default(), start());
        for second in (0..100).step_by(10) {
            let at = start + Duration::from_secs(second);
            silence.block(at);
            silence.heard();
            assert!(!silence.is_silent(at + Duration::from_secs(9)));
        }
        // Many blocks at once are one silence.
        (0..10).for_each(|_| silence.block(start));
        assert!(!silence.is_silent(start + Duration::from_secs(5)));
    }
}
