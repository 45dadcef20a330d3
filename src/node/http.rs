//! One kept HTTP connection to a node.

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::reply::{Reader, Reply, ReplyError};

/// A request for a node.
pub(super) struct Request<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) authorization: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// An open connection that waits for a request.
#[derive(Debug)]
pub(super) struct HttpConnection(TcpStream);

impl HttpConnection {
    pub(super) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Asks, and reads the whole answer; an error where nothing moves for as long as `silence`. Gives
    /// the connection back if the node keeps it.
    pub(super) async fn exchange(
        mut self,
        request: Request<'_>,
        silence: Duration,
        answer_len_max: usize,
    ) -> io::Result<(Reply, Option<Self>)> {
        let written = self.send(&request, silence).await;
        // Who finds a request too long says so before it has read it.
        let reply = self.read(silence, answer_len_max).await;
        let reply = reply.map_err(|error| written.err().unwrap_or(error))?;
        let kept = reply.keeps.then_some(self);
        Ok((reply, kept))
    }

    async fn send(&mut self, request: &Request<'_>, silence: Duration) -> io::Result<()> {
        let Request { host, path, authorization, body } = request;
        let authorization =
            authorization.map(|it| format!("Authorization: {it}\r\n")).unwrap_or_default();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             {authorization}Content-Length: {}\r\n\r\n",
            body.len(),
        );
        let first = body.len().min(PIECE_LEN);
        let start = [head.as_bytes(), &body[..first]].concat();
        for mut piece in [&start, &body[first..]] {
            while !piece.is_empty() {
                let length = within(silence, self.0.write(piece)).await?;
                if length == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                piece = &piece[length..];
            }
        }
        Ok(())
    }

    async fn read(&mut self, silence: Duration, length_max: usize) -> io::Result<Reply> {
        let mut reader = Reader::new(length_max);
        let mut buffer = vec![0; PIECE_LEN];
        loop {
            let reply = match within(silence, self.0.read(&mut buffer)).await? {
                0 => reader.on_end().map(Some),
                length => reader.on_bytes(&buffer[..length]),
            };
            if let Some(reply) = reply.map_err(io_error)? {
                return Ok(reply);
            }
        }
    }
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn io_error(error: ReplyError) -> io::Error {
    match error {
        ReplyError::Ended => io::ErrorKind::UnexpectedEof.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// A template of megabytes comes in few pieces, and a call goes out in one.
const PIECE_LEN: usize = 64 * 1024;
