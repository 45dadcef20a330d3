//! What is asked of a node when a session with it begins: who it is, and on which chain. And what
//! its errors mean for its state.

use std::time::Duration;

use bitcoin::Network;
use tokio::time::Instant;

use crate::{
    clock::{now, unix_seconds},
    node::{
        Fork, NodeConfig, NodeError, RpcError, TipHintSource,
        conn::RpcClient,
        error::{NOT_CONNECTED, SYNCING, WARMING_UP},
        header::{self, Header},
        rpc::{self, NodeInfo, Told},
    },
    template::{
        NodeState, Outlet,
        node_log::{NodeLog, introduce},
        zmq_silence::ZmqSilence,
    },
    work::Template,
};

/// Asks, and says what is new; an error where the node has no work for SHA-256 miners.
pub(super) async fn meet(
    client: &mut RpcClient,
    node: &NodeConfig,
    outlet: &Outlet,
    node_log: &mut NodeLog,
) -> Result<(NodeInfo, Told<Option<Fork>>), NodeError> {
    let info = rpc::node_info(client).await?;
    let known = known_fork(&info, outlet);
    introduce(node, &info, outlet);
    let fork = rpc::fork(client, info.network).await?;
    see_fork(fork, known, outlet, node_log)?;
    if node.zmq_hashblock.is_some() {
        see_publisher(client, outlet, node_log).await?;
    }
    Ok((info, fork))
}

/// What the node said of its fork before; none where another one answers by now.
pub(in crate::template) fn known_fork(info: &NodeInfo, outlet: &Outlet) -> Option<Fork> {
    let before = outlet.status();
    let is_same =
        before.network == Some(info.network) && before.version.as_deref() == Some(&*info.version);
    before.fork.filter(|_| is_same)
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

/// Says which other chain the node goes to; an error where it is there. A node that does not tell
/// goes where it went when it did.
pub(super) fn see_fork(
    fork: Told<Option<Fork>>,
    known: Option<Fork>,
    outlet: &Outlet,
    node_log: &mut NodeLog,
) -> Result<(), NodeError> {
    let fork = if let Told::Yes(fork) = fork { fork } else { known };
    if let Some(fork) = fork.filter(|fork| fork.is_here()) {
        return Err(NodeError::Fork(fork));
    }
    node_log.fork(fork);
    if outlet.status().fork != fork {
        outlet.update(|status| status.fork = fork);
    }
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
        status.last_error = Some(format!("{error}: {}", error.advice()).into());
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
    outlet: &Outlet,
    node_log: &mut NodeLog,
) -> Result<(), NodeError> {
    match rpc::publishes_blocks(client).await? {
        Told::Yes(false) => say_deaf(NO_PUBLISHER, outlet, node_log),
        Told::Unknown => say_deaf(NO_ZMQ, outlet, node_log),
        // What was seen of it before goes on.
        Told::Forbidden | Told::Later => {}
        Told::Yes(true) => {
            let is_over = |why: &&str| [NO_PUBLISHER, NO_ZMQ].contains(why);
            if outlet.status().zmq_trouble.as_deref().filter(is_over).is_some() {
                outlet.update(|status| status.zmq_trouble = None);
                node_log.hears();
            }
        }
    }
    Ok(())
}

/// Says that no news will come by ZeroMQ, and why.
fn say_deaf(why: &'static str, outlet: &Outlet, node_log: &mut NodeLog) {
    node_log.deaf(why);
    if outlet.status().zmq_trouble.as_deref() != Some(why) {
        outlet.update(|status| status.zmq_trouble = Some(why.into()));
    }
}

/// Notes a new block, told of by whoever it was.
pub(super) fn told_of_block(silence: Option<&mut ZmqSilence>, by: TipHintSource) {
    if let Some(silence) = silence.filter(|_| by != TipHintSource::Zmq) {
        silence.block(now());
    }
}

/// Says so where blocks come and ZeroMQ tells of none.
pub(super) fn see_silence(
    silence: Option<&mut ZmqSilence>,
    outlet: &Outlet,
    node_log: &mut NodeLog,
) {
    // Where more is known already, that it is silent is none.
    let is_known = outlet.status().zmq_trouble.is_some_and(|why| *why != *SILENT);
    if !is_known && silence.is_some_and(|silence| silence.is_deaf(now())) {
        say_deaf(SILENT, outlet, node_log);
    }
}

/// Notes news by ZeroMQ; says that they come after all.
pub(super) fn heard(silence: Option<&mut ZmqSilence>, outlet: &Outlet, node_log: &mut NodeLog) {
    if let Some(silence) = silence {
        silence.heard();
    }
    if outlet.status().zmq_trouble.is_some() {
        outlet.update(|status| status.zmq_trouble = None);
        node_log.hears();
    }
}

/// True when the limits of its node may be why a template holds so little.
pub(super) fn is_light(template: &Template) -> bool {
    template.total_weight < template.limits.weight / 2
}

/// None where there are no easy blocks, or they are there already.
pub(super) fn easy_at(tip: &Header, network: Network) -> Option<Instant> {
    let wait_s = header::easy_from(tip, network)?.checked_sub(unix_seconds())?;
    Some(Instant::now() + Duration::from_secs(wait_s.into()))
}

const NO_PUBLISHER: &str = "the node publishes no hashblock: set zmqpubhashblock to the address of \
                            zmq_hashblock in its bitcoin.conf and restart it, or empty zmq_hashblock";
/// Why, where the node does not even know what could be published.
const NO_ZMQ: &str = "the node was built without ZeroMQ: empty zmq_hashblock (waiting for blocks over \
                      RPC is about as quick), or run a build that has it";
/// Why, where blocks are all that tells.
const SILENT: &str = "blocks came, and nothing of them from zmq_hashblock: see whether \
                                 that is the address of this node's zmqpubhashblock (bitcoin-cli \
                                 getzmqnotifications)";
