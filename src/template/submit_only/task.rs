//! Asks a node that only gets blocks how it is, now and then.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use crate::template::{
    Fork, NodeConfig, NodeError, NodeKind, NodeState, Notices, Outlet, RpcError, TemplateSource,
    bitcoind::speaker::advice,
    conn::{Ration, RpcClient},
    rpc::{NodeInfo, fork, node_info},
};

/// A node that blocks go to, and no templates come from.
#[derive(Debug)]
pub(in crate::template) struct SubmitOnly {
    node: NodeConfig,
}

impl SubmitOnly {
    pub(in crate::template) fn new(node: NodeConfig) -> Self {
        Self { node }
    }

    async fn watch(self, outlet: Outlet) {
        let name = Arc::clone(&self.node.name);
        let mut client = match self.client() {
            Ok(client) => client,
            Err(error) => return say_down(&outlet, &name, &error.into(), true),
        };
        let mut turn: u32 = 0;
        loop {
            let was = outlet.status().state;
            let wait = match node_info(&mut client).await {
                Ok(info) => {
                    if matches!(was, NodeState::Starting | NodeState::Down) {
                        let version = &info.version;
                        info!(node = %name, %version, "the node answers, and gets found blocks only");
                    }
                    if turn.is_multiple_of(FORK_EACH) {
                        self.see_fork(&mut client, &info, &outlet).await;
                    }
                    turn = turn.wrapping_add(1);
                    say_up(&outlet, Some(info));
                    EACH
                }
                // It may be that blocks are all that this user may send.
                Err(NodeError::Rpc(RpcError::Forbidden(_))) => {
                    say_up(&outlet, None);
                    EACH
                }
                Err(error) => {
                    say_down(&outlet, &name, &error, was != NodeState::Down);
                    AGAIN
                }
            };
            sleep(wait).await;
        }
    }

    /// Whether the node is on a chain on which a found block has no place.
    async fn see_fork(&self, client: &mut RpcClient, info: &NodeInfo, outlet: &Outlet) {
        if self.node.kind != NodeKind::Bitcoind {
            return;
        }
        // It answered a moment ago: what went wrong now shows at the next turn.
        let Ok(fork) = fork(client, info.network).await else { return };
        if let Some(fork) = fork.filter(|fork| outlet.status().fork != Some(*fork)) {
            warn!(node = %self.node.name, "this node {}: {}", fork.what(), Fork::ADVICE);
        }
        outlet.update(|status| status.fork = fork);
    }

    fn client(&self) -> Result<RpcClient, RpcError> {
        match self.node.kind {
            NodeKind::Bitcoind => RpcClient::new(&self.node.rpc_url, &self.node.auth),
            NodeKind::Blvm(_) => RpcClient::rationed(
                &self.node.rpc_url,
                &self.node.auth,
                Ration::new(CONNECTIONS_MAX),
            ),
        }
    }
}

impl TemplateSource for SubmitOnly {
    fn run(
        self: Box<Self>,
        outlet: Outlet,
        _notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.watch(outlet))
    }
}

fn say_up(outlet: &Outlet, info: Option<NodeInfo>) {
    outlet.update(|status| {
        let fork = status.fork.filter(|fork| fork.is_here());
        status.state = if fork.is_some() { NodeState::WrongChain } else { NodeState::Ready };
        status.answered_at = Some(Instant::now().into_std());
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

fn say_down(outlet: &Outlet, name: &Arc<str>, error: &NodeError, is_new: bool) {
    let advice = advice(error);
    if is_new {
        warn!(node = %name, %error, advice, "a found block would not reach this node");
    }
    outlet.update(|status| {
        status.state = NodeState::Down;
        status.last_error = Some(format!("{error}: {advice}").into());
    });
}

const EACH: Duration = Duration::from_secs(5);
/// Of those turns: a chain parts once.
const FORK_EACH: u32 = 12;
/// A wrong password is a line in the node's log each time.
const AGAIN: Duration = Duration::from_secs(5);
/// Few, of those that blvm-node takes in a minute: the rest is for found blocks.
const CONNECTIONS_MAX: usize = 3;
