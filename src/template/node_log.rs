//! What is logged about a node.

use std::{mem::discriminant, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::{
    clock::now,
    node::{Fork, NodeConfig, NodeError, rpc::NodeInfo},
    template::{
        SourceOutput,
        notice_limit::{NoticeLimit, OFTEN, QUIET_OFTEN},
    },
    work::Template,
};

/// Logs each problem once, and again when it comes back or persists.
pub(super) struct NodeLog {
    node: Arc<str>,
    said: Vec<LoggedProblem>,
    down_since: Option<Instant>,
    /// This outage was logged.
    is_outage_said: bool,
    mempool_said: bool,
    cut_said: bool,
    unmet_said: bool,
    fork: NoticeLimit<Fork>,
    deaf: NoticeLimit<&'static str>,
}

/// A problem that was logged.
struct LoggedProblem {
    error: NodeError,
    at: Instant,
    /// How often recently, counted in outages.
    times: u32,
    /// The node has given work since.
    is_over: bool,
}

impl LoggedProblem {
    /// When to log it again.
    fn is_due(&self) -> bool {
        let quiet = match (self.is_over, self.times) {
            (true, ..OFTEN) => return true,
            (true, _) => QUIET_OFTEN,
            (false, _) => QUIET,
        };
        self.at.elapsed() >= quiet
    }
}

impl NodeLog {
    pub(super) fn new(node: Arc<str>) -> Self {
        Self {
            node,
            said: Vec::new(),
            down_since: None,
            is_outage_said: false,
            mempool_said: false,
            cut_said: false,
            unmet_said: false,
            fork: NoticeLimit::default(),
            deaf: NoticeLimit::default(),
        }
    }

    pub(super) fn lost(&mut self, error: &NodeError) {
        self.down_since.get_or_insert_with(Instant::now);
        let (node, what) = (&self.node, error);
        let old = self.said.iter().position(|said| is_same_trouble(&said.error, error));
        if old.is_some_and(|at| !self.said[at].is_due()) {
            debug!(%node, error = %what, "still no work from the node");
            return;
        }
        let advice = error.advice();
        warn!(%node, error = %what, advice, "no work from the node; retrying");
        self.is_outage_said = true;
        let old = old.map(|at| self.said.swap_remove(at));
        let recent = old.filter(|old| old.is_over && old.at.elapsed() < QUIET_OFTEN);
        let times = recent.map_or(0, |old| old.times) + 1;
        if self.said.len() == TROUBLES_MAX {
            self.said.remove(0);
        }
        let (error, at) = (error.clone(), Instant::now());
        self.said.push(LoggedProblem { error, at, times, is_over: false });
    }

    pub(super) fn wants_mempool(&self) -> bool {
        !self.mempool_said
    }

    /// A template of this weight has room; the mempool tells whether that is odd.
    pub(super) fn mempool(&mut self, weight: u32, waiting_vbytes: Result<u64, NodeError>) {
        let (node, Ok(waiting_vbytes)) = (&self.node, waiting_vbytes) else {
            // It cannot or may not tell: asking again would fill its log.
            self.mempool_said = true;
            return;
        };
        if waiting_vbytes < WAITING_MIN || waiting_vbytes * 2 < u64::from(weight) {
            return;
        }
        self.mempool_said = true;
        warn!(
            %node, weight, waiting_vbytes,
            "the node's templates are less than half full although more transactions wait in its \
             mempool, so blocks earn less than they could: set blockmaxweight=3996000 in its \
             bitcoin.conf (and blockmaxsize=3985000 with Knots), and check blockmintxfee"
        );
    }

    /// The first template of a session has arrived.
    pub(super) fn back(&mut self, template: &Template) {
        self.said.iter_mut().for_each(|said| said.is_over = true);
        let (node, height) = (&self.node, template.height);
        let transactions = template.transactions.len();
        let was_said = std::mem::take(&mut self.is_outage_said);
        match self.down_since.take().map(|since| since.elapsed()) {
            Some(after) if was_said => {
                info!(%node, height, transactions, ?after, "the node gives work again");
            }
            Some(after) => debug!(%node, height, ?after, "the node provides work again"),
            None => info!(%node, height, transactions, "the node gives work"),
        }
    }

    /// The node's other chain has changed, or it has none any more.
    pub(super) fn fork(&mut self, fork: Option<Fork>) {
        let Some(fork) = fork else {
            self.fork.off();
            return;
        };
        if self.fork.on(fork, now()) {
            warn!(node = %self.node, "this node {}: {}", fork.what(), Fork::ADVICE);
        }
    }

    /// ZeroMQ will not announce blocks.
    pub(super) fn zmq_silent(&mut self, why: &'static str) {
        if self.deaf.on(why, now()) {
            let node = &self.node;
            warn!(%node, "ZeroMQ announces no blocks, so they are noticed a little later by other \
                          means: {why}");
        }
    }

    /// ZeroMQ does announce blocks after all.
    pub(super) fn zmq_works(&mut self) {
        if self.deaf.off() {
            info!(node = %self.node, "ZeroMQ announces new blocks now");
        }
    }

    /// This many transactions were left out.
    pub(super) fn cut(&mut self, cut: usize) {
        if cut > 0 && !self.cut_said {
            self.cut_said = true;
            warn!(
                node = %self.node, cut,
                "the node's template has more transactions than a pool accepts, so the last ones \
                 are left out (a lower blockmaxweight makes templates smaller)"
            );
        }
    }

    /// The node wants this data in the coinbase.
    pub(super) fn unmet(&mut self, unmet: &[Box<str>]) {
        if !unmet.is_empty() && !self.unmet_said {
            self.unmet_said = true;
            warn!(
                node = %self.node, ?unmet,
                "the node asks for data in the coinbase (coinbaseaux) that is not included"
            );
        }
    }
}

/// Logs what kind of node answered.
pub(super) fn introduce(node: &NodeConfig, info: &NodeInfo, output: &SourceOutput) {
    let was_known = output.status().version.is_some();
    let (name, chain, version) = (&node.name, info.network.to_core_arg(), &info.version);
    if !was_known {
        info!(node = %name, chain, version = %version, height = info.height, "the node answers");
    }
    if info.is_in_initial_download && !was_known {
        warn!(
            node = %name, blocks = info.height, headers = info.headers,
            "the node is in initial block download: work may be late, or may not come until it is \
             done"
        );
    }
    output.update(|status| {
        status.version = Some(Arc::clone(&info.version));
        status.network = Some(info.network);
        status.height = Some(info.height);
        status.is_in_initial_download = info.is_in_initial_download;
        status.late_since = None;
        status.answered_at = Some(now());
    });
}

fn is_same_trouble(said: &NodeError, error: &NodeError) -> bool {
    match (said, error) {
        (NodeError::Rpc(said), NodeError::Rpc(error)) => {
            discriminant(said) == discriminant(error) && said.code() == error.code()
        }
        _ => discriminant(said) == discriminant(error),
    }
}

/// A problem that persists is logged this often.
const QUIET: Duration = Duration::from_secs(6 * 3600);
/// There are hardly more different problems.
const TROUBLES_MAX: usize = 8;
/// In virtual bytes. Waiting transactions may pay too little for the node to mine; less than this
/// is not worth logging.
const WAITING_MIN: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::RpcError;

    fn error(code: i32) -> NodeError {
        RpcError::Node { code, message: "m".into() }.into()
    }

    fn said(node_log: &NodeLog) -> Vec<u32> {
        node_log.said.iter().map(|said| said.times).collect()
    }

    fn is_over(node_log: &mut NodeLog) {
        node_log.said.iter_mut().for_each(|said| said.is_over = true);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_that_lasts_is_said_once_and_then_four_times_a_day() {
        let mut node_log = NodeLog::new("n".into());
        let mut times = 0;
        for second in 0..24 * 3600 {
            // Two kinds in turns, as of a node that restarts.
            let before = node_log.said.iter().map(|said| said.at).max();
            node_log.lost(&error(-10 + second % 2));
            times += usize::from(node_log.said.iter().map(|said| said.at).max() != before);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(times, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_trouble_that_comes_and_goes_is_said_a_few_times_and_then_now_and_then() {
        let mut node_log = NodeLog::new("n".into());
        for _ in 0..500 {
            node_log.lost(&error(-10));
            is_over(&mut node_log);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said(&node_log), [OFTEN]);
        // Long after, it is as new.
        tokio::time::advance(QUIET_OFTEN).await;
        node_log.lost(&error(-10));
        assert_eq!(said(&node_log), [1]);
        node_log.lost(&error(-9));
        assert_eq!(said(&node_log), [1, 1]);
    }
}
