//! One of many connections: logs in, records when work arrives, and keeps submissions in flight.

use std::{
    future::pending,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Speaks, board::Board, log::Log, sv1, sv2};
use crate::{
    devnet::{
        miner::message::ParseError,
        sv2_client::{Sv2ClientClose, Sv2LinkError},
    },
    sv2::noise::AuthorityPublicKey,
};

#[derive(Debug, Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the server hung up")]
    HungUp,
    #[error("a line or frame of more than {LEN_MAX} bytes")]
    TooLong,
    #[error("the server sent {0}")]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Sv2(#[from] Sv2ClientClose),
    #[error("the server refused: {0}")]
    Refused(String),
    #[error("not finished after {LOGIN_MAX:?}: {0}")]
    Stalled(String),
}

impl From<Sv2LinkError> for LoadError {
    fn from(error: Sv2LinkError) -> Self {
        Self::Sv2(error.into())
    }
}

/// A connection of the load generator, across all reconnections.
pub(super) struct LoadConn {
    pub(super) board: Arc<Board>,
    pub(super) address: SocketAddr,
    pub(super) source: Option<IpAddr>,
    pub(super) speaks: Speaks,
    /// Whose certificates are trusted; none: anyone's.
    pub(super) authority: Option<AuthorityPublicKey>,
    /// The usernames of its miners.
    pub(super) users: Vec<String>,
    pub(super) user_agent: String,
    /// How many submissions each of them keeps in flight.
    pub(super) in_flight: watch::Receiver<usize>,
    /// There will be submissions, so jobs must be kept.
    pub(super) submits: bool,
    pub(super) shutdown: CancellationToken,
}

/// The protocol on a connection, without its socket.
pub(super) trait LoadClient: Send {
    /// Parses what has arrived, and leaves what is incomplete.
    fn on_input(&mut self, input: &mut BytesMut) -> Result<(), LoadError>;

    /// Tops submissions in flight up to `wanted`. True if that takes more hashing than one turn may
    /// do.
    fn submit(&mut self, wanted: usize) -> Result<bool, LoadError>;

    /// What is to be sent.
    fn out(&self) -> &[u8];

    /// All of `out` was sent.
    fn on_sent(&mut self);

    fn log(&mut self) -> &mut Log;

    /// Its state, in a few words.
    fn state(&self) -> String;
}

impl LoadConn {
    pub(super) async fn run(self) {
        let shutdown = self.shutdown.clone();
        let board = Arc::clone(&self.board);
        let mut in_flight = self.in_flight.clone();
        let mut arrived = 0;
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => return,
                stream = self.connect() => stream,
            };
            match stream {
                Ok(stream) => {
                    let ended = match self.client(arrived) {
                        Ok(mut client) => {
                            let ended = tokio::select! {
                                () = shutdown.cancelled() => return,
                                ended = serve(&mut *client, stream, &mut in_flight) => ended,
                            };
                            arrived = client.log().arrived;
                            board.connected.fetch_sub(client.log().working, Relaxed);
                            ended
                        }
                        Err(error) => Err(error),
                    };
                    board.disconnects.fetch_add(1, Relaxed);
                    if let Err(error) = ended {
                        debug!(user = self.users.first(), "load: {error}");
                    }
                }
                Err(error) => {
                    board.connect_failures.fetch_add(1, Relaxed);
                    debug!(user = self.users.first(), "load: cannot connect: {error}");
                }
            }
            sleep(RETRY).await;
        }
    }

    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let socket =
            if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind((source, 0).into())?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A new connection on which `arrived` miners already had work before.
    pub(super) fn client(&self, arrived: usize) -> Result<Box<dyn LoadClient>, LoadError> {
        let log = Log::new(Arc::clone(&self.board), arrived);
        Ok(match self.speaks {
            Speaks::Sv1 => Box::new(sv1::Sv1LoadClient::new(self, log)),
            Speaks::Sv2Standard | Speaks::Sv2Extended => {
                Box::new(sv2::Sv2LoadClient::new(self, log)?)
            }
        })
    }
}

async fn serve(
    client: &mut dyn LoadClient,
    mut stream: TcpStream,
    in_flight: &mut watch::Receiver<usize>,
) -> Result<(), LoadError> {
    let mut input = BytesMut::new();
    loop {
        let wanted = *in_flight.borrow_and_update();
        let hungry = client.submit(wanted)?;
        send(client, &mut stream).await?;
        input.reserve(READ_AT_ONCE);
        tokio::select! {
            biased;
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(LoadError::HungUp);
                }
                client.on_input(&mut input)?;
                if input.is_empty() && wanted == 0 {
                    // An idle connection keeps no buffer: there are many of them.
                    input = BytesMut::new();
                }
            }
            changed = in_flight.changed() => {
                if changed.is_err() {
                    // Nothing is left that could change it.
                    pending::<()>().await;
                }
            }
            () = yield_now(), if hungry => {}
        }
    }
}

/// Sends what `client` has to say.
pub(super) async fn send(
    client: &mut dyn LoadClient,
    stream: &mut TcpStream,
) -> Result<(), LoadError> {
    if !client.out().is_empty() {
        let write = stream.write_all(client.out());
        timeout(WRITE_TIMEOUT, write).await.map_err(io::Error::from)??;
        client.on_sent();
    }
    Ok(())
}

/// A login that takes longer has stalled.
pub(super) const LOGIN_MAX: Duration = Duration::from_secs(10);
pub(super) const READ_AT_ONCE: usize = 4096;
const RETRY: Duration = Duration::from_millis(200);
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Far more than a job needs, even with the largest coinbase that any gateway writes.
pub(super) const LEN_MAX: usize = 256 * 1024;
/// A share at the smallest difficulty needs 4.3 hashes.
pub(super) const HASHES_PER_SCAN: u32 = 64;
/// Then others get their turn: two milliseconds' work.
pub(super) const HASHES_PER_TURN: u32 = 16_384;
