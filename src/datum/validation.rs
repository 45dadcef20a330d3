//! Answers a pool that asks for a job's transactions.

use super::protocol::{
    frame::BODY_MAX,
    message::{Validation, ValidationError, Wanted},
    proof::{ShortIds, crosscheck},
};
use crate::work::{Job, TemplateTx};

/// The job id to answer with, and the answer.
pub(super) fn answer<'a>(
    slot: u8,
    job: Option<&'a Job>,
    wanted: Wanted,
    indexes: &[u16],
    short_ids: &ShortIds,
) -> (u8, Validation<'a>) {
    if usize::from(slot) >= super::slots::SLOTS {
        return (0xFF, Validation::Error { wanted, error: ValidationError::OutOfRange });
    }
    let answer = job
        .ok_or(ValidationError::NoJob)
        .and_then(|job| transactions(&job.template.transactions, wanted, indexes, short_ids));
    (slot, answer.unwrap_or_else(|error| Validation::Error { wanted, error }))
}

fn transactions<'a>(
    all: &'a [TemplateTx],
    wanted: Wanted,
    indexes: &[u16],
    short_ids: &ShortIds,
) -> Result<Validation<'a>, ValidationError> {
    if all.len() > TRANSACTIONS_MAX {
        return Err(ValidationError::TooMany);
    }
    match wanted {
        Wanted::ShortIds => Ok(Validation::ShortIds {
            ids: all.iter().map(|tx| short_ids.of(&tx.wtxid)).collect(),
            crosscheck: (!all.is_empty()).then(|| crosscheck(all.iter().map(|tx| &tx.wtxid))),
        }),
        Wanted::Transactions => {
            if indexes.is_empty() || indexes.len() > all.len() {
                return Err(ValidationError::BadIndex);
            }
            let one = |at: &u16| all.get(usize::from(*at)).map(|tx| tx.raw.as_ref());
            let some: Vec<_> =
                indexes.iter().map(one).collect::<Option<_>>().ok_or(ValidationError::BadIndex)?;
            // If requested often enough, one large transaction would fill any frame.
            fits(&some).then_some(Validation::Transactions(some)).ok_or(ValidationError::BadIndex)
        }
        Wanted::Block => {
            let all: Vec<_> = all.iter().map(|tx| tx.raw.as_ref()).collect();
            fits(&all).then_some(Validation::Block(all)).ok_or(ValidationError::TooMany)
        }
    }
}

fn fits(transactions: &[&[u8]]) -> bool {
    transactions.iter().map(|raw| raw.len() + 3).sum::<usize>() <= BODY_MAX - OVERHEAD
}

/// What the protocol's 16-bit count allows, as in the C gateway.
const TRANSACTIONS_MAX: usize = 16_383;
/// Kinds, job id, status, count, end, padding, authentication code; a generous estimate.
const OVERHEAD: usize = 1024;
