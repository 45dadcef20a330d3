//! What to mine on: templates and tips from the operator's nodes, in order of preference.
//!
//! Every source runs all the time, so that the next one can take over at once; `relay` passes on
//! what the chosen one says. Not here: what is made of a template, and where found blocks go.

mod belief;
mod bitcoind;
pub mod blvm;
mod chain;
mod conn;
mod fork;
pub mod gbt;
mod header;
mod headers;
mod probe;
mod progress;
mod relay;
mod rpc;
mod select;
mod silence;
mod sparing;
mod status;
mod submit_only;
mod task;
mod walk;
mod zmq;
pub mod zmtp;

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;

use self::task::RulesWatch;
pub use self::{
    bitcoind::{Bitcoind, NodeError},
    blvm::Blvm,
    conn::{Auth, RpcError},
    fork::Fork,
    header::{ChainWork, empty_blocks},
    headers::HeaderFault,
    status::{NodeState, NodeStatus},
    task::{Misfit, Notices, NotifyHandle, Outlet, Refresh, Templates, spawn},
};
use crate::work::Hash256;

/// Where templates come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateConfig {
    /// In order of preference.
    pub nodes: Vec<NodeConfig>,
    /// New full work this often between blocks.
    pub refresh: Duration,
    /// Rules that a template may demand though they are not known here.
    pub allow_rules: AllowedRules,
    /// Chains that the payout address is for; none: any.
    pub chains: Vec<Network>,
}

impl TemplateConfig {
    /// The nodes that templates are asked of.
    fn sources(&self) -> impl Iterator<Item = &NodeConfig> + Clone {
        self.nodes.iter().filter(|node| !node.submit_only)
    }
}

/// Names of rules, without the mark of those that are demanded.
pub type AllowedRules = Arc<[Box<str>]>;

/// One node.
#[derive(Clone, Eq, PartialEq)]
pub struct NodeConfig {
    /// As it is named in logs.
    pub name: Arc<str>,
    pub rpc_url: String,
    pub auth: Auth,
    /// `tcp://host:port` of the node's hashblock messages.
    pub zmq_hashblock: Option<String>,
    /// Only gets found blocks: no templates are asked of it.
    pub submit_only: bool,
    pub kind: NodeKind,
}

/// What speaks there.
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
    /// Of its NodeAPI; none: all goes over RPC.
    pub nodeapi_socket: Option<PathBuf>,
    /// As whom its NodeAPI knows us.
    pub module_id: Arc<str>,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not `auth`: it holds a password.
        f.debug_struct("NodeConfig")
            .field("name", &self.name)
            .field("rpc_url", &self.rpc_url)
            .field("zmq_hashblock", &self.zmq_hashblock)
            .field("submit_only", &self.submit_only)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What became of a block proposal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProposeError {
    /// The node would refuse such a block, for this reason.
    #[error("the node would refuse the block: {0}")]
    Refused(String),
    /// The proposal was made for a tip that is none any more: neither good nor bad.
    #[error("the block is not on the node's tip")]
    Stale,
    #[error("the node gave no verdict: {0}")]
    Unanswered(String),
}

/// Something that gives templates.
pub trait TemplateSource: Send + 'static {
    /// Works until it is dropped. Says all it learns through `outlet`, and looks for a new tip
    /// whenever `notices` changes.
    fn run(
        self: Box<Self>,
        outlet: Outlet,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// News that the tip may have changed.
#[derive(Clone, Copy, Debug)]
struct Hint {
    from: HintFrom,
    /// When whoever says it knows it.
    tip: Option<Hash256>,
    at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum HintFrom {
    Zmq,
    /// blvm-node's events and tips.
    NodeApi,
    LongPoll,
    SlowPoll,
    Notice,
}
