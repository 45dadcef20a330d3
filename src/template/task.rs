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
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use super::{
    NodeConfig, NodeState, NodeStatus, ProposeError, TemplateConfig, TemplateSource,
    bitcoind::Bitcoind,
    rpc::propose,
    select::{Candidate, Chooser},
};
use crate::work::{Hash256, Template};

/// The running template side, as others see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    /// The latest work there is: a tip's as soon as the tip is known, then the node's template.
    pub templates: watch::Receiver<Option<Arc<Template>>>,
    /// One for each node that gives templates, in order of preference.
    pub status: watch::Receiver<Vec<NodeStatus>>,
    pub notify: NotifyHandle,
    nodes: Arc<[NodeConfig]>,
}

impl Templates {
    /// The chain that is mined on, once a node has said so.
    pub fn network(&self) -> Option<Network> {
        let status = self.status.borrow();
        let active = status.iter().find(|node| node.is_active);
        active.or_else(|| status.first()).and_then(|node| node.network)
    }

    /// Asks the active node whether it would take this block but for its work.
    pub async fn propose(&self, block_hex: &str) -> Result<(), ProposeError> {
        let active = self.status.borrow().iter().position(|node| node.is_active);
        let node = self.nodes.get(active.unwrap_or(0));
        let node = node.ok_or_else(|| ProposeError::Unanswered("no node is configured".into()))?;
        propose(node, block_hex).await
    }
}

/// Says that there may be a new tip: SIGUSR1, blocknotify, a pool's hint, an accepted block.
#[derive(Clone, Debug)]
pub struct NotifyHandle(Arc<watch::Sender<Option<Hash256>>>);

impl NotifyHandle {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Makes every source look for a new tip at once.
    pub fn notify(&self) {
        self.0.send_replace(None);
    }

    /// The same for a tip whose hash is known. The nodes are asked about it, not told.
    pub fn assume_tip(&self, hash: Hash256) {
        self.0.send_replace(Some(hash));
    }

    fn subscribe(&self) -> Notices {
        Notices(self.0.subscribe())
    }
}

/// Where a source hears what a [`NotifyHandle`] says.
#[derive(Debug)]
pub struct Notices(watch::Receiver<Option<Hash256>>);

impl Notices {
    /// Waits for a notice; gives the new tip's hash if it came with one.
    pub async fn next(&mut self) -> Option<Hash256> {
        if self.0.changed().await.is_err() {
            // Every handle is gone: no notice will ever come.
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}

/// What a source publishes through.
#[derive(Clone, Debug)]
pub struct Outlet {
    templates: watch::Sender<Option<Arc<Template>>>,
    status: watch::Sender<NodeStatus>,
    changed: Arc<Notify>,
}

impl Outlet {
    fn new(name: Arc<str>, changed: Arc<Notify>) -> Self {
        let status = watch::Sender::new(NodeStatus::new(name));
        Self { templates: watch::Sender::new(None), status, changed }
    }

    pub fn publish(&self, template: Arc<Template>) {
        self.templates.send_replace(Some(template));
        self.changed.notify_one();
    }

    /// What was said last.
    pub fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    pub fn update(&self, change: impl FnOnce(&mut NodeStatus)) {
        self.status.send_modify(change);
        self.changed.notify_one();
    }
}

/// Starts to ask the nodes for work, until `token` is cancelled.
pub fn spawn(
    config: TemplateConfig,
    token: &CancellationToken,
    tracker: &TaskTracker,
) -> Templates {
    let nodes = config.nodes.into_iter().filter(|node| !node.submit_only);
    let nodes: Arc<[_]> = nodes.collect();
    let notify = NotifyHandle::new();
    let changed = Arc::new(Notify::new());
    let mut sources = Vec::new();
    for node in nodes.iter() {
        let outlet = Outlet::new(Arc::clone(&node.name), Arc::clone(&changed));
        sources.push(outlet.clone());
        let source = Box::new(Bitcoind::new(node.clone(), config.refresh));
        let run = source.run(outlet, notify.subscribe());
        let token = token.clone();
        tracker.spawn(async move { token.run_until_cancelled(run).await });
    }
    let relay = Relay::new(sources);
    let (templates, status) = (relay.templates.subscribe(), relay.status.subscribe());
    let token = token.clone();
    tracker.spawn(async move { token.run_until_cancelled(relay.run(changed)).await });
    Templates { templates, status, notify, nodes }
}

/// From many sources to one stream.
struct Relay {
    sources: Vec<Outlet>,
    chooser: Chooser,
    active: Option<usize>,
    /// The chain of the first node that said one; all others must be on it too.
    network: Option<Network>,
    templates: watch::Sender<Option<Arc<Template>>>,
    status: watch::Sender<Vec<NodeStatus>>,
}

impl Relay {
    fn new(sources: Vec<Outlet>) -> Self {
        let status = sources.iter().map(|source| source.status.borrow().clone()).collect();
        Self {
            chooser: Chooser::new(sources.len()),
            active: None,
            network: None,
            templates: watch::Sender::new(None),
            status: watch::Sender::new(status),
            sources,
        }
    }

    async fn run(mut self, changed: Arc<Notify>) {
        let mut tick = interval(TICK);
        loop {
            tokio::select! {
                () = changed.notified() => {}
                _ = tick.tick() => {}
            }
            #[expect(clippy::disallowed_methods, reason = "a task may read the clock")]
            self.step(Instant::now());
        }
    }

    fn step(&mut self, now: Instant) {
        let mut status: Vec<NodeStatus> =
            self.sources.iter().map(|source| source.status.borrow().clone()).collect();
        self.check_chains(&mut status);
        let candidates: Vec<Candidate> = status
            .iter()
            .zip(&self.sources)
            .map(|(status, source)| {
                let height = source.templates.borrow().as_ref().map(|template| template.height);
                let is_ready = status.state == NodeState::Ready && height.is_some();
                Candidate { is_ready, height: height.unwrap_or(0) }
            })
            .collect();
        let active = self.chooser.choose(&candidates, now);
        if active != self.active {
            self.say_change(active);
            self.active = active;
        }
        if let Some(active) = active {
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
        let Some(template) = self.sources[active].templates.borrow().clone() else { return };
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

    fn say_change(&self, active: Option<usize>) {
        let name = |at: usize| Arc::clone(&self.sources[at].status.borrow().name);
        if let (Some(old), Some(new)) = (self.active, active) {
            info!(from = %name(old), to = %name(new), "templates now come from another node");
        }
    }
}

/// Failing over and taking back are noticed this soon even if no source says anything.
const TICK: Duration = Duration::from_millis(500);
