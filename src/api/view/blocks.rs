//! Found blocks.

use crate::{
    api::{
        handles::Handles,
        shapes::{self, BlockFate, BlockSubmission, Blocks},
    },
    ledger::{BlockRecord, Fate},
};

pub(crate) fn blocks(handles: &Handles, records: Vec<BlockRecord>) -> Blocks {
    Blocks {
        found: handles.ledger.totals().blocks,
        found_session: handles.blocks.found(),
        accepted_session: handles.blocks.accepted(),
        blocks: records.into_iter().map(block).collect(),
    }
}

pub(crate) fn block(record: BlockRecord) -> shapes::Block {
    let fates = record.submissions.iter().map(|answer| answer.result);
    shapes::Block {
        height: record.height,
        fate: overall(&fates),
        hash: record.hash,
        found_at_unix_s: (record.at > 0).then_some(record.at),
        worker: (!record.worker.is_empty()).then_some(record.worker),
        submissions: record
            .submissions
            .into_iter()
            .map(|answer| BlockSubmission {
                node: answer.node,
                result: fate(answer.result),
                detail: (!answer.reason.is_empty()).then_some(answer.reason),
            })
            .collect(),
    }
}

/// One node's yes is enough; one that has not decided leaves it open.
fn overall(fates: &(impl Iterator<Item = Fate> + Clone)) -> BlockFate {
    let any = |wanted: Fate| fates.clone().any(|fate| fate == wanted);
    if any(Fate::Accepted) {
        BlockFate::Accepted
    } else if any(Fate::Unanswered) || fates.clone().next().is_none() {
        BlockFate::Pending
    } else if any(Fate::Stale) {
        BlockFate::Stale
    } else {
        BlockFate::Rejected
    }
}

fn fate(fate: Fate) -> BlockFate {
    match fate {
        Fate::Accepted => BlockFate::Accepted,
        Fate::Stale => BlockFate::Stale,
        Fate::Rejected => BlockFate::Rejected,
        Fate::Unanswered => BlockFate::Pending,
    }
}
