//! What happened in each minute, until it is written to disk.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::sum::Sum;
use crate::work::Reject;

/// A minute's shares.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Minute {
    /// Minutes since 1970.
    pub(super) t: u64,
    /// Seconds covered: fewer than 60 after a start, more if the clock was set back.
    pub(super) seconds: f64,
    pub(super) total: Row,
    /// Those who sent shares.
    pub(super) workers: Vec<(Arc<str>, Row)>,
}

/// One line of a minute: all together, or one worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) accepted: u64,
    pub(super) difficulty: f64,
    /// Mostly empty, so not an array.
    pub(super) rejects: Box<[(Reject, u64)]>,
}

impl Row {
    pub(super) fn rejected(&self) -> u64 {
        self.rejects.iter().map(|(_, shares)| shares).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accepted == 0 && self.rejects.is_empty()
    }
}

impl From<&Sum> for Row {
    fn from(sum: &Sum) -> Self {
        Self {
            accepted: sum.accepted,
            difficulty: sum.difficulty,
            rejects: sum.rejects().collect(),
        }
    }
}

/// Minutes that are over, oldest first, waiting for the disk.
#[derive(Debug, Default)]
pub(super) struct PendingMinutes {
    minutes: VecDeque<Minute>,
    rows: usize,
    /// Minutes that were dropped while there was no disk.
    lost: u64,
}

impl PendingMinutes {
    pub(super) fn push(&mut self, minute: Minute) {
        self.rows += minute.workers.len() + 1;
        self.minutes.push_back(minute);
        self.shrink();
    }

    /// Takes the oldest, as many as one transaction should write.
    pub(super) fn take(&mut self) -> Vec<Minute> {
        let mut taken = Vec::new();
        let mut rows = 0;
        while let Some(minute) = self.minutes.pop_front() {
            rows += minute.workers.len() + 1;
            taken.push(minute);
            if rows >= TAKEN_MAX {
                break;
            }
        }
        self.rows -= rows;
        taken
    }

    /// Returns what could not be written.
    pub(super) fn put_back(&mut self, minutes: Vec<Minute>) {
        for minute in minutes.into_iter().rev() {
            self.rows += minute.workers.len() + 1;
            self.minutes.push_front(minute);
        }
        self.shrink();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.minutes.len()
    }

    /// How many minutes were dropped since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    fn shrink(&mut self) {
        while self.rows > WAITING_MAX
            && self.minutes.len() > 1
            && let Some(oldest) = self.minutes.pop_front()
        {
            self.rows -= oldest.workers.len() + 1;
            self.lost += 1;
        }
    }
}

/// Compares the wall clock with the monotonic one.
#[derive(Clone, Debug)]
pub(super) struct ClockWatch {
    unix: f64,
    steady_for: Duration,
}

impl ClockWatch {
    pub(super) fn new(unix: f64) -> Self {
        Self { unix, steady_for: Duration::ZERO }
    }

    /// The wall clock shows `unix` seconds, `time` after the last check.
    pub(super) fn look(&mut self, unix: f64, time: Duration) {
        let step = unix - self.unix - time.as_secs_f64();
        self.unix = unix;
        self.steady_for =
            if step.abs() > STEP_MIN_S { Duration::ZERO } else { self.steady_for + time };
    }

    /// True if the clock can be trusted: a board without a battery wakes up in another year, and
    /// nothing must be deleted as old because of that.
    pub(super) fn is_steady(&self) -> bool {
        self.steady_for >= STEADY_AFTER
    }
}

/// Rows per transaction: a farm's minute, or an hour of a home after the disk was full.
const TAKEN_MAX: usize = 20_000;
/// Rows kept while there is no disk, some 100 bytes each: two weeks of ten workers, ten minutes of
/// 20,000.
const WAITING_MAX: usize = 200_000;
/// NTP corrects smaller differences by slewing.
const STEP_MIN_S: f64 = 30.0;
const STEADY_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(t: u64, workers: usize) -> Minute {
        let workers = vec![("w".into(), Row::default()); workers];
        Minute { t, seconds: 60.0, total: Row::default(), workers }
    }

    #[test]
    fn the_oldest_minutes_go_when_the_disk_is_away_for_long() {
        let mut waiting = PendingMinutes::default();
        for t in 0..30 {
            waiting.push(minute(t, 9_999));
        }
        assert_eq!((waiting.len(), waiting.take_lost(), waiting.take_lost()), (20, 10, 0));
        let taken = waiting.take();
        assert_eq!(taken.iter().map(|it| it.t).collect::<Vec<_>>(), [10, 11]);
        waiting.put_back(taken);
        waiting.push(minute(30, 9_999));
        assert_eq!(waiting.take()[0].t, 11);
    }

    #[test]
    fn one_minute_of_too_many_is_kept() {
        let mut waiting = PendingMinutes::default();
        waiting.push(minute(0, 2 * WAITING_MAX));
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting.take().len(), 1);
        assert!(waiting.is_empty());
        waiting.push(minute(1, 1));
        assert_eq!((waiting.rows, waiting.take_lost()), (2, 0));
    }

    #[test]
    fn a_clock_is_believed_an_hour_after_it_was_set() {
        let mut clock = ClockWatch::new(1000.0);
        let second = Duration::from_secs(1);
        let mut unix = 1000.0;
        for _ in 0..3600 {
            assert!(!clock.is_steady());
            unix += 1.01;
            clock.look(unix, second);
        }
        assert!(clock.is_steady());
        for step in [5e8, -5e8] {
            unix += step;
            clock.look(unix, second);
            assert!(!clock.is_steady());
        }
    }
}
