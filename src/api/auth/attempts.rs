//! Wrong passwords, counted by where they come from. Who guesses waits longer and longer, up to a
//! limit, where an `Allowance` would keep its pace; nobody waits for what others have guessed, but for
//! a moment behind the same proxy.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Who is trying, as far as it is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Guest {
    /// The peer of the connection, or whom the proxy there names.
    pub(crate) client: IpAddr,
    /// The proxy that named it. Pretending to be one gains nothing.
    pub(crate) via: Option<IpAddr>,
}

impl From<IpAddr> for Guest {
    fn from(client: IpAddr) -> Self {
        Self { client, via: None }
    }
}

#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<(IpAddr, Pace), Tries>);

#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    last: Instant,
}

/// How strict to be with an address.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Pace {
    Guest,
    /// On this machine, which may have a proxy that names nobody: strangers must not lock the owner
    /// out.
    Here,
    /// Everybody behind a proxy together.
    Proxy,
}

impl Pace {
    /// The number of free attempts, the wait after the last of them, and the longest wait.
    const fn terms(self) -> (u32, Duration, Duration) {
        match self {
            Self::Guest => (FREE, WAIT_MIN, WAIT_MAX),
            Self::Here => (FREE, WAIT_HERE, WAIT_HERE),
            Self::Proxy => (FREE_OF_PROXY, WAIT_HERE, WAIT_HERE),
        }
    }
}

impl Attempts {
    /// Counts an attempt by `guest`, or says how long to wait before the next.
    pub(super) fn begin(&mut self, guest: Guest, now: Instant) -> Result<(), Duration> {
        self.0.retain(|_, tries| now < tries.last + FORGET_AFTER);
        let waits = keys(guest).filter_map(|key| Some(self.0.get(&key)?.left(key.1, now)));
        let wait = waits.max().unwrap_or_default();
        if !wait.is_zero() {
            return Err(wait);
        }
        for key in keys(guest) {
            self.make_room();
            let tries = self.0.entry(key).or_insert(Tries { wrong: 0, last: now });
            tries.wrong = tries.wrong.saturating_add(1);
            tries.last = now;
        }
        Ok(())
    }

    /// Takes back an attempt that did not count.
    pub(super) fn forgive(&mut self, guest: Guest) {
        for key in keys(guest) {
            if let Some(tries) = self.0.get_mut(&key) {
                tries.wrong = tries.wrong.saturating_sub(1);
            }
        }
    }

    /// The password was right.
    pub(super) fn forget(&mut self, guest: Guest) {
        for key in keys(guest) {
            self.0.remove(&key);
        }
    }

    /// In an attack from many addresses, the oldest is forgotten first.
    fn make_room(&mut self) {
        if self.0.len() < PLACES_MAX {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, tries)| tries.last).map(|(key, _)| *key);
        oldest.map(|key| self.0.remove(&key));
    }
}

impl Tries {
    fn left(self, pace: Pace, now: Instant) -> Duration {
        let (free, least, most) = pace.terms();
        let wait = match self.wrong.checked_sub(free) {
            None => Duration::ZERO,
            Some(over) => least.saturating_mul(1 << over.min(16)).min(most),
        };
        (self.last + wait).saturating_duration_since(now)
    }
}

fn keys(guest: Guest) -> impl Iterator<Item = (IpAddr, Pace)> {
    let client = network(guest.client);
    let pace = if client.is_loopback() { Pace::Here } else { Pace::Guest };
    let proxy = guest.via.map(|via| (network(via), Pace::Proxy));
    [(client, pace)].into_iter().chain(proxy)
}

/// Whoever has one IPv6 address has 2^64 of them.
pub(crate) fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

/// For typing errors.
const FREE: u32 = 5;
/// After the fifth wrong password; doubled by each further one.
const WAIT_MIN: Duration = Duration::from_secs(10);
/// Fifteen hundred attempts a day, but bearable for an owner who mistypes.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Slow for guessing, but soon over for everybody else.
const WAIT_HERE: Duration = Duration::from_secs(1);
/// The typing errors of ten people.
const FREE_OF_PROXY: u32 = 50;
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Addresses remembered, at some 40 bytes each.
const PLACES_MAX: usize = 10_000;
