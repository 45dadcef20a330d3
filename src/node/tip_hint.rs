//! A hint that there may be a new tip, from any of the ways in which a node announces it.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::{clock::now, work::Hash256};

/// A hint that the tip may have changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TipHint {
    pub(crate) from: TipHintSource,
    /// The new tip, if the sender knows it.
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

/// A failed wait or connection may be the only sign of a dead node: makes the receiver check.
pub(crate) fn send_hint(hints: &mpsc::Sender<TipHint>, from: TipHintSource) {
    // A full queue makes it check as well.
    let _ = hints.try_send(TipHint::new(from, None));
}
