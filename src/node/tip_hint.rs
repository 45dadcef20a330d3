//! News of a tip, by whichever way a node tells of it.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::{clock::now, work::Hash256};

/// News that the tip may have changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TipHint {
    pub(crate) from: TipHintSource,
    /// When whoever says it knows it.
    pub(crate) tip: Option<Hash256>,
    pub(crate) at: Instant,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TipHintSource {
    Zmq,
    /// blvm-node's events and tips.
    NodeApi,
    LongPoll,
    SlowPoll,
    Notice,
}

impl TipHint {
    pub(crate) fn new(from: TipHintSource, tip: Option<Hash256>) -> Self {
        Self { from, tip, at: now() }
    }
}

/// A broken wait or connection may be all the news that there will be of a dead node: makes whoever
/// listens see.
pub(crate) fn look_soon(hints: &mpsc::Sender<TipHint>, from: TipHintSource) {
    // A full queue makes it look as well.
    let _ = hints.try_send(TipHint::new(from, None));
}
