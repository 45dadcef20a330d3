//! A node's status.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;

use crate::{
    node::{ChainWork, Fork},
    work::Hash256,
};

/// A snapshot of one node's status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeStatus {
    pub name: Arc<str>,
    pub state: NodeState,
    /// Its templates are the ones in use.
    pub is_active: bool,
    /// What the node calls itself, like `/Satoshi:29.2.0/Knots:20251110/`.
    pub version: Option<Arc<str>>,
    pub network: Option<Network>,
    /// The height of its tip.
    pub height: Option<u32>,
    /// It reports that it is still catching up with the network.
    pub(crate) is_in_initial_download: bool,
    /// The other chain that it is on, or will change to.
    pub fork: Option<Fork>,
    /// Whether it has an RPC thread left besides one that waits for its next block, once known.
    pub(crate) has_spare_threads: Option<bool>,
    /// Why its ZeroMQ announces no blocks.
    pub zmq_trouble: Option<Arc<str>>,
    /// Why it is not ready, or the last thing that went wrong, and what to do.
    pub last_error: Option<Arc<str>>,
    /// Its tip, and when we first heard of it.
    pub(crate) tip: Option<(Hash256, Instant)>,
    /// The work that it claims for the chain up to its tip: nothing is decided by that.
    pub(crate) work: Option<ChainWork>,
    /// Since when it has left a call unanswered.
    pub(crate) late_since: Option<Instant>,
    /// How long its last template took, from the request to the answer.
    pub(crate) template_fetch: Option<Duration>,
    /// When its latest template arrived.
    pub template_at: Option<Instant>,
    /// When it last answered anything.
    pub(crate) answered_at: Option<Instant>,
}

/// What can be expected from a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeState {
    /// Has not answered since the start.
    Starting,
    /// Gives templates.
    Ready,
    /// Answers, but gives none yet: it is starting, or catching up.
    Syncing,
    /// Does not answer, or with errors.
    Down,
    /// Gives templates, but has been a block or more behind another node for some time.
    Behind,
    /// On another chain than the one being mined.
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
