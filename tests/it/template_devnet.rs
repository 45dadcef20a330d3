//! Templates from the embedded node, found blocks back to it: what the demo does, except for
//! miners.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use gatewayd::{
    blocks::{BlockSender, BlockStats, BlocksConfig},
    devnet::node::{Node, NodeHandle, NodeOptions},
    node::{Auth, NodeConfig},
    template::{NodeState, TemplateConfig, Templates},
    work::{
        BuildJob, FoundBlock, Hash256, JobBuilder, Nbits, Payout, Template, TemplateKind, Username,
    },
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

async fn start_node() -> NodeHandle {
    let nbits = Nbits::new(0x207f_ffff).unwrap();
    let options = NodeOptions { nbits, initial_height: 145, ..NodeOptions::default() };
    Node::start(options, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

fn start_templates(node: &NodeHandle) -> Templates {
    let node = NodeConfig::new("embedded", node.rpc_url().parse().unwrap(), auth(node));
    let config = TemplateConfig {
        nodes: vec![node],
        refresh: Duration::from_secs(40),
        allow_rules: Vec::new().into(),
        chains: Vec::new(),
    };
    gatewayd::template::spawn(config, &CancellationToken::new(), &TaskTracker::new())
}

fn start_blocks(
    node: &NodeHandle,
    data_dir: &tempfile::TempDir,
    templates: &Templates,
) -> (BlockSender, Arc<BlockStats>) {
    let notify = templates.notify.clone();
    let node = NodeConfig::new("embedded", node.rpc_url().parse().unwrap(), auth(node));
    let config = BlocksConfig {
        data_dir: data_dir.path().to_owned(),
        nodes: vec![node],
        on_accepted: Arc::new(move |hash| notify.assume_tip(hash)),
    };
    gatewayd::blocks::spawn(config, CancellationToken::new(), &TaskTracker::new())
}

fn auth(node: &NodeHandle) -> Auth {
    Auth::UserPass(node.user().to_owned(), node.password().to_owned())
}

async fn template_on(templates: &Templates, tip: Hash256, kind: TemplateKind) -> Arc<Template> {
    let mut templates = templates.templates.clone();
    let is_it = |template: &Option<Arc<Template>>| {
        template.as_ref().is_some_and(|it| it.prevhash == tip && it.kind == kind)
    };
    let found = timeout(PATIENCE, templates.wait_for(is_it)).await;
    found.expect("no such template").unwrap().clone().unwrap()
}

async fn state(templates: &Templates, state: NodeState) {
    let mut status = templates.status.clone();
    let found = timeout(PATIENCE, status.wait_for(|status| status[0].state == state)).await;
    found.expect("no such state").unwrap();
}

fn solve(template: &Arc<Template>, what: BuildJob) -> FoundBlock {
    let payout = Payout {
        script: [&[0, 20][..], &[7; 20]].concat().into(),
        tag_primary: b"test"[..].into(),
        tag_secondary: Box::default(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    };
    let job = JobBuilder::new(1).build(what, template, &Arc::new(payout));
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

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_every_kind_are_accepted_over_a_halving() {
    let node = start_node().await;
    let dir = tempfile::tempdir().unwrap();
    let templates = start_templates(&node);
    let (sender, stats) = start_blocks(&node, &dir, &templates);
    for at in 0..20 {
        let template = template_on(&templates, node.best_hash(), TemplateKind::Full).await;
        let halved = template.height >= 150;
        assert_eq!(template.subsidy(), if halved { 25_0000_0000 } else { 50_0000_0000 });
        let kinds = [BuildJob::Classes, BuildJob::Blank, BuildJob::SubsidyOnly];
        let block = solve(&template, kinds[at % 3]);
        sender.submit(Box::new(block.clone()));
        assert!(sender.drain(PATIENCE).await);
        assert_eq!(node.best_hash(), block.hash, "{:?}", stats.recent().last());
    }
    assert_eq!((stats.accepted(), stats.refused(), node.height()), (20, 0, 165));
}

#[tokio::test(flavor = "multi_thread")]
async fn work_on_a_header_alone_makes_a_good_block() {
    let node = start_node().await;
    let dir = tempfile::tempdir().unwrap();
    let templates = start_templates(&node);
    let (sender, stats) = start_blocks(&node, &dir, &templates);
    template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    // A header is enough: the full template may be late.
    let mut seen = templates.templates.clone();
    for _ in 0..6 {
        let hash = node.mine_one();
        templates.notify.assume_tip(hash);
        let quick = loop {
            timeout(PATIENCE, seen.changed()).await.unwrap().unwrap();
            let template = seen.borrow_and_update().clone().unwrap();
            if template.prevhash == hash {
                break template;
            }
        };
        if quick.kind == TemplateKind::Tip {
            sender.submit(Box::new(solve(&quick, BuildJob::SubsidyOnly)));
            assert!(sender.drain(PATIENCE).await);
        }
        template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    }
    assert!(stats.accepted() > 0, "no work on a tip alone was seen");
    assert_eq!(stats.refused(), 0, "{:?}", stats.recent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_detects_tips_and_reorganisations() {
    let node = start_node().await;
    let templates = start_templates(&node);
    template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    // A tip made right after the last one was seen would be seen a second later by polling. A busy
    // machine may take as long for some of them.
    let (mut quick, mut mined) = (0, 0);
    while quick < 3 && mined < 20 {
        mined += 1;
        let hash = node.mine_one();
        let start = Instant::now();
        template_on(&templates, hash, TemplateKind::Full).await;
        quick += u32::from(start.elapsed() < Duration::from_millis(500));
    }
    assert_eq!(quick, 3, "tips are only noticed by polling");
    assert!(node.forget_tip());
    let back = template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    assert_eq!(back.height, 145 + mined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_and_returns_gives_work_within_two_seconds() {
    let node = start_node().await;
    let templates = start_templates(&node);
    template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    for trouble in 0..3 {
        match trouble {
            0 => node.stop().await,
            1 => node.set_unavailable(true),
            _ => node.set_initial_block_download(true),
        }
        if trouble < 2 {
            state(&templates, NodeState::Down).await;
        }
        let hash = node.mine_one();
        let start = Instant::now();
        match trouble {
            0 => node.restart().await.unwrap(),
            1 => node.set_unavailable(false),
            _ => node.set_initial_block_download(false),
        }
        template_on(&templates, hash, TemplateKind::Full).await;
        assert!(start.elapsed() < Duration::from_secs(2), "{trouble}: {:?}", start.elapsed());
        state(&templates, NodeState::Ready).await;
    }
    node.set_unauthorized(true);
    state(&templates, NodeState::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_gets_its_block_once() {
    let node = start_node().await;
    let dir = tempfile::tempdir().unwrap();
    let templates = start_templates(&node);
    let template = template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    node.set_submit_delay(Duration::from_millis(700));
    let (sender, stats) = start_blocks(&node, &dir, &templates);
    let block = solve(&template, BuildJob::Classes);
    sender.submit(Box::new(block.clone()));
    assert!(!sender.drain(Duration::from_millis(100)).await);
    assert!(sender.drain(PATIENCE).await);
    assert_eq!((stats.accepted(), node.best_hash()), (1, block.hash));
    node.set_submit_delay(Duration::ZERO);
    node.set_reject_blocks(Some("bad-cb-amount"));
    let template = template_on(&templates, node.best_hash(), TemplateKind::Full).await;
    sender.submit(Box::new(solve(&template, BuildJob::Classes)));
    assert!(sender.drain(PATIENCE).await);
    assert_eq!((stats.accepted(), stats.refused()), (1, 1));
}

const PATIENCE: Duration = Duration::from_secs(20);
