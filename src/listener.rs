//! Accepts miners: limits, a place in the extranonce space for each, one task each.
//!
//! Not here: any protocol. `serve_miner` is where the first bytes will choose one.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::{
    sv1::{self, Close, ConnError},
    work::Door,
};

/// `stratum.max_connections` and `stratum.max_connections_per_ip`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    pub connections_per_ip: usize,
}

/// An address that is ours. Miners are refused there until [`spawn`] listens, so that they try
/// their next pool while there is no work.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    addr: SocketAddr,
}

impl Bound {
    /// The real address: the port is known even where 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes `addr`. An IPv6 socket takes no IPv4, so that `0.0.0.0` and `[::]` can share a port.
pub fn bind(addr: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    let addr = socket.local_addr()?.as_socket().unwrap_or(addr);
    Ok(Bound { socket, addr })
}

/// Listens, accepts and serves miners until `context.shutdown`. Every connection is one of `tasks`.
pub fn spawn(
    sockets: Vec<Bound>,
    limits: Limits,
    context: sv1::Context,
    tasks: &TaskTracker,
) -> io::Result<()> {
    // Connections see the end by an atomic: a token would cost them a lock with each read.
    let (ending, stop) = watch::channel(());
    let shutdown = context.shutdown.clone();
    tasks.spawn(async move {
        shutdown.cancelled().await;
        drop(ending);
    });
    let context = Arc::new(context);
    let gate = Arc::new(Gate::new(limits, rand::random()));
    for Bound { socket, addr } in sockets {
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        info!(protocol = %"stratum", %addr, "listening");
        let acceptor = Acceptor {
            context: Arc::clone(&context),
            gate: Arc::clone(&gate),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        tasks.spawn(acceptor.run(listener));
    }
    Ok(())
}

/// One listening socket's loop.
struct Acceptor {
    context: Arc<sv1::Context>,
    gate: Arc<Gate>,
    stop: watch::Receiver<()>,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.context.shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => self.admit(socket, peer),
                Err(error) => self.pause_after(&error).await,
            }
        }
    }

    /// Serves the miner in a task of its own, or lets it go at once: then it tries its next pool.
    fn admit(&self, socket: TcpStream, peer: SocketAddr) {
        let refused = match self.gate.enter(peer.ip()) {
            Ok(_) if self.context.work.borrow().door != Door::Open => "there is no work",
            Ok(place) => {
                if let Err(error) = tune(&socket) {
                    debug!(%peer, %error, "cannot tune the connection");
                }
                let context = Arc::clone(&self.context);
                let stop = self.stop.clone();
                self.tasks.spawn(serve_miner(context, socket, peer, place, stop));
                return;
            }
            Err(reason) => reason.text(),
        };
        let total = self.gate.count_refused();
        if let Some(unsaid) = self.gate.may_say(Complaint::Refused) {
            warn!(%peer, unsaid, total, "refused a connection: {refused}");
        }
    }

    /// Out of descriptors or memory: accepting again at once would spin. Others concern only the
    /// connection that failed.
    async fn pause_after(&self, error: &io::Error) {
        if let Some(unsaid) = self.gate.may_say(Complaint::Accept) {
            warn!(
                %error,
                unsaid,
                "cannot accept a connection: if files are short, raise `ulimit -n` or LimitNOFILE"
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

/// One connection, from its first byte to its last.
///
/// Only Stratum V1 is spoken here so far. SV2, TLS and the PROXY header are told apart by the first
/// bytes; that peek belongs in front of the `Conn`.
async fn serve_miner(
    context: Arc<sv1::Context>,
    socket: TcpStream,
    peer: SocketAddr,
    place: Place,
    stop: watch::Receiver<()>,
) {
    debug!(%peer, "connected");
    let conn = sv1::Conn::new(context, socket, place.extranonce1(), stop);
    match conn.serve().await {
        Ok(()) => debug!(%peer, "disconnected"),
        Err(error @ ConnError::Io(_)) => debug!(%peer, %error, "disconnected"),
        // A door that closes is one event, and is logged where it is decided.
        Err(ConnError::Close(error @ Close::Door(_))) => debug!(%peer, %error, "disconnected"),
        Err(error) => match place.gate.may_say(Complaint::Closed) {
            Some(unsaid) => info!(%peer, unsaid, "closed a connection: the miner {error}"),
            None => debug!(%peer, "closed a connection: the miner {error}"),
        },
    }
    drop(place);
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    // Without it a reply can wait 40 ms for the miner's acknowledgement.
    socket.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EACH)
        .with_retries(4);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

/// Who is connected. Locked when miners come and go, never for their shares.
#[derive(Debug)]
struct Gate {
    limits: Limits,
    guests: Mutex<Guests>,
}

#[derive(Debug)]
struct Guests {
    /// Each connection's extranonce1.
    taken: HashSet<u32>,
    next: u32,
    per_ip: HashMap<IpAddr, usize>,
    refused: u64,
    complaints: [Complaints; 3],
}

/// What a stranger could fill the log with.
#[derive(Clone, Copy, Debug)]
enum Complaint {
    Refused,
    Accept,
    Closed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Refusal {
    Full,
    FullForIp,
}

impl Refusal {
    const fn text(self) -> &'static str {
        match self {
            Self::Full => "stratum.max_connections are connected",
            Self::FullForIp => "stratum.max_connections_per_ip are connected from there",
        }
    }
}

impl Gate {
    /// A random `first`, so that a miner's late share for an earlier run is nobody's now.
    fn new(limits: Limits, first: u32) -> Self {
        let guests = Guests {
            taken: HashSet::new(),
            next: first,
            per_ip: HashMap::new(),
            refused: 0,
            complaints: Default::default(),
        };
        Self { limits, guests: Mutex::new(guests) }
    }

    fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Refusal> {
        let mut guests = self.guests();
        if guests.taken.len() >= self.limits.connections {
            return Err(Refusal::Full);
        }
        let from_there = guests.per_ip.entry(ip).or_default();
        if *from_there >= self.limits.connections_per_ip {
            return Err(Refusal::FullForIp);
        }
        *from_there += 1;
        // Far fewer are taken than there are; a freed one is not used again for 2^32 arrivals.
        let extranonce1 = loop {
            let candidate = guests.next;
            guests.next = candidate.wrapping_add(1);
            if guests.taken.insert(candidate) {
                break candidate;
            }
        };
        drop(guests);
        Ok(Place { gate: Arc::clone(self), ip, extranonce1 })
    }

    /// Counts one, and says how many there were.
    fn count_refused(&self) -> u64 {
        let mut guests = self.guests();
        guests.refused += 1;
        guests.refused
    }

    /// Whether it is time for one more of these, and how many were swallowed since the last.
    fn may_say(&self, complaint: Complaint) -> Option<u64> {
        self.guests().complaints[complaint as usize].may_say(now())
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        // Nothing under the lock can leave it half done.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place; it is free again when this is dropped.
#[derive(Debug)]
struct Place {
    gate: Arc<Gate>,
    ip: IpAddr,
    extranonce1: u32,
}

impl Place {
    fn extranonce1(&self) -> [u8; 4] {
        self.extranonce1.to_be_bytes()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.gate.guests();
        guests.taken.remove(&self.extranonce1);
        if let Some(from_there) = guests.per_ip.get_mut(&self.ip) {
            *from_there -= 1;
            if *from_there == 0 {
                guests.per_ip.remove(&self.ip);
            }
        }
    }
}

/// Lets one complaint through in a while: a flood of connections must not flood the log.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// How many were swallowed since the last, when it is time for one.
    fn may_say(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + COMPLAIN_EACH) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A farm's power comes back: thousands connect within a second. The kernel caps it at somaxconn.
const BACKLOG: i32 = 4096;
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const COMPLAIN_EACH: Duration = Duration::from_secs(5);
/// A vanished miner is noticed after about two minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EACH: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn places_are_limited_unique_and_returned() {
        let limits = Limits { connections: 3, connections_per_ip: 2 };
        let gate = Arc::new(Gate::new(limits, u32::MAX));
        let first = gate.enter(HERE).unwrap();
        let second = gate.enter(HERE).unwrap();
        assert_eq!((first.extranonce1, second.extranonce1), (u32::MAX, 0));
        assert_eq!(gate.enter(HERE).unwrap_err(), Refusal::FullForIp);
        let third = gate.enter(THERE).unwrap();
        assert_eq!(gate.enter(THERE).unwrap_err(), Refusal::Full);
        drop(first);
        assert_eq!(gate.enter(HERE).unwrap().extranonce1, 2);
        drop((second, third));
        assert!(gate.guests().taken.is_empty() && gate.guests().per_ip.is_empty());
    }

    #[test]
    fn a_taken_extranonce_is_passed_over() {
        let limits = Limits { connections: 9, connections_per_ip: 9 };
        let gate = Arc::new(Gate::new(limits, 7));
        let seven = gate.enter(HERE).unwrap();
        gate.guests().next = 7;
        assert_eq!(gate.enter(HERE).unwrap().extranonce1, 8);
        drop(seven);
    }

    #[test]
    fn complaints_are_rationed() {
        let mut complaints = Complaints::default();
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        assert_eq!(complaints.may_say(start), Some(0));
        assert_eq!(complaints.may_say(start), None);
        assert_eq!(complaints.may_say(start + COMPLAIN_EACH), Some(1));
    }

    #[tokio::test]
    async fn both_families_share_a_port() {
        let v4 = bind("0.0.0.0:0".parse().unwrap()).unwrap();
        let v6 = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), v4.addr().port());
        match bind(v6) {
            Ok(bound) => assert_eq!(bound.addr().port(), v4.addr().port()),
            Err(error) => assert!(error.kind() != io::ErrorKind::AddrInUse, "{error}"),
        }
    }
}
