//! Wires everything together. Only this module knows everyone.

mod api;
mod authority;
mod check;
mod convert;
mod files;
mod history;
mod identity;
mod propose;
mod report;
mod settings;
mod signals;
mod systemd;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub use self::{api::Front, check::check};
use self::{
    api::{Sights, facts, start_api},
    convert::{assembler_config, datum_config, node_config, stratum_config, template_config},
    history::start_ledger,
    propose::propose,
    report::{Reporter, report},
    signals::{Signals, Wanted},
    systemd::Systemd,
};
use crate::{
    blocks::{self, BlockNode, BlockSender, BlockStats, BlocksConfig},
    config::Config,
    datum,
    ledger::Ledger,
    listener, stratum,
    sv2::noise::AuthorityPublicKey,
    template::{self, Templates},
    work::{Counters, FoundBlock, Roster, Work, task::WorkInputs},
};

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(
        "mining.address {address} is not an address of the network \"{network}\" that {node} is \
         on: set an address of that network"
    )]
    WrongNetwork { address: String, network: Network, node: String },
    #[error("cannot listen on {addr} (stratum.listen): {error}. Is another gateway running?")]
    Listen { addr: SocketAddr, error: std::io::Error },
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    #[error("stopped before there was any work")]
    Stopped,
    #[error(
        "a part of gatewayd ended by a fault of its own, so it stops whole, to be restarted; please \
         report the lines above"
    )]
    Died,
}

impl DaemonError {
    /// True when the operator must change the configuration.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::WrongNetwork { .. } | Self::Authority(_))
    }
}

/// A running gateway.
pub struct Gateway {
    /// Where miners connect.
    pub stratum: Vec<SocketAddr>,
    pub counters: Arc<Counters>,
    /// What Stratum V2 miners may know this gateway by.
    pub authority: AuthorityPublicKey,
    /// The dashboard, and what it is told of changes.
    pub front: Front,
    /// Who mines here.
    pub roster: Arc<Roster>,
    /// Where changed rules for miners go.
    pub rules: watch::Sender<Arc<stratum::Config>>,
    pub limits: watch::Sender<listener::Limits>,
    pub pool: Option<datum::Pool>,
    pub blocks: Arc<BlockStats>,
    /// What happened, also before this start.
    pub ledger: Ledger,
    pub templates: Templates,
    pub work: watch::Receiver<Option<Arc<Work>>>,
    block_sender: BlockSender,
    relay: Option<Relay>,
    /// Cancelled when a task ends that nothing works without.
    essential: CancellationToken,
    /// Ends what makes shares and blocks.
    miners_stop: CancellationToken,
    miners: TaskTracker,
    /// Ends everything else, after that.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Runs until a signal ends it.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    info!(version = env!("CARGO_PKG_VERSION"), "gatewayd starts");
    let systemd = Systemd::new();
    let started = {
        let starting = Gateway::start(&config);
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => break started?,
                signal = signals.next() => if signal == Wanted::Stop {
                    info!("stopping before there was any work");
                    return Ok(());
                },
            }
        }
    };
    if let Some(door) = started.stratum.first() {
        systemd.serving(*door, started.work.clone());
    }
    let minutes = tokio::spawn(report(started.reporter()));
    let mut died = false;
    loop {
        let wanted = tokio::select! {
            wanted = signals.next() => wanted,
            // Only a fault of ours ends one of them before its time.
            () = started.essential.cancelled() => {
                died = true;
                break;
            }
        };
        match wanted {
            Wanted::Stop => break,
            Wanted::Notify => started.templates.notify.notify(),
            Wanted::Reload => {
                systemd::reloading();
                warn!("SIGHUP: this version cannot reload yet; restart it to apply a changed file");
                systemd::reloaded();
            }
        }
    }
    minutes.abort();
    systemd.stopping();
    started.stop().await;
    if died { Err(DaemonError::Died) } else { Ok(()) }
}

impl Gateway {
    /// Starts everything, and returns when the first miners are welcome.
    ///
    /// The future may be dropped: what runs by then ends with it.
    pub async fn start(config: &Config) -> Result<Self, DaemonError> {
        let stop = CancellationToken::new();
        let abort = stop.clone().drop_guard();
        files::raise_limit();
        let tasks = TaskTracker::new();
        let (authority, identity) = identity::spawn(config, &stop, &tasks)?;
        let sockets = listen(&config.stratum.listen)?;
        let stratum: Vec<_> = sockets.iter().map(listener::Bound::addr).collect();
        let templates = template::spawn(template_config(config), &stop, &tasks);
        // Blocks that an earlier run left undecided go out first of all.
        let (block_sender, blocks) = start_blocks(config, &templates, &stop, &tasks);
        let (counters, roster) = (Arc::new(Counters::default()), Roster::new(now()));
        let ledger = start_ledger(config, &roster, &counters, &blocks);
        let (work_sender, work) = watch::channel(None);
        let sights = Sights {
            counters: Arc::clone(&counters),
            roster: Arc::clone(&roster),
            ledger: ledger.clone(),
            templates: templates.clone(),
            blocks: Arc::clone(&blocks),
            work: work.clone(),
        };
        // Before anything is waited for: it says what is waited for.
        let facts = facts(config, &stratum, Some(authority.to_string()));
        let front = start_api(config, facts, sights, &stop);
        check_network(config, &templates).await?;
        let relay = start_pool(config, &templates, work.clone(), &stop);
        let pool = relay.as_ref().map(|relay| relay.pool.clone());
        front.pool.send_replace(pool.clone());
        let essential = start_work(config, &templates, pool.as_ref(), work_sender, &stop, &tasks);
        let miners_stop = CancellationToken::new();
        let miners = TaskTracker::new();
        let (rules_sender, rules) = watch::channel(Arc::new(stratum_config(config)));
        let context = stratum::Context {
            work: first_work(work.clone(), &tasks).await.ok_or(DaemonError::Stopped)?,
            blocks: block_sink(block_sender.clone()),
            shares: pool.as_ref().map(|pool| pool.shares.clone()),
            counters: Arc::clone(&counters),
            config: rules,
            shutdown: miners_stop.clone(),
        };
        let (limits_sender, limits) = watch::channel(limits(config));
        let hall = listener::Hall { limits, context, roster: Arc::clone(&roster), identity };
        listener::spawn(sockets, hall, &miners)
            .map_err(|error| DaemonError::Listen { addr: config.stratum.listen[0], error })?;
        let stop = abort.disarm();
        Ok(Self {
            stratum,
            counters,
            authority,
            front,
            roster,
            rules: rules_sender,
            limits: limits_sender,
            pool,
            blocks,
            ledger,
            templates,
            work,
            block_sender,
            relay,
            essential,
            miners_stop,
            miners,
            stop,
            tasks,
        })
    }

    /// Lets miners go, gets found blocks and shares out, then ends.
    pub async fn stop(self) {
        info!("stopping: miners are let go, found blocks and shares go out first");
        self.miners_stop.cancel();
        self.miners.close();
        if tokio::time::timeout(DRAIN_MINERS, self.miners.wait()).await.is_err() {
            warn!("some miners do not read: their connections are cut");
        }
        let relayed = async {
            if let Some(relay) = self.relay {
                relay.stop.cancel();
                // The relay accounts for every share before it ends, lost ones included.
                let _ = tokio::time::timeout(DRAIN_SHARES, relay.task).await;
            }
        };
        let (drained, ()) = tokio::join!(self.block_sender.drain(DRAIN_BLOCKS), relayed);
        if !drained {
            warn!(
                "a found block has no answer from a node yet: it is on disk and goes out at the next start"
            );
        }
        // Everything has been counted by now.
        self.ledger.stop().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TASKS, self.tasks.wait()).await.is_err() {
            debug!("some tasks did not end in time");
        }
        let view = self.counters.view();
        if let Some(pool) = &self.pool {
            tell_shares(&pool.stats.view(), view.relay_dropped);
        }
        info!(
            accepted = view.accepted,
            rejected = view.rejected_total(),
            blocks = view.blocks,
            "stopped"
        );
    }

    fn reporter(&self) -> Reporter {
        Reporter {
            counters: Arc::clone(&self.counters),
            work: self.work.clone(),
            pool: self.pool.clone(),
        }
    }
}

/// Starts what makes work, and what asks nodes about it. The answer is cancelled when it ends.
fn start_work(
    config: &Config,
    templates: &Templates,
    pool: Option<&datum::Pool>,
    sender: watch::Sender<Option<Arc<Work>>>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> CancellationToken {
    let (verdict_sender, verdicts) = mpsc::channel(VERDICTS_MAX);
    let inputs = WorkInputs {
        templates: templates.templates.clone(),
        payouts: pool.map(|pool| pool.payout.clone()),
        pool_health: pool.map(|pool| pool.health.clone()),
        verdicts,
    };
    let assembler = assembler_config(config, templates.network());
    let work = sender.subscribe();
    let run = crate::work::task::run(assembler, inputs, sender, stop.clone());
    if config.template.propose {
        tasks.spawn(propose(templates.clone(), work, verdict_sender));
    }
    spawn_essential(run, tasks)
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

/// Every share that a miner saw accepted is in one of these.
fn tell_shares(stats: &datum::PoolStatsView, dropped: u64) {
    info!(
        dropped,
        received = stats.received,
        pool_accepted = stats.accepted,
        pool_rejected = stats.rejected_total(),
        lost = stats.lost_total(),
        replayed = stats.replayed,
        "shares accounted for"
    );
}

/// The pool's task.
struct Relay {
    pool: datum::Pool,
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// Waits until a node says that it is on a chain of the payout address; refuses an address that
/// is for the chain of none.
async fn check_network(config: &Config, templates: &Templates) -> Result<(), DaemonError> {
    let mut status = templates.status.clone();
    loop {
        if templates.network().is_some() {
            return Ok(());
        }
        let misfit = |node: &template::NodeStatus| {
            node.network.filter(|chain| !config.mining.address.is_valid_for_network(*chain))
        };
        let misfits: Option<Vec<_>> = status
            .borrow_and_update()
            .iter()
            .map(|node| Some((misfit(node)?, node.name.to_string())))
            .collect();
        if let Some((network, node)) = misfits.and_then(|all| all.into_iter().next()) {
            let address = config.mining.address_text.clone();
            return Err(DaemonError::WrongNetwork { address, network, node });
        }
        status.changed().await.map_err(|_| DaemonError::Stopped)?;
    }
}

/// The first work there is, and all that follows.
async fn first_work(
    mut work: watch::Receiver<Option<Arc<Work>>>,
    tasks: &TaskTracker,
) -> Option<watch::Receiver<Arc<Work>>> {
    let first = work.wait_for(Option::is_some).await.ok()?.clone()?;
    let (sender, receiver) = watch::channel(first);
    tasks.spawn(async move {
        while work.changed().await.is_ok() {
            let newest = work.borrow_and_update().clone();
            newest.map(|newest| sender.send_replace(newest));
        }
    });
    Some(receiver)
}

fn limits(config: &Config) -> listener::Limits {
    listener::Limits {
        connections: files::room_for(config.stratum.max_connections),
        connections_per_ip: config.stratum.max_connections_per_ip,
    }
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

fn is_without_ipv6(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT)
        || error.kind() == std::io::ErrorKind::AddrNotAvailable
}

fn start_blocks(
    config: &Config,
    templates: &Templates,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> (BlockSender, Arc<BlockStats>) {
    let notify = templates.notify.clone();
    let nodes = config.nodes.iter().map(|node| BlockNode {
        name: node.name.as_str().into(),
        rpc_url: node.rpc_url.clone(),
        auth: node_config(node).auth,
    });
    let config = BlocksConfig {
        data_dir: config.data_dir.clone(),
        nodes: nodes.collect(),
        on_accepted: Arc::new(move |hash| notify.assume_tip(hash)),
    };
    blocks::spawn(config, stop.clone(), tasks)
}

/// Starts the relay; none when no pool is configured.
fn start_pool(
    config: &Config,
    templates: &Templates,
    work: watch::Receiver<Option<Arc<Work>>>,
    stop: &CancellationToken,
) -> Option<Relay> {
    if config.pools.is_empty() {
        return None;
    }
    let notify = templates.notify.clone();
    let stop = stop.child_token();
    let inputs = datum::Inputs {
        templates: templates.templates.clone(),
        work,
        new_block: Arc::new(move || notify.notify()),
        shutdown: stop.clone(),
    };
    let (pool, task) = datum::spawn(datum_config(config), inputs);
    Some(Relay { pool, task, stop })
}

fn block_sink(sender: BlockSender) -> stratum::BlockSink {
    Arc::new(move |block: Box<FoundBlock>| sender.submit(block))
}

#[expect(clippy::disallowed_methods, reason = "time enters here")]
fn now() -> Instant {
    Instant::now()
}

/// Proposals are made one at a time.
const VERDICTS_MAX: usize = 4;
/// Miners are let go at once; only those that do not read take longer.
const DRAIN_MINERS: Duration = Duration::from_secs(2);
/// Service managers kill after 10 s (Docker) or more.
const DRAIN_BLOCKS: Duration = Duration::from_secs(8);
const DRAIN_SHARES: Duration = Duration::from_secs(4);
const DRAIN_TASKS: Duration = Duration::from_secs(2);
