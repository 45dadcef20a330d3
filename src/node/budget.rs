//! Limits how often gatewayd connects to a blvm-node.
//!
//! By default it accepts ten connections a minute from one address, and closes any more without an
//! answer. It counts everything from this machine, so all connections to one node share one budget,
//! part of which is kept for found blocks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::time::Instant;

use super::error::RpcError;

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// Templates, tips, and everything else that a source requests.
    Templates,
    /// To see whether a node that only gets blocks is up.
    Watch,
    /// A found block: never refused here.
    Blocks,
}

impl Purpose {
    /// No connection is opened for this purpose once this many have been opened within the last
    /// minute.
    const fn share(self) -> usize {
        match self {
            Self::Templates => PER_MINUTE - FOR_BLOCKS,
            Self::Watch => WATCHES_MAX,
            Self::Blocks => usize::MAX,
        }
    }
}

/// The connections opened to one node recently. The node counts what lies within a minute, so this
/// counts the same: an `Allowance` would let some through that the node closes.
#[derive(Debug, Default)]
pub(super) struct ConnectionBudget {
    opened: Mutex<VecDeque<Instant>>,
    /// The node accepts none before then: others have used up some of them.
    paused_until: Mutex<Option<Instant>>,
}

impl ConnectionBudget {
    /// The budget shared by all who connect to `address`, for as long as there are any.
    pub(super) fn of(address: &Arc<str>) -> Arc<Self> {
        let mut all = BUDGETS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, budget| budget.strong_count() > 0);
        all.get(address).and_then(Weak::upgrade).unwrap_or_else(|| {
            let budget = Arc::default();
            all.insert(Arc::clone(address), Arc::downgrade(&budget));
            budget
        })
    }

    /// Counts a connection; an error if it has to wait.
    pub(super) fn take(&self, purpose: Purpose, address: &Arc<str>) -> Result<(), RpcError> {
        let now = Instant::now();
        let paused_until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = paused_until.filter(|until| *until > now && purpose != Purpose::Blocks);
        if let Some(until) = pause {
            let (address, wait) = (Arc::clone(address), until.duration_since(now));
            return Err(RpcError::TurnedAway { address, wait });
        }
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        while opened.front().is_some_and(|at| now.duration_since(*at) > PERIOD) {
            opened.pop_front();
        }
        let max = purpose.share();
        if opened.len() < max {
            if opened.len() == KEPT_MAX {
                opened.pop_front();
            }
            opened.push_back(now);
            return Ok(());
        }
        // When enough have expired for one more.
        let last = opened.get(opened.len() - max);
        let wait = last.map_or(PERIOD, |at| PERIOD.saturating_sub(now.duration_since(*at)));
        let (address, wait) = (Arc::clone(address), Duration::from_secs(wait.as_secs() + 1));
        Err(RpcError::Rationed { address, max, wait })
    }

    /// The node closed a connection as soon as it was opened.
    pub(super) fn turned_away(&self) -> Duration {
        let until = Instant::now() + PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        PAUSE
    }

    /// The connection was not made, so the node did not count it.
    pub(super) fn give_back(&self) {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).pop_back();
    }
}

/// By the node's host and port: the node counts everything from this machine, so sources, watches
/// and blocks share one budget, whatever configured them.
static BUDGETS: Mutex<BTreeMap<Arc<str>, Weak<ConnectionBudget>>> = Mutex::new(BTreeMap::new());

/// blvm-node's default, `max_connections_per_ip_per_minute`.
const PER_MINUTE: usize = 10;
/// Out of those: a block may have to be submitted again.
const FOR_BLOCKS: usize = 3;
/// A node that only gets blocks is asked on one connection; the rest are for blocks.
const WATCHES_MAX: usize = 3;
/// blvm-node counts in whole seconds.
const PERIOD: Duration = Duration::from_secs(61);
/// Six attempts a minute: fewer than the limit of a node that also counts those it refuses.
const PAUSE: Duration = Duration::from_secs(10);
/// Other limits of a node end sooner.
const KEPT_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> (ConnectionBudget, Arc<str>) {
        (ConnectionBudget::default(), "a:1".into())
    }

    #[tokio::test(start_paused = true)]
    async fn three_connections_of_a_minute_are_kept_for_blocks() {
        let (budget, address) = budget();
        let take = |purpose| budget.take(purpose, &address);
        assert_eq!(take(Purpose::Templates), Ok(()));
        tokio::time::advance(Duration::from_secs(20)).await;
        for _ in 0..6 {
            assert_eq!(take(Purpose::Templates), Ok(()));
        }
        let Err(RpcError::Rationed { wait, max: 7, .. }) = take(Purpose::Templates) else {
            panic!("an eighth")
        };
        assert_eq!(wait, Duration::from_secs(42));
        budget.give_back();
        assert_eq!(take(Purpose::Templates), Ok(()));
        for _ in 0..3 {
            assert_eq!(take(Purpose::Blocks), Ok(()));
        }
        // What went to blocks counts as well.
        tokio::time::advance(wait).await;
        assert!(take(Purpose::Templates).is_err());
        assert_eq!(take(Purpose::Blocks), Ok(()), "a block is never refused");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_turned_away_waits_and_a_block_does_not() {
        let (budget, address) = budget();
        assert_eq!(budget.take(Purpose::Watch, &address), Ok(()));
        budget.turned_away();
        tokio::time::advance(PAUSE / 2).await;
        let turned_away = RpcError::TurnedAway { address: Arc::clone(&address), wait: PAUSE / 2 };
        assert_eq!(budget.take(Purpose::Watch, &address), Err(turned_away));
        assert_eq!(budget.take(Purpose::Blocks, &address), Ok(()));
        tokio::time::advance(PAUSE / 2).await;
        assert_eq!(budget.take(Purpose::Watch, &address), Ok(()));
    }

    #[test]
    fn all_who_connect_to_a_node_share_its_budget() {
        let [a, b] = ["budget.test:1", "budget.test:2"].map(Arc::<str>::from);
        let first = ConnectionBudget::of(&a);
        assert!(Arc::ptr_eq(&first, &ConnectionBudget::of(&a)));
        assert!(!Arc::ptr_eq(&first, &ConnectionBudget::of(&b)));
    }
}
