//! Chooses the table for a query, and turns its rows into points.

use std::time::Duration;

use super::{Metric, Series};
use crate::work::HASHES_PER_DIFFICULTY;

/// The period that a table's row covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    Minute,
    Hour,
    Day,
}

impl Step {
    pub(super) const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    pub(super) const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// Its name in table names.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How long its rows are kept; None: forever.
    pub(super) fn kept(self, keep_history: Duration) -> Option<Duration> {
        match self {
            Self::Minute => Some(MINUTES_KEPT.min(keep_history)),
            Self::Hour => Some(keep_history),
            Self::Day => None,
        }
    }

    /// A rate is over at least this many seconds, however briefly gatewayd ran: one share in three
    /// seconds means nothing.
    const fn seconds_min(self) -> f64 {
        match self {
            Self::Minute => 30.0,
            Self::Hour => 300.0,
            Self::Day => 3_600.0,
        }
    }
}

/// One row as read, its time in steps since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) t: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) difficulty: f64,
    /// How many seconds gatewayd was running.
    pub(super) seconds: f64,
}

/// How to answer a query for a period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) step: Step,
    /// First and last row.
    pub(super) from: u64,
    pub(super) to: u64,
    /// Rows per point.
    pub(super) each: u64,
}

/// Chooses the finest table that reaches back far enough. `first` is when each table's first row
/// begins, in unix seconds; None: it has no rows.
pub(super) fn plan(window: Duration, now: u64, first: impl Fn(Step) -> Option<u64>) -> Plan {
    let window = window.as_secs().clamp(WINDOW_MIN_S, WINDOW_MAX_S);
    let start = now.saturating_sub(window);
    let mut chosen = Step::Day;
    for (at, step) in Step::ALL.into_iter().enumerate() {
        let rows = window / step.seconds();
        let Some(first_row) = first(step) else { continue };
        // A table that begins as late as the coarser ones is as old as the whole history.
        let coarser = Step::ALL.iter().skip(at + 1);
        let older = coarser.filter_map(|coarse| Some(first(*coarse)? + coarse.seconds()));
        let is_whole = first_row <= start || older.min().is_none_or(|older| older > first_row);
        if rows <= ROWS_MAX && is_whole {
            chosen = step;
            break;
        }
    }
    let seconds = chosen.seconds();
    let (from, to) = (start.div_ceil(seconds), now / seconds);
    let each = (to + 1).saturating_sub(from).div_ceil(POINTS_MAX).max(1);
    // The last point may have fewer rows than the others, but never the first: it would show as a
    // dip.
    Plan { step: chosen, from: from.next_multiple_of(each), to, each }
}

/// Combines rows, in order of time, into points.
pub(super) fn resample(plan: &Plan, metric: Metric, rows: impl Iterator<Item = Point>) -> Series {
    let seconds = plan.step.seconds();
    let mut points: Vec<(u64, f64)> = Vec::new();
    let mut group = Point::default();
    let mut began = None;
    let end = |began: Option<u64>, group: &Point, points: &mut Vec<_>| {
        if let Some(t) = began {
            points.push((t * plan.each * seconds, value(metric, group)));
        }
    };
    for row in rows {
        let at = row.t / plan.each;
        if began != Some(at) {
            end(began, &group, &mut points);
            (began, group) = (Some(at), Point::default());
        }
        group.accepted += row.accepted;
        group.rejected += row.rejected;
        group.difficulty += row.difficulty;
        group.seconds += row.seconds.max(plan.step.seconds_min());
    }
    end(began, &group, &mut points);
    let step_s = u32::try_from(plan.each * seconds).unwrap_or(u32::MAX);
    Series { step_s, points }
}

#[expect(clippy::cast_precision_loss, reason = "nobody counts 2^53 shares")]
fn value(metric: Metric, point: &Point) -> f64 {
    match metric {
        Metric::Hashrate => point.difficulty * HASHES_PER_DIFFICULTY / point.seconds,
        Metric::Accepted => point.accepted as f64,
        Metric::Rejected => point.rejected as f64,
        Metric::Difficulty => point.difficulty,
    }
}

/// Enough for a chart on any screen.
const POINTS_MAX: u64 = 1_500;
/// Rows that one query may read: three days of minutes, half a year of hours.
const ROWS_MAX: u64 = 4_400;
/// The shortest period that has a point.
const WINDOW_MIN_S: u64 = 120;
/// Ten years.
const WINDOW_MAX_S: u64 = 3_660 * 86_400;
/// A week is shown by the hour, which needs no minutes.
const MINUTES_KEPT: Duration = Duration::from_secs(3 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    /// Tables that begin so many seconds ago.
    #[track_caller]
    fn case(window_s: u64, began: [Option<u64>; 3], step: Step, each: u64) {
        let first = |step: Step| {
            let ago = began[step as usize]?;
            Some((NOW - ago) / step.seconds() * step.seconds())
        };
        let plan = plan(Duration::from_secs(window_s), NOW, first);
        assert_eq!((plan.step, plan.each), (step, each));
        let window_s = window_s.clamp(WINDOW_MIN_S, WINDOW_MAX_S);
        assert!(plan.from * plan.step.seconds() + window_s >= NOW, "{plan:?}");
        assert!((plan.to - plan.from) / plan.each <= POINTS_MAX, "{plan:?}");
    }

    #[test]
    fn the_finest_table_that_reaches_back_answers() {
        let years = [Some(3 * DAY), Some(90 * DAY), Some(900 * DAY)];
        case(3_600, years, Step::Minute, 1);
        case(DAY, years, Step::Minute, 1);
        case(3 * DAY - 60, years, Step::Minute, 3);
        case(7 * DAY, years, Step::Hour, 1);
        case(89 * DAY, years, Step::Hour, 2);
        case(365 * DAY, years, Step::Day, 1);
        case(u64::MAX / 2, years, Step::Day, 3);
        case(0, years, Step::Minute, 1);
    }

    #[test]
    fn a_young_history_is_shown_by_the_minute() {
        let young = [Some(300); 3];
        case(3_600, young, Step::Minute, 1);
        case(DAY, young, Step::Minute, 1);
        case(7 * DAY, young, Step::Hour, 1);
        case(DAY, [None; 3], Step::Day, 1);
    }

    #[test]
    fn minutes_that_had_to_go_early_are_shown_by_the_hour() {
        let crowded = [Some(3 * 3_600), Some(20 * DAY), Some(400 * DAY)];
        case(2 * 3_600, crowded, Step::Minute, 1);
        case(DAY, crowded, Step::Hour, 1);
        case(30 * DAY, crowded, Step::Day, 1);
    }

    fn row(t: u64, difficulty: f64, seconds: f64) -> Point {
        Point { t, accepted: 2, rejected: 1, difficulty, seconds }
    }

    #[test]
    fn rates_are_over_the_time_that_was_looked_at() {
        let plan = Plan { step: Step::Minute, from: 0, to: 9, each: 1 };
        // A whole minute, a start, a moment, and one that a clock set back doubled.
        let rows =
            [row(1, 60.0, 60.0), row(2, 40.0, 40.0), row(3, 30.0, 1.0), row(6, 120.0, 120.0)];
        let series = resample(&plan, Metric::Hashrate, rows.into_iter());
        assert_eq!(series.step_s, 60);
        let hashes = |rate: f64| rate * HASHES_PER_DIFFICULTY;
        let expected =
            [(60, hashes(1.0)), (120, hashes(1.0)), (180, hashes(1.0)), (360, hashes(1.0))];
        assert_eq!(series.points, expected);
    }

    #[test]
    fn rows_join_to_points() {
        let plan = Plan { step: Step::Hour, from: 4, to: 9, each: 2 };
        let rows = [4, 5, 6, 8, 9].map(|t| row(t, 7_200.0, 3_600.0));
        let series = resample(&plan, Metric::Accepted, rows.into_iter());
        assert_eq!(series.step_s, 7_200);
        assert_eq!(series.points, [(14_400, 4.0), (21_600, 2.0), (28_800, 4.0)]);
        let series = resample(&plan, Metric::Hashrate, rows.into_iter());
        assert!(series.points.iter().all(|it| it.1 == 2.0 * HASHES_PER_DIFFICULTY), "{series:?}");
        assert_eq!(resample(&plan, Metric::Rejected, std::iter::empty()).points, []);
    }
}
