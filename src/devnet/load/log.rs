//! What one connection has seen, besides what it reports to the shared board.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::board::Board;
use crate::{clock::now, work::Hash256};

/// One connection's records.
pub(super) struct Log {
    board: Arc<Board>,
    /// Miners of this connection that have ever had work, also before a reconnection.
    pub(super) arrived: usize,
    /// Miners that have work on the present socket.
    pub(super) working: usize,
    pub(super) accepted: u64,
    /// The kind of the latest rejection.
    pub(super) refused: Option<String>,
    /// The previous hash of its first job.
    pub(super) first_tip: Option<Hash256>,
}

/// What one miner works on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sight {
    tip: Option<Hash256>,
    /// Some of the work on it had transactions.
    is_full: bool,
}

/// The relevant parts of a job that a miner may begin now.
#[derive(Clone, Copy, Debug)]
pub(super) struct News {
    pub(super) tip: Hash256,
    /// All earlier work is stale.
    pub(super) clean: bool,
    /// Subsidy-only.
    pub(super) empty: bool,
}

impl Log {
    pub(super) fn new(board: Arc<Board>, arrived: usize) -> Self {
        let (working, accepted, refused, first_tip) = (0, 0, None, None);
        Self { board, arrived, working, accepted, refused, first_tip }
    }

    pub(super) fn on_work(&mut self, sight: &mut Sight, news: News) {
        let News { tip, clean, empty } = news;
        let at = now();
        let board = &self.board;
        match sight.tip {
            None => {
                // What was known before this connection does not count.
                self.first_tip.get_or_insert(tip);
                sight.is_full = true;
                self.working += 1;
                board.connected.fetch_add(1, Relaxed);
                if self.working > self.arrived {
                    self.arrived = self.working;
                    board.arrivals().push(at.duration_since(board.began));
                }
            }
            Some(known) if known != tip => {
                sight.is_full = false;
                if clean {
                    board.tips().on_clean(&tip, at);
                }
            }
            Some(_) => {}
        }
        sight.tip = Some(tip);
        if !empty && !sight.is_full {
            sight.is_full = true;
            board.tips().on_full(&tip, at);
        }
    }

    pub(super) fn on_submitted(&self) {
        self.board.submitted.fetch_add(1, Relaxed);
    }

    pub(super) fn on_accepted(&mut self, count: u32) {
        self.accepted += u64::from(count);
        self.board.accepted.fetch_add(count.into(), Relaxed);
    }

    pub(super) fn on_rejected(&mut self, kind: String) {
        self.refused = Some(kind.clone());
        self.board.add_rejected(kind);
    }
}
