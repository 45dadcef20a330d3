//! One node, asked once whether it gives work, before anything is made to depend on it: no session, no
//! second try, nothing in the log.

use std::sync::Arc;

use bitcoin::Network;

use crate::node::{
    AllowedRules, Fork, NodeConfig, NodeError,
    blvm::rpc::full_template,
    budget::Purpose,
    conn::RpcClient,
    rpc::{self, Reported},
};

/// What a node said that answers.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) network: Network,
    /// Where it will go.
    pub(crate) fork: Option<Fork>,
    /// It was to tell of blocks by ZeroMQ, and does not.
    pub(crate) is_without_zmq: bool,
    /// Why it gives no work now.
    pub(crate) trouble: Option<NodeError>,
}

/// Asks who it is, on which chain, and for a template.
pub(crate) async fn ask_once(
    node: &NodeConfig,
    allowed: AllowedRules,
) -> Result<Answered, NodeError> {
    let mut client = RpcClient::new(node, Purpose::Templates);
    let network = rpc::node_info(&mut client).await?.network;
    let (name, is_blvm) = (Arc::clone(&node.name), node.is_blvm());
    let mut answered = Answered { network, fork: None, is_without_zmq: false, trouble: None };
    if !is_blvm && let Reported::Yes(fork) = rpc::fork(&mut client, network).await? {
        answered.fork = fork;
    }
    if node.zmq_hashblock.is_some() {
        let told = rpc::publishes_blocks(&mut client).await?;
        answered.is_without_zmq = matches!(told, Reported::Yes(false) | Reported::Unknown);
    }
    let given = if is_blvm {
        full_template(&mut client, name, None, allowed).await
    } else {
        rpc::template(&mut client, name, (network, allowed), None).await
    };
    answered.trouble = given.err();
    Ok(answered)
}
