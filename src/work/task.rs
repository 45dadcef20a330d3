//! Runs the [`Assembler`]: templates and payouts in, work out.

use std::{sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Admission, Assembler, AssemblerConfig, Job, Payout, PoolHealth, Template, Work};
use crate::clock::now;

/// The task's inputs.
pub(crate) struct WorkInputs {
    /// No work is made before there is one.
    pub(crate) configs: watch::Receiver<Option<Arc<AssemblerConfig>>>,
    pub(crate) templates: watch::Receiver<Option<Arc<Template>>>,
    pub(crate) payouts: watch::Receiver<Option<Arc<Payout>>>,
    pub(crate) pool_health: watch::Receiver<PoolHealth>,
    /// Jobs that nodes should be asked about.
    pub(crate) proposals: watch::Sender<Option<Arc<Job>>>,
    /// What nodes said about blocks of a job.
    pub(crate) verdicts: mpsc::Receiver<ProposalVerdict>,
}

/// A node's answer to a block proposal.
pub(crate) struct ProposalVerdict {
    pub(crate) job: Arc<Job>,
    /// None: it gave no answer.
    pub(crate) accepted: Option<bool>,
}

/// Where work goes.
pub(crate) struct WorkOutputs {
    /// For those who watch from the start.
    latest: watch::Sender<Option<Arc<Work>>>,
    /// For miners, who are admitted once the first work exists.
    first: Option<oneshot::Sender<watch::Receiver<Arc<Work>>>>,
    miners: Option<watch::Sender<Arc<Work>>>,
}

impl WorkOutputs {
    /// The returned receiver yields the work for miners as soon as there is any.
    pub(crate) fn new(
        latest: watch::Sender<Option<Arc<Work>>>,
    ) -> (Self, oneshot::Receiver<watch::Receiver<Arc<Work>>>) {
        let (first, receiver) = oneshot::channel();
        (Self { latest, first: Some(first), miners: None }, receiver)
    }

    fn publish(&mut self, work: Work) {
        let work = Arc::new(work);
        self.latest.send_replace(Some(Arc::clone(&work)));
        match &self.miners {
            Some(miners) => {
                miners.send_replace(work);
            }
            None => {
                let (miners, receiver) = watch::channel(work);
                self.miners = Some(miners);
                // If nobody waits any more, gatewayd is stopping.
                self.first.take().map(|first| first.send(receiver));
            }
        }
    }
}

/// Publishes work until `shutdown`. The first appears when there is something to mine.
pub(crate) async fn run(
    mut inputs: WorkInputs,
    mut outputs: WorkOutputs,
    shutdown: CancellationToken,
) {
    let config = match inputs.configs.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(config)) => AssemblerConfig::clone(config),
        _ => return,
    };
    let mut assembler = Assembler::new(config, rand::random(), now());
    // Values that were set before this task started count as changes.
    inputs.templates.mark_changed();
    inputs.payouts.mark_changed();
    inputs.pool_health.mark_changed();
    let mut admission = Admission::Open;
    loop {
        let published = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            config = news(&mut inputs.configs) => match config {
                Some(Some(config)) => assembler.on_config(&config, now()),
                // An address is never taken away.
                Some(None) => None,
                None => return,
            },
            template = news(&mut inputs.templates) => match template {
                Some(Some(template)) => assembler.on_template(&template, now()),
                Some(None) => None,
                None => return,
            },
            // Before the pool's health: new terms come first, so that old ones are not used.
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
            log_admission(&admission);
        }
        if let Some(published) = published {
            log(&published);
            outputs.publish(published);
        }
    }
}

/// The next value of `input`. None: its sender is gone.
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

fn log_admission(admission: &Admission) {
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
