//! JSON-RPC to one node: the only client, for templates and for blocks.

use std::{path::Path, sync::Arc, time::Duration};

use axum::body::Body;
pub use bitcoincore_rpc::Auth;
use bitcoincore_rpc::jsonrpc::{base64, error::RpcError as Fault};
use bytes::Bytes;
use hyper::{
    Request,
    header::{self, HeaderValue},
};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, timeout},
};

use super::{
    NodeConfig, NodeKind, RpcUrl,
    budget::{ConnectionBudget, Purpose},
    error::{COOKIE, RpcError},
    http::{HttpConnection, Reply},
};
use crate::{
    net,
    work::{printable, printable_bytes},
};

/// A node's answer, held for borrowed parsing.
#[derive(Debug)]
pub(crate) struct RpcAnswer {
    method: &'static str,
    body: Bytes,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
struct Envelope<T> {
    /// Outer `None`: there is no result, not even a null.
    #[serde(default = "none", deserialize_with = "some")]
    result: Option<Option<T>>,
    error: Option<Fault>,
}

fn none<T>() -> Option<Option<T>> {
    None
}

fn some<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl RpcAnswer {
    /// The result; `None` when it is null.
    pub(crate) fn parse_optional<'a, T: Deserialize<'a>>(&'a self) -> Result<Option<T>, RpcError> {
        let wrong = |why: String| RpcError::Parse { method: self.method, why: why.into() };
        let text = std::str::from_utf8(&self.body).map_err(|e| wrong(e.to_string()))?;
        let envelope: Envelope<T> = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
        match envelope.error {
            Some(Fault { code, message, .. }) => {
                let message = printable(&message, MESSAGE_LEN_MAX).into();
                Err(RpcError::Node { code, message })
            }
            None => envelope.result.ok_or_else(|| wrong("it contains no result".into())),
        }
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, RpcError> {
        self.parse_optional()?.ok_or_else(|| RpcError::Parse {
            method: self.method,
            why: "the result is null".into(),
        })
    }
}

/// A call's limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallLimits {
    /// For the whole call, even if the node keeps sending a little.
    pub(crate) call: Duration,
    /// Between two pieces sent or read.
    pub(crate) silence: Duration,
    pub(crate) answer_len: usize,
}

impl From<Duration> for CallLimits {
    /// For a call that may take this long, with an answer as large as a template.
    fn from(call: Duration) -> Self {
        Self { call, silence: call, answer_len: ANSWER_LEN_MAX }
    }
}

/// A node's address and key, and at most one connection to it.
#[derive(Debug)]
pub(crate) struct RpcClient {
    target: NodeTarget,
    connection: Option<Connection>,
    connections: u32,
}

/// A node's address and credentials.
#[derive(Debug)]
struct NodeTarget {
    url: RpcUrl,
    auth: Auth,
    purpose: Purpose,
    /// Only a blvm-node counts connections.
    budget: Option<Arc<ConnectionBudget>>,
}

/// An open connection, and the credentials that it was opened with: cookies change.
#[derive(Debug)]
struct Connection {
    http: HttpConnection,
    authorization: Option<HeaderValue>,
}

/// One call, ready to be sent.
struct Call {
    method: &'static str,
    body: Bytes,
    limits: CallLimits,
}

impl RpcClient {
    pub(crate) fn new(node: &NodeConfig, purpose: Purpose) -> Self {
        let (url, auth) = (node.rpc_url.clone(), node.auth.clone());
        let is_counted = matches!(node.kind, NodeKind::Blvm(_));
        let budget = is_counted.then(|| ConnectionBudget::of(url.address()));
        let target = NodeTarget { url, auth, purpose, budget };
        Self { target, connection: None, connections: 0 }
    }

    /// How often it has connected: a new connection may be to another node.
    pub(crate) fn connections(&self) -> u32 {
        self.connections
    }

    /// Calls `method` with `params`, which become a JSON array. Every call here may safely be
    /// repeated; dropping one closes its connection.
    pub(crate) async fn call(
        &mut self,
        method: &'static str,
        params: impl Serialize,
        limits: impl Into<CallLimits>,
    ) -> Result<RpcAnswer, RpcError> {
        let wrong =
            |error: serde_json::Error| RpcError::Params { method, why: error.to_string().into() };
        let body = body(method, params).map_err(wrong)?;
        let call = Call { method, body: body.into(), limits: limits.into() };
        let limit = call.limits.call;
        timeout(limit, self.exchange(&call))
            .await
            .unwrap_or(Err(RpcError::Timeout { method, limit }))
    }

    /// On the kept connection if it still works, or else on a new one.
    async fn exchange(&mut self, call: &Call) -> Result<RpcAnswer, RpcError> {
        // Taken out, so that a call that is dropped or fails leaves no half-read connection.
        if let Some(kept) = self.connection.take() {
            match kept.exchange(&self.target, call).await {
                // The node closes idle connections, and a restarted one has another cookie.
                Err(RpcError::Io { .. } | RpcError::Unauthorized(_)) => {}
                done => return self.keep(done),
            }
        }
        let connection = Connection::open(&self.target).await?;
        self.connections = self.connections.wrapping_add(1);
        let opened_at = Instant::now();
        let done = connection.exchange(&self.target, call).await;
        // Not if the request was too long, which also makes a node hang up, nor if it hung up
        // later.
        let is_early = call.body.len() <= SHORT_LEN && opened_at.elapsed() < EARLY;
        match (&self.target.budget, done) {
            (Some(budget), Err(RpcError::Io { address, .. })) if is_early => {
                Err(RpcError::TurnedAway { address, wait: budget.turned_away() })
            }
            (_, done) => self.keep(done),
        }
    }

    fn keep(
        &mut self,
        done: Result<(RpcAnswer, Option<Connection>), RpcError>,
    ) -> Result<RpcAnswer, RpcError> {
        let (answer, connection) = done?;
        self.connection = connection;
        Ok(answer)
    }
}

fn body(method: &str, params: impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct Body<'a, P> {
        jsonrpc: &'a str,
        id: u32,
        method: &'a str,
        params: P,
    }
    serde_json::to_vec(&Body { jsonrpc: "1.0", id: 0, method, params })
}

impl NodeTarget {
    /// The Authorization header's value. Cookies are read each time: they change.
    async fn authorization(&self) -> Result<Option<HeaderValue>, RpcError> {
        let secret = match &self.auth {
            Auth::None => return Ok(None),
            Auth::UserPass(user, password) => format!("{user}:{password}"),
            Auth::CookieFile(path) => read_cookie(path).await?,
        };
        // Base64 is always valid in a header.
        let value = HeaderValue::try_from(format!("Basic {}", base64::encode(secret)));
        Ok(value.ok().map(|mut value| {
            value.set_sensitive(true);
            value
        }))
    }

    fn request(
        &self,
        authorization: Option<&HeaderValue>,
        body: Bytes,
    ) -> Result<Request<Body>, RpcError> {
        let mut request = Request::post(self.url.path())
            .header(header::HOST, &**self.url.address())
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        // A parsed URL contains nothing that is invalid in a header.
        request.body(body.into()).map_err(|_| RpcError::Url(self.url.to_string().into()))
    }

    fn address(&self) -> Arc<str> {
        Arc::clone(self.url.address())
    }

    fn io(&self, error: &std::io::Error) -> RpcError {
        RpcError::Io { address: self.address(), why: error.to_string().into() }
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
    let io = |error: std::io::Error| wrong(error.to_string());
    // A pipe would be waited for for ever, and a device has no end.
    if !tokio::fs::metadata(path).await.map_err(io)?.is_file() {
        return Err(wrong("it is not a regular file".into()));
    }
    let mut cookie = String::new();
    let file = tokio::fs::File::open(path).await.map_err(io)?;
    file.take(COOKIE_LEN_MAX).read_to_string(&mut cookie).await.map_err(io)?;
    let line = cookie.lines().next().unwrap_or_default();
    if line.contains(':') {
        Ok(line.to_owned())
    } else {
        Err(wrong("it contains no user:password".into()))
    }
}

impl Connection {
    async fn open(target: &NodeTarget) -> Result<Self, RpcError> {
        let authorization = target.authorization().await?;
        if let Some(budget) = &target.budget {
            budget.take(target.purpose, target.url.address())?;
        }
        let connected = timeout(CONNECT_MAX, net::connect(&**target.url.address())).await;
        let why = match connected {
            Ok(Ok(stream)) => {
                let http = HttpConnection::new(stream).await.map_err(|error| target.io(&error))?;
                return Ok(Self { http, authorization });
            }
            Ok(Err(error)) => error.to_string().into(),
            Err(_) => "it does not answer".into(),
        };
        // The node did not count it.
        target.budget.as_ref().inspect(|budget| budget.give_back());
        Err(RpcError::Connect { address: target.address(), why })
    }

    /// Sends the request and reads the whole answer. Returns itself if the node keeps the
    /// connection.
    async fn exchange(
        self,
        target: &NodeTarget,
        call: &Call,
    ) -> Result<(RpcAnswer, Option<Self>), RpcError> {
        let Self { http, authorization } = self;
        let request = target.request(authorization.as_ref(), call.body.clone())?;
        let CallLimits { silence, answer_len, .. } = call.limits;
        let done = http.exchange(request, silence, answer_len).await;
        let (Reply { status, body }, http) = done.map_err(|error| target.io(&error))?;
        let is_json = body.first() == Some(&b'{');
        match status {
            401 => Err(target.unauthorized()),
            403 => Err(RpcError::Forbidden(call.method)),
            // A node's own errors come with status 500 or 404 and say more in JSON; a request that
            // is too long never reached the call.
            status if status == 413 || (status != 200 && !is_json) => {
                let text = printable_bytes(body.trim_ascii(), MESSAGE_LEN_MAX);
                Err(RpcError::Http { status, text: text.into() })
            }
            _ => {
                let kept = http.map(|http| Self { http, authorization });
                Ok((RpcAnswer { method: call.method, body }, kept))
            }
        }
    }
}

/// For a call that has none.
pub(crate) const NO_PARAMS: [(); 0] = [];
/// For resolving a host, where a dead name server may take 5 s before the next one is asked, and
/// connecting to the first address that answers: a node that is up does so at once.
const CONNECT_MAX: Duration = Duration::from_secs(15);
/// A request without a block in it.
const SHORT_LEN: usize = 4096;
const EARLY: Duration = Duration::from_secs(1);
/// bitcoind's has 75 bytes.
const COOKIE_LEN_MAX: u64 = 4096;
/// A full template is 8 MB of hex and 2 MB of the rest.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// Enough for a node's sentence, too little to fill a log.
const MESSAGE_LEN_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{sleep, timeout},
    };

    use super::{super::error::WARMING_UP, *};

    #[tokio::test]
    async fn a_cookie_is_read_from_a_regular_file_and_not_beyond_a_limit() {
        let why = |read: Result<String, RpcError>| read.unwrap_err().to_string();
        let device = timeout(Duration::from_secs(5), read_cookie(Path::new("/dev/zero"))).await;
        assert!(why(device.unwrap()).contains("it is not a regular file"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".cookie");
        std::fs::write(&path, "__cookie__:secret\n").unwrap();
        assert_eq!(read_cookie(&path).await.unwrap(), "__cookie__:secret");
        std::fs::write(&path, vec![b'x'; 1 << 20]).unwrap();
        assert!(why(read_cookie(&path).await).contains("no user:password"));
    }

    fn node(url: &str) -> NodeConfig {
        NodeConfig::new("n", url.parse().unwrap(), Auth::None)
    }

    /// A node that answers this to whatever it is asked, and then that, again and again.
    async fn server_answering(first: &'static [u8], again: &'static [u8]) -> RpcClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Only 127.0.0.1 listens; ::1 may come first.
        let url = format!("http://localhost:{}/wallet/x", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.read_exact(&mut [0; 64]).await.unwrap();
                stream.write_all(first).await.unwrap();
                while stream.write_all(again).await.is_ok() {
                    sleep(Duration::from_millis(10)).await;
                }
            }
        });
        RpcClient::new(&node(&url), Purpose::Blocks)
    }

    #[test]
    fn answers() {
        let answer = |body: &str| RpcAnswer { method: "m", body: body.to_owned().into() };
        let ok = answer(r#"{"result":"ab","error":null,"id":0}"#);
        assert_eq!(ok.parse::<&str>(), Ok("ab"));
        assert_eq!(answer(r#"{"result":null,"error":null}"#).parse_optional::<&str>(), Ok(None));
        let fault = answer(r#"{"result":null,"error":{"code":-28,"message":"Loading \"x\""}}"#);
        assert_eq!(fault.parse::<&str>().unwrap_err().code(), Some(WARMING_UP));
        let fault = answer(r#"{"error":{"code":-28,"message":"Loading"}}"#);
        assert_eq!(fault.parse::<&str>().unwrap_err().code(), Some(WARMING_UP));
        // Null is how a node takes a block: what says nothing must not count as that.
        for nothing in ["[]", "{}", r#"{"error":null,"id":0}"#, "", "<html>"] {
            let answer = answer(nothing);
            let parsed = answer.parse_optional::<&str>();
            assert!(matches!(parsed, Err(RpcError::Parse { .. })), "{nothing}");
        }
    }

    #[test]
    fn a_request_is_what_nodes_read() {
        let body = |params: &dyn Fn() -> Result<Vec<u8>, serde_json::Error>| {
            String::from_utf8(params().unwrap()).unwrap()
        };
        assert_eq!(
            body(&|| super::body("uptime", NO_PARAMS)),
            r#"{"jsonrpc":"1.0","id":0,"method":"uptime","params":[]}"#
        );
        assert_eq!(
            body(&|| super::body("m", (7, "\""))),
            r#"{"jsonrpc":"1.0","id":0,"method":"m","params":[7,"\""]}"#
        );
    }

    #[tokio::test]
    async fn a_node_that_trickles_its_answer_does_not_hold_a_call_for_ever() {
        let mut client = server_answering(b"HTTP/1.1 200 OK\r\nX: ", b"x").await;
        let limits = CallLimits {
            call: Duration::from_millis(300),
            silence: Duration::from_secs(20),
            answer_len: 100,
        };
        let called = client.call("m", NO_PARAMS, limits).await;
        assert!(matches!(called, Err(RpcError::Timeout { .. })), "{called:?}");
    }

    #[tokio::test]
    async fn a_node_that_falls_silent_does_not_hold_a_call_for_long() {
        let mut client = server_answering(b"", b"").await;
        let limits = CallLimits {
            call: Duration::from_secs(300),
            silence: Duration::from_millis(300),
            answer_len: 100,
        };
        let called = timeout(Duration::from_secs(60), client.call("m", NO_PARAMS, limits)).await;
        assert!(matches!(called, Ok(Err(RpcError::Io { .. }))), "{called:?}");
    }

    #[tokio::test]
    async fn an_answer_beyond_its_limit_is_none() {
        let mut client =
            server_answering(b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n", b"{}").await;
        let second = Duration::from_secs(20);
        let limits = CallLimits { call: second, silence: second, answer_len: 100 };
        let called = client.call("m", NO_PARAMS, limits).await;
        assert!(
            matches!(&called, Err(RpcError::Io { why, .. }) if why.contains("longer")),
            "{called:?}"
        );
    }

    #[tokio::test]
    async fn a_connection_that_the_node_has_closed_meanwhile_is_opened_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.read_exact(&mut [0; 64]).await.unwrap();
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"result\":7}";
                stream.write_all(answer).await.unwrap();
                sleep(Duration::from_millis(20)).await;
            }
        });
        let mut client = RpcClient::new(&node(&url), Purpose::Blocks);
        for times in 1..4 {
            let called = timeout(Duration::from_secs(10), client.call("m", NO_PARAMS, LONG)).await;
            assert_eq!(called.unwrap().unwrap().parse::<u32>(), Ok(7));
            assert_eq!(client.connections(), times);
            sleep(Duration::from_millis(200)).await;
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_node_that_is_not_there_does_not_answer() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut client = RpcClient::new(&node(&format!("http://{closed}")), Purpose::Blocks);
        let called = client.call("m", NO_PARAMS, Duration::from_secs(20)).await;
        assert!(matches!(called, Err(RpcError::Connect { .. })), "{called:?}");
    }
}
