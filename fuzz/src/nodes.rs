//! What a node, or whoever poses as one, may send.

use std::sync::Arc;

use gatewayd::{
    node::{
        blvm::{NodeApiMessage, NodeApiSession},
        gbt::{Fit, RawTemplate, TRANSACTIONS_MAX},
        zmtp::Subscriber,
    },
    work::{BuildJob, JobBuilder, Payout},
};

use crate::{pieces, work::start};

/// An answer to `getblocktemplate`; a job is built from whatever is accepted as one.
pub fn template(data: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<RawTemplate<'_>>(data) else { return };
    let Ok(parsed) = raw.into_template_that_fits("fuzz".into(), &Fit::POOL) else { return };
    let template = Arc::new(parsed.template);
    assert!(template.transactions.len() <= TRANSACTIONS_MAX);
    assert!(
        template.fees <= template.coinbase_value,
        "{} {}",
        template.fees,
        template.coinbase_value
    );
    let payout = Arc::new(Payout {
        script: [0x51; 22].into(),
        tag_primary: b"fuzz".as_slice().into(),
        tag_secondary: [].into(),
        unique_id: 1,
        own_script: None,
        pooled: None,
    });
    let mut builder = JobBuilder::new(1);
    let job = builder.build(BuildJob::Classes, &template, &payout);
    assert!(!job.coinbases().is_empty());
    let _ = builder.build_upcoming(&job, 210_000, None);
}

/// A publisher of hashblock messages. No more than one message is ever kept.
pub fn zmtp(data: &[u8]) {
    let (now, mut out) = (start(), Vec::new());
    let mut subscriber = Subscriber::new(now, &mut out);
    for piece in pieces(data) {
        if subscriber.on_bytes(piece, now, &mut out).is_err() {
            break;
        }
        // It only answers the greeting, READY and PINGs, and never with more bytes than those have.
        assert!(out.len() <= 512 + 2 * data.len(), "{}", out.len());
        if let Some(block) = subscriber.take_block() {
            assert!(subscriber.is_open(), "{block:?}");
        }
        let Some(deadline) = subscriber.deadline() else { continue };
        let _ = subscriber.on_deadline(deadline.min(now), &mut out);
    }
}

/// blvm-node's NodeAPI.
pub fn nodeapi(data: &[u8]) {
    let mut out = Vec::new();
    let mut client = NodeApiSession::new("module", "gatewayd", &mut out);
    let mut said = Vec::new();
    for piece in pieces(data) {
        if client.on_bytes(piece, &mut said, &mut out).is_err() {
            break;
        }
        if let Some(NodeApiMessage::Subscribed) = said.last() {
            client.ask(gatewayd::node::blvm::NodeApiRequest::BlockTemplate, &mut out);
        }
        assert!(out.len() < 4096, "it keeps asking");
    }
    let _ = client.is_waiting();
}
