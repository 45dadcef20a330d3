//! Tries of settings that are not in use yet: each node and pool that they change is asked once, as
//! `gatewayd check` does it and in its words.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tracing::info;

use super::check::{is_apart, pool, told};
use crate::{
    api::{Tried, Tries},
    config::{Config, Outlook},
    datum::PoolConfig,
    net::HostPort,
    node::{
        NodeConfig, NodeError, RpcError,
        error::{COOKIE, NOT_CONNECTED, SYNCING, WARMING_UP},
    },
    template::attempt::{Answered, ask_once},
};

/// What the API tries settings with.
pub(super) fn tries() -> Tries {
    Arc::new(|outlook, all| Box::pin(try_changes(outlook, all)))
}

/// Tries what differs from what is in use; `all`: everything, since nothing has worked yet.
async fn try_changes(outlook: Outlook, all: bool) -> Vec<Tried> {
    let Outlook { next, now, .. } = outlook;
    let chains_differ = next.template.chains != now.template.chains;
    let mut tasks = JoinSet::new();
    let nodes = next.template.nodes.iter().enumerate();
    let is_known = |node: &NodeConfig| !chains_differ && now.template.nodes.contains(node);
    let nodes = nodes.filter(|(_, node)| all || !is_known(node));
    let pools = next.datum.pools.iter().enumerate();
    let pools = pools.filter(|(_, pool)| all || !now.datum.pools.contains(pool));
    let mut done = Vec::new();
    for (at, node) in nodes {
        if tasks.len() == EACH_MAX {
            done.push((0, at, untried(format!("node.{at}"), format!("node {}", node.name))));
            continue;
        }
        let (next, node) = (Arc::clone(&next), node.clone());
        tasks.spawn(async move { (0, at, try_node(&next, at, &node).await) });
    }
    let most = tasks.len() + EACH_MAX;
    for (at, pool) in pools {
        if tasks.len() == most {
            let what = format!("pool {}", HostPort(&pool.host, pool.port));
            done.push((1, at, untried(format!("pool.{at}"), what)));
            continue;
        }
        let (pool, agent) = (pool.clone(), next.datum.user_agent.clone());
        tasks.spawn(async move { (1, at, try_pool(at, &pool, &agent).await) });
    }
    while let Some(tried) = tasks.join_next().await {
        let failed = |_| (2, 0, untried("settings".into(), "a try".into()));
        done.push(tried.unwrap_or_else(failed));
    }
    done.sort_by_key(|(kind, at, _)| (*kind, *at));
    done.into_iter().map(|(_, _, tried)| tried).collect()
}

/// Nobody may take it for good.
fn untried(key: String, what: String) -> Tried {
    Tried { key, what, result: Err(UNTRIED.into()) }
}

async fn try_node(config: &Config, at: usize, node: &NodeConfig) -> Tried {
    // Whoever may change settings can have a login sent somewhere: not without a trace.
    info!(node = %node.name, url = %node.rpc_url, "settings are tried: this node is asked");
    let asked = timeout(NODE_MAX, ask_once(node, Arc::clone(&config.template.allow_rules))).await;
    let what = format!("node {}", node.name);
    let tried = |key: &str, result| Tried { key: key.into(), what: what.clone(), result };
    let own = |key: &str, why: String| tried(&format!("node.{at}.{key}"), Err(why));
    let Answered { network, fork, is_without_zmq, trouble } = match asked {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return own(key_of(&error), format!("{error}: {}", error.advice())),
        Err(_) => return own("rpc_url", format!("no answer within {NODE_MAX:?}: {SILENT}")),
    };
    if let Some(fork) = fork.filter(|fork| is_apart(*fork)) {
        return own("rpc_url", told(fork));
    }
    if !config.fits_network(network) {
        let why = format!("is on \"{network}\", but mining.address belongs to another network");
        return tried("mining.address", Err(why));
    }
    match trouble {
        // It works, and will give some.
        Some(error) if is_waiting(&error) => {
            let how = format!("answers, on \"{network}\", but gives no work yet: {error}");
            tried("node", Ok(how))
        }
        Some(error) => own(key_of(&error), format!("{error}: {}", error.advice())),
        None if is_without_zmq => own("zmq_hashblock", NO_ZMQ.into()),
        None => tried("node", Ok(super::check::gives_work(network))),
    }
}

async fn try_pool(at: usize, pool: &PoolConfig, user_agent: &str) -> Tried {
    let what = format!("pool {}", HostPort(&pool.host, pool.port));
    match pool::try_pool(pool, user_agent).await {
        Ok(terms) => Tried { key: "pool".into(), what, result: Ok(pool::describe(&terms)) },
        Err(fault) => {
            let key = format!("pool.{at}.{}", fault.key);
            Tried { key, what, result: Err(fault.text) }
        }
    }
}

/// What to correct.
fn key_of(error: &NodeError) -> &'static str {
    match error {
        NodeError::Rpc(RpcError::Cookie { .. } | RpcError::Unauthorized(COOKIE)) => {
            "rpc_cookie_file"
        }
        NodeError::Rpc(RpcError::Unauthorized(_)) => "rpc_password",
        NodeError::Rpc(RpcError::Forbidden(_)) => "rpc_user",
        _ => "rpc_url",
    }
}

/// The settings are right: the node has something to do first.
fn is_waiting(error: &NodeError) -> bool {
    let NodeError::Rpc(error) = error else { return false };
    matches!(error.code(), Some(WARMING_UP | SYNCING | NOT_CONNECTED))
}

const NO_ZMQ: &str = "the node publishes no hashblock: set zmqpubhashblock to this address in its \
                      bitcoin.conf and restart it, or leave zmq_hashblock empty";
const UNTRIED: &str = "was not tried: at most 4 nodes and 4 pools are tried at a time. Change a few at \
                       a time, or save without a try";
const SILENT: &str = "correct rpc_url, or let this machine reach it";
/// A node that is up answers in milliseconds; the page waits for 15 s.
const NODE_MAX: Duration = Duration::from_secs(8);
/// Of nodes, and of pools: nobody has more, and each is a connection to somewhere.
const EACH_MAX: usize = 4;
