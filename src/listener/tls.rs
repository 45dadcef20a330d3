//! TLS on the port that serves everything else too: a connection that begins like TLS gets TLS, and
//! its session sees what is inside. Handshakes are limited in number and length, and hold nobody
//! up.

use std::{
    borrow::Cow,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    thread,
};

use rustls::{AlertDescription, ServerConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::{Semaphore, watch},
};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};
use tokio_util::sync::PollSemaphore;

use super::{
    ConnectionLimits,
    first::{ClientHello, hello},
};
use crate::{books::roster::Eviction, clock::now, stratum::places::PlaceTable};

/// What this gateway shows to those who speak TLS.
#[derive(Clone, Debug, Default)]
pub enum TlsOffer {
    /// `stratum.tls.enabled` is false.
    #[default]
    Off,
    /// It is true, but there is no certificate that could be shown: the log says why.
    NoCertificate,
    Certificate(Arc<ServerConfig>),
}

/// The part of TLS that all connections share.
#[derive(Debug)]
pub(super) struct Tls {
    shown: watch::Receiver<TlsOffer>,
    /// Limits how many calculate at once: other tasks need the threads too.
    turns: Arc<Semaphore>,
    /// Handshakes under way.
    begun: Mutex<PlaceTable>,
}

/// Tells the session that what it reads came through TLS.
pub(super) type Secured = Arc<AtomicBool>;

/// What a session is told about TLS.
#[derive(Debug)]
pub(super) enum TlsAvailability {
    Off,
    NoCertificate,
    /// It is offered, and this says whether this miner uses it.
    Spoken(Secured),
}

impl TlsAvailability {
    pub(super) fn is_secured(&self) -> bool {
        matches!(self, Self::Spoken(secured) if secured.load(Ordering::Relaxed))
    }
}

impl Tls {
    pub(super) fn new(shown: watch::Receiver<TlsOffer>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new((cores / 2).max(1)));
        Self { shown, turns, begun: Mutex::default() }
    }

    /// The socket as its session uses it, and what tells the session whether it uses TLS.
    pub(super) fn take(
        self: &Arc<Self>,
        socket: TcpStream,
        peer: IpAddr,
        eviction: &Arc<Eviction>,
    ) -> (MinerStream, TlsAvailability) {
        let config = match &*self.shown.borrow() {
            TlsOffer::Off => return (MinerStream::Plain(socket), TlsAvailability::Off),
            TlsOffer::NoCertificate => {
                return (MinerStream::Plain(socket), TlsAvailability::NoCertificate);
            }
            TlsOffer::Certificate(config) => Arc::clone(config),
        };
        let secured = Secured::default();
        let fresh = Fresh {
            socket: Some(socket),
            held: Vec::new(),
            config,
            peer,
            eviction: Arc::clone(eviction),
            secured: Arc::clone(&secured),
            tls: Arc::clone(self),
        };
        (MinerStream::Fresh(Box::new(fresh)), TlsAvailability::Spoken(secured))
    }

    fn begun(&self) -> MutexGuard<'_, PlaceTable> {
        // Nothing under the lock can leave it half done.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A miner's socket, with or without TLS on it.
pub(super) enum MinerStream {
    Plain(TcpStream),
    /// It may become either.
    Fresh(Box<Fresh>),
    Handshake(Box<Handshake>),
    Tls(Box<TlsStream<HandshakeSocket>>),
    /// Its TLS handshake failed.
    Failed,
}

/// A socket from which nothing decisive has been received.
pub(super) struct Fresh {
    socket: Option<TcpStream>,
    /// The bytes that began like TLS.
    held: Vec<u8>,
    config: Arc<ServerConfig>,
    peer: IpAddr,
    eviction: Arc<Eviction>,
    secured: Secured,
    tls: Arc<Tls>,
}

/// A handshake under way.
pub(super) struct Handshake {
    accept: Accept<HandshakeSocket>,
    turn: PollSemaphore,
    secured: Secured,
    _begun: HandshakeGuard,
}

/// Counts as a handshake until it is dropped.
struct HandshakeGuard {
    tls: Arc<Tls>,
    number: u64,
    peer: IpAddr,
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        self.tls.begun().leave(self.number, self.peer);
    }
}

/// The socket below TLS: replays what was held, and limits how much is read until the handshake
/// ends.
pub(super) struct HandshakeSocket {
    socket: TcpStream,
    held: Vec<u8>,
    /// How much of `held` was read.
    at: usize,
    /// None: the handshake is over.
    left: Option<usize>,
}

impl MinerStream {
    /// Reads on until there is something for the session.
    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let next = match self {
                Self::Plain(socket) => return Pin::new(socket).poll_read(cx, buf),
                Self::Tls(stream) => return poll_read_tls(stream, cx, buf),
                Self::Fresh(fresh) => match ready!(fresh.poll_first(cx, buf))? {
                    Some(next) => next,
                    None => return Poll::Ready(Ok(())),
                },
                Self::Handshake(handshake) => match ready!(handshake.poll_end(cx)) {
                    Ok(stream) => Self::Tls(Box::new(stream)),
                    Err(error) => {
                        *self = Self::Failed;
                        return Poll::Ready(Err(error));
                    }
                },
                Self::Failed => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            *self = next;
            if !buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl Fresh {
    /// What the socket turns out to be, once that is known; what was read and is not TLS is in
    /// `buf`. None: it has ended.
    fn poll_first(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<MinerStream>>> {
        loop {
            let Some(socket) = &mut self.socket else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let mut bytes = [0; HELLO_LEN_MAX];
            // No more than there is room for, in case it is not TLS.
            let room = (HELLO_LEN_MAX - self.held.len()).min(buf.remaining());
            let mut read = ReadBuf::new(&mut bytes[..room]);
            ready!(Pin::new(socket).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            self.held.extend_from_slice(read.filled());
            match hello(&self.held) {
                ClientHello::Other if self.held.len() <= buf.remaining() => {
                    buf.put_slice(&self.held);
                    return Poll::Ready(Ok(self.socket.take().map(MinerStream::Plain)));
                }
                ClientHello::Other => return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into())),
                ClientHello::Begins => {}
                ClientHello::Whole => return Poll::Ready(self.begin().map(Some)),
            }
            if self.held.len() >= HELLO_LEN_MAX {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, HELLO_LONG)));
            }
        }
    }

    fn begin(&mut self) -> io::Result<MinerStream> {
        let limits = ConnectionLimits {
            connections: HANDSHAKES_MAX,
            connections_per_ip: HANDSHAKES_MAX,
            unproven: 0,
        };
        let entered = self.tls.begun().enter(self.peer, limits, &self.eviction, now());
        let number = entered.map_err(|_| io::Error::new(io::ErrorKind::QuotaExceeded, CROWD))?;
        let begun = HandshakeGuard { tls: Arc::clone(&self.tls), number, peer: self.peer };
        let Some(socket) = self.socket.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let held = std::mem::take(&mut self.held);
        let counted = HandshakeSocket { socket, held, at: 0, left: Some(HANDSHAKE_LEN_MAX) };
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let accept =
            acceptor.accept_with(counted, |session| session.set_buffer_limit(Some(UNSENT_MAX)));
        Ok(MinerStream::Handshake(Box::new(Handshake {
            accept,
            turn: PollSemaphore::new(Arc::clone(&self.tls.turns)),
            secured: Arc::clone(&self.secured),
            _begun: begun,
        })))
    }
}

impl Handshake {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TlsStream<HandshakeSocket>>> {
        // Nobody closes it.
        let turn = ready!(self.turn.poll_acquire(cx));
        let ended = Pin::new(&mut self.accept).poll(cx);
        drop(turn);
        let mut stream = ready!(ended)?;
        stream.get_mut().0.left = None;
        self.secured.store(true, Ordering::Relaxed);
        Poll::Ready(Ok(stream))
    }
}

/// Nobody else sends what TLS has sealed already and the socket did not take.
fn poll_read_tls(
    stream: &mut TlsStream<HandshakeSocket>,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if stream.get_ref().1.wants_write()
        && let Poll::Ready(Err(error)) = Pin::new(&mut *stream).poll_flush(cx)
    {
        return Poll::Ready(Err(error));
    }
    Pin::new(stream).poll_read(cx, buf)
}

impl AsyncRead for MinerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            stream => stream.poll_more(cx, buf),
        }
    }
}

impl AsyncWrite for MinerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream) => {
                // Like a socket: what it reports as written is on its way, so that a miner that
                // does not read is noticed.
                if stream.get_ref().1.wants_write() {
                    ready!(Pin::new(&mut **stream).poll_flush(cx))?;
                }
                Pin::new(&mut **stream).poll_write(cx, buf)
            }
            Self::Fresh(_) | Self::Handshake(_) | Self::Failed => {
                Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Self::Fresh(fresh) => match &mut fresh.socket {
                Some(socket) => Pin::new(socket).poll_shutdown(cx),
                None => Poll::Ready(Ok(())),
            },
            // Dropping it is all there is to do.
            Self::Handshake(_) | Self::Failed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncRead for HandshakeSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let held = this.held.get(this.at..).unwrap_or_default();
        if !held.is_empty() {
            let len = held.len().min(buf.remaining());
            buf.put_slice(&held[..len]);
            this.at += len;
            if this.at == this.held.len() {
                (this.held, this.at) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        if let Some(left) = &mut this.left {
            let read = buf.filled().len() - before;
            *left = left.checked_sub(read).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "sent too much in a TLS handshake")
            })?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandshakeSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What a miner's owner should know about a connection that ended like this, if anything. Reads on
/// after "the miner".
pub(super) fn complaint(error: &io::Error) -> Option<Cow<'static, str>> {
    let inner = error.get_ref()?;
    let Some(inner) = inner.downcast_ref::<rustls::Error>() else {
        let is_ours =
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::QuotaExceeded);
        return is_ours.then(|| error.to_string().into());
    };
    Some(Cow::Borrowed(match inner {
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => UNKNOWN_CA,
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::UnsupportedCertificate,
        ) => BAD_CERTIFICATE,
        rustls::Error::PeerIncompatible(_) => INCOMPATIBLE,
        _ => return None,
    }))
}

/// A ClientHello is some 200 to 2,000 bytes long (with a post-quantum key).
const HELLO_LEN_MAX: usize = 4096;
const HELLO_LONG: &str = "sent too long a ClientHello to begin TLS with";
/// Some 300 bytes follow the ClientHello.
const HANDSHAKE_LEN_MAX: usize = 8192;
/// Some 20 kB each; beyond that, those of the network that has the most go first. A farm's 4,000
/// reconnect at once.
const HANDSHAKES_MAX: usize = 4096;
const CROWD: &str = "began a TLS handshake while too many others were under way";
/// What TLS buffers for a full socket: a job with a large coinbase.
const UNSENT_MAX: usize = 32 << 10;
const UNKNOWN_CA: &str = "does not know who signed this gateway's certificate (stratum.tls): give it \
                          the authority's certificate, which is on the dashboard";
const BAD_CERTIFICATE: &str = "refuses this gateway's certificate (stratum.tls): what it connects to \
                               must be among the certificate's names (stratum.tls.names), and its \
                               clock right";
const INCOMPATIBLE: &str = "offers no version of TLS that gatewayd speaks: 1.2 or 1.3 is needed";
