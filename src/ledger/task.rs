//! The ledger's threads, and the handle that others hold.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    BlockNews, BlockRecord, Hashrates, HistoryQuery, LedgerState, ReadError, Series, Totals,
    WorkerRecord,
};
use crate::work::{Counters, Roster};

#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// `ledger.data_dir`; the database is in it.
    pub data_dir: PathBuf,
    pub keep_history: Duration,
}

/// What the ledger looks at.
pub struct Inputs {
    pub roster: Arc<Roster>,
    pub counters: Arc<Counters>,
    /// Gives what became of blocks since it was called last.
    pub blocks: Box<dyn Fn() -> Vec<BlockNews> + Send>,
}

/// The way to what the ledger knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: LedgerState,
}

/// Starts the ledger. Never fails: without a disk it counts in memory, and says so.
pub fn spawn(_config: LedgerConfig, _inputs: Inputs) -> Ledger {
    Ledger { shared: Arc::new(Shared { state: LedgerState::Ok }) }
}

impl Ledger {
    /// All miners together.
    pub fn hashrate(&self) -> Hashrates {
        Hashrates::default()
    }

    /// One live connection or channel, by its id in the roster.
    pub fn miner_hashrate(&self, _id: u64) -> Option<Hashrates> {
        None
    }

    /// One username that has mined since this process began.
    pub fn worker_hashrate(&self, _name: &str) -> Option<Hashrates> {
        None
    }

    pub fn totals(&self) -> Totals {
        Totals::default()
    }

    /// Shares over time, at most some 1,500 points.
    pub async fn history(&self, _query: HistoryQuery) -> Result<Series, ReadError> {
        Ok(Series { step_s: 60, points: Vec::new() })
    }

    /// The workers seen last, latest first.
    pub async fn workers(&self, _limit: usize) -> Vec<WorkerRecord> {
        Vec::new()
    }

    /// The blocks found last, latest first.
    pub async fn blocks(&self, _limit: usize) -> Vec<BlockRecord> {
        Vec::new()
    }

    pub fn state(&self) -> LedgerState {
        self.shared.state.clone()
    }

    /// Changes `ledger.keep_history`.
    pub fn set_keep_history(&self, _keep: Duration) {}

    /// Writes everything down and ends the ledger's threads.
    pub async fn stop(&self) {}
}
