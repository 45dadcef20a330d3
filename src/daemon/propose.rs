//! Asks the node about payouts before too much is mined on them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{mpsc, watch};
use tracing::{debug, error};

use crate::{
    template::{ProposeError, Templates},
    work::{FoundBlock, Hash256, Payout, Work, task::Verdict},
};

/// Asks the node about the coinbase of each new tip and of each change of the pool's terms, since
/// a proposal costs it a block validation.
pub(super) async fn propose(
    templates: Templates,
    mut work: watch::Receiver<Option<Arc<Work>>>,
    verdicts: mpsc::Sender<Verdict>,
    wanted: Arc<AtomicBool>,
) {
    let mut asked: Option<(Hash256, Arc<Payout>)> = None;
    while work.changed().await.is_ok() {
        let Some(job) = work.borrow_and_update().as_ref().map(|work| Arc::clone(work.latest()))
        else {
            continue;
        };
        let known = asked
            .as_ref()
            .is_some_and(|(tip, payout)| tip == job.prevhash() && payout.same_terms(&job.payout));
        // Only the largest coinbase of a job in full has everything that could be wrong.
        if known || job.coinbases().len() == 1 || !wanted.load(Ordering::Relaxed) {
            continue;
        }
        asked = Some((*job.prevhash(), Arc::clone(&job.payout)));
        let block = faster_hex::hex_string(&FoundBlock::proposal(&job).serialize());
        let accepted = match templates.propose(&block).await {
            Ok(()) => true,
            Err(ProposeError::Refused(reason)) => {
                let pool = job.payout.pooled.as_ref().map_or("none", |terms| &terms.pool);
                let advice = match &job.payout.pooled {
                    Some(_) => "mining goes on without what is new in it; tell the pool's operator",
                    None => "mining goes on with it; check mining.address and mining.coinbase_tag",
                };
                error!(
                    pool,
                    height = job.template.height,
                    "the node would refuse a block with this payout: {reason}; {advice}"
                );
                false
            }
            Err(ProposeError::Stale) => continue,
            Err(ProposeError::Unanswered(reason)) => {
                debug!("block proposal without a verdict: {reason}");
                continue;
            }
        };
        if verdicts.send(Verdict { job, accepted }).await.is_err() {
            return;
        }
    }
}
