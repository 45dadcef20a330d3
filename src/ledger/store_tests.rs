use super::*;
use crate::ledger::{HistoryQuery, Metric, Series, read::Reader};

const DAY: u64 = 86_400;
/// Midnight, some year.
const START: u64 = 20_000 * DAY;

fn worker(n: usize, accepted: u64) -> StoredWorker {
    let mut sum = Sum { accepted, difficulty: accepted as f64 * 16_384.0, ..Sum::default() };
    sum.rejected[Reject::Duplicate as usize] = accepted / 100;
    let name = format!("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.farm{n:05}").into();
    let best = 1e6 + n as f64;
    StoredWorker { name, sum, best, best_at: START, first_seen: START, last_seen: START + 60 }
}

/// `workers` that each send eight shares in minute `t`.
fn batch(t: u64, workers: usize, sent: u64) -> Batch {
    let workers: Vec<_> = (0..workers).map(|n| worker(n, sent)).collect();
    let row = |rejects: bool| Row {
        accepted: 8,
        difficulty: 8.0 * 16_384.0,
        rejects: if rejects { [(Reject::Duplicate, 1)].into() } else { [].into() },
    };
    let rows = workers.iter().enumerate();
    let rows: Vec<_> = rows
        .map(|(n, it)| (Arc::clone(&it.name), row((n as u64 + t).is_multiple_of(97))))
        .collect();
    let count = rows.len() as u64;
    let total = Row {
        accepted: 8 * count,
        difficulty: 8.0 * 16_384.0 * count as f64,
        rejects: [(Reject::Duplicate, 1), (Reject::StaleWork, 2)].into(),
    };
    let minutes = vec![Minute { t, seconds: 60.0, total, workers: rows }];
    Batch { workers, minutes, ..Batch::default() }
}

fn ask(dir: &Path, metric: Metric, worker: Option<&str>, window_s: u64, now: u64) -> Series {
    ask_beside(false, dir, metric, worker, window_s, now)
}

fn ask_beside(
    beside_workers: bool,
    dir: &Path,
    metric: Metric,
    worker: Option<&str>,
    window_s: u64,
    now: u64,
) -> Series {
    let window = Duration::from_secs(window_s);
    let worker = worker.map(str::to_owned);
    let query = HistoryQuery { metric, worker, beside_workers, window };
    Reader::new(dir).history(&query, now).unwrap()
}

fn count(store: &Store, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store.connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn minutes_become_hours_and_days() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, stored) = Store::open(dir.path()).unwrap();
    assert!(stored.totals.is_none() && stored.workers.is_empty());
    for t in 0..150 {
        store.write(&batch(START / 60 + t, 3, t)).unwrap();
    }
    // The clock was set back: once more into a minute that is there.
    store.write(&batch(START / 60 + 149, 2, 150)).unwrap();
    let now = START + 150 * 60;
    let series = ask(dir.path(), Metric::Accepted, None, 4 * 3600, now);
    assert_eq!((series.step_s, series.points.len()), (60, 150));
    assert_eq!(series.points[0], (START, 24.0));
    assert_eq!(series.points[149], (START + 149 * 60, 40.0));
    let series = ask(dir.path(), Metric::Accepted, None, 7 * DAY, now);
    assert_eq!(series.step_s, 3600);
    let day = START / 3600;
    let hours = [(day, 60.0 * 24.0), (day + 1, 60.0 * 24.0), (day + 2, 30.0 * 24.0 + 16.0)];
    assert_eq!(series.points, hours.map(|(hour, shares)| (hour * 3600, shares)));
    let series = ask(dir.path(), Metric::Difficulty, None, 365 * DAY, now);
    assert_eq!(series.points, [(START, (150.0 * 24.0 + 16.0) * 16_384.0)]);
    // 8 shares of difficulty 16,384 a minute, whichever way it is looked at.
    let rate = 8.0 / 60.0 * 16_384.0 * 4_294_967_296.0;
    let name = &worker(1, 0).name;
    for window in [3600, 7 * DAY, 365 * DAY] {
        let series = ask(dir.path(), Metric::Hashrate, Some(name), window, now);
        assert!(!series.points.is_empty());
        for (at, found) in series.points {
            assert!((found / rate - 1.0).abs() < 1e-9, "{window}: {found} at {at}");
        }
    }
    assert_eq!(ask(dir.path(), Metric::Rejected, None, 7 * DAY, now).points[1].1, 180.0);
    let mut reader = Reader::new(dir.path());
    let rejects = reader.rejects(None, Duration::from_secs(7 * DAY), now).unwrap();
    assert_eq!(rejects, [("stale-work".into(), 302), ("duplicate".into(), 151)]);
    let rejects = reader.rejects(Some(name), Duration::from_secs(7 * DAY), now).unwrap();
    let refused = (0..150).filter(|t| (1 + START / 60 + t).is_multiple_of(97)).count() as u64;
    assert_eq!(rejects, [("duplicate".into(), refused)]);
    assert_eq!(ask(dir.path(), Metric::Accepted, Some("nobody"), DAY, now).points, []);
}

#[test]
fn a_worker_that_was_silent_has_nothing_and_before_the_rows_there_is_no_point() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let minute = START / 60;
    store.write(&batch(minute, 0, 0)).unwrap();
    store.write(&batch(minute + 1, 2, 8)).unwrap();
    store.write(&batch(minute + 2, 1, 16)).unwrap();
    // gatewayd was not running in the third.
    store.write(&batch(minute + 4, 2, 24)).unwrap();
    let name = &worker(1, 0).name;
    let series = ask(dir.path(), Metric::Accepted, Some(name), 600, START + 300);
    let points = [(1, 8.0), (2, 0.0), (4, 8.0)].map(|(t, shares)| (START + t * 60, shares));
    assert_eq!(series.points, points);
}

#[test]
fn everything_but_series_is_read_back_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let best = Some(BestShare { difficulty: 4.5e12, worker: "a.b".into(), at: START + 5 });
    let totals = StoredTotals { sum: worker(0, 900).sum, since: START, best };
    let refusal = BlockOutcome::Rejected("bad-cb-amount".into());
    let answers = [("x", BlockOutcome::Accepted), ("y", refusal)]
        .map(|(node, outcome)| NodeAnswer { node: node.into(), outcome, at: START + 7 });
    let block = |height: u32| BlockRecord {
        height,
        hash: format!("{height:064}"),
        at: START + u64::from(height),
        worker: "a.b".into(),
        submissions: answers.to_vec(),
    };
    let workers = vec![worker(0, 700), worker(1, 200)];
    let batch = Batch {
        totals: Some(totals.clone()),
        workers: workers.clone(),
        blocks: vec![block(1), block(2)],
        ..Batch::default()
    };
    store.write(&batch).unwrap();
    store.write(&batch).unwrap();
    drop(store);
    let (mut store, mut stored) = Store::open(dir.path()).unwrap();
    assert_eq!(stored.totals, Some(totals));
    stored.workers.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(stored.workers, workers);
    assert_eq!(stored.blocks, [block(1), block(2)]);
    // Its name may come back: as somebody new.
    let gone = Batch { forgotten: vec![Arc::clone(&workers[0].name)], ..Batch::default() };
    store.write(&gone).unwrap();
    store.write(&Batch { workers: vec![worker(0, 1)], ..Batch::default() }).unwrap();
    let ids = ids(&store.connection).unwrap();
    assert_eq!((ids.len(), ids[&workers[0].name]), (2, 3));
    assert_eq!(ids, store.ids);
}

#[test]
fn only_one_writes_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let second = Store::open(dir.path());
    assert!(matches!(&second, Err(StoreError::InUse { .. })), "{second:?}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn what_is_old_goes_when_the_clock_can_be_believed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let minute = START / 60;
    for t in [minute, minute + 4 * 1440, minute + 100 * 1440, minute + 400 * 1440] {
        store.write(&batch(t, 2, 8)).unwrap();
    }
    let keep = Duration::from_secs(90 * DAY);
    store.prune(None, keep).unwrap();
    assert_eq!(count(&store, "total_minute"), 4);
    let now = START + 100 * DAY + 60;
    store.prune(Some(now), keep).unwrap();
    // One more is in the future, written while the clock was wrong.
    for (table, rows) in [("total_minute", 1), ("total_hour", 1), ("total_day", 3)] {
        assert_eq!(count(&store, table), rows, "{table}");
    }
    for (table, rows) in [("worker_minute", 2), ("worker_hour", 2), ("worker_day", 6)] {
        assert_eq!(count(&store, table), rows, "{table}");
    }
    assert_eq!(count(&store, "reject_minute"), 2);
    store.prune(Some(now + 2 * DAY), Duration::from_secs(DAY)).unwrap();
    assert_eq!((count(&store, "total_minute"), count(&store, "total_hour")), (0, 0));
}

#[test]
fn workers_rows_are_bounded_and_the_oldest_go() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let minute = START / 60;
    for t in 0..300 {
        store.write(&batch(minute + t, 20, 8 * t)).unwrap();
    }
    let rows = |store: &Store, step: &str| {
        count(store, &format!("worker_{step}")) + count(store, &format!("reject_{step}"))
    };
    // More has to go than one turn takes.
    store.try_prune(None, Duration::MAX, 1_000).unwrap();
    assert!(rows(&store, "minute") > 1_100);
    store.try_prune(None, Duration::MAX, 1_000).unwrap();
    // The latest minute is still being written, and not counted.
    let now = rows(&store, "minute");
    assert!((900..=1_000 + 23).contains(&now), "{now} rows");
    assert_eq!(count(&store, "total_minute"), 300);
    assert_eq!(count(&store, "worker_hour"), 5 * 20);
    let first: u64 = store
        .connection
        .query_row("SELECT min(t) FROM worker_minute", [], |row| row.get(0))
        .unwrap();
    assert!(first > minute + 250);
    // What is left is shown, by the minute as far as it goes and by the hour beyond.
    let name = &worker(1, 0).name;
    let series = ask(dir.path(), Metric::Accepted, Some(name), 1200, START + 300 * 60);
    assert_eq!((series.step_s, series.points.len()), (60, 20));
    let series = ask(dir.path(), Metric::Accepted, Some(name), 4 * 3600, START + 300 * 60);
    assert_eq!((series.step_s, series.points.len()), (3600, 4));
    // The total has all its minutes; beside a worker it comes in hours, which lose nothing.
    let now_s = START + 300 * 60;
    let total = ask(dir.path(), Metric::Accepted, None, 4 * 3600, now_s);
    assert_eq!((total.step_s, total.points.len()), (60, 240));
    let beside = ask_beside(true, dir.path(), Metric::Accepted, None, 4 * 3600, now_s);
    assert_eq!((beside.step_s, beside.points.len()), (3600, 4));
    let sum = |series: &Series| series.points.iter().map(|(_, shares)| shares).sum::<f64>();
    assert_eq!(sum(&beside), sum(&total));
    store.try_prune(None, Duration::MAX, 1_000).unwrap();
    assert_eq!(rows(&store, "minute"), now, "nothing more goes");
}

/// The whole day, 14 million lines, takes a minute: see `a_day_of_ten_thousand_workers`.
#[test]
fn a_minute_of_ten_thousand_workers_is_small() {
    simulate(12);
}

/// Prints what a day takes. `cargo test --lib ten_thousand -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes of processor time"]
fn a_day_of_ten_thousand_workers() {
    let (file, per_minute) = simulate(1440);
    eprintln!("{} MB after a day, {per_minute:?} a minute", file >> 20);
    assert!(file < 150 << 20);
}

/// Ten thousand workers for so many minutes; the size of the file, and the time a minute took.
fn simulate(minutes: u64) -> (u64, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(dir.path()).unwrap();
    let mut took = Duration::ZERO;
    for t in 0..minutes {
        let batch = batch(START / 60 + t, 10_000, 8 * t);
        #[expect(clippy::disallowed_methods, reason = "a measurement")]
        let began = std::time::Instant::now();
        store.write(&batch).unwrap();
        if t % 10 == 9 {
            store.prune(Some(START + t * 60), Duration::from_secs(90 * DAY)).unwrap();
        }
        took += began.elapsed();
    }
    let now = START + minutes * 60;
    let name = &worker(7_000, 0).name;
    let series = ask(dir.path(), Metric::Accepted, Some(name), 3600, now);
    assert_eq!(series.points.len() as u64, minutes.min(60));
    drop(store);
    let file = fs::metadata(dir.path().join(FILE)).unwrap().len();
    let rows = i64::try_from(minutes * 10_000).unwrap().min(WORKER_ROWS_MAX) + 480_000;
    assert!(file < (rows as u64) * 32, "{} bytes a row", file / rows as u64);
    (file, took / u32::try_from(minutes).unwrap())
}
