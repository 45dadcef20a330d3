//! The parts that the daemon starts, each with what it needs from the others.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    DaemonError,
    apply::Views,
    identity,
    propose::{ProposalInputs, propose},
};
use crate::{
    blocks::{self, BlockSender, BlockStats, BlocksConfig},
    config::Config,
    datum, listener,
    template::Templates,
    work::{
        Work,
        task::{WorkInputs, WorkOutputs},
    },
};

/// The pool's task.
pub(super) struct Relay {
    pub(super) pool: datum::Pool,
    pub(super) task: JoinHandle<()>,
    pub(super) stop: CancellationToken,
}

/// What makes work, once it is running.
pub(super) struct WorkTask {
    /// Notified when there is work for the first time.
    pub(super) first: oneshot::Receiver<watch::Receiver<Arc<Work>>>,
    /// Cancelled when the task ends.
    pub(super) ended: CancellationToken,
}

/// Starts what makes work, and what proposes it to nodes.
pub(super) fn start_work(
    views: &Views,
    templates: &Templates,
    pool: &datum::Pool,
    latest: watch::Sender<Option<Arc<Work>>>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> WorkTask {
    let (verdict_sender, verdicts) = mpsc::channel(VERDICTS_MAX);
    let (proposals, trials) = watch::channel(None);
    let inputs = WorkInputs {
        configs: views.work.subscribe(),
        templates: templates.templates.clone(),
        payouts: pool.payout.clone(),
        pool_health: pool.health.clone(),
        proposals,
        verdicts,
    };
    let work = latest.subscribe();
    let (outputs, first) = WorkOutputs::new(latest);
    let run = crate::work::task::run(inputs, outputs, stop.clone());
    let asked = ProposalInputs { trials, work, configs: views.work.subscribe() };
    tasks.spawn(propose(templates.clone(), asked, verdict_sender));
    WorkTask { first, ended: spawn_essential(run, tasks) }
}

/// Spawns a task that nothing works without; the token returned is cancelled when it ends.
fn spawn_essential(
    run: impl Future<Output = ()> + Send + 'static,
    tasks: &TaskTracker,
) -> CancellationToken {
    let essential = CancellationToken::new();
    let guard = essential.clone().drop_guard();
    tasks.spawn(async move {
        // Dropped when the task ends, even by a panic.
        let _guard = guard;
        run.await;
    });
    essential
}

pub(super) fn start_blocks(
    config: &Config,
    templates: &Templates,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> (BlockSender, Arc<BlockStats>) {
    let notify = templates.notify.clone();
    let config = BlocksConfig {
        data_dir: config.ledger.data_dir.clone(),
        nodes: config.template.nodes.clone(),
        on_accepted: Arc::new(move |hash| notify.assume_tip(hash)),
    };
    blocks::spawn(config, stop.clone(), tasks)
}

/// Starts the relay; it is idle while no pool is configured.
pub(super) fn start_pool(
    views: &Views,
    templates: &Templates,
    work: watch::Receiver<Option<Arc<Work>>>,
    stop: &CancellationToken,
) -> Relay {
    let notify = templates.notify.clone();
    let stop = stop.child_token();
    let inputs = datum::Inputs {
        templates: templates.templates.clone(),
        work,
        new_block: Arc::new(move || notify.notify()),
        shutdown: stop.clone(),
    };
    let (pool, task) = datum::spawn(views.datum.subscribe(), inputs);
    Relay { pool, task, stop }
}

/// Binds all addresses for miners, each with its rules.
pub(super) fn listen_all(
    config: &Config,
    views: &Views,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Vec<listener::BoundListener>, DaemonError> {
    let stratum = &config.stratum;
    let mut all = listen(&stratum.listen)?;
    for (port, rules) in stratum.ports.iter().zip(&views.ports) {
        let own_key = port.authority_key_file.as_deref();
        let identity = own_key.map(|file| identity::spawn_for_port(file, config, stop, tasks));
        let identity = identity.transpose()?;
        for bound in listen(&port.listen)? {
            let mut bound = bound.with_rules(rules.subscribe());
            if let Some(identity) = &identity {
                bound = bound.with_identity(identity.clone());
            }
            all.push(bound);
        }
    }
    Ok(all)
}

fn listen(addrs: &[SocketAddr]) -> Result<Vec<listener::BoundListener>, DaemonError> {
    let mut bound = Vec::new();
    for &addr in addrs {
        match listener::bind(addr) {
            Ok(socket) => bound.push(socket),
            // The default lists both families; machines without IPv6 are common.
            Err(error) if addr.is_ipv6() && !bound.is_empty() && is_without_ipv6(&error) => {
                warn!("not listening on {addr}: this machine has no IPv6 ({error})");
            }
            Err(error) => return Err(DaemonError::Listen { addr, error }),
        }
    }
    Ok(bound)
}

pub(super) fn is_without_ipv6(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT)
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

/// Proposals are made one at a time.
const VERDICTS_MAX: usize = 4;
