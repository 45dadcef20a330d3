//! The calls made to a node, typed.

use std::{sync::Arc, time::Duration};

use bitcoin::Network;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;
use tracing::debug;

use super::{
    AllowedRules, Fork, NodeConfig,
    budget::Purpose,
    conn::{CallLimits, NO_PARAMS, RpcAnswer, RpcClient},
    error::{INVALID_PARAMETER, METHOD_NOT_FOUND, NOT_FOUND, NodeError, RpcError, is_busy},
    fork::{BLAKE2B, RawDeployments, refused_rule},
    gbt::{GbtError, Parsed, RawTemplate},
    header::{Header, RawHeader},
    headers::HeaderFault,
};
use crate::{
    clock::unix_seconds,
    work::{Hash256, printable},
};

/// What a node says about itself.
#[derive(Debug)]
pub(crate) struct NodeInfo {
    pub(crate) network: Network,
    pub(crate) version: Arc<str>,
    pub(crate) height: u32,
    pub(crate) headers: u32,
    pub(crate) is_in_initial_download: bool,
}

pub(crate) async fn node_info(client: &mut RpcClient) -> Result<NodeInfo, NodeError> {
    #[derive(Deserialize)]
    struct Chain<'a> {
        chain: &'a str,
        blocks: u32,
        headers: u32,
        #[serde(default)]
        initialblockdownload: bool,
    }
    #[derive(Deserialize)]
    struct Version {
        subversion: String,
    }
    let answer = client.call("getblockchaininfo", NO_PARAMS, QUICK_MAX).await?;
    let chain: Chain<'_> = answer.parse()?;
    let network = Network::from_core_arg(chain.chain)
        .map_err(|_| NodeError::Chain(printable(chain.chain, 40).into()))?;
    let (height, headers) = (chain.blocks, chain.headers);
    let is_in_initial_download = chain.initialblockdownload;
    let answer = client.call("getnetworkinfo", NO_PARAMS, QUICK_MAX).await?;
    let version = answer.parse::<Version>()?.subversion;
    let version = printable(&version, 120).into();
    Ok(NodeInfo { network, version, height, headers, is_in_initial_download })
}

/// What a node says about something, if it does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reported<T> {
    Yes(T),
    /// It does not know the call.
    Unknown,
    /// This user may not make the call, or a proxy in front of the node does not pass it on.
    Forbidden,
    /// It is too busy to say now.
    Later,
}

impl<T> Reported<T> {
    fn map<U>(self, map: impl FnOnce(T) -> U) -> Reported<U> {
        match self {
            Self::Yes(told) => Reported::Yes(map(told)),
            Self::Unknown => Reported::Unknown,
            Self::Forbidden => Reported::Forbidden,
            Self::Later => Reported::Later,
        }
    }
}

async fn told<T: DeserializeOwned>(
    client: &mut RpcClient,
    method: &'static str,
) -> Result<Reported<T>, RpcError> {
    let parsed = match client.call(method, NO_PARAMS, QUICK_MAX).await {
        Ok(answer) => answer.parse::<T>(),
        Err(error) => Err(error),
    };
    match parsed {
        Ok(told) => Ok(Reported::Yes(told)),
        Err(RpcError::Node { code: METHOD_NOT_FOUND, .. } | RpcError::Parse { .. }) => {
            Ok(Reported::Unknown)
        }
        Err(RpcError::Forbidden(_)) => Ok(Reported::Forbidden),
        Err(RpcError::Http { status, .. }) if is_busy(status) => Ok(Reported::Later),
        Err(RpcError::Http { .. }) => Ok(Reported::Forbidden),
        Err(error) => Err(error),
    }
}

/// The other chain that the node is on, or will change to. Older nodes do not know the call.
pub(crate) async fn fork(
    client: &mut RpcClient,
    network: Network,
) -> Result<Reported<Option<Fork>>, NodeError> {
    let told = told::<RawDeployments>(client, "getdeploymentinfo").await?;
    Ok(told.map(|deployments| deployments.fork(network)))
}

/// Whether the node publishes the hashes of new blocks. One built without ZeroMQ does not know the
/// call.
pub(crate) async fn publishes_blocks(client: &mut RpcClient) -> Result<Reported<bool>, NodeError> {
    #[derive(Deserialize)]
    struct Publisher {
        #[serde(rename = "type")]
        kind: String,
    }
    let told = told::<Vec<Publisher>>(client, "getzmqnotifications").await?;
    Ok(told.map(|all| all.iter().any(|it| it.kind == "pubhashblock")))
}

pub(crate) async fn best_hash(client: &mut RpcClient) -> Result<Hash256, NodeError> {
    let answer = client.call("getbestblockhash", NO_PARAMS, QUICK_MAX).await?;
    Hash256::from_display_hex(answer.parse()?).ok_or(NodeError::Answer("best block hash"))
}

/// The size of the node's mempool, in virtual bytes.
pub(crate) async fn mempool_vbytes(client: &mut RpcClient) -> Result<u64, NodeError> {
    #[derive(Deserialize)]
    struct Mempool {
        bytes: u64,
    }
    let answer = client.call("getmempoolinfo", NO_PARAMS, QUICK_MAX).await?;
    Ok(answer.parse::<Mempool>()?.bytes)
}

/// None when the node does not know the block.
pub(crate) async fn header(
    client: &mut RpcClient,
    hash: Hash256,
) -> Result<Option<Header>, NodeError> {
    let answer = client.call("getblockheader", [hash.to_string()], QUICK_MAX).await?;
    match answer.parse::<RawHeader<'_>>() {
        Ok(raw) => {
            let header = raw.check().ok_or(NodeError::Answer("block header"))?;
            let wrong = |fault| NodeError::Header(header.hash, fault);
            let shown = raw.prove(&header).map_err(wrong)?;
            if shown.as_ref().is_some_and(|shown| shown.hash != hash) {
                return Err(NodeError::Header(hash, HeaderFault::Hash));
            }
            Ok(Some(Header { shown, ..header }))
        }
        Err(RpcError::Node { code: NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The argument of `getblocktemplate` (BIP 22, 23).
#[derive(Serialize)]
struct TemplateRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'a str>,
    rules: &'a [&'a str],
    #[serde(skip_serializing_if = "Option::is_none")]
    longpollid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
}

/// A template, parsed on a thread that miners do not wait for; with `longpollid`, once the node has
/// another one than that.
pub(crate) async fn template(
    client: &mut RpcClient,
    source: Arc<str>,
    (network, allowed): (Network, AllowedRules),
    longpollid: Option<&str>,
) -> Result<Box<Parsed>, NodeError> {
    let rules: &[&str] =
        if network == Network::Signet { &["segwit", "signet"] } else { &["segwit"] };
    let request = TemplateRequest { mode: None, rules, longpollid, data: None };
    let limit = if longpollid.is_some() { LONG_POLL_MAX } else { TEMPLATE_MAX };
    let answer: RpcAnswer = client.call("getblocktemplate", [request], limit).await?;
    let parse = move || -> Result<Box<Parsed>, NodeError> {
        let raw = answer.parse::<RawTemplate<'_>>()?.allowing(&allowed);
        let mut parsed = Box::new(raw.into_template(source)?);
        let (node, told) = (Arc::clone(&parsed.template.source), parsed.template.curtime);
        if parsed.check(network, unix_seconds())? {
            debug!(%node, told, "the node's clock is hours off, so miners get this machine's time");
        }
        Ok(parsed)
    };
    let parsed = spawn_blocking(parse).await.map_err(|_| NodeError::Answer("template"))?;
    parsed.map_err(asks_rule)
}

/// Recognises an error that says that the client should support a rule.
fn asks_rule(error: NodeError) -> NodeError {
    let rule = match &error {
        NodeError::Rpc(RpcError::Node { code: INVALID_PARAMETER, message }) => {
            refused_rule(message)
        }
        NodeError::Template(GbtError::Rule(rule)) if rule == BLAKE2B => Some(rule.as_str().into()),
        _ => None,
    };
    match rule {
        Some(rule) if *rule == *BLAKE2B => {
            NodeError::Fork(Fork::Blake2b { from: None, is_here: true })
        }
        Some(rule) => NodeError::RuleAsked(rule),
        None => error,
    }
}

/// What became of a block proposal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// The node would refuse such a block, for this reason.
    #[error("the node would refuse the block: {0}")]
    Refused(String),
    /// The proposal was made for a tip that is outdated: neither valid nor invalid.
    #[error("the block is not on the node's tip")]
    Stale,
    #[error("the node gave no verdict: {0}")]
    Unanswered(String),
}

/// Asks `node` whether it would accept a block apart from its work. Not for blvm-node: it ignores
/// the mode, makes a template instead, and says nothing about the block.
pub(crate) async fn propose(node: &NodeConfig, block_hex: &str) -> Result<(), ProposeError> {
    let unanswered = |error: RpcError| ProposeError::Unanswered(error.to_string());
    let mut client = RpcClient::new(node, Purpose::Templates);
    let (mode, data) = (Some("proposal"), Some(block_hex));
    let request = TemplateRequest { mode, rules: &["segwit", "signet"], longpollid: None, data };
    let call = client.call("getblocktemplate", [request], PROPOSE_MAX);
    let answer = call.await.map_err(unanswered)?;
    match answer.parse_optional::<&str>().map_err(unanswered)? {
        None | Some("duplicate") => Ok(()),
        Some("inconclusive-not-best-prevblk") => Err(ProposeError::Stale),
        Some(reason) => Err(ProposeError::Refused(reason.to_owned())),
    }
}

/// The node's answer to a block; `params` is its hex in a list.
pub(crate) async fn submit_block(
    client: &mut RpcClient,
    params: &RawValue,
) -> Result<Option<String>, RpcError> {
    client.call("submitblock", params, BLOCK_LIMITS).await?.parse_optional()
}

/// On the node's best chain: 1 for the tip, more below it, -1 off it.
pub(crate) async fn confirmations(client: &mut RpcClient, hash: Hash256) -> Result<i64, RpcError> {
    #[derive(Deserialize)]
    struct BlockPosition {
        confirmations: i64,
    }
    let answer = client.call("getblockheader", [hash.to_string()], BLOCK_LIMITS).await?;
    Ok(answer.parse::<BlockPosition>()?.confirmations)
}

/// Asks the node to build on this block rather than on another of the same height that it saw
/// first. It may refuse, or not know the call: then the race is decided as usual.
pub(crate) async fn prefer_block(client: &mut RpcClient, hash: Hash256) -> Result<(), RpcError> {
    let answer = client.call("preciousblock", [hash.to_string()], BLOCK_LIMITS).await?;
    answer.parse_optional::<bool>().map(|_| ())
}

/// For calls that a node answers at once, unless it is connecting a block or making a template on a
/// slow machine, which hold the lock that it needs. `probe` notices sooner when it is frozen.
pub(crate) const QUICK_MAX: Duration = Duration::from_secs(10);
/// A template from a full mempool on a slow machine.
const TEMPLATE_MAX: Duration = Duration::from_secs(30);
/// The node answers when there is something new; the session ends the wait if the node dies.
pub(crate) const LONG_POLL_MAX: Duration = Duration::from_secs(3600);
/// A whole block's validation on a slow machine.
const PROPOSE_MAX: Duration = Duration::from_secs(60);
/// For calls about a found block.
pub(crate) const BLOCK_LIMITS: CallLimits = CallLimits {
    // 8 MB of hex take four minutes at 256 kbit/s.
    call: Duration::from_secs(300),
    // A node on a slow disk may take long to connect a block.
    silence: Duration::from_secs(60),
    // These calls have short answers.
    answer_len: 1 << 20,
};
