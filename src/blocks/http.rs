//! Calls to a node over one kept HTTP connection, for threads that may wait.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bitcoincore_rpc::jsonrpc::{self, Request, Response, base64, client::Transport};

use crate::reply::{Reader, Reply, ReplyError};

/// A node's address and key, and at most one connection to it.
pub(super) struct Http {
    addr: SocketAddr,
    /// As the node, or a proxy before it, is asked for.
    host: String,
    path: String,
    authorization: Option<String>,
    limits: Limits,
    kept: Mutex<Option<TcpStream>>,
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Until the connection stands, and between two pieces of what is sent or read.
    pub(super) silence: Duration,
    /// In all, however the node trickles.
    pub(super) call: Duration,
}

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Reply(#[from] ReplyError),
    #[error("unexpected HTTP code: {0}")]
    Status(u16),
}

impl Http {
    /// For `http://host:port/path`, at the address that the host was found at, else at its first.
    pub(super) fn new(
        url: &str,
        found: Option<SocketAddr>,
        login: Option<(String, String)>,
        limits: Limits,
    ) -> io::Result<Self> {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let addr = match found {
            Some(addr) => Some(addr),
            None => host.to_socket_addrs()?.next(),
        };
        let authorization = login.map(|(user, password)| {
            format!("Authorization: Basic {}\r\n", base64::encode(format!("{user}:{password}")))
        });
        Ok(Self {
            addr: addr.ok_or(io::ErrorKind::AddrNotAvailable)?,
            host: host.into(),
            path: path.into(),
            authorization,
            limits,
            kept: Mutex::new(None),
        })
    }

    fn call(&self, body: &[u8]) -> Result<Reply, HttpError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = kept.take() {
            // The node closes idle connections: that one may be gone by now.
            if let Ok((reply, stream)) = self.exchange(stream, body) {
                *kept = stream;
                return Ok(reply);
            }
        }
        let stream = TcpStream::connect_timeout(&self.addr, self.limits.silence)?;
        stream.set_nodelay(true)?;
        let (reply, stream) = self.exchange(stream, body)?;
        *kept = stream;
        Ok(reply)
    }

    /// Asks, and reads the whole answer. Gives the connection back if it may be used again.
    fn exchange(
        &self,
        mut stream: TcpStream,
        body: &[u8],
    ) -> Result<(Reply, Option<TcpStream>), HttpError> {
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{}\
             Content-Length: {}\r\n\r\n",
            self.path,
            self.host,
            self.authorization.as_deref().unwrap_or_default(),
            body.len(),
        );
        let clock = Clock::start(self.limits);
        let written = write_all(&mut stream, &[head.as_bytes(), body].concat(), clock);
        // Who finds a request too long says so before it has read it.
        let reply = read_reply(&mut stream, clock).map_err(|error| match written {
            Err(written) => written.into(),
            Ok(()) => error,
        })?;
        let stream = reply.keeps.then_some(stream);
        Ok((reply, stream))
    }
}

/// Of one call.
#[derive(Clone, Copy)]
struct Clock {
    silence: Duration,
    end: Instant,
}

#[expect(clippy::disallowed_methods, reason = "it joins a call to its socket")]
impl Clock {
    fn start(limits: Limits) -> Self {
        Self { silence: limits.silence, end: Instant::now() + limits.call }
    }

    /// How long the next piece may take; an error when the call is over.
    fn piece(self) -> io::Result<Option<Duration>> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Some(left.min(self.silence)))
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8], clock: Clock) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(clock.piece()?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn read_reply(stream: &mut TcpStream, clock: Clock) -> Result<Reply, HttpError> {
    let mut reader = Reader::new(BODY_LEN_MAX);
    let mut buffer = [0; 4096];
    loop {
        stream.set_read_timeout(clock.piece()?)?;
        let reply = match stream.read(&mut buffer)? {
            0 => Some(reader.on_end()?),
            len => reader.on_bytes(&buffer[..len])?,
        };
        if let Some(reply) = reply {
            return Ok(reply);
        }
    }
}

impl Transport for Http {
    fn send_request(&self, request: Request<'_>) -> Result<Response, jsonrpc::Error> {
        let transport = |error: HttpError| jsonrpc::Error::Transport(Box::new(error));
        let reply = self.call(&serde_json::to_vec(&request)?).map_err(transport)?;
        // An error of the node's own comes with status 500 or 404 and says more in JSON.
        match serde_json::from_slice(&reply.body) {
            _ if reply.status == UNAUTHORIZED => Err(transport(HttpError::Status(reply.status))),
            Err(_) if reply.status != OK => Err(transport(HttpError::Status(reply.status))),
            parsed => Ok(parsed?),
        }
    }

    fn send_batch(&self, _: &[Request<'_>]) -> Result<Vec<Response>, jsonrpc::Error> {
        let error = io::Error::from(io::ErrorKind::Unsupported);
        Err(jsonrpc::Error::Transport(Box::new(error)))
    }

    fn fmt_target(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}

const OK: u16 = 200;
const UNAUTHORIZED: u16 = 401;
/// What is asked here has short answers.
const BODY_LEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    const LIMITS: Limits =
        Limits { silence: Duration::from_secs(20), call: Duration::from_millis(300) };

    #[test]
    fn a_node_that_trickles_its_answer_does_not_hold_a_call_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            // Until nobody listens any more.
            while stream.write_all(b"H").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        });
        let http = Http::new(&url, None, None, LIMITS).unwrap();
        let HttpError::Io(error) = http.call(b"{}").unwrap_err() else { panic!("an answer") };
        let is_late = matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock);
        assert!(is_late, "{error}");
    }

    #[test]
    fn a_proxy_is_asked_by_the_name_that_was_configured() {
        let found = "[::1]:8332".parse().unwrap();
        let http = Http::new("http://node.test:80/wallet/x", Some(found), None, LIMITS).unwrap();
        assert_eq!((&*http.host, &*http.path), ("node.test:80", "/wallet/x"));
        assert_eq!(http.addr, found);
        let http = Http::new("http://127.0.0.1:1", None, None, LIMITS).unwrap();
        assert_eq!((http.addr.port(), &*http.path), (1, "/"));
    }
}
