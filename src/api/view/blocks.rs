//! Found blocks.

use crate::{
    api::{
        handles::Handles,
        shapes::{self, BlockFate, BlockSubmission, Blocks},
    },
    ledger::BlockRecord,
    work::BlockOutcome,
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
    let outcomes = record.submissions.iter().map(|answer| &answer.outcome);
    shapes::Block {
        height: record.height,
        fate: overall(outcomes),
        hash: record.hash,
        found_at_unix_s: (record.at > 0).then_some(record.at),
        worker: (!record.worker.is_empty()).then_some(record.worker),
        submissions: record
            .submissions
            .into_iter()
            .map(|answer| BlockSubmission {
                node: answer.node,
                result: block_fate(&answer.outcome),
                detail: Some(answer.outcome.reason().to_owned()).filter(|it| !it.is_empty()),
            })
            .collect(),
    }
}

/// One node's acceptance is enough; an undecided node leaves it open.
fn overall<'a>(outcomes: impl Iterator<Item = &'a BlockOutcome>) -> BlockFate {
    let fates: Vec<_> = outcomes.map(block_fate).collect();
    let order = [BlockFate::Accepted, BlockFate::Pending, BlockFate::Stale, BlockFate::Rejected];
    let first = order.into_iter().find(|fate| fates.contains(fate));
    first.unwrap_or(BlockFate::Pending)
}

fn block_fate(outcome: &BlockOutcome) -> BlockFate {
    match outcome {
        BlockOutcome::Accepted => BlockFate::Accepted,
        BlockOutcome::Stale => BlockFate::Stale,
        BlockOutcome::Rejected(_) => BlockFate::Rejected,
        BlockOutcome::Unanswered(_) => BlockFate::Pending,
    }
}
