//! Habits of real pools: an id for each connection, missing answers, splits bound to their value.
//! `benches/outages` runs the ignored test, with the table that it prints.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::common::{eventually, gateway::Gateway};
use gatewayd::{
    devnet::{
        miner::{Miner, MinerHandle, MinerOptions, MinerProtocol, MinerStats},
        node::{Node, NodeHandle, NodeOptions},
        pool::{Coinbasers, Habits, Pool, PoolConfig, PoolHandle, PoolOptions},
    },
    work::Nbits,
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// The script of that address, as it appears in coinbases.
const OWN_SCRIPT: &str = "0014751e76e8199196d454941c45d1b3a323f1433bd6";
/// These miners find a share at it within half a second or so.
const DIFFICULTY: f64 = 0.000_01;

async fn node() -> NodeHandle {
    let nbits = Nbits::new(0x1d00_ffff).unwrap();
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    Node::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn pool(habits: Habits) -> PoolHandle {
    let config = PoolConfig { splits: PoolConfig::sample_splits(20), ..PoolConfig::default() };
    let options = PoolOptions { config, habits, ..PoolOptions::default() };
    Pool::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn config(node: &NodeHandle, pool: &PoolHandle, refresh: &str, pooling: &str) -> String {
    format!(
        r#"
        [[node]]
        rpc_url = "{}"
        rpc_user = "{}"
        rpc_password = "{}"
        [template]
        refresh = "{refresh}"
        stale_after = "20s"
        [mining]
        address = "{ADDRESS}"
        [[pool]]
        host = "127.0.0.1"
        port = {}
        public_key = "{}"
        [pooling]
        {pooling}
        [stratum]
        listen = ["127.0.0.1:0"]
        stale_after = "20s"
        difficulty_min = {DIFFICULTY:?}
        difficulty_start = {DIFFICULTY:?}
        shares_per_minute = 60
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.rpc_url(),
        node.user(),
        node.password(),
        pool.addr.port(),
        pool.public_key_hex(),
    )
}

/// Miners of all protocols, each finding about a share a second.
fn miners(gateway: &Gateway, count: usize) -> Vec<MinerHandle> {
    let protocols = [MinerProtocol::Sv1, MinerProtocol::Sv2Standard, MinerProtocol::Sv2Extended];
    let start = |at: usize| {
        let options = MinerOptions {
            protocol: protocols[at % 3],
            connect: gateway.addr("stratum").to_string(),
            username: format!("{ADDRESS}.rig{at}"),
            hashrate_max: Some(40_000.0),
            ..MinerOptions::default()
        };
        Miner::start(options).unwrap()
    };
    (0..count).map(start).collect()
}

async fn stop(miners: Vec<MinerHandle>) -> MinerStats {
    let mut sum = MinerStats::default();
    for miner in miners {
        sum.add(&miner.stop().await);
    }
    sum
}

/// A `mining.notify` as a miner sees it.
struct Notify {
    at: Instant,
    pays_operator: bool,
    is_clean: bool,
}

/// A miner that only listens.
fn watch(stratum: SocketAddr) -> mpsc::Receiver<Notify> {
    let (heard, receiver) = mpsc::channel();
    let mut stream = TcpStream::connect(stratum).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    thread::spawn(move || {
        let subscribe = r#"{"id":1,"method":"mining.subscribe","params":["watcher/1"]}"#;
        writeln!(stream, "{subscribe}").unwrap();
        for line in lines {
            let Ok(line) = line else { return };
            let at = Instant::now();
            // The pool's own output does not use the operator's script.
            let pays_operator = line.contains(OWN_SCRIPT);
            let is_clean = line.contains(",true]");
            let is_notify = line.contains("mining.notify");
            if is_notify && heard.send(Notify { at, pays_operator, is_clean }).is_err() {
                return;
            }
        }
    });
    receiver
}

/// The next notify that pays (or does not pay) the operator.
fn next(heard: &mpsc::Receiver<Notify>, pays_operator: bool) -> Notify {
    loop {
        let notify = heard.recv_timeout(Duration::from_secs(60)).expect("a notify");
        if notify.pays_operator == pays_operator {
            return notify;
        }
    }
}

/// The results of an outage.
#[derive(Debug)]
struct Outage {
    to_own_work: Option<Duration>,
    to_first_share: Duration,
    accepted: u64,
    received: u64,
    at_pool: u64,
    pool_rejected: u64,
    unanswered: u64,
    lost: u64,
    rejects: std::collections::BTreeMap<String, u64>,
    disconnects: u64,
}

fn figure(line: &str, name: &str) -> u64 {
    let (_, rest) =
        line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("{name}: {line}"));
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

async fn outage(habits: Habits, is_kept: bool, count: usize, absence: Duration) -> Outage {
    let (node, pool) = (node().await, pool(habits).await);
    let grace = format!("reconnect_grace = \"{}s\"", absence.as_secs() + 30);
    let mut gateway = Gateway::start(&config(&node, &pool, "10s", &grace));
    gateway.wait_for_line(" is up", Duration::from_secs(20));
    // The second connection shows whether ids are kept.
    pool.disconnect_all();
    let learnt =
        if is_kept { "keeps its prime id" } else { "gives each connection a new prime id" };
    gateway.wait_for_line(learnt, Duration::from_secs(20));
    let heard = watch(gateway.addr("stratum"));
    let miners = miners(&gateway, count);
    eventually("shares of all miners", Duration::from_secs(60), || {
        miners.iter().all(|miner| miner.stats().accepted > 0).then_some(())
    });
    next(&heard, false);
    while heard.try_recv().is_ok() {}
    let left = Instant::now();
    pool.stop().await;
    let to_own_work = (!is_kept).then(|| {
        let notify = next(&heard, true);
        assert!(notify.is_clean, "clean_jobs");
        notify.at - left
    });
    tokio::time::sleep(absence.saturating_sub(left.elapsed())).await;
    let known = pool.stats().accepted;
    pool.restart().await.unwrap();
    let back = Instant::now();
    let limit = Duration::from_secs(25).max(absence);
    eventually("shares at the pool again", limit, || (pool.stats().accepted > known).then_some(()));
    let to_first_share = back.elapsed();
    if !is_kept {
        assert!(next(&heard, false).is_clean, "clean_jobs");
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let stats = stop(miners).await;
    gateway.signal("TERM");
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
    let line = gateway.wait_for_line("shares accounted for", Duration::from_secs(1));
    Outage {
        to_own_work,
        to_first_share,
        accepted: stats.accepted,
        received: figure(&line, "received"),
        at_pool: pool.stats().accepted,
        pool_rejected: figure(&line, "pool_rejected"),
        unanswered: figure(&line, "unanswered"),
        lost: figure(&line, "lost"),
        rejects: stats.rejects,
        disconnects: stats.disconnects,
    }
}

fn check(outage: &Outage, is_kept: bool) {
    assert_eq!((outage.lost, outage.pool_rejected, outage.disconnects), (0, 0, 0), "{outage:?}");
    // Only late shares on the old terms were refused.
    let is_late = |why: &String| why.contains("stale-work") || why.contains("stale-share");
    assert!(outage.rejects.keys().all(is_late), "{outage:?}");
    // What was in flight when the pool went away may or may not have been counted.
    assert!(outage.unanswered <= 2, "{outage:?}");
    assert!(outage.at_pool + outage.unanswered >= outage.received, "{outage:?}");
    if is_kept {
        assert_eq!(outage.accepted, outage.at_pool, "{outage:?}");
    }
    if let Some(time) = outage.to_own_work {
        assert!(time < Duration::from_secs(1), "{outage:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_pool_with_an_id_for_each_connection_goes_no_accepted_share_is_worthless() {
    let outage = outage(Habits::like_ocean(), false, 6, Duration::from_secs(4)).await;
    check(&outage, false);
    // It reconnects every second or two.
    assert!(outage.to_first_share < Duration::from_secs(8), "{outage:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_pool_that_keeps_its_ids_goes_nothing_is_lost() {
    let outage = outage(Habits::default(), true, 6, Duration::from_secs(4)).await;
    check(&outage, true);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: benches/outages"]
async fn outages_of_200_miners() {
    println!(
        "| ids | away | own work after | first share after | accepted | at the pool | solo | in vain |"
    );
    for (habits, is_kept) in [(Habits::like_ocean(), false), (Habits::default(), true)] {
        for seconds in [4, 30] {
            let outage = outage(habits, is_kept, 200, Duration::from_secs(seconds)).await;
            let Outage { to_own_work, to_first_share, accepted, received, at_pool, lost, .. } =
                &outage;
            println!(
                "| {} | {seconds} s | {to_own_work:.1?} | {to_first_share:.1?} | {accepted} | \
                 {at_pool} | {} | {} |",
                if is_kept { "kept" } else { "each its own" },
                accepted - received,
                lost + outage.pool_rejected,
            );
            check(&outage, is_kept);
        }
    }
}

/// The pool answers after 3 s, or never, and every template has another value.
#[tokio::test(flavor = "multi_thread")]
async fn no_split_goes_out_under_another_values_number() {
    for coinbasers in [Coinbasers::After(Duration::from_secs(3)), Coinbasers::Never] {
        let (node, pool) =
            (node().await, pool(Habits { coinbasers, ..Habits::like_ocean() }).await);
        let gateway = Gateway::start(&config(&node, &pool, "4s", ""));
        let miners = miners(&gateway, 3);
        let has_splits = coinbasers != Coinbasers::Never;
        eventually("shares on several templates", Duration::from_secs(60), || {
            let stats = pool.stats();
            let enough = stats.coinbasers >= 4 || !has_splits;
            (enough && stats.accepted > 30 && (stats.splits_max > 0) == has_splits).then_some(())
        });
        node.mine_one();
        let known = pool.stats().accepted;
        eventually("shares on the next tip", Duration::from_secs(30), || {
            (pool.stats().accepted > known + 5).then_some(())
        });
        let stats = stop(miners).await;
        assert_eq!(stats.rejected, 0, "{stats:?}");
        let stats = pool.stats();
        assert_eq!((stats.splits_misused.total(), stats.rejected), (0, 0), "{stats:?}");
    }
}

/// A refresh every second, twelve of them on one tip, then tips from somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn work_on_a_tip_counts_however_often_the_last_one_was_refreshed() {
    let (node, pool) = (node().await, pool(Habits::like_ocean()).await);
    let gateway = Gateway::start(&config(&node, &pool, "1s", ""));
    let miners = miners(&gateway, 3);
    eventually("twelve refreshes", Duration::from_secs(60), || {
        (pool.stats().coinbasers >= 12).then_some(())
    });
    for _ in 0..5 {
        node.mine_one();
        let known = pool.stats().accepted;
        eventually("shares on the next tip", Duration::from_secs(30), || {
            (pool.stats().accepted > known + 3).then_some(())
        });
    }
    let stats = stop(miners).await;
    assert_eq!(stats.rejected, 0, "{stats:?}");
    let stats = pool.stats();
    assert_eq!(stats.rejected, 0, "{stats:?}");
    assert!(!stats.shares_by_flags.keys().any(|flags| flags & 6 == 6), "{stats:?}");
}
