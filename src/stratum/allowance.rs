//! How much a stranger may be answered.

use std::time::{Duration, Instant};

/// A few bytes can ask for many: 128 that open a channel bring back 16,384 where the coinbase is
/// large. Until a share shows that somebody does work here, answers are paced.
#[derive(Debug)]
pub(super) struct Allowance {
    /// When all that was answered will be made good.
    even_at: Instant,
}

impl Allowance {
    pub(super) fn new(now: Instant) -> Self {
        Self { even_at: now }
    }

    /// Takes note of an answer.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) {
        let cost = NS_PER_BYTE.saturating_mul(bytes as u64);
        self.even_at = self.even_at.max(now) + Duration::from_nanos(cost);
    }

    /// When the next answer may be, if not now.
    pub(super) fn pause(&self, now: Instant) -> Option<Instant> {
        let until = self.even_at.checked_sub(BURST)?;
        (until > now).then_some(until)
    }
}

/// 256 KiB a second, near enough.
const NS_PER_BYTE: u64 = 4000;
/// A megabyte at once: a proxy's hundreds of channels, or thousands with a small coinbase.
const BURST: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_paced_after_the_first_megabyte() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        allowance.spend(1_000_000, start);
        assert_eq!(allowance.pause(start), None);
        allowance.spend(16_000, start);
        assert_eq!(allowance.pause(start), Some(start + Duration::from_millis(64)));
        // A second makes a quarter of it good.
        let later = start + Duration::from_secs(1);
        allowance.spend(234_000, later);
        assert_eq!(allowance.pause(later), None);
        allowance.spend(1, later);
        assert!(allowance.pause(later).is_some());
    }
}
