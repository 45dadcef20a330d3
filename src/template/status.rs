//! How a node is doing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;

use crate::{
    node::{ChainWork, Fork},
    work::Hash256,
};

/// A moment's view of one node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    pub name: Arc<str>,
    pub state: NodeState,
    /// Its templates are the ones in use.
    pub is_active: bool,
    /// As the node calls itself, like `/Satoshi:29.2.0/Knots:20251110/`.
    pub version: Option<Arc<str>>,
    pub network: Option<Network>,
    /// Of its tip.
    pub height: Option<u32>,
    /// It says that it is still catching up with the network.
    pub(crate) is_in_initial_download: bool,
    /// The other chain that it is on, or will go to.
    pub fork: Option<Fork>,
    /// Whether it has an RPC thread left beside one that waits for its next block, once known.
    pub(crate) has_spare_threads: Option<bool>,
    /// Why its ZeroMQ tells of no blocks.
    pub zmq_trouble: Option<Arc<str>>,
    /// Why it is not ready, or the last thing that went wrong, and what to do.
    pub last_error: Option<Arc<str>>,
    /// Its tip, and when it was first heard of here.
    pub(crate) tip: Option<(Hash256, Instant)>,
    /// What it says that the chain up to its tip has cost: nothing is decided by that.
    pub(crate) work: Option<ChainWork>,
    /// It owes an answer since then.
    pub(crate) late_since: Option<Instant>,
    /// What its last template took from the request to the answer.
    pub(crate) template_fetch: Option<Duration>,
    /// When its latest template came in.
    pub template_at: Option<Instant>,
    /// When it last answered anything.
    pub(crate) answered_at: Option<Instant>,
}

/// What may be expected of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeState {
    /// Has not answered since the start.
    Starting,
    /// Gives templates.
    Ready,
    /// Answers, but gives none yet: it starts, or catches up.
    Syncing,
    /// Does not answer, or with errors.
    Down,
    /// Gives templates, but has been a block or more behind another node for long.
    Behind,
    /// On another chain than the one that is mined on.
    WrongChain,
}

impl NodeStatus {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            state: NodeState::Starting,
            is_active: false,
            version: None,
            network: None,
            height: None,
            is_in_initial_download: false,
            fork: None,
            zmq_trouble: None,
            has_spare_threads: None,
            last_error: None,
            tip: None,
            work: None,
            late_since: None,
            template_fetch: None,
            template_at: None,
            answered_at: None,
        }
    }
}
