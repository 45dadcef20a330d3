//! Asks a node whether it would accept a block: splits are mined on once it has said yes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Assembler, Distrust};
use crate::work::{Admission, Announce, BuildJob, Job, Payout, TemplateKind, Work};

/// Work with a pool's splits that a node is being asked about.
pub(super) struct ProposalTrial {
    pub(super) job: Arc<Job>,
    pub(super) announce: Announce,
    /// Without an answer by then, it is published all the same.
    pub(super) until: Instant,
}

impl Assembler {
    /// What a node should be asked about, once.
    pub fn take_proposal(&mut self) -> Option<Arc<Job>> {
        self.proposal.take()
    }

    /// Takes a node's word on whether it would accept a block of `job`. None: it gave no answer.
    pub fn on_verdict(&mut self, job: &Job, accepted: Option<bool>, now: Instant) -> Option<Work> {
        self.judged = Some((*job.prevhash(), Arc::clone(&job.payout)));
        let trial = self.trial.take_if(|trial| {
            trial.job.prevhash() == job.prevhash() && trial.job.payout.same_terms(&job.payout)
        });
        if accepted == Some(true) {
            self.good = Some(Arc::clone(&job.payout));
        }
        if accepted != Some(false) {
            return trial.map(|trial| self.put(trial.job, trial.announce, now));
        }
        let terms = job.payout.pooled.as_ref()?;
        let split = terms.coinbaser.as_ref().map(|split| split.request.prevhash);
        let paid = split.filter(|prevhash| prevhash == job.prevhash() && job.coinbases().len() > 1);
        self.distrust = match paid {
            Some(prevhash) => Distrust::Splits(prevhash),
            None => Distrust::Terms(Arc::clone(&job.payout)),
        };
        if self.is_stale(now) {
            return self.reconsider(now);
        }
        let payout = self.payout(now)?;
        self.template.as_ref()?;
        Some(self.publish(BuildJob::Classes, Announce::Now, &payout, now))
    }

    /// Publishes work that pays all of `payout`: at once if a node is known to accept it, otherwise
    /// once it has said so. Until then miners have work that pays the pool's script alone.
    pub(super) fn offer(
        &mut self,
        announce: Announce,
        payout: &Arc<Payout>,
        now: Instant,
    ) -> Option<Work> {
        let template = self.template.clone()?;
        let is_judged = self
            .judged
            .as_ref()
            .is_some_and(|(tip, judged)| *tip == template.prevhash && judged.same_terms(payout));
        let splits = payout.split(&template).is_some();
        if !self.config.propose || !splits || is_judged || template.kind == TemplateKind::Tip {
            return Some(self.publish(BuildJob::Classes, announce, payout, now));
        }
        let waiting = self.trial.as_ref().filter(|it| *it.job.prevhash() == template.prevhash);
        let until = waiting.map_or(now + TRIAL_MAX, |trial| trial.until);
        let of = |payout: &Payout| payout.pooled.as_ref().map(|terms| terms.epoch);
        let is_busy = self.admission == Admission::Open
            && self.jobs.first().is_some_and(|job| {
                *job.prevhash() == template.prevhash
                    && !job.is_empty()
                    && job.payout.same_terms(payout)
                    && of(&job.payout) == of(payout)
            });
        let blank = (!is_busy).then(|| self.publish(BuildJob::Blank, Announce::Now, payout, now));
        let upcoming = self.upcoming.as_deref();
        let job = self.builder.build_with(BuildJob::Classes, &template, payout, upcoming);
        self.split_until = None;
        self.proposal = Some(Arc::clone(&job));
        self.trial = Some(ProposalTrial { job, announce, until });
        blank
    }
}

/// A node checks a full block in a tenth of this; meanwhile, work that pays the pool alone will do.
const TRIAL_MAX: Duration = Duration::from_secs(2);
