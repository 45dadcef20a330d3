//! How long things take: answering submits, and getting a new tip to the miners. Pure; callers have
//! the clock.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::work::{Hash256, Work};

/// Durations, counted by length. Adding one is two atomic additions.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One for each of [`Self::BOUNDS`], and one for all that are longer.
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// A snapshot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct HistogramView {
    /// How many fell into each bucket, not cumulative.
    pub(crate) buckets: [u64; Histogram::BOUNDS.len() + 1],
    pub(crate) sum: Duration,
}

impl Histogram {
    /// The upper bound of each bucket. A submit takes microseconds, a new tip milliseconds; 40 ms
    /// is a socket waiting for an acknowledgement.
    pub(crate) const BOUNDS: [Duration; 17] = [
        Duration::from_micros(2),
        Duration::from_micros(5),
        Duration::from_micros(10),
        Duration::from_micros(20),
        Duration::from_micros(50),
        Duration::from_micros(100),
        Duration::from_micros(200),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_millis(2),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(250),
        Duration::from_secs(1),
        Duration::from_secs(5),
    ];

    pub(crate) fn observe(&self, took: Duration) {
        let at = Self::BOUNDS.iter().position(|bound| took <= *bound);
        self.buckets[at.unwrap_or(Self::BOUNDS.len())].fetch_add(1, Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    pub(crate) fn view(&self) -> HistogramView {
        HistogramView {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Relaxed)),
        }
    }
}

/// How long new tips take to reach the miners. Locked once for each connection and tip.
#[derive(Debug, Default)]
pub(crate) struct TipClock {
    state: Mutex<TipState>,
    /// From the first announcement of a tip until the first miner was told; one for each tip.
    pub(crate) first: Histogram,
    /// The same until the last miner, known at the next tip or when nobody has been told for a
    /// while.
    pub(crate) last: Histogram,
}

#[derive(Debug, Default)]
struct TipState {
    /// When each tip was first heard of, latest last.
    heard: Vec<(Hash256, Instant)>,
    told: Option<TipTold>,
}

/// When miners were told about the latest tip.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct TipTold {
    tip: Hash256,
    /// The publication that brought it; an earlier one is too late.
    since: u64,
    first: Instant,
    /// So far.
    last: Instant,
    first_counted: bool,
    last_counted: bool,
}

impl TipClock {
    /// A node announced `tip` at `at`.
    pub(crate) fn heard(&self, tip: Hash256, at: Instant) {
        let mut state = self.lock();
        match state.heard.iter_mut().find(|(known, _)| *known == tip) {
            Some((_, known)) => *known = at.min(*known),
            None => {
                if state.heard.len() == HEARD_MAX {
                    state.heard.remove(0);
                }
                state.heard.push((tip, at));
            }
        }
        self.count_first(&mut state);
    }

    /// A connection has written `work`, the first on its tip, at `now`.
    pub(crate) fn told(&self, work: &Work, now: Instant) {
        let (tip, since) = (*work.tip(), work.sequence);
        let mut state = self.lock();
        match &mut state.told {
            Some(told) if told.tip == tip => told.last = told.last.max(now),
            Some(told) if since < told.since => {}
            _ => {
                self.count_last(&mut state);
                let (first_counted, last_counted) = (false, false);
                let told =
                    TipTold { tip, since, first: now, last: now, first_counted, last_counted };
                state.told = Some(told);
                self.count_first(&mut state);
            }
        }
    }

    /// Counts the last miner of the latest tip, if it was told well before `now`.
    pub(crate) fn settle(&self, now: Instant) {
        let mut state = self.lock();
        if state.told.is_some_and(|told| now >= told.last + SETTLED) {
            self.count_last(&mut state);
        }
    }

    fn count_first(&self, state: &mut TipState) {
        let Some(told) = &mut state.told else { return };
        let heard = state.heard.iter().find(|(tip, _)| *tip == told.tip);
        if let Some((_, at)) = heard
            && !told.first_counted
        {
            told.first_counted = true;
            self.first.observe(told.first.saturating_duration_since(*at));
        }
    }

    fn count_last(&self, state: &mut TipState) {
        let Some(told) = &mut state.told else { return };
        let heard = state.heard.iter().find(|(tip, _)| *tip == told.tip);
        if let Some((_, at)) = heard
            && !told.last_counted
        {
            told.last_counted = true;
            self.last.observe(told.last.saturating_duration_since(*at));
        }
    }

    fn lock(&self) -> MutexGuard<'_, TipState> {
        // Nothing under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tips that nodes disagree on, or that arrive at once.
const HEARD_MAX: usize = 8;
/// A miner told about a tip this long after the others connected later, or does not read.
const SETTLED: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        work::fixture::{HARD, WorkFeed, solo, template},
        work::{Announce, BuildJob},
    };

    #[test]
    fn times_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [1, 2, 3, 40_000, 900_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let view = histogram.view();
        let mut expected = [0; Histogram::BOUNDS.len() + 1];
        (expected[0], expected[1], expected[13], expected[15]) = (2, 1, 1, 1);
        assert_eq!(view.buckets, expected);
        assert_eq!(view.sum, Duration::from_micros(940_006));
    }

    fn tip_work(tip: u8, sequence: u64) -> Work {
        let mut feed = WorkFeed::new(HARD, &solo());
        feed.publish(BuildJob::Classes, &template(tip, HARD, 0), &solo(), Announce::Now);
        Work { sequence, ..feed.work }
    }

    fn counts(clock: &TipClock) -> [(u64, u128); 2] {
        [&clock.first, &clock.last].map(|histogram| {
            let view = histogram.view();
            (view.buckets.iter().sum(), view.sum.as_millis())
        })
    }

    #[test]
    fn each_tip_counts_once_for_its_first_and_once_for_its_last_miner() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let clock = TipClock::default();
        let (one, two) = (tip_work(1, 1), tip_work(2, 2));
        clock.heard(*one.tip(), at(0));
        clock.heard(*one.tip(), at(5));
        for ms in [3, 4, 9] {
            clock.told(&one, at(ms));
        }
        assert_eq!(counts(&clock), [(1, 3), (0, 0)]);
        // The announcement may come another way than the work, and later.
        clock.told(&two, at(107));
        assert_eq!(counts(&clock), [(1, 3), (1, 9)]);
        clock.heard(*two.tip(), at(100));
        assert_eq!(counts(&clock), [(2, 10), (1, 9)]);
        // A connection that is late with the old tip.
        clock.told(&one, at(108));
        clock.told(&two, at(120));
        clock.settle(at(5_119));
        assert_eq!(counts(&clock), [(2, 10), (1, 9)]);
        clock.settle(at(5_120));
        clock.settle(at(9_000));
        clock.told(&two, at(9_001));
        clock.told(&tip_work(3, 3), at(10_000));
        assert_eq!(counts(&clock), [(2, 10), (2, 29)], "tip 3 was never announced");
    }

    #[test]
    fn endless_tips_are_forgotten() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let clock = TipClock::default();
        for tip in 0..100 {
            clock.heard(Hash256([tip; 32]), start);
        }
        assert_eq!(clock.lock().heard.len(), HEARD_MAX);
    }
}
