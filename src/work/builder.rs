//! Template + payout -> job.

use std::sync::Arc;

use super::{
    Coinbase, CoinbaseClass, Hash256, Job, JobId, Payout, Template, TemplateKind, TipHeader,
    UpcomingJob, VERSION_ROLLING_MASK, job::Coinbases,
};

/// Which coinbases a job gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BuildJob {
    /// No transactions, the subsidy to the payout script.
    SubsidyOnly,
    /// All transactions, everything to the payout script: the pool's split has not arrived yet.
    Blank,
    /// All transactions, the split, one coinbase for each class.
    Classes,
}

/// Numbers jobs and extranonce prefixes.
#[derive(Debug)]
pub struct JobBuilder {
    next_id: u32,
    next_prefix: u16,
}

impl JobBuilder {
    /// `first_id` should differ between runs, so that a share for a job of an earlier run is not
    /// taken for one of this run's.
    pub fn new(first_id: u32) -> Self {
        Self { next_id: first_id, next_prefix: 0 }
    }

    pub fn build(
        &mut self,
        what: BuildJob,
        template: &Arc<Template>,
        payout: &Arc<Payout>,
    ) -> Arc<Job> {
        self.build_with(what, template, payout, None)
    }

    /// Like [`Self::build`]; `upcoming` is used if it is the job that would be built.
    pub fn build_with(
        &mut self,
        what: BuildJob,
        template: &Arc<Template>,
        payout: &Arc<Payout>,
        upcoming: Option<&UpcomingJob>,
    ) -> Arc<Job> {
        let what = match template.kind {
            TemplateKind::Tip => BuildJob::SubsidyOnly,
            TemplateKind::Full => what,
        };
        let ready = upcoming.filter(|_| what == BuildJob::SubsidyOnly).and_then(|upcoming| {
            let coinbase =
                Coinbase::build(CoinbaseClass::Empty, template, payout, upcoming.extranonce_prefix);
            let version = template.version & !VERSION_ROLLING_MASK;
            // Miners may already hold it, so it is used only if all of it is what would be built.
            (coinbase == upcoming.coinbase && version == upcoming.version)
                .then_some((upcoming.id, Coinbases::One(coinbase)))
        });
        if let Some((id, coinbases)) = ready {
            let (template, payout) = (Arc::clone(template), Arc::clone(payout));
            return Arc::new(Job::new(id, template, payout, coinbases));
        }
        let (id, prefix) = self.number();
        let one = |id| Coinbase::build(id, template, payout, prefix);
        let coinbases = match what {
            BuildJob::SubsidyOnly => Coinbases::One(one(CoinbaseClass::Empty)),
            BuildJob::Blank => Coinbases::One(one(CoinbaseClass::Tiny)),
            BuildJob::Classes => Coinbases::Each(Box::new(CoinbaseClass::CLASSES.map(one))),
        };
        Arc::new(Job::new(id, Arc::clone(template), Arc::clone(payout), coinbases))
    }

    /// The subsidy-only job of the block after `job`'s; returns `before` if that is still right.
    pub fn build_upcoming(
        &mut self,
        job: &Job,
        halving_interval: u32,
        before: Option<Arc<UpcomingJob>>,
    ) -> Option<Arc<UpcomingJob>> {
        let template = &job.template;
        let height = template.height.checked_add(1)?;
        let halved = height.is_multiple_of(halving_interval);
        let subsidy = template.subsidy() >> u32::from(halved);
        let known = (height, job.version, subsidy);
        let is_it = |it: &Arc<UpcomingJob>| {
            (it.height, it.version, it.subsidy) == known
                && it.payout.same_terms(&job.payout)
                && it.payout.tag_secondary == job.payout.tag_secondary
        };
        if let Some(before) = before.filter(is_it) {
            return Some(before);
        }
        let (id, prefix) = self.number();
        let tip = TipHeader {
            height,
            version: job.version,
            prevhash: Hash256([0; 32]),
            nbits: template.nbits,
            curtime: template.curtime,
            mintime: template.mintime,
            subsidy,
        };
        let tip = Template::tip(Arc::clone(&template.source), &tip);
        let coinbase = Coinbase::build(CoinbaseClass::Empty, &tip, &job.payout, prefix);
        Some(Arc::new(UpcomingJob::new(id, known, Arc::clone(&job.payout), prefix, coinbase)))
    }

    /// An id and an extranonce prefix that no other job has.
    fn number(&mut self) -> (JobId, u16) {
        let numbers = (JobId(self.next_id), self.next_prefix ^ PREFIX_SALT);
        self.next_id = self.next_id.wrapping_add(1);
        self.next_prefix = self.next_prefix.wrapping_add(1);
        numbers
    }
}

/// What the C gateway XORs its counter with.
const PREFIX_SALT: u16 = 0xB10C;
