//! Templates from Bitcoin Core, Knots and anything else with their RPC.
//!
//! ```text
//!  zmq ---------.
//!  waits (long   >-- hints --> task --look: getblockheader--> tip's template --> output
//!   poll) ------'               |  ^                                               ^
//!  notices, slow poll ----------'  '---- fetchers: getblocktemplate ---------------'
//! ```
//! Each arrow into the node has its own connection, so that none waits for another, and the task
//! waits for no answer; one more connection probes whether the node is alive.

mod fetch;
pub(super) mod meet;
pub(super) mod queries;
pub(super) mod task;
mod wait;

use std::pin::Pin;

pub(super) use self::wait::AbandonedPoll;
use super::{Notices, Refresh, RulesWatch, SourceOutput, TemplateSource};
use crate::node::NodeConfig;

/// One node as a source of templates.
#[derive(Debug)]
pub(crate) struct Bitcoind {
    node: NodeConfig,
    refresh: Refresh,
    allowed: RulesWatch,
}

impl Bitcoind {
    pub(crate) fn new(node: NodeConfig, refresh: Refresh, allowed: RulesWatch) -> Self {
        Self { node, refresh, allowed }
    }
}

impl TemplateSource for Bitcoind {
    fn run(
        self: Box<Self>,
        output: SourceOutput,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(task::run(self.node, (self.refresh, self.allowed), output, notices))
    }
}
