//! Templates from Bitcoin Core, Knots and whatever speaks their RPC.
//!
//! ```text
//!  zmq ---------.
//!  waits (long   >-- hints --> task --getblockheader--> tip's template --> outlet
//!   poll) ------'               |  ^                                         ^
//!  notices, slow poll ----------'  '---- fetcher: getblocktemplate ----------'
//! ```
//! Each arrow into the node has a connection of its own, so that none waits for another; one more
//! asks for signs of life.

pub(super) mod speaker;
pub(super) mod task;

use std::{pin::Pin, sync::Arc};

use super::{NodeConfig, Notices, Outlet, Refresh, TemplateSource, conn::RpcError, gbt::GbtError};

/// One node as a source of templates.
#[derive(Debug)]
pub struct Bitcoind {
    node: NodeConfig,
    refresh: Refresh,
}

impl Bitcoind {
    pub fn new(node: NodeConfig, refresh: Refresh) -> Self {
        Self { node, refresh }
    }
}

impl TemplateSource for Bitcoind {
    fn run(
        self: Box<Self>,
        outlet: Outlet,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(task::run(self.node, self.refresh, outlet, notices))
    }
}

/// Why a node gives no work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error("its template cannot be used: {0}")]
    Template(#[from] GbtError),
    #[error("it is on {0:?}, a chain that is not known here")]
    Chain(Arc<str>),
    #[error("its {0} does not parse")]
    Answer(&'static str),
}
