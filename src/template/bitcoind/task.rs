//! One node as a source: connect, serve, lose it, reconnect.

use std::{sync::Arc, time::Duration};

use bitcoin::Network;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout},
};
use tracing::debug;

use super::{
    fetch::{Fetchers, fetch_on_request},
    meet::{
        easy_at, heard, is_light, is_refused_password, meet, report_down, see_fork, see_side,
        see_silence, told_of_block,
    },
    queries::{Query, QueryResult, QueryTasks, TipQuery},
    wait::{WaitFrom, Waiter},
};
use crate::{
    clock::{now, unix_seconds},
    node::{
        Fork, NodeConfig, NodeError, TipHint, TipHintSource,
        budget::Purpose,
        conn::RpcClient,
        header::{Header, Learned},
        rpc::Reported,
        zmq::{self, ZmqWatch},
    },
    template::{
        Notices, Refresh, RulesWatch, SourceOutput,
        fetch::{FetchRequest, Fetched},
        header_walk,
        node_log::NodeLog,
        probe,
        progress::{FullNews, HeaderNews, Progress},
        zmq_silence::ZmqSilence,
    },
    work::{Hash256, Template},
};

/// Serves forever; it ends by being dropped.
pub(super) async fn run(
    node: NodeConfig,
    (mut refresh, allowed): (Refresh, RulesWatch),
    output: SourceOutput,
    mut notices: Notices,
) {
    let mut node_log = NodeLog::new(Arc::clone(&node.name));
    let zmq_said = zmq::ZmqReport::default();
    let mut learned = None;
    let mut wait = WAIT_MIN;
    loop {
        let news = (&mut refresh, &allowed);
        let said = (&zmq_said, &mut node_log);
        let opened = BitcoindSession::open(&node, news, &output, learned, said).await;
        let error = match opened {
            Ok(mut session) => {
                let error = session.serve(&mut notices, &mut node_log).await;
                learned = session.progress.learned();
                if session.has_published {
                    wait = WAIT_MIN;
                }
                error
            }
            Err(error) => error,
        };
        if error.forbids_work() {
            // From the next header we would make work that the node refuses.
            learned = None;
        }
        report_down(&output, &error);
        node_log.lost(&error);
        let is_lasting = is_refused_password(&error) || error.forbids_work();
        let wait_now = if is_lasting { WAIT_REFUSED } else { wait };
        // A notice is a sign of life: retry at once.
        let _ = timeout(wait_now, notices.next()).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// A period in which the node answers. It only waits for events, never for an answer.
struct BitcoindSession<'a> {
    output: &'a SourceOutput,
    node: Arc<str>,
    network: Network,
    /// What the node said about the chain that it will change to.
    fork: Reported<Option<Fork>>,
    /// Watches ZeroMQ, if it is subscribed to.
    silence: Option<ZmqSilence>,
    progress: Progress,
    has_published: bool,
    /// The tip is known from its template, which tells less than its header.
    header_wanted: bool,
    refresh: Interval,
    refresh_news: &'a mut Refresh,
    poll: Interval,
    polled_at: Instant,
    hints: mpsc::Receiver<TipHint>,
    answers: mpsc::Receiver<Result<QueryResult, NodeError>>,
    fetched: mpsc::Receiver<Result<Fetched, NodeError>>,
    queries: QueryTasks,
    fetchers: Fetchers,
    wait_from: watch::Sender<WaitFrom>,
    is_waiting: watch::Receiver<bool>,
    zmq: ZmqWatch,
    /// When to request a template on a block whose header takes long.
    template_due: Option<(Instant, Hash256)>,
    /// The block for which a template was requested ahead of its header.
    asked_ahead: Option<(Hash256, FetchRequest)>,
    /// When the next block may have minimum difficulty, on a test network.
    easy_at: Option<Instant>,
    /// The hint that led to the pending template request.
    hinted_at: Option<std::time::Instant>,
    /// The weight of the last template, if it is suspiciously low.
    thin: Option<u32>,
    /// Ends with the session.
    _helpers: JoinSet<()>,
}

impl<'a> BitcoindSession<'a> {
    async fn open(
        node: &NodeConfig,
        (refresh, allowed): (&'a mut Refresh, &RulesWatch),
        output: &'a SourceOutput,
        learned: Option<(Network, Learned)>,
        (zmq_said, node_log): (&zmq::ZmqReport, &mut NodeLog),
    ) -> Result<Self, NodeError> {
        let connect = || RpcClient::new(node, Purpose::Templates);
        let mut client = connect();
        let (info, fork) = meet(&mut client, node, output, node_log).await?;
        let (hint_sender, hints) = mpsc::channel(HINTS_MAX);
        let (fetched_sender, fetched) = mpsc::channel(FETCHED_MAX);
        let (answer_sender, answers) = mpsc::channel(ANSWERS_MAX);
        let wait_from = watch::Sender::new(WaitFrom::default());
        let (waiting_sender, is_waiting) = watch::channel(false);
        let (name, network) = (&node.name, info.network);
        let period = *refresh.borrow_and_update();
        let mut helpers = JoinSet::new();
        helpers.spawn(header_walk::run(connect(), network, output.clone(), answer_sender.clone()));
        let queries = QueryTasks::spawn((client, connect()), network, &mut helpers, answer_sender);
        let fetchers = Fetchers::default();
        for requests in fetchers.subscribe() {
            let (name, sender) = (Arc::clone(name), fetched_sender.clone());
            let rules = (network, allowed.clone());
            helpers.spawn(fetch_on_request(connect(), name, rules, requests, sender));
        }
        let zmq = ZmqWatch::new();
        let waiter = Waiter {
            node: Arc::clone(name),
            network,
            allowed: allowed.clone(),
            client: connect(),
            second: connect(),
            from: wait_from.subscribe(),
            is_told: zmq.is_telling.subscribe(),
            is_waiting: waiting_sender,
            hints: hint_sender.clone(),
            output: output.clone(),
        };
        helpers.spawn(waiter.run());
        helpers.spawn(probe::watch(connect(), output.clone(), hint_sender.clone()));
        helpers.spawn(zmq::listen(
            node.clone(),
            hint_sender,
            zmq.is_telling.clone(),
            (zmq_said.clone(), on_zmq_fault(output.clone())),
        ));
        Ok(Self {
            output,
            node: Arc::clone(name),
            network,
            fork,
            silence: node.zmq_hashblock.is_some().then(ZmqSilence::default),
            progress: Progress::new(Arc::clone(name), network, learned),
            has_published: false,
            header_wanted: false,
            refresh: ticks(Duration::ZERO, period),
            refresh_news: refresh,
            poll: ticks(POLL_QUICK, POLL_QUICK),
            polled_at: Instant::now(),
            hints,
            answers,
            fetched,
            queries,
            fetchers,
            wait_from,
            is_waiting,
            zmq,
            template_due: None,
            asked_ahead: None,
            easy_at: None,
            hinted_at: None,
            thin: None,
            _helpers: helpers,
        })
    }

    /// Publishes work until something fails.
    async fn serve(&mut self, notices: &mut Notices, node_log: &mut NodeLog) -> NodeError {
        loop {
            tokio::select! {
                // Answers are handled before new requests are made.
                biased;
                Some(fetched) = self.fetched.recv() => match fetched {
                    Ok(fetched) => self.on_fetched(fetched, node_log),
                    Err(error) => return error,
                },
                Some(answer) = self.answers.recv() => match answer {
                    Ok(answer) => {
                        if let Err(error) = self.on_answer(answer, node_log) {
                            return error;
                        }
                    }
                    Err(error) => return error,
                },
                Some(hint) = self.hints.recv() => self.on_hint(hint, node_log),
                tip = notices.next() => self.on_hint(TipHint::new(TipHintSource::Notice, tip), node_log),
                Ok(()) = self.refresh_news.changed() => {
                    let period = *self.refresh_news.borrow_and_update();
                    self.refresh = ticks(period, period);
                }
                () = until(self.template_due.map(|due| due.0)) => self.ask_ahead(),
                () = until(self.easy_at) => {
                    self.easy_at = None;
                    let _ = self.request_template();
                }
                () = until(self.zmq.due) => self.zmq.on_silence(),
                _ = self.refresh.tick() => self.on_refresh(),
                _ = self.poll.tick() => self.on_poll(node_log),
            }
        }
    }

    fn on_refresh(&mut self) {
        // One that is on its way is just as good.
        if self.fetchers.are_idle() {
            let _ = self.request_template();
        }
        // Checks whether the initial block download has ended.
        if self.has_published && self.output.status().is_in_initial_download {
            self.queries.ask_aside(Query::Info);
        }
        if self.fork == Reported::Later {
            self.queries.ask_aside(Query::Fork);
        }
    }

    fn on_poll(&mut self, node_log: &mut NodeLog) {
        let is_told = *self.zmq.is_telling.borrow() || *self.is_waiting.borrow();
        if is_told && self.polled_at.elapsed() < POLL {
            return;
        }
        self.polled_at = Instant::now();
        see_silence(self.silence.as_mut(), self.output, node_log);
        self.look(TipQuery::new(TipHint::new(TipHintSource::SlowPoll, None)), true);
        if let Some(weight) = self.thin.take().filter(|_| node_log.wants_mempool()) {
            self.queries.ask_aside(Query::Mempool(weight));
        }
    }

    fn on_hint(&mut self, hint: TipHint, node_log: &mut NodeLog) {
        debug!(node = %self.node, from = ?hint.from, tip = ?hint.tip, "there may be a new tip");
        if hint.from == TipHintSource::Zmq {
            self.zmq.on_hint(hint.tip);
            heard(self.silence.as_mut(), self.output, node_log);
        }
        // Whoever sent the notice may know of a block before the node does.
        self.look(TipQuery::new(hint), hint.from != TipHintSource::Notice);
    }

    /// Requests the header of the block that may be a new tip, or the tip's hash first. `is_known`:
    /// the node itself has named the block.
    fn look(&mut self, look: TipQuery, is_known: bool) {
        let look = TipQuery { generation: self.progress.generation(), ..look };
        let Some(tip) = look.hint.tip else { return self.queries.ask_tip(look) };
        let is_worked_on = self.progress.tip() == Some(tip);
        // Anything more about the current tip can wait for a poll.
        let is_enough = is_worked_on && (!self.header_wanted || self.queries.is_asking(None));
        if is_enough || self.queries.is_asking(Some(tip)) {
            return;
        }
        self.queries.ask_header(tip, look);
        if is_known && !is_worked_on {
            self.template_due = Some((Instant::now() + HEAD_START, tip));
        }
    }

    fn on_answer(&mut self, answer: QueryResult, node_log: &mut NodeLog) -> Result<(), NodeError> {
        self.answered();
        match answer {
            QueryResult::Tip(tip, look) => {
                let again = self.queries.on_tip();
                self.look(TipQuery { hint: TipHint { tip: Some(tip), ..look.hint }, ..look }, true);
                if let Some(again) = again {
                    self.look(again, true);
                }
            }
            QueryResult::Header(hash, header, look) => {
                self.on_header(hash, header, look)?;
                self.queries.on_header(self.progress.generation());
            }
            QueryResult::Mempool(weight, waiting) => node_log.mempool(weight, waiting),
            QueryResult::Info(info) => self.output.update(|status| {
                status.is_in_initial_download = info.is_in_initial_download;
            }),
            QueryResult::Fork(fork) => {
                self.fork = fork;
                see_fork(fork, self.output.status().fork, self.output, node_log)?;
            }
        }
        Ok(())
    }

    /// Publishes work on the block if it is a new tip.
    fn on_header(
        &mut self,
        hash: Hash256,
        header: Option<Header>,
        look: TipQuery,
    ) -> Result<(), NodeError> {
        self.template_due = self.template_due.filter(|(_, tip)| *tip != hash);
        // An answer from before the tip that is known by now is outdated.
        let is_late =
            look.generation != self.progress.generation() && self.progress.tip() != Some(hash);
        // An unknown block is not an error: the hint came from somebody else, or too early.
        let Some(header) = header.filter(|_| !is_late) else {
            self.look_again(look);
            return Ok(());
        };
        see_side(self.output.status().fork, &header, self.output)?;
        self.output.show(&header, self.network)?;
        match self.progress.on_header(&header, unix_seconds()) {
            HeaderNews::NotTip => self.look_again(look),
            HeaderNews::NewTip(template) => self.on_new_tip(&header, look.hint, template),
            HeaderNews::Known => {
                self.header_wanted = false;
                self.easy_at = easy_at(&header, self.network);
                self.output.update(|status| status.work = header.work);
            }
        }
        Ok(())
    }

    /// Unless the tip changes faster than it can be requested; then the next hint will tell.
    fn look_again(&mut self, look: TipQuery) {
        if let Some(tries) = look.tries.checked_sub(1) {
            self.look(TipQuery { hint: TipHint { tip: None, ..look.hint }, tries, ..look }, true);
        }
    }

    fn on_new_tip(&mut self, header: &Header, hint: TipHint, template: Option<Template>) {
        let (node, from) = (&self.node, hint.from);
        let (height, tip) = (header.height, header.hash);
        self.header_wanted = false;
        self.easy_at = easy_at(header, self.network);
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
        self.wait_from.send_modify(|wait| wait.height = height);
        self.zmq.on_tip(tip);
        told_of_block(self.silence.as_mut(), hint.from);
        self.hinted_at = Some(hint.at);
        if self.asked_ahead.take().is_none_or(|(ahead, _)| ahead != tip) {
            let _ = self.request_template();
        }
    }

    fn ask_ahead(&mut self) {
        if let Some((_, tip)) = self.template_due.take() {
            let request = self.request_template();
            self.asked_ahead = Some((tip, request));
        }
    }

    fn request_template(&mut self) -> FetchRequest {
        self.refresh.reset();
        self.fetchers.request(self.progress.generation())
    }

    fn on_fetched(&mut self, fetched: Fetched, node_log: &mut NodeLog) {
        let Fetched { request, parsed, took } = fetched;
        self.fetchers.on_fetched(request);
        self.answered();
        self.output.update(|status| status.template_fetch = Some(took));
        let prevhash = parsed.template.prevhash;
        // If the node did not know that block yet, its header will request another template.
        self.asked_ahead =
            self.asked_ahead.filter(|(tip, ahead)| *ahead != request || *tip == prevhash);
        self.template_due = self.template_due.filter(|(_, tip)| *tip != prevhash);
        match self.progress.on_full(&parsed.template, request.generation) {
            // The new tip has requested another one, unless this was it.
            FullNews::Outdated => {
                if self.fetchers.are_idle() {
                    let _ = self.request_template();
                }
            }
            FullNews::Fresh { is_new_tip } => {
                let (template, longpollid) = (parsed.template, parsed.longpollid);
                node_log.cut(parsed.cut);
                node_log.unmet(&parsed.unmet);
                // Asked between templates, so as not to delay one.
                self.thin = is_light(&template).then_some(template.total_weight);
                self.publish(template, longpollid, is_new_tip, node_log);
            }
        }
    }

    fn publish(
        &mut self,
        template: Template,
        longpollid: Option<Box<str>>,
        is_new_tip: bool,
        node_log: &mut NodeLog,
    ) {
        let (height, tip) = (template.height.saturating_sub(1), template.prevhash);
        if !self.has_published {
            self.has_published = true;
            node_log.back(&template);
        }
        let after_us = self.hinted_at.take().map(micros);
        debug!(
            node = %self.node, height = template.height, prevhash = %template.prevhash, is_new_tip,
            transactions = template.transactions.len(), after_us, "template: full work sent"
        );
        self.output.publish_full(template, is_new_tip, now());
        if is_new_tip {
            self.header_wanted = true;
            self.zmq.on_tip(tip);
            self.look(TipQuery::new(TipHint::new(TipHintSource::SlowPoll, Some(tip))), true);
        }
        self.wait_from.send_modify(|wait| {
            wait.height = height;
            if longpollid.is_some() {
                wait.longpollid = longpollid;
            }
        });
    }

    fn answered(&self) {
        self.output.update(|status| status.answered_at = Some(now()));
    }
}

/// Puts what is wrong with the node's ZeroMQ into its status.
fn on_zmq_fault(output: SourceOutput) -> impl Fn(Arc<str>) {
    move |why| output.update(|status| status.zmq_trouble = Some(why))
}

pub(in crate::template) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

pub(in crate::template) fn micros(since: std::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Ticks `after`, then each `period`; a late tick delays the following ones.
pub(in crate::template) fn ticks(after: Duration, period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + after, period.max(PERIOD_MIN));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits between attempts to reach a node: it is in use again within the last of these plus the
/// time for a template.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(1);
/// For errors that retrying more often would not change.
pub(in crate::template) const WAIT_REFUSED: Duration = Duration::from_secs(5);
/// The net under ZeroMQ (or blvm-node's NodeAPI) and waits, and how a dead node is noticed.
pub(in crate::template) const POLL: Duration = Duration::from_secs(1);
/// When neither ZeroMQ nor a wait announces tips.
const POLL_QUICK: Duration = Duration::from_millis(250);
/// A header arrives in a millisecond, and work on it is sent first: if a template had been
/// requested before it, the node would make the header wait for that. If the node's answers take
/// long, there is no reason to ask one after the other.
pub(in crate::template) const HEAD_START: Duration = Duration::from_millis(100);
/// `tokio::time::interval` refuses zero, and a node must not be asked in a tight loop.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// One hint is enough to make it check; a few more do no harm.
pub(in crate::template) const HINTS_MAX: usize = 8;
pub(in crate::template) const FETCHED_MAX: usize = 2;
const ANSWERS_MAX: usize = 4;
