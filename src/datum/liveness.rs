//! When a silent or stubborn pool is given up.

use std::time::{Duration, Instant};

/// The clocks that run on a connection.
#[derive(Debug)]
pub(super) struct Liveness {
    timeout: Duration,
    started: Instant,
    configured: bool,
    /// The last valid message.
    heard: Instant,
    last_share: Option<Instant>,
    /// The first share since the last acceptance.
    unaccepted: Option<Instant>,
    accepted: bool,
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dead {
    /// Connected, but not configured.
    Unready(Duration),
    Silent(Duration),
    NoAcceptance(Duration),
}

impl Liveness {
    pub(super) fn new(timeout: Duration, now: Instant) -> Self {
        Self {
            timeout,
            started: now,
            configured: false,
            heard: now,
            last_share: None,
            unaccepted: None,
            accepted: false,
        }
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn on_message(&mut self, now: Instant) {
        self.heard = now;
    }

    pub(super) fn on_configured(&mut self) {
        self.configured = true;
    }

    pub(super) fn on_share(&mut self, now: Instant) {
        let slow = self.last_share.is_some_and(|last| now >= last + SLOW_MINER);
        if slow {
            self.unaccepted = None;
        }
        self.last_share = Some(now);
        self.unaccepted.get_or_insert(now);
    }

    pub(super) fn on_acceptance(&mut self) {
        self.unaccepted = None;
        self.accepted = true;
    }

    /// The pool has accepted a share, or was sent none.
    pub(super) fn served(&self) -> bool {
        self.accepted || self.last_share.is_none()
    }

    pub(super) fn deadline(&self) -> Instant {
        let silent = self.heard + self.timeout;
        let unready = self.started + self.unready_after();
        let deadline = if self.configured { silent } else { silent.min(unready) };
        match self.unaccepted {
            Some(since) => deadline.min(since + ACCEPTANCE_LIMIT),
            None => deadline,
        }
    }

    /// How long a pool that talks may take to its configuration.
    fn unready_after(&self) -> Duration {
        self.timeout.saturating_mul(UNREADY_TIMEOUTS)
    }

    pub(super) fn on_deadline(&mut self, now: Instant) -> Result<(), Dead> {
        let unready_after = self.unready_after();
        if !self.configured && now >= self.started + unready_after {
            return Err(Dead::Unready(unready_after));
        }
        if now >= self.heard + self.timeout {
            return Err(Dead::Silent(self.timeout));
        }
        if self.unaccepted.is_some_and(|since| now >= since + ACCEPTANCE_LIMIT) {
            let slow = self.last_share.is_none_or(|last| now >= last + SLOW_MINER);
            if !slow {
                return Err(Dead::NoAcceptance(ACCEPTANCE_LIMIT));
            }
            // Too few shares to judge by.
            self.unaccepted = None;
        }
        Ok(())
    }
}

/// Pools may let a new gateway wait while they talk, but not for ever: it has no work for them.
const UNREADY_TIMEOUTS: u32 = 5;
/// From a share to the latest acceptance of any.
const ACCEPTANCE_LIMIT: Duration = Duration::from_secs(30);
/// Who sends shares further apart than this is not judged by their acceptance.
const SLOW_MINER: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn test_start() -> Instant {
        Instant::now()
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn ready(start: Instant) -> Liveness {
        let mut liveness = Liveness::new(60 * SECOND, start);
        liveness.on_configured();
        liveness
    }

    #[test]
    fn silence_ends_a_connection_at_the_timeout() {
        let start = test_start();
        let mut liveness = ready(start);
        liveness.on_message(start + 5 * SECOND);
        assert_eq!(liveness.deadline(), start + 65 * SECOND);
        assert_eq!(liveness.on_deadline(start + 64 * SECOND), Ok(()));
        assert_eq!(liveness.on_deadline(start + 65 * SECOND), Err(Dead::Silent(60 * SECOND)));
    }

    #[test]
    fn keep_alives_stand_in_for_a_configuration_only_for_a_while() {
        let start = test_start();
        let mut liveness = Liveness::new(60 * SECOND, start);
        assert_eq!(liveness.deadline(), start + 60 * SECOND);
        for at in 1..10 {
            liveness.on_message(start + at * 30 * SECOND);
            assert_eq!(liveness.on_deadline(start + (at * 30 + 29) * SECOND), Ok(()));
        }
        assert_eq!(liveness.deadline(), start + 300 * SECOND);
        assert_eq!(liveness.on_deadline(start + 300 * SECOND), Err(Dead::Unready(300 * SECOND)));
    }

    #[test]
    fn shares_without_acceptance_end_a_connection_unless_they_are_rare() {
        let start = test_start();
        let mut busy = ready(start);
        (0..30).for_each(|at| busy.on_share(start + at * SECOND));
        assert_eq!(busy.deadline(), start + 30 * SECOND);
        let dead = Err(Dead::NoAcceptance(30 * SECOND));
        assert_eq!(busy.on_deadline(start + 30 * SECOND), dead);

        let mut rare = ready(start);
        rare.on_share(start);
        assert_eq!(rare.on_deadline(start + 30 * SECOND), Ok(()));
        assert_eq!(rare.deadline(), start + 60 * SECOND);

        let mut slow = ready(start);
        slow.on_share(start);
        slow.on_share(start + 26 * SECOND);
        assert_eq!(slow.on_deadline(start + 30 * SECOND), Ok(()));
        assert_eq!(slow.deadline(), start + 56 * SECOND);

        let mut accepted = ready(start);
        accepted.on_share(start);
        accepted.on_acceptance();
        assert_eq!(accepted.deadline(), start + 60 * SECOND);
    }
}
