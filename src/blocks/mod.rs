//! Found blocks: to disk and to every node at the same moment, again until one has it.
//!
//! `store` is the folder, `verdict` one submission to one node, `submission` one block and its
//! nodes, `queue` which of many go first, and `task` runs it. A block that is on disk when gatewayd dies
//! goes out at the next start. Not here: what makes a block, and how a node is talked to.

mod outcome;
mod queue;
mod store;
mod submission;
mod task;
mod verdict;

use std::{path::PathBuf, sync::Arc};

pub(crate) use outcome::BlockReport;
pub use outcome::{Answer, BlockStats, Event, News};
pub use task::{BlockSender, spawn};

use crate::{node::NodeConfig, work::Hash256};

#[derive(Clone)]
pub struct BlocksConfig {
    /// `ledger.data_dir`; blocks are in its folder `blocks`.
    pub data_dir: PathBuf,
    /// Every `[[node]]`, also the ones that only get blocks.
    pub nodes: Vec<NodeConfig>,
    /// Told of a block that a node has accepted: it is the new tip.
    pub on_accepted: Arc<dyn Fn(Hash256) + Send + Sync>,
}
