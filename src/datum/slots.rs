//! The pool's eight job slots, and what it has been told of each on this connection.

use std::sync::Arc;

use super::message::{CoinbaseContext, JobContext};
use crate::work::{Coinbase, CoinbaseId, Job, JobId, Work};

/// Which job has which slot. The newest job that claims a slot keeps it.
#[derive(Debug, Default)]
pub(super) struct Slots([Option<Slot>; SLOTS]);

#[derive(Debug)]
struct Slot {
    job: Arc<Job>,
    job_sent: bool,
    /// A bit for each class, and one for the subsidy-only coinbase.
    coinbases_sent: u8,
}

/// The sections that a share must carry.
#[derive(Debug, Default)]
pub(super) struct Contexts<'a> {
    pub(super) job: Option<JobContext<'a>>,
    pub(super) coinbase: Option<CoinbaseContext<'a>>,
}

/// Why a share has no slot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoSlot {
    /// The job is not for a pool.
    Solo,
    /// A newer job has the slot: the pool would take the share for one of that job.
    Reused,
}

impl Slots {
    /// Learns which jobs there are.
    pub(super) fn on_work(&mut self, work: &Work) {
        for job in work.jobs.iter() {
            // A job that has lost its slot keeps it no longer; that is all an error means here.
            let _ = self.claim(job);
        }
    }

    /// The job in `slot`, if there is one.
    pub(super) fn job(&self, slot: u8) -> Option<&Arc<Job>> {
        self.0.get(usize::from(slot))?.as_ref().map(|slot| &slot.job)
    }

    /// The slot of `job`, and the contexts to send with a share on `coinbase`.
    pub(super) fn contexts<'a>(
        &mut self,
        job: &'a Arc<Job>,
        coinbase: &'a Coinbase,
    ) -> Result<(u8, Contexts<'a>), NoSlot> {
        let (at, slot) = self.claim(job)?;
        let mut contexts = Contexts::default();
        if !slot.job_sent {
            slot.job_sent = true;
            contexts.job = Some(job_context(job, coinbase));
        }
        let bit = match coinbase.id {
            CoinbaseId::EMPTY => 0x80,
            class => 1 << class.index().min(6),
        };
        if slot.coinbases_sent & bit == 0 {
            slot.coinbases_sent |= bit;
            contexts.coinbase = Some(CoinbaseContext {
                coinbase_id: coinbase.id.wire(),
                coinb1: &coinbase.coinb1,
                coinb2: &coinbase.coinb2,
            });
        }
        Ok((at, contexts))
    }

    fn claim(&mut self, job: &Arc<Job>) -> Result<(u8, &mut Slot), NoSlot> {
        let at = job.slot.ok_or(NoSlot::Solo)?;
        let place = self.0.get_mut(usize::from(at)).ok_or(NoSlot::Solo)?;
        let held = place.as_ref().map(|slot| slot.job.id);
        if held.is_some_and(|id| is_newer(id, job.id)) {
            return Err(NoSlot::Reused);
        }
        if held != Some(job.id) {
            *place = None;
        }
        let fresh = || Slot { job: Arc::clone(job), job_sent: false, coinbases_sent: 0 };
        Ok((at, place.get_or_insert_with(fresh)))
    }
}

fn job_context<'a>(job: &'a Job, coinbase: &Coinbase) -> JobContext<'a> {
    let template = &job.template;
    let coinbaser = job.payout.pooled.as_ref().and_then(|terms| terms.coinbaser.as_deref());
    let coinbaser = coinbaser.filter(|split| split.request.prevhash == template.prevhash);
    JobContext {
        prevhash: template.prevhash,
        target_byte_index: u16::try_from(coinbase.target_byte_index).unwrap_or(u16::MAX),
        nbits: template.nbits.get(),
        coinbaser_id: coinbaser.map_or(0, |split| split.id),
        height: template.height,
        coinbase_value: template.coinbase_value,
        tx_count: u32::try_from(template.transactions.len()).unwrap_or(u32::MAX),
        total_weight: template.total_weight,
        total_size: template.total_size,
        total_sigops: template.total_sigops,
        branches: template.merkle_branches.as_ref().into(),
    }
}

/// Job ids count up and wrap.
fn is_newer(a: JobId, b: JobId) -> bool {
    let ahead = a.0.wrapping_sub(b.0);
    ahead != 0 && ahead < 1 << 31
}

/// Jobs that the pool keeps for a gateway.
pub(super) const SLOTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_ids_wrap() {
        assert!(is_newer(JobId(1), JobId(0)));
        assert!(is_newer(JobId(3), JobId(u32::MAX)));
        assert!(!is_newer(JobId(7), JobId(7)));
        assert!(!is_newer(JobId(6), JobId(7)));
    }
}
