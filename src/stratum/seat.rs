//! Where a miner sits: what a session has of the place that accepted it.

use std::{fmt, net::SocketAddr, sync::Arc, time::Instant};

use super::{Close, Config, toll::close_for};
use crate::{
    books::{
        MinerProtocol, Roster,
        roster::{About, Eviction, Presence},
    },
    validate::{SeenShares, Shelf},
    work::{CoinbaseClass, limits::Limit},
};

/// A session's place among all. Owned by it.
#[derive(Debug)]
pub struct Seat {
    pub peer: SocketAddr,
    pub roster: Arc<Roster>,
    /// The connection's own.
    pub place: Box<dyn Lease>,
    /// Of that place.
    pub extranonce1: [u8; 4],
    /// More of them, for protocols with several miners on one connection.
    pub leases: Arc<dyn Leases>,
    pub eviction: Arc<Eviction>,
    /// Where miners with many shares have room for them.
    pub shelf: Arc<Shelf>,
    /// What it says comes by TLS.
    pub is_secured: bool,
}

/// Hands out beginnings of extranonces.
pub trait Leases: fmt::Debug + Send + Sync {
    /// None when there are too many miners already; that is counted and logged.
    fn lease(&self) -> Option<Box<dyn Lease>>;

    /// Counts and logs that a connection wants more miners than one may have.
    fn full(&self);
}

/// One miner's place, with a beginning of extranonces of its own; free again when dropped.
pub trait Lease: fmt::Debug + Send + Sync {
    /// The first four bytes of the extranonce, unique among live connections and channels.
    fn extranonce1(&self) -> [u8; 4];

    /// Its miner has had a share accepted: the place is earned.
    fn prove(&self);
}

impl Seat {
    /// Enters a miner of this connection in the roster.
    pub fn enter(
        &self,
        protocol: MinerProtocol,
        user_agent: &str,
        class: CoinbaseClass,
        now: Instant,
    ) -> Presence {
        let about = About { user_agent: user_agent.into(), class, workers: Vec::new() };
        self.roster.enter(self.peer, protocol, about, &self.eviction, now)
    }

    /// Whether somebody may log in, as often as it has been done from there; why not.
    pub fn may_log_in(&self, is_proven: bool, now: Instant) -> Result<(), Close> {
        let own_proof = usize::from(is_proven);
        let warden = self.roster.warden();
        let taken = warden.take(Limit::Logins, self.peer.ip(), 1, own_proof, now);
        taken.map_err(|crossed| close_for(crossed, Close::TOO_MANY_LOGINS))
    }

    /// What a miner of Stratum V1 speaks here.
    pub fn v1(&self) -> MinerProtocol {
        if self.is_secured { MinerProtocol::Sv1Tls } else { MinerProtocol::Sv1 }
    }

    /// A seat in an empty room: for a session that no listener accepted.
    pub fn alone(extranonce1: [u8; 4], now: Instant) -> Self {
        Self {
            peer: SocketAddr::from(([127, 0, 0, 1], 0)),
            roster: Roster::new(now),
            place: Box::new(Alone(extranonce1)),
            extranonce1,
            leases: Arc::new(NoLeases),
            eviction: Arc::default(),
            shelf: Arc::default(),
            is_secured: false,
        }
    }

    /// The memory of a miner of this connection.
    pub fn seen(&self, config: &Config) -> SeenShares {
        let mut seen = SeenShares::new(Arc::clone(&self.shelf));
        seen.expect(config.shares_expected());
        seen
    }
}

/// The only place there is.
#[derive(Debug)]
struct Alone([u8; 4]);

impl Lease for Alone {
    fn extranonce1(&self) -> [u8; 4] {
        self.0
    }

    fn prove(&self) {}
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
