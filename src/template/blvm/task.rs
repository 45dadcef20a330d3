//! One blvm-node as a source: connect, serve, lose it, go on.
//!
//! Connections are scarce: the node accepts 10 a minute. So they are kept when something fails, and
//! waits have a separate one. The task itself only waits for events, never for an answer.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, Interval, timeout},
};
use tracing::{debug, warn};

use super::{
    Blvm,
    feeds::{fetch_on_request, probe_limit, wait_for_tips},
    queries::{QueryResult, QueryTask, Tip, is_too_much},
};
use crate::{
    clock::{now, unix_seconds},
    node::{
        NodeConfig, NodeError, RpcError, TipHint, TipHintSource,
        blvm::{conn::NodeApi, message::Expected, rpc::RequestMax},
        error::SYNCING,
        header::Header,
        rpc::NodeInfo,
    },
    template::{
        Notices, Refresh, SourceOutput,
        bitcoind::{
            meet::{is_refused_password, state_after},
            task::{FETCHED_MAX, HEAD_START, HINTS_MAX, POLL, WAIT_REFUSED, micros, ticks, until},
        },
        fetch::{FetchRequest, Fetched},
        node_log::{NodeLog, introduce},
        progress::{FullNews, HeaderNews, Progress},
    },
    work::{Hash256, Template},
};

/// Whether another node that accepts blocks of any size is up. If none is, blocks too large for
/// this one must not be mined.
pub(in crate::template) type AnyBlockWatch = watch::Receiver<bool>;

/// Serves forever; it ends by being dropped.
pub(super) async fn run(blvm: Blvm, output: SourceOutput, mut notices: Notices) {
    let mut node_log = NodeLog::new(Arc::clone(&blvm.node.name));
    let mut wait = WAIT_MIN;
    let mut source = BlvmSession::new(blvm, &output);
    loop {
        let error = source.serve(&mut notices, &mut node_log).await;
        if std::mem::take(&mut source.has_published) {
            wait = WAIT_MIN;
        }
        report_down(&output, &error);
        node_log.lost(&error);
        let wait_now = match &error {
            NodeError::Rpc(RpcError::Rationed { wait, .. } | RpcError::TurnedAway { wait, .. }) => {
                (*wait).min(WAIT_RATIONED)
            }
            error if is_refused_password(error) => WAIT_REFUSED,
            _ => wait,
        };
        // A notice is a sign of life: retry at once.
        let _ = timeout(wait_now, notices.next()).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

fn report_down(output: &SourceOutput, error: &NodeError) {
    output.update(|status| {
        status.state = state_after(error);
        status.late_since = None;
        status.last_error = Some(format!("{error}: {}", error.advice()).into());
    });
}

/// The node and the tasks that listen to it.
struct BlvmSession<'a> {
    node: NodeConfig,
    output: &'a SourceOutput,
    queries: QueryTask,
    progress: Option<Progress>,
    has_published: bool,
    refresh: Interval,
    refresh_news: Refresh,
    poll: Interval,
    hints: mpsc::Receiver<TipHint>,
    fetched: mpsc::Receiver<Result<Fetched, NodeError>>,
    requests: watch::Sender<FetchRequest>,
    /// A template on a block that is not yet known to be the tip.
    held: Option<Fetched>,
    /// When to request a template on a block whose header takes long.
    template_due: Option<(Instant, Hash256)>,
    /// The block for which a template was requested ahead of its header.
    asked_ahead: Option<(Hash256, FetchRequest)>,
    /// For comparison with the NodeAPI.
    latest: watch::Sender<Option<Arc<Expected>>>,
    /// How often the node was reached again, since its limits may have changed.
    begun: watch::Sender<u64>,
    limit: watch::Receiver<RequestMax>,
    any_block: AnyBlockWatch,
    hinted_at: Option<std::time::Instant>,
    cut_said: bool,
    /// They end with the source.
    _helpers: JoinSet<()>,
}

impl<'a> BlvmSession<'a> {
    fn new(blvm: Blvm, output: &'a SourceOutput) -> Self {
        let Blvm { node, blvm, mut refresh, allowed, any_block } = blvm;
        let period = *refresh.borrow_and_update();
        let (hint_sender, hints) = mpsc::channel(HINTS_MAX);
        let (fetched_sender, fetched) = mpsc::channel(FETCHED_MAX);
        let (limit_sender, limit) = watch::channel(RequestMax::DEFAULT);
        let (requests, latest) =
            (watch::Sender::new(FetchRequest::default()), watch::Sender::new(None));
        let begun = watch::Sender::new(0);
        let is_connected = Arc::new(AtomicBool::new(false));
        let mut helpers = JoinSet::new();
        let queries = QueryTask::spawn(&node, output.clone(), &mut helpers);
        helpers.spawn(probe_limit(
            node.clone(),
            begun.subscribe(),
            any_block.clone(),
            limit_sender,
        ));
        helpers.spawn(fetch_on_request(
            node.clone(),
            (limit.clone(), any_block.clone(), allowed),
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
        helpers.spawn(wait_for_tips(node.clone(), is_connected, hint_sender));
        Self {
            node,
            output,
            queries,
            progress: None,
            has_published: false,
            refresh: ticks(Duration::ZERO, period),
            refresh_news: refresh,
            poll: ticks(POLL, POLL),
            hints,
            fetched,
            requests,
            held: None,
            template_due: None,
            asked_ahead: None,
            latest,
            begun,
            limit,
            any_block,
            hinted_at: None,
            cut_said: false,
            _helpers: helpers,
        }
    }

    /// Publishes work until something fails.
    async fn serve(&mut self, notices: &mut Notices, node_log: &mut NodeLog) -> NodeError {
        if let Err(error) = self.begin().await {
            return error;
        }
        loop {
            let step = tokio::select! {
                // Answers are handled before new requests are made.
                biased;
                Some(fetched) = self.fetched.recv() => self.on_fetch(fetched, node_log),
                Some(answer) = self.queries.next() => self.on_answer(answer, node_log),
                Some(hint) = self.hints.recv() => self.on_hint(hint),
                tip = notices.next() => self.on_hint(TipHint::new(TipHintSource::Notice, tip)),
                Ok(()) = self.limit.changed() => self.request_template(),
                Ok(()) = self.any_block.changed() => self.request_template(),
                Ok(()) = self.refresh_news.changed() => {
                    let period = *self.refresh_news.borrow_and_update();
                    self.refresh = ticks(period, period);
                    Ok(())
                }
                () = until(self.template_due.map(|due| due.0)) => self.ask_ahead(),
                _ = self.refresh.tick() => {
                    if self.output.status().is_in_initial_download {
                        self.queries.ask_info();
                    }
                    self.request_template()
                }
                _ = self.poll.tick() => self.on_hint(TipHint::new(TipHintSource::SlowPoll, None)),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    /// Asks who the node is, and for its first template.
    async fn begin(&mut self) -> Result<(), NodeError> {
        let info = self.queries.meet().await?;
        introduce(&self.node, &info, self.output);
        // It has tasks instead.
        self.output.update(|status| status.has_spare_threads = Some(true));
        self.begun.send_modify(|count| *count += 1);
        self.check_download(&info)?;
        let learned = self.progress.take().and_then(|progress| progress.learned());
        let source = Arc::clone(&self.node.name);
        self.progress = Some(Progress::new(source, info.network, learned));
        // Left over from before the failure.
        while self.fetched.try_recv().is_ok() {}
        (self.held, self.template_due, self.asked_ahead) = (None, None, None);
        self.request_template()
    }

    fn tip(&self) -> Option<Hash256> {
        self.progress.as_ref().and_then(Progress::tip)
    }

    /// Asks for the tip, if the hint may be of a new one.
    fn on_hint(&mut self, hint: TipHint) -> Result<(), NodeError> {
        let known = self.tip();
        if hint.tip.is_some() && hint.tip == known {
            return Ok(());
        }
        // Only the node's best block counts: its events also report blocks on other branches.
        self.queries.ask_tip(hint, known, hint.from != TipHintSource::SlowPoll);
        // Whoever sent the notice may know of a block before the node does.
        if let Some(tip) = hint.tip.filter(|_| hint.from != TipHintSource::Notice) {
            self.template_due = Some((Instant::now() + HEAD_START, tip));
        }
        Ok(())
    }

    fn on_answer(&mut self, answer: QueryResult, node_log: &mut NodeLog) -> Result<(), NodeError> {
        match answer {
            QueryResult::Info(Ok(info)) => self.check_download(&info),
            QueryResult::Tip(hint, Ok(tip)) => {
                self.on_tip(hint, &tip, node_log)?;
                match self.queries.news() {
                    Some(news) => self.on_hint(news),
                    None => {
                        // It builds on a block that never was the tip, or is not any more.
                        self.held = None;
                        Ok(())
                    }
                }
            }
            QueryResult::Info(Err(error)) | QueryResult::Tip(_, Err(error))
                if is_too_much(&error) =>
            {
                debug!(node = %self.node.name, "too many requests for the node; slowing down");
                self.on_hint(TipHint::new(TipHintSource::SlowPoll, None))
            }
            QueryResult::Info(Err(error)) | QueryResult::Tip(_, Err(error)) => Err(error),
        }
    }

    /// Publishes work on the tip if it is new.
    fn on_tip(
        &mut self,
        hint: TipHint,
        tip: &Tip,
        node_log: &mut NodeLog,
    ) -> Result<(), NodeError> {
        self.template_due = None;
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let Some(header) = tip.header.as_deref().filter(|_| progress.tip() != Some(tip.hash))
        else {
            return Ok(());
        };
        let HeaderNews::NewTip(template) = progress.on_header(header, unix_seconds()) else {
            return Ok(());
        };
        if let Some(network) = self.output.status().network {
            self.output.show(header, network)?;
        }
        self.publish_tip(header, hint, template);
        let is_held = |held: &mut Fetched| held.parsed.template.prevhash == header.hash;
        let is_served = match self.held.take_if(is_held) {
            Some(held) => self.on_template(held, node_log),
            None => self.asked_ahead.is_some_and(|(ahead, _)| ahead == header.hash),
        };
        if is_served { Ok(()) } else { self.request_template() }
    }

    fn publish_tip(&mut self, header: &Header, hint: TipHint, template: Option<Template>) {
        let (node, height, tip, from) = (&self.node.name, header.height, header.hash, hint.from);
        if let Some(template) = template {
            self.output.publish(Arc::new(template));
            let after_us = micros(hint.at);
            debug!(%node, height, %tip, ?from, after_us, "new tip: empty work sent");
        } else {
            debug!(%node, height, %tip, ?from, "new tip: waiting for its template");
        }
        self.output.update(|status| {
            status.height = Some(height);
            status.tip = Some((tip, hint.at));
            status.work = header.work;
        });
        self.hinted_at = Some(hint.at);
    }

    /// Unlike other nodes, it gives templates on old blocks while it is downloading new ones.
    fn check_download(&self, info: &NodeInfo) -> Result<(), NodeError> {
        self.output.update(|status| status.is_in_initial_download = info.is_in_initial_download);
        if info.is_in_initial_download && info.network != bitcoin::Network::Regtest {
            let message = format!("it has {} of {} blocks", info.height, info.headers).into();
            return Err(RpcError::Node { code: SYNCING, message }.into());
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "a step like the others")]
    fn request_template(&mut self) -> Result<(), NodeError> {
        let generation = self.progress.as_ref().map_or(0, Progress::generation);
        self.requests.send_modify(|request| {
            *request = FetchRequest { id: request.id + 1, generation, ..*request };
        });
        self.asked_ahead = None;
        self.refresh.reset();
        Ok(())
    }

    fn ask_ahead(&mut self) -> Result<(), NodeError> {
        let due = self.template_due.take();
        self.request_template()?;
        let request = *self.requests.borrow();
        self.asked_ahead = due.map(|(_, tip)| (tip, request));
        Ok(())
    }

    fn on_fetch(
        &mut self,
        fetched: Result<Fetched, NodeError>,
        node_log: &mut NodeLog,
    ) -> Result<(), NodeError> {
        match fetched {
            Ok(fetched) => self.on_fetched(fetched, node_log),
            Err(error) if is_too_much(&error) => {
                debug!(node = %self.node.name, "too many requests for the node; slowing down");
                self.request_template()
            }
            Err(error) => Err(error),
        }
    }

    fn on_fetched(&mut self, fetched: Fetched, node_log: &mut NodeLog) -> Result<(), NodeError> {
        let now = now();
        self.output.update(|status| {
            status.answered_at = Some(now);
            status.template_fetch = Some(fetched.took);
        });
        let (request, prevhash, tip) =
            (fetched.request, fetched.parsed.template.prevhash, self.tip());
        let ahead = self.asked_ahead.take_if(|(_, ahead)| *ahead == request);
        if tip == Some(prevhash) {
            let is_good = self.on_template(fetched, node_log);
            return if is_good || ahead.is_none() { Ok(()) } else { self.request_template() };
        }
        // The first sign of a new tip, or the last template of an old one. A new tip requests a
        // template, unless this was it.
        let is_old = request.generation < self.progress.as_ref().map_or(0, Progress::generation);
        if is_old && ahead.is_some_and(|(ahead, _)| Some(ahead) == tip) {
            self.request_template()?;
        }
        self.queries.ask_tip(TipHint::new(TipHintSource::SlowPoll, None), tip, true);
        self.held = Some(fetched);
        Ok(())
    }

    /// Publishes a template on the tip; false if it is on another block.
    fn on_template(&mut self, fetched: Fetched, node_log: &mut NodeLog) -> bool {
        let Fetched { request, parsed, .. } = fetched;
        let template = &parsed.template;
        let Some(progress) = &mut self.progress else { return false };
        if !progress.is_next(template) {
            // The node reads the height before it makes the template, and the tip's hash after
            // that: if a block came in between, they do not match.
            debug!(
                node = %self.node.name, height = template.height, prevhash = %template.prevhash,
                "template is not for the tip"
            );
            return false;
        }
        let FullNews::Fresh { is_new_tip } = progress.on_full(template, request.generation) else {
            return false;
        };
        self.held = None;
        self.log_cut(parsed.cut);
        let template = parsed.template;
        self.latest.send_replace(Some(Arc::new(Expected::of(&template))));
        self.publish(template, is_new_tip, node_log);
        true
    }

    fn publish(&mut self, template: Template, is_new_tip: bool, node_log: &mut NodeLog) {
        if !self.has_published {
            self.has_published = true;
            node_log.back(&template);
        }
        let after_us = self.hinted_at.take().map(micros);
        debug!(
            node = %self.node.name, height = template.height, prevhash = %template.prevhash, is_new_tip,
            transactions = template.transactions.len(), after_us, "template: full work sent"
        );
        self.output.publish_full(template, is_new_tip, now());
    }

    fn log_cut(&mut self, cut: usize) {
        if cut > 0 && !self.cut_said {
            self.cut_said = true;
            warn!(
                node = %self.node.name, cut,
                "the last transactions of the node's template are left out: with them, a found \
                 block could not be submitted to it, or a pool would not accept it"
            );
        }
    }
}

/// Waits between attempts to reach the node.
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Other problems may be over before the budget is, and a notice may come.
const WAIT_RATIONED: Duration = Duration::from_secs(10);
