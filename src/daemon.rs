//! Wires everything together. Only this module knows everyone.

mod api;
mod authority;
mod check;
mod convert;
mod files;
mod history;
mod identity;
mod limits;
mod live;
mod parts;
mod propose;
mod report;
mod settings;
mod setup;
mod signals;
mod systemd;
mod threads;
mod tls;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

pub use self::{
    api::Front,
    check::{check, parse_hashrate},
};
use self::{
    api::{Sights, facts, start_api},
    convert::{stratum_config, template_config},
    history::{note_tips, start_ledger},
    live::Live,
    parts::{Relay, block_nodes, limits, listen_all, start_blocks, start_pool, start_work},
    report::{Reporter, report},
    settings::FileSettings,
    setup::{Shown, set_up},
    signals::{Signals, Wanted},
    systemd::Systemd,
    threads::MinerThreads,
};
use crate::{
    blocks::{BlockSender, BlockStats},
    books::{Counters, Roster},
    config::Config,
    datum,
    ledger::Ledger,
    listener,
    logging::Logging,
    stratum,
    sv2::noise::{AuthorityPublicKey, Identity},
    template::{self, Templates},
    work::{Cidr, FoundBlock, Work},
};

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(
        "mining.address is missing: set it to your bitcoin address in the configuration; or set \
         api.listen, and set it on the dashboard"
    )]
    NoAddress,
    #[error(
        "mining.address {address} is not of the network \"{network}\" that node {node} is on: set an \
         address of that network"
    )]
    WrongNetwork { address: String, network: Network, node: String },
    #[error("cannot listen on {addr} (stratum.listen): {error}. Is another gateway running?")]
    Listen { addr: SocketAddr, error: std::io::Error },
    #[error("cannot start threads for miners: {0}. Allow this process more of them")]
    Threads(std::io::Error),
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
        matches!(self, Self::NoAddress | Self::WrongNetwork { .. } | Self::Authority(_))
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
    /// None while no pool is configured.
    pub pool: watch::Receiver<Option<datum::Pool>>,
    pub blocks: Arc<BlockStats>,
    /// What happened, also before this start.
    pub ledger: Ledger,
    pub templates: Templates,
    pub work: watch::Receiver<Option<Arc<Work>>>,
    block_sender: BlockSender,
    /// The configuration's owner: parts follow it for as long as it is there.
    _settings: FileSettings,
    relay: Relay,
    /// Cancelled when a task ends that nothing works without.
    essential: CancellationToken,
    /// Ends what makes shares and blocks.
    miners_stop: CancellationToken,
    miners: TaskTracker,
    _threads: MinerThreads,
    /// Ends everything else, after that.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Runs until a signal ends it.
pub async fn run(config: Config, logging: Arc<Logging>) -> Result<(), DaemonError> {
    let mut signals = Signals::new().map_err(DaemonError::Signals)?;
    info!(version = env!("CARGO_PKG_VERSION"), "gatewayd starts");
    let systemd = Systemd::new();
    let settings = FileSettings::new(&config);
    tokio::spawn(follow_level(settings.configs(), logging));
    let started = {
        let starting = Gateway::start_with(&settings);
        tokio::pin!(starting);
        loop {
            tokio::select! {
                started = &mut starting => break started?,
                signal = signals.next() => match signal {
                    Wanted::Stop => {
                        info!("stopping before there was any work");
                        return Ok(());
                    }
                    Wanted::Reload => reload(&settings).await,
                    Wanted::Notify => {}
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
            Wanted::Reload => reload(&settings).await,
        }
    }
    minutes.abort();
    systemd.stopping();
    started.stop().await;
    if died { Err(DaemonError::Died) } else { Ok(()) }
}

async fn reload(settings: &FileSettings) {
    systemd::reloading();
    settings.reload_and_tell().await;
    systemd::reloaded();
}

/// Logs what the configuration asks for, for as long as there is one.
async fn follow_level(mut configs: watch::Receiver<Arc<Config>>, logging: Arc<Logging>) {
    while configs.changed().await.is_ok() {
        let level = configs.borrow_and_update().log.level.clone();
        if let Err(error) = logging.set_level(&level) {
            warn!("log.level stays as it was: {error}");
        }
    }
}

impl Gateway {
    /// Starts everything, and returns when the first miners are welcome.
    ///
    /// The future may be dropped: what runs by then ends with it.
    pub async fn start(config: &Config) -> Result<Self, DaemonError> {
        Self::start_with(&FileSettings::new(config)).await
    }

    async fn start_with(settings: &FileSettings) -> Result<Self, DaemonError> {
        let stop = CancellationToken::new();
        let abort = stop.clone().drop_guard();
        files::raise_limit();
        let tasks = TaskTracker::new();
        let mut live = Live::new(settings.configs(), &stop, &tasks);
        let config = &live.now();
        let (authority, identity) = identity::spawn(config, &stop, &tasks)?;
        let (tls, tls_facts) = tls::spawn(settings.configs(), &stop, &tasks);
        let sockets = listen_all(&live, &stop, &tasks)?;
        let stratum: Vec<_> = sockets.iter().map(listener::Bound::addr).collect();
        let templates = template::spawn(template_config(config), &stop, &tasks);
        settings.ask(templates.clone());
        // Blocks that an earlier run left undecided go out first of all.
        let (block_sender, blocks) = start_blocks(config, &templates, &stop, &tasks);
        let (counters, roster) = (Arc::new(Counters::default()), Roster::new(now()));
        let ledger = start_ledger(config, &roster, &counters, &blocks);
        note_tips(&templates, &counters, &stop, &tasks);
        let (work_sender, work) = watch::channel(None);
        let sights = Sights {
            counters: Arc::clone(&counters),
            roster: Arc::clone(&roster),
            ledger: ledger.clone(),
            templates: templates.clone(),
            blocks: Arc::clone(&blocks),
            work: work.clone(),
            tls: tls_facts,
        };
        // Before anything is waited for: it says what is waited for.
        let facts = facts(config, &stratum, Some(authority.to_string()));
        let front = start_api(config, facts, sights, settings.clone(), &stop);
        follow_early(&live, &templates, &block_sender, &ledger);
        let shown = Shown::new(&front, &stratum, authority, settings);
        set_up(&mut live, &templates, &shown, &stop, &tasks).await?;
        let relay = start_pool(&live, &templates, work.clone(), &stop)?;
        show_pool(&live, &front, &relay.pool);
        // Before the work is told: it brings miners their new rules.
        let rules = live.view(|config| Some(stratum_config(config)));
        let essential = start_work(&live, &templates, &relay.pool, work_sender, &stop, &tasks)?;
        let (miners_stop, miners) = (CancellationToken::new(), TaskTracker::new());
        let context = stratum::Context {
            work: first_work(work.clone(), &tasks).await.ok_or(DaemonError::Stopped)?,
            blocks: block_sink(block_sender.clone()),
            shares: Some(relay.pool.shares.clone()),
            counters: Arc::clone(&counters),
            config: rules.ok_or(DaemonError::NoAddress)?,
            shutdown: miners_stop.clone(),
        };
        let hall = hall(&live, context, &roster, identity, tls);
        let threads = serve_miners(sockets, hall, &miners, config)?;
        let stop = abort.disarm();
        Ok(Self {
            stratum,
            counters,
            authority,
            pool: front.pool.subscribe(),
            front,
            roster,
            blocks,
            ledger,
            templates,
            work,
            block_sender,
            _settings: settings.clone(),
            relay,
            essential,
            miners_stop,
            miners,
            _threads: threads,
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
            self.relay.stop.cancel();
            // The relay accounts for every share before it ends, lost ones included.
            let _ = tokio::time::timeout(DRAIN_SHARES, self.relay.task).await;
        };
        let (drained, ()) = tokio::join!(self.block_sender.drain(DRAIN_BLOCKS), relayed);
        if !drained {
            // Where it is then, they say themselves.
            warn!("a found block has no answer from a node yet");
        }
        // Everything has been counted by now.
        self.ledger.stop().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TASKS, self.tasks.wait()).await.is_err() {
            debug!("some tasks did not end in time");
        }
        let view = self.counters.view();
        let stats = self.relay.pool.stats.view();
        if self.pool.borrow().is_some() || stats.received > 0 {
            tell_shares(&stats, view.relay_dropped);
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
            roster: Arc::clone(&self.roster),
            work: self.work.clone(),
            nodes: self.templates.status.clone(),
            pool: self.pool.clone(),
        }
    }
}

/// Lets miners in, on threads of their own.
fn serve_miners(
    sockets: Vec<listener::Bound>,
    hall: listener::Hall,
    miners: &TaskTracker,
    config: &Config,
) -> Result<MinerThreads, DaemonError> {
    let counters = Arc::clone(&hall.context.counters);
    let threads = MinerThreads::start(counters).map_err(DaemonError::Threads)?;
    let inside = threads.enter();
    listener::spawn(sockets, hall, miners)
        .map_err(|error| DaemonError::Listen { addr: config.stratum.listen[0], error })?;
    drop(inside);
    Ok(threads)
}

/// Every share that a miner saw accepted is in one of these.
fn tell_shares(stats: &datum::PoolStatsView, dropped: u64) {
    info!(
        dropped,
        received = stats.received,
        pool_accepted = stats.accepted,
        pool_rejected = stats.rejected_total(),
        unanswered = stats.unanswered,
        lost = stats.lost_total(),
        replayed = stats.replayed,
        "shares accounted for"
    );
}

/// What goes by the configuration even before there is anybody to pay.
fn follow_early(live: &Live, templates: &Templates, blocks: &BlockSender, ledger: &Ledger) {
    let (templates, blocks, ledger) = (templates.clone(), blocks.clone(), ledger.clone());
    let mut nodes = block_nodes(&live.now());
    live.follow(move |config| {
        templates.set_config(template_config(config));
        ledger.set_keep_history(config.keep_history);
        // Work of a node that was left goes on for a while, and its blocks are for that node too.
        let new = block_nodes(config);
        let left = nodes.iter().filter(|old| !new.iter().any(|new| new.rpc_url == old.rpc_url));
        let left: Vec<_> = left.take(LEFT_NODES_MAX).cloned().collect();
        nodes = new.into_iter().chain(left).collect();
        blocks.set_nodes(nodes.clone());
    });
}

/// The pool, for those who look: while one is configured.
fn show_pool(live: &Live, front: &Front, pool: &datum::Pool) {
    let of = |config: &Config, pool: &datum::Pool| {
        (!config.pools.is_empty()).then(|| datum::Pool::clone(pool))
    };
    let (shown, pool) = (front.pool.clone(), pool.clone());
    live.follow(move |config| {
        shown.send_replace(of(config, &pool));
    });
}

/// What miners find here, kept up.
fn hall(
    live: &Live,
    context: stratum::Context,
    roster: &Arc<Roster>,
    identity: watch::Receiver<Arc<Identity>>,
    tls: watch::Receiver<listener::Shown>,
) -> listener::Hall {
    limits::follow_rules(live, roster);
    let trusted_proxies = follow_proxies(live);
    listener::Hall {
        limits: follow_limits(live),
        trusted_proxies,
        tls,
        context,
        roster: Arc::clone(roster),
        identity,
    }
}

fn follow_limits(live: &Live) -> watch::Receiver<listener::Limits> {
    let (sender, receiver) = watch::channel(limits(&live.now()));
    let mut wanted = 0;
    live.follow(move |config| {
        // Said once, not at each change of something else.
        if std::mem::replace(&mut wanted, config.stratum.max_connections) != wanted {
            files::tell_room_for(wanted);
        }
        sender.send_replace(limits(config));
    });
    receiver
}

fn follow_proxies(live: &Live) -> watch::Receiver<Arc<[Cidr]>> {
    let (sender, receiver) = watch::channel(Arc::clone(&live.now().stratum.trusted_proxies));
    live.follow(move |config| {
        sender.send_replace(Arc::clone(&config.stratum.trusted_proxies));
    });
    receiver
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

fn block_sink(sender: BlockSender) -> stratum::BlockSink {
    Arc::new(move |block: Box<FoundBlock>| sender.submit(block))
}

#[expect(clippy::disallowed_methods, reason = "time enters here")]
fn now() -> Instant {
    Instant::now()
}

/// Miners are let go at once; only those that do not read take longer.
const DRAIN_MINERS: Duration = Duration::from_secs(2);
/// Service managers kill after 10 s (Docker) or more.
const DRAIN_BLOCKS: Duration = Duration::from_secs(8);
/// Nodes that were left and still get found blocks.
const LEFT_NODES_MAX: usize = 8;
const DRAIN_SHARES: Duration = Duration::from_secs(4);
const DRAIN_TASKS: Duration = Duration::from_secs(2);
