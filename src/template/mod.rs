//! What to mine on: templates and tips from the operator's nodes, in order of preference.
//!
//! All sources run all the time, so that the next one can take over at once; `supervisor` passes on
//! what the chosen one provides. Not here: how jobs are made from a template, and where found
//! blocks go.

pub(crate) mod attempt;
mod bitcoind;
mod blvm;
mod chain;
mod fetch;
mod header_walk;
mod node_log;
mod notice_limit;
mod probe;
mod progress;
mod proven_work;
mod select;
mod status;
mod submit_only;
mod supervisor;
mod task;
mod zmq_silence;

use std::{pin::Pin, time::Duration};

use bitcoin::Network;

pub(crate) use self::bitcoind::Bitcoind;
pub(crate) use self::blvm::Blvm;
pub use self::status::{NodeState, NodeStatus};
use self::task::RulesWatch;
pub(crate) use self::task::{Notices, NotifyHandle, Refresh, SourceOutput, WrongNetwork};
pub use self::task::{Templates, spawn};
use crate::node::{AllowedRules, NodeConfig};

/// Where templates come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateConfig {
    /// In order of preference.
    pub nodes: Vec<NodeConfig>,
    /// How often there is new full work between blocks.
    pub refresh: Duration,
    /// Rules that a template may require although we do not know them.
    pub allow_rules: AllowedRules,
    /// Chains that the payout address is valid on; none: any.
    pub chains: Vec<Network>,
}

impl TemplateConfig {
    /// The nodes that are asked for templates.
    fn sources(&self) -> impl Iterator<Item = &NodeConfig> + Clone {
        self.nodes.iter().filter(|node| !node.submit_only)
    }
}

/// Something that provides templates.
pub(crate) trait TemplateSource: Send + 'static {
    /// Runs until it is dropped. Publishes everything through `output`, and checks for a new tip
    /// whenever `notices` changes.
    fn run(
        self: Box<Self>,
        output: SourceOutput,
        notices: Notices,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}
