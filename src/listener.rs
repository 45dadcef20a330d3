//! Accepts miners: within limits, one task each.
//!
//! `stratum::gate` keeps the limits and the places; `first` tells protocols apart by their first
//! bytes; `browser` answers web browsers.

mod browser;
mod first;
pub mod header;
mod proxy;
mod tls;

use std::{
    fmt, future, io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

pub use self::tls::TlsOffer;
use self::{
    first::AnySession,
    proxy::Proxies,
    tls::{MinerStream, Tls},
};
pub use crate::stratum::ConnectionLimits;
use crate::{
    books::{Roster, roster::Eviction},
    clock::now,
    stratum::{
        Closing, Config, ConnError, Context, MinerConnection, Origin, UsageMeter,
        gate::{self, Complaint, ConnectionGate, PlaceKind},
    },
    sv2::noise::Identity,
    validate::SeenBudget,
    work::{Admission, Cidr, Refused, Work},
};

/// What miners are served with.
pub struct ListenerConfig {
    /// May change at any time; miners that are in stay.
    pub limits: watch::Receiver<ConnectionLimits>,
    /// Networks whose PROXY header is believed. They may change too.
    pub trusted_proxies: watch::Receiver<Arc<[Cidr]>>,
    /// For those who speak TLS. It may change too.
    pub tls: watch::Receiver<TlsOffer>,
    pub context: Context,
    pub roster: Arc<Roster>,
    /// Shown to Stratum V2 miners.
    pub identity: watch::Receiver<Arc<Identity>>,
}

/// An address that is ours. Miners are refused there until [`spawn`] listens, so that they try
/// their next pool while there is no work.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socket,
    addr: SocketAddr,
    /// None: the same as everywhere else.
    rules: Option<watch::Receiver<Arc<Config>>>,
    /// None: the same as everywhere else.
    identity: Option<watch::Receiver<Arc<Identity>>>,
}

impl BoundListener {
    /// Gives the miners that come in here rules of their own.
    pub(crate) fn with_rules(self, rules: watch::Receiver<Arc<Config>>) -> Self {
        Self { rules: Some(rules), ..self }
    }

    /// Gives it an authority of its own for Stratum V2.
    pub(crate) fn with_identity(self, identity: watch::Receiver<Arc<Identity>>) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The actual address: the port is known even where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes `addr`. An IPv6 socket accepts no IPv4, so that `0.0.0.0` and `[::]` can share a port.
pub fn bind(addr: SocketAddr) -> io::Result<BoundListener> {
    let bound = bind_to(addr)?;
    if addr.port() > 0 || !can_refuse() {
        return Ok(bound);
    }
    // A socket that stops listening keeps its port only if it has asked for that one. Two may have it
    // while neither listens.
    bind_to(bound.addr)
}

fn bind_to(addr: SocketAddr) -> io::Result<BoundListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit them.
    socket.set_recv_buffer_size(RECV_BUFFER)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let addr = socket.local_addr()?.as_socket().unwrap_or(addr);
    Ok(BoundListener { socket, addr, rules: None, identity: None })
}

/// Listens, accepts and serves miners until `context.shutdown`. Every connection is one of `tasks`.
pub fn spawn(
    sockets: Vec<BoundListener>,
    listener_config: ListenerConfig,
    tasks: &TaskTracker,
) -> io::Result<()> {
    let ListenerConfig { limits, trusted_proxies, tls, context, roster, identity } =
        listener_config;
    // Connections see the end through an atomic: a token would cost them a lock at each read.
    let (ending, stop) = watch::channel(());
    let shutdown = context.shutdown.clone();
    tasks.spawn(async move {
        shutdown.cancelled().await;
        drop(ending);
    });
    let context = Arc::new(context);
    let gate = Arc::new(ConnectionGate::new(
        limits,
        Arc::clone(&context.counters),
        Arc::clone(&roster),
        rand::random(),
    ));
    let seen_budget = Arc::<SeenBudget>::default();
    let proxies = Arc::new(Proxies::new(trusted_proxies));
    let tls = Arc::new(Tls::new(tls));
    for BoundListener { socket, addr, rules, identity: own } in sockets {
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        info!(protocol = %"stratum", %addr, "listening");
        let acceptor = Acceptor {
            context: match rules {
                Some(config) => Arc::new(Context { config, ..Context::clone(&context) }),
                None => Arc::clone(&context),
            },
            gate: Arc::clone(&gate),
            proxies: Arc::clone(&proxies),
            tls: Arc::clone(&tls),
            roster: Arc::clone(&roster),
            seen_budget: Arc::clone(&seen_budget),
            identity: own.unwrap_or_else(|| identity.clone()),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(Arc::new(acceptor).run(listener));
    }
    Ok(())
}

/// One listening socket's loop.
struct Acceptor {
    context: Arc<Context>,
    gate: Arc<ConnectionGate>,
    proxies: Arc<Proxies>,
    tls: Arc<Tls>,
    roster: Arc<Roster>,
    seen_budget: Arc<SeenBudget>,
    identity: watch::Receiver<Arc<Identity>>,
    stop: watch::Receiver<()>,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self: Arc<Self>, mut listener: TcpListener) {
        let mut work = self.context.work.clone();
        let shutdown = self.context.shutdown.clone();
        let mut can_refuse = can_refuse();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = closed(&mut work), if can_refuse => None,
                accepted = listener.accept() => Some(accepted),
            };
            match accepted {
                Some(Ok((socket, peer))) if self.proxies.trusts(peer) => {
                    self.tasks.spawn(Arc::clone(&self).admit_by_way_of(socket, peer));
                }
                Some(Ok((socket, peer))) => self.admit(socket, peer),
                Some(Err(error)) => self.pause_after(&error).await,
                None => {
                    let refused = tokio::select! {
                        () = shutdown.cancelled() => return,
                        refused = refuse_until_open(listener, &mut work) => refused,
                    };
                    match refused {
                        Ok((again, has_refused)) => (listener, can_refuse) = (again, has_refused),
                        Err(error) => return error!(%error, "cannot listen for miners again"),
                    }
                }
            }
        }
    }

    /// Waits for the proxy's header, and admits the client it names.
    async fn admit_by_way_of(self: Arc<Self>, mut socket: TcpStream, proxy: SocketAddr) {
        let mut stop = self.stop.clone();
        let read = tokio::select! {
            _ = stop.changed() => return,
            read = self.proxies.client(&mut socket, proxy) => read,
        };
        match read {
            Ok(client) => {
                debug!(peer = %client, %proxy, "connected through a proxy");
                self.admit(socket, client);
            }
            Err(error) if error.is_quiet() => {
                debug!(%proxy, "did not accept a connection: the proxy {error}")
            }
            Err(error) => {
                if let Some(similar_not_logged) = self.gate.may_say(Complaint::Proxy) {
                    warn!(%proxy, similar_not_logged, "refused a connection: the proxy {error}");
                }
            }
        }
    }

    /// Serves the miner in a task of its own, or lets it go at once: then it tries its next pool.
    fn admit(&self, socket: TcpStream, peer: SocketAddr) {
        let eviction = Arc::<Eviction>::default();
        let limiter = self.roster.limiter();
        // The cheapest check first; without work, nothing is counted against those who connect.
        let admitted = match self.context.work.borrow().admission {
            Admission::Open => Ok(()),
            _ => Err(Refused::NoWork),
        };
        let now = now();
        let admitted = admitted.and_then(|()| limiter.admit(peer.ip(), now)).and_then(|wait| {
            Ok((self.gate.enter(peer.ip(), PlaceKind::Connection, &eviction, now)?, wait))
        });
        let refused = match admitted {
            Ok((place, wait)) => {
                if let Err(error) = tune(&socket) {
                    debug!(%peer, %error, "cannot tune the connection");
                }
                let (roster, seen_budget) =
                    (Arc::clone(&self.roster), Arc::clone(&self.seen_budget));
                let origin = Origin::new(peer, roster, place, Arc::clone(&eviction), seen_budget);
                let meter = UsageMeter::new(Arc::clone(&self.roster), peer.ip(), wait, now);
                let context = Arc::clone(&self.context);
                let identity = Arc::clone(&self.identity.borrow());
                let stop = self.stop.clone();
                let (stream, tls) = self.tls.take(socket, peer.ip(), &eviction);
                let conn =
                    MinerConnection::new(context, stream, eviction, stop, |config, _, now| {
                        AnySession::new(config, identity, origin, tls, now)
                    });
                let conn = conn.with_meter(meter);
                self.tasks.spawn(serve_miner(conn, peer, Arc::clone(&self.gate)));
                return;
            }
            Err(refused) => refused,
        };
        self.context.counters.add_refused(refused);
        if let Some(similar_not_logged) = self.gate.may_say(Complaint::Refused) {
            warn!(%peer, similar_not_logged, "refused a connection: {}", gate::text(refused));
        }
    }

    /// Out of descriptors or memory: accepting again at once would spin. Other errors concern only
    /// the connection that failed.
    async fn pause_after(&self, error: &io::Error) {
        if let Some(similar_not_logged) = self.gate.may_say(Complaint::Accept) {
            warn!(
                %error,
                similar_not_logged,
                "cannot accept a connection: if it has run out of files, raise `ulimit -n` or LimitNOFILE"
            );
        }
        let passing = [
            io::ErrorKind::ConnectionAborted,
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::Interrupted,
        ];
        if !passing.contains(&error.kind()) {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// Waits until there is no work.
async fn closed(work: &mut watch::Receiver<Arc<Work>>) {
    if work.wait_for(|work| work.admission != Admission::Open).await.is_err() {
        // Nobody makes work any more: gatewayd is stopping, which is signalled another way.
        future::pending::<()>().await;
    }
}

/// Refuses connections until there is work again: firmware that only connects to see whether its
/// first pool is back (AxeOS over SV2, `probe_pool_sv2` in its protocol_coordinator.c) would leave
/// a backup that works for one that closes, once a minute.
///
/// The address stays ours; those who have connected and were not accepted are let go. False if the
/// socket goes on listening, because it can do nothing else.
async fn refuse_until_open(
    listener: TcpListener,
    work: &mut watch::Receiver<Arc<Work>>,
) -> io::Result<(TcpListener, bool)> {
    let socket = Socket::from(listener.into_std()?);
    if let Err(error) = socket.shutdown(Shutdown::Read) {
        debug!(%error, "this system cannot refuse connections: they are closed instead");
        return Ok((TcpListener::from_std(socket.into())?, false));
    }
    let opened = work.wait_for(|work| work.admission == Admission::Open).await.map(drop);
    if opened.is_err() {
        future::pending::<()>().await;
    }
    let mut is_told = false;
    while let Err(error) = socket.listen(BACKLOG) {
        if !is_told {
            warn!(%error, "cannot listen for miners again: retrying every second");
            is_told = true;
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
    Ok((TcpListener::from_std(socket.into())?, true))
}

/// Whether a listening socket can stop and later start again on its address.
const fn can_refuse() -> bool {
    cfg!(target_os = "linux")
}

/// One connection, from its first byte to its last.
async fn serve_miner(
    conn: MinerConnection<MinerStream, AnySession>,
    peer: SocketAddr,
    gate: Arc<ConnectionGate>,
) {
    debug!(%peer, "connected");
    match conn.serve().await {
        Ok(()) => debug!(%peer, "disconnected"),
        Err(ConnError::Io(error)) => match tls::complaint(&error) {
            Some(told) => tell_closed(&gate, Complaint::Tls, peer, &told),
            None => debug!(%peer, %error, "disconnected"),
        },
        // Closed admission is one event, and is logged where it is decided.
        Err(ConnError::Close(error @ Closing::SentAway(_))) => {
            debug!(%peer, %error, "disconnected")
        }
        Err(error) => tell_closed(&gate, Complaint::Closed, peer, &error),
    }
}

fn tell_closed(
    gate: &ConnectionGate,
    complaint: Complaint,
    peer: SocketAddr,
    error: &dyn fmt::Display,
) {
    match gate.may_say(complaint) {
        Some(similar_not_logged) => {
            info!(%peer, similar_not_logged, "closed a connection: the miner {error}")
        }
        None => debug!(%peer, "closed a connection: the miner {error}"),
    }
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    // Without it a reply can wait 40 ms for the miner's acknowledgement.
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EACH)
        .with_retries(4);
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNHEARD_FOR))
}

/// When a farm's power comes back, thousands connect within a second. The kernel caps it at
/// somaxconn.
const BACKLOG: i32 = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Another process may have taken the port in the meantime.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// So that a vanished miner is noticed after about two minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EACH: Duration = Duration::from_secs(15);
/// The same for one that vanishes with data in flight.
const UNHEARD_FOR: Duration = Duration::from_secs(120);
/// The kernel doubles them for its own use. Otherwise they grow to 8 MiB for a client that sends
/// and does not read; miners' lines are short.
const RECV_BUFFER: usize = 32 << 10;
/// Two jobs with the largest coinbase; what does not fit waits on this side.
const SEND_BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_share_a_port() {
        let v4 = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let v6 = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), v4.addr().port());
        match bind(v6) {
            Ok(bound) => assert_eq!(bound.addr().port(), v4.addr().port()),
            Err(error) => assert!(error.kind() != io::ErrorKind::AddrInUse, "{error}"),
        }
    }

    /// 500 clients that did not read reached the machine's limit, at 8 MiB each.
    #[tokio::test]
    async fn a_connection_costs_the_kernel_little() {
        let bound = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        bound.socket.listen(1).unwrap();
        let listener = TcpListener::from_std(bound.socket.into()).unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(bound.addr), listener.accept());
        let (_client, socket) = (client.unwrap(), accepted.unwrap().0);
        tune(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert!(socket.recv_buffer_size().unwrap() <= 2 * RECV_BUFFER);
        assert!(socket.send_buffer_size().unwrap() <= 2 * SEND_BUFFER);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNHEARD_FOR));
    }
}
