//! The API's sockets, on a thread of their own, so that no amount of requests makes a miner wait.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    auth::network,
    clock::moment,
    error::ApiError,
    handles::Handles,
    paced::Paced,
    peer::Peer,
    places::Places,
    prefix::{self, Prefixed, RequestPath},
    router,
    state::State,
    task, wrong_port,
};
use crate::books::client_mistakes::ClientMistake;

/// The running API.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    bound: watch::Receiver<Option<SocketAddr>>,
}

impl Api {
    /// The address it listens on, once it does.
    pub(crate) async fn addr(&self) -> Option<SocketAddr> {
        let mut bound = self.bound.clone();
        bound.wait_for(Option::is_some).await.ok().and_then(|addr| *addr)
    }
}

/// Serves the API at `listen` until `stop`. If the port is taken, mining goes on and it is retried.
pub(crate) fn spawn(
    listen: SocketAddr,
    handles: Handles,
    stop: CancellationToken,
) -> io::Result<Api> {
    let (sender, bound) = watch::channel(None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_MAX)
        .thread_name("api-blocking")
        .build()?;
    let run = move || {
        runtime.block_on(run(listen, handles, stop, sender));
        // Does not wait for a password being checked.
        runtime.shutdown_background();
    };
    thread::Builder::new().name("api".into()).spawn(run)?;
    Ok(Api { bound })
}

async fn run(
    listen: SocketAddr,
    handles: Handles,
    stop: CancellationToken,
    bound: watch::Sender<Option<SocketAddr>>,
) {
    let Some(Some(listener)) = stop.run_until_cancelled(bind(listen)).await.map(Some) else {
        return;
    };
    let addr = listener.local_addr().unwrap_or(listen);
    info!(protocol = %"http", %addr, "listening");
    bound.send_replace(Some(addr));
    let state = Arc::new(State::new(handles));
    let router = router::router(&state).layer(from_fn(in_time));
    let mut background = JoinSet::new();
    background.spawn(task::run(Arc::clone(&state)));
    let places = Arc::new(Mutex::new(Places::new(CONNECTIONS_MAX)));
    let mut conns = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = conns.join_next(), if !conns.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            // Some of those being closed may still be there.
            Ok(_) if conns.len() >= 2 * CONNECTIONS_MAX => debug!(
                "the API has too many \
                                                                   connections: a new one is \
                                                                   refused"
            ),
            Ok((socket, peer)) => {
                let (seat, places) = (Arc::<ConnectionPlace>::default(), Arc::clone(&places));
                let (id, evicted) =
                    lock(&places).enter(network(peer.ip()), Arc::clone(&seat), |it| it.is_idle());
                if let Some(evicted) = evicted {
                    evicted.leave.cancel();
                }
                let service = Front {
                    inner: TowerToHyperService::new(router.clone()),
                    peer: Peer(peer),
                    state: Arc::clone(&state),
                    seat: Arc::clone(&seat),
                };
                let stop = stop.clone();
                conns.spawn(async move {
                    seat.leave.run_until_cancelled(serve(socket, service, stop)).await;
                    lock(&places).leave(id);
                });
            }
            Err(error) => {
                debug!(%error, "the API cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    background.shutdown().await;
    state.hub.close();
    let _ = timeout(DRAIN, async { while conns.join_next().await.is_some() {} }).await;
}

async fn bind(listen: SocketAddr) -> TcpListener {
    let mut said = false;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => return listener,
            Err(error) if !said => {
                warn!(
                    "cannot listen on {listen} (api.listen), so there is no dashboard and no API: \
                     {error}. Mining goes on, and this is retried: stop the program that uses the \
                     address, or set another one and restart"
                );
                said = true;
            }
            Err(error) => debug!(%error, "still cannot listen on {listen}"),
        }
        sleep(BIND_PAUSE).await;
    }
}

/// A connection's place. When places run out, the address with the most loses one that is idle, so
/// unfinished requests cannot keep others out.
#[derive(Debug, Default)]
struct ConnectionPlace {
    leave: CancellationToken,
    /// Whether a request is being answered.
    busy: AtomicBool,
}

impl ConnectionPlace {
    fn is_idle(&self) -> bool {
        !self.busy.load(Relaxed)
    }
}

fn lock(
    places: &Mutex<Places<Arc<ConnectionPlace>>>,
) -> MutexGuard<'_, Places<Arc<ConnectionPlace>>> {
    // Nothing under the lock can leave it half done.
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, from its first request to its last.
async fn serve(mut socket: TcpStream, service: Front, stop: CancellationToken) {
    if let Err(error) = tune(&socket) {
        debug!(%error, "cannot tune a connection of the API");
    }
    let first = timeout(HEADERS_TIME_MAX, miner(&socket));
    match stop.run_until_cancelled(first).await {
        Some(Ok(None)) => {}
        Some(Ok(Some(protocol))) => {
            let Peer(peer) = service.peer;
            return send_on(&mut socket, peer, protocol, &service.state).await;
        }
        _ => return,
    }
    let mut conn = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_TIME_MAX)
            .max_buf_size(HEADERS_LEN_MAX)
            .serve_connection(TokioIo::new(Paced::new(socket)), service)
    );
    let ended = tokio::select! {
        ended = conn.as_mut() => ended,
        () = stop.cancelled() => {
            conn.as_mut().graceful_shutdown();
            conn.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the API ended");
    }
}

/// The protocol of a miner that connected here; none for everybody else.
async fn miner(socket: &TcpStream) -> Option<&'static str> {
    let mut first = [0; wrong_port::KEY_LEN];
    let len = socket.peek(&mut first).await.ok()?;
    wrong_port::protocol_of(first.get(..len)?)
}

/// Tells a miner and its owner where to connect instead.
async fn send_on(socket: &mut TcpStream, peer: SocketAddr, protocol: &'static str, state: &State) {
    let port = state.handles.facts.stratum.first().map(SocketAddr::port);
    let mistake = ClientMistake::MinerAtDashboard { protocol, port };
    state.handles.roster.client_mistakes().note(peer, mistake, moment().now);
    let Some(answer) = wrong_port::answer(protocol, port) else { return };
    let said = timeout(LAST_WRITE_TIMEOUT, async {
        // Unread data would turn the close into a reset, which would discard the answer.
        let mut unread = [0; 4096];
        let _ = socket.try_read(&mut unread);
        socket.write_all(answer.as_bytes()).await?;
        socket.shutdown().await
    });
    let _ = said.await;
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    // Also for a client that never reads: its answers are not kept forever.
    socket.set_tcp_user_timeout(Some(UNREAD_MAX))?;
    // Otherwise the kernel would buffer megabytes for clients that do not read.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNREAD_MAX))
}

/// Always answers within a time limit.
async fn in_time(request: Request, next: Next) -> Response {
    timeout(ANSWER_TIME_MAX, next.run(request)).await.unwrap_or_else(|_| {
        let message = "The request took too long: this machine or its disk is very busy. Try \
                       again.";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", message).into_response()
    })
}

/// Adds the peer's address to each request, and strips a proxy's base path.
#[derive(Clone)]
struct Front {
    inner: TowerToHyperService<Router>,
    peer: Peer,
    state: Arc<State>,
    seat: Arc<ConnectionPlace>,
}

impl Service<hyper::Request<Incoming>> for Front {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn call(&self, mut request: hyper::Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let base = Arc::clone(&self.state.handles.configs.borrow().api.base_path);
        match prefix::request_path(&base, request.uri()) {
            RequestPath::Plain => {}
            RequestPath::Below(uri) => {
                *request.uri_mut() = uri;
                request.extensions_mut().insert(Prefixed);
            }
            RequestPath::Root(location) => {
                return Box::pin(async move { Ok(prefix::to_root(&location)) });
            }
        }
        let (answer, seat) = (self.inner.call(request), Arc::clone(&self.seat));
        seat.busy.store(true, Relaxed);
        Box::pin(async move {
            let answer = answer.await;
            seat.busy.store(false, Relaxed);
            answer
        })
    }
}

/// For a household's browsers, a scraper or two, and a proxy in front.
const CONNECTIONS_MAX: usize = 256;
/// Threads for passwords and for the settings file. Each keeps the memory from hashing passwords,
/// some 40 MiB.
const BLOCKING_MAX: usize = 2;
/// For all headers of a request, which may include cookies of other services on the same host.
const HEADERS_LEN_MAX: usize = 32 * 1024;
/// Until a request's headers are complete, counted from the previous request.
const HEADERS_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Half of what the kernel then allocates.
const SEND_BUFFER: usize = 128 * 1024;
const RECEIVE_BUFFER: usize = 64 * 1024;
const UNREAD_MAX: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const BIND_PAUSE: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_millis(500);
