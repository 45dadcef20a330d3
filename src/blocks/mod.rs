//! Found blocks: written to disk and submitted to every node at the same time, and again until a
//! node has accepted them.
//!
//! `store` is the folder, `verdict` one submission to one node, `submission` one block and its
//! nodes, `queue` decides which of many blocks go first, and `task` runs it all. A block that is on
//! disk when gatewayd dies is submitted at the next start. Not here: what makes a block, and how to
//! talk to a node.

mod outcome;
mod queue;
mod store;
mod submission;
mod task;
mod verdict;

use std::{path::PathBuf, sync::Arc};

pub(crate) use outcome::BlockReport;
pub use outcome::{BlockOutcome, BlockStats, BlockUpdate, BlockUpdateKind};
pub use task::{BlockSender, spawn};

use crate::{node::NodeConfig, work::Hash256};

#[derive(Clone)]
pub struct BlocksConfig {
    /// `ledger.data_dir`; blocks are in its folder `blocks`.
    pub data_dir: PathBuf,
    /// Every `[[node]]`, also the ones that only get blocks.
    pub nodes: Vec<NodeConfig>,
    /// Called with a block that a node has accepted: it is the new tip.
    pub on_accepted: Arc<dyn Fn(Hash256) + Send + Sync>,
}
