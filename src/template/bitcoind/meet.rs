//! What is asked of a node when a session with it begins: who it is, and on which chain.

use std::sync::Arc;

use bitcoin::Network;
use tracing::warn;

use super::task::introduce;
use crate::template::{
    Fork, NodeConfig, NodeError, Outlet,
    conn::RpcClient,
    rpc::{self, NodeInfo},
};

/// Asks, and says what is new; an error where the node has no work for SHA-256 miners.
pub(super) async fn meet(
    client: &mut RpcClient,
    node: &NodeConfig,
    outlet: &Outlet,
) -> Result<(NodeInfo, Option<Fork>), NodeError> {
    let info = rpc::node_info(client).await?;
    introduce(node, &info, outlet);
    let fork = rpc::fork(client, info.network).await?;
    see_fork(&node.name, fork, outlet)?;
    Ok((info, fork))
}

/// Sees whether the node came back on another network, so fast that nobody noticed it was away.
/// `connections`: of the client, when it was last asked.
pub(super) async fn see_move(
    client: &mut RpcClient,
    connections: &mut u32,
    network: Network,
) -> Result<(), NodeError> {
    if *connections == client.connections() {
        return Ok(());
    }
    let now = rpc::node_info(client).await?.network;
    *connections = client.connections();
    if now == network { Ok(()) } else { Err(NodeError::Moved(now)) }
}

/// Says which other chain the node goes to; an error where it is there.
fn see_fork(node: &Arc<str>, fork: Option<Fork>, outlet: &Outlet) -> Result<(), NodeError> {
    match fork {
        Some(fork) if fork.is_here() => return Err(NodeError::Fork(fork)),
        Some(fork) if outlet.status().fork != Some(fork) => {
            warn!(%node, "this node {}: {}", fork.what(), Fork::ADVICE);
        }
        _ => {}
    }
    outlet.update(|status| status.fork = fork);
    Ok(())
}
