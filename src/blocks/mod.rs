//! Found blocks: to disk and to every node at the same moment, again until one has it.
//!
//! `store` is the folder, `rpc` one call to one node, `bring` one block's ways to all of them,
//! `line` which of many go first, and `task` runs it. A block that is on disk when gatewayd dies goes out at the next start. Not here:
//! what makes a block.

mod bring;
mod fate;
mod http;
mod line;
mod rpc;
mod store;
mod task;

use std::{fmt, path::PathBuf, sync::Arc};

pub use fate::{Answer, BlockReport, BlockStats, Event, News};
pub use rpc::Auth;
pub use task::{BlockSender, spawn};

use crate::work::Hash256;

#[derive(Clone)]
pub struct BlocksConfig {
    /// `ledger.data_dir`; blocks are in its folder `blocks`.
    pub data_dir: PathBuf,
    /// Every `[[node]]`, also the ones that only get blocks.
    pub nodes: Vec<BlockNode>,
    /// Told of a block that a node has accepted: it is the new tip.
    pub on_accepted: Arc<dyn Fn(Hash256) + Send + Sync>,
}

/// A node that blocks go to.
#[derive(Clone, Eq, PartialEq)]
pub struct BlockNode {
    /// As it is named in logs.
    pub name: Arc<str>,
    pub rpc_url: String,
    pub auth: Auth,
    /// A blvm-node, which answers in words of its own.
    pub is_blvm: bool,
}

impl fmt::Debug for BlockNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not `auth`: it may hold a password.
        f.debug_struct("BlockNode").field("name", &self.name).finish_non_exhaustive()
    }
}
