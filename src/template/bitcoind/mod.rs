//! Templates from Bitcoin Core, Knots and whatever speaks their RPC.
//!
//! ```text
//!  zmq ---------.
//!  waits (long   >-- hints --> task --look: getblockheader--> tip's template --> outlet
//!   poll) ------'               |  ^                                               ^
//!  notices, slow poll ----------'  '---- fetchers: getblocktemplate ---------------'
//! ```
//! Each arrow into the node has a connection of its own, so that none waits for another, and the
//! task waits for no answer; one more asks for signs of life.

mod fetch;
mod look;
pub(super) mod meet;
pub(super) mod speaker;
pub(super) mod task;
mod wait;

use std::{pin::Pin, sync::Arc};

use bitcoin::Network;

pub(super) use self::wait::LeftPoll;
use super::{
    Fork, NodeConfig, Notices, Outlet, Refresh, RulesWatch, TemplateSource, conn::RpcError,
    gbt::GbtError, headers::HeaderFault,
};
use crate::work::Hash256;

/// One node as a source of templates.
#[derive(Debug)]
pub struct Bitcoind {
    node: NodeConfig,
    refresh: Refresh,
    allowed: RulesWatch,
}

impl Bitcoind {
    pub fn new(node: NodeConfig, refresh: Refresh, allowed: RulesWatch) -> Self {
        Self { node, refresh, allowed }
    }
}

impl TemplateSource for Bitcoind {
    fn run(
        self: Box<Self>,
        outlet: Outlet,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(task::run(self.node, (self.refresh, self.allowed), outlet, notices))
    }
}

/// Why a node gives no work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("its template cannot be used: {0}")]
    Template(#[from] GbtError),
    #[error("this node {}", Fork::what(*.0))]
    Fork(Fork),
    #[error("it gives templates only to those who keep the rule {0:?}, which is not known here")]
    RuleAsked(Arc<str>),
    #[error("it has gone over to the chain \"{0}\"")]
    Moved(Network),
    #[error("it is on {0:?}, a chain that is not known here")]
    Chain(Arc<str>),
    #[error("its {0} does not parse")]
    Answer(&'static str),
    #[error("its header of block {0} is false: {1}")]
    Header(Hash256, HeaderFault),
}

impl NodeError {
    /// True when the next block is none that can be made here, however much is known of it.
    pub(super) fn forbids_work(&self) -> bool {
        match self {
            Self::Fork(_) | Self::RuleAsked(_) => true,
            Self::Template(error) => matches!(error, GbtError::Rule(_) | GbtError::VersionBits(_)),
            _ => false,
        }
    }
}
