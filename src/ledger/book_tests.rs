use super::*;
use crate::{
    books::{
        Counters, MinerProtocol, Roster,
        roster::{MinerInfo, RosterEntry},
    },
    ledger::BlockEvent,
    work::{CoinbaseClass, Reject, Username},
};

/// A gateway with a clock of its own.
struct World {
    at: Moment,
    counters: Counters,
    roster: Arc<Roster>,
    miners: Vec<RosterEntry>,
    book: Book,
}

/// Minute 30,000,000.
const START: u64 = 1_800_000_000;

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let at = Moment { now: Instant::now(), unix: Duration::from_secs(START) };
        let (counters, roster) = (Counters::default(), Roster::new(at.now));
        Self { at, counters, roster, miners: Vec::new(), book: Book::new(at) }
    }

    fn connect(&mut self) -> u64 {
        let about = MinerInfo {
            user_agent: "x/1".into(),
            class: CoinbaseClass::Default,
            workers: Vec::new(),
        };
        let peer = "127.0.0.1:1".parse().unwrap();
        let eviction = Arc::default();
        let miner = self.roster.enter(peer, MinerProtocol::Sv1, about, &eviction, self.at.now);
        let id = miner.miner().id;
        self.miners.push(miner);
        id
    }

    /// The first miner's share of `difficulty`, really worth `real`.
    fn share(&self, name: &str, difficulty: f64, real: f64) {
        let worker = self.roster.worker(&Username(name.into()));
        self.miners[0].accept(&worker, difficulty, real, false, self.at.now);
        self.counters.add_accepted(MinerProtocol::Sv1, 1, difficulty);
    }

    fn refuse(&self, name: &str, reject: Reject) {
        let worker = self.roster.worker(&Username(name.into()));
        self.miners[0].reject(Some(&worker), reject);
        self.counters.add_rejected(MinerProtocol::Sv1, reject, 1);
    }

    /// Time goes on for both clocks, a sample at its end.
    fn pass(&mut self, seconds: u64) {
        self.at.now += Duration::from_secs(seconds);
        self.at.unix += Duration::from_secs(seconds);
        self.sample();
    }

    fn sample(&mut self) {
        let seen = Seen {
            counters: self.counters.view(),
            miners: self.roster.miners(),
            workers: self.roster.workers(),
        };
        self.book.sample(self.at, &seen);
    }

    fn take(&mut self) -> Batch {
        self.book.take(self.at.now, false).unwrap_or_default()
    }
}

fn names(minute: &Minute) -> Vec<(&str, u64, u64)> {
    let rows = minute.workers.iter();
    let mut rows: Vec<_> =
        rows.map(|(name, row)| (&**name, row.accepted, row.rejected())).collect();
    rows.sort_unstable();
    rows
}

#[test]
fn each_minute_has_what_came_in_it() {
    let mut world = World::new();
    world.connect();
    world.share("a", 8.0, 9.0);
    world.pass(30);
    world.share("a", 8.0, 9.0);
    world.share("b", 4.0, 100.0);
    world.refuse("b", Reject::Duplicate);
    world.pass(30);
    world.share("a", 8.0, 9.0);
    world.pass(60);
    world.pass(60);
    let minutes = [world.take().minutes, world.take().minutes].concat();
    let at: Vec<_> = minutes.iter().map(|it| (it.t - START / 60, it.seconds)).collect();
    assert_eq!(at, [(0, 60.0), (1, 60.0), (2, 60.0)]);
    assert_eq!(names(&minutes[0]), [("a", 2, 0), ("b", 1, 1)]);
    assert_eq!((minutes[0].total.accepted, minutes[0].total.difficulty), (3, 20.0));
    assert_eq!(*minutes[0].total.rejects, [(Reject::Duplicate, 1)]);
    assert_eq!(names(&minutes[1]), [("a", 1, 0)]);
    // Silence is written down, too: without it nobody knows that gatewayd ran.
    assert_eq!((minutes[2].workers.len(), minutes[2].total.accepted), (0, 0));
}

#[test]
fn a_clock_that_is_set_breaks_nothing() {
    let mut world = World::new();
    world.connect();
    for _ in 0..30 {
        world.share("a", 6.0, 9.0);
        world.pass(2);
    }
    // Back by half an hour, then ahead by a year.
    world.at.unix -= Duration::from_secs(1800);
    for _ in 0..30 {
        world.share("a", 6.0, 9.0);
        world.pass(2);
    }
    world.at.unix += Duration::from_secs(365 * 86_400);
    for _ in 0..30 {
        world.share("a", 6.0, 9.0);
        world.pass(2);
    }
    let minutes = world.take().minutes;
    // Nothing lost, nothing twice, and no share has more or less time than it took.
    let difficulty: f64 = minutes.iter().map(|it| it.total.difficulty).sum();
    let seconds: f64 = minutes.iter().map(|it| it.seconds).sum();
    assert!((difficulty, seconds) >= (520.0, 174.0), "{minutes:?}");
    for minute in &minutes {
        assert!((minute.total.difficulty / minute.seconds - 3.0).abs() < 1e-9, "{minute:?}");
    }
    let rate = world.book.hashrate().m1 / 4_294_967_296.0;
    assert!((rate - 3.0).abs() < 0.01, "{rate}");
    assert!(!world.book.clock_is_steady());
}

#[test]
fn totals_and_records_go_on_from_those_of_earlier_runs() {
    let mut first = World::new();
    first.connect();
    first.share("a", 8.0, 500.0);
    first.share("gone", 8.0, 700.0);
    first.refuse("a", Reject::StaleWork);
    first.pass(60);
    let batch = first.take();
    let stored = Stored { totals: batch.totals, workers: batch.workers, blocks: Vec::new() };

    let mut second = World::new();
    second.connect();
    // The file is opened late: what has been counted by then stays.
    second.share("a", 8.0, 600.0);
    second.pass(1000);
    second.book.load(stored);
    second.share("b", 8.0, 650.0);
    second.pass(60);
    let totals = second.book.totals(&second.counters.view());
    assert_eq!((totals.accepted, totals.difficulty, totals.since), (4, 32.0, START));
    assert_eq!(totals.rejected[Reject::StaleWork as usize], 1);
    let best = totals.best.unwrap();
    assert_eq!((best.difficulty, best.worker.as_str(), best.at), (700.0, "gone", START + 60));
    let records = second.book.workers(10);
    let told: Vec<_> =
        records.iter().map(|it| (it.name.as_str(), it.accepted, it.best_difficulty)).collect();
    assert_eq!(told, [("b", 1, 650.0), ("a", 2, 600.0), ("gone", 1, 700.0)]);
    assert_eq!((records[1].first_seen, records[1].last_seen), (START + 60, START + 1000));
    assert_eq!(records[1].rejected[Reject::StaleWork as usize], 1);
    assert_eq!(second.book.workers(1).len(), 1);
    assert!(second.book.worker_hashrate("gone").is_none());
}

#[test]
fn what_could_not_be_written_comes_again() {
    let mut world = World::new();
    world.connect();
    world.share("a", 8.0, 9.0);
    let found = BlockEvent::Found(None);
    world.book.hear(BlockNews { height: 1, hash: "00".into(), at: START, what: found });
    world.pass(60);
    let refused = world.take();
    assert!(refused.totals.is_some() && refused.workers.len() == 1 && refused.blocks.len() == 1);
    assert!(world.book.take(world.at.now, false).is_none(), "all of it was taken");
    world.book.put_back(refused);
    world.share("a", 8.0, 9.0);
    world.pass(60);
    let batch = world.take();
    assert_eq!(batch.minutes.iter().map(|it| it.t - START / 60).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((batch.workers[0].sum.accepted, batch.blocks.len()), (2, 1));
    assert_eq!(batch.totals.unwrap().sum.accepted, 2);
    // A new file gets everything.
    world.book.rewrite();
    let batch = world.book.take(world.at.now, true).unwrap();
    assert_eq!((batch.totals.is_some(), batch.workers.len(), batch.blocks.len()), (true, 1, 1));
}

#[test]
fn totals_wait_for_no_minute_and_workers_do() {
    let mut world = World::new();
    world.connect();
    world.pass(4);
    assert!(world.take().totals.is_none(), "the first are not due yet");
    world.share("a", 8.0, 9.0);
    world.pass(8);
    let batch = world.take();
    assert_eq!((batch.totals.unwrap().sum.accepted, batch.workers.len()), (1, 0));
    world.pass(2);
    assert!(world.book.take(world.at.now, false).is_none(), "nothing is new");
}

#[test]
fn miners_have_a_rate_while_they_are_here() {
    let mut world = World::new();
    let id = world.connect();
    assert_eq!(world.book.miner_hashrate(id), None);
    for _ in 0..60 {
        world.share("a", 4.0, 9.0);
        world.pass(2);
    }
    let near = |rate: Hashrates| (rate.m5 / 4_294_967_296.0 - 2.0).abs() < 0.02;
    assert!(near(world.book.miner_hashrate(id).unwrap()));
    assert!(near(world.book.worker_hashrate("a").unwrap()));
    assert!(near(world.book.hashrate()));
    world.miners.clear();
    world.pass(2);
    assert_eq!(world.book.miner_hashrate(id), None);
    assert!(world.book.worker_hashrate("a").is_some());
}

#[test]
fn names_of_long_ago_make_room() {
    let mut world = World::new();
    world.connect();
    let stored = |n: u64| StoredWorker {
        name: format!("old{n}").into(),
        sum: Sum::default(),
        best: 1.0,
        best_at: n,
        first_seen: n,
        last_seen: n,
    };
    let workers = (0..WORKERS_MAX as u64).map(stored).collect();
    world.book.load(Stored { workers, ..Stored::default() });
    world.share("new", 1.0, 1.0);
    world.pass(60);
    let batch = world.take();
    assert_eq!(batch.workers.len(), 1);
    assert_eq!(batch.forgotten.len(), FORGOTTEN_AT_ONCE);
    assert!(batch.forgotten.contains(&"old0".into()));
    assert_eq!(world.book.workers(usize::MAX).len(), WORKERS_MAX - FORGOTTEN_AT_ONCE + 1);
    // The file that did not take this is asked to forget later, but not who has come back.
    world.share("old0", 1.0, 1.0);
    world.pass(2);
    world.book.put_back(batch);
    let batch = world.book.take(world.at.now, true).unwrap();
    assert_eq!(batch.forgotten.len(), FORGOTTEN_AT_ONCE - 1);
    assert_eq!(batch.workers.len(), 2);
}

/// Prints what a sample takes. `cargo test --lib four_thousand -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_sample_of_four_thousand_miners() {
    let mut world = World::new();
    for _ in 0..4_000 {
        world.connect();
    }
    let workers: Vec<_> =
        (0..1_000).map(|n| world.roster.worker(&Username(format!("w{n}").into()))).collect();
    let mut took = Duration::ZERO;
    let mut batches = Duration::ZERO;
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    let clock = Instant::now;
    for _ in 0..300 {
        for (n, miner) in world.miners.iter().enumerate() {
            miner.accept(&workers[n % 1_000], 8.0, 9.0, false, world.at.now);
        }
        world.at.now += Duration::from_secs(2);
        world.at.unix += Duration::from_secs(2);
        let began = clock();
        world.sample();
        took += began.elapsed();
        let began = clock();
        let batch = world.take();
        batches += began.elapsed();
        assert!(batch.workers.is_empty() || batch.workers.len() == 1_000);
    }
    eprintln!("{:?} a sample, {:?} a batch", took / 300, batches / 300);
}

#[test]
fn a_name_that_the_roster_forgot_keeps_what_it_had() {
    let mut world = World::new();
    world.connect();
    for _ in 0..3 {
        world.share("a", 2.0, 2.0);
    }
    world.pass(2);
    // Another entry of the same name, which counts from nothing.
    world.roster = Roster::new(world.at.now);
    world.roster.worker(&Username("b".into()));
    world.miners.clear();
    world.connect();
    world.pass(2);
    let record =
        |world: &World| world.book.workers(9).into_iter().find(|it| it.name == "a").unwrap();
    assert_eq!(record(&world).accepted, 3);
    for _ in 0..2 {
        world.share("a", 2.0, 2.0);
    }
    world.pass(2);
    assert_eq!((record(&world).accepted, record(&world).difficulty), (5, 10.0));
    let before = record(&world).hashrate.m1;
    world.roster = Roster::new(world.at.now);
    for _ in 0..200 {
        world.pass(2);
    }
    assert_eq!(record(&world).accepted, 5);
    assert!(record(&world).hashrate.m1 < before / 100.0, "nobody mines with it");
}
