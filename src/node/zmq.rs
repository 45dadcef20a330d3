//! A node's `hashblock` messages: the fastest way to hear of a new tip.
//!
//! Silence means nothing in ZeroMQ: a subscriber is not told of a wrong address or a dead node. So
//! these are only hints, besides long polls and slow polls.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    NodeConfig, TipHint, TipHintSource,
    zmtp::{Subscriber, ZmtpError},
};
use crate::{
    clock::now,
    net,
    work::{Allowance, Hash256},
};

/// What was logged last about a node's ZeroMQ: its state is logged again only if it changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ZmqReport(Arc<AtomicU8>);

impl ZmqReport {
    fn is_news(&self, now: u8) -> bool {
        self.0.swap(now, Relaxed) != now
    }
}

/// Why a subscription ended.
#[derive(Debug, thiserror::Error)]
enum ZmqError {
    #[error("nothing answers")]
    Unanswered,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection was closed")]
    Ended,
    #[error("{0}")]
    Zmtp(#[from] ZmtpError),
    #[error("nobody listens")]
    Unheard,
}

impl ZmqError {
    /// Something that no node does.
    fn is_fault(&self) -> bool {
        matches!(self, Self::Zmtp(error) if error.is_fault())
    }

    /// The receiver of hints is gone.
    fn is_end(&self) -> bool {
        matches!(self, Self::Ended | Self::Io(_))
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Zmtp(error) => error.advice(),
            _ => {
                "check that the node is running, and that zmq_hashblock is the address of its \
                 zmqpubhashblock"
            }
        }
    }
}

/// Subscribes to the node's new blocks for as long as the receiver of `hints` exists. `is_telling`
/// becomes false when the subscription fails; `on_fault` is told when the peer does something that
/// no node does.
pub(crate) async fn listen(
    node: NodeConfig,
    hints: mpsc::Sender<TipHint>,
    is_telling: watch::Sender<bool>,
    (said, on_fault): (ZmqReport, impl Fn(Arc<str>)),
) {
    let (node, Some(endpoint)) = (node.name, node.zmq_hashblock) else { return };
    let mut wait = WAIT_MIN;
    loop {
        let since = Instant::now();
        let is_open = || {
            // One that is known to misbehave has to announce a block first.
            if said.0.load(Relaxed) != FAULTY && said.is_news(LISTENS) {
                info!(%node, %endpoint, "listening for new blocks over ZeroMQ");
            }
        };
        let (error, was_connected) = match connect(&endpoint).await {
            Ok(stream) => (receive(stream, &hints, is_open).await, true),
            Err(error) => (error, false),
        };
        is_telling.send_replace(false);
        if hints.is_closed() {
            return;
        }
        if since.elapsed() >= WAIT_FAULTY {
            wait = WAIT_MIN;
        }
        let (advice, is_fault) = (error.advice(), error.is_fault());
        if said.is_news(if is_fault { FAULTY } else { FAILED }) {
            warn!(
                %node, %endpoint, %error, advice,
                "zmq_hashblock: ZeroMQ failed; retrying, and polling meanwhile"
            );
        } else {
            debug!(%node, %endpoint, %error, "ZeroMQ failed again");
        }
        if is_fault {
            let why = format!("zmq_hashblock {endpoint}: {error}: {advice}");
            on_fault(why.into());
        }
        sleep(wait).await;
        let is_odd = is_fault || was_connected && error.is_end() && since.elapsed() < STEADY;
        wait = (wait * 2).min(if is_odd { WAIT_FAULTY } else { WAIT_MAX.max(wait) });
    }
}

/// Whether ZeroMQ announces tips: then nothing else has to.
pub(crate) struct ZmqWatch {
    pub(crate) is_telling: watch::Sender<bool>,
    /// When it should have announced a tip that was noticed by other means.
    pub(crate) due: Option<Instant>,
    /// The last tip that it announced.
    last: Option<Hash256>,
}

impl ZmqWatch {
    pub(crate) fn new() -> Self {
        Self { is_telling: watch::Sender::new(false), due: None, last: None }
    }

    pub(crate) fn on_hint(&mut self, tip: Option<Hash256>) {
        (self.last, self.due) = (tip, None);
        self.tell(tip.is_some());
    }

    /// There is a new tip, whoever announced it.
    pub(crate) fn on_tip(&mut self, tip: Hash256) {
        if self.last != Some(tip) && *self.is_telling.borrow() {
            self.due.get_or_insert_with(|| Instant::now() + GRACE);
        }
    }

    pub(crate) fn on_silence(&mut self) {
        self.due = None;
        self.tell(false);
    }

    fn tell(&self, is_telling: bool) {
        self.is_telling.send_if_modified(|old| std::mem::replace(old, is_telling) != is_telling);
    }
}

/// A connection to a publisher.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(endpoint: &str) -> Result<Box<dyn Stream>, ZmqError> {
    let connect = async {
        Ok::<Box<dyn Stream>, io::Error>(match endpoint.strip_prefix("ipc://") {
            Some(path) => Box::new(UnixStream::connect(path).await?),
            None => {
                let host = endpoint.strip_prefix("tcp://").unwrap_or(endpoint);
                Box::new(net::connect(host).await?)
            }
        })
    };
    let connected = timeout(CONNECT_MAX, connect).await;
    Ok(connected.map_err(|_| ZmqError::Unanswered)??)
}

/// Passes hashes on until the subscription fails.
async fn receive(
    mut stream: Box<dyn Stream>,
    hints: &mpsc::Sender<TipHint>,
    is_open: impl Fn(),
) -> ZmqError {
    let mut out = Vec::new();
    let mut subscriber = Subscriber::new(now(), &mut out);
    let (mut buffer, mut was_open) = ([0; READ_LEN], false);
    // What comes without end is left where it is: the peer then has to wait.
    let mut reads = Allowance::<READ_US, { READS_AT_ONCE - 1 }>::default();
    loop {
        if let Err(error) = write(&mut stream, &mut out).await {
            return error;
        }
        let deadline = subscriber.deadline().map(Instant::from_std);
        let done = tokio::select! {
            biased;
            () = hints.closed() => return ZmqError::Unheard,
            read = stream.read(&mut buffer) => match read {
                Ok(0) => return ZmqError::Ended,
                Ok(len) => subscriber.on_bytes(&buffer[..len], now(), &mut out),
                Err(error) => return error.into(),
            },
            () = until(deadline) => subscriber.on_deadline(now(), &mut out),
        };
        if subscriber.is_open() && !std::mem::replace(&mut was_open, true) {
            is_open();
        }
        if let Some(block) = subscriber.take_block() {
            if block.missed > 0 {
                debug!(missed = block.missed, "ZeroMQ: messages were lost");
            }
            // A full queue already contains a hint, and one is enough.
            let _ = hints.try_send(TipHint::new(TipHintSource::Zmq, Some(block.hash)));
        }
        if let Err(error) = done {
            return error.into();
        }
        reads.spend(1, now());
        if let Some(until) = reads.pause(now()) {
            sleep_until(until.into()).await;
        }
    }
}

async fn write(stream: &mut Box<dyn Stream>, out: &mut Vec<u8>) -> Result<(), ZmqError> {
    if !out.is_empty() {
        timeout(WRITE_MAX, stream.write_all(out)).await.map_err(|_| ZmqError::Unanswered)??;
        out.clear();
    }
    Ok(())
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// We write less than fits into any socket's buffer.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Dozens of messages.
const READ_LEN: usize = 4096;
/// A node that makes blocks as fast as it can, as on regtest, needs this many; of more at once, the
/// latest is enough.
const READS_AT_ONCE: u32 = 50;
const READ_US: u64 = 2000;
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(2);
/// If the peer sends what no node sends, or hangs up at once again and again, somebody has to fix
/// it first.
const WAIT_FAULTY: Duration = Duration::from_secs(60);
/// A node keeps a subscriber for longer than this.
const STEADY: Duration = Duration::from_secs(10);
const LISTENS: u8 = 1;
const FAILED: u8 = 2;
const FAULTY: u8 = 3;
/// A tip may be noticed by other means this much sooner.
const GRACE: Duration = Duration::from_secs(2);
