//! Has the node check payouts before too much is mined on them.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tracing::{debug, error};

use crate::{
    clock::now,
    node::ProposeError,
    template::Templates,
    work::{
        Allowance, AssemblerConfig, FoundBlock, Hash256, Job, Payout, Work, task::ProposalVerdict,
    },
};

/// What is proposed to the node.
pub(super) struct ProposalInputs {
    /// Jobs that are held back until the answer.
    pub(super) trials: watch::Receiver<Option<Arc<Job>>>,
    /// Jobs that are already being mined on.
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    /// Whether they are proposed (`template.propose`).
    pub(super) configs: watch::Receiver<Option<Arc<AssemblerConfig>>>,
}

/// A pool may send new terms without end, and each costs the node a block.
type Proposals = Allowance<PROPOSAL_US, { PROPOSALS_AT_ONCE - 1 }>;

/// Proposes the coinbase of each new tip and of each change of the terms to the node, one at a
/// time, since each proposal costs it a block validation.
pub(super) async fn propose(
    templates: Templates,
    mut questions: ProposalInputs,
    verdicts: mpsc::Sender<ProposalVerdict>,
) {
    let mut asked: Option<(Hash256, Arc<Payout>)> = None;
    let mut allowance = Proposals::default();
    loop {
        // Of what arrives meanwhile, the latest is enough.
        if let Some(until) = allowance.pause(now()) {
            sleep_until(until.into()).await;
        }
        let Some((job, is_trial)) = questions.next().await else { return };
        let is_known = asked
            .as_ref()
            .is_some_and(|(tip, payout)| tip == job.prevhash() && payout.same_terms(&job.payout));
        // Only the largest coinbase of a full job contains everything that could be wrong.
        if !is_trial && (is_known || job.coinbases().len() == 1) {
            continue;
        }
        asked = Some((*job.prevhash(), Arc::clone(&job.payout)));
        allowance.spend(1, now());
        let accepted = ask(&templates, &job).await;
        if verdicts.send(ProposalVerdict { job, accepted }).await.is_err() {
            return;
        }
    }
}

impl ProposalInputs {
    /// The next job, and whether it is held back until the answer. None: there will be no more.
    async fn next(&mut self) -> Option<(Arc<Job>, bool)> {
        loop {
            let (job, is_trial) = tokio::select! {
                biased;
                changed = self.trials.changed() => {
                    changed.ok()?;
                    (self.trials.borrow_and_update().clone(), true)
                }
                changed = self.work.changed() => {
                    changed.ok()?;
                    let work = self.work.borrow_and_update().clone();
                    (work.map(|work| Arc::clone(work.latest())), false)
                }
            };
            let is_wanted = self.configs.borrow().as_ref().is_some_and(|config| config.propose);
            if let Some(job) = job.filter(|_| is_trial || is_wanted) {
                return Some((job, is_trial));
            }
        }
    }
}

/// Whether the node would accept a block from `job`; None: it does not say.
async fn ask(templates: &Templates, job: &Arc<Job>) -> Option<bool> {
    let block = faster_hex::hex_string(&FoundBlock::proposal(job).serialize());
    match templates.propose(&block).await {
        Ok(()) => Some(true),
        Err(ProposeError::Refused(reason)) => {
            let pool = job.payout.pooled.as_ref().map_or("none", |terms| &terms.pool);
            let advice = match &job.payout.pooled {
                Some(_) => "mining goes on with the previous payout; tell the pool's operator",
                None => "mining goes on with it; check mining.address and mining.coinbase_tag",
            };
            error!(
                pool,
                height = job.template.height,
                "the node would refuse a block with this payout: {reason}; {advice}"
            );
            Some(false)
        }
        Err(ProposeError::Stale) => None,
        Err(ProposeError::Unanswered(reason)) => {
            debug!("the node did not judge a block proposal: {reason}");
            None
        }
    }
}

/// A pool normally sends a handful of new terms and tips in a row; if it sends more, they are
/// proposed twice a second.
const PROPOSALS_AT_ONCE: u32 = 20;
const PROPOSAL_US: u64 = 500_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn terms_without_end_cost_the_node_two_proposals_a_second() {
        let (mut allowance, start) = (Proposals::default(), tokio::time::Instant::now());
        for _ in 0..PROPOSALS_AT_ONCE {
            assert!(allowance.take(now()));
        }
        for _ in 0..1000 {
            sleep_until(allowance.pause(now()).unwrap().into()).await;
            allowance.spend(1, now());
        }
        assert_eq!(start.elapsed(), 1000 * Duration::from_micros(PROPOSAL_US));
    }
}
