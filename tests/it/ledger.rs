//! History is kept: over restarts, on bad disks, by the real gateway.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use gatewayd::{
    books::{
        Counters, MinerProtocol, Roster,
        roster::{MinerInfo, RosterEntry},
    },
    devnet::miner::{Miner, MinerOptions},
    ledger::{
        self, BlockEvent, BlockNews, HistoryQuery, Inputs, Ledger, LedgerConfig, LedgerState,
        Metric,
    },
    work::{BlockOutcome, CoinbaseClass, Reject, Username},
};
use rusqlite::{Connection, OpenFlags};

const SOON: Duration = Duration::from_secs(120);

/// A ledger, and somebody who mines for it.
struct Side {
    ledger: Ledger,
    roster: Arc<Roster>,
    counters: Arc<Counters>,
    miner: RosterEntry,
    _news: std::sync::mpsc::Sender<BlockNews>,
}

impl Side {
    fn start(dir: &Path) -> Self {
        Self::start_with(dir, Vec::new())
    }

    fn start_with(dir: &Path, news: Vec<BlockNews>) -> Self {
        let (roster, counters) = (Roster::new(now()), Arc::new(Counters::default()));
        let (sender, coming) = std::sync::mpsc::channel();
        news.into_iter().for_each(|it| sender.send(it).unwrap());
        let inputs = Inputs {
            roster: Arc::clone(&roster),
            counters: Arc::clone(&counters),
            blocks: Box::new(move || coming.try_iter().collect()),
        };
        let keep_history = Duration::from_secs(90 * 86_400);
        let ledger = ledger::spawn(LedgerConfig { data_dir: dir.to_owned(), keep_history }, inputs);
        let about = MinerInfo {
            user_agent: "x/1".into(),
            class: CoinbaseClass::Default,
            workers: Vec::new(),
        };
        let peer = "127.0.0.1:1".parse().unwrap();
        let miner = roster.enter(peer, MinerProtocol::Sv1, about, &Arc::default(), now());
        Self { ledger, roster, counters, miner, _news: sender }
    }

    fn mine(&self, name: &str, shares: u64, best: f64) {
        let worker = self.roster.worker(&Username(name.into()));
        for _ in 0..shares {
            self.miner.accept(&worker, 1024.0, best, false, now());
        }
        self.counters.add_accepted(MinerProtocol::Sv1, shares, 1024.0 * shares as f64);
        self.miner.reject(Some(&worker), Reject::Duplicate);
        self.counters.add_rejected(MinerProtocol::Sv1, Reject::Duplicate, 1);
    }

    /// What is wrong, as soon as something is.
    fn wait_degraded(&self) -> String {
        eventually("a warning", SOON, || match self.ledger.state() {
            LedgerState::Degraded { reason } => Some(reason),
            LedgerState::Ok => None,
        })
    }

    fn wait_ok(&self) {
        eventually("the disk is back", SOON, || {
            (self.ledger.state() == LedgerState::Ok).then_some(())
        });
    }

    fn wait_accepted(&self, accepted: u64) {
        eventually("all shares of all runs", SOON, || {
            (self.ledger.totals().accepted == accepted).then_some(())
        });
    }

    async fn shares(&self, worker: Option<&str>) -> f64 {
        let window = Duration::from_secs(3600);
        let worker = worker.map(str::to_owned);
        let query =
            HistoryQuery { metric: Metric::Accepted, worker, beside_workers: false, window };
        let series = self.ledger.history(query).await.unwrap();
        assert_eq!(series.step_s, 60);
        series.points.iter().map(|(_, shares)| shares).sum()
    }
}

#[expect(clippy::disallowed_methods, reason = "the ledger under test has a real clock")]
fn now() -> Instant {
    Instant::now()
}

fn set_aside(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".corrupt-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_continues_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let answered = |node: &str, outcome| BlockEvent::Answered { node: node.into(), outcome };
    let news = |what| BlockNews { height: 7, hash: "00ab".into(), at: 1_800_000_000, what };
    let first = Side::start_with(
        dir.path(),
        vec![
            news(BlockEvent::Found(Some("a".into()))),
            news(answered("x", BlockOutcome::Unanswered(String::new()))),
            news(answered("y", BlockOutcome::Stale)),
        ],
    );
    first.mine("a", 10, 5_000.0);
    first.mine("b", 5, 9_000.0);
    let since = first.ledger.totals().since;
    first.ledger.stop().await;

    // The missing answer comes after the restart.
    let second = Side::start_with(dir.path(), vec![news(answered("x", BlockOutcome::Accepted))]);
    second.mine("a", 1, 2_000.0);
    second.wait_accepted(16);
    let totals = second.ledger.totals();
    assert_eq!((totals.since, totals.difficulty), (since, 16.0 * 1024.0));
    assert_eq!(totals.rejected[Reject::Duplicate as usize], 3);
    let best = totals.best.unwrap();
    assert_eq!((best.difficulty, best.worker.as_str()), (9_000.0, "b"));
    second.ledger.stop().await;

    let third = Side::start(dir.path());
    third.wait_accepted(16);
    let workers = third.ledger.workers(10).await;
    let mut told: Vec<_> = workers
        .iter()
        .map(|it| {
            let refused = it.rejected[Reject::Duplicate as usize];
            (it.name.as_str(), it.accepted, refused, it.best_difficulty)
        })
        .collect();
    told.sort_by(|a, b| a.0.cmp(b.0));
    assert_eq!(told, [("a", 11, 2, 5_000.0), ("b", 5, 1, 9_000.0)]);
    assert!(workers.iter().all(|it| it.first_seen >= since && it.last_seen >= it.first_seen));
    assert_eq!((third.shares(None).await, third.shares(Some("a")).await), (16.0, 11.0));
    let rejects = third.ledger.rejects(None, Duration::from_secs(3600)).await.unwrap();
    assert_eq!(rejects, [("duplicate".into(), 3)]);
    let blocks = third.ledger.blocks(10).await;
    assert_eq!(blocks.len(), 1);
    assert_eq!((blocks[0].worker.as_str(), blocks[0].at), ("a", 1_800_000_000));
    let mut fates: Vec<_> =
        blocks[0].submissions.iter().map(|it| (it.node.as_str(), it.outcome.name())).collect();
    fates.sort_by_key(|it| it.0);
    assert_eq!(fates, [("x", "accepted"), ("y", "stale")]);
    assert_eq!(third.ledger.state(), LedgerState::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_junk_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gatewayd.db"), "not a database ".repeat(1000)).unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 3, 5_000.0);
    let reason = side.wait_degraded();
    assert!(reason.contains("damaged") && reason.contains("gatewayd.db.corrupt-"), "{reason}");
    let aside = set_aside(dir.path());
    assert_eq!(aside.len(), 1, "{aside:?}");
    assert!(fs::read_to_string(&aside[0]).unwrap().starts_with("not a database"));
    side.ledger.stop().await;
    let side = Side::start(dir.path());
    side.wait_accepted(3);
    assert_eq!((side.shares(None).await, side.ledger.state()), (3.0, LedgerState::Ok));
}

/// Damage that only shows when a minute is written: what is in memory goes into the new file.
#[tokio::test(flavor = "multi_thread")]
async fn damage_found_late_costs_only_the_charts() {
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 7, 5_000.0);
    side.ledger.stop().await;
    let file = dir.path().join("gatewayd.db");
    let connection = Connection::open(&file).unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'total_minute'";
    let page: u64 = connection.query_row(sql, [], |row| row.get(0)).unwrap();
    drop(connection);
    let mut raw = fs::OpenOptions::new().write(true).open(&file).unwrap();
    raw.seek(SeekFrom::Start((page - 1) * 4096)).unwrap();
    raw.write_all(&[0xAA; 4096]).unwrap();
    drop(raw);

    let side = Side::start(dir.path());
    side.wait_accepted(7);
    assert_eq!(set_aside(dir.path()).len(), 0);
    // Reading the chart finds the damage.
    let window = Duration::from_secs(3600);
    let query =
        HistoryQuery { metric: Metric::Hashrate, worker: None, beside_workers: false, window };
    side.ledger.history(query).await.unwrap_err();
    let reason = side.wait_degraded();
    assert!(reason.contains("totals and workers are kept"), "{reason}");
    assert!(!set_aside(dir.path()).is_empty());
    side.mine("a", 2, 4_000.0);
    side.ledger.stop().await;
    let side = Side::start(dir.path());
    side.wait_accepted(9);
    let workers = side.ledger.workers(10).await;
    assert_eq!((workers[0].accepted, workers[0].best_difficulty), (9, 5_000.0));
    assert_eq!(side.shares(None).await, 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_the_files_place_is_reported_and_waited_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatewayd.db");
    fs::create_dir(&file).unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 4, 5_000.0);
    let reason = side.wait_degraded();
    assert!(reason.contains("is a folder") && reason.contains("move it away"), "{reason}");
    assert!(reason.contains("Mining goes on"), "{reason}");
    // Everything but the charts still works.
    let window = Duration::from_secs(3600);
    let query =
        HistoryQuery { metric: Metric::Hashrate, worker: None, beside_workers: false, window };
    let unread = side.ledger.history(query).await.unwrap_err().to_string();
    assert!(unread.contains("cannot be read") && !unread.contains("writ"), "{unread}");
    eventually("a sample", SOON, || (side.ledger.hashrate().m1 > 0.0).then_some(()));
    assert_eq!(side.ledger.totals().best.unwrap().difficulty, 5_000.0);
    fs::remove_dir(&file).unwrap();
    side.wait_ok();
    side.ledger.stop().await;
    let side = Side::start(dir.path());
    side.wait_accepted(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_file_is_created_again() {
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 4, 5_000.0);
    let file = dir.path().join("gatewayd.db");
    eventually("the file", SOON, || file.exists().then_some(()));
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(dir.path().join(format!("gatewayd.db{ending}")));
    }
    eventually("another file", SOON, || file.exists().then_some(()));
    side.ledger.stop().await;
    let side = Side::start(dir.path());
    side.wait_accepted(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_gatewayds_file_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 4, 5_000.0);
    side.ledger.stop().await;
    let file = dir.path().join("gatewayd.db");
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = fs::read(&file).unwrap();
    let side = Side::start(dir.path());
    side.mine("a", 4, 5_000.0);
    let reason = side.wait_degraded();
    assert!(reason.contains("newer gatewayd (file version 99"), "{reason}");
    side.ledger.stop().await;
    assert_eq!(fs::read(&file).unwrap(), before);
}

/// A disk of two megabytes, unmounted when dropped; None without permission to mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Self(dir);
        let mounted = disk.run("mount -t tmpfs -o size=2m tmpfs").then_some(());
        if mounted.is_none() {
            eprintln!("skipped: no permission to mount a small disk");
        }
        mounted.map(|()| disk)
    }

    fn run(&self, command: &str) -> bool {
        let line = format!("{command} {}", self.0.path().display());
        Command::new("sh").args(["-c", &line]).status().unwrap().success()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let side = Side::start(dir);
    side.mine("a", 4, 5_000.0);
    side.wait_ok();
    eventually("the file", SOON, || dir.join("gatewayd.db").exists().then_some(()));
    let filler = dir.join("filler");
    // Stops by itself when nothing more fits.
    fs::write(&filler, vec![1; 4 << 20]).unwrap_err();
    for n in 0..2_000 {
        side.mine(&format!("worker{n}"), 1, 100.0);
    }
    let reason = side.wait_degraded();
    assert!(reason.contains("is full: free some space"), "{reason}");
    assert_eq!(side.ledger.totals().accepted, 2_004);
    fs::remove_file(&filler).unwrap();
    side.wait_ok();
    side.ledger.stop().await;
    let side = Side::start(dir);
    side.wait_accepted(2_004);
    assert_eq!(side.shares(None).await, 2_004.0);
    assert_eq!(side.ledger.workers(usize::MAX).await.len(), 2_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_turns_read_only_is_waited_out() {
    let Some(disk) = SmallDisk::mount() else { return };
    let dir = disk.0.path();
    let side = Side::start(dir);
    side.mine("a", 4, 5_000.0);
    side.ledger.stop().await;
    drop(side);
    assert!(disk.run("mount -o remount,ro"));
    let side = Side::start(dir);
    side.mine("a", 1, 5_000.0);
    let reason = side.wait_degraded();
    assert!(reason.contains("cannot be written to"), "{reason}");
    assert!(disk.run("mount -o remount,rw"));
    side.wait_ok();
    side.wait_accepted(5);
}

/// The real gateway, its real clock, its real signals.
#[tokio::test(flavor = "multi_thread")]
async fn gatewayd_keeps_counting_after_a_restart() {
    let node = Bitcoind::signet();
    let config = format!(
        r#"
        {}
        [mining]
        address = "{}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.00005
        difficulty_start = 0.00005
        [api]
        listen = ""
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.node_toml(),
        node.new_address(),
    );
    let mut gateway = Gateway::start(&config);
    let mut accepted = 0;
    let mut best = 0.0;
    for run in 1..=2 {
        let options = MinerOptions {
            connect: gateway.addr("stratum").to_string(),
            username: "anybody.garage".into(),
            hashrate_max: Some(1_000_000.0),
            ..MinerOptions::default()
        };
        let miner = Miner::start(options).unwrap();
        eventually("some shares", Duration::from_secs(60), || {
            (miner.stats().accepted >= 5).then_some(())
        });
        accepted += miner.stop().await.accepted;
        gateway.signal("TERM");
        assert!(gateway.wait_exit(SOON).success());
        let kept = Kept::read(&gateway.dir().join("gatewayd.db"));
        assert_eq!(kept.accepted, accepted, "in run {run}");
        assert_eq!(kept.of_the_worker, accepted);
        assert_eq!((kept.in_minutes, kept.in_days), (accepted, accepted));
        assert!(kept.best >= best && kept.best > 0.00005, "{} after {best}", kept.best);
        best = kept.best;
        gateway = gateway.restart();
    }
}

/// The contents of a file.
struct Kept {
    accepted: u64,
    best: f64,
    of_the_worker: u64,
    in_minutes: u64,
    in_days: u64,
}

impl Kept {
    fn read(file: &Path) -> Self {
        let connection =
            Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get(0)).unwrap();
        let of_the_worker = "SELECT accepted FROM worker WHERE name = 'anybody.garage'";
        Self {
            accepted: number("SELECT accepted FROM total"),
            best: connection.query_row("SELECT best FROM total", [], |row| row.get(0)).unwrap(),
            of_the_worker: number(of_the_worker),
            in_minutes: number("SELECT sum(accepted) FROM worker_minute"),
            in_days: number("SELECT sum(accepted) FROM total_day"),
        }
    }
}
