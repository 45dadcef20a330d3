//! JSON-RPC to one node over one kept-alive HTTP connection.
//!
//! Not through a client library: the answer to `getblocktemplate` is megabytes that are parsed
//! where they lie, a long poll must end when the daemon does, and cookies change with each start
//! of the node.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use bitcoincore_rpc::{Auth, jsonrpc::base64};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::error::{COOKIE, RpcError};
use crate::{
    net,
    reply::{Reader, Reply, ReplyError},
    work::{printable, printable_bytes},
};

/// A node's answer, held for borrowed parsing.
#[derive(Debug)]
pub(crate) struct Answer {
    method: &'static str,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct Envelope<'a, T> {
    result: Option<T>,
    #[serde(borrow)]
    error: Option<Fault<'a>>,
}

#[derive(Deserialize)]
struct Fault<'a> {
    code: i32,
    #[serde(borrow)]
    message: std::borrow::Cow<'a, str>,
}

impl Answer {
    /// The result; `None` when it is null.
    pub(crate) fn parse_optional<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<T>, RpcError> {
        let wrong = |why: String| RpcError::Parse { method: self.method, why: why.into() };
        let text = std::str::from_utf8(&self.body).map_err(|e| wrong(e.to_string()))?;
        let envelope: Envelope<'a, T> =
            serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        match envelope.error {
            Some(Fault { code, message }) => {
                let message = printable(&message, MESSAGE_LEN_MAX).into();
                Err(RpcError::Node { code, message })
            }
            None => Ok(envelope.result),
        }
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RpcError> {
        self.parse_optional()?.ok_or_else(|| RpcError::Parse {
            method: self.method,
            why: "the result is null".into(),
        })
    }
}

/// A node's address and key, and at most one connection to it.
#[derive(Debug)]
pub(crate) struct RpcClient {
    target: Target,
    connection: Option<Connection>,
}

impl RpcClient {
    pub(crate) fn new(url: &str, auth: &Auth) -> Result<Self, RpcError> {
        let target = Target::parse(url, auth).ok_or_else(|| RpcError::Url(url.into()))?;
        Ok(Self { target, connection: None })
    }

    /// A client that connects only as often as `ration` allows.
    pub(crate) fn rationed(url: &str, auth: &Auth, ration: Arc<Ration>) -> Result<Self, RpcError> {
        let mut client = Self::new(url, auth)?;
        client.target.ration = Some(ration);
        Ok(client)
    }

    /// How often it has connected: on a new connection there may be another node.
    pub(crate) fn connections(&self) -> u32 {
        self.target.connections.load(Relaxed)
    }

    /// Calls `method` with `params`, a JSON array. Every call here may be repeated without harm.
    pub(crate) async fn call(
        &mut self,
        method: &'static str,
        params: &str,
        limit: Duration,
    ) -> Result<Answer, RpcError> {
        // Taken out, so that a call that is dropped or fails leaves no half-read connection.
        let kept = self.connection.take();
        let exchange = exchange(&self.target, kept, method, params);
        let (answer, connection) =
            timeout(limit, exchange).await.map_err(|_| RpcError::Timeout { method, limit })??;
        self.connection = connection;
        Ok(answer)
    }
}

/// One call, on the kept connection if it still works, else on a new one.
async fn exchange(
    target: &Target,
    kept: Option<Connection>,
    method: &'static str,
    params: &str,
) -> Result<(Answer, Option<Connection>), RpcError> {
    let body = format!(r#"{{"jsonrpc":"1.0","id":0,"method":"{method}","params":{params}}}"#);
    if let Some(connection) = kept {
        match connection.exchange(target, method, &body).await {
            // The node closes idle connections, and a restarted one has another cookie.
            Err(RpcError::Io { .. } | RpcError::Unauthorized(_)) => {}
            done => return done,
        }
    }
    let connection = Connection::open(target).await?;
    let opened_at = Instant::now();
    let done = connection.exchange(target, method, &body).await;
    // A request that is too long is another reason to hang up, and the node's end a later one.
    let is_early = body.len() <= SHORT_LEN && opened_at.elapsed() < EARLY;
    match (&target.ration, done) {
        (Some(ration), Err(RpcError::Io { .. })) if is_early => {
            ration.turned_away();
            Err(RpcError::TurnedAway { address: Arc::clone(&target.address), wait: PAUSE })
        }
        (_, done) => done,
    }
}

/// Where a node is and what it wants to hear.
#[derive(Debug)]
struct Target {
    address: Arc<str>,
    path: Box<str>,
    auth: Auth,
    ration: Option<Arc<Ration>>,
    connections: AtomicU32,
}

impl Target {
    fn parse(url: &str, auth: &Auth) -> Option<Self> {
        let rest = url.strip_prefix("http://")?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
            !name.is_empty() && port.parse::<u16>().is_ok() && !host.ends_with(']')
        });
        let is_clean = !url.contains(|c: char| c.is_whitespace() || c.is_control());
        (has_port && is_clean && !host.contains('@')).then(|| Self {
            address: host.into(),
            path: path.into(),
            auth: auth.clone(),
            ration: None,
            connections: AtomicU32::new(0),
        })
    }

    /// The Authorization header's value. Cookies are read each time: they change.
    async fn authorization(&self) -> Result<Option<String>, RpcError> {
        let secret = match &self.auth {
            Auth::None => return Ok(None),
            Auth::UserPass(user, password) => format!("{user}:{password}"),
            Auth::CookieFile(path) => read_cookie(path).await?,
        };
        Ok(Some(format!("Basic {}", base64::encode(secret))))
    }

    fn io(&self, error: &io::Error) -> RpcError {
        RpcError::Io { address: Arc::clone(&self.address), why: error.to_string().into() }
    }

    fn unauthorized(&self) -> RpcError {
        RpcError::Unauthorized(match &self.auth {
            Auth::None => "call without a user",
            Auth::UserPass(..) => "user or password",
            Auth::CookieFile(_) => COOKIE,
        })
    }
}

async fn read_cookie(path: &Path) -> Result<String, RpcError> {
    let wrong =
        |why: String| RpcError::Cookie { path: path.display().to_string().into(), why: why.into() };
    let cookie = tokio::fs::read_to_string(path).await.map_err(|e| wrong(e.to_string()))?;
    let line = cookie.lines().next().unwrap_or_default();
    if line.contains(':') {
        Ok(line.to_owned())
    } else {
        Err(wrong("it holds no user:password".into()))
    }
}

/// An open connection that waits for a request.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    authorization: Option<String>,
}

impl Connection {
    async fn open(target: &Target) -> Result<Self, RpcError> {
        let authorization = target.authorization().await?;
        if let Some(ration) = &target.ration {
            ration.take(&target.address)?;
        }
        let stream = net::connect(&*target.address).await.map_err(|error| {
            // Nobody counted it.
            target.ration.as_ref().inspect(|ration| ration.give_back());
            RpcError::Connect {
                address: Arc::clone(&target.address),
                why: error.to_string().into(),
            }
        })?;
        stream.set_nodelay(true).map_err(|error| target.io(&error))?;
        target.connections.fetch_add(1, Relaxed);
        Ok(Self { stream, authorization })
    }

    /// Asks, and reads the whole answer. Gives itself back if the node keeps the connection.
    async fn exchange(
        mut self,
        target: &Target,
        method: &'static str,
        body: &str,
    ) -> Result<(Answer, Option<Self>), RpcError> {
        let request = self.request(target, body);
        let reply = async {
            let written = self.stream.write_all(request.as_bytes()).await;
            // Who finds a request too long says so before it has read it.
            read_reply(&mut self.stream).await.map_err(|error| written.err().unwrap_or(error))
        };
        let Reply { status, body, keeps } = reply.await.map_err(|error| target.io(&error))?;
        let is_json = body.first() == Some(&b'{');
        match status {
            401 => Err(target.unauthorized()),
            403 => Err(RpcError::Forbidden(method)),
            // An error of the node's own comes with status 500 or 404 and says more in JSON; a
            // request that is too long never got to the call.
            status if status == 413 || (status != 200 && !is_json) => {
                let text = printable_bytes(body.trim_ascii(), MESSAGE_LEN_MAX);
                Err(RpcError::Http { status, text: text.into() })
            }
            _ => Ok((Answer { method, body }, keeps.then_some(self))),
        }
    }

    fn request(&self, target: &Target, body: &str) -> String {
        let authorization = self
            .authorization
            .as_ref()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{authorization}\
             Content-Length: {}\r\n\r\n{body}",
            target.path,
            target.address,
            body.len(),
        )
    }
}

/// How many more connections a node takes: blvm-node closes those beyond its limit without a word.
#[derive(Debug)]
pub(crate) struct Ration {
    max: usize,
    opened: Mutex<VecDeque<Instant>>,
    /// The node takes none before then: others had theirs from it too.
    paused_until: Mutex<Option<Instant>>,
}

impl Ration {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, opened: Mutex::default(), paused_until: Mutex::default() })
    }

    fn take(&self, address: &Arc<str>) -> Result<(), RpcError> {
        let now = Instant::now();
        let paused_until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = paused_until.filter(|until| *until > now) {
            let (address, wait) = (Arc::clone(address), until.duration_since(now));
            return Err(RpcError::TurnedAway { address, wait });
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        while opened.front().is_some_and(|at| now.duration_since(*at) > RATION_PERIOD) {
            opened.pop_front();
        }
        if opened.len() < self.max {
            opened.push_back(now);
            return Ok(());
        }
        let wait = opened.front().map_or(RATION_PERIOD, |first| {
            RATION_PERIOD.saturating_sub(now.duration_since(*first))
        });
        let (address, wait) = (Arc::clone(address), Duration::from_secs(wait.as_secs() + 1));
        Err(RpcError::Rationed { address, max: self.max, wait })
    }

    fn turned_away(&self) {
        let until = Instant::now() + PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn give_back(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    }
}

async fn read_reply(stream: &mut TcpStream) -> io::Result<Reply> {
    let mut reader = Reader::new(BODY_LEN_MAX);
    let mut buffer = vec![0; READ_LEN];
    loop {
        let reply = match stream.read(&mut buffer).await? {
            0 => reader.on_end().map(Some),
            len => reader.on_bytes(&buffer[..len]),
        };
        if let Some(reply) = reply.map_err(io_error)? {
            return Ok(reply);
        }
    }
}

fn io_error(error: ReplyError) -> io::Error {
    match error {
        ReplyError::Ended => io::ErrorKind::UnexpectedEof.into(),
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}

/// blvm-node counts in whole seconds.
const RATION_PERIOD: Duration = Duration::from_secs(61);
/// Six tries a minute: fewer than a node takes that counts those it turns away.
const PAUSE: Duration = Duration::from_secs(10);
/// A call without a block in it.
const SHORT_LEN: usize = 4096;
const EARLY: Duration = Duration::from_secs(1);
/// A template of megabytes comes in few pieces.
const READ_LEN: usize = 64 * 1024;
/// A full template is 8 MB of hex and 2 MB of the rest.
const BODY_LEN_MAX: usize = 64 << 20;
/// Enough for a node's sentence, too little to fill a log with.
const MESSAGE_LEN_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::{super::error::WARMING_UP, *};

    #[test]
    fn urls() {
        let parse = |url| Target::parse(url, &Auth::None).map(|t| (t.address, t.path));
        let is = |address: &str, path: &str| Some((address.into(), path.into()));
        assert_eq!(parse("http://127.0.0.1:8332"), is("127.0.0.1:8332", "/"));
        assert_eq!(parse("http://[::1]:8332/wallet/a"), is("[::1]:8332", "/wallet/a"));
        for wrong in
            ["https://a:1", "http://a", "a:1", "http://a:1/x y", "http://[::1]", "http://u@a:1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rations() {
        let (ration, address) = (Ration::new(2), "a:1".into());
        assert_eq!(ration.take(&address), Ok(()));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(ration.take(&address), Ok(()));
        let Err(RpcError::Rationed { wait, .. }) = ration.take(&address) else { panic!("a third") };
        assert_eq!(wait, Duration::from_secs(42));
        ration.give_back();
        assert_eq!(ration.take(&address), Ok(()));
        assert!(ration.take(&address).is_err());
        tokio::time::advance(wait).await;
        assert_eq!(ration.take(&address), Ok(()));
        assert!(ration.take(&address).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_turned_away_waits() {
        let (ration, address) = (Ration::new(2), "a:1".into());
        assert_eq!(ration.take(&address), Ok(()));
        ration.turned_away();
        tokio::time::advance(PAUSE / 2).await;
        let wait = PAUSE / 2;
        let turned_away = RpcError::TurnedAway { address: Arc::clone(&address), wait };
        assert_eq!(ration.take(&address), Err(turned_away));
        tokio::time::advance(wait).await;
        assert_eq!(ration.take(&address), Ok(()));
    }

    #[test]
    fn answers() {
        let answer = |body: &str| Answer { method: "m", body: body.into() };
        let ok = answer(r#"{"result":"ab","error":null,"id":0}"#);
        assert_eq!(ok.parse::<&str>(), Ok("ab"));
        assert_eq!(answer(r#"{"result":null,"error":null}"#).parse_optional::<&str>(), Ok(None));
        let fault = answer(r#"{"result":null,"error":{"code":-28,"message":"Loading \"x\""}}"#);
        assert_eq!(fault.parse::<&str>().unwrap_err().code(), Some(WARMING_UP));
        assert!(matches!(answer("[]").parse::<&str>(), Err(RpcError::Parse { .. })));
    }
}
