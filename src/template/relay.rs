//! Runs the sources and passes on what the chosen one says.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;
use tokio::{
    sync::{Notify, watch},
    time::interval,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{error, info};

use super::{
    Bitcoind, NodeConfig, NodeState, NodeStatus, NotifyHandle, Outlet, TemplateConfig,
    TemplateSource,
    select::{Candidate, Chooser},
};
use crate::work::Template;

/// From many sources to one stream.
pub(super) struct Relay {
    config: watch::Receiver<TemplateConfig>,
    /// For sources that start later.
    refresh: watch::Sender<Duration>,
    notify: NotifyHandle,
    token: CancellationToken,
    tracker: TaskTracker,
    changed: Arc<Notify>,
    /// In order of preference.
    sources: Vec<Source>,
    chooser: Chooser,
    active: Option<usize>,
    /// The name of the source whose templates were passed on last.
    active_name: Option<Arc<str>>,
    /// The chain of the first node that said one; all others must be on it too.
    network: Option<Network>,
    templates: watch::Sender<Option<Arc<Template>>>,
    status: watch::Sender<Vec<NodeStatus>>,
}

/// A node that runs, until this is dropped.
struct Source {
    node: NodeConfig,
    outlet: Outlet,
    _running: DropGuard,
}

impl Relay {
    pub(super) fn new(
        config: watch::Receiver<TemplateConfig>,
        notify: NotifyHandle,
        token: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let refresh = config.borrow().refresh;
        let mut relay = Self {
            config,
            refresh: watch::Sender::new(refresh),
            notify,
            token,
            tracker,
            changed: Arc::new(Notify::new()),
            sources: Vec::new(),
            chooser: Chooser::default(),
            active: None,
            active_name: None,
            network: None,
            templates: watch::Sender::new(None),
            status: watch::Sender::new(Vec::new()),
        };
        relay.configure();
        relay.status.send_replace(relay.statuses());
        relay
    }

    pub(super) fn subscribe(
        &self,
    ) -> (watch::Receiver<Option<Arc<Template>>>, watch::Receiver<Vec<NodeStatus>>) {
        (self.templates.subscribe(), self.status.subscribe())
    }

    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        let changed = Arc::clone(&self.changed);
        loop {
            tokio::select! {
                () = changed.notified() => {}
                Ok(()) = self.config.changed() => self.reconfigure(),
                _ = tick.tick() => {}
            }
            #[expect(clippy::disallowed_methods, reason = "a task may read the clock")]
            self.step(Instant::now());
        }
    }

    fn reconfigure(&mut self) {
        let names = |sources: &[Source]| -> Vec<Arc<str>> {
            sources.iter().map(|source| Arc::clone(&source.node.name)).collect()
        };
        let before = names(&self.sources);
        self.configure();
        let after = names(&self.sources);
        if before != after {
            info!(?before, ?after, "the nodes that give templates have changed");
        }
    }

    /// Starts and ends sources, so that they are those of the configuration, in its order.
    fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        self.refresh.send_if_modified(|refresh| {
            let is_new = *refresh != config.refresh;
            *refresh = config.refresh;
            is_new
        });
        let mut old: Vec<Option<Source>> = self.sources.drain(..).map(Some).collect();
        let mut origins = Vec::new();
        for node in config.sources() {
            let is_it = |old: &Option<Source>| old.as_ref().is_some_and(|it| it.node == *node);
            let origin = old.iter().position(is_it);
            let kept = origin.and_then(|at| old[at].take());
            let source = kept.unwrap_or_else(|| self.start(node));
            self.sources.push(source);
            origins.push(origin);
        }
        self.chooser.rearrange(&origins);
        let moved = |active| origins.iter().position(|origin| *origin == Some(active));
        self.active = self.active.and_then(moved);
    }

    fn start(&self, node: &NodeConfig) -> Source {
        let outlet = Outlet::new(Arc::clone(&node.name), Arc::clone(&self.changed));
        let source = Box::new(Bitcoind::new(node.clone(), self.refresh.subscribe()));
        let run = source.run(outlet.clone(), self.notify.subscribe());
        let token = self.token.child_token();
        let running = token.clone().drop_guard();
        self.tracker.spawn(async move { token.run_until_cancelled(run).await });
        Source { node: node.clone(), outlet, _running: running }
    }

    fn statuses(&self) -> Vec<NodeStatus> {
        self.sources.iter().map(|source| source.outlet.status()).collect()
    }

    fn step(&mut self, now: Instant) {
        let mut status = self.statuses();
        self.check_chains(&mut status);
        let candidates: Vec<Candidate> = status
            .iter()
            .zip(&self.sources)
            .map(|(status, source)| {
                let template = source.outlet.templates.borrow();
                let height = template.as_ref().map(|template| template.height);
                let is_ready = status.state == NodeState::Ready && height.is_some();
                Candidate { is_ready, height: height.unwrap_or(0) }
            })
            .collect();
        self.active = self.chooser.choose(&candidates, now);
        if let Some(active) = self.active {
            self.say_change(active);
            status[active].is_active = true;
            self.pass_on(active);
        }
        self.status.send_if_modified(|old| {
            let is_new = *old != status;
            *old = status;
            is_new
        });
    }

    fn pass_on(&self, active: usize) {
        let Some(template) = self.sources[active].outlet.templates.borrow().clone() else {
            return;
        };
        self.templates.send_if_modified(|old| {
            let is_new = old.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &template));
            if is_new {
                *old = Some(template);
            }
            is_new
        });
    }

    /// Marks nodes on another chain than the first's.
    fn check_chains(&mut self, status: &mut [NodeStatus]) {
        for node in status {
            let Some(network) = node.network else { continue };
            let expected = *self.network.get_or_insert(network);
            if network != expected {
                let was_known = self
                    .status
                    .borrow()
                    .iter()
                    .any(|old| old.name == node.name && old.state == NodeState::WrongChain);
                if !was_known {
                    error!(
                        node = %node.name, %network, %expected,
                        "this node is on another chain than the one mined on; it is not used"
                    );
                }
                node.state = NodeState::WrongChain;
            }
        }
    }

    fn say_change(&mut self, active: usize) {
        let to = &self.sources[active].node.name;
        if self.active_name.as_ref() == Some(to) {
            return;
        }
        let from = self.active_name.replace(Arc::clone(to));
        if let Some(from) = from {
            info!(%from, %to, "templates now come from another node");
        }
    }
}

/// Failing over and taking back are noticed this soon even if no source says anything.
const TICK: Duration = Duration::from_millis(500);
