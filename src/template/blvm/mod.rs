//! Templates from blvm-node.
//!
//! ```text
//!  NodeAPI (conn) --. tips, events            .-- full_template: getblocktemplate --.
//!  waitfornewblock --+-> hints --> task ------+                                     +-> outlet
//!  notices, polls --'                         '-- getblockheader: tip's template ---'
//! ```
//! Two layers: the NodeAPI (`client`, `message`, `wire`; a Unix socket) tells tips and is a second
//! opinion; JSON-RPC (`rpc`), in blvm-node's dialect, gives the work. The NodeAPI's own templates
//! have no witnesses, and it cannot take blocks: on the day that it can, `rpc::full_template`
//! changes, and `blocks::rpc::submit_to_blvm`. Without the socket all goes over RPC.

mod client;
mod conn;
mod look;
mod message;
mod rpc;
mod task;
mod wire;

use std::pin::Pin;

use self::task::Company;
pub use self::{
    client::{Client, ClientError, Said},
    message::{ApiTemplate, Ask, ChainInfo, Event, Layout},
    wire::WireError,
};
use super::{BlvmConfig, NodeConfig, Notices, Outlet, Refresh, RulesWatch, TemplateSource};

/// One blvm-node as a source of templates.
#[derive(Debug)]
pub struct Blvm {
    node: NodeConfig,
    blvm: BlvmConfig,
    refresh: Refresh,
    allowed: RulesWatch,
    company: Company,
}

impl Blvm {
    pub(super) fn new(
        node: NodeConfig,
        blvm: BlvmConfig,
        (refresh, allowed): (Refresh, RulesWatch),
        company: Company,
    ) -> Self {
        Self { node, blvm, refresh, allowed, company }
    }
}

impl TemplateSource for Blvm {
    fn run(
        self: Box<Self>,
        outlet: Outlet,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(task::run(*self, outlet, notices))
    }
}
