//! `/api/v1/blocks`.

use serde::Serialize;
use utoipa::ToSchema;

/// Found blocks, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Blocks {
    /// In total; the list has only the latest.
    pub(crate) found: u64,
    pub(crate) found_session: u64,
    /// How many of those found since this process started are in a node's best chain.
    pub(crate) accepted_session: u64,
    pub(crate) blocks: Vec<Block>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Block {
    pub(crate) height: u32,
    pub(crate) hash: String,
    pub(crate) fate: BlockFate,
    pub(crate) found_at_unix_s: Option<u64>,
    /// Who found it.
    pub(crate) worker: Option<String>,
    pub(crate) submissions: Vec<BlockSubmission>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BlockFate {
    /// It is in a node's best chain.
    Accepted,
    /// Valid, but another block won.
    Stale,
    /// Every node has refused it.
    Rejected,
    /// No node has decided yet.
    Pending,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BlockSubmission {
    pub(crate) node: String,
    pub(crate) result: BlockFate,
    /// The node's own words.
    pub(crate) detail: Option<String>,
}
