//! Who is connected, and where in the extranonce space. Locked when miners connect and leave, never
//! for their shares.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use tokio::sync::watch;
use tracing::warn;

use super::places::PlaceTable;
use crate::{
    books::{Counters, PlacesView, Roster, roster::Eviction},
    clock::now,
    work::{LogRation, Refused},
};

/// `stratum.max_connections`, `stratum.max_connections_per_ip` and `limits.unproven_places`.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub connections: usize,
    pub connections_per_ip: usize,
    /// Places that miners without a share may hold per address; a network may have four times as
    /// many. 0: no limit.
    pub unproven: usize,
}

impl ConnectionLimits {
    pub const NONE: Self = Self { connections: 1 << 31, connections_per_ip: 1 << 31, unproven: 0 };
}

/// Keeps count of all connections and channels.
#[derive(Debug)]
pub(crate) struct ConnectionGate {
    limits: watch::Receiver<ConnectionLimits>,
    counters: Arc<Counters>,
    roster: Arc<Roster>,
    guests: Mutex<GateState>,
}

/// Channels do not use up connections' places, which cost file descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PlaceKind {
    Connection,
    Channel,
}

#[derive(Debug)]
struct GateState {
    /// Each connection's extranonce1.
    taken: HashSet<u32>,
    next: u32,
    /// By [`PlaceKind`].
    places: [PlaceTable; 2],
    /// A flood of connections must not flood the log.
    complaints: [LogRation; 6],
}

/// The lines that a stranger could fill the log with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Complaint {
    Refused,
    Accept,
    Closed,
    /// About a trusted proxy.
    Proxy,
    /// Handshakes that failed.
    Tls,
    /// Places run short.
    Short,
}

/// What the operator can change about it.
pub(crate) const fn text(refused: Refused) -> &'static str {
    match refused {
        Refused::Full => "all stratum.max_connections are in use",
        Refused::FullForIp => "its address has stratum.max_connections_per_ip connections already",
        Refused::NoWork => "there is no work",
        Refused::FullForConnection => {
            "its connection has as many as one may have: have the proxy open another"
        }
        Refused::FullOfUnproven => {
            "its address or network has limits.unproven_places miners already that have sent no share"
        }
        Refused::TooOften => {
            "its address connects more often than limits.connections_per_minute allows"
        }
        Refused::Banned => "it is banned for crossing limits again and again",
        Refused::Denied => "it is in limits.deny",
    }
}

impl ConnectionGate {
    /// Starts at a random `first`, so that a late share for an earlier run is not taken for anybody
    /// else's.
    pub(crate) fn new(
        limits: watch::Receiver<ConnectionLimits>,
        counters: Arc<Counters>,
        roster: Arc<Roster>,
        first: u32,
    ) -> Self {
        let guests = GateState {
            taken: HashSet::new(),
            next: first,
            places: Default::default(),
            complaints: Default::default(),
        };
        Self { limits, counters, roster, guests: Mutex::new(guests) }
    }

    /// With limits that never change; `first` is the extranonce1 of the first place.
    pub(super) fn fixed(
        limits: ConnectionLimits,
        counters: Arc<Counters>,
        roster: Arc<Roster>,
        first: [u8; 4],
    ) -> Arc<Self> {
        let limits = watch::channel(limits).1;
        Arc::new(Self::new(limits, counters, roster, u32::from_be_bytes(first)))
    }

    /// Takes a place of this kind; `eviction` closes its connection or its channel.
    pub(crate) fn enter(
        self: &Arc<Self>,
        ip: IpAddr,
        kind: PlaceKind,
        eviction: &Arc<Eviction>,
        now: Instant,
    ) -> Result<MinerPlace, Refused> {
        let mut limits = *self.limits.borrow();
        if self.roster.limiter().exempts(ip) {
            limits.unproven = 0;
        }
        eviction.note_connected(now);
        let mut guests = self.guests();
        let number = guests.places[kind as usize].enter(ip, limits, eviction, now)?;
        // Far fewer are taken than exist; a freed one is not reused for 2^32 arrivals.
        let extranonce1 = loop {
            let candidate = guests.next;
            guests.next = candidate.wrapping_add(1);
            if guests.taken.insert(candidate) {
                break candidate;
            }
        };
        let view = self.show(&guests);
        let say =
            view.is_short().then(|| guests.complaints[Complaint::Short as usize].may_say(now));
        drop(guests);
        if let Some(Some(_)) = say {
            let PlacesView { taken, most, unproven } = view;
            warn!(
                "{taken} of {most} places for miners are taken (stratum.max_connections), {unproven} \
                of them by miners that have sent no share: they are disconnected first when places run out"
            );
        }
        let is_proven = AtomicBool::new(false);
        let eviction = Arc::clone(eviction);
        Ok(MinerPlace {
            gate: Arc::clone(self),
            ip,
            kind,
            number,
            extranonce1,
            eviction,
            is_proven,
        })
    }

    /// Publishes how many places are taken.
    fn show(&self, guests: &GateState) -> PlacesView {
        let places = &guests.places[PlaceKind::Connection as usize];
        let most = self.limits.borrow().connections;
        let view = PlacesView { taken: places.taken(), most, unproven: places.unproven() };
        self.counters.set_places(view);
        view
    }

    /// Whether it is time for another line of this kind, and how many were swallowed since the
    /// last.
    pub(crate) fn may_say(&self, complaint: Complaint) -> Option<u64> {
        self.guests().complaints[complaint as usize].may_say(now())
    }

    fn guests(&self) -> MutexGuard<'_, GateState> {
        // Nothing under the lock can leave it half done.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's or channel's place, with an extranonce prefix of its own; it is free again when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct MinerPlace {
    gate: Arc<ConnectionGate>,
    ip: IpAddr,
    kind: PlaceKind,
    number: u64,
    extranonce1: u32,
    eviction: Arc<Eviction>,
    /// The limiter knows about it.
    is_proven: AtomicBool,
}

impl MinerPlace {
    /// The first four bytes of the extranonce, unique among live connections and channels.
    pub(crate) fn extranonce1(&self) -> [u8; 4] {
        self.extranonce1.to_be_bytes()
    }

    /// Somebody else needs it: its channel must end.
    pub(crate) fn is_evicted(&self) -> bool {
        self.eviction.is_requested()
    }

    /// The place is earned: its miner has had a share accepted.
    pub(crate) fn prove(&self) {
        let mut guests = self.gate.guests();
        guests.places[self.kind as usize].prove(self.number, self.ip);
        self.gate.show(&guests);
        drop(guests);
        if matches!(self.kind, PlaceKind::Connection) && !self.is_proven.swap(true, Relaxed) {
            self.gate.roster.limiter().prove(self.ip);
        }
    }
}

impl MinerPlace {
    /// Takes a place for a channel of this place's connection, which `eviction` closes. None when
    /// there are too many miners already; that is counted and logged.
    pub(super) fn channel(
        &self,
        peer: SocketAddr,
        eviction: &Arc<Eviction>,
        now: Instant,
    ) -> Option<Self> {
        // The rest of the connection stays when this one has to go.
        let eviction = Arc::new(Eviction::of_channel(eviction));
        let entered = self.gate.enter(self.ip, PlaceKind::Channel, &eviction, now);
        entered.inspect_err(|refused| self.refuse_channel(peer, *refused)).ok()
    }

    /// Counts and logs a refused channel.
    pub(super) fn refuse_channel(&self, peer: SocketAddr, refused: Refused) {
        self.gate.counters.add_refused(refused);
        if let Some(similar_not_logged) = self.gate.may_say(Complaint::Refused) {
            warn!(%peer, similar_not_logged, "refused a channel: {}", text(refused));
        }
    }
}

impl Drop for MinerPlace {
    fn drop(&mut self) {
        let mut guests = self.gate.guests();
        guests.taken.remove(&self.extranonce1);
        guests.places[self.kind as usize].leave(self.number, self.ip);
        self.gate.show(&guests);
        drop(guests);
        if self.is_proven.load(Relaxed) {
            self.gate.roster.limiter().leave(self.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    fn gate(limits: ConnectionLimits, first: u32) -> Arc<ConnectionGate> {
        Arc::new(ConnectionGate::new(
            watch::channel(limits).1,
            Arc::default(),
            Roster::new(now()),
            first,
        ))
    }

    fn limits(connections: usize, connections_per_ip: usize) -> ConnectionLimits {
        ConnectionLimits { connections, connections_per_ip, unproven: 0 }
    }

    fn enter(gate: &Arc<ConnectionGate>, ip: IpAddr) -> Result<MinerPlace, Refused> {
        gate.enter(ip, PlaceKind::Connection, &Arc::default(), now())
    }

    #[test]
    fn places_are_limited_unique_and_returned() {
        let gate = gate(limits(3, 2), u32::MAX);
        let first = enter(&gate, HERE).unwrap();
        let second = enter(&gate, HERE).unwrap();
        assert_eq!((first.extranonce1, second.extranonce1), (u32::MAX, 0));
        assert_eq!(enter(&gate, HERE).unwrap_err(), Refused::FullForIp);
        let third = enter(&gate, THERE).unwrap();
        [&first, &second, &third].into_iter().for_each(|place| place.prove());
        assert_eq!(enter(&gate, THERE).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(enter(&gate, HERE).unwrap().extranonce1, 2);
        drop((second, third));
        let guests = gate.guests();
        assert!(guests.taken.is_empty() && guests.places.iter().all(|it| it.taken() == 0));
    }

    #[test]
    fn a_taken_extranonce_is_passed_over() {
        let gate = gate(limits(9, 9), 7);
        let seven = enter(&gate, HERE).unwrap();
        gate.guests().next = 7;
        assert_eq!(enter(&gate, HERE).unwrap().extranonce1, 8);
        drop(seven);
    }

    #[test]
    fn a_channel_that_finds_no_place_is_counted() {
        let gate = gate(limits(2, 1), 0);
        let peer = SocketAddr::new(HERE, 1);
        let own = enter(&gate, HERE).unwrap();
        let channel = || own.channel(peer, &Arc::default(), now());
        let _first = channel().unwrap();
        let view = || gate.counters.view();
        assert_eq!(view().refused, [0; Refused::ALL.len()]);
        assert!(channel().is_none());
        own.refuse_channel(peer, Refused::FullForConnection);
        let count = |refused: Refused| view().refused[refused as usize];
        assert_eq!([count(Refused::FullForIp), count(Refused::FullForConnection)], [1, 1]);
        let taken = PlacesView { taken: 1, most: 2, unproven: 1 };
        assert_eq!(view().places, taken, "a channel takes no connection's place");
        drop(own);
        assert_eq!(view().places, PlacesView { taken: 0, most: 2, unproven: 0 });
    }

    /// Otherwise a proxy's miners with shares would be cut off along with one that has none.
    #[test]
    fn a_channel_without_a_share_goes_alone() {
        let gate = gate(limits(3, 3), 0);
        let (proxy, stranger) = (enter(&gate, HERE).unwrap(), enter(&gate, THERE).unwrap());
        let (own, other) = (Arc::<Eviction>::default(), Arc::default());
        let channel = || proxy.channel(SocketAddr::new(HERE, 1), &own, now());
        let all = [channel().unwrap(), channel().unwrap(), channel().unwrap()];
        all[0].prove();
        assert!(channel().is_none(), "none gives way to its own connection's next");
        let _place = stranger.channel(SocketAddr::new(THERE, 1), &other, now()).unwrap();
        assert!(!own.is_requested());
        // What it has sent may be a block and is read first, but not for ever.
        let waited = (0..1000).take_while(|_| !own.take_channels(false)).count();
        assert!((1..100).contains(&waited), "{waited} turns");
        assert!(!own.take_channels(true), "once");
        assert_eq!([0, 1, 2].map(|at: usize| all[at].is_evicted()), [false, true, false]);
        drop(all);
        assert_eq!(gate.guests().places[PlaceKind::Channel as usize].taken(), 1);
    }

    #[test]
    fn the_view_shows_how_many_places_are_taken_and_by_whom() {
        let gate = gate(limits(10, 10), 0);
        let places: Vec<_> = (0..9).map(|_| enter(&gate, HERE).unwrap()).collect();
        places[0].prove();
        let view = gate.counters.view().places;
        assert_eq!(view, PlacesView { taken: 9, most: 10, unproven: 8 });
        assert!(view.is_short());
        drop(places);
        assert!(!gate.counters.view().places.is_short());
    }
}
