//! The pool's eight job slots, and what the pool has been told about each on this connection.
//!
//! A job gets a slot when its first share is sent, not before: jobs on which nobody finds anything
//! use none up, and a late share gets a slot again instead of being lost. The subsidy-only job and
//! the blank job of a tip share a slot, as in the C gateway, so that a burst of tips wraps around
//! later.

use std::sync::Arc;

use super::protocol::message::{CoinbaseContext, JobContext};
use crate::work::{Coinbase, CoinbaseClass, Job};

/// Which jobs have which slots.
#[derive(Debug, Default)]
pub(super) struct JobSlots {
    slots: [Option<JobSlot>; SLOTS],
    /// The slot for the next job.
    next: usize,
}

#[derive(Debug)]
struct JobSlot {
    /// The job that the pool was last told of: spot checks are about it.
    told: Arc<Job>,
    /// The subsidy-only job, if `told` is the blank job of the same tip. At most one: another one
    /// of that tip has another coinbase.
    shared: Option<Arc<Job>>,
    /// A bit for each class, and one for the subsidy-only coinbase.
    coinbases_sent: u8,
}

/// The sections that a share must include.
#[derive(Debug, Default)]
pub(super) struct Contexts<'a> {
    pub(super) job: Option<JobContext<'a>>,
    pub(super) coinbase: Option<CoinbaseContext<'a>>,
}

impl JobSlots {
    /// The job that the pool was last told of in `slot`, if any.
    pub(super) fn told(&self, slot: u8) -> Option<&Arc<Job>> {
        self.slots.get(usize::from(slot))?.as_ref().map(|slot| &slot.told)
    }

    /// The slot of `job`, and the contexts to send with a share on `coinbase`. None: the job does
    /// not pay a pool.
    pub(super) fn contexts<'a>(
        &mut self,
        job: &'a Arc<Job>,
        coinbase: &'a Coinbase,
    ) -> Option<(u8, Contexts<'a>)> {
        job.payout.pooled.as_ref()?;
        let mut contexts = Contexts::default();
        let at = match self.slots.iter().position(|slot| is_of(slot, |slot| slot.has(job))) {
            Some(at) => at,
            None => {
                contexts.job = Some(job_context(job, coinbase));
                self.tell(job)
            }
        };
        let slot = self.slots.get_mut(at)?.as_mut()?;
        if slot.told.id != job.id && slot.shared.is_none() {
            slot.shared = Some(Arc::clone(job));
        }
        let bit = 1 << coinbase.id.slot();
        if slot.coinbases_sent & bit == 0 {
            slot.coinbases_sent |= bit;
            contexts.coinbase = Some(CoinbaseContext {
                coinbase_id: coinbase.id.wire(),
                coinb1: &coinbase.coinb1,
                coinb2: &coinbase.coinb2,
            });
        }
        Some((u8::try_from(at).ok()?, contexts))
    }

    /// Assigns `job` a slot: that of the tip's other job without a split, or else the next.
    fn tell(&mut self, job: &Arc<Job>) -> usize {
        let sharing = |slot: &JobSlot| slot.told.is_empty() && is_blank(job, &slot.told);
        if let Some(at) = self.slots.iter().position(|slot| is_of(slot, sharing))
            && let Some(slot) = self.slots.get_mut(at).and_then(Option::as_mut)
        {
            // The pool forgets what it knew of the slot when it is told of a new job in it.
            slot.shared = Some(std::mem::replace(&mut slot.told, Arc::clone(job)));
            slot.coinbases_sent = 0;
            return at;
        }
        let at = self.next;
        self.next = (at + 1) % SLOTS;
        self.slots[at] = Some(JobSlot { told: Arc::clone(job), shared: None, coinbases_sent: 0 });
        at
    }
}

impl JobSlot {
    /// The pool can rebuild shares of `job` from what it was told in this slot.
    fn has(&self, job: &Arc<Job>) -> bool {
        if self.told.id == job.id {
            return true;
        }
        match &self.shared {
            Some(shared) => shared.id == job.id,
            // What it knows about the blank job is more than a subsidy-only share needs.
            None => job.is_empty() && is_blank(&self.told, job),
        }
    }
}

fn is_of(slot: &Option<JobSlot>, is_it: impl Fn(&JobSlot) -> bool) -> bool {
    slot.as_ref().is_some_and(is_it)
}

/// `job` is the blank job that follows the subsidy-only job `empty`: same tip, bits and terms.
fn is_blank(job: &Job, empty: &Job) -> bool {
    let terms = |job: &Job| {
        let terms = job.payout.pooled.as_ref();
        terms.map(|terms| (terms.prime_id, terms.epoch))
    };
    job.coinbases().len() == 1
        && !job.is_empty()
        && job.prevhash() == empty.prevhash()
        && job.template.nbits == empty.template.nbits
        && job.template.height == empty.template.height
        && terms(job) == terms(empty)
        && job.payout.same_terms(&empty.payout)
}

fn job_context<'a>(job: &'a Job, coinbase: &Coinbase) -> JobContext<'a> {
    let template = &job.template;
    JobContext {
        prevhash: template.prevhash,
        target_byte_index: u16::try_from(coinbase.target_byte_index).unwrap_or(u16::MAX),
        nbits: template.nbits.get(),
        coinbaser_id: job.split().map_or(0, |split| split.id),
        height: template.height,
        coinbase_value: template.coinbase_value,
        tx_count: u32::try_from(template.transactions.len()).unwrap_or(u32::MAX),
        total_weight: template.total_weight,
        total_size: template.total_size,
        total_sigops: template.total_sigops,
        branches: template.merkle_branches.as_ref().into(),
    }
}

const _: () =
    assert!(CoinbaseClass::COUNT <= u8::BITS as usize, "a bit for each in `coinbases_sent`");
/// Jobs that the pool keeps for a gateway.
pub(super) const SLOTS: usize = 8;
