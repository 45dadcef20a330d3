//! What a node is asked when a session with it begins: what it is, and on which chain. And what its
//! errors mean for its state.

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
        rpc::{self, NodeInfo, Reported},
    },
    template::{
        NodeState, SourceOutput,
        node_log::{NodeLog, introduce},
        zmq_silence::ZmqSilence,
    },
    work::Template,
};

/// Asks the node, and logs what is new; an error if it has no work for SHA-256 miners.
pub(super) async fn meet(
    client: &mut RpcClient,
    node: &NodeConfig,
    output: &SourceOutput,
    node_log: &mut NodeLog,
) -> Result<(NodeInfo, Reported<Option<Fork>>), NodeError> {
    let info = rpc::node_info(client).await?;
    let known = known_fork(&info, output);
    introduce(node, &info, output);
    let fork = rpc::fork(client, info.network).await?;
    see_fork(fork, known, output, node_log)?;
    if node.zmq_hashblock.is_some() {
        see_publisher(client, output, node_log).await?;
    }
    Ok((info, fork))
}

/// What the node said about its fork before; none if it may be another node now.
pub(in crate::template) fn known_fork(info: &NodeInfo, output: &SourceOutput) -> Option<Fork> {
    let before = output.status();
    let is_same =
        before.network == Some(info.network) && before.version.as_deref() == Some(&*info.version);
    before.fork.filter(|_| is_same)
}

/// Checks whether the node came back on another network, so quickly that its absence was not
/// noticed. `connections`: the client's count when it was last asked.
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

/// Records which other chain the node will change to; an error if it already has. If the node does
/// not tell, its last answer is kept.
pub(super) fn see_fork(
    fork: Reported<Option<Fork>>,
    known: Option<Fork>,
    output: &SourceOutput,
    node_log: &mut NodeLog,
) -> Result<(), NodeError> {
    let fork = if let Reported::Yes(fork) = fork { fork } else { known };
    if let Some(fork) = fork.filter(|fork| fork.is_here()) {
        return Err(NodeError::Fork(fork));
    }
    node_log.fork(fork);
    if output.status().fork != fork {
        output.update(|status| status.fork = fork);
    }
    Ok(())
}

/// An error if the tip, or the block after it, is not on the chain of SHA-256 miners.
pub(super) fn see_side(
    fork: Option<Fork>,
    tip: &Header,
    output: &SourceOutput,
) -> Result<(), NodeError> {
    let is_over = tip.is_foreign || fork.is_some_and(|fork| fork.takes(tip.height + 1));
    if tip.confirmations != 1 || !is_over {
        return Ok(());
    }
    output.update(|status| status.height = Some(tip.height));
    let from = fork.and_then(Fork::height);
    Err(NodeError::Fork(Fork::Blake2b { from, is_here: true }))
}

pub(super) fn report_down(output: &SourceOutput, error: &NodeError) {
    output.update(|status| {
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

/// A wrong password does not fix itself, and each attempt is a line in the node's log.
pub(in crate::template) fn is_refused_password(error: &NodeError) -> bool {
    matches!(error, NodeError::Rpc(RpcError::Unauthorized("user or password")))
}

/// Checks whether the node publishes what we subscribe to.
async fn see_publisher(
    client: &mut RpcClient,
    output: &SourceOutput,
    node_log: &mut NodeLog,
) -> Result<(), NodeError> {
    match rpc::publishes_blocks(client).await? {
        Reported::Yes(false) => report_zmq_silence(NO_PUBLISHER, output, node_log),
        Reported::Unknown => report_zmq_silence(NO_ZMQ, output, node_log),
        // What was observed before still counts.
        Reported::Forbidden | Reported::Later => {}
        Reported::Yes(true) => {
            let is_over = |why: &&str| [NO_PUBLISHER, NO_ZMQ].contains(why);
            if output.status().zmq_trouble.as_deref().filter(is_over).is_some() {
                output.update(|status| status.zmq_trouble = None);
                node_log.zmq_works();
            }
        }
    }
    Ok(())
}

/// Records that ZeroMQ will not announce blocks, and why.
fn report_zmq_silence(why: &'static str, output: &SourceOutput, node_log: &mut NodeLog) {
    node_log.zmq_silent(why);
    if output.status().zmq_trouble.as_deref() != Some(why) {
        output.update(|status| status.zmq_trouble = Some(why.into()));
    }
}

/// Records a new block, whoever announced it.
pub(super) fn told_of_block(silence: Option<&mut ZmqSilence>, by: TipHintSource) {
    if let Some(silence) = silence.filter(|_| by != TipHintSource::Zmq) {
        silence.block(now());
    }
}

/// Logs it if blocks arrive but ZeroMQ announces none.
pub(super) fn see_silence(
    silence: Option<&mut ZmqSilence>,
    output: &SourceOutput,
    node_log: &mut NodeLog,
) {
    // If a more precise reason is known, its silence adds nothing.
    let is_known = output.status().zmq_trouble.is_some_and(|why| *why != *SILENT);
    if !is_known && silence.is_some_and(|silence| silence.is_silent(now())) {
        report_zmq_silence(SILENT, output, node_log);
    }
}

/// Records an announcement by ZeroMQ; logs that it works after all.
pub(super) fn heard(
    silence: Option<&mut ZmqSilence>,
    output: &SourceOutput,
    node_log: &mut NodeLog,
) {
    if let Some(silence) = silence {
        silence.heard();
    }
    if output.status().zmq_trouble.is_some() {
        output.update(|status| status.zmq_trouble = None);
        node_log.zmq_works();
    }
}

/// True if the node's limits may be why a template contains so little.
pub(super) fn is_light(template: &Template) -> bool {
    template.total_weight < template.limits.weight / 2
}

/// None if there are no blocks of minimum difficulty, or they are already possible.
pub(super) fn easy_at(tip: &Header, network: Network) -> Option<Instant> {
    let wait_s = header::easy_from(tip, network)?.checked_sub(unix_seconds())?;
    Some(Instant::now() + Duration::from_secs(wait_s.into()))
}

const NO_PUBLISHER: &str = "the node does not publish hashblock: set zmqpubhashblock in its \
                            bitcoin.conf to the address in zmq_hashblock and restart it, or leave \
                            zmq_hashblock empty";
/// The reason if the node does not know ZeroMQ at all.
const NO_ZMQ: &str = "the node was built without ZeroMQ: leave zmq_hashblock empty (waiting for \
                      blocks over RPC is about as quick), or run a build that has it";
/// The reason if the only sign is that blocks arrive.
const SILENT: &str = "blocks arrived, but zmq_hashblock announced none of them: check that it is \
                      the address of this node's zmqpubhashblock (bitcoin-cli getzmqnotifications)";
