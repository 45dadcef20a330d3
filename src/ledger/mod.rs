//! What happened, kept: hashrates, totals, workers, blocks and their history, in one SQLite file.
//!
//! Shares are not counted here one by one: every two seconds a thread reads what the roster has
//! counted by then, so nothing of this is in a share's way. `book` is the truth and answers for
//! all but history; `store` is its copy on disk, `read` the way to the past. Not here: who shows it.

mod book;
mod file;
mod found;
mod keeper;
mod meter;
mod minute;
mod read;
mod schema;
mod series;
mod store;
mod sum;
mod task;
mod trouble;
mod types;

pub use task::{Inputs, Ledger, LedgerConfig, spawn};
pub(crate) use types::{
    BestShare, BlockRecord, Hashrates, NodeAnswer, ReadError, Series, Totals, WorkerRecord,
};
pub use types::{BlockEvent, BlockNews, HistoryQuery, LedgerState, Metric};
