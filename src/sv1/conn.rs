//! Puts a [`Session`] on a socket. The only file in `sv1` that knows tokio or reads the clock.
//!
//! Reads, answers and writes in buffers that belong to the thread, inside one poll: an idle
//! connection owns no buffer, and a share crosses no task, lock or allocation on its way.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{AcqRel, Release},
        },
    },
    task::{Context as TaskContext, Poll, Wake, Waker, ready},
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

use super::{Close, Config, Effects, Session};
use crate::work::{Counters, FoundBlock, Share, Work};

/// Takes a block to the nodes. Must not block: it runs in the miner's connection.
pub type BlockSink = Arc<dyn Fn(Box<FoundBlock>) + Send + Sync>;

/// What every connection has from the daemon.
#[derive(Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub work: watch::Receiver<Arc<Work>>,
    pub blocks: BlockSink,
    /// To the pool; none when no pool is configured.
    pub shares: Option<mpsc::Sender<Vec<Share>>>,
    pub counters: Arc<Counters>,
    /// Ends all connections; the listener passes it on.
    pub shutdown: CancellationToken,
}

/// Why a connection ended badly.
#[derive(Debug, Error)]
pub enum ConnError {
    #[error(transparent)]
    Close(#[from] Close),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("sent a line longer than {LINE_LEN_MAX} bytes")]
    LineTooLong,
    #[error("stopped reading")]
    WriteStalled,
}

/// One miner's connection. Owned by one task; nothing here is shared but the context.
pub struct Conn<S> {
    context: Arc<Context>,
    socket: S,
    session: Session,
    work: Arc<Work>,
    latest: watch::Receiver<Arc<Work>>,
    stop: watch::Receiver<()>,
    /// The beginning of a line.
    partial: Vec<u8>,
    /// What the socket did not take yet. While there is any, nothing is read.
    unsent: Vec<u8>,
    /// When a miner that does not read is given up.
    write_by: Option<Instant>,
}

/// Buffers of a thread, for the connection that it is working for.
struct Desk {
    inbox: Box<[u8]>,
    out: Vec<u8>,
    effects: Effects,
}

thread_local! {
    static DESK: RefCell<Desk> = RefCell::new(Desk {
        inbox: vec![0; INBOX_LEN].into(),
        out: Vec::with_capacity(INBOX_LEN),
        effects: Effects::default(),
    });
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    /// `extranonce1` is unique among live connections. The connection drains and ends when `stop`
    /// loses its sender.
    pub fn new(
        context: Arc<Context>,
        socket: S,
        extranonce1: [u8; 4],
        stop: watch::Receiver<()>,
    ) -> Self {
        let mut latest = context.work.clone();
        let work = Arc::clone(&latest.borrow_and_update());
        let session = Session::new(Arc::clone(&context.config), extranonce1, &work, now());
        context.counters.connected();
        Self {
            context,
            socket,
            session,
            work,
            latest,
            stop,
            partial: Vec::new(),
            unsent: Vec::new(),
            write_by: None,
        }
    }

    /// Serves the miner until it leaves, misbehaves or the daemon stops.
    pub async fn serve(mut self) -> Result<(), ConnError> {
        let ended = self.run().await;
        if matches!(ended, Ok(()) | Err(ConnError::Close(_))) {
            // What a miner sent before the door closed may be a block: it is nobody's fault.
            let is_drained = matches!(ended, Ok(()) | Err(ConnError::Close(Close::Door(_))));
            self.finish(is_drained).await;
        }
        ended
    }

    async fn run(&mut self) -> Result<(), ConnError> {
        let mut latest = self.latest.clone();
        let mut stop = self.stop.clone();
        let mut timer = pin!(sleep_until(self.deadline().into()));
        loop {
            let turn = {
                let changed = pin!(unconstrained(latest.changed()));
                let stopped = pin!(unconstrained(stop.changed()));
                let mut alarm = Alarm { changed, stopped, bell: None };
                poll_fn(|cx| self.poll_turn(cx, &mut alarm, timer.as_mut())).await?
            };
            if turn.is_break() {
                return Ok(());
            }
            latest.mark_unchanged();
        }
    }

    /// Works until there is nothing left to do, then sleeps. Ready with new work handled, and at
    /// the end. In order: the end, new work, the socket, the clock.
    fn poll_turn(
        &mut self,
        cx: &mut TaskContext<'_>,
        alarm: &mut Alarm<'_, impl Future, impl Future>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Result<ControlFlow<()>, ConnError>> {
        loop {
            let changed = self.latest.has_changed();
            // An error: nobody makes work any more, or waits for us to end.
            let (Ok(changed), Ok(_)) = (changed, self.stop.has_changed()) else {
                return Poll::Ready(Ok(ControlFlow::Break(())));
            };
            let flushed = self.poll_flush(cx)?.is_ready();
            if flushed {
                if changed {
                    return Poll::Ready(self.take_work(cx));
                }
                match self.poll_lines(cx)? {
                    Poll::Ready(ControlFlow::Continue(())) => continue,
                    Poll::Ready(end) => return Poll::Ready(Ok(end)),
                    Poll::Pending => {}
                }
            }
            if alarm.poll(cx).is_ready() {
                // With `flushed` the next turn takes the work; else it waits until the miner reads
                // again, and what it has missed then is no matter.
                return Poll::Ready(Ok(ControlFlow::Continue(())));
            }
            if self.poll_clock(cx, timer.as_mut())?.is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn take_work(&mut self, cx: &mut TaskContext<'_>) -> Result<ControlFlow<()>, ConnError> {
        self.work = Arc::clone(&self.latest.borrow_and_update());
        self.speak(cx, |session, work, out| session.on_work(work, now(), out))?;
        Ok(ControlFlow::Continue(()))
    }

    /// Lets the session say something unasked.
    fn speak(
        &mut self,
        cx: &mut TaskContext<'_>,
        say: impl FnOnce(&mut Session, &Work, &mut Vec<u8>) -> Result<(), Close>,
    ) -> Result<(), ConnError> {
        DESK.with_borrow_mut(|desk| {
            desk.out.clear();
            let said = say(&mut self.session, &self.work, &mut desk.out);
            let written = self.write(cx, &desk.out);
            said?;
            written
        })
    }

    /// Reads once and answers every complete line. Pending when there was nothing to read.
    fn poll_lines(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<ControlFlow<()>, ConnError>> {
        DESK.with_borrow_mut(|desk| {
            let held = self.partial.len();
            desk.inbox[..held].copy_from_slice(&self.partial);
            let mut buffer = ReadBuf::new(&mut desk.inbox[held..]);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(ControlFlow::Break(())));
            }
            let Desk { inbox, out, effects } = desk;
            out.clear();
            let answered = self.answer_lines(&inbox[..held + read], out, effects);
            for block in effects.blocks.drain(..) {
                (self.context.blocks)(block);
            }
            let written = self.write(cx, out);
            self.relay(effects);
            effects.tally.settle(&self.context.counters);
            answered?;
            written?;
            Poll::Ready(Ok(ControlFlow::Continue(())))
        })
    }

    /// Answers the lines of `inbox` and keeps what is left of it.
    fn answer_lines(
        &mut self,
        inbox: &[u8],
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<(), ConnError> {
        let now = now();
        let mut rest = inbox;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if end > LINE_LEN_MAX {
                return Err(ConnError::LineTooLong);
            }
            self.session.on_line(&rest[..end], &self.work, now, out, effects)?;
            rest = &rest[end + 1..];
        }
        if rest.len() > LINE_LEN_MAX {
            return Err(ConnError::LineTooLong);
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

    /// Hands accepted shares to the pool's side, which may be too busy: miners never wait for it.
    fn relay(&self, effects: &mut Effects) {
        let Some(relay) = &self.context.shares else {
            return effects.shares.clear();
        };
        effects.shares.retain(|share| share.job.payout.pooled.is_some());
        if effects.shares.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut effects.shares);
        let count = batch.len() as u64;
        if relay.try_send(batch).is_err() {
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

    /// Ready when time has brought something, which is done then.
    fn poll_clock(
        &mut self,
        cx: &mut TaskContext<'_>,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Result<(), ConnError>> {
        // Deadlines mostly move away; the timer is moved only when it fires, or would be late.
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
            self.speak(cx, |session, work, out| session.on_deadline(work, now, out))?;
        }
        timer.as_mut().reset(self.deadline().into());
        Poll::Ready(Ok(()))
    }

    fn deadline(&self) -> Instant {
        let deadline = self.session.deadline();
        self.write_by.map_or(deadline, |by| by.min(deadline))
    }

    /// Before the end: answers what has come already (there may be a block in it), if `drain`, and
    /// sends what is left. The last reply tells the miner what went wrong.
    async fn finish(&mut self, drain: bool) {
        if drain {
            poll_fn(|cx| {
                for _ in 0..DRAIN_READS_MAX {
                    let read = self.poll_lines(cx);
                    if !matches!(read, Poll::Ready(Ok(ControlFlow::Continue(())))) {
                        break;
                    }
                }
                Poll::Ready(())
            })
            .await;
        }
        // Whether it arrives or not, this is the end.
        let last = async {
            self.socket.write_all(&self.unsent).await?;
            self.socket.shutdown().await
        };
        let _ = timeout(LAST_WRITE_TIMEOUT, last).await;
    }
}

impl<S> Conn<S> {
    /// What the miner said it is.
    pub fn user_agent(&self) -> &str {
        self.session.user_agent()
    }
}

impl<S> Drop for Conn<S> {
    fn drop(&mut self) {
        self.context.counters.disconnected();
    }
}

/// New work and the end, watched without a lock for each share: their futures are polled once, and
/// again only after one of them has rung.
struct Alarm<'a, C, T> {
    changed: Pin<&'a mut C>,
    stopped: Pin<&'a mut T>,
    bell: Option<Arc<Bell>>,
}

/// Wakes the connection, and remembers that it did. A watch also wakes for a value that was taken
/// already, and then must be polled again: it has forgotten who waits.
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Release);
        self.task.wake_by_ref();
    }
}

impl<C: Future, T: Future> Alarm<'_, C, T> {
    /// Ready at most once, when there was something before the alarm could be set.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let known = self.bell.take().filter(|bell| bell.task.will_wake(cx.waker()));
        let bell = match known {
            Some(bell) if !bell.rung.swap(false, AcqRel) => {
                self.bell = Some(bell);
                return Poll::Pending;
            }
            Some(bell) => bell,
            None => Arc::new(Bell { rung: AtomicBool::new(false), task: cx.waker().clone() }),
        };
        let waker = Waker::from(Arc::clone(&bell));
        self.bell = Some(bell);
        let mut cx = TaskContext::from_waker(&waker);
        let changed = self.changed.as_mut().poll(&mut cx).is_ready();
        let stopped = self.stopped.as_mut().poll(&mut cx).is_ready();
        if changed || stopped { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Tokio's clock, so that tests can hold it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Real requests have a few hundred bytes.
const LINE_LEN_MAX: usize = 8192;
/// Room for a partial line and for a hundred shares.
const INBOX_LEN: usize = LINE_LEN_MAX + 16_384;
/// A miner that takes nothing for so long has gone without saying so.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// At the end: more than a socket buffer holds, so that a flood cannot hold up the end.
const DRAIN_READS_MAX: usize = 32;

#[cfg(test)]
#[path = "conn_tests.rs"]
mod tests;
