//! Who is connected, and where in the extranonce space. Locked when miners come and go, never for
//! their shares.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::watch;
use tracing::warn;

use super::Limits;
use crate::{
    stratum::{Lease, Leases},
    work::{Counters, Ration, Refused},
};

/// Keeps count of all connections and channels.
#[derive(Debug)]
pub(super) struct Gate {
    limits: watch::Receiver<Limits>,
    guests: Mutex<Guests>,
}

#[derive(Debug)]
struct Guests {
    /// Each connection's extranonce1.
    taken: HashSet<u32>,
    next: u32,
    per_ip: HashMap<IpAddr, usize>,
    /// A flood of connections must not flood the log.
    complaints: [Ration; 3],
}

/// What a stranger could fill the log with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Complaint {
    Refused,
    Accept,
    Closed,
}

/// What the operator can change about it.
pub(super) const fn text(refused: Refused) -> &'static str {
    match refused {
        Refused::Full => "stratum.max_connections are connected",
        Refused::FullForIp => "stratum.max_connections_per_ip are connected from there",
        Refused::NoWork => "there is no work",
        Refused::FullForConnection => "one connection may have no more: give the proxy another",
    }
}

impl Gate {
    /// A random `first`, so that a miner's late share for an earlier run is nobody's now.
    pub(super) fn new(limits: watch::Receiver<Limits>, first: u32) -> Self {
        let guests = Guests {
            taken: HashSet::new(),
            next: first,
            per_ip: HashMap::new(),
            complaints: Default::default(),
        };
        Self { limits, guests: Mutex::new(guests) }
    }

    pub(super) fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, Refused> {
        let limits = *self.limits.borrow();
        let mut guests = self.guests();
        if guests.taken.len() >= limits.connections {
            return Err(Refused::Full);
        }
        let from_there = guests.per_ip.entry(ip).or_default();
        if *from_there >= limits.connections_per_ip {
            return Err(Refused::FullForIp);
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

    /// Whether it is time for one more of these, and how many were swallowed since the last.
    pub(super) fn may_say(&self, complaint: Complaint) -> Option<u64> {
        self.guests().complaints[complaint as usize].may_say(now())
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        // Nothing under the lock can leave it half done.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's or channel's place; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) gate: Arc<Gate>,
    ip: IpAddr,
    extranonce1: u32,
}

impl Lease for Place {
    fn extranonce1(&self) -> [u8; 4] {
        self.extranonce1.to_be_bytes()
    }
}

/// Places for the channels of a connection.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) gate: Arc<Gate>,
    pub(super) peer: SocketAddr,
    pub(super) counters: Arc<Counters>,
}

impl Leases for Channels {
    fn lease(&self) -> Option<Box<dyn Lease>> {
        match self.gate.enter(self.peer.ip()) {
            Ok(place) => Some(Box::new(place)),
            Err(refused) => {
                self.refuse(refused);
                None
            }
        }
    }

    fn full(&self) {
        self.refuse(Refused::FullForConnection);
    }
}

impl Channels {
    fn refuse(&self, refused: Refused) {
        self.counters.add_refused(refused);
        if let Some(unsaid) = self.gate.may_say(Complaint::Refused) {
            warn!(peer = %self.peer, unsaid, "refused a channel: {}", text(refused));
        }
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

/// Tokio's clock, so that tests can hold it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const THERE: IpAddr = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);

    #[test]
    fn places_are_limited_unique_and_returned() {
        let limits = Limits { connections: 3, connections_per_ip: 2 };
        let gate = Arc::new(Gate::new(watch::channel(limits).1, u32::MAX));
        let first = gate.enter(HERE).unwrap();
        let second = gate.enter(HERE).unwrap();
        assert_eq!((first.extranonce1, second.extranonce1), (u32::MAX, 0));
        assert_eq!(gate.enter(HERE).unwrap_err(), Refused::FullForIp);
        let third = gate.enter(THERE).unwrap();
        assert_eq!(gate.enter(THERE).unwrap_err(), Refused::Full);
        drop(first);
        assert_eq!(gate.enter(HERE).unwrap().extranonce1, 2);
        drop((second, third));
        assert!(gate.guests().taken.is_empty() && gate.guests().per_ip.is_empty());
    }

    #[test]
    fn a_taken_extranonce_is_passed_over() {
        let limits = Limits { connections: 9, connections_per_ip: 9 };
        let gate = Arc::new(Gate::new(watch::channel(limits).1, 7));
        let seven = gate.enter(HERE).unwrap();
        gate.guests().next = 7;
        assert_eq!(gate.enter(HERE).unwrap().extranonce1, 8);
        drop(seven);
    }

    #[test]
    fn a_channel_that_finds_no_place_is_counted() {
        let limits = Limits { connections: 2, connections_per_ip: 1 };
        let counters = Arc::new(Counters::default());
        let gate = Arc::new(Gate::new(watch::channel(limits).1, 0));
        let peer = SocketAddr::new(HERE, 1);
        let channels = Channels { gate, peer, counters: Arc::clone(&counters) };
        let _first = channels.lease().unwrap();
        assert_eq!(counters.view().refused, [0; Refused::ALL.len()]);
        assert!(channels.lease().is_none());
        channels.full();
        let count = |refused: Refused| counters.view().refused[refused as usize];
        assert_eq!([count(Refused::FullForIp), count(Refused::FullForConnection)], [1, 1]);
    }
}
