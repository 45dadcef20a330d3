//! Pooled mining: a real node, the gateway, and a DATUM pool that checks every share.

use std::time::Duration;

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use bitcoincore_rpc::RpcApi;
use gatewayd::{
    devnet::{
        miner::{Miner, MinerHandle, MinerOptions, MinerProtocol, MinerStats},
        node::{Node, NodeHandle, NodeOptions},
        pool::{Pool, PoolConfig, PoolHandle, PoolOptions},
    },
    work::Nbits,
};

/// One for each miner that a test stops.
const UNHEARD_MAX: u64 = 8;
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

async fn pool(splits: u8) -> PoolHandle {
    let config = PoolConfig { splits: PoolConfig::sample_splits(splits), ..PoolConfig::default() };
    let options = PoolOptions { config, ..PoolOptions::default() };
    Pool::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A gateway on `node`, a `[[node]]` section, and `pool`. `pooling` holds lines of that section.
fn config(node: &str, pool: &PoolHandle, difficulty: f64, pooling: &str) -> String {
    let classes: String = [(0, 1), (1, 500), (2, 755), (3, 6500), (4, 16000), (5, 2250)]
        .map(|(class, bytes)| {
            format!("[[stratum.class]]\nmatch = \"^class{class}\"\nmax_coinbase = {bytes}\n")
        })
        .concat();
    format!(
        r#"
        {node}
        [template]
        refresh = "10s"
        stale_after = "30s"
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
        difficulty_min = {difficulty:?}
        difficulty_start = {difficulty:?}
        shares_per_minute = 120
        {classes}
        [ledger]
        data_dir = "{{dir}}"
        "#,
        pool.addr.port(),
        pool.public_key_hex(),
    )
}

fn embedded(node: &NodeHandle) -> String {
    format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n",
        node.rpc_url(),
        node.user(),
        node.password()
    )
}

fn start_miner(gateway: &Gateway, class: usize, hashrate: f64) -> MinerHandle {
    start_miner_of(MinerProtocol::Sv1, gateway, class, hashrate)
}

fn start_miner_of(
    protocol: MinerProtocol,
    gateway: &Gateway,
    class: usize,
    hashrate: f64,
) -> MinerHandle {
    start_firmware(protocol, gateway, &format!("class{class}/1.0"), hashrate)
}

fn start_firmware(
    protocol: MinerProtocol,
    gateway: &Gateway,
    agent: &str,
    hashrate: f64,
) -> MinerHandle {
    let options = MinerOptions {
        protocol,
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.{}", agent.split('/').next().unwrap_or_default()),
        user_agent: agent.into(),
        hashrate_max: Some(hashrate),
        ..MinerOptions::default()
    };
    Miner::start(options).unwrap()
}

/// Otherwise work on its terms would be void as soon as it goes away.
fn learn_that_ids_are_kept(gateway: &Gateway, pool: &PoolHandle) {
    gateway.wait_for_line(" is up", Duration::from_secs(20));
    pool.disconnect_all();
    gateway.wait_for_line("keeps its prime id across connections", Duration::from_secs(20));
}

async fn stop(miners: Vec<MinerHandle>) -> MinerStats {
    let mut sum = MinerStats::default();
    for miner in miners {
        sum.add(&miner.stop().await);
    }
    sum
}

/// Waits until the pool has received every share that miners saw accepted.
fn pool_knows(pool: &PoolHandle, accepted: u64) {
    eventually("the pool to know all shares", Duration::from_secs(10), || {
        let stats = pool.stats();
        (stats.accepted + stats.rejected >= accepted).then_some(())
    });
    let stats = pool.stats();
    // A stopped miner may not have received the answer to its last share.
    let unheard = stats.accepted - accepted;
    assert!(unheard <= UNHEARD_MAX, "{unheard} more than miners know of: {stats:?}");
    assert_eq!(stats.rejected, 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_every_class_pay_the_pools_splits() {
    blocks_of_every_class(MinerProtocol::Sv1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_every_class_pay_the_pools_splits_over_sv2() {
    blocks_of_every_class(MinerProtocol::Sv2Extended).await;
}

/// Blocks of all classes, with the splits that each has room for, and a pool that agrees.
async fn blocks_of_every_class(protocol: MinerProtocol) {
    let mut node = Bitcoind::regtest();
    node.generate(151);
    node.make_segwit_mempool(60);
    let pool = pool(200).await;
    let gateway = Gateway::start(&config(&node.node_toml(), &pool, 0.000_25, ""));
    let start = node.height();
    let mut accepted = 0;
    let mut outputs = Vec::new();
    for class in 0..6 {
        let before = node.height();
        let miners = vec![start_miner_of(protocol, &gateway, class, 1_500_000.0)];
        eventually("four blocks of this class", Duration::from_secs(60), || {
            (node.height() >= before + 4).then_some(())
        });
        let stats = stop(miners).await;
        assert_eq!(stats.rejected, 0, "{stats:?}");
        accepted += stats.accepted;
        outputs.push((before + 1..=node.height()).map(|at| coinbase_outputs(&node, at)).max());
    }
    assert!(node.height() - start >= 24);
    pool_knows(&pool, accepted);
    let stats = pool.stats();
    assert!(stats.validations_ok > 0 && stats.validations_failed == 0, "{stats:?}");
    // From the class with the fewest to that with the most: tiny, small, default, S21, respectable,
    // huge.
    let by_room = [0, 1, 2, 5, 3, 4].map(|class| outputs[class].unwrap());
    assert!(by_room.is_sorted() && by_room[0] < by_room[1], "{by_room:?}");
    assert!(by_room[5] > 200, "all splits, the pool and the commitment: {by_room:?}");
}

/// What fits the buffers of small firmware, and can be read by it, is valid for pool and node.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_small_firmware_are_accepted_by_pool_and_node() {
    let node = Bitcoind::regtest();
    node.generate(151);
    let pool = pool(200).await;
    let gateway = Gateway::start(&config(&node.node_toml(), &pool, 0.000_25, ""));
    let mut accepted = 0;
    for (agent, protocol, bytes_max) in [
        ("NerdMinerV2/V1.8.3", MinerProtocol::Sv1, 255),
        ("NerdQAxe++/BM1370/v1.0.38", MinerProtocol::Sv1, 6500),
        ("NerdQAxe++/BM1370", MinerProtocol::Sv2Extended, 500),
        ("bitaxe/BM1370/v2.15.0", MinerProtocol::Sv1, 6500),
        ("bitaxe/BM1370", MinerProtocol::Sv2Extended, 500),
    ] {
        let before = node.height();
        let miner = start_firmware(protocol, &gateway, agent, 1_500_000.0);
        eventually("three blocks of this firmware", Duration::from_secs(60), || {
            (node.height() >= before + 3).then_some(())
        });
        let stats = stop(vec![miner]).await;
        assert_eq!(stats.rejected, 0, "{agent}: {stats:?}");
        accepted += stats.accepted;
        for height in before + 1..=node.height() {
            let mut coinbase = coinbase(&node, height);
            coinbase.input[0].witness.clear();
            let size = bitcoin::consensus::serialize(&coinbase).len();
            assert!(size <= bytes_max, "{agent}: {size} bytes");
            let data = coinbase.output.iter().filter(|out| out.script_pubkey.is_op_return());
            assert!(
                data.count() <= 1,
                "{agent}: an output other than the commitment is not a payout"
            );
        }
    }
    pool_knows(&pool, accepted);
    assert!(pool.stats().splits_max > 0, "{:?}", pool.stats());
}

/// A standard channel sees no coinbase, so it gets the one with room for all.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_channel_pays_all_splits() {
    let node = Bitcoind::regtest();
    node.generate(151);
    let pool = pool(200).await;
    let gateway = Gateway::start(&config(&node.node_toml(), &pool, 0.000_25, ""));
    let before = node.height();
    let miners = vec![start_miner_of(MinerProtocol::Sv2Standard, &gateway, 1, 1_500_000.0)];
    eventually("four blocks", Duration::from_secs(60), || {
        (node.height() >= before + 4).then_some(())
    });
    let stats = stop(miners).await;
    assert_eq!(stats.rejected, 0, "{stats:?}");
    pool_knows(&pool, stats.accepted);
    let most = (before + 1..=node.height()).map(|at| coinbase_outputs(&node, at)).max();
    assert!(most > Some(200), "{most:?}");
}

fn coinbase_outputs(node: &Bitcoind, height: u64) -> usize {
    coinbase(node, height).output.len()
}

fn coinbase(node: &Bitcoind, height: u64) -> bitcoin::Transaction {
    let rpc = node.rpc();
    let block = rpc.get_block(&rpc.get_block_hash(height).unwrap()).unwrap();
    block.txdata[0].clone()
}

/// The pool dies while miners work and comes back: nobody is sent away, nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn shares_outlive_a_pool_that_keeps_its_ids_and_goes_for_a_while() {
    // Difficulty 1: no block makes a held share stale.
    let nbits = Nbits::new(0x1d00_ffff).unwrap();
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    let node = Node::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pool = pool(10).await;
    let mut gateway = Gateway::start(&config(&embedded(&node), &pool, 0.000_1, ""));
    learn_that_ids_are_kept(&gateway, &pool);
    let miners: Vec<_> = (1..=3).map(|class| start_miner(&gateway, class, 300_000.0)).collect();
    eventually("shares at the pool", Duration::from_secs(30), || {
        (pool.stats().accepted >= 5).then_some(())
    });
    pool.stop().await;
    let (known, before) = (pool.stats().accepted, accepted(&miners));
    // Three such miners find two a second.
    let held = eventually("miners mine on", Duration::from_secs(120), || {
        Some(accepted(&miners) - before).filter(|held| *held >= 30)
    });
    pool.restart().await.unwrap();
    eventually("the pool to get what was held, and more", Duration::from_secs(45), || {
        (pool.stats().accepted > known + held + 2).then_some(())
    });
    let stats = stop(miners).await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    pool_knows(&pool, stats.accepted);
    gateway.signal("TERM");
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
    let line = gateway.wait_for_line("shares accounted for", Duration::from_secs(1));
    let figure = |name: &str| -> u64 {
        let (_, rest) = line.split_once(&format!("{name}=")).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert_eq!(figure("received"), stats.accepted, "{line}");
    assert_eq!(figure("pool_accepted"), stats.accepted, "{line}");
    assert_eq!((figure("pool_rejected"), figure("lost")), (0, 0), "{line}");
}

fn accepted(miners: &[MinerHandle]) -> u64 {
    miners.iter().map(|miner| miner.stats().accepted).sum()
}

/// `when_down = "disconnect"`: after `hold_shares`, and not before, miners are sent away.
#[tokio::test(flavor = "multi_thread")]
async fn miners_are_sent_away_when_a_pool_that_keeps_its_ids_stays_away() {
    let node = Node::start(NodeOptions::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let pool = pool(10).await;
    let toml = config(&embedded(&node), &pool, 0.000_1, "hold_shares = \"3s\"");
    let gateway = Gateway::start(&toml);
    learn_that_ids_are_kept(&gateway, &pool);
    let miner = start_miner(&gateway, 1, 300_000.0);
    eventually("shares at the pool", Duration::from_secs(30), || {
        (pool.stats().accepted >= 2).then_some(())
    });
    pool.stop().await;
    gateway.wait_for_line("sending miners away", Duration::from_secs(10));
    eventually("the miner to be gone", Duration::from_secs(5), || {
        (miner.stats().disconnects > 0).then_some(())
    });
    pool.restart().await.unwrap();
    let back = pool.stats().accepted;
    eventually("shares again", Duration::from_secs(60), || {
        (pool.stats().accepted > back).then_some(())
    });
    miner.stop().await;
}

/// A pool whose splits make blocks that the node would reject: nobody ever mines on them.
#[tokio::test(flavor = "multi_thread")]
async fn splits_that_the_node_would_reject_are_never_mined_on() {
    let node = Node::start(NodeOptions::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    node.set_refuse_outputs(Some((8, "bad-splits-for-a-test")));
    let pool = pool(50).await;
    let gateway = Gateway::start(&config(&embedded(&node), &pool, 0.000_1, ""));
    let miner = start_miner(&gateway, 4, 3_000_000.0);
    let line = gateway.wait_for_line("would refuse a block", Duration::from_secs(30));
    assert!(line.contains("bad-splits-for-a-test") && line.contains("ERROR"), "{line}");
    assert!(line.contains(&pool.addr.to_string()), "{line}");
    let start = node.height();
    eventually("blocks and shares all the same", Duration::from_secs(60), || {
        (node.height() > start && pool.stats().accepted >= 3).then_some(())
    });
    assert_eq!(pool.stats().splits_max, 0, "{:?}", pool.stats());
    // The node accepts them again: from the next tip on all are paid.
    node.set_refuse_outputs(None);
    node.mine_one();
    eventually("splits", Duration::from_secs(60), || (pool.stats().splits_max == 50).then_some(()));
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    pool_knows(&pool, stats.accepted);
}

/// Each of the pool's scripts has 64 OP_CHECKMULTISIG, that is, 1,280 signature operations at a
/// cost of 4, and a block may cost 80,000: bitcoind would refuse one that pays more than 15 of
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn splits_are_cut_to_the_sigops_that_a_block_may_have() {
    let node = Bitcoind::regtest();
    node.generate(1);
    let pool = pool(50).await;
    let mut greedy = pool.config();
    greedy.splits.iter_mut().for_each(|split| split.script = vec![0xae; 64]);
    pool.set_config(greedy);
    let gateway = Gateway::start(&config(&node.node_toml(), &pool, 0.000_25, ""));
    let miner = start_miner(&gateway, 4, 1_000_000.0);
    let start = node.height();
    eventually("blocks that pay splits", Duration::from_secs(60), || {
        (node.height() >= start + 5 && pool.stats().splits_max > 0).then_some(())
    });
    assert_eq!(pool.stats().splits_max, 15, "{:?}", pool.stats());
    let refused = |line: &String| line.contains("REJECTED") || line.contains("would refuse");
    assert!(!gateway.lines().iter().any(refused));
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    pool_knows(&pool, stats.accepted);
}

/// `when_down = "solo"`: work goes on, for the operator's own address.
#[tokio::test(flavor = "multi_thread")]
async fn solo_mining_takes_over_when_a_pool_that_keeps_its_ids_stays_away() {
    let node = Bitcoind::regtest();
    node.generate(1);
    let pool = pool(10).await;
    let pooling = "hold_shares = \"2s\"\nwhen_down = \"solo\"";
    let gateway = Gateway::start(&config(&node.node_toml(), &pool, 0.000_25, pooling));
    learn_that_ids_are_kept(&gateway, &pool);
    let miner = start_miner(&gateway, 1, 1_000_000.0);
    eventually("shares at the pool", Duration::from_secs(30), || {
        (pool.stats().accepted >= 2).then_some(())
    });
    pool.stop().await;
    let own: bitcoin::Address<_> = ADDRESS.parse().unwrap();
    let own = bitcoin::Address::assume_checked(own).script_pubkey();
    eventually("a block for the operator", Duration::from_secs(60), || {
        let rpc = node.rpc();
        let block = rpc.get_block(&rpc.get_best_block_hash().unwrap()).unwrap();
        (block.txdata[0].output[0].script_pubkey == own).then_some(())
    });
    let stats = miner.stop().await;
    assert_eq!(stats.disconnects, 0, "{stats:?}");
}
