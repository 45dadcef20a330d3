//! Series for charts, from the ledger.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{
        handles::Handles,
        shapes::{self, History, Metric, Unit},
    },
    ledger::{self, HistoryQuery, ReadError},
};

/// What a chart asks for.
#[derive(Clone, Debug)]
pub(crate) struct HistoryRequest {
    pub(crate) metric: Metric,
    pub(crate) window: Duration,
    /// None: all workers together.
    pub(crate) worker: Option<String>,
    /// Additional series for this many of the busiest workers.
    pub(crate) top: usize,
}

pub(crate) async fn history(
    handles: &Handles,
    request: HistoryRequest,
) -> Result<History, ReadError> {
    let mut lines = vec![request.worker.clone()];
    if request.top > 0 {
        let mut workers = handles.ledger.workers(BUSIEST_OF).await;
        workers.retain(|worker| Some(&worker.name) != request.worker.as_ref());
        workers.sort_by(|a, b| b.hashrate.h1.total_cmp(&a.hashrate.h1));
        lines.extend(workers.into_iter().take(request.top).map(|worker| Some(worker.name)));
    }
    let mut found = Vec::with_capacity(lines.len());
    for query in queries(&request, lines) {
        found.push((query.worker.clone(), handles.ledger.history(query).await?));
    }
    Ok(align(&request, found))
}

/// One for each line, all in the same steps: the total may have minutes where workers only have
/// hours.
fn queries(request: &HistoryRequest, lines: Vec<Option<String>>) -> Vec<HistoryQuery> {
    let (metric, window) = (metric(request.metric), request.window);
    let beside_workers = lines.iter().any(Option::is_some);
    let query = |worker| HistoryQuery { metric, worker, beside_workers, window };
    lines.into_iter().map(query).collect()
}

/// Puts all lines on one time axis, with a time wherever one of them has a value and the steps in
/// between, so that gaps are visible.
fn align(request: &HistoryRequest, found: Vec<(Option<String>, ledger::Series)>) -> History {
    let step_s = found.iter().map(|(_, series)| series.step_s).max().unwrap_or(0);
    let step_s = u64::from(step_s).max(1);
    let times = || found.iter().flat_map(|(_, series)| &series.points).map(|(at, _)| at / step_s);
    let at_unix_s: Vec<u64> = match (times().min(), times().max()) {
        (Some(first), Some(last)) => {
            let last = last.min(first + POINTS_MAX);
            (first..=last).map(|step| step * step_s).collect()
        }
        _ => Vec::new(),
    };
    let series = found.into_iter().map(|(worker, series)| {
        let known: BTreeMap<u64, f64> =
            series.points.into_iter().map(|(at, value)| (at / step_s, value)).collect();
        let value = |at: &u64| known.get(&(at / step_s)).copied().filter(|it| it.is_finite());
        shapes::Series { worker, values: at_unix_s.iter().map(value).collect() }
    });
    History {
        metric: request.metric,
        unit: match request.metric {
            Metric::Hashrate => Unit::HPerS,
            Metric::Accepted | Metric::Rejected => Unit::Shares,
            Metric::Difficulty => Unit::Difficulty,
        },
        window_s: request.window.as_secs(),
        step_s,
        series: series.collect(),
        at_unix_s,
    }
}

fn metric(metric: Metric) -> ledger::Metric {
    match metric {
        Metric::Hashrate => ledger::Metric::Hashrate,
        Metric::Accepted => ledger::Metric::Accepted,
        Metric::Rejected => ledger::Metric::Rejected,
        Metric::Difficulty => ledger::Metric::Difficulty,
    }
}

/// The busiest are chosen among this many workers, those seen last.
const BUSIEST_OF: usize = 5_000;
/// More than the ledger returns: a step that is too small must not lead to a million nulls.
const POINTS_MAX: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_share_an_axis_and_gaps_are_null() {
        let request = HistoryRequest {
            metric: Metric::Hashrate,
            window: Duration::from_secs(3600),
            worker: None,
            top: 1,
        };
        let total =
            ledger::Series { step_s: 60, points: vec![(600, 1.0), (660, 2.0), (780, f64::NAN)] };
        let worker = ledger::Series { step_s: 60, points: vec![(840, 4.0)] };
        let history = align(&request, vec![(None, total), (Some("a".into()), worker)]);
        assert_eq!(history.at_unix_s, [600, 660, 720, 780, 840]);
        assert_eq!(history.series[0].values, [Some(1.0), Some(2.0), None, None, None]);
        assert_eq!(history.series[1].values, [None, None, None, None, Some(4.0)]);
        assert_eq!((history.step_s, history.window_s), (60, 3600));
    }

    #[test]
    fn the_total_is_asked_for_in_the_steps_of_the_workers_beside_it() {
        let request = HistoryRequest {
            metric: Metric::Accepted,
            window: Duration::from_secs(86_400),
            worker: None,
            top: 1,
        };
        let worker = || Some("a.b".to_owned());
        let steps = |lines| -> Vec<_> {
            let all = queries(&request, lines);
            all.into_iter().map(|query| (query.worker, query.beside_workers)).collect()
        };
        assert_eq!(steps(vec![None, worker()]), [(None, true), (worker(), true)]);
        assert_eq!(steps(vec![None]), [(None, false)]);
    }

    #[test]
    fn nothing_recorded_is_no_error() {
        let request = HistoryRequest {
            metric: Metric::Accepted,
            window: Duration::from_secs(60),
            worker: None,
            top: 0,
        };
        let history = align(&request, vec![(None, ledger::Series::default())]);
        assert!(history.at_unix_s.is_empty());
        assert_eq!(history.series.len(), 1);
    }
}
