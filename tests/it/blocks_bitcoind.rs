//! Found blocks and real nodes that are down, frozen, or have the block already.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::{bitcoind::Bitcoind, eventually};
use bitcoincore_rpc::RpcApi;
use gatewayd::{
    blocks::{BlockOutcome, BlockSender, BlockStats, BlockUpdate, BlockUpdateKind, BlocksConfig},
    node::{Auth, NodeConfig},
    template::TemplateConfig,
    work::{BuildJob, FoundBlock, Hash256, JobBuilder, Payout, Template, TemplateKind, Username},
};
use tokio::{runtime::Runtime, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The block submission of a gateway.
struct Side {
    runtime: Option<Runtime>,
    sender: BlockSender,
    stats: Arc<BlockStats>,
    /// Hashes that `on_accepted` was called with.
    told: Arc<Mutex<Vec<Hash256>>>,
}

impl Side {
    fn start(data_dir: &Path, nodes: &[&Bitcoind]) -> Self {
        let runtime = Runtime::new().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let config = BlocksConfig {
            data_dir: data_dir.to_owned(),
            nodes: block_nodes(nodes),
            on_accepted: Arc::new(move |hash| teller.lock().unwrap().push(hash)),
        };
        let guard = runtime.enter();
        let (sender, stats) =
            gatewayd::blocks::spawn(config, CancellationToken::new(), &TaskTracker::new());
        drop(guard);
        Self { runtime: Some(runtime), sender, stats, told }
    }

    fn submit(&self, block: &FoundBlock) {
        let _guard = self.runtime.as_ref().unwrap().enter();
        self.sender.submit(Box::new(block.clone()));
    }

    fn drain(&self, grace: Duration) -> bool {
        self.runtime.as_ref().unwrap().block_on(self.sender.drain(grace))
    }

    /// Ends it in the middle of things. That must not wait for a node.
    fn kill(mut self) {
        let start = Instant::now();
        drop(self.runtime.take());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn block_nodes(nodes: &[&Bitcoind]) -> Vec<NodeConfig> {
    let node = |(at, node): (usize, &&Bitcoind)| {
        NodeConfig::new(format!("node {at}"), node.rpc_url().parse().unwrap(), node.auth())
    };
    nodes.iter().enumerate().map(node).collect()
}

/// The node's template, as the gateway gets it.
fn template(bitcoind: &Bitcoind) -> Arc<Template> {
    let runtime = Runtime::new().unwrap();
    let token = CancellationToken::new();
    let node = NodeConfig::new("templates", bitcoind.rpc_url().parse().unwrap(), bitcoind.auth());
    let config = TemplateConfig {
        nodes: vec![node],
        refresh: Duration::from_secs(40),
        allow_rules: Vec::new().into(),
        chains: Vec::new(),
    };
    let template = runtime.block_on(async {
        let side = gatewayd::template::spawn(config, &token, &TaskTracker::new());
        let mut templates = side.templates;
        let is_full = |template: &Option<Arc<Template>>| {
            template.as_ref().is_some_and(|template| template.kind == TemplateKind::Full)
        };
        let found = timeout(Duration::from_secs(30), templates.wait_for(is_full));
        found.await.expect("no template").unwrap().clone().unwrap()
    });
    token.cancel();
    runtime.shutdown_background();
    template
}

/// A solved block on `template`; `unique_id` makes different ones. On regtest two tries are enough
/// on average.
fn solve(template: &Arc<Template>, unique_id: u16) -> FoundBlock {
    let payout = Payout {
        script: [&[0, 20][..], &[7; 20]].concat().into(),
        tag_primary: b"test"[..].into(),
        tag_secondary: Box::default(),
        unique_id,
        own_script: None,
        pooled: None,
    };
    let job = JobBuilder::new(1).build(BuildJob::Classes, template, &Arc::new(payout));
    let mut block = FoundBlock::proposal(&job);
    block.username = Username("bob.rig".into());
    for nonce in 0u32.. {
        block.header[76..].copy_from_slice(&nonce.to_le_bytes());
        block.hash = Hash256::sha256d(&block.header);
        if job.block_target.is_met_by(&block.hash) {
            return block;
        }
    }
    unreachable!("half of all nonces solve a block")
}

fn files(data_dir: &Path) -> Vec<String> {
    // The folder may not exist yet.
    let entries = fs::read_dir(data_dir.join("blocks")).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_block_reaches_every_node_and_is_reported() {
    let (mut first, second) = (Bitcoind::regtest(), Bitcoind::regtest());
    let dir = tempfile::tempdir().unwrap();
    first.make_segwit_mempool(40);
    for height in 1..=first.height() {
        let hash = first.rpc().get_block_hash(height).unwrap();
        let hex = first.rpc().get_block_hex(&hash).unwrap();
        let _: Option<String> = second.rpc().call("submitblock", &[hex.into()]).unwrap();
    }
    let template = template(&first);
    assert_eq!(template.transactions.len(), 40);
    let block = solve(&template, 1);
    let side = Side::start(dir.path(), &[&first, &second]);
    side.submit(&block);
    side.submit(&block);
    assert!(side.drain(Duration::from_secs(20)));
    // One node's verdict is enough to end on; the other's comes a moment later.
    eventually("both have it", Duration::from_secs(20), || {
        let files = files(dir.path());
        (files.len() == 1 && files[0].ends_with(".accepted")).then_some(())
    });
    for node in [&first, &second] {
        assert_eq!(node.best_hash().to_string(), block.hash.to_string());
    }
    assert_eq!((side.stats.found(), side.stats.accepted(), side.stats.refused()), (1, 1, 0));
    assert_eq!(*side.told.lock().unwrap(), [block.hash; 2]);
    let news = side.stats.take_news();
    assert!(news.iter().all(|it| it.hash == block.hash && it.height == template.height));
    assert!(
        matches!(&news[0].event, BlockUpdateKind::Found(worker) if &*worker.0 == "bob.rig"),
        "{news:?}"
    );
    let accepted =
        |it: &BlockUpdate| matches!(it.event, BlockUpdateKind::Answered(_, BlockOutcome::Accepted));
    assert_eq!(news[1..].iter().filter(|it| accepted(it)).count(), 2, "{news:?}");
    assert!(side.stats.take_news().is_empty());
}

#[test]
fn new_nodes_also_get_blocks_already_under_way() {
    let (before, after) = (Bitcoind::regtest(), Bitcoind::regtest());
    let dir = tempfile::tempdir().unwrap();
    let early = solve(&template(&before), 1);
    let side = Side::start(dir.path(), &[&before]);
    before.freeze();
    side.submit(&early);
    // It is on disk once it has been sent.
    eventually("it has been sent", Duration::from_secs(10), || {
        files(dir.path()).iter().any(|name| name.ends_with(".hex")).then_some(())
    });
    side.sender.set_nodes(block_nodes(&[&after]));
    eventually("the new node has it", Duration::from_secs(20), || {
        (after.best_hash().to_string() == early.hash.to_string()).then_some(())
    });
    // So does an accepted one, as long as other nodes are still being tried.
    assert!(side.drain(Duration::from_secs(20)));
    let third = Bitcoind::regtest();
    side.sender.set_nodes(block_nodes(&[&after, &third]));
    eventually("the third node has it", Duration::from_secs(20), || {
        (third.best_hash().to_string() == early.hash.to_string()).then_some(())
    });
    before.thaw();
    eventually("so has the one that left", Duration::from_secs(20), || {
        files(dir.path())[0].ends_with(".accepted").then_some(())
    });
    assert_eq!(before.best_hash().to_string(), early.hash.to_string());
    assert_eq!(*side.told.lock().unwrap(), [early.hash; 3]);
    assert_eq!((side.stats.found(), side.stats.accepted()), (1, 1));
    // The next one goes to the new ones only.
    let late = solve(&template(&after), 2);
    side.submit(&late);
    eventually("both have the next one", Duration::from_secs(20), || {
        (side.told.lock().unwrap()[3..] == [late.hash; 2]).then_some(())
    });
    assert_eq!(before.height(), 1);
}

#[test]
fn a_corrected_password_gets_the_block_through() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&node), 1);
    let side = Side::start(dir.path(), &[]);
    let mut wrong = block_nodes(&[&node]);
    wrong[0].auth = Auth::UserPass("miner".into(), "wrong".into());
    side.sender.set_nodes(wrong);
    side.submit(&block);
    eventually("the node refuses the login", Duration::from_secs(20), || {
        let mut news = side.stats.take_news().into_iter();
        let unanswered = |it: BlockUpdate| {
            matches!(it.event, BlockUpdateKind::Answered(_, BlockOutcome::Unanswered(_)))
        };
        news.any(unanswered).then_some(())
    });
    side.sender.set_nodes(block_nodes(&[&node]));
    assert!(side.drain(Duration::from_secs(20)), "it keeps trying with the old password");
    assert_eq!(node.best_hash().to_string(), block.hash.to_string());
    // No node is left to try.
    eventually("its file says so", Duration::from_secs(5), || {
        files(dir.path())[0].ends_with(".accepted").then_some(())
    });
}

#[test]
fn blocks_are_read_from_a_folder_that_cannot_be_written() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&node), 1);
    let folder = dir.path().join("blocks");
    // No file can be created in its place.
    fs::create_dir_all(folder.join(".writable/x")).unwrap();
    let hex = faster_hex::hex_string(&block.serialize());
    fs::write(folder.join(format!("1-{}.hex", block.hash)), hex).unwrap();
    let _side = Side::start(dir.path(), &[&node]);
    eventually("the node has the block", Duration::from_secs(20), || {
        (node.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
}

#[test]
fn a_block_that_the_node_has_already_is_a_success() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&node), 1);
    let hex = faster_hex::hex_string(&block.serialize());
    let _: Option<String> = node.rpc().call("submitblock", &[hex.into()]).unwrap();
    let side = Side::start(dir.path(), &[&node]);
    side.submit(&block);
    assert!(side.drain(Duration::from_secs(20)));
    assert_eq!((side.stats.accepted(), side.stats.refused()), (1, 0));
}

#[test]
fn an_invalid_block_is_submitted_once() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let mut block = solve(&template(&node), 1);
    let last = block.coinbase.len() - 1;
    block.coinbase[last] ^= 1; // Not what the merkle root was made from.
    let side = Side::start(dir.path(), &[&node]);
    side.submit(&block);
    assert!(side.drain(Duration::from_secs(20)));
    assert_eq!((side.stats.accepted(), side.stats.refused()), (0, 1));
    assert!(format!("{:?}", side.stats.recent()).contains("bad-txnmrklroot"));
    assert!(files(dir.path())[0].ends_with(".rejected"));
}

#[test]
fn a_block_that_lost_the_race_to_one_of_ours_is_not_accepted() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let template = template(&node);
    let (winner, loser) = (solve(&template, 1), solve(&template, 2));
    let side = Side::start(dir.path(), &[&node]);
    side.submit(&winner);
    assert!(side.drain(Duration::from_secs(20)));
    side.submit(&loser);
    assert!(side.drain(Duration::from_secs(20)));
    assert_eq!((side.stats.found(), side.stats.accepted()), (2, 1));
    assert_eq!(node.best_hash().to_string(), winner.hash.to_string());
}

#[test]
fn a_block_that_comes_second_is_preferred_to_a_strangers_but_not_to_one_built_on() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let side = Side::start(dir.path(), &[&node]);
    let tie = template(&node);
    node.generate(1);
    let ours = solve(&tie, 1);
    side.submit(&ours);
    assert!(side.drain(Duration::from_secs(20)));
    assert_eq!((side.stats.found(), side.stats.accepted()), (1, 1));
    assert_eq!(node.best_hash().to_string(), ours.hash.to_string());

    let lost = template(&node);
    node.generate(2);
    let best = node.best_hash();
    side.submit(&solve(&lost, 1));
    assert!(side.drain(Duration::from_secs(20)));
    assert_eq!((side.stats.found(), side.stats.accepted()), (2, 1));
    assert_eq!(node.best_hash(), best);
}

#[test]
fn a_killed_gateway_submits_at_its_next_start() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&node), 1);
    let side = Side::start(dir.path(), &[&node]);
    eventually("the folder is there", Duration::from_secs(5), || {
        dir.path().join("blocks").exists().then_some(())
    });
    // The node is extremely slow, and the gateway dies before it answers.
    node.freeze();
    side.submit(&block);
    let start = Instant::now();
    eventually("the block is on disk", Duration::from_secs(5), || {
        files(dir.path()).iter().any(|name| name.ends_with(".hex")).then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(2), "disk does not wait for the node");
    assert!(!side.drain(Duration::from_millis(100)));
    side.kill();
    node.thaw();
    let side = Side::start(dir.path(), &[&node]);
    eventually("the node has the block", Duration::from_secs(20), || {
        (node.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
    assert!(side.drain(Duration::from_secs(20)));
    eventually("its file says so", Duration::from_secs(5), || {
        files(dir.path())[0].ends_with(".accepted").then_some(())
    });
    assert_eq!(side.stats.accepted(), 1);
}

#[test]
fn a_node_that_is_down_gets_the_block_when_it_returns() {
    let (mut down, up) = (Bitcoind::regtest(), Bitcoind::regtest());
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&up), 1);
    down.kill();
    let side = Side::start(dir.path(), &[&down, &up]);
    side.submit(&block);
    eventually("one node has it", Duration::from_secs(20), || {
        (up.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
    assert!(side.drain(Duration::from_secs(5)), "an accepted block waits for nobody");
    assert_eq!(side.stats.accepted(), 1);
    down.start();
    eventually("the other has it too", Duration::from_secs(20), || {
        (down.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
    eventually("its file says so", Duration::from_secs(5), || {
        files(dir.path())[0].ends_with(".accepted").then_some(())
    });
    assert_eq!((side.stats.accepted(), side.stats.refused()), (1, 0));
}

#[test]
fn a_node_that_lacks_the_parent_gets_the_block_again() {
    let (late, up) = (Bitcoind::regtest(), Bitcoind::regtest());
    let dir = tempfile::tempdir().unwrap();
    up.generate(1);
    let parent = up.rpc().get_block_hex(&up.best_hash()).unwrap();
    let block = solve(&template(&up), 1);
    let side = Side::start(dir.path(), &[&late, &up]);
    side.submit(&block);
    eventually("one node has it", Duration::from_secs(20), || {
        (up.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
    let _: Option<String> = late.rpc().call("submitblock", &[parent.into()]).unwrap();
    eventually("the late one has it too", Duration::from_secs(20), || {
        (late.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
    assert!(side.drain(Duration::from_secs(20)));
}

#[test]
fn files_that_are_not_blocks_do_not_stop_the_others() {
    let node = Bitcoind::regtest();
    let dir = tempfile::tempdir().unwrap();
    let block = solve(&template(&node), 1);
    let folder = dir.path().join("blocks");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join(format!("0-{}.hex", Hash256([1; 32]))), [0xFF, 0xFE]).unwrap();
    fs::write(folder.join(format!("1-{}.hex", Hash256([2; 32]))), "\"],{").unwrap();
    fs::create_dir(folder.join(format!("1-{}.hex", Hash256([3; 32])))).unwrap();
    fs::write(folder.join("notes.hex"), "buy milk").unwrap();
    let hex = faster_hex::hex_string(&block.serialize());
    fs::write(folder.join(format!("1-{}.hex", block.hash)), hex).unwrap();
    let _side = Side::start(dir.path(), &[&node]);
    eventually("the node has the block", Duration::from_secs(20), || {
        (node.best_hash().to_string() == block.hash.to_string()).then_some(())
    });
}
