//! When a miner is sent new work, and how long it may be silent: the same in every protocol.

use std::time::{Duration, Instant};

use super::{Closing, Config};
use crate::work::{Announce, Difficulty, JobId, Work, vardiff::Vardiff};

/// What one connection was sent last, and what it is due. Owned by its session.
#[derive(Debug)]
pub(crate) struct Pacing {
    /// Of the work that it last saw.
    sequence: u64,
    /// When work that can wait goes out.
    due: Option<Instant>,
    last_share: Instant,
    /// It has had a share accepted.
    is_proven: bool,
}

impl Pacing {
    pub(crate) fn new(work: &Work, now: Instant) -> Self {
        Self { sequence: work.sequence, due: None, last_share: now, is_proven: false }
    }

    /// Notes new work; true if earlier work was missed. An error when miners are not wanted.
    pub(crate) fn see(&mut self, work: &Work) -> Result<bool, Closing> {
        work.admits().map_err(Closing::SentAway)?;
        let missed = work.sequence != self.sequence.wrapping_add(1);
        self.sequence = work.sequence;
        Ok(missed)
    }

    /// Whether new work goes out at once; if not, it is due later.
    pub(crate) fn is_now(
        &mut self,
        work: &Work,
        is_urgent: bool,
        extranonce1: [u8; 4],
        now: Instant,
    ) -> bool {
        match work.announce {
            Announce::Paced(interval) if !is_urgent => {
                // What is due already keeps its time: pace, do not postpone.
                let due = now + place_in(interval, extranonce1);
                self.due.get_or_insert(due);
                false
            }
            Announce::Paced(_) | Announce::Now => true,
        }
    }

    /// True when some work waits for its time.
    pub(crate) fn is_waiting(&self) -> bool {
        self.due.is_some()
    }

    /// True when the waiting work is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }

    /// Notes that the latest work went out.
    pub(crate) fn sent(&mut self) {
        self.due = None;
    }

    /// Restarts the wait for a share.
    pub(crate) fn restart_at(&mut self, now: Instant) {
        self.last_share = now;
    }

    /// Notes an accepted share; true for the first.
    pub(crate) fn on_share(&mut self, now: Instant) -> bool {
        self.last_share = now;
        !std::mem::replace(&mut self.is_proven, true)
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// When work is due or patience over, if that is before `other`.
    pub(crate) fn deadline(&self, config: &Config, other: Instant) -> Instant {
        let silence = config.patience(self.is_proven).map(|patience| self.last_share + patience);
        [self.due, silence].into_iter().flatten().fold(other, Instant::min)
    }

    /// An error when there has been no share for too long.
    pub(crate) fn check_silence(&self, config: &Config, now: Instant) -> Result<(), Closing> {
        let patience = config.patience(self.is_proven);
        let over = patience.filter(|patience| now >= self.last_share + *patience);
        over.map_or(Ok(()), |patience| Err(Closing::Idle(patience)))
    }
}

/// Whether `work` must go out at once to a miner that works on `last` and was told the difficulty
/// `told`: it has no work, or less valuable work, or mines at a difficulty that is no longer
/// allowed.
pub(crate) fn is_urgent(
    work: &Work,
    last: Option<JobId>,
    told: Option<Difficulty>,
    vardiff: &Vardiff,
) -> bool {
    let current = last.and_then(|last| work.job(last));
    current.is_none_or(|job| work.supersedes(job) || job.is_empty())
        || told.is_none_or(|told| !vardiff.allows(told))
}

/// The place of `extranonce1` in `interval`; consecutive connections spread over it evenly.
fn place_in(interval: Duration, extranonce1: [u8; 4]) -> Duration {
    let place = u32::from_be_bytes(extranonce1).wrapping_mul(GOLDEN_RATIO);
    interval.mul_f64(f64::from(place) / f64::from(u32::MAX))
}

/// 2^32 / φ: consecutive numbers land far apart and evenly.
const GOLDEN_RATIO: u32 = 0x9E37_79B9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::fixture::{HARD, WorkFeed, solo};

    #[test]
    fn connections_are_spread_over_the_interval() {
        let interval = Duration::from_secs(40);
        let mut places: Vec<Duration> =
            (0..1000u32).map(|i| place_in(interval, (77 + i).to_be_bytes())).collect();
        places.sort();
        let widest = places.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest < Duration::from_millis(200), "{widest:?}");
    }

    #[test]
    fn work_that_waits_keeps_its_time_and_urgent_work_does_not_wait() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let mut feed = WorkFeed::new(HARD, &solo());
        let mut pacing = Pacing::new(&feed.work, now);
        feed.work.announce = Announce::Paced(Duration::from_secs(40));
        let own = [1, 2, 3, 4];
        assert!(pacing.is_now(&feed.work, true, own, now));
        assert!(!pacing.is_now(&feed.work, false, own, now));
        let config = Config::with_address("x");
        let due = pacing.deadline(&config, now + Duration::from_secs(60));
        assert!(due < now + Duration::from_secs(40) && !pacing.is_due(now) && pacing.is_due(due));
        assert!(!pacing.is_now(&feed.work, false, own, now + Duration::from_secs(20)));
        assert!(pacing.is_due(due), "not postponed");
        pacing.sent();
        assert!(!pacing.is_due(due) && !pacing.is_waiting());
        feed.work.announce = Announce::Now;
        assert!(pacing.is_now(&feed.work, false, own, now));
    }

    #[test]
    fn a_publication_that_was_missed_is_noticed() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let mut feed = WorkFeed::new(HARD, &solo());
        let mut pacing = Pacing::new(&feed.work, now);
        for (step, missed) in [(1, false), (2, true), (1, false)] {
            feed.work.sequence += step;
            assert_eq!(pacing.see(&feed.work), Ok(missed));
        }
    }
}
