//! gatewayd's node side against the embedded node: templates in, proposals and blocks out.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use crate::common::until;
use gatewayd::{
    blocks::{self, BlockOutcome, BlocksConfig},
    devnet::node::{Node, NodeOptions},
    node::{Auth, NodeConfig},
    template::{self, TemplateConfig, Templates},
    work::{
        BuildJob, FoundBlock, Hash256, JobBuilder, Nbits, Payout, Template, TemplateKind, Username,
    },
};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[tokio::test(flavor = "multi_thread")]
async fn templates_arrive_and_blocks_are_accepted() {
    let nbits = Nbits::new(0x207f_ffff).unwrap();
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    let node = Node::start(options, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let templates = template::spawn(template_config(&node.rpc_url()), &stop, &tasks);
    let folder = tempfile::tempdir().unwrap();
    let config = BlocksConfig {
        data_dir: folder.path().to_owned(),
        nodes: vec![NodeConfig::new(
            "devnet",
            node.rpc_url().parse().unwrap(),
            Auth::UserPass("devnet".into(), "devnet".into()),
        )],
        on_accepted: Arc::new(|_| {}),
    };
    let (sender, stats) = blocks::spawn(config, stop.clone(), &tasks);

    for height in 1..=20 {
        let template = full_at(&templates, height).await;
        let job = job(&template);
        let proposal = FoundBlock::proposal(&job).serialize();
        templates.propose(&faster_hex::hex_string(&proposal)).await.unwrap();
        sender.submit(Box::new(solve(&job)));
        until("the node accepts the block", SOON, || node.height() >= height).await;
    }
    assert!(node.rejected().is_empty(), "{:?}", node.rejected());
    assert!(node.blocks()[1].transactions > 25);

    let late = job(&full_at(&templates, 21).await);
    node.mine_one();
    sender.submit(Box::new(solve(&late)));
    until("the late block's outcome is known", SOON, || stats.recent().len() >= 21).await;
    let report = stats.recent().pop().unwrap();
    assert!(matches!(report.answers[0].1, BlockOutcome::Stale), "{report:?}");
    assert_eq!(stats.accepted(), 20);
    stop.cancel();
}

fn template_config(rpc_url: &str) -> TemplateConfig {
    let node = NodeConfig::new(
        "devnet",
        rpc_url.parse().unwrap(),
        Auth::UserPass("devnet".into(), "devnet".into()),
    );
    TemplateConfig {
        nodes: vec![node],
        refresh: Duration::from_secs(40),
        allow_rules: Vec::new().into(),
        chains: Vec::new(),
    }
}

/// The node's full template for `height`, which the long poll delivers as soon as there is a tip.
async fn full_at(templates: &Templates, height: u32) -> Arc<Template> {
    let mut templates = templates.templates.clone();
    let is_it = |template: &Option<Arc<Template>>| {
        template.as_ref().is_some_and(|t| t.height == height && t.kind == TemplateKind::Full)
    };
    let found = timeout(SOON, templates.wait_for(is_it)).await.expect("a template");
    found.unwrap().clone().unwrap()
}

fn job(template: &Arc<Template>) -> Arc<gatewayd::work::Job> {
    let payout = Payout {
        script: [&[0, 20][..], &[7; 20]].concat().into(),
        tag_primary: b"test"[..].into(),
        tag_secondary: Box::default(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    };
    JobBuilder::new(1).build(BuildJob::Classes, template, &Arc::new(payout))
}

/// Half of all nonces solve it.
fn solve(job: &Arc<gatewayd::work::Job>) -> FoundBlock {
    let mut block = FoundBlock::proposal(job);
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

const SOON: Duration = Duration::from_secs(20);
