//! Miners that come and go over real TCP: limits, closed admission, crowds, shutdown.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use crate::common::until;
use gatewayd::{
    books::{Counters, Roster},
    listener::{self, ConnectionLimits, ListenerConfig, TlsOffer},
    stratum::{Config, Context},
    sv2::noise::{AuthorityKey, Identity},
    work::{
        Admission, Announce, BuildJob, Hash256, JobBuilder, Nbits, Payout, Template, TipHeader,
        Work,
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

struct Rig {
    addr: SocketAddr,
    work: watch::Sender<Arc<Work>>,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

fn work(admission: Admission) -> Arc<Work> {
    let header = TipHeader {
        height: 900_000,
        version: 0x2000_0000,
        prevhash: Hash256([7; 32]),
        nbits: Nbits::new(0x1702_0000).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        subsidy: 312_500_000,
    };
    let payout = Payout {
        script: [0x51].into(),
        tag_primary: b"test".as_slice().into(),
        tag_secondary: [].into(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    };
    let template = Arc::new(Template::tip("test".into(), &header));
    let job = JobBuilder::new(1).build(BuildJob::SubsidyOnly, &template, &Arc::new(payout));
    Arc::new(Work {
        jobs: [job].into(),
        announce: Announce::Now,
        upcoming: None,
        sequence: 1,
        admission,
        void_series: 0,
    })
}

fn open(limits: ConnectionLimits) -> Rig {
    let (work, receiver) = watch::channel(work(Admission::Open));
    let (counters, shutdown) = (Arc::<Counters>::default(), CancellationToken::new());
    let context = Context {
        config: watch::channel(Arc::new(Config::with_address("nobody"))).1,
        work: receiver,
        blocks: Arc::new(|_| {}),
        shares: None,
        counters: Arc::clone(&counters),
        shutdown: shutdown.clone(),
    };
    let bound = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (addr, tasks) = (bound.addr(), TaskTracker::new());
    let listener_config = ListenerConfig {
        limits: watch::channel(limits).1,
        trusted_proxies: watch::channel(Arc::default()).1,
        tls: watch::channel(TlsOffer::Off).1,
        context,
        roster: Roster::new(now()),
        identity: identity(),
    };
    listener::spawn(vec![bound], listener_config, &tasks).unwrap();
    tasks.close();
    Rig { addr, work, counters, shutdown, tasks }
}

fn identity() -> watch::Receiver<Arc<Identity>> {
    let identity =
        Identity::issue(&AuthorityKey::generate(), 1_700_000_000, Duration::from_secs(1));
    watch::channel(Arc::new(identity)).1
}

fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

const ROOMY: ConnectionLimits =
    ConnectionLimits { connections: 10_000, connections_per_ip: 10_000, unproven: 0 };

/// A miner with its first work, and its extranonce1.
async fn subscribe(addr: SocketAddr) -> Option<(BufReader<TcpStream>, String)> {
    let mut socket = TcpStream::connect(addr).await.ok()?;
    socket.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await.ok()?;
    let mut reader = BufReader::new(socket);
    let (mut answer, mut line) = (String::new(), String::new());
    reader.read_line(&mut answer).await.ok().filter(|len| *len > 0)?;
    while !line.contains("mining.notify") {
        line.clear();
        reader.read_line(&mut line).await.ok().filter(|len| *len > 0)?;
    }
    let extranonce1 = answer.rsplit('"').nth(3)?.to_owned();
    Some((reader, extranonce1))
}

#[tokio::test]
async fn a_crowd_gets_work_at_once_each_in_its_own_space() {
    let rig = open(ROOMY);
    let mut crowd = JoinSet::new();
    for _ in 0..300 {
        crowd.spawn(subscribe(rig.addr));
    }
    let all = timeout(Duration::from_secs(10), crowd.join_all()).await.unwrap();
    let spaces: HashSet<_> = all.iter().flatten().map(|(_, extranonce1)| extranonce1).collect();
    assert_eq!(spaces.len(), 300);
    assert!(spaces.iter().all(|extranonce1| extranonce1.len() == 8), "{spaces:?}");
    assert_eq!(rig.counters.view().connections, 300);
    drop(all);
    until("connections end", PATIENCE, || rig.counters.view().connections == 0).await;
}

#[tokio::test]
async fn surplus_connections_are_closed_and_the_others_stay() {
    let rig = open(ConnectionLimits { connections: 10, connections_per_ip: 2, unproven: 0 });
    let first = subscribe(rig.addr).await.unwrap();
    let _second = subscribe(rig.addr).await.unwrap();
    assert!(timeout(Duration::from_secs(5), subscribe(rig.addr)).await.unwrap().is_none());
    assert_eq!(rig.counters.view().connections, 2);
    drop(first);
    until("connections end", PATIENCE, || rig.counters.view().connections == 1).await;
    assert!(subscribe(rig.addr).await.is_some());
}

#[tokio::test]
async fn closed_admission_sends_everybody_to_their_backup() {
    let rig = open(ROOMY);
    let (mut miner, _) = subscribe(rig.addr).await.unwrap();
    rig.work.send_replace(work(Admission::Closed("no node answers".into())));
    let mut rest = Vec::new();
    timeout(Duration::from_secs(5), miner.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(timeout(Duration::from_secs(5), subscribe(rig.addr)).await.unwrap().is_none());
    rig.work.send_replace(work(Admission::Open));
    comes_back(rig.addr).await;
}

/// Connects and gets its first work, after some attempts: miners are patient.
async fn comes_back(addr: SocketAddr) {
    let again = async {
        while subscribe(addr).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), again).await.unwrap();
}

/// AxeOS only connects to see whether its first pool is back, where that speaks SV2, and then
/// leaves its backup.
#[tokio::test]
async fn closed_admission_refuses_probing_connections() {
    let rig = open(ROOMY);
    for _ in 0..5 {
        comes_back(rig.addr).await;
        rig.work.send_replace(work(Admission::Closed("no node answers".into())));
        let knocks = async {
            while TcpStream::connect(rig.addr).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), knocks).await.unwrap();
        for _ in 0..20 {
            let error = TcpStream::connect(rig.addr).await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        // Work that arrives while admission stays closed changes nothing.
        rig.work.send_replace(work(Admission::Closed("no node answers".into())));
        tokio::task::yield_now().await;
        assert!(TcpStream::connect(rig.addr).await.is_err());
        rig.work.send_replace(work(Admission::Open));
    }
    comes_back(rig.addr).await;
    rig.work.send_replace(work(Admission::Closed("no node answers".into())));
    rig.shutdown.cancel();
    timeout(Duration::from_secs(5), rig.tasks.wait()).await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_every_task() {
    let rig = open(ROOMY);
    let (mut miner, _) = subscribe(rig.addr).await.unwrap();
    let _silent = TcpStream::connect(rig.addr).await.unwrap();
    rig.shutdown.cancel();
    timeout(Duration::from_secs(5), rig.tasks.wait()).await.unwrap();
    assert_eq!(miner.read(&mut [0; 16]).await.unwrap(), 0);
    assert_eq!(rig.counters.view().connections, 0);
}

#[tokio::test]
async fn strangers_do_no_harm() {
    let rig = open(ROOMY);
    let client_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for hello in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), client_hello, &[b'x'; 9000]] {
        let mut stranger = TcpStream::connect(rig.addr).await.unwrap();
        stranger.write_all(hello).await.unwrap();
        let mut rest = Vec::new();
        // Whether it ends with an end of file or a reset, it ends.
        let _ = timeout(Duration::from_secs(5), stranger.read_to_end(&mut rest)).await.unwrap();
    }
    assert!(subscribe(rig.addr).await.is_some());
}

const PATIENCE: Duration = Duration::from_secs(10);
