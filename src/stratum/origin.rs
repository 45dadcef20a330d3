//! Where a miner comes from: what its session gets from the listener.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{
    Closing, Config,
    gate::{ConnectionGate, ConnectionLimits, MinerPlace, PlaceKind},
    meter::close_for,
};
use crate::{
    books::{
        Counters, MinerProtocol, Roster,
        client_mistakes::ClientMistake,
        roster::{Eviction, MinerInfo, RosterEntry},
    },
    validate::{SeenBudget, SeenShares},
    work::{CoinbaseClass, Refused, Username, limits::Limit},
};

/// A connection's address and place, and what all connections share. Owned by its session.
#[derive(Debug)]
pub struct Origin {
    pub(crate) peer: SocketAddr,
    pub roster: Arc<Roster>,
    /// The connection's own. Boxed: there are many connections, and this is rarely needed.
    place: Box<MinerPlace>,
    /// That place's: needed for every share.
    extranonce1: [u8; 4],
    pub(crate) eviction: Arc<Eviction>,
    /// Room for miners that send many shares.
    pub seen_budget: Arc<SeenBudget>,
    /// It is connected through TLS.
    pub(crate) is_secured: bool,
}

impl Origin {
    pub(crate) fn new(
        peer: SocketAddr,
        roster: Arc<Roster>,
        place: MinerPlace,
        eviction: Arc<Eviction>,
        seen_budget: Arc<SeenBudget>,
    ) -> Self {
        let (extranonce1, place) = (place.extranonce1(), Box::new(place));
        Self { peer, roster, place, extranonce1, eviction, seen_budget, is_secured: false }
    }

    /// The first four bytes of the extranonce, of the connection's own place.
    pub(crate) fn extranonce1(&self) -> [u8; 4] {
        self.extranonce1
    }

    /// Whether a miner may mine by this name; that it may not is said.
    pub(crate) fn may_mine_as(&self, name: &str, config: &Config, now: Instant) -> bool {
        let is_refused = config.broken_by(name).is_some_and(|rule| rule.refuses);
        if is_refused {
            let mistake = ClientMistake::NoAddress { name: Username::heard(name), is_refused };
            self.roster.client_mistakes().note(self.peer, mistake, now);
        }
        !is_refused
    }

    /// The place is earned: the connection has had a share accepted.
    pub(crate) fn prove(&self) {
        self.place.prove();
    }

    /// A place for one more miner on this connection, if there is one.
    pub(crate) fn channel(&self, now: Instant) -> Option<MinerPlace> {
        self.place.channel(self.peer, &self.eviction, now)
    }

    /// Counts and logs that this connection wants more miners than one may have.
    pub(crate) fn refuse_channel(&self) {
        self.place.refuse_channel(self.peer, Refused::FullForConnection);
    }

    /// Enters a miner of this connection in the roster.
    pub(crate) fn enter(
        &self,
        protocol: MinerProtocol,
        user_agent: &str,
        class: CoinbaseClass,
        now: Instant,
    ) -> RosterEntry {
        let about = MinerInfo { user_agent: user_agent.into(), class, workers: Vec::new() };
        self.roster.enter(self.peer, protocol, about, &self.eviction, now)
    }

    /// Whether another login is allowed from this address; if not, why.
    pub(crate) fn may_log_in(&self, is_proven: bool, now: Instant) -> Result<(), Closing> {
        let own_proof = usize::from(is_proven);
        let limiter = self.roster.limiter();
        let taken = limiter.take(Limit::Logins, self.peer.ip(), 1, own_proof, now);
        taken.map_err(|crossed| close_for(crossed, Closing::TOO_MANY_LOGINS))
    }

    /// The protocol that a Stratum V1 miner speaks here.
    pub(crate) fn sv1_protocol(&self) -> MinerProtocol {
        if self.is_secured { MinerProtocol::Sv1Tls } else { MinerProtocol::Sv1 }
    }

    /// For a session that no listener accepted.
    pub fn standalone(extranonce1: [u8; 4], now: Instant) -> Self {
        Self::standalone_within(ConnectionLimits::NONE, &Arc::default(), extranonce1, now)
    }

    /// The same with limited places.
    pub fn standalone_within(
        limits: ConnectionLimits,
        counters: &Arc<Counters>,
        extranonce1: [u8; 4],
        now: Instant,
    ) -> Self {
        let peer = SocketAddr::from(([127, 0, 0, 1], 0));
        let (roster, eviction) = (Roster::new(now), Arc::default());
        let gate =
            ConnectionGate::fixed(limits, Arc::clone(counters), Arc::clone(&roster), extranonce1);
        let place = gate.enter(peer.ip(), PlaceKind::Connection, &eviction, now);
        let place = place.expect("there is a place for one");
        Self::new(peer, roster, place, eviction, Arc::default())
    }

    /// The memory of shares for a miner of this connection.
    pub(crate) fn seen(&self, config: &Config) -> SeenShares {
        let mut seen = SeenShares::new(Arc::clone(&self.seen_budget));
        seen.expect(config.shares_expected());
        seen
    }
}
