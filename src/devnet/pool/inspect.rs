//! Job validation: what the pool asks about a template, and whether the answers are consistent.

use bitcoin::{Transaction, consensus::encode::deserialize, hashes::Hash};

use crate::{
    datum::{
        ShortIds, crosscheck,
        message::{JobContext, ToGateway, Validation, ValidationError, Wanted},
    },
    work::{Hash256, merkle},
};

use super::{ledger::Unchecked, options::ValidationPlan};

/// The validation of one slot's template, step by step.
#[derive(Debug)]
pub(super) struct Inspection {
    plan: ValidationPlan,
    step: Step,
    ids: Vec<[u8; 6]>,
    crosscheck: Option<[u8; 32]>,
    /// What had been accepted unchecked when it began, and is confirmed if it succeeds.
    pub(super) unchecked: Unchecked,
}

#[derive(Debug)]
enum Step {
    ShortIds,
    Sample(Vec<u16>),
    Block,
    Done,
}

/// The result of an answer.
#[derive(Debug)]
pub(super) enum Finding {
    /// It was right; there may be another question.
    Good(Option<ToGateway<'static>>),
    /// The gateway says that it cannot answer.
    Refused(ValidationError),
    Bad(Flaw),
    /// An answer to no question.
    Unasked,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("{got} transactions, where the job has {wanted}")]
    Count { wanted: u32, got: usize },
    #[error("no crosscheck")]
    NoCrosscheck,
    #[error("transaction {at} does not decode")]
    Undecodable { at: usize },
    #[error("transaction {at} is not the one that its short id stands for")]
    ShortId { at: usize },
    #[error("the crosscheck does not match")]
    Crosscheck,
    #[error("the transactions are not those of the merkle branches")]
    Branches,
    #[error("the transactions have {got} bytes, where the job has {wanted}")]
    Size { wanted: u32, got: usize },
}

impl Inspection {
    /// Begins by asking for short ids.
    pub(super) fn start(
        slot: u8,
        plan: ValidationPlan,
        unchecked: Unchecked,
    ) -> (Self, ToGateway<'static>) {
        let step = Step::ShortIds;
        let inspection = Self { plan, step, ids: Vec::new(), crosscheck: None, unchecked };
        (inspection, ask(slot, Wanted::ShortIds, Vec::new()))
    }

    /// True while a question is unanswered.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.step, Step::Done)
    }

    /// Checks an answer, and returns what to ask next.
    pub(super) fn on_answer(
        &mut self,
        slot: u8,
        answer: &Validation<'_>,
        job: &JobContext<'_>,
        short_ids: &ShortIds,
    ) -> Finding {
        let step = std::mem::replace(&mut self.step, Step::Done);
        let result = match (step, answer) {
            (_, Validation::Error { error, .. }) => return Finding::Refused(*error),
            (Step::ShortIds, Validation::ShortIds { ids, crosscheck }) => {
                self.on_short_ids(ids, *crosscheck, job)
            }
            (Step::Sample(indexes), Validation::Transactions(transactions)) => {
                self.on_sample(&indexes, transactions, short_ids)
            }
            (Step::Block, Validation::Block(transactions)) => {
                self.on_block(transactions, job, short_ids)
            }
            (step, _) => {
                self.step = step;
                return Finding::Unasked;
            }
        };
        match result {
            Ok(()) => Finding::Good(self.question(slot)),
            Err(flaw) => {
                self.step = Step::Done;
                Finding::Bad(flaw)
            }
        }
    }

    fn question(&self, slot: u8) -> Option<ToGateway<'static>> {
        match &self.step {
            Step::Sample(indexes) => Some(ask(slot, Wanted::Transactions, indexes.clone())),
            Step::Block => Some(ask(slot, Wanted::Block, Vec::new())),
            Step::ShortIds | Step::Done => None,
        }
    }

    fn on_short_ids(
        &mut self,
        ids: &[[u8; 6]],
        crosscheck: Option<[u8; 32]>,
        job: &JobContext<'_>,
    ) -> Result<(), Flaw> {
        same_count(job, ids.len())?;
        if crosscheck.is_none() && !ids.is_empty() {
            return Err(Flaw::NoCrosscheck);
        }
        self.ids = ids.to_vec();
        self.crosscheck = crosscheck;
        self.step = match self.sample() {
            indexes if !indexes.is_empty() => Step::Sample(indexes),
            _ => self.last_step(),
        };
        Ok(())
    }

    /// Some indexes, always with the first and the last.
    fn sample(&self) -> Vec<u16> {
        let count = usize::from(self.plan.sample).min(self.ids.len());
        let spread = |i: usize| i * (self.ids.len() - 1) / (count - 1).max(1);
        (0..count).filter_map(|i| u16::try_from(spread(i)).ok()).collect()
    }

    fn last_step(&self) -> Step {
        if self.plan.full { Step::Block } else { Step::Done }
    }

    fn on_sample(
        &mut self,
        indexes: &[u16],
        transactions: &[&[u8]],
        short_ids: &ShortIds,
    ) -> Result<(), Flaw> {
        if indexes.len() != transactions.len() {
            let wanted = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
            return Err(Flaw::Count { wanted, got: transactions.len() });
        }
        for (at, raw) in indexes.iter().zip(transactions) {
            let at = usize::from(*at);
            let (_, wtxid) = ids_of(raw).ok_or(Flaw::Undecodable { at })?;
            if self.ids.get(at) != Some(&short_ids.of(&wtxid)) {
                return Err(Flaw::ShortId { at });
            }
        }
        self.step = self.last_step();
        Ok(())
    }

    fn on_block(
        &self,
        transactions: &[&[u8]],
        job: &JobContext<'_>,
        short_ids: &ShortIds,
    ) -> Result<(), Flaw> {
        same_count(job, transactions.len())?;
        let mut txids = Vec::with_capacity(transactions.len());
        let mut wtxids = Vec::with_capacity(transactions.len());
        for (at, raw) in transactions.iter().enumerate() {
            let (txid, wtxid) = ids_of(raw).ok_or(Flaw::Undecodable { at })?;
            if self.ids.get(at) != Some(&short_ids.of(&wtxid)) {
                return Err(Flaw::ShortId { at });
            }
            txids.push(txid);
            wtxids.push(wtxid);
        }
        if self.crosscheck.is_some_and(|sum| sum != crosscheck(wtxids.iter())) {
            return Err(Flaw::Crosscheck);
        }
        if *merkle::branches(txids.into_iter()) != *job.branches {
            return Err(Flaw::Branches);
        }
        let got = transactions.iter().map(|raw| raw.len()).sum();
        if usize::try_from(job.total_size) != Ok(got) {
            return Err(Flaw::Size { wanted: job.total_size, got });
        }
        Ok(())
    }
}

fn ask(slot: u8, wanted: Wanted, indexes: Vec<u16>) -> ToGateway<'static> {
    ToGateway::Validate { slot, wanted, indexes }
}

fn same_count(job: &JobContext<'_>, got: usize) -> Result<(), Flaw> {
    let same = usize::try_from(job.tx_count) == Ok(got);
    same.then_some(()).ok_or(Flaw::Count { wanted: job.tx_count, got })
}

/// txid and wtxid.
fn ids_of(raw: &[u8]) -> Option<(Hash256, Hash256)> {
    let transaction: Transaction = deserialize(raw).ok()?;
    let txid = transaction.compute_txid().to_byte_array();
    Some((Hash256(txid), Hash256(transaction.compute_wtxid().to_byte_array())))
}
