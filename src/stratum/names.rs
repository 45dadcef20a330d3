//! The usernames that a connection submits with.

use std::sync::Arc;

use crate::work::{
    Roster, Username,
    roster::{Miner, Worker},
};

/// A small cache, so that a share's username costs no allocation and no lock.
#[derive(Debug, Default)]
pub struct Names {
    known: Vec<Named>,
    /// The one used last.
    current: usize,
}

/// A username and its account.
#[derive(Clone, Debug)]
pub struct Named {
    pub username: Username,
    pub worker: Arc<Worker>,
}

impl Names {
    /// The shared form of `name`; none when it is too long for a pool. A name not met before is
    /// entered in the roster, beside `miner`.
    pub fn intern(&mut self, name: &str, roster: &Roster, miner: &Miner) -> Option<&Named> {
        if self.known.get(self.current).is_none_or(|known| *known.username.0 != *name) {
            if name.len() > NAME_LEN_MAX {
                return None;
            }
            let known = self.known.iter().position(|known| *known.username.0 == *name);
            self.current = known.unwrap_or_else(|| self.add(name, roster, miner));
        }
        self.known.get(self.current)
    }

    /// The one used last.
    pub fn current(&self) -> Option<&Named> {
        self.known.get(self.current)
    }

    fn add(&mut self, name: &str, roster: &Roster, miner: &Miner) -> usize {
        let username = Username(name.into());
        let worker = roster.worker(&username);
        miner.add_worker(&username);
        let fresh = Named { username, worker };
        if self.known.len() < NAMES_MAX {
            self.known.push(fresh);
            return self.known.len() - 1;
        }
        let oldest = (self.current + 1) % NAMES_MAX;
        self.known[oldest] = fresh;
        oldest
    }
}

/// A DATUM pool takes 384 bytes, of which an address and a dot may be put in front.
const NAME_LEN_MAX: usize = 300;
/// Enough for a proxy with a shelf of miners; more only cost an allocation each.
const NAMES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{super::Seat, *};
    use crate::work::{CoinbaseId, Protocol};

    #[test]
    fn cache_is_bounded_and_right() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let seat = Seat::alone([0; 4], std::time::Instant::now());
        let presence =
            seat.enter(Protocol::Sv1, "test/1", CoinbaseId::DEFAULT, seat.roster.began());
        let (roster, miner) = (&seat.roster, presence.miner());
        let mut names = Names::default();
        for round in 0..3 {
            for i in 0..200 {
                let name = format!("miner{i}");
                assert_eq!(
                    &*names.intern(&name, roster, miner).unwrap().username.0,
                    name,
                    "{round}"
                );
            }
        }
        assert_eq!(names.known.len(), NAMES_MAX);
        assert!(names.intern(&"x".repeat(301), roster, miner).is_none());
    }
}
