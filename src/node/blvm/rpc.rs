//! JSON-RPC as blvm-node speaks it.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::{
    node::{
        AllowedRules, NodeConfig, NodeError, RpcError,
        conn::{Answer, Ration, RpcClient},
        gbt::{Fit, Parsed, RawTemplate, TRANSACTIONS_MAX},
        header::Header,
        rpc,
    },
    work::Hash256,
};

/// Connections to one node, all of one ration.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    node: NodeConfig,
    ration: Arc<Ration>,
}

impl Rpc {
    pub(crate) fn new(node: NodeConfig) -> Self {
        Self { node, ration: Ration::new(CONNECTIONS_MAX) }
    }

    pub(crate) fn client(&self) -> Result<RpcClient, RpcError> {
        RpcClient::rationed(&self.node.rpc_url, &self.node.auth, Arc::clone(&self.ration))
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.node.name
    }
}

/// The node's best block. Its `confirmations` are those of a second ago, so they are not believed.
pub(crate) async fn tip_header(
    client: &mut RpcClient,
    hash: Hash256,
) -> Result<Option<Header>, NodeError> {
    let header = rpc::header(client, hash).await;
    match header {
        Ok(header) => Ok(header.map(|header| Header { confirmations: 1, ..header })),
        // It knows the block already, but not yet its place.
        Err(NodeError::Rpc(RpcError::Node { message, .. })) => {
            debug!(%hash, %message, "no header of the tip yet");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A template with all that mining needs. The only place that knows where it comes from.
pub(crate) async fn full_template(
    client: &mut RpcClient,
    source: Arc<str>,
    limit: Option<usize>,
    allowed: AllowedRules,
) -> Result<Box<Parsed>, NodeError> {
    let params = r#"[{"rules":["segwit"]}]"#;
    let answer: Answer = client.call("getblocktemplate", params, TEMPLATE_MAX).await?;
    let fit = Fit {
        transactions: TRANSACTIONS_MAX,
        size: limit.map_or(usize::MAX, transactions_within),
        computes_commitment: true,
    };
    let parse = move || -> Result<Box<Parsed>, NodeError> {
        let raw = answer.parse::<RawTemplate<'_>>()?.allowing(&allowed);
        Ok(Box::new(raw.into_template_that_fits(source, &fit)?))
    };
    spawn_blocking(parse).await.map_err(|_| NodeError::Answer("template"))?
}

/// Bytes of transactions in a block that a request of `limit` bytes can carry: two hex digits a
/// byte, with room for the call, the header and the largest coinbase.
fn transactions_within(limit: usize) -> usize {
    (limit / 2).saturating_sub(COINBASE_ROOM)
}

/// Waits until the node has a new block, or for [`WAIT`]; gives its tip.
pub(crate) async fn wait_for_new_block(client: &mut RpcClient) -> Result<Hash256, NodeError> {
    #[derive(Deserialize)]
    struct Tip<'a> {
        hash: &'a str,
    }
    // Seconds, where Bitcoin Core has milliseconds.
    let params = format!("[{}]", WAIT.as_secs());
    let answer = client.call("waitfornewblock", &params, WAIT + QUICK_MAX).await?;
    let tip: Tip<'_> = answer.parse()?;
    Hash256::from_display_hex(tip.hash).ok_or(NodeError::Answer("new block"))
}

/// The longest request that the node takes, in bytes; none: any block fits into one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestMax(pub(crate) Option<usize>);

impl RequestMax {
    /// Until it is known.
    pub(crate) const DEFAULT: Self = Self(Some(REQUEST_DEFAULT));
}

/// None: any block fits. Else the bytes of the longest request that is known to be taken.
pub(crate) async fn longest_request(rpc: &Rpc) -> Result<Option<usize>, RpcError> {
    if takes(rpc, REQUEST_FULL).await? {
        return Ok(None);
    }
    // A node's default: more is nowhere in between.
    let is_default = takes(rpc, REQUEST_DEFAULT).await?;
    Ok(Some(if is_default { REQUEST_DEFAULT } else { REQUEST_LEAST }))
}

/// Tries a harmless request of `length` bytes, on a connection of its own: a node that refuses it
/// may close it.
async fn takes(rpc: &Rpc, length: usize) -> Result<bool, RpcError> {
    let mut client = rpc.client()?;
    let padding = length.saturating_sub(CALL_LEN);
    let params = format!("[{}]", " ".repeat(padding));
    match client.call("getbestblockhash", &params, PROBE_MAX).await {
        Ok(_) => Ok(true),
        Err(RpcError::Http { status: 413, .. }) => Ok(false),
        Err(broken @ RpcError::Io { .. }) => {
            // A refusal while the request was on its way, or the node's end: a short one tells.
            match client.call("getbestblockhash", "[]", QUICK_MAX).await {
                Ok(_) => Ok(false),
                Err(_) => Err(broken),
            }
        }
        Err(error) => Err(error),
    }
}

/// Of the 10 that blvm-node takes from one address in a minute: the rest is for found blocks.
const CONNECTIONS_MAX: usize = 7;
const QUICK_MAX: Duration = Duration::from_secs(5);
/// A template of a full mempool on a slow machine; without a checkpoint the node reads all coins.
const TEMPLATE_MAX: Duration = Duration::from_secs(30);
pub(crate) const WAIT: Duration = Duration::from_secs(10);
const PROBE_MAX: Duration = Duration::from_secs(30);
/// A full block of 4 MB in hex, and the call around it.
const REQUEST_FULL: usize = 8_100_000;
/// blvm-node's limit when nothing is set.
const REQUEST_DEFAULT: usize = 1 << 20;
/// Any node takes this.
const REQUEST_LEAST: usize = 128 * 1024;
/// Of a call without its parameters.
const CALL_LEN: usize = 64;
/// The largest coinbase has 16 kB; some for the call and the header.
const COINBASE_ROOM: usize = 20_000;
