//! Runs the sources and passes on what the chosen one provides.

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
use tracing::{debug, error, info, warn};

use super::{
    Bitcoind, Blvm, NodeState, NodeStatus, NotifyHandle, SourceOutput, TemplateConfig,
    TemplateSource,
    chain::ChainChoice,
    probe::LATE_AFTER,
    proven_work::{ProvenWork, SourceClaim, Standing, doubt, unshown},
    select::{BEHIND_MAX, Candidate, Chooser, WorkPosition},
    submit_only::SubmitOnly,
};
use crate::{
    node::{AllowedRules, ChainWork, NodeConfig, NodeKind},
    work::{Hash256, Template, TemplateKind},
};

/// Merges many sources into one stream.
pub(super) struct SourceSupervisor {
    config: watch::Receiver<TemplateConfig>,
    /// For sources that start later.
    refresh: watch::Sender<Duration>,
    allowed: watch::Sender<AllowedRules>,
    notify: NotifyHandle,
    token: CancellationToken,
    tracker: TaskTracker,
    changed: Arc<Notify>,
    /// In order of preference.
    sources: Vec<RunningSource>,
    submit_only: Vec<RunningSource>,
    chooser: Chooser,
    proven: ProvenWork,
    active: Option<usize>,
    /// The name of the source whose templates were passed on last.
    active_name: Option<Arc<str>>,
    /// The preferred source, while another one with a better tip is used.
    led: Option<Arc<str>>,
    chain: ChainChoice,
    /// The chain that was mined last, kept while none is.
    last_chain: Option<Network>,
    network: watch::Sender<Option<Network>>,
    templates: watch::Sender<Option<Arc<Template>>>,
    status: watch::Sender<Vec<NodeStatus>>,
    submit_only_status: watch::Sender<Vec<NodeStatus>>,
    /// Whether a node that accepts blocks of any size is up.
    takes_all: watch::Sender<bool>,
}

/// Templates, the status of nodes that give them and of those that only get blocks, and the chain
/// being mined.
type Outputs = (
    watch::Receiver<Option<Arc<Template>>>,
    watch::Receiver<Vec<NodeStatus>>,
    watch::Receiver<Vec<NodeStatus>>,
    watch::Receiver<Option<Network>>,
);

/// A running source, until this is dropped.
struct RunningSource {
    node: NodeConfig,
    output: SourceOutput,
    /// Since when it has not shown the header that its work builds on, while others have.
    unshown_since: Option<Instant>,
    /// The last block of its chain whose position relative to the others is known.
    placed_at: Option<Hash256>,
    _running: DropGuard,
}

impl SourceSupervisor {
    pub(super) fn new(
        config: watch::Receiver<TemplateConfig>,
        notify: NotifyHandle,
        token: CancellationToken,
        tracker: TaskTracker,
    ) -> Self {
        let refresh = config.borrow().refresh;
        let allowed = Arc::clone(&config.borrow().allow_rules);
        let mut supervisor = Self {
            config,
            refresh: watch::Sender::new(refresh),
            allowed: watch::Sender::new(allowed),
            notify,
            token,
            tracker,
            changed: Arc::new(Notify::new()),
            sources: Vec::new(),
            submit_only: Vec::new(),
            chooser: Chooser::default(),
            proven: ProvenWork::default(),
            active: None,
            active_name: None,
            led: None,
            chain: ChainChoice::default(),
            last_chain: None,
            network: watch::Sender::new(None),
            templates: watch::Sender::new(None),
            status: watch::Sender::new(Vec::new()),
            submit_only_status: watch::Sender::new(Vec::new()),
            takes_all: watch::Sender::new(false),
        };
        supervisor.configure();
        supervisor.status.send_replace(statuses(&supervisor.sources));
        supervisor.submit_only_status.send_replace(statuses(&supervisor.submit_only));
        supervisor
    }

    pub(super) fn subscribe(&self) -> Outputs {
        (
            self.templates.subscribe(),
            self.status.subscribe(),
            self.submit_only_status.subscribe(),
            self.network.subscribe(),
        )
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
        let names = |sources: &[RunningSource]| -> Vec<Arc<str>> {
            sources.iter().map(|source| Arc::clone(&source.node.name)).collect()
        };
        let before = names(&self.sources);
        self.configure();
        let after = names(&self.sources);
        if before != after {
            info!(?before, ?after, "the nodes that give templates have changed");
        }
    }

    /// Starts and stops sources to match the configuration, in its order.
    fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        self.refresh.send_if_modified(|refresh| {
            let is_new = *refresh != config.refresh;
            *refresh = config.refresh;
            is_new
        });
        self.allowed.send_if_modified(|allowed| {
            let is_new = *allowed != config.allow_rules;
            allowed.clone_from(&config.allow_rules);
            is_new
        });
        let mut old: Vec<Option<RunningSource>> = self.sources.drain(..).map(Some).collect();
        let mut origins = Vec::new();
        for node in config.sources() {
            let is_it =
                |old: &Option<RunningSource>| old.as_ref().is_some_and(|it| it.node == *node);
            let origin = old.iter().position(is_it);
            let kept = origin.and_then(|at| old[at].take());
            let source = kept.unwrap_or_else(|| self.start(node));
            self.sources.push(source);
            origins.push(origin);
        }
        let mut old = std::mem::take(&mut self.submit_only);
        for node in config.nodes.iter().filter(|node| node.submit_only) {
            let kept = old.iter().position(|it| it.node == *node).map(|at| old.swap_remove(at));
            let source = kept.unwrap_or_else(|| self.start(node));
            self.submit_only.push(source);
        }
        self.chooser.rearrange(&origins);
        let moved = |active| origins.iter().position(|origin| *origin == Some(active));
        self.active = self.active.and_then(moved);
    }

    fn start(&self, node: &NodeConfig) -> RunningSource {
        let output = SourceOutput::new(Arc::clone(&node.name), Arc::clone(&self.changed));
        let (refresh, allowed) = (self.refresh.subscribe(), self.allowed.subscribe());
        let source: Box<dyn TemplateSource> = match &node.kind {
            _ if node.submit_only => Box::new(SubmitOnly::new(node.clone())),
            NodeKind::Bitcoind => Box::new(Bitcoind::new(node.clone(), refresh, allowed)),
            NodeKind::Blvm(blvm) => {
                let any_block = self.takes_all.subscribe();
                Box::new(Blvm::new(node.clone(), blvm.clone(), (refresh, allowed), any_block))
            }
        };
        let run = source.run(output.clone(), self.notify.subscribe());
        let token = self.token.child_token();
        let running = token.clone().drop_guard();
        self.tracker.spawn(async move { token.run_until_cancelled(run).await });
        RunningSource {
            node: node.clone(),
            output,
            unshown_since: None,
            placed_at: None,
            _running: running,
        }
    }

    fn step(&mut self, now: Instant) {
        let mut status = statuses(&self.sources);
        let mut submit_only = statuses(&self.submit_only);
        self.check_chains(&mut status, &mut submit_only, now);
        status.iter_mut().for_each(mark_late);
        let works = self.check_claims(&mut status, now);
        self.see_any_block(&status, &submit_only);
        let candidates: Vec<Candidate> = status
            .iter()
            .zip(&self.sources)
            .zip(works)
            .map(|((status, source), work)| {
                candidate(status, source.output.templates.borrow().as_deref(), work)
            })
            .collect();
        self.active = self.chooser.choose(&candidates, now);
        self.mark_behind(&mut status, &candidates, now);
        if let Some(active) = self.active {
            self.log_change(active, &status);
            status[active].is_active = true;
            self.pass_on(active);
        }
        self.status.send_if_modified(|old| {
            let is_new = *old != status;
            *old = status;
            is_new
        });
    }

    /// Checks whether some node would accept a found block of any size.
    fn see_any_block(&self, status: &[NodeStatus], submit_only: &[NodeStatus]) {
        let nodes = self.sources.iter().chain(&self.submit_only);
        let takes_all = nodes.zip(status.iter().chain(submit_only)).any(|(source, status)| {
            source.node.kind == NodeKind::Bitcoind && status.state == NodeState::Ready
        });
        self.takes_all.send_if_modified(|old| std::mem::replace(old, takes_all) != takes_all);
        self.submit_only_status.send_if_modified(|old| {
            let is_new = *old != submit_only;
            *old = submit_only.to_vec();
            is_new
        });
    }

    fn pass_on(&self, active: usize) {
        let Some(template) = self.sources[active].output.templates.borrow().clone() else {
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

    /// Marks nodes on another chain than the one being mined.
    fn check_chains(
        &mut self,
        status: &mut [NodeStatus],
        submit_only: &mut [NodeStatus],
        now: Instant,
    ) {
        let known: Vec<Option<Network>> = status.iter().map(|node| node.network).collect();
        let config = self.config.borrow();
        let chosen = self.chain.choose(&config.chains, &known, now);
        if let Some(new) = chosen
            && let Some(old) = self.last_chain.replace(new).filter(|old| *old != new)
        {
            info!(%old, %new, "switching to the chain of the nodes and of mining.address");
            self.chooser.forget();
            self.proven.forget();
            self.active = None;
        }
        self.network.send_if_modified(|old| std::mem::replace(old, chosen) != chosen);
        for node in status.iter_mut().chain(submit_only) {
            let Some(network) = node.network else { continue };
            if chosen == Some(network) {
                continue;
            }
            let why = match chosen {
                Some(chosen) if known.contains(&Some(chosen)) => format!(
                    "it is on the chain \"{network}\", but gatewayd is mining on \"{chosen}\": \
                     remove it from [[node]] or start it on that chain (to mine on \"{network}\" \
                     instead, remove the others, and set mining.address to an address on that \
                     chain)"
                ),
                Some(chosen) => format!(
                    "it is now on the chain \"{network}\", but mining.address belongs to \
                     \"{chosen}\": start it on that chain again, or set mining.address to an \
                     address on \"{network}\""
                ),
                None if config.chains.is_empty() || config.chains.contains(&network) => {
                    // The others get a moment to report theirs.
                    node.state = NodeState::Starting;
                    continue;
                }
                None => format!(
                    "it is on the chain \"{network}\", but mining.address belongs to another: \
                     correct one of them"
                ),
            };
            if !self.was(node, NodeState::WrongChain) {
                error!(node = %node.name, "this node is not used: {why}");
            }
            node.state = NodeState::WrongChain;
            node.last_error = Some(why.into());
        }
    }

    /// Marks nodes whose templates build on headers that they do not show; returns the work that
    /// each is credited with.
    fn check_claims(&mut self, status: &mut [NodeStatus], now: Instant) -> Vec<Option<ChainWork>> {
        let Some(network) = *self.network.borrow() else { return vec![None; status.len()] };
        let claims: Vec<SourceClaim> = status.iter().zip(&self.sources).map(claim).collect();
        let (standings, is_walk) = self.proven.judge(&claims, network);
        let is_shown = |at: usize| claims[at].is_ready && standings[at].is_shown();
        let shown = (0..claims.len()).filter(|at| is_shown(*at)).count();
        for (at, source) in self.sources.iter_mut().enumerate() {
            let (claim, standing) = (&claims[at], standings[at]);
            let walk = is_walk && claim.is_ready;
            source.output.walk.send_if_modified(|old| std::mem::replace(old, walk) != walk);
            let is_alone = shown > 0 && claim.is_ready && !standing.is_shown();
            source.unshown_since = is_alone.then(|| source.unshown_since.unwrap_or(now));
        }
        for (at, node) in status.iter_mut().enumerate() {
            let source = &self.sources[at];
            let template = source.output.templates.borrow().clone();
            let since = source.unshown_since;
            let doubt = doubt(&claims[at], standings[at], template.as_deref(), network)
                .or_else(|| unshown(&claims[at], standings[at], since, now));
            let Some(why) = doubt.filter(|_| claims[at].is_ready) else { continue };
            if !self.was(node, NodeState::WrongChain) {
                error!(node = %node.name, "this node is not used: {why}");
            }
            node.state = NodeState::WrongChain;
            node.last_error = Some(why.into());
        }
        let works = self.sources.iter_mut().zip(&claims).zip(standings).map(
            |((source, claim), standing)| {
                source.placed_at = claim.placed_at(standing).or(source.placed_at);
                match standing {
                    // Blocks may come faster than their headers: until those arrive, its work stays
                    // at what it was.
                    Standing::Apart => {
                        let work = source.placed_at.and_then(|block| self.proven.work(&block));
                        work.or_else(|| standing.work(shown > 0))
                    }
                    _ => standing.work(shown > 0),
                }
            },
        );
        works.collect()
    }

    /// Marks nodes that give templates on an older tip than others know.
    fn mark_behind(&self, status: &mut [NodeStatus], candidates: &[Candidate], now: Instant) {
        let heights = candidates.iter().filter(|it| it.is_ready).map(|it| it.place.height);
        let best = heights.max().unwrap_or(0).saturating_sub(1);
        for (at, node) in status.iter_mut().enumerate() {
            let was_behind = self.was(node, NodeState::Behind);
            if node.state != NodeState::Ready || !self.chooser.is_behind(at, now) {
                if was_behind && node.state == NodeState::Ready {
                    info!(node = %node.name, "the node has caught up with the others");
                }
                continue;
            }
            let height = candidates[at].place.height.saturating_sub(1);
            let why = format!(
                "its last block is {height}, but another node has had {best} for more than \
                 {BEHIND_MAX:?}: check its connections (bitcoin-cli getpeerinfo), its disk, and \
                 whether it rejects that chain (bitcoin-cli getchaintips)"
            );
            if !was_behind {
                warn!(node = %node.name, "the node is behind: {why}");
            }
            node.state = NodeState::Behind;
            node.last_error = Some(why.into());
        }
    }

    fn was(&self, node: &NodeStatus, state: NodeState) -> bool {
        let (status, submit_only) = (self.status.borrow(), self.submit_only_status.borrow());
        let mut all = status.iter().chain(submit_only.iter());
        all.any(|old| old.name == node.name && old.state == state)
    }

    /// Logs whose templates are used now, if that has changed for more than a moment: a node that
    /// hears of a block first leads for some seconds, which is not worth logging.
    fn log_change(&mut self, active: usize, status: &[NodeStatus]) {
        let find = |name: &Arc<str>| status.iter().position(|node| node.name == *name);
        let to = Arc::clone(&self.sources[active].node.name);
        let before = self.active_name.replace(Arc::clone(&to));
        let left = self.led.take();
        let Some(from) = left.clone().or(before).filter(|from| *from != to) else {
            return;
        };
        let place = find(&from);
        let trouble = place.map(|at| &status[at]).filter(|node| node.state != NodeState::Ready);
        let why = match (place, trouble) {
            (None, _) => "the other one is no longer configured",
            (_, Some(node)) => {
                node.last_error.as_deref().unwrap_or("the other one does not answer")
            }
            (Some(place), None) if place < active => {
                if left.is_none() {
                    debug!(%from, %to, "a less preferred node has the new tip first");
                }
                self.led = Some(from);
                return;
            }
            (Some(_), None) => "it is preferred, and works",
        };
        info!(%from, %to, why, "templates now come from another node");
    }
}

fn claim((status, source): (&NodeStatus, &RunningSource)) -> SourceClaim {
    let template = source.output.templates.borrow().clone();
    SourceClaim {
        is_ready: status.state == NodeState::Ready && template.is_some(),
        tip: template.map_or(Hash256::ZERO, |template| template.prevhash),
        chain: source.output.chain.borrow().clone(),
        can_walk: source.output.walk.receiver_count() > 0,
    }
}

fn candidate(
    status: &NodeStatus,
    template: Option<&Template>,
    work: Option<ChainWork>,
) -> Candidate {
    let Some(template) = template else {
        return Candidate { is_ready: false, place: WorkPosition::NOWHERE };
    };
    Candidate {
        is_ready: status.state == NodeState::Ready,
        place: WorkPosition {
            height: template.height,
            tip: template.prevhash,
            work,
            is_full: template.kind == TemplateKind::Full,
        },
    }
}

fn statuses(sources: &[RunningSource]) -> Vec<NodeStatus> {
    sources.iter().map(|source| source.output.status()).collect()
}

/// A node that leaves a call unanswered cannot be relied on now, whatever it said before.
fn mark_late(node: &mut NodeStatus) {
    if node.state == NodeState::Ready && node.late_since.is_some() {
        node.state = NodeState::Down;
        let why = format!(
            "it has not answered for {LATE_AFTER:?} or more: check whether its machine is \
             overloaded, the node hangs, or other programs occupy all of its RPC threads \
             (rpcthreads in its bitcoin.conf)"
        );
        node.last_error = Some(why.into());
    }
}

/// The choice is reviewed this often even if no source reports anything.
const TICK: Duration = Duration::from_millis(500);
