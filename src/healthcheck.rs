//! Checks whether a running gateway is ready: over its API or, without one, by connecting like a
//! miner.

use std::{
    fmt::Display,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use axum::body::{Body, to_bytes};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use crate::config::Config;

/// Why a gateway is not ready; each line is for its owner.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("not ready: {}", .0.join("\nnot ready: "))]
    NotReady(Vec<String>),
    #[error(
        "nothing answers at {addr} ({key}): {why}. Is gatewayd running, with this configuration?"
    )]
    NoAnswer { addr: SocketAddr, key: &'static str, why: String },
    #[error(
        "what answers at {addr} (api.listen) is not gatewayd: {why}. Another program uses that \
         port; gatewayd's log says so too"
    )]
    Stranger { addr: SocketAddr, why: String },
    #[error("no work from {addr} (stratum.listen): {why}")]
    NoWork { addr: SocketAddr, why: String },
    #[error("stratum.listen and api.listen are both empty, so there is nothing to check")]
    NobodyToAsk,
    #[error("cannot check: {0}")]
    Runtime(io::Error),
}

/// Says which address is ready. Port 0 does not tell where the gateway is, so it counts as none.
pub fn healthcheck(config: &Config, limit: Duration) -> Result<String, NotReady> {
    let Some(api) = config.api.listen.filter(|addr| addr.port() != 0) else {
        return by_stratum(&config.stratum.listen, limit);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(NotReady::Runtime)?.block_on(by_api(local(api), limit))
}

/// Whether a gatewayd answers there, ready or not.
pub(crate) async fn is_gatewayd(api: SocketAddr, limit: Duration) -> bool {
    matches!(by_api(local(api), limit).await, Ok(_) | Err(NotReady::NotReady(_)))
}

/// The part of `/readyz` that matters here.
#[derive(Deserialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
}

async fn by_api(addr: SocketAddr, limit: Duration) -> Result<String, NotReady> {
    let no_answer =
        |why: &dyn Display| NotReady::NoAnswer { addr, key: "api.listen", why: why.to_string() };
    let answer = tokio::time::timeout(limit, readyz(addr)).await;
    let answer = answer.map_err(|_| no_answer(&format_args!("no answer within {limit:?}")))?;
    let (status, body) = answer.map_err(|error| no_answer(&error))?;
    let stranger = |why: &dyn Display| NotReady::Stranger { addr, why: why.to_string() };
    if status != StatusCode::OK && status != StatusCode::SERVICE_UNAVAILABLE {
        return Err(stranger(&format_args!("HTTP status {status}")));
    }
    let Readiness { ready, reasons } =
        serde_json::from_slice(&body).map_err(|error| stranger(&error))?;
    if ready {
        Ok(format!("{addr} is ready: miners get work"))
    } else {
        Err(NotReady::NotReady(reasons))
    }
}

async fn readyz(addr: SocketAddr) -> Result<(StatusCode, bytes::Bytes), axum::BoxError> {
    let socket = tokio::net::TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, addr.to_string());
    let answer = sender.send_request(request.body(Body::empty())?).await?;
    let status = answer.status();
    Ok((status, to_bytes(Body::new(answer.into_body()), ANSWER_LEN_MAX).await?))
}

/// Subscribes at the first of `listen` that answers and waits for a job.
fn by_stratum(listen: &[SocketAddr], limit: Duration) -> Result<String, NotReady> {
    let mut last = NotReady::NobodyToAsk;
    for addr in listen {
        let addr = local(*addr);
        let why = match TcpStream::connect_timeout(&addr, limit) {
            Err(error) => {
                last = NotReady::NoAnswer { addr, key: "stratum.listen", why: error.to_string() };
                continue;
            }
            Ok(socket) => gets_work(socket, limit).map_err(|error| error.to_string()),
        };
        match why {
            Ok(()) => return Ok(format!("{addr} hands out work")),
            Err(why) => last = NotReady::NoWork { addr, why },
        }
    }
    Err(last)
}

fn gets_work(mut socket: TcpStream, limit: Duration) -> io::Result<()> {
    socket.set_read_timeout(Some(limit))?;
    socket.write_all(
        b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"gatewayd-healthcheck\"]}\n",
    )?;
    let mut lines = BufReader::new(socket.take(ANSWER_LEN_MAX as u64));
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::Error::other(
                "it closed the connection: its log says what it is waiting for",
            ));
        }
        if line.contains("\"mining.notify\"") && line.contains("\"params\"") {
            return Ok(());
        }
    }
    Err(io::Error::other("it answers, but not with work"))
}

/// A wildcard address is reached through the loopback address.
pub(crate) fn local(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The subscription's answer, a difficulty, a job: work comes within the first few lines.
const LINES_MAX: usize = 8;
/// Room for a reason for each node and pool, or a job with its branches.
const ANSWER_LEN_MAX: usize = 64 * 1024;
