//! One kept-alive HTTP connection to a node: hyper's, driven by its user.
//!
//! No task runs it: dropping a call closes its connection at once, and a waiting call drives
//! nothing else.

use std::{
    fmt,
    future::pending,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use hyper::{
    Request, Response,
    body::{Body as _, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    select,
    time::{Instant, sleep},
};

use super::error::TOO_LONG;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// An open connection that waits for a request. It is not shared: the mutex is never locked, and
/// only makes its owners `Sync`, which hyper's connection is not.
pub(super) struct HttpConnection(Mutex<Open>);

struct Open {
    sender: http1::SendRequest<Body>,
    driver: Driver,
    moved: Arc<AtomicU64>,
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection").finish_non_exhaustive()
    }
}

impl HttpConnection {
    pub(super) async fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let moved = Arc::default();
        let stream = TokioIo::new(Counted { stream, moved: Arc::clone(&moved) });
        let builder =
            http1::Builder::new().title_case_headers(true).max_buf_size(BUFFER_LEN).clone();
        let (sender, driver) = builder.handshake(stream).await.map_err(|error| told(&error))?;
        Ok(Self(Mutex::new(Open { sender, driver, moved })))
    }

    /// Sends a request and reads the whole answer; an error if nothing moves for as long as
    /// `silence`. Returns the connection if the node keeps it.
    pub(super) async fn exchange(
        self,
        request: Request<Body>,
        silence: Duration,
        answer_len_max: usize,
    ) -> io::Result<(Reply, Option<Self>)> {
        let open = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Open { mut sender, driver, moved } = open;
        let (mut driver, mut fault) = (Some(driver), None);
        let reply = {
            let mut reply = pin!(ask(&mut sender, request, answer_len_max));
            let mut silent = pin!(silent(&moved, silence));
            loop {
                select! {
                    biased;
                    reply = &mut reply => match (reply, fault) {
                        (Ok(reply), _) => break reply,
                        // The first cause; the other error may only say that the connection is
                        // closed.
                        (Err(_), Some(fault)) => return Err(told(&fault)),
                        (Err(error), None) => return Err(error),
                    },
                    ended = drive(&mut driver) => {
                        // Otherwise whoever waits for it would not notice its end.
                        driver = None;
                        fault = ended.err();
                    }
                    () = &mut silent => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        // A node that refuses a request as too long has not read all of it.
        let is_kept = !sender.is_closed() && reply.status != TOO_LONG;
        let kept = driver
            .filter(|_| is_kept)
            .map(|driver| Self(Mutex::new(Open { sender, driver, moved })));
        Ok((reply, kept))
    }
}

type Driver = http1::Connection<TokioIo<Counted>, Body>;

/// Drives the connection until it ends, and then stays pending.
async fn drive(driver: &mut Option<Driver>) -> hyper::Result<()> {
    match driver {
        Some(driver) => driver.await,
        None => pending().await,
    }
}

async fn ask(
    sender: &mut http1::SendRequest<Body>,
    request: Request<Body>,
    answer_len_max: usize,
) -> io::Result<Reply> {
    sender.ready().await.map_err(|error| told(&error))?;
    let response = sender.send_request(request).await.map_err(|error| told(&error))?;
    let (status, is_plain) = (response.status().as_u16(), is_plain(&response));
    if status == TOO_LONG {
        // It may close the connection after it, which would cut the rest off.
        return Ok(Reply { status, body: Bytes::new() });
    }
    if !is_plain {
        return Err(io::Error::new(io::ErrorKind::InvalidData, ENCODED));
    }
    if usize::try_from(response.body().size_hint().lower()).is_ok_and(|it| it > answer_len_max) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, LONG));
    }
    let body = to_bytes(Body::new(response.into_body()), answer_len_max).await;
    Ok(Reply { status, body: body.map_err(|error| told(&error))? })
}

fn is_plain(response: &Response<Incoming>) -> bool {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    encoding.is_none_or(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Returns when nothing has moved for this long.
async fn silent(moved: &AtomicU64, limit: Duration) {
    let (mut seen, mut since) = (moved.load(Relaxed), Instant::now());
    while since.elapsed() < limit {
        sleep(limit / 8).await;
        let now = moved.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
    }
}

/// An error with its causes, which hyper leaves out.
fn told(error: &dyn std::error::Error) -> io::Error {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        if !words.contains(&cause_words) {
            words = format!("{words}: {cause_words}");
        }
        source = cause.source();
    }
    io::Error::other(words)
}

/// A connection that counts bytes in both directions.
struct Counted {
    stream: TcpStream,
    moved: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, length: usize) {
        self.moved.fetch_add(length as u64, Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.count(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.count(length);
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, pieces))?;
        self.count(length);
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const LONG: &str = "the response is longer than any node's";
const ENCODED: &str =
    "the response is in an encoding that was not asked for: configure the proxy not to change it";
/// So that a template of megabytes comes in few pieces. It also limits the head: a node's has 150
/// bytes, a proxy's a few more.
const BUFFER_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LONG_TIME: Duration = Duration::from_secs(20);

    /// What is made of an answer of these bytes, and whether the connection is kept.
    async fn read(bytes: String) -> io::Result<(u16, String, bool)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut node, _) = listener.accept().await.unwrap();
        let ends = bytes.starts_with("HTTP/1.0");
        let served = tokio::spawn(async move {
            let mut request = [0; 1024];
            let length = node.read(&mut request).await.unwrap();
            // In pieces, which may be cut anywhere.
            for piece in bytes.as_bytes().chunks(bytes.len().div_ceil(7)) {
                if node.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let request = String::from_utf8(request[..length].to_vec()).unwrap();
            (request, (!ends).then_some(node))
        });
        let connection = HttpConnection::new(stream).await.unwrap();
        let request = Request::post("/wallet/x").header("host", "node.test:80");
        let request = request.body(Body::from("{}")).unwrap();
        let done = connection.exchange(request, LONG_TIME, 100).await;
        let (request, _node) = served.await.unwrap();
        assert!(request.starts_with("POST /wallet/x HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("Host: node.test:80\r\n") && request.ends_with("{}"), "{request}");
        let (reply, kept) = done?;
        Ok((reply.status, String::from_utf8(reply.body.to_vec()).unwrap(), kept.is_some()))
    }

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

    #[tokio::test]
    async fn answers_come_with_their_length_or_in_chunks_or_end_with_the_connection() {
        let odd = "2;name=\"a b\"\r\nhe\r\n03\r\nllo\r\n0\r\nExpires: never\r\nX: y\r\n\r\n";
        for (bytes, status, body, is_kept) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(), 200, "hello", true),
            ("HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n".to_owned(), 500, "", true),
            (format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"), 200, "hello", true),
            (format!("{CHUNKED}{odd}"), 200, "hello", true),
            ("HTTP/1.0 401 No\r\n\r\nwho?".to_owned(), 401, "who?", false),
        ] {
            let done = read(bytes.clone()).await.unwrap();
            let wanted = (status, body.to_owned());
            assert_eq!((done.0, done.1), wanted, "{bytes}");
            assert!(!done.2 || is_kept, "{bytes}");
        }
    }

    #[tokio::test]
    async fn hostile_answers_end_in_bounds() {
        let fill = format!("50\r\n{}\r\n", "a".repeat(0x50));
        for bytes in [
            format!("{CHUNKED}65\r\n{}", "a".repeat(0x65)),
            format!("{CHUNKED}{fill}{fill}"),
            format!("{CHUNKED}g\r\n"),
            format!("{CHUNKED}-1\r\n"),
            "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx".to_owned(),
            format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(4 * BUFFER_LEN)),
            "SSH-2.0-OpenSSH\r\n\r\n".to_owned(),
        ] {
            let done = read(bytes.clone()).await;
            assert!(done.is_err(), "{done:?} of {:.80}", bytes);
        }
    }
}
