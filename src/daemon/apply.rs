//! Applies changed settings while gatewayd runs: everything, in a fixed order.

use std::sync::Arc;

use bitcoin::Network;
use tokio::sync::watch;
use tracing::warn;

use super::{
    api::{ApiInputs, ApiShared},
    files, limits,
};
use crate::{
    blocks::BlockSender,
    books::Roster,
    config::{Config, SettingsFile},
    datum::{self, DatumConfig},
    ledger::Ledger,
    listener,
    logging::Logging,
    node::{NodeConfig, empty_blocks},
    stratum,
    template::Templates,
    work::{AssemblerConfig, Cidr, Work},
};

/// The running parts that settings are applied to. TLS and the API read the configuration
/// themselves.
pub(super) struct LiveParts {
    configs: watch::Receiver<Arc<Config>>,
    /// The nodes' network, which determines when the subsidy halves.
    networks: watch::Receiver<Option<Network>>,
    logging: Option<Arc<Logging>>,
    pub(super) templates: Templates,
    /// What miners get, once there is some.
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    ledger: Ledger,
    blocks: BlockSender,
    /// Where found blocks go now, including nodes that were removed.
    block_nodes: Vec<NodeConfig>,
    roster: Arc<Roster>,
    /// None: it is not started yet.
    pub(super) pool: Option<datum::Pool>,
    /// For the dashboard and the log: none while no pool is configured.
    shown_pool: watch::Sender<Option<datum::Pool>>,
    views: Arc<Views>,
    /// `stratum.max_connections` when the log last said how many connections there is room for.
    max_connections: usize,
}

/// Each part's own configuration.
pub(super) struct Views {
    pub(super) datum: watch::Sender<Arc<DatumConfig>>,
    /// None: there is nobody to pay yet.
    pub(super) work: watch::Sender<Option<Arc<AssemblerConfig>>>,
    pub(super) rules: watch::Sender<Arc<stratum::Config>>,
    /// The rules of each `[[stratum.port]]`.
    pub(super) ports: Vec<watch::Sender<Arc<stratum::Config>>>,
    pub(super) limits: watch::Sender<listener::ConnectionLimits>,
    pub(super) trusted_proxies: watch::Sender<Arc<[Cidr]>>,
}

impl Views {
    pub(super) fn new(config: &Config) -> Self {
        let ports = config.stratum.ports.iter();
        Self {
            datum: watch::Sender::new(Arc::new(config.datum.clone())),
            work: watch::Sender::new(config.work.clone().map(Arc::new)),
            rules: watch::Sender::new(Arc::new(config.stratum.rules.clone())),
            ports: ports.map(|it| watch::Sender::new(Arc::new(it.rules.clone()))).collect(),
            limits: watch::Sender::new(files::held(config.stratum.limits)),
            trusted_proxies: watch::Sender::new(Arc::clone(&config.stratum.trusted_proxies)),
        }
    }
}

impl LiveParts {
    /// Applies the current configuration.
    pub(super) fn new(
        settings: &SettingsFile,
        logging: Option<Arc<Logging>>,
        views: &Arc<Views>,
        sights: ApiInputs,
        blocks: &BlockSender,
        front: &ApiShared,
    ) -> Self {
        let ApiInputs { templates, work, ledger, roster, .. } = sights;
        let mut parts = Self {
            configs: settings.configs(),
            networks: templates.networks(),
            logging,
            templates,
            work,
            ledger,
            blocks: blocks.clone(),
            block_nodes: Vec::new(),
            roster,
            pool: None,
            shown_pool: front.pool.clone(),
            views: Arc::clone(views),
            max_connections: 0,
        };
        parts.apply();
        parts
    }

    /// Applies the current configuration.
    pub(super) fn apply(&mut self) {
        let config = Arc::clone(&self.configs.borrow_and_update());
        let network = *self.networks.borrow_and_update();
        let stratum = &config.stratum;
        self.set_level(&config.log.level);
        self.templates.set_config(config.template.clone());
        self.ledger.set_keep_history(config.ledger.keep_history);
        self.set_block_nodes(config.template.nodes.clone());
        self.views.datum.send_replace(Arc::new(config.datum.clone()));
        self.shown_pool.send_replace(self.pool.clone().filter(|_| !config.datum.pools.is_empty()));
        // Before the work, which makes sessions reread their rules.
        self.views.rules.send_replace(Arc::new(stratum.rules.clone()));
        for (view, port) in self.views.ports.iter().zip(&stratum.ports) {
            view.send_replace(Arc::new(port.rules.clone()));
        }
        self.views.work.send_replace(work(&config, network).map(Arc::new));
        limits::set_rules(&self.roster, &config);
        self.set_places(stratum.limits);
        self.views.trusted_proxies.send_replace(Arc::clone(&stratum.trusted_proxies));
    }

    /// Waits for the next change and applies it. None: there will be no more.
    pub(super) async fn next(&mut self) -> Option<()> {
        tokio::select! {
            changed = self.configs.changed() => changed.ok()?,
            // Settings still change when nobody reports the network any more.
            Ok(()) = self.networks.changed() => {}
        }
        self.apply();
        Some(())
    }

    pub(super) async fn follow(mut self) {
        while self.next().await.is_some() {}
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }

    fn set_level(&self, level: &str) {
        let set = self.logging.as_ref().map_or(Ok(()), |logging| logging.set_level(level));
        if let Err(error) = set {
            warn!("the new log.level cannot be used, so the old one stays: {error}");
        }
    }

    /// Work from a removed node goes on for a while, and its blocks are for that node too.
    fn set_block_nodes(&mut self, new: Vec<NodeConfig>) {
        let is_left = |old: &&NodeConfig| !new.iter().any(|new| new.rpc_url == old.rpc_url);
        let left = self.block_nodes.iter().filter(is_left).take(LEFT_NODES_MAX).cloned();
        let left: Vec<_> = left.collect();
        self.block_nodes = new.into_iter().chain(left).collect();
        self.blocks.set_nodes(self.block_nodes.clone());
    }

    fn set_places(&mut self, wanted: listener::ConnectionLimits) {
        // Logged once, not at each change of something else.
        if self.max_connections != wanted.connections {
            self.max_connections = wanted.connections;
            files::log_room_for(wanted.connections);
        }
        self.views.limits.send_replace(files::held(wanted));
    }
}

fn work(config: &Config, network: Option<Network>) -> Option<AssemblerConfig> {
    let halving_interval = network.and_then(empty_blocks);
    config.work.clone().map(|work| AssemblerConfig { halving_interval, ..work })
}

/// Removed nodes that still get found blocks.
const LEFT_NODES_MAX: usize = 8;
