//! `/api/v1/blocks`.

use serde::Serialize;
use utoipa::ToSchema;

/// Found blocks, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Blocks {
    /// Ever; the list has the latest of them.
    pub found: u64,
    pub found_session: u64,
    /// Of those found since this process started, the ones that a node has in its best chain.
    pub accepted_session: u64,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Block {
    pub height: u32,
    pub hash: String,
    pub fate: BlockFate,
    pub found_at_unix_s: Option<u64>,
    /// Who found it.
    pub worker: Option<String>,
    pub submissions: Vec<BlockSubmission>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockFate {
    /// A node has it in its best chain.
    Accepted,
    /// Valid, but another block won.
    Stale,
    /// No node wants it.
    Rejected,
    /// No node has decided yet.
    Pending,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BlockSubmission {
    pub node: String,
    pub result: BlockFate,
    /// The node's own words.
    pub detail: Option<String>,
}
