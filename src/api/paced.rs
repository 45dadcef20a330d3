//! A socket whose peer has to keep reading. Not `conn.rs`, which decides who gets a connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Fails if written data is not read at a minimum rate: a few bytes now and then are not enough.
pub(super) struct Paced {
    socket: TcpStream,
    /// Since when it has been waiting for the peer; none: everything was read.
    due: Option<Pin<Box<Sleep>>>,
    /// Bytes read since then.
    taken: usize,
}

impl Paced {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, due: None, taken: 0 }
    }

    fn note(
        &mut self,
        written: Poll<io::Result<usize>>,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(taken)) => {
                self.taken += taken;
                if taken == len || self.taken >= PACE_BYTES {
                    (self.due, self.taken) = (None, 0);
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Pending => {
                let due = self
                    .due
                    .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + PACE_TIME)));
                match due.as_mut().poll(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.note(written, buf.len(), cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.note(written, bufs.iter().map(|buf| buf.len()).sum(), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Slower than any link: 3 kB a second.
const PACE_BYTES: usize = 32 * 1024;
const PACE_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn pair() -> (Paced, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Paced::new(listener.accept().await.unwrap().0), other)
    }

    #[tokio::test]
    async fn who_does_not_read_is_given_up() {
        let (mut paced, other) = pair().await;
        tokio::time::pause();
        let error = paced.write_all(&vec![0; 32 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(other);
    }

    #[tokio::test]
    async fn who_reads_a_few_bytes_now_and_then_is_too() {
        let (mut paced, mut other) = pair().await;
        tokio::time::pause();
        let dribble = tokio::spawn(async move {
            let mut some = [0; 1024];
            while other.read(&mut some).await.is_ok_and(|len| len > 0) {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
        });
        let error = paced.write_all(&vec![0; 32 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        dribble.abort();
    }

    #[tokio::test]
    async fn who_reads_gets_everything() {
        let (mut paced, mut other) = pair().await;
        let writing = tokio::spawn(async move { paced.write_all(&vec![7; 8 << 20]).await });
        let mut all = Vec::new();
        other.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap().unwrap();
        assert_eq!(all.len(), 8 << 20);
    }
}
