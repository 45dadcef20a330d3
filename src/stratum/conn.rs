//! Puts a [`Protocol`] on a socket. The only file here that knows tokio or reads the clock.
//!
//! Reads, answers and writes in buffers that belong to the thread, inside one poll: an idle
//! connection owns no buffer, and a share crosses no task, lock or allocation on its way.

use std::{
    future::{Future, poll_fn},
    io,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::{mpsc, watch},
    task::unconstrained,
    time::{Sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Closing, Config, Effects, Protocol, Tally, UsageMeter,
    alarm::Alarm,
    buffers::{BUFFERS, Buffers, PARTIAL_MAX, READ_LEN},
};
use crate::{
    books::{Counters, roster::Eviction},
    clock::now,
    work::{Allowance, FoundBlock, ShareBatch, ShareLane, Work},
};

/// Takes a block to the nodes. Must not block: it runs in the miner's connection.
pub(crate) type BlockSink = Arc<dyn Fn(Box<FoundBlock>) + Send + Sync>;

/// What every connection has from the daemon.
#[derive(Clone)]
pub struct Context {
    /// The latest rules; connections take them with the next work.
    pub config: watch::Receiver<Arc<Config>>,
    pub work: watch::Receiver<Arc<Work>>,
    pub blocks: BlockSink,
    /// Shares for the pool; none when no pool is configured.
    pub shares: Option<mpsc::Sender<ShareBatch>>,
    pub counters: Arc<Counters>,
    /// Ends all connections; the listener passes it on.
    pub shutdown: CancellationToken,
}

/// Why a connection ended badly.
#[derive(Debug, Error)]
pub(crate) enum ConnError {
    #[error(transparent)]
    Close(#[from] Closing),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("sent more than {PARTIAL_MAX} bytes without the end of a line or frame")]
    TooLong,
    #[error("stopped reading")]
    WriteStalled,
}

/// One miner's connection. Owned by one task; nothing here is shared except the context.
pub(crate) struct MinerConnection<S, P> {
    context: Arc<Context>,
    socket: S,
    session: P,
    eviction: Arc<Eviction>,
    /// Shares for the pool; none when no pool is configured.
    lane: Option<ShareLane>,
    config: watch::Receiver<Arc<Config>>,
    work: Arc<Work>,
    latest: watch::Receiver<Arc<Work>>,
    stop: watch::Receiver<()>,
    /// The start of a line or frame, or what is left for the next turn.
    partial: Vec<u8>,
    /// It contains a whole line or frame.
    is_cut: bool,
    /// What the socket has not taken yet. As long as there is any, nothing is read.
    unsent: Vec<u8>,
    /// When a miner that does not read is given up on.
    write_by: Option<Instant>,
    /// Of answers, until a share shows that somebody does work here.
    allowance: Allowance<BYTE_US, BYTES_AT_ONCE>,
    meter: UsageMeter,
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Protocol> MinerConnection<S, P> {
    /// The connection drains and ends when `stop` loses its sender, or when `eviction` asks for it.
    /// `open` makes the session from the current rules and work.
    pub(crate) fn new(
        context: Arc<Context>,
        socket: S,
        eviction: Arc<Eviction>,
        stop: watch::Receiver<()>,
        open: impl FnOnce(Arc<Config>, &Work, Instant) -> P,
    ) -> Self {
        let mut latest = context.work.clone();
        let work = Arc::clone(&latest.borrow_and_update());
        let mut config = context.config.clone();
        let rules = Arc::clone(&config.borrow_and_update());
        let session = open(rules, &work, now());
        context.counters.connected();
        Self {
            lane: context.shares.clone().map(ShareLane::new),
            context,
            socket,
            session,
            eviction,
            config,
            work,
            latest,
            stop,
            partial: Vec::new(),
            is_cut: false,
            unsent: Vec::new(),
            write_by: None,
            allowance: Allowance::default(),
            meter: UsageMeter::default(),
        }
    }

    /// Adds limits.
    pub(crate) fn with_meter(mut self, meter: UsageMeter) -> Self {
        self.meter = meter;
        self
    }

    /// Serves the miner until it leaves, misbehaves or the daemon stops.
    pub(crate) async fn serve(mut self) -> Result<(), ConnError> {
        let ended = self.run().await;
        let is_stopping = self.stop.has_changed().is_err();
        if matches!(ended, Ok(()) | Err(ConnError::Close(_))) {
            // What a miner sent before being sent away, by no fault of its own, may be a block.
            let is_drained = matches!(ended, Ok(()) | Err(ConnError::Close(Closing::SentAway(_))));
            self.finish(is_drained, is_stopping).await;
        }
        ended
    }

    async fn run(&mut self) -> Result<(), ConnError> {
        // Admission may have closed since this connection was accepted.
        self.work.admits().map_err(Closing::SentAway)?;
        let mut latest = self.latest.clone();
        let mut stop = self.stop.clone();
        let mut timer = pin!(sleep_until(self.deadline().into()));
        loop {
            let turn = {
                let changed = pin!(unconstrained(latest.changed()));
                let stopped = pin!(unconstrained(stop.changed()));
                let mut alarm = Alarm::new(changed, stopped);
                poll_fn(|cx| self.poll_turn(cx, &mut alarm, timer.as_mut())).await?
            };
            if turn.is_break() {
                return Ok(());
            }
            latest.mark_unchanged();
        }
    }

    /// Works until there is nothing left to do, then sleeps; or until its turn is over. Ready with
    /// new work handled, and at the end. In order: the end, new work, the socket, the clock.
    fn poll_turn(
        &mut self,
        cx: &mut TaskContext<'_>,
        alarm: &mut Alarm<'_, impl Future, impl Future>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Result<ControlFlow<()>, ConnError>> {
        let mut turns = 0;
        loop {
            let changed = self.latest.has_changed();
            // An error means that nobody makes work any more, or waits for this connection to end.
            let (Ok(changed), Ok(_)) = (changed, self.stop.has_changed()) else {
                return Poll::Ready(Ok(ControlFlow::Break(())));
            };
            if self.eviction.is_requested() {
                return Poll::Ready(Ok(ControlFlow::Break(())));
            }
            let reads = self.unsent.is_empty();
            let flushed = self.poll_flush(cx)?.is_ready();
            if flushed {
                if changed {
                    return Poll::Ready(self.take_work(cx, reads));
                }
                match self.poll_unless_paused(cx)? {
                    Poll::Ready(ControlFlow::Continue(())) => {
                        // A miner that sends without pause must not hold up the timers.
                        if now() >= self.session.deadline() {
                            self.send_unasked(cx, |session, work, out| {
                                session.on_deadline(work, now(), out)
                            })?;
                        }
                        turns += 1;
                        if self.is_cut || turns >= READS_A_TURN {
                            self.close_channels(cx, false)?;
                            // Queued behind all others that have something to do.
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Poll::Ready(end) => return Poll::Ready(Ok(end)),
                    Poll::Pending => {}
                }
            }
            if self.close_channels(cx, true)? {
                continue;
            }
            let (rang, is_new) = alarm.poll(cx);
            if is_new {
                self.eviction.set_waker(cx.waker());
                if self.eviction.is_requested() {
                    continue;
                }
            }
            if rang.is_ready() {
                // If `flushed`, the next turn takes the work; otherwise it waits until the miner
                // reads again, and what it has missed by then does not matter.
                return Poll::Ready(Ok(ControlFlow::Continue(())));
            }
            if is_new && self.eviction.has_channels() {
                continue;
            }
            if self.poll_clock(cx, timer.as_mut())?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Closes the channels whose places are needed, if any. `is_read`: all that they sent before,
    /// which may be a block, has been read.
    fn close_channels(
        &mut self,
        cx: &mut TaskContext<'_>,
        is_read: bool,
    ) -> Result<bool, ConnError> {
        let is_due = self.eviction.take_channels(is_read);
        Ok(is_due && self.send_unasked(cx, |session, _, out| session.on_eviction(now(), out))?)
    }

    /// `reads`: the miner is reading what it is sent.
    fn take_work(
        &mut self,
        cx: &mut TaskContext<'_>,
        reads: bool,
    ) -> Result<ControlFlow<()>, ConnError> {
        let tip = *self.work.tip();
        self.work = Arc::clone(&self.latest.borrow_and_update());
        // On an error the last rules stay in force.
        if self.config.has_changed().unwrap_or(false) {
            let config = Arc::clone(&self.config.borrow_and_update());
            self.session.on_config(&config, &self.work, now());
        }
        let told = self.send_unasked(cx, |session, work, out| session.on_work(work, now(), out))?;
        if told && reads && tip != *self.work.tip() {
            self.context.counters.tip.told(&self.work, now());
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Lets the session send something unasked. True if it did.
    fn send_unasked(
        &mut self,
        cx: &mut TaskContext<'_>,
        say: impl FnOnce(&mut P, &Work, &mut Vec<u8>) -> Result<(), Closing>,
    ) -> Result<bool, ConnError> {
        BUFFERS.with_borrow_mut(|buffers| {
            buffers.out.clear();
            let said = say(&mut self.session, &self.work, &mut buffers.out);
            let written = self.write(cx, &buffers.out);
            said?;
            written?;
            Ok(!buffers.out.is_empty())
        })
    }

    fn poll_unless_paused(
        &mut self,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Result<ControlFlow<()>, ConnError>> {
        if self.pause(now()).is_some() {
            return Poll::Pending;
        }
        self.poll_read(cx)
    }

    /// Reads once and answers all that is complete. Pending when there was nothing to read.
    fn poll_read(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<ControlFlow<()>, ConnError>> {
        BUFFERS.with_borrow_mut(|buffers| {
            let held = self.partial.len();
            buffers.inbox[..held].copy_from_slice(&self.partial);
            let mut read = 0;
            if !self.is_cut {
                let mut buffer = ReadBuf::new(&mut buffers.inbox[held..held + READ_LEN]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
                read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Ok(ControlFlow::Break(())));
                }
            }
            let Buffers { inbox, out, effects } = buffers;
            out.clear();
            let began = now();
            let answered = self.answer(&mut inbox[..held + read], began, out, effects);
            for block in effects.blocks.drain(..) {
                (self.context.blocks)(block);
            }
            let written = self.write(cx, out);
            if !out.is_empty() && !self.session.is_proven() {
                self.allowance.spend(out.len(), began);
            }
            let counters = &self.context.counters;
            if effects.tally.has_any() {
                counters.submits.observe(now().saturating_duration_since(began));
            }
            self.relay(effects);
            let paid = self.pay([read, out.len()], &effects.tally, began);
            effects.tally.settle(&self.context.counters);
            answered?;
            written?;
            paid?;
            Poll::Ready(Ok(ControlFlow::Continue(())))
        })
    }

    fn pay(&mut self, bytes: [usize; 2], tally: &Tally, now: Instant) -> Result<(), Closing> {
        self.eviction.note_activity(now);
        let paid = self.meter.record(bytes, tally, self.session.is_proven(), now);
        paid.inspect_err(|why| self.session.on_limit(why, &mut self.unsent))
    }

    /// Answers what is complete in `inbox` and keeps what is left of it.
    fn answer(
        &mut self,
        inbox: &mut [u8],
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<(), ConnError> {
        effects.is_cut = false;
        let used = self.session.on_bytes(inbox, &self.work, now, out, effects)?;
        self.is_cut = effects.is_cut;
        let rest = inbox.get(used..).unwrap_or_default();
        if rest.len() > PARTIAL_MAX && !self.is_cut {
            return Err(ConnError::TooLong);
        }
        if rest.is_empty() {
            if self.partial.capacity() > 0 {
                self.partial = Vec::new();
            }
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Hands accepted shares to the pool client, which may be too busy: miners never wait for it.
    fn relay(&self, effects: &mut Effects) {
        let Some(lane) = &self.lane else {
            return effects.shares.clear();
        };
        effects.shares.retain(|share| share.job.payout.pooled.is_some());
        if effects.shares.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut effects.shares);
        let count = batch.len() as u64;
        if !lane.send(batch) {
            self.context.counters.add_relay_dropped(count);
        }
    }

    /// Sends what the socket takes at once and keeps the rest.
    fn write(&mut self, cx: &mut TaskContext<'_>, mut out: &[u8]) -> Result<(), ConnError> {
        while !out.is_empty() && self.unsent.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, out) {
                Poll::Ready(written) => match written? {
                    0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    written => out = &out[written..],
                },
                Poll::Pending => {
                    self.write_by = Some(now() + WRITE_TIMEOUT);
                    break;
                }
            }
        }
        self.unsent.extend_from_slice(out);
        Ok(())
    }

    /// Ready when nothing is left unsent.
    fn poll_flush(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), ConnError>> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match Pin::new(&mut self.socket).poll_write(cx, &self.unsent[sent..])? {
                Poll::Ready(0) => {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                }
                Poll::Ready(written) => sent += written,
                Poll::Pending => {
                    if sent > 0 {
                        self.unsent.drain(..sent);
                        self.write_by = Some(now() + WRITE_TIMEOUT);
                    }
                    return Poll::Pending;
                }
            }
        }
        if sent > 0 {
            self.unsent = Vec::new();
            self.write_by = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a deadline has passed and been acted on.
    fn poll_clock(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Result<(), ConnError>> {
        // Deadlines mostly move later; the timer is only reset when it fires, or would be late.
        let deadline = self.deadline();
        if deadline < timer.deadline().into_std() {
            timer.as_mut().reset(deadline.into());
        }
        ready!(timer.as_mut().poll(cx));
        let now = now();
        if self.write_by.is_some_and(|by| now >= by) {
            return Poll::Ready(Err(ConnError::WriteStalled));
        }
        if now >= self.session.deadline() {
            self.send_unasked(cx, |session, work, out| session.on_deadline(work, now, out))?;
        }
        timer.as_mut().reset(self.deadline().into());
        Poll::Ready(Ok(()))
    }

    /// When the next read may happen, if not now.
    fn pause(&self, now: Instant) -> Option<Instant> {
        let held = self.meter.pause(now);
        if self.session.is_proven() { held } else { held.max(self.allowance.pause(now)) }
    }

    fn deadline(&self) -> Instant {
        let pause = self.pause(now());
        let own = self.write_by.into_iter().chain(pause);
        own.fold(self.session.deadline(), Instant::min)
    }

    /// Before the end: if `drain`, answers what has already been received (it may hold a block),
    /// and sends what is left. The last reply tells the miner what went wrong.
    async fn finish(&mut self, drain: bool, is_stopping: bool) {
        if drain {
            poll_fn(|cx| {
                for _ in 0..DRAIN_READS_MAX {
                    let read = self.poll_read(cx);
                    if !matches!(read, Poll::Ready(Ok(ControlFlow::Continue(())))) {
                        break;
                    }
                }
                Poll::Ready(())
            })
            .await;
        }
        if is_stopping {
            self.session.on_stop(&mut self.unsent);
        }
        // Whether or not it arrives, this is the end.
        let last = async {
            self.socket.write_all(&self.unsent).await?;
            self.socket.shutdown().await
        };
        let _ = timeout(LAST_WRITE_TIMEOUT, last).await;
    }
}

impl<S, P> Drop for MinerConnection<S, P> {
    fn drop(&mut self) {
        self.meter.end(now());
        self.context.counters.disconnected();
    }
}

/// After this many reads, a connection that sends without pause lets others go first. One once held
/// its thread for 127 of them, 36 ms.
const READS_A_TURN: u32 = 2;
/// 256 KiB a second: 128 bytes that open a channel bring back 16,384 where the coinbase is large.
const BYTE_US: u64 = 4;
/// A proxy's hundreds of channels, or thousands with a small coinbase.
const BYTES_AT_ONCE: u32 = 1_000_000;
/// A miner that takes nothing for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// At the end: about as much as a socket buffer holds, so that a flood cannot hold up the end.
const DRAIN_READS_MAX: usize = 64;
