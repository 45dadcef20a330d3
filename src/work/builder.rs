//! Template + payout -> job.

use std::sync::Arc;

use super::{Coinbase, CoinbaseId, Job, JobId, Payout, Template, TemplateKind, job::Coinbases};

/// Which coinbases a job gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BuildJob {
    /// No transactions, the subsidy to the payout script.
    SubsidyOnly,
    /// All transactions, everything to the payout script: the pool's split is not here yet.
    Blank,
    /// All transactions, the split, one coinbase for each class.
    Classes,
}

/// Numbers jobs, pool slots and extranonce prefixes.
#[derive(Debug)]
pub struct JobBuilder {
    next_id: u32,
    next_slot: u8,
    next_prefix: u16,
}

impl JobBuilder {
    /// `first_id` should differ between runs, so that a miner's share of an earlier run is not
    /// taken for one of this run's jobs.
    pub fn new(first_id: u32) -> Self {
        Self { next_id: first_id, next_slot: 0, next_prefix: 0 }
    }

    pub fn build(
        &mut self,
        what: BuildJob,
        template: &Arc<Template>,
        payout: &Arc<Payout>,
    ) -> Arc<Job> {
        let what = match template.kind {
            TemplateKind::Tip => BuildJob::SubsidyOnly,
            TemplateKind::Full => what,
        };
        let prefix = self.next_prefix ^ PREFIX_SALT;
        let one = |id| Coinbase::build(id, template, payout, prefix);
        let coinbases = match what {
            BuildJob::SubsidyOnly => Coinbases::One(one(CoinbaseId::EMPTY)),
            BuildJob::Blank => Coinbases::One(one(CoinbaseId::TINY)),
            BuildJob::Classes => Coinbases::Six(Box::new(CoinbaseId::CLASSES.map(one))),
        };
        let slot = payout.pooled.as_ref().map(|_| self.next_slot);
        let id = JobId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.next_prefix = self.next_prefix.wrapping_add(1);
        if slot.is_some() {
            self.next_slot = (self.next_slot + 1) % POOL_SLOTS;
        }
        Arc::new(Job::new(id, Arc::clone(template), Arc::clone(payout), slot, prefix, coinbases))
    }
}

/// Jobs that the pool keeps for a gateway.
const POOL_SLOTS: u8 = 8;
/// What the C gateway XORs its counter with.
const PREFIX_SALT: u16 = 0xB10C;
