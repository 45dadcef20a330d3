//! Solo mining on a real node, from its templates to blocks that it accepts.

use std::{sync::Arc, time::Duration};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use bitcoincore_rpc::{RpcApi, json::GetBlockResult};
use gatewayd::{
    devnet::miner::{Miner, MinerOptions},
    validate::{Assignment, RootSource, SeenShares, ShareContext, check},
    work::{
        BuildJob, CoinbaseClass, Difficulty, Hash256, JobBuilder, Nbits, Payout, Submission,
        SubmittedVersion, Template, TipHeader, Username,
    },
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A gateway on `node`; class `n` is for miners whose user agent is `class<n>`.
fn config(node: &Bitcoind, difficulty: f64) -> String {
    let classes: String = [(0, 1), (1, 500), (2, 755), (3, 6500), (4, 16000), (5, 2250)]
        .map(|(class, bytes)| {
            format!("[[stratum.class]]\nmatch = \"^class{class}\"\nmax_coinbase = {bytes}\n")
        })
        .concat();
    let address = node.new_address();
    format!(
        r#"
        {}
        [mining]
        address = "{address}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = {difficulty:?}
        difficulty_start = {difficulty:?}
        {classes}
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.node_toml()
    )
}

fn miner(gateway: &Gateway, class: usize) -> MinerOptions {
    MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.class{class}"),
        user_agent: format!("class{class}/1.0"),
        hashrate_max: Some(1_500_000.0),
        ..MinerOptions::default()
    }
}

/// Blocks of all classes, with segwit transactions, past the first halving.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_every_class_are_accepted() {
    let mut node = Bitcoind::regtest();
    node.generate(151);
    node.make_segwit_mempool(60);
    let gateway = Gateway::start(&config(&node, 0.000_25));
    let start = node.height();
    for class in 0..6 {
        let before = node.height();
        let miner = Miner::start(miner(&gateway, class)).unwrap();
        eventually("four blocks of this class", Duration::from_secs(60), || {
            (node.height() >= before + 4).then_some(())
        });
        let stats = miner.stop().await;
        assert!(stats.accepted >= 4, "{stats:?}");
        assert_eq!(stats.rejected, 0, "{stats:?}");
    }
    let found = node.height() - start;
    assert!(found >= 24);
    let first: GetBlockResult =
        node.rpc().get_block_info(&node.rpc().get_block_hash(start + 1).unwrap()).unwrap();
    assert!(first.tx.len() > 60, "the mempool is in the first block: {}", first.tx.len());
    let accepted = gateway.lines().iter().filter(|line| line.contains("block accepted")).count();
    assert_eq!(accepted as u64, found);
}

/// Every share is a share here, and one in a thousand a block.
#[tokio::test(flavor = "multi_thread")]
async fn a_signet_of_ones_own_has_shares_and_blocks() {
    let node = Bitcoind::signet();
    let gateway = Gateway::start(&config(&node, 0.000_05));
    let miner = Miner::start(MinerOptions { hashrate_max: None, ..miner(&gateway, 4) }).unwrap();
    eventually("two blocks", Duration::from_secs(120), || (node.height() >= 2).then_some(()));
    let stats = miner.stop().await;
    assert!(stats.accepted > node.height(), "{stats:?}");
    assert_eq!(stats.rejected, 0, "{stats:?}");
}

/// p2pool/p2pool#339, #430: software that reads old blocks stops where a node has pruned them, as
/// most home nodes have.
#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_node_works_as_well_as_any() {
    let node = Bitcoind::start_with(bitcoin::Network::Regtest, &["-prune=1", "-fastprune"]);
    node.generate(900);
    let pruned: i64 = node.rpc().call("pruneblockchain", &[550.into()]).unwrap();
    assert!(pruned > 0 && node.rpc().get_blockchain_info().unwrap().pruned);
    let first = node.rpc().get_block_hash(1).unwrap();
    assert!(node.rpc().get_block(&first).is_err(), "it is gone");
    let gateway = Gateway::start(&config(&node, 0.000_25));
    let miner = Miner::start(miner(&gateway, 1)).unwrap();
    gateway.wait_for_line("block accepted", Duration::from_secs(60));
    let stats = miner.stop().await;
    assert_eq!(stats.rejected, 0, "{stats:?}");
}

/// The node goes away and comes back: fresh work within two seconds on an idle machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_returns_gives_work_again() {
    let mut node = Bitcoind::regtest();
    node.generate(1);
    let gateway = Gateway::start(&config(&node, 0.000_25));
    let miner = Miner::start(miner(&gateway, 1)).unwrap();
    eventually("a block", Duration::from_secs(60), || (node.height() >= 2).then_some(()));
    node.stop();
    let before = gateway.line_count();
    // Counted beforehand: fresh work may arrive as soon as the node answers anybody.
    let jobs = miner.stats().jobs;
    node.start();
    eventually("fresh work", Duration::from_secs(20), || (miner.stats().jobs > jobs).then_some(()));
    let height = node.height();
    eventually("a block after the return", Duration::from_secs(60), || {
        (node.height() > height).then_some(())
    });
    gateway.wait_for_line_after(before, "block accepted", Duration::from_secs(10));
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
}

/// A reorganisation to a lower height: work follows the node.
#[tokio::test(flavor = "multi_thread")]
async fn work_follows_a_reorganisation() {
    let node = Bitcoind::regtest();
    node.generate(10);
    let gateway = Gateway::start(&config(&node, 0.000_25));
    let invalid = node.invalidate_tip();
    let options = MinerOptions { hashrate_max: Some(500_000.0), ..miner(&gateway, 3) };
    let miner = Miner::start(options).unwrap();
    eventually("two blocks on the other branch", Duration::from_secs(60), || {
        (node.height() >= 11).then_some(())
    });
    miner.stop().await;
    let header = node.rpc().get_block_header_info(&invalid).unwrap();
    assert_eq!(header.confirmations, -1);
}

/// Wrong network, and no page to set another address: refused at the start with a line that says
/// what to do, exit code 78. For the case with a page see tests/it/network_change.rs.
#[test]
fn an_address_of_another_network_is_refused_without_a_page() {
    let node = Bitcoind::regtest();
    let toml = config(&node, 1.0).replace(
        "address = \"bcrt1",
        "address = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\" # ",
    );
    let mut gateway = Gateway::start(&format!("{toml}[api]\nlisten = \"\"\n"));
    let status = gateway.wait_exit(Duration::from_secs(20));
    assert_eq!(status.code(), Some(78));
    let line = gateway.wait_for_line("mining.address", Duration::from_secs(1));
    assert!(line.contains("regtest"), "{line}");
}

/// The node starts after the gateway.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_node_is_waited_for() {
    let mut node = Bitcoind::prepare(bitcoin::Network::Regtest, &[]);
    let toml = format!(
        "{}\n[mining]\naddress = \"{ADDRESS}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         difficulty_min = 0.001\ndifficulty_start = 0.001\n[ledger]\ndata_dir = \"{{dir}}\"\n",
        node.node_toml()
    );
    let gateway = Gateway::start(&toml);
    gateway.wait_for_line("no work from the node; retrying", Duration::from_secs(10));
    node.start();
    let miner = Miner::start(miner(&gateway, 2)).unwrap();
    eventually("a block", Duration::from_secs(60), || (node.height() >= 1).then_some(()));
    miner.stop().await;
    let told = gateway
        .lines()
        .iter()
        .filter(|line| line.contains("no work from the node; retrying"))
        .count();
    // Absent, and perhaps, on a slow machine, present but still loading: each logged once.
    assert!((1..=2).contains(&told), "said {told} times");
}

/// Work from the header of a new tip alone, after the first halving of regtest (height 150), with
/// transactions waiting that it must not count.
#[test]
fn subsidy_only_blocks_are_accepted_after_a_halving() {
    let mut node = Bitcoind::regtest();
    node.generate(151);
    node.make_segwit_mempool(20);
    let rpc = node.rpc();
    let tip = rpc.get_block_header_info(&node.best_hash()).unwrap();
    let header = TipHeader {
        height: u32::try_from(tip.height).unwrap() + 1,
        version: 0x2000_0000,
        prevhash: Hash256::from_display_hex(&tip.hash.to_string()).unwrap(),
        nbits: Nbits::from_hex(&tip.bits).unwrap(),
        curtime: u32::try_from(tip.time).unwrap() + 1,
        mintime: u32::try_from(tip.median_time.unwrap()).unwrap() + 1,
        subsidy: 2_500_000_000,
    };
    let template = Arc::new(Template::tip("test".into(), &header));
    let payout = Arc::new(Payout {
        script: [&[0, 20][..], &[7; 20]].concat().into(),
        tag_primary: b"gatewayd".as_slice().into(),
        tag_secondary: Box::default(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    });
    let job = JobBuilder::new(0).build(BuildJob::SubsidyOnly, &template, &payout);
    let assignment = Assignment::new(CoinbaseClass::Default, Difficulty::pow2(-30), false);
    let moment = ShareContext { tip: &header.prevhash, expired: false, ntime_max: u32::MAX };
    let block = (0..).find_map(|nonce| {
        let submission = Submission {
            extranonce: [1; 12],
            ntime: header.curtime,
            nonce,
            version: SubmittedVersion::Job,
            version_mask: 0,
        };
        let (mut seen, mut scratch) = (SeenShares::default(), Vec::new());
        let name = Username("me".into());
        check(
            &job,
            &assignment,
            RootSource::Coinbase,
            &submission,
            &moment,
            &name,
            &mut seen,
            &mut scratch,
        )
        .block
    });
    rpc.submit_block_bytes(&block.unwrap().serialize()).unwrap();
    assert_eq!(node.height(), tip.height as u64 + 1);
}
