//! What the ledger is given to keep.

use std::sync::Arc;

use crate::{
    config::Config,
    ledger::{self, Ledger, LedgerConfig},
    work::{Counters, Roster},
};

pub(super) fn start_ledger(
    config: &Config,
    roster: &Arc<Roster>,
    counters: &Arc<Counters>,
) -> Ledger {
    let inputs = ledger::Inputs {
        roster: Arc::clone(roster),
        counters: Arc::clone(counters),
        blocks: Box::new(Vec::new),
    };
    let ledger =
        LedgerConfig { data_dir: config.data_dir.clone(), keep_history: config.keep_history };
    ledger::spawn(ledger, inputs)
}
