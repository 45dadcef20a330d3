//! blvm-node's dialect and faults, from a stand-in that fails in more ways than the real one.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use crate::blvm_support::{
    FakeBlvm,
    api::{FakeApi, block_event},
};
use crate::common::eventually;
use bitcoin::{
    OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute::LockTime,
    consensus::encode::serialize_hex, hashes::Hash, transaction::Version,
};
use gatewayd::{
    blocks::{BlockOutcome, BlockSender, BlockStats, BlocksConfig},
    devnet::node::{Node, NodeOptions},
    node::{Auth, NodeConfig, NodeKind, ProposeError},
    template::{NodeState, NodeStatus, TemplateConfig, Templates},
    work::{
        BuildJob, FoundBlock, Hash256, JobBuilder, Payout, Template, TemplateKind, Username, merkle,
    },
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

struct Side {
    runtime: Runtime,
    token: CancellationToken,
    templates: Templates,
    blocks: BlockSender,
    stats: Arc<BlockStats>,
    _dir: TempDir,
}

impl Side {
    fn start(node: &FakeBlvm) -> Self {
        Self::start_with(node, Vec::new())
    }

    fn start_with(node: &FakeBlvm, others: Vec<NodeConfig>) -> Self {
        let runtime = Runtime::new().unwrap();
        let token = CancellationToken::new();
        let refresh = Duration::from_secs(2);
        let nodes = std::iter::once(node.config()).chain(others).collect();
        let config =
            TemplateConfig { nodes, refresh, allow_rules: Vec::new().into(), chains: Vec::new() };
        let dir = tempfile::tempdir().unwrap();
        let guard = runtime.enter();
        let templates = gatewayd::template::spawn(config, &token, &TaskTracker::new());
        let notify = templates.notify.clone();
        let config = BlocksConfig {
            data_dir: dir.path().to_owned(),
            nodes: vec![node.config()],
            on_accepted: Arc::new(move |hash| notify.assume_tip(hash)),
        };
        let (blocks, stats) = gatewayd::blocks::spawn(config, token.clone(), &TaskTracker::new());
        drop(guard);
        Self { runtime, token, templates, blocks, stats, _dir: dir }
    }

    #[track_caller]
    fn full(&self, height: u32) -> Arc<Template> {
        self.template(|it| it.height == height && it.kind == TemplateKind::Full)
    }

    #[track_caller]
    fn template(&self, is_it: impl Fn(&Template) -> bool) -> Arc<Template> {
        let mut templates = self.templates.templates.clone();
        self.runtime.block_on(async {
            let found = templates.wait_for(|template| template.as_ref().is_some_and(|t| is_it(t)));
            let found = timeout(PATIENCE, found).await.expect("no such template").unwrap();
            found.clone().unwrap()
        })
    }

    #[track_caller]
    fn status(&self, is_it: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let mut status = self.templates.status.clone();
        self.runtime.block_on(async {
            let found = timeout(PATIENCE, status.wait_for(|status| is_it(&status[0]))).await;
            found.expect("no such status").unwrap()[0].clone()
        })
    }

    /// Submits a block on the template, and returns the last answer to it for which `is_it` is
    /// true.
    #[track_caller]
    fn submit(
        &self,
        template: &Arc<Template>,
        is_it: impl Fn(&BlockOutcome) -> bool,
    ) -> BlockOutcome {
        self.submit_block(solve(template, 1), is_it)
    }

    #[track_caller]
    fn submit_block(
        &self,
        block: FoundBlock,
        is_it: impl Fn(&BlockOutcome) -> bool,
    ) -> BlockOutcome {
        let guard = self.runtime.enter();
        let hash = block.hash;
        self.blocks.submit(Box::new(block));
        drop(guard);
        eventually("the node's answer", PATIENCE, || {
            // An earlier block may still be unanswered.
            let news = self.stats.take_news().into_iter().filter(|news| news.hash == hash);
            let answers = news.filter_map(|news| match news.event {
                gatewayd::blocks::BlockUpdateKind::Answered(_, answer) => Some(answer),
                gatewayd::blocks::BlockUpdateKind::Found(_) => None,
            });
            answers.filter(|answer| is_it(answer)).last()
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// Whether this is the final verdict on the block.
fn is_last(answer: &BlockOutcome) -> bool {
    !matches!(answer, BlockOutcome::Unanswered(_))
}

/// Half of all nonces solve it.
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
    block.username = Username("bob".into());
    for nonce in 0_u32.. {
        block.header[76..].copy_from_slice(&nonce.to_le_bytes());
        block.hash = Hash256::sha256d(&block.header);
        if job.block_target.is_met_by(&block.hash) {
            break;
        }
    }
    block
}

/// A segwit transaction of some `size` bytes, with its id and hash.
fn transaction(seed: u8, size: usize) -> (String, String, String) {
    let previous = OutPoint { txid: Txid::from_byte_array([seed; 32]), vout: 0 };
    let output = TxOut { value: bitcoin::Amount::from_sat(1), script_pubkey: ScriptBuf::new() };
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: previous,
            script_sig: ScriptBuf::from(vec![0; size]),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0x51]]),
        }],
        output: vec![output],
    };
    (serialize_hex(&tx), tx.compute_txid().to_string(), tx.compute_wtxid().to_string())
}

fn hash(text: &str) -> Hash256 {
    Hash256::from_display_hex(text).unwrap()
}

#[test]
fn the_missing_witness_commitment_is_computed() {
    let node = FakeBlvm::start();
    let txs = [transaction(1, 10), transaction(2, 20), transaction(3, 30)];
    node.set(|script| script.transactions = txs.to_vec());
    let side = Side::start(&node);
    let template = side.full(11);
    let wtxids = txs.iter().map(|(_, _, wtxid)| hash(wtxid));
    let root = merkle::root(Hash256::ZERO, &merkle::branches(wtxids));
    let commitment = Hash256::sha256d(&[root.0, [0; 32]].concat());
    let script = [&[0x6A, 0x24, 0xAA, 0x21, 0xA9, 0xED][..], &commitment.0].concat();
    assert_eq!(template.witness_commitment.as_deref(), Some(&script[..]));
    // Without transactions too: the segwit rule is in force.
    node.set(|script| (script.transactions.clear(), script.tip = Hash256([2; 32])));
    let empty =
        side.template(|it| it.prevhash == Hash256([2; 32]) && it.kind == TemplateKind::Full);
    let script = empty.witness_commitment.as_deref().unwrap();
    assert_eq!(script.len(), 38);
}

#[test]
fn tips_come_by_waiting_in_seconds_and_outdated_headers_are_believed() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    side.full(11);
    eventually("it waits", PATIENCE, || (!node.calls("waitfornewblock").is_empty()).then_some(()));
    node.set(|script| (script.tip, script.height) = (Hash256([2; 32]), 11));
    // Its header says 0 confirmations, from a cache.
    let tip = side.template(|it| it.height == 12);
    assert_eq!(tip.prevhash, Hash256([2; 32]));
    side.full(12);
    assert!(node.calls("waitfornewblock").iter().all(|params| params == "[10]"));
    let error = side.runtime.block_on(side.templates.propose("00")).unwrap_err();
    assert!(matches!(error, ProposeError::Unanswered(_)), "{error}");
}

#[test]
fn many_tips_and_blocks_take_few_connections() {
    let node = FakeBlvm::start();
    node.set(|script| script.connections_max = 10);
    let side = Side::start(&node);
    for height in 11..31 {
        let template = side.full(height);
        assert_eq!(side.submit(&template, is_last), BlockOutcome::Accepted);
    }
    side.full(31);
    assert!(node.connections() <= 6, "{} connections", node.connections());
}

/// The tip's notification, its hash and its header are three answers; the template is under way at
/// the same time.
#[test]
fn full_work_is_not_delayed_by_slow_answers() {
    for delay_ms in [1100, 2000] {
        let delay = Duration::from_millis(delay_ms);
        let node = FakeBlvm::start();
        let side = Side::start(&node);
        side.full(11);
        eventually("it waits", PATIENCE, || {
            (!node.calls("waitfornewblock").is_empty()).then_some(())
        });
        node.set(|script| script.delay = delay);
        let mut slowest = Duration::ZERO;
        for height in 11..15 {
            let tip = Hash256([u8::try_from(height).unwrap(); 32]);
            let start = Instant::now();
            node.set(|script| (script.tip, script.height) = (tip, height));
            side.full(height + 1);
            slowest = slowest.max(start.elapsed());
        }
        println!("{delay:?} an answer: full work after {slowest:?} at most");
        // A wait may have to begin first, and a busy machine takes its time.
        assert!(slowest < delay * 4 + Duration::from_millis(1500), "{delay:?}: {slowest:?}");
    }
}

/// blvm-node reads the height when it starts a template and the tip's hash when it finishes it.
#[test]
fn a_template_interrupted_by_a_block_is_not_mined_on() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    side.full(11);
    let asked = node.calls("getblocktemplate").len();
    node.set(|script| {
        script.lags_in_height = true;
        (script.tip, script.height) = (Hash256([2; 32]), 11);
    });
    side.template(|template| template.kind == TemplateKind::Tip && template.height == 12);
    // When it is asked a second time, the first answer has been judged.
    eventually("it answers with the wrong height", PATIENCE, || {
        (node.calls("getblocktemplate").len() > asked + 1).then_some(())
    });
    let template = side.templates.templates.borrow().clone().unwrap();
    assert_eq!((template.kind, template.height), (TemplateKind::Tip, 12));
    node.set(|script| script.lags_in_height = false);
    side.full(12);
}

/// As when gatewayd was restarted a few times within a minute.
#[test]
fn a_node_that_accepts_no_more_connections_is_given_time() {
    let node = FakeBlvm::start();
    node.set(|script| script.connections_max = 0);
    let side = Side::start(&node);
    let status = side.status(|status| {
        let error = status.last_error.as_deref().unwrap_or_default();
        error.contains("closes new connections without an answer")
    });
    assert!(status.last_error.unwrap().contains("max_connections_per_ip_per_minute"));
    let before = node.connections();
    assert!(before <= 5, "{before} connections");
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(node.connections(), before);
    node.set(|script| script.connections_max = usize::MAX);
    side.full(11);
}

#[test]
fn broken_connections_are_not_replaced_endlessly() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    side.full(11);
    node.set(|script| script.hangs_up_on = "getbestblockhash");
    let status = side.status(|status| {
        status.state == NodeState::Down
            && status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("closes new connections"))
    });
    assert!(status.last_error.unwrap().contains("max_connections_per_ip_per_minute"));
    assert!(node.connections() <= 10, "{} connections", node.connections());
    // A found block still gets through: it has connections of its own.
    node.set(|script| script.hangs_up_on = "");
    let template = side.templates.templates.borrow().clone().unwrap();
    assert_eq!(side.submit(&template, is_last), BlockOutcome::Accepted);
}

#[test]
fn a_stale_block_that_it_does_not_object_to_is_stale() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    let template = side.full(11);
    node.set(|script| {
        script.connects = false;
        (script.tip, script.height) = (Hash256([2; 32]), 11);
    });
    // Null, but the block is neither its tip nor known to it.
    let answer = side.submit(&template, |answer| matches!(answer, BlockOutcome::Unanswered(_)));
    assert!(
        matches!(answer, BlockOutcome::Unanswered(words) if words.contains("not in its chain"))
    );
    node.set(|script| script.refusal = Some("block was not connected"));
    let answer = side.submit(&side.full(12), is_last);
    assert!(matches!(&answer, BlockOutcome::Rejected(words) if words.contains("not connected")));
    // The same message for a block whose parent is no longer the tip.
    let late = side.full(12);
    node.set(|script| (script.tip, script.height) = (Hash256([3; 32]), 12));
    assert_eq!(side.submit_block(solve(&late, 2), is_last), BlockOutcome::Stale);
}

#[test]
fn a_block_that_it_already_has_is_looked_up_in_its_chain() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    let template = side.full(11);
    let block = solve(&template, 1);
    node.set(|script| {
        script.refusal = Some("block header is already stored");
        (script.tip, script.height) = (block.hash, 11);
    });
    assert_eq!(side.submit(&template, is_last), BlockOutcome::Accepted);
}

#[test]
fn a_parent_that_it_lacks_is_waited_for() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    let template = side.full(11);
    node.set(|script| script.refusal = Some("prev_block_hash is not a stored header"));
    let answer = side.submit(&template, |_| true);
    assert!(matches!(answer, BlockOutcome::Unanswered(_)), "{answer:?}");
    node.set(|script| script.refusal = None);
    eventually("it is accepted", PATIENCE, || (side.stats.accepted() == 1).then_some(()));
}

#[test]
fn a_block_that_failed_on_its_disk_is_neither_refused_nor_accepted() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    let block = solve(&side.full(11), 1);
    let trouble = "connect refused: IBD UTXO snapshot is empty";
    node.set(|script| script.refusal = Some(trouble));
    let answer = side.submit_block(block.clone(), |_| true);
    assert!(
        matches!(&answer, BlockOutcome::Unanswered(words) if words.contains(trouble)),
        "{answer:?}"
    );
    // From then on it has the block and its height, but never connects it.
    node.set(|script| {
        script.refusal = Some("block header is already stored");
        script.stranded = Some(block.hash);
    });
    let answer = eventually("another answer", PATIENCE, || {
        side.stats.take_news().into_iter().find_map(|news| match news.event {
            gatewayd::blocks::BlockUpdateKind::Answered(_, answer) => Some(answer),
            gatewayd::blocks::BlockUpdateKind::Found(_) => None,
        })
    });
    assert!(
        matches!(answer, BlockOutcome::Unanswered(words) if words.contains("not in its chain"))
    );
    // Until it does connect it, after a restart.
    node.set(|script| {
        script.tip = block.hash;
        script.height = 11;
    });
    eventually("it is accepted", PATIENCE, || (side.stats.accepted() == 1).then_some(()));
}

/// Its 8 transactions make a block that is too long for one of its requests; 5 do not.
fn with_a_full_mempool() -> FakeBlvm {
    let node = FakeBlvm::start();
    node.set(|script| {
        script.request_max = 1 << 20;
        script.transactions = (1..=8).map(|seed| transaction(seed, 100_000)).collect();
    });
    node
}

#[test]
fn templates_are_cut_to_what_can_be_submitted() {
    let node = with_a_full_mempool();
    let side = Side::start(&node);
    let template = side.template(|it| it.transactions.len() == 5);
    assert_eq!(template.subsidy(), 5_000_000_000);
    assert_eq!(side.submit(&template, is_last), BlockOutcome::Accepted);
    let sent = node.calls("submitblock").pop().unwrap().len();
    assert!((1_000_000..1 << 20).contains(&sent), "{sent}");
}

/// With a bitcoind next to it, which accepts the block that blvm-node cannot be given; until it is
/// gone.
#[test]
fn templates_are_cut_only_while_no_other_node_accepts_blocks() {
    let node = with_a_full_mempool();
    let runtime = Runtime::new().unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let other = runtime.block_on(Node::start(NodeOptions::default(), listen)).unwrap();
    let config = NodeConfig {
        name: "other".into(),
        rpc_url: other.rpc_url().parse().unwrap(),
        auth: Auth::UserPass(other.user().into(), other.password().into()),
        zmq_hashblock: None,
        submit_only: true,
        kind: NodeKind::Bitcoind,
    };
    let side = Side::start_with(&node, vec![config]);
    let template = side.template(|it| it.transactions.len() == 8);
    let state = |state| {
        let mut status = side.templates.submit_only.clone();
        let is_it = move |all: &Vec<NodeStatus>| all[0].state == state;
        let found = async { timeout(PATIENCE, status.wait_for(is_it)).await };
        side.runtime.block_on(found).unwrap().unwrap()[0].clone()
    };
    assert_eq!(state(NodeState::Ready).network, Some(bitcoin::Network::Regtest));
    let answer = side.submit(&template, |_| true);
    let BlockOutcome::Unanswered(words) = answer else { panic!("{answer:?}") };
    assert!(words.contains("max_request_size_bytes"), "{words}");
    drop(other);
    runtime.shutdown_background();
    assert!(state(NodeState::Down).last_error.is_some());
    side.template(|it| it.transactions.len() == 5);
}

/// A node that was fixed and restarted gives full templates again.
#[test]
fn the_longest_request_is_retried_after_the_node_was_away() {
    let node = with_a_full_mempool();
    let side = Side::start(&node);
    side.template(|it| it.transactions.len() == 5);
    // Every connection breaks, as on a restart.
    node.set(|script| script.hangs_up_on = "getbestblockhash");
    side.status(|status| status.state == NodeState::Down);
    node.set(|script| (script.hangs_up_on, script.request_max) = ("", usize::MAX));
    // Its connections for this minute are used up.
    eventually("whole templates", Duration::from_secs(90), || {
        let template = side.templates.templates.borrow().clone();
        (template?.transactions.len() == 8).then_some(())
    });
}

#[test]
fn a_new_cookie_is_read_and_no_work_is_taken_while_it_downloads() {
    let node = FakeBlvm::start();
    let side = Side::start(&node);
    side.full(11);
    node.set(|script| {
        "__cookie__:11ee".clone_into(&mut script.cookie);
        (script.tip, script.height) = (Hash256([2; 32]), 11);
    });
    node.write_cookie();
    side.full(12);
    drop(side);
    let node = FakeBlvm::start();
    node.set(|script| (script.chain, script.is_downloading) = ("main", true));
    let side = Side::start(&node);
    side.status(|status| status.state == NodeState::Syncing);
    assert!(side.templates.templates.borrow().is_none());
    node.set(|script| script.is_downloading = false);
    side.full(11);
}

#[test]
fn tips_and_events_arrive_over_the_nodeapi_in_both_layouts() {
    for (version, numeric) in
        [("0.1.50", true), ("0.1.55", false), ("0.1.56", true), ("0.1.83", false)]
    {
        let node = FakeBlvm::start();
        let api = FakeApi::start(&node.socket(), Hash256([1; 32]), version);
        api.set(|script| script.numeric_target = numeric);
        let side = Side::start(&node);
        side.full(11);
        eventually("templates are compared", PATIENCE, || {
            (api.templates.load(SeqCst) > 0).then_some(())
        });
        // A tip made right after the last one was seen would be seen a second later by polling. A
        // busy machine may take as long for some of them.
        let (mut quick, mut height) = (0, 10);
        while quick < 3 && height < 30 {
            height += 1;
            let tip = Hash256([u8::try_from(height).unwrap(); 32]);
            let start = Instant::now();
            node.set(|script| (script.tip, script.height) = (tip, height));
            api.set(|script| (script.tip, script.height) = (tip, height.into()));
            api.send(&block_event(0, tip, height.into()));
            side.template(|it| it.height == height + 1);
            quick += u32::from(start.elapsed() < Duration::from_millis(500));
            side.full(height + 1);
        }
        assert_eq!(quick, 3, "{version}: tips are only noticed by polling over RPC");
        assert_eq!(api.nonsense.load(SeqCst), 0, "{version}");
        assert!(api.is_connected());
    }
}

#[test]
fn a_broken_nodeapi_does_no_harm() {
    let node = FakeBlvm::start();
    let api = FakeApi::start(&node.socket(), Hash256([1; 32]), "0.1.83");
    // A template in neither layout: the connection goes on without it.
    let head = [&1_u32.to_le_bytes()[..], &5_u64.to_le_bytes(), &[1, 1], &[9; 50]].concat();
    let length = u32::try_from(head.len()).unwrap().to_be_bytes();
    api.set(|script| script.garbage = Some([&length[..], &head].concat()));
    let side = Side::start(&node);
    side.full(11);
    let advance = |height: u32| {
        let tip = Hash256([u8::try_from(height).unwrap(); 32]);
        node.set(|script| (script.tip, script.height) = (tip, height));
        api.set(|script| (script.tip, script.height) = (tip, height.into()));
        side.full(height + 1);
    };
    advance(11);
    let tips = api.tips.load(SeqCst);
    eventually("tips are asked for", PATIENCE, || (api.tips.load(SeqCst) > tips + 3).then_some(()));
    // An event that ends too early, an endless frame, and nobody there.
    for garbage in [&[0, 0, 0, 12, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0xFF; 4]] {
        eventually("it is connected", PATIENCE, || api.is_connected().then_some(()));
        let tips = api.tips.load(SeqCst);
        eventually("it talks", PATIENCE, || (api.tips.load(SeqCst) > tips).then_some(()));
        api.send_raw(garbage);
        eventually("the connection ends", PATIENCE, || (!api.is_connected()).then_some(()));
        advance(node.set(|script| script.height) + 1);
    }
    std::fs::remove_file(node.socket()).unwrap();
    advance(node.set(|script| script.height) + 1);
    side.status(|status| status.state == NodeState::Ready);
}

const PATIENCE: Duration = Duration::from_secs(30);
