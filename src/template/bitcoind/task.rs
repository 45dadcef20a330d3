//! The life of one node as a source: connect, serve, lose it, connect again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bitcoin::Network;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    NodeError,
    meet::{meet, see_move},
    speaker::{Speaker, advice},
};
use crate::{
    template::{
        Fork, Hint, HintFrom, NodeConfig, NodeState, Notices, Outlet, Refresh,
        conn::{NOT_CONNECTED, RpcClient, RpcError, SYNCING, WARMING_UP},
        header::{self, Header, Learned},
        probe,
        progress::{FullNews, HeaderNews, Progress},
        rpc::{self, Fetched, FetchedBy, NodeInfo, WaitFrom},
        zmq,
    },
    work::{Hash256, Template},
};

/// Serves for ever; whoever runs it drops it.
pub(super) async fn run(
    node: NodeConfig,
    mut refresh: Refresh,
    outlet: Outlet,
    mut notices: Notices,
) {
    let mut speaker = Speaker::new(Arc::clone(&node.name));
    let mut learned = None;
    let mut wait = WAIT_MIN;
    loop {
        let error = match Session::open(&node, &mut refresh, &outlet, learned).await {
            Ok(mut session) => {
                let error = session.serve(&mut notices, &mut speaker).await;
                learned = session.progress.learned();
                if session.has_published {
                    wait = WAIT_MIN;
                }
                error
            }
            Err(error) => error,
        };
        if error.forbids_work() {
            // The next header would be made into work that the node refuses.
            learned = None;
        }
        say_down(&outlet, &error);
        speaker.lost(&error);
        let is_lasting = is_refused_password(&error) || error.forbids_work();
        let wait_now = if is_lasting { WAIT_REFUSED } else { wait };
        // A notice is a sign of life: try at once.
        let _ = timeout(wait_now, notices.next()).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

fn say_down(outlet: &Outlet, error: &NodeError) {
    outlet.update(|status| {
        status.state = state_after(error);
        status.late_since = None;
        status.last_error = Some(format!("{error}: {}", advice(error)).into());
        if let NodeError::Fork(fork) = error {
            status.fork = Some(*fork);
        }
    });
}

pub(in crate::template) fn state_after(error: &NodeError) -> NodeState {
    match error {
        NodeError::Rpc(error)
            if matches!(error.code(), Some(WARMING_UP | SYNCING | NOT_CONNECTED)) =>
        {
            NodeState::Syncing
        }
        NodeError::Fork(_) => NodeState::WrongChain,
        _ => NodeState::Down,
    }
}

/// A wrong password does not heal by itself, and each try is a line in the node's log.
pub(in crate::template) fn is_refused_password(error: &NodeError) -> bool {
    matches!(error, NodeError::Rpc(RpcError::Unauthorized("user or password")))
}

/// A time during which the node answers.
struct Session<'a> {
    outlet: &'a Outlet,
    node: Arc<str>,
    network: Network,
    fork: Option<Fork>,
    client: RpcClient,
    /// Of the client, when the network was last asked about.
    connections: u32,
    progress: Progress,
    has_published: bool,
    /// The tip came with its template, which says less than its header.
    header_wanted: bool,
    refresh: Interval,
    refresh_news: &'a mut Refresh,
    poll: Interval,
    hints: mpsc::Receiver<Hint>,
    fetched: mpsc::Receiver<Result<Fetched, NodeError>>,
    requests: watch::Sender<u64>,
    wait_from: watch::Sender<WaitFrom>,
    /// When the node's templates get easy: for the next block, on a test network.
    easy_at: Option<Instant>,
    /// The hint that led to the template now asked for.
    hinted_at: Option<std::time::Instant>,
    /// Too many transactions: said.
    cut_said: bool,
    unmet_said: bool,
    /// The weight of the last template, if it is so little that something may be wrong.
    thin: Option<u32>,
    /// Ends with the session.
    _helpers: JoinSet<()>,
}

impl<'a> Session<'a> {
    async fn open(
        node: &NodeConfig,
        refresh: &'a mut Refresh,
        outlet: &'a Outlet,
        learned: Option<(Network, Learned)>,
    ) -> Result<Self, NodeError> {
        let connect = || RpcClient::new(&node.rpc_url, &node.auth);
        let mut client = connect()?;
        let (info, fork) = meet(&mut client, node, outlet).await?;
        let (hint_sender, hints) = mpsc::channel(HINTS_MAX);
        let (fetched_sender, fetched) = mpsc::channel(FETCHED_MAX);
        let requests = watch::Sender::new(0);
        let wait_from = watch::Sender::new(WaitFrom::default());
        let (name, network) = (&node.name, info.network);
        let period = *refresh.borrow_and_update();
        let mut helpers = JoinSet::new();
        helpers.spawn(rpc::fetch_on_request(
            connect()?,
            Arc::clone(name),
            network,
            requests.subscribe(),
            fetched_sender.clone(),
        ));
        helpers.spawn(rpc::wait_for_tips(
            connect()?,
            Arc::clone(name),
            network,
            wait_from.subscribe(),
            hint_sender.clone(),
            fetched_sender,
        ));
        helpers.spawn(probe::watch(connect()?, outlet.clone(), hint_sender.clone()));
        if let Some(endpoint) = &node.zmq_hashblock {
            helpers.spawn(zmq::listen(Arc::clone(name), endpoint.as_str().into(), hint_sender));
        }
        Ok(Self {
            outlet,
            node: Arc::clone(name),
            network,
            fork,
            connections: client.connections(),
            client,
            progress: Progress::new(Arc::clone(name), network, learned),
            has_published: false,
            header_wanted: false,
            refresh: ticks(Duration::ZERO, period),
            refresh_news: refresh,
            poll: ticks(POLL, POLL),
            hints,
            fetched,
            requests,
            wait_from,
            easy_at: None,
            hinted_at: None,
            cut_said: false,
            unmet_said: false,
            thin: None,
            _helpers: helpers,
        })
    }

    /// Publishes work until something fails.
    async fn serve(&mut self, notices: &mut Notices, speaker: &mut Speaker) -> NodeError {
        loop {
            let step = tokio::select! {
                Some(hint) = self.hints.recv() => self.on_hint(hint).await,
                tip = notices.next() => self.on_hint(hint(HintFrom::Notice, tip)).await,
                _ = self.poll.tick() => self.on_poll(speaker).await,
                Some(fetched) = self.fetched.recv() => match fetched {
                    Ok(fetched) => self.on_fetched(fetched, speaker).await,
                    Err(error) => Err(error),
                },
                Ok(()) = self.refresh_news.changed() => {
                    let period = *self.refresh_news.borrow_and_update();
                    self.refresh = ticks(period, period);
                    Ok(())
                }
                () = until(self.easy_at) => {
                    self.easy_at = None;
                    self.request_template();
                    Ok(())
                }
                _ = self.refresh.tick() => {
                    self.request_template();
                    self.see_download().await
                }
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    async fn on_poll(&mut self, speaker: &mut Speaker) -> Result<(), NodeError> {
        self.on_hint(hint(HintFrom::SlowPoll, None)).await?;
        see_move(&mut self.client, &mut self.connections, self.network).await?;
        if let Some(weight) = self.thin.take().filter(|_| speaker.wants_mempool()) {
            speaker.mempool(weight, rpc::mempool_vbytes(&mut self.client).await);
        }
        Ok(())
    }

    /// Looks at the tip; publishes work on it if it is new.
    async fn on_hint(&mut self, hint: Hint) -> Result<(), NodeError> {
        if hint.tip.is_some() && hint.tip == self.progress.tip() {
            return Ok(());
        }
        let mut hash = hint.tip;
        for _ in 0..TIP_TRIES {
            let tip = match hash.take() {
                Some(tip) => tip,
                None => rpc::best_hash(&mut self.client).await?,
            };
            self.answered();
            let is_known = self.progress.tip() == Some(tip);
            if is_known && !self.header_wanted {
                return Ok(());
            }
            // An unknown block is no error: the hint came from somebody else, or too early.
            let Some(header) = rpc::header(&mut self.client, tip).await? else { continue };
            self.see_side(&header)?;
            match self.progress.on_header(&header, unix_now()) {
                HeaderNews::NotTip => {}
                HeaderNews::Known => {
                    self.header_wanted = false;
                    self.easy_at = easy_at(&header, self.network);
                    self.outlet.update(|status| status.work = header.work);
                    return Ok(());
                }
                HeaderNews::NewTip(template) => {
                    self.on_new_tip(&header, hint, template);
                    return Ok(());
                }
            }
        }
        // The tip changes faster than it can be asked for; the next hint will tell.
        Ok(())
    }

    /// A tip that is no more, or the last that is, of the chain of SHA-256 miners.
    fn see_side(&self, tip: &Header) -> Result<(), NodeError> {
        let is_over = tip.is_foreign || self.fork.is_some_and(|fork| fork.takes(tip.height + 1));
        if tip.confirmations != 1 || !is_over {
            return Ok(());
        }
        self.outlet.update(|status| status.height = Some(tip.height));
        let from = self.fork.and_then(Fork::height);
        Err(NodeError::Fork(Fork::Blake2b { from, is_here: true }))
    }

    fn on_new_tip(&mut self, header: &Header, hint: Hint, template: Option<Template>) {
        let (node, from) = (&self.node, hint.from);
        let (height, tip) = (header.height, header.hash);
        self.header_wanted = false;
        self.easy_at = easy_at(header, self.network);
        // Full work on it is out next.
        let has_template = from == HintFrom::Template && hint.tip == Some(tip);
        if let Some(template) = template.filter(|_| !has_template) {
            self.outlet.publish(Arc::new(template));
            let after_us = micros(hint.at);
            debug!(%node, height, %tip, ?from, after_us, "tip: subsidy-only work is out");
        } else {
            debug!(%node, height, %tip, ?from, "tip: work waits for the template");
        }
        self.outlet.update(|status| {
            status.height = Some(height);
            status.tip = Some((tip, hint.at));
            status.work = header.work;
        });
        self.wait_from.send_modify(|wait| wait.height = height);
        self.hinted_at = Some(hint.at);
        if !has_template {
            self.request_template();
        }
    }

    /// Sees whether the initial block download has ended.
    async fn see_download(&mut self) -> Result<(), NodeError> {
        if self.has_published && self.outlet.status().is_in_initial_download {
            let info = rpc::node_info(&mut self.client).await?;
            self.outlet.update(|status| {
                status.is_in_initial_download = info.is_in_initial_download;
            });
        }
        Ok(())
    }

    fn request_template(&mut self) {
        self.requests.send_replace(self.progress.generation());
        self.refresh.reset();
    }

    async fn on_fetched(
        &mut self,
        fetched: Fetched,
        speaker: &mut Speaker,
    ) -> Result<(), NodeError> {
        let Fetched { from, parsed, took } = fetched;
        let generation = match from {
            FetchedBy::Request(generation) => generation,
            FetchedBy::LongPoll => {
                let tip = parsed.template.prevhash;
                if self.progress.tip() == Some(tip) {
                    return Ok(()); // No new tip; refreshing has its own pace.
                }
                // It may have been long on its way: the node says whether that is its tip now.
                self.on_hint(hint(HintFrom::Template, Some(tip))).await?;
                if self.progress.tip() != Some(tip) {
                    return Ok(());
                }
                self.progress.generation()
            }
        };
        self.answered();
        if took.is_some() {
            self.outlet.update(|status| status.template_fetch = took);
        }
        match self.progress.on_full(&parsed.template, generation) {
            // The news of the tip asked for another one.
            FullNews::Outdated => {}
            FullNews::Fresh { is_new_tip } => {
                if from == FetchedBy::LongPoll {
                    self.refresh.reset();
                }
                let (template, longpollid) = (parsed.template, parsed.longpollid);
                self.say_cut(parsed.cut);
                self.say_unmet(&parsed.unmet);
                // Asked about between templates, not in the way of one.
                self.thin = is_light(&template).then_some(template.total_weight);
                self.publish(template, longpollid, is_new_tip, speaker);
            }
        }
        Ok(())
    }

    fn publish(
        &mut self,
        template: Template,
        longpollid: Option<Box<str>>,
        is_new_tip: bool,
        speaker: &mut Speaker,
    ) {
        let height = template.height.saturating_sub(1);
        if !self.has_published {
            self.has_published = true;
            speaker.back(&template);
        }
        let after_us = self.hinted_at.take().map(micros);
        debug!(
            node = %self.node, height = template.height, prevhash = %template.prevhash, is_new_tip,
            transactions = template.transactions.len(), after_us, "template: full work is out"
        );
        self.outlet.publish_full(template, is_new_tip, Instant::now().into_std());
        if is_new_tip {
            self.header_wanted = true;
            self.poll.reset_immediately();
        }
        self.wait_from.send_modify(|wait| {
            wait.height = height;
            if longpollid.is_some() {
                wait.longpollid = longpollid;
            }
        });
    }

    fn say_cut(&mut self, cut: usize) {
        if cut > 0 && !self.cut_said {
            self.cut_said = true;
            warn!(
                node = %self.node, cut,
                "the node's template has more transactions than a pool takes; the last ones are \
                 left out (blockmaxweight makes templates smaller)"
            );
        }
    }

    fn say_unmet(&mut self, unmet: &[Box<str>]) {
        if !unmet.is_empty() && !self.unmet_said {
            self.unmet_said = true;
            warn!(
                node = %self.node, ?unmet,
                "the node would like something in the coinbase (coinbaseaux) that is not put there"
            );
        }
    }

    fn answered(&self) {
        self.outlet.update(|status| status.answered_at = Some(Instant::now().into_std()));
    }
}

/// True when the limits of its node may be why a template holds so little.
fn is_light(template: &Template) -> bool {
    template.total_weight < template.limits.weight / 2
}

/// Says what kind of node answered.
pub(in crate::template) fn introduce(node: &NodeConfig, info: &NodeInfo, outlet: &Outlet) {
    let was_known = outlet.status().version.is_some();
    let (name, chain, version) = (&node.name, info.network.to_core_arg(), &info.version);
    if !was_known {
        info!(node = %name, chain, version = %version, height = info.height, "the node answers");
    }
    if info.is_in_initial_download && !was_known {
        warn!(
            node = %name, blocks = info.height, headers = info.headers,
            "the node is in initial block download: work may be late, or wait until it is done"
        );
    }
    outlet.update(|status| {
        status.version = Some(Arc::clone(&info.version));
        status.network = Some(info.network);
        status.height = Some(info.height);
        status.is_in_initial_download = info.is_in_initial_download;
        status.late_since = None;
        status.answered_at = Some(Instant::now().into_std());
    });
}

pub(in crate::template) fn hint(from: HintFrom, tip: Option<Hash256>) -> Hint {
    Hint { from, tip, at: Instant::now().into_std() }
}

/// None where there are no easy blocks, or they are there already.
fn easy_at(tip: &Header, network: Network) -> Option<Instant> {
    let wait_s = header::easy_from(tip, network)?.checked_sub(unix_now())?;
    Some(Instant::now() + Duration::from_secs(wait_s.into()))
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

pub(in crate::template) fn micros(since: std::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Ticks `after`, then each `period`; a late tick moves the following ones.
pub(in crate::template) fn ticks(after: Duration, period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + after, period.max(PERIOD_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[expect(clippy::disallowed_methods, reason = "a task may read the clock")]
pub(in crate::template) fn unix_now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// Waits between tries to reach a node: it is back in work within the last one and its template.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// What asking more often would not change.
const WAIT_REFUSED: Duration = Duration::from_secs(5);
/// The net under ZeroMQ and long polls, and how a dead node is noticed.
const POLL: Duration = Duration::from_secs(1);
/// `tokio::time::interval` refuses zero, and a node should not be asked in a loop.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// One hint is enough to look; a few more do no harm.
const HINTS_MAX: usize = 8;
const FETCHED_MAX: usize = 2;
/// How often to follow a tip that changes while it is asked about.
const TIP_TRIES: usize = 3;
