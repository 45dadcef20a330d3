//! Checks now and then on a node that only gets blocks.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    clock::now,
    node::{
        Fork, NodeConfig, NodeError, NodeKind, RpcError,
        budget::Purpose,
        conn::RpcClient,
        rpc::{NodeInfo, Reported, fork, node_info},
    },
    template::{
        NodeState, Notices, SourceOutput, TemplateSource, bitcoind::meet::known_fork,
        notice_limit::NoticeLimit,
    },
};

/// A node that gets blocks, but gives no templates.
#[derive(Debug)]
pub(in crate::template) struct SubmitOnly {
    node: NodeConfig,
}

impl SubmitOnly {
    pub(in crate::template) fn new(node: NodeConfig) -> Self {
        Self { node }
    }

    async fn watch(self, output: SourceOutput) {
        let name = Arc::clone(&self.node.name);
        let mut client = RpcClient::new(&self.node, Purpose::Watch);
        let mut said = LoggedState::default();
        // Rounds until it is asked which chain it will change to.
        let mut until_fork = 0;
        loop {
            let wait = match node_info(&mut client).await {
                Ok(info) => {
                    if said.is_up() {
                        // It may be another node.
                        until_fork = 0;
                        let version = &info.version;
                        info!(node = %name, %version, "the node answers; it only receives found blocks");
                    }
                    if until_fork == 0 {
                        let is_done = self.see_fork(&mut client, &info, &output, &mut said).await;
                        until_fork = if is_done { FORK_EACH } else { 1 };
                    }
                    until_fork -= 1;
                    report_up(&output, Some(info));
                    EACH
                }
                // This user may only be allowed to send blocks.
                Err(NodeError::Rpc(RpcError::Forbidden(_))) => {
                    report_up(&output, None);
                    EACH
                }
                Err(error) => {
                    let is_news = said.down.on((), now());
                    report_down(&output, &name, &error, is_news);
                    AGAIN
                }
            };
            sleep(wait).await;
        }
    }

    /// Whether the node is on a chain where a found block is invalid. False if it was too busy to
    /// tell.
    async fn see_fork(
        &self,
        client: &mut RpcClient,
        info: &NodeInfo,
        output: &SourceOutput,
        said: &mut LoggedState,
    ) -> bool {
        if self.node.kind != NodeKind::Bitcoind {
            return true;
        }
        // It answered a moment ago: whatever went wrong will show in the next round.
        let told = fork(client, info.network).await.unwrap_or(Reported::Later);
        let known = known_fork(info, output);
        let fork = if let Reported::Yes(fork) = told { fork } else { known };
        match fork {
            Some(fork) if said.fork.on(fork, now()) => {
                warn!(node = %self.node.name, "this node {}: {}", fork.what(), Fork::ADVICE);
            }
            Some(_) => {}
            None => drop(said.fork.off()),
        }
        output.update(|status| status.fork = fork);
        told != Reported::Later
    }
}

/// What was logged about the node.
#[derive(Default)]
struct LoggedState {
    is_met: bool,
    down: NoticeLimit<()>,
    fork: NoticeLimit<Fork>,
}

impl LoggedState {
    /// True if it is new that the node answers.
    fn is_up(&mut self) -> bool {
        let is_over = self.down.off();
        !std::mem::replace(&mut self.is_met, true) || is_over
    }
}

impl TemplateSource for SubmitOnly {
    fn run(
        self: Box<Self>,
        output: SourceOutput,
        _notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.watch(output))
    }
}

fn report_up(output: &SourceOutput, info: Option<NodeInfo>) {
    output.update(|status| {
        let fork = status.fork.filter(|fork| fork.is_here());
        status.state = if fork.is_some() { NodeState::WrongChain } else { NodeState::Ready };
        status.answered_at = Some(now());
        status.last_error =
            fork.map(|fork| format!("this node {}: {}", fork.what(), Fork::ADVICE).into());
        if let Some(info) = info {
            status.version = Some(info.version);
            status.network = Some(info.network);
            status.height = Some(info.height);
            status.is_in_initial_download = info.is_in_initial_download;
        }
    });
}

fn report_down(output: &SourceOutput, name: &Arc<str>, error: &NodeError, is_new: bool) {
    let advice = error.advice();
    if is_new {
        warn!(node = %name, %error, advice, "a found block would not reach this node");
    }
    output.update(|status| {
        status.state = NodeState::Down;
        status.last_error = Some(format!("{error}: {advice}").into());
    });
}

const EACH: Duration = Duration::from_secs(5);
/// In rounds: a chain forks only once.
const FORK_EACH: u32 = 12;
/// Each attempt with a wrong password is a line in the node's log.
const AGAIN: Duration = Duration::from_secs(5);
