//! The life of one blvm-node as a source: connect, serve, lose it, go on.
//!
//! Connections are dear: the node takes 10 in a minute. So whoever has one keeps it when something
//! fails, and what waits waits on one of its own.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    pin,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, Interval, sleep, timeout},
};
use tracing::{debug, warn};

use super::{
    Blvm,
    conn::NodeApi,
    message::Expected,
    rpc::{self, Fetched, RequestMax, Rpc},
};
use crate::{
    template::{
        Hint, HintFrom, NodeConfig, NodeError, Notices, Outlet, Refresh,
        bitcoind::{
            meet::{is_refused_password, state_after},
            speaker::{Speaker, advice, introduce},
            task::{hint, micros, ticks, unix_now},
        },
        conn::{RpcClient, RpcError, SYNCING},
        probe::LATE_AFTER,
        progress::{FullNews, HeaderNews, Progress},
        rpc::{best_hash, node_info},
    },
    work::{Hash256, Template},
};

/// Whether another node is well that takes blocks of any size. Where none is, what this one could
/// not be given must not be mined.
pub(in crate::template) type Company = watch::Receiver<bool>;

/// Serves for ever; whoever runs it drops it.
pub(super) async fn run(blvm: Blvm, outlet: Outlet, mut notices: Notices) {
    let mut speaker = Speaker::new(Arc::clone(&blvm.node.name));
    let mut wait = WAIT_MIN;
    let mut source = match Source::new(blvm, &outlet) {
        Ok(source) => source,
        Err(error) => {
            speaker.lost(&error);
            say_down(&outlet, &error);
            return;
        }
    };
    loop {
        let error = source.serve(&mut notices, &mut speaker).await;
        if std::mem::take(&mut source.has_published) {
            wait = WAIT_MIN;
        }
        say_down(&outlet, &error);
        speaker.lost(&error);
        let wait_now = match &error {
            NodeError::Rpc(RpcError::Rationed { wait, .. } | RpcError::TurnedAway { wait, .. }) => {
                (*wait).min(WAIT_RATIONED)
            }
            error if is_refused_password(error) => WAIT_REFUSED,
            _ => wait,
        };
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
    });
}

/// The node, and those who listen to it.
struct Source<'a> {
    node: NodeConfig,
    outlet: &'a Outlet,
    client: RpcClient,
    progress: Option<Progress>,
    has_published: bool,
    refresh: Interval,
    refresh_news: Refresh,
    poll: Interval,
    hints: mpsc::Receiver<Hint>,
    fetched: mpsc::Receiver<Result<Fetched, NodeError>>,
    requests: watch::Sender<u64>,
    /// For the NodeAPI to be held against.
    latest: watch::Sender<Option<Arc<Expected>>>,
    /// Counts the times that the node was reached, for its limits may have changed.
    begun: watch::Sender<u64>,
    limit: watch::Receiver<RequestMax>,
    company: Company,
    hinted_at: Option<std::time::Instant>,
    cut_said: bool,
    /// End with the source.
    _helpers: JoinSet<()>,
}

impl<'a> Source<'a> {
    fn new(blvm: Blvm, outlet: &'a Outlet) -> Result<Self, NodeError> {
        let Blvm { node, blvm, mut refresh, allowed, company } = blvm;
        let period = *refresh.borrow_and_update();
        let rpc = Rpc::new(node.clone());
        let client = rpc.client()?;
        let (hint_sender, hints) = mpsc::channel(HINTS_MAX);
        let (fetched_sender, fetched) = mpsc::channel(FETCHED_MAX);
        let (limit_sender, limit) = watch::channel(RequestMax::DEFAULT);
        let (requests, latest) = (watch::Sender::new(0), watch::Sender::new(None));
        let begun = watch::Sender::new(0);
        let is_connected = Arc::new(AtomicBool::new(false));
        let mut helpers = JoinSet::new();
        helpers.spawn(rpc::probe_limit(
            rpc.clone(),
            begun.subscribe(),
            company.clone(),
            limit_sender,
        ));
        helpers.spawn(rpc::fetch_on_request(
            rpc.clone(),
            (limit.clone(), company.clone(), allowed),
            requests.subscribe(),
            fetched_sender,
        ));
        let api = NodeApi {
            node: Arc::clone(&node.name),
            config: blvm,
            hints: hint_sender.clone(),
            templates: latest.subscribe(),
            is_connected: Arc::clone(&is_connected),
        };
        helpers.spawn(api.run());
        helpers.spawn(rpc::wait_for_tips(rpc, is_connected, hint_sender));
        Ok(Self {
            node,
            outlet,
            client,
            progress: None,
            has_published: false,
            refresh: ticks(Duration::ZERO, period),
            refresh_news: refresh,
            poll: ticks(POLL, POLL),
            hints,
            fetched,
            requests,
            latest,
            begun,
            limit,
            company,
            hinted_at: None,
            cut_said: false,
            _helpers: helpers,
        })
    }

    /// Publishes work until something fails.
    async fn serve(&mut self, notices: &mut Notices, speaker: &mut Speaker) -> NodeError {
        if let Err(error) = self.begin().await {
            return error;
        }
        loop {
            let step = tokio::select! {
                // A template that is here counts before all that is to be asked: where answers
                // take longer than the poll's period, that one is always due.
                biased;
                Some(fetched) = self.fetched.recv() => match fetched {
                    Ok(fetched) => self.on_fetched(fetched, speaker).await,
                    Err(error) => Err(error),
                },
                Some(hint) = self.hints.recv() => self.on_hint(hint).await,
                tip = notices.next() => self.on_hint(hint(HintFrom::Notice, tip)).await,
                Ok(()) = self.limit.changed() => {
                    self.request_template();
                    Ok(())
                }
                Ok(()) = self.company.changed() => {
                    self.request_template();
                    Ok(())
                }
                Ok(()) = self.refresh_news.changed() => {
                    let period = *self.refresh_news.borrow_and_update();
                    self.refresh = ticks(period, period);
                    Ok(())
                }
                _ = self.refresh.tick() => {
                    self.request_template();
                    self.see_download().await
                }
                _ = self.poll.tick() => self.on_hint(hint(HintFrom::SlowPoll, None)).await,
            };
            match step {
                Ok(()) => {}
                // It answers, and its last work is good: less is asked of it for a while.
                Err(NodeError::Rpc(RpcError::Node { code: TOO_MANY, .. })) => {
                    debug!(node = %self.node.name, "asked too much of the node in a short time");
                    sleep(PAUSE_TOO_MANY).await;
                    self.request_template();
                }
                Err(error) => return error,
            }
        }
    }

    /// Asks who the node is, and for its first template.
    async fn begin(&mut self) -> Result<(), NodeError> {
        let info = node_info(&mut self.client).await?;
        introduce(&self.node, &info, self.outlet);
        // It has tasks instead.
        self.outlet.update(|status| status.has_spare_threads = Some(true));
        self.begun.send_modify(|count| *count += 1);
        self.see_download().await?;
        let learned = self.progress.take().and_then(|progress| progress.learned());
        let source = Arc::clone(&self.node.name);
        self.progress = Some(Progress::new(source, info.network, learned));
        // What is left of the time before the failure.
        while self.fetched.try_recv().is_ok() {}
        self.request_template();
        Ok(())
    }

    /// Looks at the tip; publishes work on it if it is new.
    async fn on_hint(&mut self, hint: Hint) -> Result<(), NodeError> {
        if hint.tip.is_some() && hint.tip == self.progress.as_ref().and_then(Progress::tip) {
            return Ok(());
        }
        // Only the node's best block counts: its events are also of blocks beside it.
        let tip = self.ask_tip().await?;
        let Some(progress) = &mut self.progress else { return Ok(()) };
        if progress.tip() == Some(tip) {
            return Ok(());
        }
        let Some(header) = rpc::tip_header(&mut self.client, tip).await? else { return Ok(()) };
        let HeaderNews::NewTip(template) = progress.on_header(&header, unix_now()) else {
            return Ok(());
        };
        if let Some(network) = self.outlet.status().network {
            self.outlet.show(&header, network)?;
        }
        let (node, height, from) = (&self.node.name, header.height, hint.from);
        if let Some(template) = template {
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
        self.hinted_at = Some(hint.at);
        self.request_template();
        Ok(())
    }

    /// Asks for the tip, and says when the answer is late: other nodes may take over then.
    async fn ask_tip(&mut self) -> Result<Hash256, NodeError> {
        let asked_at = Instant::now().into_std();
        let call = best_hash(&mut self.client);
        pin!(call);
        let tip = match timeout(LATE_AFTER, &mut call).await {
            Ok(tip) => tip,
            Err(_) => {
                self.outlet.update(|status| status.late_since = Some(asked_at));
                call.await
            }
        }?;
        self.outlet.update(|status| {
            status.answered_at = Some(Instant::now().into_std());
            status.late_since = None;
        });
        Ok(tip)
    }

    /// Unlike others, the node gives templates on old blocks while it downloads new ones.
    async fn see_download(&mut self) -> Result<(), NodeError> {
        if !self.outlet.status().is_in_initial_download {
            return Ok(());
        }
        let info = node_info(&mut self.client).await?;
        self.outlet.update(|status| status.is_in_initial_download = info.is_in_initial_download);
        if info.is_in_initial_download && info.network != bitcoin::Network::Regtest {
            let message = format!("{} of {} blocks are here", info.height, info.headers).into();
            return Err(RpcError::Node { code: SYNCING, message }.into());
        }
        Ok(())
    }

    fn request_template(&mut self) {
        let generation = self.progress.as_ref().map_or(0, Progress::generation);
        self.requests.send_replace(generation);
        self.refresh.reset();
    }

    async fn on_fetched(
        &mut self,
        fetched: Fetched,
        speaker: &mut Speaker,
    ) -> Result<(), NodeError> {
        let Fetched { generation, parsed, took } = fetched;
        let now = Instant::now().into_std();
        self.outlet.update(|status| {
            status.answered_at = Some(now);
            status.template_fetch = Some(took);
        });
        let template = &parsed.template;
        if self.progress.as_ref().is_some_and(|it| it.tip() != Some(template.prevhash)) {
            // The first news of a tip, or the last of an old one. A new tip asks for a template.
            self.on_hint(hint(HintFrom::SlowPoll, None)).await?;
        }
        let Some(progress) = &mut self.progress else { return Ok(()) };
        if !progress.is_next(template) {
            // The node takes the height before it makes the template, and the tip's hash after
            // that: where a block came in between, they do not go together.
            debug!(
                node = %self.node.name, height = template.height, prevhash = %template.prevhash,
                "template: not of the tip"
            );
            return Ok(());
        }
        let FullNews::Fresh { is_new_tip } = progress.on_full(template, generation) else {
            return Ok(()); // The news of the tip asked for another one.
        };
        self.say_cut(parsed.cut);
        let template = parsed.template;
        self.latest.send_replace(Some(Arc::new(Expected::of(&template))));
        self.publish(template, is_new_tip, speaker);
        Ok(())
    }

    fn publish(&mut self, template: Template, is_new_tip: bool, speaker: &mut Speaker) {
        if !self.has_published {
            self.has_published = true;
            speaker.back(&template);
        }
        let after_us = self.hinted_at.take().map(micros);
        debug!(
            node = %self.node.name, height = template.height, prevhash = %template.prevhash, is_new_tip,
            transactions = template.transactions.len(), after_us, "template: full work is out"
        );
        self.outlet.publish_full(template, is_new_tip, Instant::now().into_std());
    }

    fn say_cut(&mut self, cut: usize) {
        if cut > 0 && !self.cut_said {
            self.cut_said = true;
            warn!(
                node = %self.node.name, cut,
                "the last transactions of the node's template are left out: with them, a found \
                 block could not be submitted to it, or a pool would not take it"
            );
        }
    }
}

/// HTTP's status, which the node repeats in JSON: by default it takes 5 calls a second, and 50 at
/// once.
const TOO_MANY: i32 = 429;
const PAUSE_TOO_MANY: Duration = Duration::from_secs(1);
/// Waits between tries to reach the node.
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(5);
const WAIT_REFUSED: Duration = Duration::from_secs(5);
/// Other troubles may be over before the ration is back, and a notice may come.
const WAIT_RATIONED: Duration = Duration::from_secs(10);
/// The net under the NodeAPI and waits, and how a dead node is noticed.
const POLL: Duration = Duration::from_secs(1);
/// One hint is enough to look; a few more do no harm.
const HINTS_MAX: usize = 8;
const FETCHED_MAX: usize = 2;
