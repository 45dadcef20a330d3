use std::{
    io::{self, Write},
    sync::Mutex,
};

use tokio::sync::mpsc;

use super::*;
use crate::{
    books::{
        MinerProtocol,
        roster::{MinerInfo, RosterEntry},
    },
    datum::{PoolStats, PoolStatus, PoolVerdict},
    template::NodeState,
    work::fixture::{HARD, WorkFeed, pooled, solo},
    work::{CoinbaseClass, Hash256, Payout, PoolHealth},
};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A gateway, as far as the line looks at it.
struct House {
    counters: Arc<Counters>,
    roster: Arc<Roster>,
    work: watch::Sender<Option<Arc<Work>>>,
    nodes: watch::Sender<Vec<NodeStatus>>,
    pool: watch::Sender<Option<datum::Pool>>,
    stats: Arc<PoolStats>,
    log: Log,
    _logging: tracing::subscriber::DefaultGuard,
}

impl House {
    fn open() -> Self {
        let log = Log::default();
        let writer = log.clone();
        let logging = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_writer(move || writer.clone())
            .finish();
        let house = Self {
            counters: Arc::default(),
            roster: Roster::new(Instant::now().into_std()),
            work: watch::Sender::new(None),
            nodes: watch::Sender::new(Vec::new()),
            pool: watch::Sender::new(None),
            stats: Arc::default(),
            log,
            _logging: tracing::subscriber::set_default(logging),
        };
        tokio::spawn(report(Reporter {
            counters: Arc::clone(&house.counters),
            roster: Arc::clone(&house.roster),
            work: house.work.subscribe(),
            nodes: house.nodes.subscribe(),
            pool: house.pool.subscribe(),
        }));
        house
    }

    fn mine(&self, payout: &Arc<Payout>, admission: Admission) {
        let work = WorkFeed::new(HARD, payout).work;
        self.work.send_replace(Some(Arc::new(Work { admission, ..work })));
    }

    fn node(&self, tip_age: Duration) {
        let at = (Instant::now() - tip_age).into_std();
        self.nodes.send_replace(vec![NodeStatus {
            name: "node:1".into(),
            state: NodeState::Ready,
            is_active: true,
            version: None,
            network: None,
            height: Some(840_000),
            is_in_initial_download: false,
            fork: None,
            zmq_trouble: None,
            has_spare_threads: None,
            last_error: None,
            tip: Some((Hash256([1; 32]), at)),
            template_fetch: None,
            template_at: None,
            answered_at: None,
            late_since: None,
            work: None,
        }]);
    }

    fn pool(&self, state: PoolState) {
        let status = PoolStatus { state, pool: "pool:1".into(), ..PoolStatus::default() };
        self.pool.send_replace(Some(datum::Pool {
            payout: watch::channel(None).1,
            status: watch::channel(status).1,
            health: watch::channel(PoolHealth::Up).1,
            shares: mpsc::channel(1).0,
            stats: Arc::clone(&self.stats),
        }));
    }

    fn miner(&self) -> RosterEntry {
        let about = MinerInfo {
            user_agent: "bitaxe".into(),
            class: CoinbaseClass::Tiny,
            workers: Vec::new(),
        };
        let (peer, now) = (([10, 0, 0, 1], 1).into(), Instant::now().into_std());
        self.roster.enter(peer, MinerProtocol::Sv1, about, &Arc::default(), now)
    }

    /// The lines of the next minutes.
    async fn after(&self, minutes: u32) -> Vec<String> {
        let known = self.log.text().lines().count();
        tokio::time::sleep(REPORT_EACH * minutes + Duration::from_millis(1)).await;
        self.log.text().lines().skip(known).map(str::to_owned).collect()
    }
}

/// A home of 10 TH/s.
#[tokio::test(start_paused = true)]
async fn a_good_minute_has_what_matters_and_nothing_else() {
    let house = House::open();
    house.mine(&pooled(1), Admission::Open);
    house.pool(PoolState::Up);
    let _miners = [house.miner(), house.miner()];
    tokio::time::sleep(Duration::from_millis(1)).await;
    let difficulty = 1e13 * 60.0 / HASHES_PER_DIFFICULTY;
    for _ in 0..2 {
        house.node(Duration::from_millis(252_500));
        house.counters.add_accepted(MinerProtocol::Sv1, 40, difficulty / 2.0);
        house.counters.add_accepted(MinerProtocol::Sv2Extended, 2, difficulty / 2.0);
        let round_trip = Duration::from_millis(43);
        house.stats.add_answer(&"pool:1".into(), PoolVerdict::default(), round_trip);
        assert_eq!(
            house.after(1).await,
            [" INFO the last minute hashrate=10.00 TH/s miners=2 accepted=42 rejected=0 \
              mode=pooled height=840001 tip_age=5m12s pool=up round_trip=43.0ms"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_minute_says_what_is_bad() {
    let house = House::open();
    house.mine(&pooled(1), Admission::Closed("no pool answers: wait".into()));
    house.node(Duration::from_secs(7200));
    house.pool(PoolState::Down { since: Instant::now().into_std() });
    tokio::time::sleep(Duration::from_millis(1)).await;
    house.counters.add_rejected(MinerProtocol::Sv1, Reject::StaleWork, 7);
    house.counters.add_rejected(MinerProtocol::Sv1, Reject::Duplicate, 2);
    house.counters.add_relay_dropped(3);
    house.counters.add_block();
    assert_eq!(
        house.after(1).await,
        [
            " INFO the last minute hashrate=0.00 H/s miners=0 accepted=0 rejected=9 mostly=stale-work \
          mode=waiting why=\"no pool answers: wait\" height=840001 tip_age=2h01m pool=down lost=3 \
          blocks=1"
        ]
    );
    // Only the block, of the whole run, is still news a minute later.
    let next = house.after(1).await;
    assert!(next[0].contains("rejected=0 mode") && !next[0].contains("lost"), "{next:?}");
    assert!(next[0].ends_with("blocks=1"), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn without_work_or_pool_it_says_less() {
    let house = House::open();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let waiting =
        " INFO the last minute hashrate=0.00 H/s miners=0 accepted=0 rejected=0 mode=waiting";
    assert_eq!(house.after(1).await, [waiting]);
    house.mine(&solo(), Admission::Open);
    let next = house.after(1).await;
    assert!(next[0].ends_with("mode=solo height=840001"), "{next:?}");
}

#[test]
fn ages_are_as_exact_as_one_wants() {
    let age = |ms| Age(Duration::from_millis(ms)).to_string();
    assert_eq!([age(0), age(43), age(1500), age(59_999)], ["0.0ms", "43.0ms", "1s", "59s"]);
    assert_eq!([age(60_000), age(3_599_000), age(7_260_000)], ["1m00s", "59m59s", "2h01m"]);
}
