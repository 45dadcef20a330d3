//! What happened, kept: hashrates, totals, workers, blocks and their history, in one SQLite file.
//!
//! Not here: who shows it. Shares are never counted here one by one: each of the samples reads
//! what the roster counted by then, so nothing of this is in a share's way.

mod task;
mod types;

pub use task::{Inputs, Ledger, LedgerConfig, spawn};
pub use types::{
    BestShare, BlockEvent, BlockNews, BlockRecord, Fate, Hashrates, HistoryQuery, LedgerState,
    Metric, NodeAnswer, ReadError, Series, Totals, WorkerRecord,
};
