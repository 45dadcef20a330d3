//! Decides when to give up a pool that is silent or refuses everything.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use rustc_hash::{FxBuildHasher, FxHashSet};

use super::protocol::message::ShareReason;

/// The clocks that run on a connection.
#[derive(Debug)]
pub(super) struct Liveness {
    timeout: Duration,
    started: Instant,
    configured: bool,
    /// The last valid message.
    heard: Instant,
    /// Shares without any answer.
    unanswered: Trouble,
    /// Refusals that are not the miner's own.
    refused: Trouble,
    accepted: bool,
    trust: Trust,
}

/// Usernames that the pool has accepted shares from: how it treats their shares tells something
/// about the pool. Passed on from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct Trust {
    names: FxHashSet<u64>,
}

/// Something that a pool does wrong for as long as it accepts no share.
#[derive(Debug, Default)]
struct Trouble {
    /// The first one since the last acceptance.
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Trust {
    fn add(&mut self, name: &str) {
        if self.names.len() < NAMES_MAX {
            self.names.insert(FxBuildHasher.hash_one(name));
        }
    }

    /// True if refusing a share from `name` says something about the pool, which it does not for a
    /// name that the pool has never accepted.
    fn blames_pool(&self, name: &str, reason: ShareReason) -> bool {
        let is_known = || self.names.contains(&FxBuildHasher.hash_one(name));
        is_known() || self.names.is_empty() && reason != ShareReason::BAD_USERNAME
    }
}

impl Trouble {
    fn note(&mut self, now: Instant) {
        if self.is_rare(now) {
            self.since = None;
        }
        self.last = Some(now);
        self.since.get_or_insert(now);
    }

    /// Too far apart to judge by.
    fn is_rare(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now >= last + SLOW_MINER)
    }

    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + ACCEPTANCE_LIMIT)
    }

    /// True if it has lasted too long.
    fn on_deadline(&mut self, now: Instant) -> bool {
        let is_due = self.deadline().is_some_and(|deadline| now >= deadline);
        if is_due && self.is_rare(now) {
            self.since = None;
        }
        is_due && self.since.is_some()
    }
}

/// Why a connection is given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LivenessError {
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
            unanswered: Trouble::default(),
            refused: Trouble::default(),
            accepted: false,
            trust: Trust::default(),
        }
    }

    /// Starts with what was learnt on earlier connections to this pool.
    pub(super) fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    pub(super) fn into_trust(self) -> Trust {
        self.trust
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
        self.unanswered.note(now);
    }

    /// A share from `name` was accepted.
    pub(super) fn on_acceptance(&mut self, name: &str) {
        (self.unanswered.since, self.refused.since) = (None, None);
        self.accepted = true;
        self.trust.add(name);
    }

    /// A share from `name` was refused.
    pub(super) fn on_refusal(&mut self, name: &str, reason: ShareReason, now: Instant) {
        self.unanswered.since = None;
        if self.trust.blames_pool(name, reason) {
            self.refused.note(now);
        }
    }

    /// The pool has accepted a share, or was sent none that it should have accepted.
    pub(super) fn served(&self) -> bool {
        self.accepted || self.unanswered.since.is_none() && self.refused.last.is_none()
    }

    pub(super) fn deadline(&self) -> Instant {
        let silent = self.heard + self.timeout;
        let unready = self.started + self.unready_after();
        let deadline = if self.configured { silent } else { silent.min(unready) };
        let troubles = [&self.unanswered, &self.refused].into_iter();
        troubles.filter_map(Trouble::deadline).fold(deadline, Instant::min)
    }

    /// How long a pool that sends other messages may take until its configuration.
    fn unready_after(&self) -> Duration {
        self.timeout.saturating_mul(UNREADY_TIMEOUTS)
    }

    pub(super) fn on_deadline(&mut self, now: Instant) -> Result<(), LivenessError> {
        let unready_after = self.unready_after();
        if !self.configured && now >= self.started + unready_after {
            return Err(LivenessError::Unready(unready_after));
        }
        if now >= self.heard + self.timeout {
            return Err(LivenessError::Silent(self.timeout));
        }
        if self.unanswered.on_deadline(now) || self.refused.on_deadline(now) {
            return Err(LivenessError::NoAcceptance(ACCEPTANCE_LIMIT));
        }
        Ok(())
    }
}

/// Pools may make a new gateway wait while they send other messages, but not forever: it has no
/// work for them.
const UNREADY_TIMEOUTS: u32 = 5;
/// From a share to the latest acceptance of any.
const ACCEPTANCE_LIMIT: Duration = Duration::from_secs(30);
/// If shares are further apart than this, the pool is not judged by accepting them.
const SLOW_MINER: Duration = Duration::from_secs(25);

/// Names to judge a pool by; a farm may have as many, and more would not tell more.
const NAMES_MAX: usize = 4096;

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
        assert_eq!(
            liveness.on_deadline(start + 65 * SECOND),
            Err(LivenessError::Silent(60 * SECOND))
        );
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
        assert_eq!(
            liveness.on_deadline(start + 300 * SECOND),
            Err(LivenessError::Unready(300 * SECOND))
        );
    }

    #[test]
    fn shares_without_acceptance_end_a_connection_unless_they_are_rare() {
        let start = test_start();
        let mut busy = ready(start);
        (0..30).for_each(|at| busy.on_share(start + at * SECOND));
        assert_eq!(busy.deadline(), start + 30 * SECOND);
        let dead = Err(LivenessError::NoAcceptance(30 * SECOND));
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
        accepted.on_acceptance("a");
        assert_eq!(accepted.deadline(), start + 60 * SECOND);
    }

    /// Anybody could make a small site leave its pool, with shares under a name that no pool takes.
    #[test]
    fn a_strangers_refused_shares_are_not_held_against_the_pool() {
        let start = test_start();
        let mut site = ready(start);
        let refuse = |site: &mut Liveness, name, reason, seconds: std::ops::Range<u32>| {
            for at in seconds {
                site.on_share(start + at * SECOND);
                site.on_refusal(name, reason, start + at * SECOND);
            }
        };
        refuse(&mut site, "?", ShareReason::BAD_USERNAME, 0..40);
        assert_eq!(site.on_deadline(start + 40 * SECOND), Ok(()));
        assert!(site.served(), "before anybody has had a share accepted");
        site.on_acceptance("honest");
        refuse(&mut site, "stranger", ShareReason::BAD_NTIME, 40..90);
        site.on_message(start + 90 * SECOND);
        assert_eq!(site.on_deadline(start + 90 * SECOND), Ok(()));
        // What is known to be good and is refused now is the pool's doing, and so is silence.
        refuse(&mut site, "honest", ShareReason::BAD_NTIME, 90..121);
        assert!(site.on_deadline(start + 121 * SECOND).is_err());
        let mut silent = ready(start);
        silent.set_trust(site.into_trust());
        (0..31).for_each(|at| silent.on_share(start + at * SECOND));
        assert!(silent.on_deadline(start + 31 * SECOND).is_err());
    }

    #[test]
    fn a_pool_that_refuses_everything_from_the_start_is_left() {
        let start = test_start();
        let mut liveness = ready(start);
        for at in 0..31 {
            liveness.on_share(start + at * SECOND);
            liveness.on_refusal("a", ShareReason::BAD_OUTPUTS, start + at * SECOND);
        }
        assert!(!liveness.served());
        assert!(liveness.on_deadline(start + 31 * SECOND).is_err());
    }
}
