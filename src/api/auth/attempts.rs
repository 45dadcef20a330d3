//! Wrong passwords, counted by where they come from.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

#[derive(Debug, Default)]
pub(super) struct Attempts(HashMap<IpAddr, Tries>);

#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    last: Instant,
}

impl Attempts {
    /// Counts a try from `ip`, or says how long to wait for the next.
    pub(super) fn begin(&mut self, ip: IpAddr, now: Instant) -> Result<(), Duration> {
        let ip = network(ip);
        self.0.retain(|_, tries| now < tries.last + FORGET_AFTER);
        if let Some(tries) = self.0.get(&ip) {
            let wait = (tries.last + tries.wait()).saturating_duration_since(now);
            if !wait.is_zero() {
                return Err(wait);
            }
        } else if self.0.len() >= PLACES_MAX {
            // An attack from everywhere: nobody new until some of it is forgotten.
            return Err(WAIT_MAX);
        }
        let tries = self.0.entry(ip).or_insert(Tries { wrong: 0, last: now });
        tries.wrong = tries.wrong.saturating_add(1);
        tries.last = now;
        Ok(())
    }

    /// The try was none after all.
    pub(super) fn forgive(&mut self, ip: IpAddr) {
        if let Some(tries) = self.0.get_mut(&network(ip)) {
            tries.wrong = tries.wrong.saturating_sub(1);
        }
    }

    /// The password was right.
    pub(super) fn forget(&mut self, ip: IpAddr) {
        self.0.remove(&network(ip));
    }
}

impl Tries {
    fn wait(self) -> Duration {
        match self.wrong.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => WAIT_MIN.saturating_mul(1 << over.min(16)).min(WAIT_MAX),
        }
    }
}

/// Whoever has one IPv6 address has 2^64 of them.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Typing errors.
const FREE: u32 = 5;
/// After the fifth wrong one; doubled by each further.
const WAIT_MIN: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(900);
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// Addresses remembered, at some 40 bytes each.
const PLACES_MAX: usize = 10_000;
