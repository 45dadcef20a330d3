//! How long things take: answers to submits, and a new tip's way to the miners. Pure; callers have
//! the clock.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{Hash256, Work};

/// Times, counted by how long they are. Adding one is two atomic additions.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`Self::BOUNDS`], and one for what is longer than all.
    buckets: [AtomicU64; Self::BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// A moment's copy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HistogramView {
    /// How many fell into each bucket, not summed up.
    pub buckets: [u64; Histogram::BOUNDS.len() + 1],
    pub sum: Duration,
}

impl Histogram {
    /// The longest time that each bucket takes. A submit takes microseconds; 40 ms are a socket
    /// that waits for an acknowledgement.
    pub const BOUNDS: [Duration; 14] = [
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
        Duration::from_millis(50),
        Duration::from_millis(250),
    ];

    pub fn observe(&self, took: Duration) {
        let at = Self::BOUNDS.iter().position(|bound| took <= *bound);
        self.buckets[at.unwrap_or(Self::BOUNDS.len())].fetch_add(1, Relaxed);
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    pub fn view(&self) -> HistogramView {
        HistogramView {
            buckets: std::array::from_fn(|at| self.buckets[at].load(Relaxed)),
            sum: Duration::from_nanos(self.sum_ns.load(Relaxed)),
        }
    }
}

/// When miners were told of the latest tip. Locked once for each connection and tip.
#[derive(Debug, Default)]
pub struct TipClock(Mutex<Option<TipTold>>);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TipTold {
    pub tip: Hash256,
    /// The publication that brought it; an earlier one comes too late.
    since: u64,
    pub first: Instant,
    /// So far.
    pub last: Instant,
    pub miners: u64,
}

impl TipClock {
    /// A connection has written `work`, the first on its tip, at `now`.
    pub fn told(&self, work: &Work, now: Instant) {
        let (tip, since) = (*work.tip(), work.sequence);
        let mut told = self.lock();
        match &mut *told {
            Some(told) if told.tip == tip => {
                told.last = told.last.max(now);
                told.miners += 1;
            }
            Some(told) if since < told.since => {}
            told => *told = Some(TipTold { tip, since, first: now, last: now, miners: 1 }),
        }
    }

    pub fn view(&self) -> Option<TipTold> {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Option<TipTold>> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for micros in [1, 2, 3, 40_000, 900_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let view = histogram.view();
        let mut expected = [0; Histogram::BOUNDS.len() + 1];
        (expected[0], expected[1], expected[12], expected[14]) = (2, 1, 1, 1);
        assert_eq!(view.buckets, expected);
        assert_eq!(view.sum, Duration::from_micros(940_006));
    }
}
