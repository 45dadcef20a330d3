//! What can be wrong with a node or with a call to it, and what the operator can do about it.

use std::{sync::Arc, time::Duration};

use bitcoin::Network;

use super::{Fork, gbt::GbtError, headers::HeaderFault};
use crate::work::Hash256;

/// Why a call failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RpcError {
    #[error("rpc_url {0:?} is not of the form http://host:port")]
    Url(Arc<str>),
    #[error("nothing answers at {address} ({why})")]
    Connect { address: Arc<str>, why: Arc<str> },
    #[error("the connection to {address} was lost ({why})")]
    Io { address: Arc<str>, why: Arc<str> },
    #[error("{address} accepts {max} connections a minute; the next one is possible in {wait:?}")]
    Rationed { address: Arc<str>, max: usize, wait: Duration },
    #[error("{address} closes new connections without an answer; retrying in {wait:?}")]
    TurnedAway { address: Arc<str>, wait: Duration },
    #[error("no answer to {method} within {limit:?}")]
    Timeout { method: &'static str, limit: Duration },
    #[error("cannot read the cookie file {path} ({why})")]
    Cookie { path: Arc<str>, why: Arc<str> },
    #[error("the node refuses the {0}")]
    Unauthorized(&'static str),
    #[error("the node does not allow this machine or this user to call {0}")]
    Forbidden(&'static str),
    #[error("HTTP status {status} ({text})")]
    Http { status: u16, text: Arc<str> },
    #[error("{message} (error {code})")]
    Node { code: i32, message: Arc<str> },
    #[error("the parameters of {method} cannot be encoded ({why})")]
    Params { method: &'static str, why: Arc<str> },
    #[error("the answer to {method} cannot be parsed ({why})")]
    Parse { method: &'static str, why: Arc<str> },
}

impl RpcError {
    /// The code that the node gave, if it answered.
    pub(crate) fn code(&self) -> Option<i32> {
        if let Self::Node { code, .. } = self { Some(*code) } else { None }
    }

    /// True if another call right now would be refused as well: the node accepts few per second.
    pub(crate) fn is_too_much(&self) -> bool {
        // blvm-node repeats HTTP's status in JSON.
        matches!(self, Self::Node { code: TOO_MANY_CODE, .. } | Self::Http { status: TOO_MANY, .. })
    }

    /// What the operator can do, if that is known.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Url(_) => "correct rpc_url",
            Self::Connect { .. } => "start the node with server=1, or correct rpc_url",
            Self::Cookie { .. } => {
                "the node writes it when it starts: start the node, correct rpc_cookie_file, or \
                 let gatewayd's user read the file"
            }
            Self::Rationed { .. } => {
                "connections to it are lost too often: see its log, or raise \
                 max_connections_per_ip_per_minute in its [rpc]"
            }
            Self::TurnedAway { .. } => {
                "it accepts few connections a minute, and they have been used up, for example by a \
                 restarted gatewayd: wait, or raise max_connections_per_ip_per_minute in its [rpc]"
            }
            Self::Unauthorized(COOKIE) => {
                "it has another cookie: set rpc_cookie_file to the file in this node's data \
                 folder, for the network that it is on"
            }
            Self::Unauthorized(_) => "correct rpc_user and rpc_password, or use rpc_cookie_file",
            Self::Forbidden(_) => {
                "if it refuses every call, allow this machine's address with rpcallowip in the \
                 node's bitcoin.conf; otherwise allow this call with rpcwhitelist, or use another \
                 rpc_user"
            }
            Self::Timeout { .. } => {
                "its machine is overloaded, or other programs occupy all of its RPC threads: see \
                 its log, and raise rpcthreads in its bitcoin.conf"
            }
            Self::Http { status: QUEUE_FULL, .. } => {
                "its queue of calls is full: raise rpcthreads and rpcworkqueue in its \
                 bitcoin.conf, and see which programs call it so often"
            }
            Self::Node { code: WARMING_UP, .. } => "it is starting: wait",
            Self::Node { code: SYNCING | NOT_CONNECTED, .. } => {
                "it gives no work until it has caught up with its peers: wait"
            }
            _ => "see the node's log",
        }
    }
}

/// Why a node gives no work.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NodeError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("its template cannot be used: {0}")]
    Template(#[from] GbtError),
    #[error("this node {}", Fork::what(*.0))]
    Fork(Fork),
    #[error(
        "it only gives templates to clients that support the rule {0:?}, which gatewayd does \
             not know"
    )]
    RuleAsked(Arc<str>),
    #[error("it has changed to the chain \"{0}\"")]
    Moved(Network),
    #[error("it is on {0:?}, a chain that gatewayd does not know")]
    Chain(Arc<str>),
    #[error("its {0} cannot be parsed")]
    Answer(&'static str),
    #[error("its header of block {0} is invalid: {1}")]
    Header(Hash256, HeaderFault),
}

impl NodeError {
    /// True if the next block cannot be mined here at all, however much is known about it.
    pub(crate) fn forbids_work(&self) -> bool {
        match self {
            Self::Fork(_) | Self::RuleAsked(_) => true,
            Self::Template(error) => matches!(error, GbtError::Rule(_) | GbtError::VersionBits(_)),
            _ => false,
        }
    }

    /// What the operator can do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Rpc(error) => error.advice(),
            Self::Fork(_) => Fork::ADVICE,
            Self::Template(GbtError::Rule(_)) => {
                "update gatewayd; or, if you know that the rule requires nothing of miners, list \
                 it in template.allow_rules"
            }
            Self::Header(..) => {
                "what answers there is not a Bitcoin node, or a dishonest one: see what it is, and \
                 correct rpc_url"
            }
            Self::RuleAsked(_) | Self::Template(GbtError::VersionBits(_)) => "update gatewayd",
            _ => "see the node's log",
        }
    }
}

/// Whether a call that was answered with this status may succeed soon.
pub(crate) fn is_busy(status: u16) -> bool {
    // Or a proxy cannot reach the node at the moment.
    matches!(status, QUEUE_FULL | TOO_MANY | 502 | 504)
}

// Bitcoin Core's RPCErrorCode, of src/rpc/protocol.h: bitcoincore-rpc names none of them.

/// RPC_IN_WARMUP.
pub(crate) const WARMING_UP: i32 = -28;
/// RPC_CLIENT_IN_INITIAL_DOWNLOAD.
pub(crate) const SYNCING: i32 = -10;
/// RPC_CLIENT_NOT_CONNECTED.
pub(crate) const NOT_CONNECTED: i32 = -9;
/// RPC_VERIFY_REJECTED.
pub(crate) const VERIFY_REJECTED: i32 = -26;
/// RPC_DESERIALIZATION_ERROR.
pub(crate) const DESERIALIZATION: i32 = -22;
/// RPC_INVALID_PARAMETER.
pub(crate) const INVALID_PARAMETER: i32 = -8;
/// RPC_INVALID_ADDRESS_OR_KEY: no such block.
pub(crate) const NOT_FOUND: i32 = -5;
/// RPC_INVALID_PARAMS: JSON-RPC's own code for wrong parameters.
pub(crate) const INVALID_PARAMS: i32 = -32602;
/// RPC_METHOD_NOT_FOUND.
pub(crate) const METHOD_NOT_FOUND: i32 = -32601;
/// HTTP's status for a request that is too long.
pub(crate) const TOO_LONG: u16 = 413;
/// HTTP's status from a node whose work queue is full.
const QUEUE_FULL: u16 = 503;
/// HTTP's status for too many requests.
const TOO_MANY: u16 = 429;
const TOO_MANY_CODE: i32 = 429;
pub(crate) const COOKIE: &str = "cookie";
