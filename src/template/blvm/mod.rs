//! Templates from blvm-node.
//!
//! ```text
//!  NodeAPI ---------. tips, events            .-- getblocktemplate ----------------.
//!  waitfornewblock --+-> hints --> task ------+                                     +-> output
//!  notices, polls --'                         '-- getblockheader: tip's template ---'
//! ```
//! The NodeAPI announces tips and is a second opinion; JSON-RPC, in blvm-node's dialect, provides
//! the work (see `node/blvm`). Without the NodeAPI's socket, everything goes over RPC.

mod feeds;
mod queries;
mod task;

use std::pin::Pin;

use self::task::AnyBlockWatch;
use super::{Notices, Refresh, RulesWatch, SourceOutput, TemplateSource};
use crate::node::{BlvmConfig, NodeConfig};

/// One blvm-node as a source of templates.
#[derive(Debug)]
pub(crate) struct Blvm {
    node: NodeConfig,
    blvm: BlvmConfig,
    refresh: Refresh,
    allowed: RulesWatch,
    any_block: AnyBlockWatch,
}

impl Blvm {
    pub(super) fn new(
        node: NodeConfig,
        blvm: BlvmConfig,
        (refresh, allowed): (Refresh, RulesWatch),
        any_block: AnyBlockWatch,
    ) -> Self {
        Self { node, blvm, refresh, allowed, any_block }
    }
}

impl TemplateSource for Blvm {
    fn run(
        self: Box<Self>,
        output: SourceOutput,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(task::run(*self, output, notices))
    }
}
