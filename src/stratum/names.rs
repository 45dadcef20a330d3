//! The usernames that a connection submits with.

use std::sync::Arc;

use super::Config;
use crate::{
    books::{
        Roster,
        roster::{Miner, Worker},
    },
    work::Username,
};

/// A small cache, so that a share's username costs neither an allocation nor a lock.
#[derive(Debug, Default)]
pub(crate) struct UsernameCache {
    known: Vec<CachedUsername>,
    /// The one used last.
    current: usize,
}

/// A username and its account.
#[derive(Clone, Debug)]
pub(crate) struct CachedUsername {
    pub(crate) username: Username,
    /// As received, if that is not printable.
    heard: Option<Box<str>>,
    /// Whether it may mine, once that was asked.
    is_refused: Option<bool>,
    /// Opened with the first accepted share: names alone must not fill the roster.
    worker: Option<Arc<Worker>>,
}

impl UsernameCache {
    /// The shared form of `name`; none when it is too long for a pool.
    pub(crate) fn intern(&mut self, name: &str) -> Option<&CachedUsername> {
        if self.known.get(self.current).is_none_or(|known| !known.is(name)) {
            if name.len() > NAME_LEN_MAX {
                return None;
            }
            self.current = match self.known.iter().position(|known| known.is(name)) {
                Some(known) => known,
                None => self.add(name)?,
            };
        }
        self.known.get(self.current)
    }

    /// Whether no miner may mine by the name used last.
    pub(super) fn is_refused(&mut self, config: &Config) -> bool {
        let Some(named) = self.known.get_mut(self.current) else { return false };
        *named.is_refused.get_or_insert_with(|| {
            config.broken_by(&named.username.0).is_some_and(|rule| rule.refuses)
        })
    }

    pub(super) fn forget_rules(&mut self) {
        self.known.iter_mut().for_each(|named| named.is_refused = None);
    }

    /// The account of the name used last, opened if necessary, and listed with `miner`.
    pub(crate) fn account(&mut self, roster: &Roster, miner: &Miner) -> Option<&Worker> {
        let CachedUsername { username, worker, .. } = self.known.get_mut(self.current)?;
        Some(worker.get_or_insert_with(|| {
            miner.add_worker(username);
            roster.worker(username)
        }))
    }

    /// The account of the name used last, if it has one.
    pub(crate) fn known_account(&self) -> Option<&Worker> {
        self.known.get(self.current)?.worker.as_deref()
    }

    fn add(&mut self, name: &str) -> Option<usize> {
        let username = Username::heard(name);
        if username.0.len() > NAME_LEN_MAX {
            return None;
        }
        let heard = (*username.0 != *name).then(|| name.into());
        let fresh = CachedUsername { username, heard, is_refused: None, worker: None };
        if self.known.len() < NAMES_MAX {
            self.known.push(fresh);
            return Some(self.known.len() - 1);
        }
        let oldest = (self.current + 1) % NAMES_MAX;
        self.known[oldest] = fresh;
        Some(oldest)
    }
}

impl CachedUsername {
    fn is(&self, name: &str) -> bool {
        self.heard.as_deref().unwrap_or(&self.username.0) == name
    }
}

/// A DATUM pool takes 384 bytes, and an address and a dot may be put in front.
const NAME_LEN_MAX: usize = 383;
/// Enough for a proxy with a shelf of miners; beyond that, each costs an allocation.
const NAMES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::{super::Origin, *};
    use crate::{books::MinerProtocol, work::CoinbaseClass};

    #[test]
    fn cache_is_bounded_and_right() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let origin = Origin::standalone([0; 4], std::time::Instant::now());
        let presence = origin.enter(
            MinerProtocol::Sv1,
            "test/1",
            CoinbaseClass::Default,
            origin.roster.began(),
        );
        let mut names = UsernameCache::default();
        for round in 0..3 {
            for i in 0..200 {
                let name = format!("miner{i}");
                assert_eq!(&*names.intern(&name).unwrap().username.0, name, "{round}");
            }
        }
        assert_eq!(names.known.len(), NAMES_MAX);
        assert!(names.intern(&"x".repeat(384)).is_none());
        assert!(names.intern(&"\u{1}".repeat(383)).is_none(), "longer once made printable");
        let forged = "bc1q.a\nINFO block found\u{202e}";
        let shown = "bc1q.a\u{fffd}INFO block found\u{fffd}";
        for _ in 0..2 {
            assert_eq!(&*names.intern(forged).unwrap().username.0, shown);
        }
        assert_eq!(names.known.iter().filter(|known| known.is(forged)).count(), 1);
        assert!(origin.roster.workers().is_empty(), "nobody has had a share accepted");
        names.intern("me").unwrap();
        assert!(names.known_account().is_none());
        let account = names.account(&origin.roster, presence.miner()).unwrap();
        assert_eq!(&*account.name.0, "me");
        assert_eq!(origin.roster.workers().len(), 1);
    }
}
