//! JSON-RPC as blvm-node speaks it.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;
use tracing::debug;

use crate::{
    node::{
        AllowedRules, NodeConfig, NodeError, RpcError,
        budget::Purpose,
        conn::{NO_PARAMS, RpcAnswer, RpcClient},
        error::TOO_LONG,
        gbt::{Fit, Parsed, RawTemplate, TRANSACTIONS_MAX},
        header::Header,
        rpc::{self, BLOCK_LIMITS},
    },
    work::Hash256,
};

/// The node's best block. Its `confirmations` are a second old, so they are not used.
pub(crate) async fn tip_header(
    client: &mut RpcClient,
    hash: Hash256,
) -> Result<Option<Header>, NodeError> {
    let header = rpc::header(client, hash).await;
    match header {
        Ok(header) => Ok(header.map(|header| Header { confirmations: 1, ..header })),
        // It already knows the block, but not yet its place in the chain.
        Err(NodeError::Rpc(RpcError::Node { message, .. })) => {
            debug!(%hash, %message, "the node has no header for its tip yet");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A template with everything that mining needs. The only place that knows where it comes from.
pub(crate) async fn full_template(
    client: &mut RpcClient,
    source: Arc<str>,
    limit: Option<usize>,
    allowed: AllowedRules,
) -> Result<Box<Parsed>, NodeError> {
    #[derive(Serialize)]
    struct Request {
        rules: [&'static str; 1],
    }
    let params = [Request { rules: ["segwit"] }];
    let answer: RpcAnswer = client.call("getblocktemplate", params, TEMPLATE_MAX).await?;
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

/// How many bytes of transactions fit into a request of `limit` bytes: two hex digits per byte,
/// leaving room for the call, the header and the largest coinbase.
fn transactions_within(limit: usize) -> usize {
    (limit / 2).saturating_sub(COINBASE_ROOM)
}

/// Waits until the node has a new block, or for [`WAIT`]; returns its tip.
pub(crate) async fn wait_for_new_block(client: &mut RpcClient) -> Result<Hash256, NodeError> {
    #[derive(Deserialize)]
    struct Tip<'a> {
        hash: &'a str,
    }
    // Seconds, unlike Bitcoin Core's milliseconds.
    let answer = client.call("waitfornewblock", [WAIT.as_secs()], WAIT + QUICK_MAX).await?;
    let tip: Tip<'_> = answer.parse()?;
    Hash256::from_display_hex(tip.hash).ok_or(NodeError::Answer("new block"))
}

/// The height of a block that is in the node's chain; the error says if it is not.
pub(crate) async fn block_height(client: &mut RpcClient, hash: Hash256) -> Result<u32, RpcError> {
    #[derive(Deserialize)]
    struct BlockPosition {
        height: u32,
    }
    let answer = client.call("getblockheader", [hash.to_string()], BLOCK_LIMITS).await?;
    Ok(answer.parse::<BlockPosition>()?.height)
}

/// The node's block at this height.
pub(crate) async fn block_at(client: &mut RpcClient, height: u32) -> Result<String, RpcError> {
    client.call("getblockhash", [height], BLOCK_LIMITS).await?.parse()
}

pub(crate) async fn tip_height(client: &mut RpcClient) -> Result<u32, RpcError> {
    client.call("getblockcount", NO_PARAMS, BLOCK_LIMITS).await?.parse()
}

pub(crate) async fn tip_hash(client: &mut RpcClient) -> Result<String, RpcError> {
    client.call("getbestblockhash", NO_PARAMS, BLOCK_LIMITS).await?.parse()
}

/// The longest request that the node accepts, in bytes; none: any block fits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestMax(pub(crate) Option<usize>);

impl RequestMax {
    /// Measures until it is known.
    pub(crate) const DEFAULT: Self = Self(Some(REQUEST_DEFAULT));
}

/// None: any block fits. Otherwise the length of the longest request known to be accepted.
pub(crate) async fn longest_request(node: &NodeConfig) -> Result<Option<usize>, RpcError> {
    if takes(node, REQUEST_FULL).await? {
        return Ok(None);
    }
    // A node's default: no other limit in between is common.
    let is_default = takes(node, REQUEST_DEFAULT).await?;
    Ok(Some(if is_default { REQUEST_DEFAULT } else { REQUEST_LEAST }))
}

/// Tries a harmless request of `length` bytes on a separate connection, which a node that refuses
/// it may close.
async fn takes(node: &NodeConfig, length: usize) -> Result<bool, RpcError> {
    let mut client = RpcClient::new(node, Purpose::Templates);
    let padding = length.saturating_sub(CALL_LEN);
    let params = RawValue::from_string(format!("[{}]", " ".repeat(padding)));
    match client.call("getbestblockhash", params.unwrap_or_default(), PROBE_MAX).await {
        Ok(_) => Ok(true),
        Err(RpcError::Http { status: TOO_LONG, .. }) => Ok(false),
        Err(broken @ RpcError::Io { .. }) => {
            // Either a refusal while the request was being sent, or the node has stopped: a short
            // request tells which.
            match client.call("getbestblockhash", NO_PARAMS, QUICK_MAX).await {
                Ok(_) => Ok(false),
                Err(_) => Err(broken),
            }
        }
        Err(error) => Err(error),
    }
}

const QUICK_MAX: Duration = Duration::from_secs(5);
/// A template from a full mempool on a slow machine; without a checkpoint the node reads all coins.
const TEMPLATE_MAX: Duration = Duration::from_secs(30);
pub(crate) const WAIT: Duration = Duration::from_secs(10);
const PROBE_MAX: Duration = Duration::from_secs(30);
/// A full block of 4 MB in hex, and the call around it.
const REQUEST_FULL: usize = 8_100_000;
/// blvm-node's limit when nothing is set.
const REQUEST_DEFAULT: usize = 1 << 20;
/// Any node accepts this.
const REQUEST_LEAST: usize = 128 * 1024;
/// The length of a call without its parameters.
const CALL_LEN: usize = 64;
/// The largest coinbase has 16 kB; the rest is for the call and the header.
const COINBASE_ROOM: usize = 20_000;
