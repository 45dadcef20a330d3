//! Connections through a trusted proxy: finds out whom they are from, before anything else about
//! them counts. Such a connection has no place yet, so only a few may keep silent.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{io::AsyncReadExt, net::TcpStream, sync::watch, time::timeout};

use super::header::{self, HEADER_LEN_MAX, HeaderProgress, ProxyHeaderError};
use crate::work::Cidr;

/// `stratum.trusted_proxies`, and how many connections are being waited for.
#[derive(Debug)]
pub(super) struct Proxies {
    trusted: watch::Receiver<Arc<[Cidr]>>,
    waiting: AtomicUsize,
}

/// Why a proxy's connection has no client. Reads on after "the proxy".
#[derive(Debug, Error)]
pub(super) enum ProxyError {
    #[error(transparent)]
    HeaderProgress(#[from] ProxyHeaderError),
    #[error("sent no PROXY header within {HEADER_TIMEOUT:?}: {}", ProxyHeaderError::Missing)]
    Late,
    #[error("has {WAITING_MAX} connections that have sent no PROXY header yet")]
    Crowd,
    /// Health checks that only connect do this.
    #[error("hung up before saying whom the connection is from")]
    Gone,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ProxyError {
    /// Nobody needs to be told about it.
    pub(super) fn is_quiet(&self) -> bool {
        matches!(self, Self::Gone | Self::Io(_))
    }
}

/// A connection that is being waited for.
struct WaitingConnection<'a>(&'a AtomicUsize);

impl Drop for WaitingConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Proxies {
    pub(super) fn new(trusted: watch::Receiver<Arc<[Cidr]>>) -> Self {
        Self { trusted, waiting: AtomicUsize::new(0) }
    }

    /// Whether what this peer says about its client is believed.
    pub(super) fn trusts(&self, peer: SocketAddr) -> bool {
        self.trusted.borrow().iter().any(|network| network.contains(peer.ip()))
    }

    /// Reads the header that `proxy` begins with, and nothing after it, and returns whom the
    /// connection is from.
    pub(super) async fn client(
        &self,
        socket: &mut TcpStream,
        proxy: SocketAddr,
    ) -> Result<SocketAddr, ProxyError> {
        let count = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = WaitingConnection(&self.waiting);
        if count >= WAITING_MAX {
            return Err(ProxyError::Crowd);
        }
        let read = timeout(HEADER_TIMEOUT, read(socket)).await;
        Ok(read.map_err(|_| ProxyError::Late)??.unwrap_or(proxy))
    }
}

async fn read(socket: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyError> {
    let mut bytes = [0; HEADER_LEN_MAX];
    let mut len = 0;
    loop {
        let seen = len + socket.peek(&mut bytes[len..]).await?;
        if seen == len {
            return Err(ProxyError::Gone);
        }
        // What follows the header is the session's. The header has been peeked, so this does not
        // wait.
        let (end, client) = match header::read(&bytes[..seen])? {
            HeaderProgress::Partial => (seen, None),
            HeaderProgress::Whole(end, client) => (end, Some(client)),
        };
        socket.read_exact(&mut bytes[len..end]).await?;
        len = end;
        if let Some(client) = client {
            return Ok(client);
        }
    }
}

/// Proxies send the header with the connection; a lost packet is retransmitted after one second and
/// after three.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Some 2 kB each. A farm that reconnects through a proxy is through in milliseconds.
const WAITING_MAX: usize = 4096;
