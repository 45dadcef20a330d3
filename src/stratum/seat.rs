//! Where a miner sits: what a session has of the place that accepted it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Instant};

use crate::work::{
    CoinbaseId, Protocol, Roster,
    roster::{About, Eviction, Presence},
};

/// A session's place among all. Owned by it.
#[derive(Debug)]
pub struct Seat {
    pub peer: SocketAddr,
    pub roster: Arc<Roster>,
    /// The first four bytes of the extranonce, unique among live connections and channels.
    pub extranonce1: [u8; 4],
    /// More of them, for protocols with several miners on one connection.
    pub leases: Arc<dyn Leases>,
    pub eviction: Arc<Eviction>,
}

/// Hands out beginnings of extranonces.
pub trait Leases: fmt::Debug + Send + Sync {
    /// None when there are too many miners already; that is counted and logged.
    fn lease(&self) -> Option<Box<dyn Lease>>;

    /// Counts and logs that a connection wants more miners than one may have.
    fn full(&self);
}

/// One beginning of extranonces, free again when dropped.
pub trait Lease: fmt::Debug + Send + Sync {
    fn extranonce1(&self) -> [u8; 4];
}

impl Seat {
    /// Enters a miner of this connection in the roster.
    pub fn enter(
        &self,
        protocol: Protocol,
        user_agent: &str,
        class: CoinbaseId,
        now: Instant,
    ) -> Presence {
        let about = About { user_agent: user_agent.into(), class, workers: Vec::new() };
        self.roster.enter(self.peer, protocol, about, &self.eviction, now)
    }

    /// A seat in an empty room: for a session that no listener accepted.
    pub fn alone(extranonce1: [u8; 4], now: Instant) -> Self {
        Self {
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            roster: Roster::new(now),
            extranonce1,
            leases: Arc::new(NoLeases),
            eviction: Arc::default(),
        }
    }
}

/// For where one miner is all there is.
#[derive(Debug)]
struct NoLeases;

impl Leases for NoLeases {
    fn lease(&self) -> Option<Box<dyn Lease>> {
        None
    }

    fn full(&self) {}
}
