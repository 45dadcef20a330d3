//! What is said of a node in the log.

use std::{mem::discriminant, sync::Arc};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::NodeError;
use crate::{
    template::{Fork, gbt::GbtError},
    work::Template,
};

/// Says each trouble once.
pub(in crate::template) struct Speaker {
    node: Arc<str>,
    said: Option<NodeError>,
    down_since: Option<Instant>,
    mempool_said: bool,
}

impl Speaker {
    pub(in crate::template) fn new(node: Arc<str>) -> Self {
        Self { node, said: None, down_since: None, mempool_said: false }
    }

    pub(in crate::template) fn lost(&mut self, error: &NodeError) {
        self.down_since.get_or_insert_with(Instant::now);
        let (node, what) = (&self.node, error);
        if self.said.as_ref().is_some_and(|said| is_same_trouble(said, error)) {
            debug!(%node, error = %what, "still no work from the node");
            return;
        }
        let advice = advice(error);
        warn!(%node, error = %what, advice, "no work from the node; trying until it gives some");
        self.said = Some(error.clone());
    }

    pub(super) fn wants_mempool(&self) -> bool {
        !self.mempool_said
    }

    /// A template of this weight has room; what waits in the mempool tells whether that is odd.
    pub(super) fn mempool(&mut self, weight: u32, waiting_vbytes: Result<u64, NodeError>) {
        let (node, Ok(waiting_vbytes)) = (&self.node, waiting_vbytes) else {
            // It does not tell, or may not: asking on would fill its log.
            self.mempool_said = true;
            return;
        };
        if waiting_vbytes < WAITING_MIN || waiting_vbytes * 2 < u64::from(weight) {
            return;
        }
        self.mempool_said = true;
        warn!(
            %node, weight, waiting_vbytes,
            "the node's templates are less than half full though more transactions wait in its \
             mempool, so blocks earn less than they could: set blockmaxweight=3996000 in its \
             bitcoin.conf (and blockmaxsize=3985000 with Knots), and see blockmintxfee"
        );
    }

    /// The first template of a session is here.
    pub(in crate::template) fn back(&mut self, template: &Template) {
        self.said = None;
        let (node, height) = (&self.node, template.height);
        let transactions = template.transactions.len();
        if let Some(since) = self.down_since.take() {
            let after = since.elapsed();
            info!(%node, height, transactions, ?after, "the node gives work again");
        } else {
            info!(%node, height, transactions, "the node gives work");
        }
    }
}

/// What the operator can do.
pub(in crate::template) fn advice(error: &NodeError) -> &'static str {
    match error {
        NodeError::Rpc(error) => error.advice(),
        NodeError::Fork(_) => Fork::ADVICE,
        NodeError::RuleAsked(_) => "update gatewayd",
        NodeError::Template(GbtError::Rule(_) | GbtError::VersionBits(_)) => "update gatewayd",
        _ => "see the node's log",
    }
}

fn is_same_trouble(said: &NodeError, error: &NodeError) -> bool {
    match (said, error) {
        (NodeError::Rpc(said), NodeError::Rpc(error)) => {
            discriminant(said) == discriminant(error) && said.code() == error.code()
        }
        _ => discriminant(said) == discriminant(error),
    }
}

/// In virtual bytes. What waits may be too cheap for the node to mine; less is not worth a word.
const WAITING_MIN: u64 = 100_000;
