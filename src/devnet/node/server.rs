//! The node's socket side: connections, waiting calls, the clock and the growing mempool.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bitcoincore_rpc::jsonrpc::base64;
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use super::{
    Knobs, NodeOptions, Seen,
    gbt::{Template, parse_long_poll_id},
    http::{BadHead, CONTINUE, Head, read_head, response},
    methods::{TemplateRequest, block_bytes, dispatch, verdict},
    rpc::{Answer, Fault, IN_INITIAL_DOWNLOAD, Request, json, reply_to_unreadable},
    state::State,
};
use crate::{clock::unix_seconds, work::Hash256};

/// Shared by all connections and the handle.
pub(super) struct Shared {
    pub(super) options: NodeOptions,
    authorization: String,
    /// Locked for calculations only, never while waiting.
    state: Mutex<State>,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) knobs: watch::Sender<Knobs>,
}

impl Shared {
    pub(super) fn new(options: NodeOptions) -> Self {
        let mut state = State::new(options.nbits, options.seed);
        let now = unix_seconds();
        for at in 0..options.initial_height {
            // A second apart, the last one now.
            state.mine_one(now.saturating_sub(options.initial_height - at));
        }
        state.grow_mempool(options.transactions, options.transactions_max);
        let secret = format!("{}:{}", options.user, options.password);
        Self {
            authorization: format!("Basic {}", base64::encode(secret)),
            seen: watch::Sender::new(state.seen()),
            knobs: watch::Sender::default(),
            state: Mutex::new(state),
            options,
        }
    }

    /// Changes the state, and wakes whoever waits for the change.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let now = state.seen();
        self.seen.send_if_modified(|seen| {
            let is_new = *seen != now;
            *seen = now;
            is_new
        });
        result
    }

    async fn answer(&self, request: &Request<'_>, peer: SocketAddr) -> Answer {
        match &*request.method {
            "getblocktemplate" => self.template(request).await,
            "submitblock" => self.submit(request, peer).await,
            _ => {
                let is_downloading = self.knobs.borrow().initial_block_download;
                self.with(|state| dispatch(state, request, is_downloading))
            }
        }
    }

    async fn template(&self, request: &Request<'_>) -> Answer {
        let asked: TemplateRequest<'_> = request.optional(0)?.unwrap_or_default();
        if let Some(block) = asked.proposal()? {
            let refuse = self.knobs.borrow().refuse_outputs.clone();
            if let Some((most, reason)) = refuse
                && coinbase_outputs(&block).is_some_and(|outputs| outputs > most)
            {
                self.with(|state| state.count_rejection(&reason));
                return json(&reason);
            }
            return verdict(self.with(|state| state.propose(&block, unix_seconds())));
        }
        if self.knobs.borrow().initial_block_download {
            let message = "gatewayd devnet is in initial sync and waiting for blocks...";
            return Err(Fault::new(IN_INITIAL_DOWNLOAD, message));
        }
        asked.check_rules()?;
        if let Some((tip, sequence)) = asked.longpollid.as_deref().and_then(parse_long_poll_id) {
            self.wait_for_news(tip, sequence).await;
        }
        let ingredients = self.with(|state| state.ingredients());
        json(&Template::new(&ingredients, unix_seconds()))
    }

    /// Returns at once on another tip, after a while if the mempool changed, and eventually in any
    /// case.
    async fn wait_for_news(&self, tip: Hash256, sequence: u64) {
        let mut seen = self.seen.subscribe();
        let is_quiet =
            timeout(LONG_POLL_MEMPOOL, seen.wait_for(|seen| seen.tip != tip)).await.is_err();
        if is_quiet {
            let is_news = |seen: &Seen| seen.tip != tip || seen.sequence != sequence;
            let _ = timeout(LONG_POLL_MAX - LONG_POLL_MEMPOOL, seen.wait_for(is_news)).await;
        }
    }

    async fn submit(&self, request: &Request<'_>, peer: SocketAddr) -> Answer {
        let block = block_bytes(request.required(0)?)?;
        let delay = self.knobs.borrow().submit_delay;
        sleep(delay).await;
        let reject_with = self.knobs.borrow().reject_blocks.clone();
        if let Some(reason) = reject_with {
            self.with(|state| state.count_rejection(&reason));
            return json(&reason);
        }
        let (taken, seen) = self
            .with(|state| (state.submit(&block, unix_seconds(), Some(peer.ip())), state.seen()));
        match &taken {
            Ok(Ok(())) => {
                info!(height = seen.height, hash = %seen.tip, %peer, "devnet node: new tip")
            }
            Ok(Err(reason)) => warn!(%reason, %peer, "devnet node: block refused"),
            Err(reason) => warn!(%reason, %peer, "devnet node: block refused"),
        }
        verdict(taken)
    }
}

fn coinbase_outputs(block: &[u8]) -> Option<usize> {
    let block: bitcoin::Block = bitcoin::consensus::deserialize(block).ok()?;
    Some(block.txdata.first()?.output.len())
}

/// Answers on `listener` until `stop`.
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let Ok((stream, peer)) = accepted else {
            sleep(ACCEPT_PAUSE).await; // Probably out of files.
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            warn!(%peer, "devnet node: too many connections");
            continue;
        };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tracker.spawn(async move {
            let mut knobs = shared.knobs.subscribe();
            let conn = Conn { shared: &shared, stream, peer, input: BytesMut::new() };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = knobs.wait_for(|knobs| knobs.unavailable) => {}
                done = conn.run() => if let Err(error) = done {
                    debug!(%peer, %error, "devnet node: connection lost");
                }
            }
            drop(slot);
        });
    }
}

/// Lets transactions arrive until `stop`.
pub(super) async fn grow(shared: Arc<Shared>, stop: CancellationToken) {
    let NodeOptions { transactions_per_second, transactions_max, .. } = shared.options;
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await; // The first tick is immediate.
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        shared.with(|state| state.grow_mempool(transactions_per_second, transactions_max));
    }
}

/// One client.
struct Conn<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    peer: SocketAddr,
    input: BytesMut,
}

impl Conn<'_> {
    async fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        loop {
            let head = match self.head().await? {
                Some(Ok(head)) => head,
                Some(Err(bad)) => return self.refuse(bad).await,
                None => return Ok(()),
            };
            if head.expects_continue && self.input.len() < head.body_len {
                self.stream.write_all(CONTINUE).await?;
            }
            while self.input.len() < head.body_len {
                self.read().await?;
            }
            let body = self.input.split_to(head.body_len);
            let (status, answer) = self.answer(&head, &body).await;
            self.stream.write_all(&response(status, &answer, head.keeps)).await?;
            if !head.keeps {
                return Ok(());
            }
        }
    }

    /// None when the client has closed the connection between two requests.
    async fn head(&mut self) -> io::Result<Option<Result<Head, BadHead>>> {
        loop {
            match read_head(&self.input) {
                Ok(Some((head, len))) => {
                    self.input.advance(len);
                    return Ok(Some(Ok(head)));
                }
                Err(bad) => return Ok(Some(Err(bad))),
                Ok(None) if self.stream.read_buf(&mut self.input).await? == 0 => {
                    return if self.input.is_empty() { Ok(None) } else { Err(unexpected_end()) };
                }
                Ok(None) => {}
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        let count = self.stream.read_buf(&mut self.input).await?;
        if count == 0 { Err(unexpected_end()) } else { Ok(()) }
    }

    async fn answer(&self, head: &Head, body: &[u8]) -> (u16, Vec<u8>) {
        let is_right = head.authorization.as_ref() == Some(&self.shared.authorization);
        if !is_right || self.shared.knobs.borrow().unauthorized {
            return (401, Vec::new());
        }
        match Request::parse(body) {
            Ok(request) => request.reply(&self.shared.answer(&request, self.peer).await),
            Err(fault) => reply_to_unreadable(fault),
        }
    }

    async fn refuse(&mut self, bad: BadHead) -> io::Result<()> {
        debug!(peer = %self.peer, %bad, "devnet node: bad request");
        self.stream.write_all(&response(bad.status(), b"", false)).await?;
        self.stream.shutdown().await?;
        // Closing on unread bytes would reset the connection and lose the answer.
        let mut left = DRAIN_MAX;
        while left > 0 {
            self.input.clear();
            let read = timeout(DRAIN_TIMEOUT, self.stream.read_buf(&mut self.input)).await;
            match read {
                Ok(Ok(count)) if count > 0 => left = left.saturating_sub(count),
                _ => break,
            }
        }
        Ok(())
    }
}

fn unexpected_end() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// A call that waits for a tip occupies one.
const CONNECTIONS_MAX: usize = 256;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Like Bitcoin Core, which does not report a change of only the mempool at first.
const LONG_POLL_MEMPOOL: Duration = Duration::from_secs(10);
const LONG_POLL_MAX: Duration = Duration::from_secs(60);
const DRAIN_MAX: usize = 1 << 20;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
