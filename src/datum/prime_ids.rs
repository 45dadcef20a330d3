//! The prime ids that pools assign, and whether they assign a gateway the same one each time.
//!
//! A pool's prime id is in every coinbase. OCEAN assigns each connection a new one, and refuses
//! work with an earlier one; then shares cannot be held until the pool is back.

use super::{memory::POOLS_MAX, memory::PoolMemory, protocol::cipher::PublicIdentity};

/// This run's ids by pool, and what they tell about it.
#[derive(Debug, Default)]
pub(super) struct PrimeIds {
    pub(super) memory: PoolMemory,
    /// The pool that is in use.
    pool: Option<PublicIdentity>,
    /// The last id that each pool assigned in this run. An earlier run had another key, so its ids
    /// tell nothing.
    last: Vec<(PublicIdentity, u32)>,
}

impl PrimeIds {
    pub(super) fn set_pool(&mut self, key: PublicIdentity) {
        self.pool = Some(key);
    }

    /// Whether the pool in use keeps its ids across connections; None: not known yet.
    pub(super) fn are_kept(&self) -> Option<bool> {
        self.memory.keeps_prime_id(self.pool.as_ref()?)
    }

    /// Takes the id that a new connection to the pool in use was assigned; true if something was
    /// learnt about the pool.
    pub(super) fn note(&mut self, prime_id: u32) -> bool {
        let Some(pool) = self.pool else { return false };
        let at = self.last.iter().position(|(known, _)| *known == pool);
        let before = at.map(|at| self.last.remove(at).1);
        if self.last.len() == POOLS_MAX {
            self.last.remove(0);
        }
        self.last.push((pool, prime_id));
        before.is_some_and(|before| self.memory.learn(&pool, before == prime_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datum::Identity;

    #[test]
    fn the_second_connection_tells_and_each_one_tells_anew() {
        let key = |byte| *Identity::from_secrets(&[byte; 32], [byte; 32]).public();
        let mut ids = PrimeIds::default();
        ids.set_pool(key(1));
        assert!(!ids.note(7));
        assert_eq!(ids.are_kept(), None);
        assert!(ids.note(7) && !ids.note(7));
        assert_eq!(ids.are_kept(), Some(true));
        // Another pool's ids are its own.
        ids.set_pool(key(2));
        assert!(!ids.note(7));
        assert_eq!(ids.are_kept(), None);
        ids.set_pool(key(1));
        assert!(ids.note(8));
        assert_eq!(ids.are_kept(), Some(false));
    }
}
