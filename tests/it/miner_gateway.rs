//! Our own miner and load generator against a whole gateway: what they report as late, stale or
//! rejected is how a real server judged their shares.

use std::{path::Path, process::ExitCode, time::Duration};

use crate::common::until;
use gatewayd::{
    config::Config,
    daemon::Gateway,
    devnet::{
        load::{self, LoadArgs, Speaks},
        miner::{Miner, MinerHandle, MinerOptions, MinerProtocol, MinerStats},
        node::{Node, NodeHandle, NodeOptions},
    },
    sv2::noise::AuthorityKey,
    work::Nbits,
};
use tokio::time::{sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn blocks_come_fast_and_only_late_shares_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    // 2^16 hashes on average: several blocks per second.
    let (node, gateway) = start(0x1f00_ffff, 1e-6, 60_000, folder.path()).await;
    let miners: Vec<_> = [true, false].map(|rolling| miner(&gateway, rolling)).into();
    until("ten blocks", Duration::from_secs(60), || node.height() >= 10).await;
    let mut total = MinerStats::default();
    for miner in miners {
        total.add(&miner.stop().await);
    }
    assert_eq!(total.rejected, 0, "{total}");
    assert_eq!((total.disconnects, total.connect_failures), (0, 0));
    assert_eq!(total.submitted, total.accepted + total.late);
    assert_eq!(gateway.counters.view().accepted, total.accepted);
    assert!(total.clean_jobs >= 10, "{total}");
    gateway.stop().await;
}

/// Every kind of Stratum V2 miner, with the gateway's key and with versions rolled or not.
#[tokio::test(flavor = "multi_thread")]
async fn stratum_v2_miners_find_blocks_and_only_late_shares_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let (node, gateway) = start(0x1f00_ffff, 1e-6, 60_000, folder.path()).await;
    let kinds = [
        (MinerProtocol::Sv2Standard, false),
        (MinerProtocol::Sv2Standard, true),
        (MinerProtocol::Sv2Extended, false),
    ];
    let miners: Vec<_> = kinds
        .into_iter()
        .map(|(protocol, group_jobs)| {
            let options = MinerOptions {
                protocol,
                group_jobs,
                authority: Some(gateway.authority),
                ..options(&gateway)
            };
            (protocol, group_jobs, Miner::start(options).unwrap())
        })
        .collect();
    let wanted = async {
        let blocks = |miner: &MinerHandle| miner.stats().blocks_hint;
        while node.height() < 10 || miners.iter().any(|(.., miner)| blocks(miner) == 0) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let found = timeout(Duration::from_secs(60), wanted).await;
    let mut total = MinerStats::default();
    for (protocol, group_jobs, miner) in miners {
        let stats = miner.stop().await;
        assert_eq!(stats.rejected, 0, "{protocol:?} {group_jobs}: {stats}");
        assert!(stats.accepted > 0 && stats.clean_jobs >= 10, "{protocol:?} {group_jobs}: {stats}");
        total.add(&stats);
    }
    found.expect("ten blocks within a minute, and one from each miner");
    assert_eq!((total.disconnects, total.connect_failures), (0, 0));
    assert_eq!(total.submitted, total.accepted + total.late);
    assert_eq!(gateway.counters.view().accepted, total.accepted);
    gateway.stop().await;
}

/// A miner that knows another key does not mine here.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_another_key_is_not_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (_node, gateway) = start(0x1d00_ffff, 1e-6, 60_000, folder.path()).await;
    let miner = Miner::start(MinerOptions {
        protocol: MinerProtocol::Sv2Standard,
        authority: Some(AuthorityKey::generate().public()),
        ..options(&gateway)
    })
    .unwrap();
    until("it hangs up", Duration::from_secs(30), || miner.stats().disconnects > 0).await;
    let stats = miner.stop().await;
    assert_eq!((stats.jobs, stats.submitted), (0, 0));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn load_is_served_and_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (node, gateway) = start(0x1d00_ffff, 1e-9, u32::MAX, folder.path()).await;
    let trigger = folder.path().join("tip");
    let args = LoadArgs {
        connect: gateway.stratum[0].to_string(),
        protocol: Speaks::Sv1,
        authority_key: None,
        miners: 200,
        channels_per_connection: 1,
        churn: false,
        tips_from: None,
        steady: 0,
        in_flight: 4,
        run_for: Duration::from_millis(500),
        pid: Some(std::process::id()),
        tip_command: Some(format!("touch {}", trigger.display())),
        tips: 2,
        sources: Some(3),
        user: "load".into(),
        user_agent: "test".into(),
    };
    let mining = tokio::spawn(async move {
        loop {
            if std::fs::remove_file(&trigger).is_ok() {
                node.mine_one();
            }
            sleep(Duration::from_millis(2)).await;
        }
    });
    let code = load::run_cli(args).await;
    mining.abort();
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS), "see the table");
    gateway.stop().await;
}

async fn start(nbits: u32, difficulty: f64, pace: u32, folder: &Path) -> (NodeHandle, Gateway) {
    let nbits = Nbits::new(nbits).unwrap();
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    let node = Node::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let toml = format!(
        r#"
        [[node]]
        rpc_url = {:?}
        rpc_user = {:?}
        rpc_password = {:?}
        [mining]
        address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = {difficulty}
        difficulty_start = {difficulty}
        shares_per_minute = {pace}
        [ledger]
        data_dir = {folder:?}
        "#,
        node.rpc_url(),
        node.user(),
        node.password(),
    );
    let gateway = Gateway::start(&Config::parse(&toml).unwrap()).await.unwrap();
    (node, gateway)
}

fn miner(gateway: &Gateway, version_rolling: bool) -> MinerHandle {
    Miner::start(MinerOptions { version_rolling, ..options(gateway) }).unwrap()
}

fn options(gateway: &Gateway) -> MinerOptions {
    MinerOptions {
        connect: gateway.stratum[0].to_string(),
        hashrate_max: Some(1e5),
        ..MinerOptions::default()
    }
}
