//! What is remembered across restarts: hashrates, totals, workers, blocks and their history, in one
//! SQLite file.
//!
//! Shares are not counted here one by one: every two seconds a thread reads what the roster has
//! counted by then, so none of this is on the share path. `book` is authoritative and answers
//! everything except history; `store` is its copy on disk, `read` answers history. Not here: who
//! shows it.

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
