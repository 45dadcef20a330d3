//! JSON-RPC as blvm-node speaks it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{
    look::{PAUSE_TOO_MANY, is_too_much},
    task::Company,
};
use crate::{
    template::{
        AllowedRules, Hint, HintFrom, NodeConfig, NodeError, RulesWatch,
        conn::{Answer, Ration, RpcClient, RpcError},
        gbt::{Fit, Parsed, RawTemplate, TRANSACTIONS_MAX},
        header::Header,
        rpc::{self, Request},
    },
    work::Hash256,
};

/// Connections to one node, all of one ration.
#[derive(Clone, Debug)]
pub(super) struct Rpc {
    node: NodeConfig,
    ration: Arc<Ration>,
}

impl Rpc {
    pub(super) fn new(node: NodeConfig) -> Self {
        Self { node, ration: Ration::new(CONNECTIONS_MAX) }
    }

    pub(super) fn client(&self) -> Result<RpcClient, RpcError> {
        RpcClient::rationed(&self.node.rpc_url, &self.node.auth, Arc::clone(&self.ration))
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.node.name
    }
}

/// The node's best block. Its `confirmations` are those of a second ago, so they are not believed.
pub(super) async fn tip_header(
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
pub(super) async fn full_template(
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

/// A template that came in.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The one that it answers.
    pub(super) request: Request,
    pub(super) parsed: Box<Parsed>,
    pub(super) took: Duration,
}

/// Asks for a template whenever `requests` changes.
pub(super) async fn fetch_on_request(
    rpc: Rpc,
    (limit, company, allowed): (watch::Receiver<RequestMax>, Company, RulesWatch),
    mut requests: watch::Receiver<Request>,
    fetched: mpsc::Sender<Result<Fetched, NodeError>>,
) {
    let Ok(mut client) = rpc.client() else { return };
    while requests.changed().await.is_ok() {
        let request = *requests.borrow_and_update();
        let started = Instant::now();
        let limit = limit.borrow().0.filter(|_| !*company.borrow());
        let rules = Arc::clone(&allowed.borrow());
        let parsed = full_template(&mut client, Arc::clone(rpc.name()), limit, rules).await;
        let took = started.elapsed();
        let result = parsed.map(|parsed| Fetched { request, parsed, took });
        let is_too_much = result.as_ref().is_err_and(is_too_much);
        if fetched.send(result).await.is_err() {
            return;
        }
        if is_too_much {
            sleep(PAUSE_TOO_MANY).await;
        }
    }
}

/// Waits for tips in calls that the node answers when there is one, while the NodeAPI is away: that
/// one is quicker. A tip between two calls is left to the poll.
pub(super) async fn wait_for_tips(
    rpc: Rpc,
    has_nodeapi: Arc<AtomicBool>,
    hints: mpsc::Sender<Hint>,
) {
    let Ok(mut client) = rpc.client() else { return };
    let mut last = None;
    while !hints.is_closed() {
        if has_nodeapi.load(Relaxed) {
            sleep(PAUSE).await;
            continue;
        }
        let started = Instant::now();
        match wait_for_new_block(&mut client).await {
            Ok(tip) if last != Some(tip) => {
                last = Some(tip);
                let at = Instant::now().into_std();
                let hint = Hint { from: HintFrom::LongPoll, tip: Some(tip), at };
                if hints.send(hint).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                debug!(node = %rpc.name(), %error, "waiting for a block failed");
                let at = Instant::now().into_std();
                // May be all the news that there will be of a dead node.
                let _ = hints.try_send(Hint { from: HintFrom::SlowPoll, tip: None, at });
                sleep(WAIT).await;
            }
        }
        if started.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
    }
}

async fn wait_for_new_block(client: &mut RpcClient) -> Result<Hash256, NodeError> {
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
pub(super) struct RequestMax(Option<usize>);

impl RequestMax {
    /// Until it is known.
    pub(super) const DEFAULT: Self = Self(Some(REQUEST_DEFAULT));
}

/// Finds out how long a request may be, each time that the node was reached, and says what that
/// means for found blocks.
pub(super) async fn probe_limit(
    rpc: Rpc,
    mut begun: watch::Receiver<u64>,
    company: Company,
    limit: watch::Sender<RequestMax>,
) {
    let mut said = None;
    while begun.changed().await.is_ok() {
        let found = loop {
            match longest_request(&rpc).await {
                Ok(found) => break found,
                Err(error) => {
                    debug!(node = %rpc.name(), %error, "cannot tell how long a request may be yet");
                    sleep(probe_pause(&error)).await;
                }
            }
        };
        if said.replace(found) != Some(found) {
            match found {
                None => {
                    info!(node = %rpc.name(), "a block of any size can be submitted to the node");
                }
                Some(bytes) => warn_of_limit(&rpc, bytes, *company.borrow()),
            }
        }
        limit.send_if_modified(|limit| {
            std::mem::replace(limit, RequestMax(found)) != RequestMax(found)
        });
    }
}

fn probe_pause(error: &RpcError) -> Duration {
    match error {
        // A node that is not there yet counts no connections.
        RpcError::Connect { .. } | RpcError::Cookie { .. } => WAIT_AWAY,
        RpcError::Rationed { wait, .. } | RpcError::TurnedAway { wait, .. } => *wait,
        _ => PROBE_PAUSE,
    }
}

fn warn_of_limit(rpc: &Rpc, bytes: usize, has_company: bool) {
    let block = bytes / 2;
    let consequence = if has_company {
        "so a larger one goes to the other nodes only, and templates are cut while none answers"
    } else {
        "so templates are cut to what it takes, and fees are lost"
    };
    warn!(
        node = %rpc.name(), request_max = bytes, block_max = block,
        "the node refuses longer requests, and a found block is one: {consequence}. Set \
         max_request_size_bytes = 8500000 in [rpc] of its configuration and restart it; blvm-node \
         0.1.83 does not heed it over HTTP: for that, add a bitcoind as another [[node]], \
         submit_only if you like"
    );
}

/// None: any block fits. Else the bytes of the longest request that is known to be taken.
async fn longest_request(rpc: &Rpc) -> Result<Option<usize>, RpcError> {
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
const WAIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(500);
const PROBE_MAX: Duration = Duration::from_secs(30);
const WAIT_AWAY: Duration = Duration::from_millis(500);
const PROBE_PAUSE: Duration = Duration::from_secs(65);
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
