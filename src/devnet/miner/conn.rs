//! The miner's socket: connects and reconnects, and carries bytes to and from its session.

use std::{
    future::pending,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    MinerOptions, MinerStats,
    hasher::Hasher,
    scan::Found,
    session::{MinerClose, MinerSession},
};
use crate::{
    clock::{now, unix_seconds},
    devnet::sv2_client::Sv2ClientClose,
};

#[derive(Debug, Error)]
enum MinerConnError {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server hung up")]
    HungUp,
    #[error(transparent)]
    Close(#[from] MinerClose),
}

/// A miner's connection, across all reconnections.
pub(super) struct MinerConn {
    pub(super) options: MinerOptions,
    pub(super) hasher: Arc<Hasher>,
    pub(super) found: mpsc::Receiver<Found>,
    pub(super) stats: Arc<Mutex<MinerStats>>,
    pub(super) shutdown: CancellationToken,
    /// The serial of the last work.
    pub(super) serial: u64,
    /// Where the server redirected us, until that fails.
    pub(super) moved_to: Option<String>,
}

impl MinerConn {
    pub(super) async fn run(mut self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let jobs_before = self.stats().jobs;
            let ended = self.connect_and_serve().await;
            self.hasher.mine(None);
            let error = match ended {
                _ if self.shutdown.is_cancelled() => return,
                Ok(()) => return,
                Err(error) => error,
            };
            warn!(connect = %self.address(), "miner: {error}");
            self.moved_to = self.moved_by(&error);
            if self.stats().jobs > jobs_before {
                backoff = BACKOFF_MIN;
            }
            let wait = backoff.mul_f64(0.5 + 0.5 * rand::random::<f64>());
            backoff = (backoff * 2).min(BACKOFF_MAX);
            let shutdown = self.shutdown.clone();
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.discard_for(wait) => {}
            }
        }
    }

    fn address(&self) -> &str {
        self.moved_to.as_deref().unwrap_or(&self.options.connect)
    }

    /// Where to connect next, if not to the original address.
    fn moved_by(&self, error: &MinerConnError) -> Option<String> {
        let MinerConnError::Close(MinerClose::Sv2(Sv2ClientClose::Reconnect { host, port })) =
            error
        else {
            return None;
        };
        let (old_host, old_port) = self.address().rsplit_once(':')?;
        let host = host.as_deref().unwrap_or(old_host);
        Some(port.map_or_else(|| format!("{host}:{old_port}"), |port| format!("{host}:{port}")))
    }

    /// Lets the hashing thread drop what it was doing.
    async fn discard_for(&mut self, wait: Duration) {
        let discard = async {
            while self.found.recv().await.is_some() {
                self.stats().discarded += 1;
            }
            pending::<()>().await;
        };
        let _ = timeout(wait, discard).await;
    }

    async fn connect_and_serve(&mut self) -> Result<(), MinerConnError> {
        let shutdown = self.shutdown.clone();
        let connected = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            connected = connect(self.address()) => connected,
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => {
                self.stats().connect_failures += 1;
                return Err(MinerConnError::Connect(error));
            }
        };
        let mut out = Vec::new();
        let session = MinerSession::open(&self.options, self.serial, now(), &mut out)?;
        self.stats().connected = true;
        let mut open = OpenConn { conn: self, session, stream, input: BytesMut::new(), out };
        let served = open.serve().await;
        open.end(served.is_err());
        served
    }

    fn stats(&self) -> MutexGuard<'_, MinerStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection.
struct OpenConn<'a> {
    conn: &'a mut MinerConn,
    session: MinerSession,
    stream: TcpStream,
    input: BytesMut,
    out: Vec<u8>,
}

impl OpenConn<'_> {
    async fn serve(&mut self) -> Result<(), MinerConnError> {
        let shutdown = self.conn.shutdown.clone();
        while !shutdown.is_cancelled() {
            self.turn(&shutdown).await?;
        }
        self.conn.hasher.mine(None);
        // Shares found from now on are not sent; answers are still awaited.
        let settle = async {
            while !self.session.is_settled() {
                self.turn(&CancellationToken::new()).await?;
            }
            Ok(())
        };
        timeout(SETTLE_TIMEOUT, settle).await.unwrap_or(Ok(()))
    }

    async fn turn(&mut self, shutdown: &CancellationToken) -> Result<(), MinerConnError> {
        self.flush().await?;
        let deadline = self.session.deadline();
        let sending = self.session.has_room() && !self.conn.shutdown.is_cancelled();
        // Read before sending: a share is sent only if everything that has arrived allows it.
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            read = self.stream.read_buf(&mut self.input) => {
                if read? == 0 {
                    return Err(MinerConnError::HungUp);
                }
                self.on_input()?;
            }
            Some(found) = self.conn.found.recv(), if sending => self.on_found(&found)?,
            () = at(deadline) => {
                let mut stats = self.conn.stats.lock().unwrap_or_else(PoisonError::into_inner);
                self.session.on_deadline(now(), &mut stats)?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), MinerConnError> {
        if !self.out.is_empty() {
            let write = self.stream.write_all(&self.out);
            timeout(WRITE_TIMEOUT, write).await.map_err(io::Error::from)??;
            self.out.clear();
        }
        Ok(())
    }

    fn on_input(&mut self) -> Result<(), MinerConnError> {
        let now = now();
        let serial = self.session.serial();
        let mut stats = self.conn.stats.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.on_input(&mut self.input, now, unix_seconds(), &mut stats, &mut self.out)?;
        drop(stats);
        if self.session.serial() != serial && !self.conn.shutdown.is_cancelled() {
            self.conn.hasher.mine(self.session.work().cloned());
        }
        Ok(())
    }

    /// Takes all that is there and fits, to be written in one go.
    fn on_found(&mut self, first: &Found) -> Result<(), MinerConnError> {
        let now = now();
        let mut stats = self.conn.stats.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.on_found(first, now, &mut stats, &mut self.out)?;
        while self.session.has_room()
            && let Ok(found) = self.conn.found.try_recv()
        {
            self.session.on_found(&found, now, &mut stats, &mut self.out)?;
        }
        Ok(())
    }

    fn end(&mut self, lost: bool) {
        self.conn.serial = self.session.serial();
        let mut stats = self.conn.stats.lock().unwrap_or_else(PoisonError::into_inner);
        self.session.on_end(&mut stats);
        stats.connected = false;
        stats.disconnects += u64::from(lost);
        debug!(connect = %self.conn.options.connect, "miner: connection ended: {stats}");
    }
}

async fn connect(address: &str) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until `deadline`; forever if there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// A miner reconnects at most this long after the gateway is back.
const BACKOFF_MAX: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Answers that take longer count as missing when the miner stops. Longer than `LATE_WAIT`.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(6);
