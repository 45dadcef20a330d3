//! The running template side: its handle for others, and what its sources are given.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    NodeState, NodeStatus, TemplateConfig, bitcoind::AbandonedPoll, supervisor::SourceSupervisor,
};
use crate::{
    node::{
        AllowedRules, NodeConfig, NodeError, NodeKind, ProposeError,
        header::Header,
        headers::{HeaderChain, ProvenHeader},
        rpc::propose,
    },
    work::{Hash256, Template},
};

/// A node on a chain that the payout address does not belong to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct WrongNetwork {
    pub(crate) node: Arc<str>,
    pub(crate) network: Network,
}

/// The running template side, as others see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    /// The latest work: first derived from the new tip as soon as that is known, then the node's
    /// template.
    pub templates: watch::Receiver<Option<Arc<Template>>>,
    /// One for each node that gives templates, in order of preference.
    pub status: watch::Receiver<Vec<NodeStatus>>,
    /// One for each node that only gets blocks.
    pub submit_only: watch::Receiver<Vec<NodeStatus>>,
    pub notify: NotifyHandle,
    network: watch::Receiver<Option<Network>>,
    config: watch::Sender<TemplateConfig>,
}

impl Templates {
    /// Sends [`Self::network`].
    pub(crate) fn networks(&self) -> watch::Receiver<Option<Network>> {
        self.network.clone()
    }

    /// The chain being mined, once nodes have reported theirs. Sent before the status changes.
    pub fn network(&self) -> Option<Network> {
        *self.network.borrow()
    }

    /// Why nothing can be mined at all: every node has reported its chain, and the payout address
    /// belongs to none of these.
    pub(crate) fn wrong_network(&self) -> Option<WrongNetwork> {
        let chains = self.config.borrow().chains.clone();
        let wrong_network = |node: &NodeStatus| {
            let network = node.network.filter(|chain| !chains.contains(chain))?;
            Some(WrongNetwork { node: Arc::clone(&node.name), network })
        };
        let all: Option<Vec<_>> = self.status.borrow().iter().map(wrong_network).collect();
        all?.into_iter().next().filter(|_| !chains.is_empty())
    }

    /// Refuses a configuration whose payout address belongs to no chain that its nodes are on.
    /// Nothing is known about a new node, so it may be on any.
    pub(crate) fn try_config(&self, new: &TemplateConfig) -> Result<(), WrongNetwork> {
        // In the same order as `judge`: otherwise two callers could deadlock.
        let (status, old) = (self.status.borrow(), self.config.borrow());
        let is_new = |node: &NodeConfig| !old.sources().any(|known| known == node);
        if new.sources().any(is_new) {
            return Ok(());
        }
        let known = new.sources().filter_map(|node| {
            let network = status.iter().find(|it| it.name == node.name)?.network?;
            Some(WrongNetwork { node: Arc::clone(&node.name), network })
        });
        let is_fine = known.clone().any(|it| new.chains.contains(&it.network));
        let wrong = known.clone().next().filter(|_| !is_fine);
        wrong.map_or(Ok(()), Err)
    }

    /// Asks a node whether it would accept this block apart from its work: the active one, or
    /// another working one if that one cannot tell or has gone silent.
    pub async fn propose(&self, block_hex: &str) -> Result<(), ProposeError> {
        if self.judge(&[]).is_none() {
            // The first work is published an instant before its node is reported as ready.
            let mut status = self.status.clone();
            let is_any = |status: &Vec<NodeStatus>| status.iter().any(is_ready);
            let _ = timeout(SAID_WELL_MAX, status.wait_for(is_any)).await;
        }
        let mut asked = Vec::new();
        let mut last = ProposeError::Unanswered(
            "no node that can check proposals is \
                                                 configured"
                .into(),
        );
        while let Some(node) = self.judge(&asked) {
            let verdict = tokio::select! {
                verdict = propose(&node, block_hex) => verdict,
                () = self.is_unwell(&node.name) => {
                    Err(ProposeError::Unanswered(format!("{} has gone silent", node.name)))
                }
            };
            match verdict {
                Err(unanswered @ ProposeError::Unanswered(_)) => last = unanswered,
                verdict => return verdict,
            }
            asked.push(node.name);
        }
        Err(last)
    }

    /// Changes to other nodes, another order, or another refresh interval. Unchanged nodes are not
    /// affected; the work in use stays until a node gives better work.
    pub fn set_config(&self, config: TemplateConfig) {
        self.config.send_if_modified(|old| {
            let is_new = *old != config;
            *old = config;
            is_new
        });
    }

    /// The nodes to ask, in order: those that work and can tell, the active one first.
    fn judge(&self, asked: &[Arc<str>]) -> Option<NodeConfig> {
        let status = self.status.borrow();
        let is_active = |name: &Arc<str>| status.iter().any(|it| it.is_active && it.name == *name);
        let config = self.config.borrow();
        let mut can_tell = config.sources().filter(|node| {
            node.kind == NodeKind::Bitcoind
                && !asked.contains(&node.name)
                && is_well(&status, &node.name)
        });
        let active = can_tell.clone().find(|node| is_active(&node.name));
        active.or_else(|| can_tell.next()).cloned()
    }

    async fn is_unwell(&self, name: &Arc<str>) {
        let mut status = self.status.clone();
        // An error means that templates have ended for good.
        let _ = status.wait_for(|status| !is_well(status, name)).await;
    }
}

fn is_well(status: &[NodeStatus], name: &Arc<str>) -> bool {
    status.iter().any(|node| node.name == *name && is_ready(node))
}

fn is_ready(node: &NodeStatus) -> bool {
    node.state == NodeState::Ready
}

/// Between publishing work and reporting its node as ready there is no wait, only another task's
/// turn.
const SAID_WELL_MAX: Duration = Duration::from_secs(2);

/// How often there is new full work between blocks; may change.
pub(crate) type Refresh = watch::Receiver<Duration>;

/// Which rules templates may require; may change.
pub(super) type RulesWatch = watch::Receiver<AllowedRules>;

/// Reports that there may be a new tip: SIGUSR1, blocknotify, a pool's hint, an accepted block.
#[derive(Clone, Debug)]
pub struct NotifyHandle(Arc<watch::Sender<Option<Hash256>>>);

impl NotifyHandle {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Makes every source check for a new tip at once.
    pub fn notify(&self) {
        self.0.send_replace(None);
    }

    /// The same for a tip whose hash is known. The nodes are only asked about it.
    pub fn assume_tip(&self, hash: Hash256) {
        self.0.send_replace(Some(hash));
    }

    pub(super) fn subscribe(&self) -> Notices {
        Notices(self.0.subscribe())
    }
}

/// The receiving end of a [`NotifyHandle`].
#[derive(Debug)]
pub(crate) struct Notices(watch::Receiver<Option<Hash256>>);

impl Notices {
    /// Waits for a notice; returns the new tip's hash if it came with one.
    pub(crate) async fn next(&mut self) -> Option<Hash256> {
        if self.0.changed().await.is_err() {
            // Every handle is gone: no notice will ever come.
            std::future::pending::<()>().await;
        }
        *self.0.borrow_and_update()
    }
}

/// What a source publishes through.
#[derive(Clone, Debug)]
pub(crate) struct SourceOutput {
    pub(super) templates: watch::Sender<Option<Arc<Template>>>,
    pub(super) status: watch::Sender<NodeStatus>,
    /// What the node has shown of its chain.
    pub(super) chain: watch::Sender<Option<Arc<HeaderChain>>>,
    /// It should show more.
    pub(super) walk: watch::Sender<bool>,
    /// What earlier sessions have left behind at the node.
    pub(super) abandoned_poll: AbandonedPoll,
    changed: Arc<Notify>,
}

impl SourceOutput {
    pub(super) fn new(name: Arc<str>, changed: Arc<Notify>) -> Self {
        let status = watch::Sender::new(NodeStatus::new(name));
        let (templates, chain) = (watch::Sender::new(None), watch::Sender::new(None));
        let (walk, abandoned_poll) = (watch::Sender::new(false), AbandonedPoll::default());
        Self { templates, status, chain, walk, abandoned_poll, changed }
    }

    /// Records a header if it is the tip's; an error if it does not follow from the previous one.
    pub(super) fn show(&self, tip: &Header, network: Network) -> Result<(), NodeError> {
        let old = self.chain.borrow().clone();
        let is_new =
            |shown: &&ProvenHeader| old.as_ref().is_none_or(|old| old.tip().hash != shown.hash);
        let shown = tip.shown.as_ref().filter(|_| tip.confirmations == 1).filter(is_new);
        let Some(shown) = shown else { return Ok(()) };
        let chain = HeaderChain::with_tip(old.as_deref(), shown.clone(), network);
        let chain = chain.map_err(|fault| NodeError::Header(tip.hash, fault))?;
        self.chain.send_replace(Some(Arc::new(chain)));
        Ok(())
    }

    /// Records the header below those that the node has shown, unless its tip has moved meanwhile.
    pub(super) fn lengthen(&self, parent: ProvenHeader, network: Network) -> Result<(), NodeError> {
        let Some(mut chain) = self.chain.borrow().as_deref().cloned() else { return Ok(()) };
        let hash = parent.hash;
        if chain.wanted() == Some(hash) {
            let wrong = |fault| NodeError::Header(hash, fault);
            chain.lengthen(parent, network).map_err(wrong)?;
            self.chain.send_replace(Some(Arc::new(chain)));
            self.changed.notify_one();
        }
        Ok(())
    }

    pub(crate) fn publish(&self, template: Arc<Template>) {
        self.templates.send_replace(Some(template));
        self.changed.notify_one();
    }

    /// Publishes the node's newest full template; `is_new`: on a tip that was not known before.
    pub(super) fn publish_full(&self, template: Template, is_new_tip: bool, now: Instant) {
        let (height, tip) = (template.height.saturating_sub(1), template.prevhash);
        // Before the status becomes ready, or the chooser could find the previous template.
        self.publish(Arc::new(template));
        self.update(|status| {
            status.state = NodeState::Ready;
            status.last_error = None;
            status.height = Some(height);
            status.template_at = Some(now);
            if is_new_tip {
                status.tip = Some((tip, now));
                // A template does not tell the chain's work.
                status.work = None;
            }
        });
    }

    /// What was published last.
    pub(crate) fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut NodeStatus)) {
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
    let notify = NotifyHandle::new();
    let config = watch::Sender::new(config);
    let supervisor =
        SourceSupervisor::new(config.subscribe(), notify.clone(), token.clone(), tracker.clone());
    let (templates, status, submit_only, network) = supervisor.subscribe();
    let token = token.clone();
    tracker.spawn(async move { token.run_until_cancelled(supervisor.run()).await });
    Templates { templates, status, submit_only, notify, network, config }
}
