//! Talking to a node: its configuration, its errors, one client, and its dialects.
//!
//! `conn` is the client (`http` one of its connections, `budget` how many there may be), `rpc` the
//! calls made through it, `gbt`, `header` and `headers` their results, `zmq` and `zmtp` the
//! subscription to new blocks, `blvm` blvm-node's dialect and its NodeAPI. Not here: which node is
//! believed, and what becomes of a block.

pub mod blvm;
pub(crate) mod budget;
pub(crate) mod conn;
pub(crate) mod error;
pub(crate) mod fork;
pub mod gbt;
pub(crate) mod header;
pub(crate) mod headers;
mod http;
pub(crate) mod rpc;
pub(crate) mod tip_hint;
mod url;
pub(crate) mod zmq;
pub mod zmtp;

use std::{fmt, path::PathBuf, sync::Arc};

pub use self::conn::Auth;
pub(crate) use self::error::{NodeError, RpcError};
pub use self::fork::Fork;
pub(crate) use self::header::{ChainWork, empty_blocks};
pub(crate) use self::headers::HeaderFault;
pub use self::rpc::ProposeError;
pub(crate) use self::tip_hint::{TipHint, TipHintSource};
pub(crate) use self::url::RpcUrl;

/// Names of rules, without the `!` of mandatory ones.
pub(crate) type AllowedRules = Arc<[Box<str>]>;

/// One node.
#[derive(Clone, Eq, PartialEq)]
pub struct NodeConfig {
    /// Its name in logs.
    pub name: Arc<str>,
    pub rpc_url: RpcUrl,
    pub auth: Auth,
    /// `tcp://host:port` of the node's hashblock messages.
    pub zmq_hashblock: Option<String>,
    /// Only gets found blocks: it is not asked for templates.
    pub submit_only: bool,
    pub kind: NodeKind,
}

/// Which software it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum NodeKind {
    /// Bitcoin Core, Knots.
    #[default]
    Bitcoind,
    /// blvm-node.
    Blvm(BlvmConfig),
}

/// What only a blvm-node needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BlvmConfig {
    /// The socket of its NodeAPI; none: everything goes over RPC.
    pub nodeapi_socket: Option<PathBuf>,
    /// Our name at its NodeAPI.
    pub module_id: Arc<str>,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not `auth`: it contains a password.
        f.debug_struct("NodeConfig")
            .field("name", &self.name)
            .field("rpc_url", &self.rpc_url.to_string())
            .field("zmq_hashblock", &self.zmq_hashblock)
            .field("submit_only", &self.submit_only)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl NodeConfig {
    /// A bitcoind that gives templates, without ZeroMQ.
    pub fn new(name: impl Into<Arc<str>>, rpc_url: RpcUrl, auth: Auth) -> Self {
        let (name, kind) = (name.into(), NodeKind::Bitcoind);
        Self { name, rpc_url, auth, zmq_hashblock: None, submit_only: false, kind }
    }

    pub(crate) fn is_blvm(&self) -> bool {
        matches!(self.kind, NodeKind::Blvm(_))
    }

    /// True if both are called the same way, in the same dialect.
    pub(crate) fn has_same_rpc(&self, other: &Self) -> bool {
        (&self.name, &self.rpc_url) == (&other.name, &other.rpc_url)
            && self.auth == other.auth
            && self.is_blvm() == other.is_blvm()
    }
}
