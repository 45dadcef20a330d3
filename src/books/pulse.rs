//! A heartbeat of a group of threads, for whatever watches over them.

use std::{
    sync::OnceLock,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// Beats as long as its threads get to run their tasks.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    began: OnceLock<Instant>,
    /// Milliseconds from then to the last beat.
    last: AtomicU64,
}

impl Heartbeat {
    pub(crate) fn beat(&self, now: Instant) {
        let began = *self.began.get_or_init(|| now);
        let since = now.saturating_duration_since(began).as_millis();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }

    /// How long it has not beaten, if that is too long; none before its first beat.
    pub(crate) fn stalled(&self, now: Instant) -> Option<Duration> {
        let last = *self.began.get()? + Duration::from_millis(self.last.load(Relaxed));
        let silent = now.saturating_duration_since(last);
        (silent > STALLED_AFTER).then_some(silent)
    }
}

/// How often a pulse beats.
pub(crate) const PULSE_EACH: Duration = Duration::from_secs(1);
/// A machine that swaps, or is briefly suspended, is no fault.
const STALLED_AFTER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stalled_when_it_has_not_beaten_for_a_while() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let pulse = Heartbeat::default();
        assert_eq!(pulse.stalled(at(100)), None, "before its threads have started");
        pulse.beat(start);
        pulse.beat(at(100));
        assert_eq!(pulse.stalled(at(110)), None);
        assert_eq!(pulse.stalled(at(111)), Some(Duration::from_secs(11)));
        pulse.beat(at(112));
        assert_eq!(pulse.stalled(at(113)), None);
    }
}
