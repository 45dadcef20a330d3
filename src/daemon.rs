//! Wires everything together. Only this module knows all the others.

mod api;
mod apply;
mod authority;
mod check;
mod files;
mod history;
mod identity;
mod limits;
mod parts;
mod propose;
mod report;
mod setup;
mod signals;
mod systemd;
mod threads;
mod tls;
mod tries;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bitcoin::Network;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

pub(crate) use self::api::ApiShared;
pub use self::check::{check, parse_hashrate};
use self::{
    api::{ApiInputs, facts, start_api},
    apply::{LiveParts, Views},
    history::{note_tips, start_ledger},
    parts::{Relay, listen_all, start_blocks, start_pool, start_work},
    report::{Reporter, report},
    setup::set_up,
    signals::{Signals, Wanted},
    systemd::Systemd,
    threads::MinerThreads,
};
use crate::{
    blocks::{BlockSender, BlockStats},
    books::{Counters, Roster},
    clock::now,
    config::{Config, Raw, SettingsFile, SettingsTrial},
    datum,
    ledger::Ledger,
    listener,
    logging::Logging,
    stratum,
    sv2::noise::{AuthorityPublicKey, Identity},
    template::{self, Templates, WrongNetwork},
    work::{FoundBlock, Work},
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
        "mining.address {address} does not belong to the network \"{network}\" that node {node} is \
         on: set an address of that network"
    )]
    WrongNetwork { address: String, network: Network, node: String },
    #[error("cannot listen on {addr} (stratum.listen): {error}. Is another gateway running?")]
    Listen { addr: SocketAddr, error: std::io::Error },
    #[error("cannot start threads for miners: {0}. Allow this process more threads")]
    Threads(std::io::Error),
    #[error("cannot watch for signals: {0}")]
    Signals(std::io::Error),
    #[error(transparent)]
    Authority(#[from] authority::AuthorityError),
    #[error("stopped before there was any work")]
    Stopped,
    #[error(
        "an internal task crashed; shutting down, to be restarted. This is a bug: please report the \
         lines above"
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
    /// The key by which Stratum V2 miners may recognise this gateway.
    pub authority: AuthorityPublicKey,
    /// The dashboard, and what tells it of changes.
    pub(crate) front: ApiShared,
    /// Who mines here.
    pub(crate) roster: Arc<Roster>,
    /// None while no pool is configured.
    pub(crate) pool: watch::Receiver<Option<datum::Pool>>,
    pub(crate) blocks: Arc<BlockStats>,
    /// What has happened, also before this start.
    pub(crate) ledger: Ledger,
    pub(crate) templates: Templates,
    pub(crate) work: watch::Receiver<Option<Arc<Work>>>,
    block_sender: BlockSender,
    /// The configuration's owner: the parts follow it for as long as it exists.
    _settings: SettingsFile,
    relay: Relay,
    /// Cancelled when an essential task ends.
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
    let settings = SettingsFile::new(&config);
    let started = {
        let starting = Gateway::start_with(&settings, Some(logging));
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
            // Only a bug ends one of them before shutdown.
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

async fn reload(settings: &SettingsFile) {
    systemd::reloading();
    if let Err(problem) = settings.reload().await {
        error!("cannot reload the configuration, so the old one stays in effect: {problem}");
    }
    systemd::reloaded();
}

impl Gateway {
    /// Starts everything, and returns when the first miners are admitted.
    ///
    /// The future may be dropped: everything started so far then ends.
    pub async fn start(config: &Config) -> Result<Self, DaemonError> {
        Self::start_with(&SettingsFile::new(config), None).await
    }

    async fn start_with(
        settings: &SettingsFile,
        logging: Option<Arc<Logging>>,
    ) -> Result<Self, DaemonError> {
        let stop = CancellationToken::new();
        let abort = stop.clone().drop_guard();
        files::raise_limit();
        let tasks = TaskTracker::new();
        let config = &Arc::clone(&settings.configs().borrow());
        let views = Arc::new(Views::new(config));
        let (authority, identity) = identity::spawn(config, &stop, &tasks)?;
        let (tls, tls_facts) = tls::spawn(settings.configs(), &stop, &tasks);
        let sockets = listen_all(config, &views, &stop, &tasks)?;
        let stratum: Vec<_> = sockets.iter().map(listener::BoundListener::addr).collect();
        let templates = template::spawn(config.template.clone(), &stop, &tasks);
        settings.try_with(trial(templates.clone()));
        // Blocks that an earlier run left undecided are submitted before anything else.
        let (block_sender, blocks) = start_blocks(config, &templates, &stop, &tasks);
        let (counters, roster) = (Arc::new(Counters::default()), Roster::new(now()));
        let ledger = start_ledger(config, &roster, &counters, &blocks);
        note_tips(&templates, &counters, &stop, &tasks);
        let (work_sender, work) = watch::channel(None);
        let sights = ApiInputs {
            counters: Arc::clone(&counters),
            roster: Arc::clone(&roster),
            ledger: ledger.clone(),
            templates: templates.clone(),
            blocks: Arc::clone(&blocks),
            work: work.clone(),
            tls: tls_facts,
        };
        // Before waiting for anything, since it shows what is being waited for.
        let facts = facts(config, &stratum, &authority);
        let front = start_api(config, facts, sights.clone(), settings.clone(), &stop);
        let mut parts = LiveParts::new(settings, logging, &views, sights, &block_sender, &front);
        set_up(&mut parts, settings, &front, &stop, &tasks).await?;
        let relay = start_pool(&views, &templates, work.clone(), &stop);
        parts.pool = Some(relay.pool.clone());
        parts.apply();
        let making = start_work(&views, &templates, &relay.pool, work_sender, &stop, &tasks);
        let (miners_stop, miners) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(stop.clone().run_until_cancelled_owned(parts.follow()));
        let context = stratum::Context {
            work: making.first.await.map_err(|_| DaemonError::Stopped)?,
            blocks: block_sink(block_sender.clone()),
            shares: Some(relay.pool.shares.clone()),
            counters: Arc::clone(&counters),
            config: views.rules.subscribe(),
            shutdown: miners_stop.clone(),
        };
        let listener_config = listener_config(&views, context, &roster, identity, tls);
        let threads = serve_miners(sockets, listener_config, &miners, config)?;
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
            essential: making.ended,
            miners_stop,
            miners,
            _threads: threads,
            stop,
            tasks,
        })
    }

    /// Disconnects miners, sends found blocks and shares out, then ends.
    pub async fn stop(self) {
        info!("stopping: miners are disconnected, found blocks and shares are sent out first");
        self.miners_stop.cancel();
        self.miners.close();
        if tokio::time::timeout(DRAIN_MINERS, self.miners.wait()).await.is_err() {
            warn!("some miners do not read their connection: it is cut");
        }
        let relayed = async {
            self.relay.stop.cancel();
            // The relay accounts for every share before it ends, lost ones included.
            let _ = tokio::time::timeout(DRAIN_SHARES, self.relay.task).await;
        };
        let (drained, ()) = tokio::join!(self.block_sender.drain(DRAIN_BLOCKS), relayed);
        if !drained {
            // They log where it is kept themselves.
            warn!("no node has answered to a found block yet");
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
            log_shares(&stats, view.relay_dropped);
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
    sockets: Vec<listener::BoundListener>,
    listener_config: listener::ListenerConfig,
    miners: &TaskTracker,
    config: &Config,
) -> Result<MinerThreads, DaemonError> {
    let counters = Arc::clone(&listener_config.context.counters);
    let threads = MinerThreads::start(counters).map_err(DaemonError::Threads)?;
    let inside = threads.enter();
    listener::spawn(sockets, listener_config, miners)
        .map_err(|error| DaemonError::Listen { addr: config.stratum.listen[0], error })?;
    drop(inside);
    Ok(threads)
}

/// Every share that a miner saw accepted is in one of these.
fn log_shares(stats: &datum::PoolStatsView, dropped: u64) {
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

/// What miners connect to.
fn listener_config(
    views: &Views,
    context: stratum::Context,
    roster: &Arc<Roster>,
    identity: watch::Receiver<Arc<Identity>>,
    tls: watch::Receiver<listener::TlsOffer>,
) -> listener::ListenerConfig {
    listener::ListenerConfig {
        limits: views.limits.subscribe(),
        trusted_proxies: views.trusted_proxies.subscribe(),
        tls,
        context,
        roster: Arc::clone(roster),
        identity,
    }
}

/// What only the running gateway can say about new settings.
fn trial(nodes: Templates) -> SettingsTrial {
    Box::new(move |new, running| try_settings(&nodes, new, running))
}

fn try_settings(nodes: &Templates, new: &Config, running: &Raw) -> Result<(), Vec<String>> {
    if new.written.mining.address != running.mining.address
        && let Err(WrongNetwork { node, network }) = nodes.try_config(&new.template)
    {
        return Err(vec![format!(
            "mining.address does not belong to the network \"{network}\" that node {node} is on: \
             set an address of that network, start the node on the other network first, or change \
             [[node]] to one of the other network together with the address"
        )]);
    }
    if new.written.stratum.tls != running.stratum.tls {
        tls::try_files(new).map_err(|error| vec![error.to_string()])?;
    }
    Ok(())
}

fn block_sink(sender: BlockSender) -> stratum::BlockSink {
    Arc::new(move |block: Box<FoundBlock>| sender.submit(block))
}

/// Miners are disconnected at once; only those that do not read take longer.
const DRAIN_MINERS: Duration = Duration::from_secs(2);
/// Service managers kill after 10 s (Docker) or more.
const DRAIN_BLOCKS: Duration = Duration::from_secs(8);
const DRAIN_SHARES: Duration = Duration::from_secs(4);
const DRAIN_TASKS: Duration = Duration::from_secs(2);
