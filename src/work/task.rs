//! Runs the [`Assembler`]: templates and payouts in, work out.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Admission, Assembler, AssemblerConfig, Job, Payout, PoolHealth, Template, Work};

/// What the task listens to.
pub struct WorkInputs {
    pub configs: watch::Receiver<Arc<AssemblerConfig>>,
    pub templates: watch::Receiver<Option<Arc<Template>>>,
    pub(crate) payouts: watch::Receiver<Option<Arc<Payout>>>,
    pub(crate) pool_health: watch::Receiver<PoolHealth>,
    /// What nodes should be asked about.
    pub(crate) proposals: watch::Sender<Option<Arc<Job>>>,
    /// What nodes would say to blocks of a job.
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
}

/// A node's answer to a block proposal.
pub struct Verdict {
    pub job: Arc<Job>,
    /// None: it gave no answer.
    pub accepted: Option<bool>,
}

/// Publishes work until `shutdown`. The first value appears when there is something to mine.
pub async fn run(
    mut inputs: WorkInputs,
    work: watch::Sender<Option<Arc<Work>>>,
    shutdown: CancellationToken,
) {
    let config = AssemblerConfig::clone(&inputs.configs.borrow_and_update());
    let mut assembler = Assembler::new(config, rand::random(), now());
    // Values that were there before this task listened count as news.
    inputs.templates.mark_changed();
    inputs.payouts.mark_changed();
    inputs.pool_health.mark_changed();
    let mut admission = Admission::Open;
    loop {
        let published = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            config = news(&mut inputs.configs) => match config {
                Some(config) => assembler.on_config(&config, now()),
                None => return,
            },
            template = news(&mut inputs.templates) => match template {
                Some(Some(template)) => assembler.on_template(&template, now()),
                Some(None) => None,
                None => return,
            },
            // Before the pool's health: its terms come first, so that none of its old ones are used.
            payout = news(&mut inputs.payouts) => match payout {
                Some(Some(payout)) => assembler.on_payout(&payout, now()),
                Some(None) => assembler.on_no_payout(),
                None => return,
            },
            health = news(&mut inputs.pool_health) => match health {
                Some(health) => assembler.on_pool_health(health, now()),
                None => return,
            },
            Some(verdict) = inputs.verdicts.recv() => {
                assembler.on_verdict(&verdict.job, verdict.accepted, now())
            }
            () = until(assembler.deadline()) => assembler.on_deadline(now()),
        };
        if let Some(job) = assembler.take_proposal() {
            inputs.proposals.send_replace(Some(job));
        }
        if assembler.admission() != &admission {
            admission = assembler.admission().clone();
            tell(&admission);
        }
        if let Some(published) = published {
            log(&published);
            work.send_replace(Some(Arc::new(published)));
        }
    }
}

/// The next value of `input`. None: its sender left.
async fn news<T: Clone>(input: &mut watch::Receiver<T>) -> Option<T> {
    input.changed().await.ok()?;
    Some(input.borrow_and_update().clone())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn tell(admission: &Admission) {
    match admission {
        Admission::Open => info!("there is work again: accepting miners"),
        Admission::Closed(reason) => warn!("sending miners away: {reason}"),
    }
}

fn log(work: &Work) {
    if work.admission != Admission::Open {
        return;
    }
    let job = work.latest();
    debug!(
        job = %job.id,
        height = job.template.height,
        transactions = job.template.transactions.len(),
        empty = job.is_empty(),
        pooled = job.payout.pooled.is_some(),
        classes = job.coinbases().len(),
        "new work"
    );
}

#[expect(clippy::disallowed_methods, reason = "time enters here")]
fn now() -> Instant {
    Instant::now()
}
