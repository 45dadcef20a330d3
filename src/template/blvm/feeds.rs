//! Continuous feeds from a blvm-node: templates, tips, and how long requests may be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use super::{
    queries::{PAUSE_TOO_MANY, is_too_much},
    task::AnyBlockWatch,
};
use crate::{
    node::{
        NodeConfig, NodeError, RpcError, TipHint, TipHintSource,
        blvm::rpc::{RequestMax, WAIT, full_template, longest_request, wait_for_new_block},
        budget::Purpose,
        conn::RpcClient,
        tip_hint::send_hint,
    },
    template::{
        RulesWatch,
        fetch::{FetchRequest, Fetched},
    },
};

/// Fetches a template whenever `requests` changes.
pub(super) async fn fetch_on_request(
    node: NodeConfig,
    (limit, any_block, allowed): (watch::Receiver<RequestMax>, AnyBlockWatch, RulesWatch),
    mut requests: watch::Receiver<FetchRequest>,
    fetched: mpsc::Sender<Result<Fetched, NodeError>>,
) {
    let mut client = RpcClient::new(&node, Purpose::Templates);
    while requests.changed().await.is_ok() {
        let request = *requests.borrow_and_update();
        let started = Instant::now();
        let limit = limit.borrow().0.filter(|_| !*any_block.borrow());
        let rules = Arc::clone(&allowed.borrow());
        let parsed = full_template(&mut client, Arc::clone(&node.name), limit, rules).await;
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

/// Waits for tips with calls that the node answers when there is one, while the NodeAPI, which is
/// quicker, is down. A tip between two calls is left to the poll.
pub(super) async fn wait_for_tips(
    node: NodeConfig,
    has_nodeapi: Arc<AtomicBool>,
    hints: mpsc::Sender<TipHint>,
) {
    let mut client = RpcClient::new(&node, Purpose::Templates);
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
                if hints.send(TipHint::new(TipHintSource::LongPoll, Some(tip))).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                debug!(node = %node.name, %error, "waiting for a block failed");
                send_hint(&hints, TipHintSource::SlowPoll);
                sleep(WAIT).await;
            }
        }
        if started.elapsed() < PAUSE {
            sleep(PAUSE).await;
        }
    }
}

/// Finds out how long a request may be, each time the node was reached again, and logs what that
/// means for found blocks.
pub(super) async fn probe_limit(
    node: NodeConfig,
    mut begun: watch::Receiver<u64>,
    any_block: AnyBlockWatch,
    limit: watch::Sender<RequestMax>,
) {
    let mut said = None;
    while begun.changed().await.is_ok() {
        let found = loop {
            match longest_request(&node).await {
                Ok(found) => break found,
                Err(error) => {
                    debug!(node = %node.name, %error, "cannot tell yet how long a request may be");
                    sleep(probe_pause(&error)).await;
                }
            }
        };
        if said.replace(found) != Some(found) {
            match found {
                None => {
                    info!(node = %node.name, "a block of any size can be submitted to the node");
                }
                Some(bytes) => warn_of_limit(&node, bytes, *any_block.borrow()),
            }
        }
        limit.send_if_modified(|limit| {
            std::mem::replace(limit, RequestMax(found)) != RequestMax(found)
        });
    }
}

fn probe_pause(error: &RpcError) -> Duration {
    match error {
        // A node that is not up does not count connections.
        RpcError::Connect { .. } | RpcError::Cookie { .. } => WAIT_AWAY,
        RpcError::Rationed { wait, .. } | RpcError::TurnedAway { wait, .. } => *wait,
        _ => PROBE_PAUSE,
    }
}

fn warn_of_limit(node: &NodeConfig, bytes: usize, has_other: bool) {
    let block = bytes / 2;
    let consequence = if has_other {
        "so a larger block goes only to the other nodes, and templates are cut while none of them \
         answers"
    } else {
        "so templates are cut to what it accepts, and fees are lost"
    };
    warn!(
        node = %node.name, request_max = bytes, block_max = block,
        "the node refuses longer requests, such as found blocks, {consequence}. Set \
         max_request_size_bytes = 8500000 in [rpc] of its configuration and restart it; since \
         blvm-node 0.1.83 ignores that over HTTP, add a bitcoind as another [[node]] there \
         (submit_only is enough)"
    );
}

const PAUSE: Duration = Duration::from_millis(500);
const WAIT_AWAY: Duration = Duration::from_millis(500);
const PROBE_PAUSE: Duration = Duration::from_secs(65);
