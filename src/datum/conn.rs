//! A pool's socket, from the first attempt to its end.

use std::{io, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
    time::timeout,
};

use super::options::PoolConfig;
use crate::net;

/// The state of the task's connection to its pools.
pub(super) enum ConnPhase {
    Connecting(JoinHandle<io::Result<TcpStream>>),
    Connected(Box<PoolConn>),
    Waiting(Instant),
    /// There is no pool to talk to.
    Idle,
}

/// An open socket.
pub(super) struct PoolConn {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    buffer: Box<[u8; READ_LEN]>,
    pub(super) since: Instant,
}

/// What happened to a phase.
pub(super) enum ConnEvent {
    Connected(io::Result<TcpStream>),
    /// Bytes arrived, in the connection's buffer.
    Read(io::Result<usize>),
    /// Bytes left.
    Written(io::Result<usize>),
    /// Time for another attempt.
    Retry,
}

impl ConnPhase {
    /// Starts to connect.
    pub(super) fn connect(pool: &PoolConfig, limit: std::time::Duration) -> Self {
        let target = (pool.host.clone(), pool.port);
        Self::Connecting(tokio::spawn(async move {
            let stream = timeout(limit, net::connect(target)).await??;
            stream.set_nodelay(true)?;
            Ok(stream)
        }))
    }

    /// Waits for the next thing to happen; cancel-safe.
    pub(super) async fn turn(&mut self, out: &[u8]) -> ConnEvent {
        match self {
            Self::Connecting(task) => ConnEvent::Connected(task.await.unwrap_or_else(|error| {
                // Only when the runtime shuts down.
                Err(io::Error::other(error))
            })),
            Self::Connected(conn) => conn.turn(out).await,
            Self::Waiting(until) => {
                tokio::time::sleep_until((*until).into()).await;
                ConnEvent::Retry
            }
            Self::Idle => std::future::pending().await,
        }
    }
}

impl PoolConn {
    pub(super) fn new(stream: TcpStream, since: Instant) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer, buffer: Box::new([0; READ_LEN]), since }
    }

    pub(super) fn received(&self, len: usize) -> &[u8] {
        &self.buffer[..len]
    }

    async fn turn(&mut self, out: &[u8]) -> ConnEvent {
        if out.is_empty() {
            return ConnEvent::Read(self.reader.read(self.buffer.as_mut_slice()).await);
        }
        tokio::select! {
            biased;
            written = self.writer.write(out) => ConnEvent::Written(written),
            read = self.reader.read(self.buffer.as_mut_slice()) => ConnEvent::Read(read),
        }
    }
}

impl Drop for ConnPhase {
    fn drop(&mut self) {
        if let Self::Connecting(task) = self {
            task.abort();
        }
    }
}

const READ_LEN: usize = 16 * 1024;
