//! How much each address and each network has used lately: governor's arithmetic over a table of
//! limited size.

use std::{
    cell::RefCell,
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    NotUntil, Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos,
    state::StateStore,
};

use crate::work::networks::Network;

/// One kind of limit, for addresses or for networks.
#[derive(Debug)]
pub(super) struct Rate {
    limiter: Option<RateLimiter<Network, Debts, LimiterClock, NoOpMiddleware<Nanos>>>,
    /// How much may come at once.
    burst: NonZeroU32,
}

/// Time as set from outside: nanoseconds since the limiter's start.
#[derive(Clone, Debug, Default)]
pub(super) struct LimiterClock(Arc<AtomicU64>);

impl LimiterClock {
    pub(super) fn set(&self, since_began: Duration) {
        self.0.store(since_began.as_nanos().try_into().unwrap_or(u64::MAX), Relaxed);
    }
}

impl Clock for LimiterClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.0.load(Relaxed))
    }
}

impl Rate {
    /// `amount` is what may come per `each`, `burst` how much may come at once. An amount of 0
    /// means no limit.
    pub(super) fn new(amount: u32, each: Duration, burst: u32, time: &LimiterClock) -> Self {
        let quota = NonZeroU32::new(amount).and_then(|amount| {
            let replenish = (each / amount.get()).max(Duration::from_nanos(1));
            Some(Quota::with_period(replenish)?.allow_burst(NonZeroU32::new(burst)?))
        });
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MAX);
        let limiter = quota.map(|quota| {
            // The limiter counts from its own start.
            let debts = Debts { known: RefCell::default(), time: time.clone(), since: time.now() };
            RateLimiter::new(quota, debts, time.clone())
        });
        Self { limiter, burst }
    }

    /// Takes `count` from what `key` may have now, all or nothing. The error says how long to wait.
    pub(super) fn take(&self, key: Network, count: u32) -> Result<(), Duration> {
        let (Some(limiter), Some(count)) = (&self.limiter, NonZeroU32::new(count)) else {
            return Ok(());
        };
        // More than a burst counts as one burst: it would never be let through.
        let taken = limiter.check_key_n(&key, count.min(self.burst)).unwrap_or(Ok(()));
        taken.map_err(|until: NotUntil<Nanos>| until.wait_time_from(limiter.clock().now()))
    }
}

/// Until when each key has used up its allowance.
///
/// A key whose time has passed is the same as one that is not there, so dropping those loses
/// nothing; where that is not enough, those with the least debt go.
#[derive(Debug)]
struct Debts {
    known: RefCell<HashMap<Network, Nanos>>,
    time: LimiterClock,
    /// The time that debts are counted from.
    since: Nanos,
}

impl StateStore for Debts {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut known = self.known.borrow_mut();
        let (answer, debt) = measure(known.get(key).copied())?;
        if known.len() >= KEYS_MAX && !known.contains_key(key) {
            forget(&mut known, self.time.now().saturating_sub(self.since));
        }
        known.insert(*key, debt);
        Ok(answer)
    }
}

/// Empties at least half of a table.
fn forget(known: &mut HashMap<Network, Nanos>, now: Nanos) {
    known.retain(|_, debt| *debt > now);
    if known.len() <= KEYS_MAX / 2 {
        return;
    }
    let mut debts: Vec<_> = known.values().copied().collect();
    let at = debts.len() - KEYS_MAX / 2;
    let (_, least, _) = debts.select_nth_unstable(at);
    let least = *least;
    known.retain(|_, debt| *debt > least);
}

/// A table of 2 MiB; there are sixteen.
const KEYS_MAX: usize = 1 << 15;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn host(number: u32) -> Network {
        Network::host(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn a_burst_may_come_at_once_and_is_paid_off_in_time() {
        let time = LimiterClock::default();
        let rate = Rate::new(60, Duration::from_secs(60), 60, &time);
        assert_eq!((0..100).filter(|_| rate.take(host(1), 1).is_ok()).count(), 60);
        assert_eq!(rate.take(host(1), 1), Err(Duration::from_secs(1)));
        assert!(rate.take(host(2), 60).is_ok(), "another key has its own allowance");
        time.set(Duration::from_secs(10));
        assert_eq!((0..100).filter(|_| rate.take(host(1), 1).is_ok()).count(), 10);
        time.set(Duration::from_secs(100));
        assert!(rate.take(host(1), 1000).is_ok(), "more than a burst counts as one");
        assert!(rate.take(host(1), 1).is_err());
        let none = Rate::new(0, Duration::from_secs(60), 0, &time);
        assert!((0..1000).all(|_| none.take(host(1), 1000).is_ok()), "0 means no limit");
    }

    /// A keyed store would grow with every stranger.
    #[test]
    fn a_table_has_a_limit_and_keeps_those_who_took_most() {
        let time = LimiterClock::default();
        time.set(Duration::from_secs(1000));
        let rate = Rate::new(60, Duration::from_secs(60), 60, &time);
        for _ in 0..60 {
            rate.take(host(0), 1).unwrap();
        }
        for number in 1..200_000 {
            rate.take(host(number), 1).unwrap();
        }
        assert!(rate.take(host(0), 1).is_err(), "the flooder is not forgotten");
        time.set(Duration::from_secs(1002));
        rate.take(host(0), 1).unwrap();
        for number in 200_000..300_000 {
            rate.take(host(number), 1).unwrap();
        }
        let left = rate.limiter.unwrap().into_state_store();
        assert!(left.known.borrow().len() <= KEYS_MAX);
    }
}
