//! What is asked of a node when a session with it begins: who it is, and on which chain. And what
//! its errors mean for its state.

use std::sync::Arc;

use bitcoin::Network;
use tokio::time::Instant;
use tracing::{info, warn};

use super::speaker::{advice, introduce};
use crate::template::{
    Fork, HintFrom, NodeConfig, NodeError, NodeState, Outlet,
    conn::{NOT_CONNECTED, RpcClient, RpcError, SYNCING, WARMING_UP},
    header::Header,
    rpc::{self, NodeInfo},
    silence::Silence,
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
    if node.zmq_hashblock.is_some() {
        see_publisher(client, &node.name, outlet).await?;
    }
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

/// An error where the tip is no more, or the last that is, of the chain of SHA-256 miners.
pub(super) fn see_side(fork: Option<Fork>, tip: &Header, outlet: &Outlet) -> Result<(), NodeError> {
    let is_over = tip.is_foreign || fork.is_some_and(|fork| fork.takes(tip.height + 1));
    if tip.confirmations != 1 || !is_over {
        return Ok(());
    }
    outlet.update(|status| status.height = Some(tip.height));
    let from = fork.and_then(Fork::height);
    Err(NodeError::Fork(Fork::Blake2b { from, is_here: true }))
}

pub(super) fn say_down(outlet: &Outlet, error: &NodeError) {
    outlet.update(|status| {
        status.state = state_after(error);
        status.late_since = None;
        status.last_error = Some(format!("{error}: {}", advice(error)).into());
        if let NodeError::Fork(fork) = error {
            status.fork = Some(*fork);
        }
    });
}

pub(in crate::template) fn state_after(error: &NodeError) -> NodeState {
    match error {
        NodeError::Rpc(error)
            if matches!(error.code(), Some(WARMING_UP | SYNCING | NOT_CONNECTED)) =>
        {
            NodeState::Syncing
        }
        NodeError::Fork(_) => NodeState::WrongChain,
        _ => NodeState::Down,
    }
}

/// A wrong password does not heal by itself, and each try is a line in the node's log.
pub(in crate::template) fn is_refused_password(error: &NodeError) -> bool {
    matches!(error, NodeError::Rpc(RpcError::Unauthorized("user or password")))
}

/// Sees whether the node publishes what is listened to.
async fn see_publisher(
    client: &mut RpcClient,
    node: &Arc<str>,
    outlet: &Outlet,
) -> Result<(), NodeError> {
    if rpc::publishes_blocks(client).await? == Some(false) {
        say_deaf(node, NO_PUBLISHER, outlet);
    } else if outlet.status().zmq_trouble.as_deref() == Some(NO_PUBLISHER) {
        outlet.update(|status| status.zmq_trouble = None);
    }
    Ok(())
}

/// Says once that no news will come by ZeroMQ, and why.
fn say_deaf(node: &Arc<str>, why: &str, outlet: &Outlet) {
    if outlet.status().zmq_trouble.as_deref() == Some(why) {
        return;
    }
    warn!(%node, "ZeroMQ tells of no blocks; other ways do, a little later: {why}");
    outlet.update(|status| status.zmq_trouble = Some(why.into()));
}

/// Notes a new block, told of by whoever it was.
pub(super) fn told_of_block(silence: Option<&mut Silence>, by: HintFrom) {
    if let Some(silence) = silence.filter(|_| by != HintFrom::Zmq) {
        silence.block(Instant::now().into_std());
    }
}

/// Says so where blocks come and ZeroMQ tells of none.
pub(super) fn see_silence(silence: Option<&mut Silence>, node: &Arc<str>, outlet: &Outlet) {
    if silence.is_some_and(|silence| silence.is_deaf(Instant::now().into_std())) {
        say_deaf(node, SILENT, outlet);
    }
}

/// Notes news by ZeroMQ; says that they come after all.
pub(super) fn heard(silence: Option<&mut Silence>, node: &Arc<str>, outlet: &Outlet) {
    if let Some(silence) = silence {
        silence.heard();
    }
    if outlet.status().zmq_trouble.is_some() {
        info!(%node, "ZeroMQ tells of new blocks now");
        outlet.update(|status| status.zmq_trouble = None);
    }
}

const NO_PUBLISHER: &str = "the node publishes no hashblock: set zmqpubhashblock to the address of \
                            zmq_hashblock in its bitcoin.conf and restart it, or empty zmq_hashblock";
/// Why, where blocks are all that tells.
const SILENT: &str = "blocks came, and nothing of them from zmq_hashblock: see whether \
                                 that is the address of this node's zmqpubhashblock (bitcoin-cli \
                                 getzmqnotifications)";
