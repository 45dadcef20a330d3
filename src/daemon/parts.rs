//! The parts that the daemon starts, each with what it needs of the others.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use super::{
    DaemonError,
    convert::{assembler_config, datum_config, node_config, port_config},
    files, identity,
    live::Live,
    propose::{Questions, propose},
};
use crate::{
    blocks::{self, BlockNode, BlockSender, BlockStats, BlocksConfig},
    config::{Config, NodeKind},
    datum, listener,
    template::Templates,
    work::{Work, task::WorkInputs},
};

/// The pool's task.
pub(super) struct Relay {
    pub(super) pool: datum::Pool,
    pub(super) task: JoinHandle<()>,
    pub(super) stop: CancellationToken,
}

/// Starts what makes work, and what asks nodes about it. The answer is cancelled when it ends.
pub(super) fn start_work(
    live: &Live,
    templates: &Templates,
    pool: &datum::Pool,
    sender: watch::Sender<Option<Arc<Work>>>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<CancellationToken, DaemonError> {
    let (verdict_sender, verdicts) = mpsc::channel(VERDICTS_MAX);
    let (proposals, proposals_watch) = watch::channel(None);
    let networks = templates.networks();
    let configs = live.view(move |config| assembler_config(config, *networks.borrow()));
    live.tell_with(templates.networks(), stop, tasks);
    let inputs = WorkInputs {
        configs: configs.ok_or(DaemonError::NoAddress)?,
        templates: templates.templates.clone(),
        payouts: pool.payout.clone(),
        pool_health: pool.health.clone(),
        proposals,
        verdicts,
    };
    let work = sender.subscribe();
    let run = crate::work::task::run(inputs, sender, stop.clone());
    let wanted = Arc::new(AtomicBool::new(live.now().template.propose));
    let asked = Questions { trials: proposals_watch, work, wanted: Arc::clone(&wanted) };
    tasks.spawn(propose(templates.clone(), asked, verdict_sender));
    live.follow(move |config| wanted.store(config.template.propose, Ordering::Relaxed));
    Ok(spawn_essential(run, tasks))
}

/// Spawns a task that nothing works without; the answer is cancelled when it ends.
fn spawn_essential(
    run: impl Future<Output = ()> + Send + 'static,
    tasks: &TaskTracker,
) -> CancellationToken {
    let essential = CancellationToken::new();
    let guard = essential.clone().drop_guard();
    tasks.spawn(async move {
        // Dropped when the task ends, also by a panic.
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
        data_dir: config.data_dir.clone(),
        nodes: block_nodes(config),
        on_accepted: Arc::new(move |hash| notify.assume_tip(hash)),
    };
    blocks::spawn(config, stop.clone(), tasks)
}

pub(super) fn block_nodes(config: &Config) -> Vec<BlockNode> {
    let nodes = config.nodes.iter().map(|node| BlockNode {
        name: node.name.as_str().into(),
        rpc_url: node.rpc_url.clone(),
        auth: node_config(node).auth,
        is_blvm: matches!(node.kind, NodeKind::Blvm { .. }),
    });
    nodes.collect()
}

/// Starts the relay; it is idle while no pool is configured.
pub(super) fn start_pool(
    live: &Live,
    templates: &Templates,
    work: watch::Receiver<Option<Arc<Work>>>,
    stop: &CancellationToken,
) -> Result<Relay, DaemonError> {
    let notify = templates.notify.clone();
    let stop = stop.child_token();
    let inputs = datum::Inputs {
        templates: templates.templates.clone(),
        work,
        new_block: Arc::new(move || notify.notify()),
        shutdown: stop.clone(),
    };
    let configs = live.view(|config| Some(datum_config(config)));
    let (pool, task) = datum::spawn(configs.ok_or(DaemonError::NoAddress)?, inputs);
    Ok(Relay { pool, task, stop })
}

pub(super) fn limits(config: &Config) -> listener::Limits {
    listener::Limits {
        connections: files::room_for(config.stratum.max_connections),
        connections_per_ip: config.stratum.max_connections_per_ip,
        unproven: config.limits.unproven_places,
    }
}

/// Takes all addresses for miners, each with its rules.
pub(super) fn listen_all(
    live: &Live,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<Vec<listener::Bound>, DaemonError> {
    let config = live.now();
    let stratum = &config.stratum;
    let mut all = listen(&stratum.listen)?;
    for (at, port) in stratum.ports.iter().enumerate() {
        let rules = live.view(move |config| port_config(config, at));
        let own_key = port.authority_key_file.as_deref();
        let identity = own_key.map(|file| identity::spawn_for_port(file, &config, stop, tasks));
        let identity = identity.transpose()?;
        for mut bound in listen(&port.listen)? {
            if let Some(rules) = &rules {
                bound = bound.with_rules(rules.clone());
            }
            if let Some(identity) = &identity {
                bound = bound.with_identity(identity.clone());
            }
            all.push(bound);
        }
    }
    Ok(all)
}

fn listen(addrs: &[SocketAddr]) -> Result<Vec<listener::Bound>, DaemonError> {
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
