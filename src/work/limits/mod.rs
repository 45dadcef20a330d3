//! How much strangers may ask for, and who is banned for asking too much again and again.
//!
//! `rate` counts, `offences` remembers who crossed a limit; Code that accepts and serves miners
//! asks the [`Limiter`], and so does the API. It is locked when miners connect, leave and log in,
//! and once for many shares, never for a single one.

#[cfg(test)]
mod limiter_tests;
mod offences;
mod rate;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

pub(crate) use self::offences::Ban;
use self::{
    offences::{Offences, Struck},
    rate::{LimiterClock, Rate},
};
use super::{
    LogRation, Refused,
    networks::{Network, Networks},
};

/// `[limits]`, except `unproven_places`. 0 means no limit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LimitRules {
    pub(crate) connections_per_minute: u32,
    pub(crate) logins_per_minute: u32,
    pub(crate) bad_shares_per_minute: u32,
    pub(crate) bytes_per_second: u32,
    /// Zero: nobody is banned.
    pub(crate) ban_first: Duration,
    pub(crate) ban_longest: Duration,
    /// No limit applies to these.
    pub(crate) allow: Networks,
    pub(crate) deny: Networks,
    /// The machine's default gateways: traffic from their addresses may have come through them from
    /// anybody.
    pub(crate) gateways: Vec<IpAddr>,
}

/// What there are limits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Limit {
    Connections,
    Logins,
    BadShares,
    Bytes,
}

impl Limit {
    pub(crate) const ALL: [Self; 4] =
        [Self::Connections, Self::Logins, Self::BadShares, Self::Bytes];

    /// The name in metrics and the API.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Logins => "logins",
            Self::BadShares => "bad-shares",
            Self::Bytes => "bytes",
        }
    }

    /// Whether crossing it again and again leads to a ban. Not for connections: a farm whose
    /// handshakes all fail comes back just as often, and refusing one costs the same either way.
    const fn leads_to_bans(self) -> bool {
        !matches!(self, Self::Connections)
    }

    /// Its key below `[limits]`.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_minute",
            Self::Logins => "logins_per_minute",
            Self::BadShares => "bad_shares_per_minute",
            Self::Bytes => "bytes_per_second",
        }
    }

    const fn deed(self) -> &'static str {
        match self {
            Self::Connections => "connects",
            Self::Logins => "logs in",
            Self::BadShares => "sends bad shares",
            Self::Bytes => "sends or asks for bytes",
        }
    }

    const fn remedy(self) -> &'static str {
        match self {
            Self::Connections => "such connections are refused",
            Self::Logins => "such logins are refused",
            Self::BadShares => "the connection is closed",
            Self::Bytes => "its connections wait",
        }
    }
}

/// Counts everything by address and by the network around it.
#[derive(Debug)]
pub(crate) struct Limiter(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    time: LimiterClock,
    rules: LimitRules,
    /// By [`Limit`]: of an address and of a network; for strangers and for those who mine.
    rates: [[[Rate; 2]; 2]; Limit::ALL.len()],
    offences: Offences,
    /// Connections that have had a share accepted.
    proven: HashMap<Network, usize>,
    crossed: [u64; Limit::ALL.len()],
    /// A flood must not flood the log.
    complaints: [LogRation; Limit::ALL.len()],
    bans_said: LogRation,
}

/// The figures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LimitsView {
    /// By [`Limit`]: how often one was crossed.
    pub(crate) crossed: [u64; Limit::ALL.len()],
    /// In force now.
    pub(crate) banned: usize,
    /// Since the start.
    pub(crate) bans: u64,
}

/// A limit was crossed: this much came too soon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LimitCrossed {
    /// It will be allowed after this long.
    Wait(Duration),
    /// The address is banned for crossing this limit again and again.
    Banned(Limit),
    /// `[limits] deny` lists it.
    Denied,
}

/// Those of gatewayd.toml: a farm of 5,000 behind one address may come back at once, twice.
impl Default for LimitRules {
    fn default() -> Self {
        Self {
            connections_per_minute: 12_000,
            logins_per_minute: 24_000,
            bad_shares_per_minute: 600,
            bytes_per_second: 2_000_000,
            ban_first: Duration::from_secs(60),
            ban_longest: Duration::from_secs(86_400),
            ..Self::none()
        }
    }
}

impl LimitRules {
    /// No limits at all.
    pub(crate) fn none() -> Self {
        Self {
            connections_per_minute: 0,
            logins_per_minute: 0,
            bad_shares_per_minute: 0,
            bytes_per_second: 0,
            ban_first: Duration::ZERO,
            ban_longest: Duration::ZERO,
            allow: Networks::default(),
            deny: Networks::default(),
            gateways: Vec::new(),
        }
    }

    /// Where a network is in both lists, the closer one counts, so that a list can have exceptions.
    fn denies(&self, ip: IpAddr) -> bool {
        self.deny.closest(ip).is_some_and(|len| self.allow.closest(ip) < Some(len))
    }

    /// A proxy or a NAT on this machine, or in front of it, speaks for everybody.
    fn exempts(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].contains(&ip)
            || self.gateways.contains(&ip)
            || self.allow.contains(ip)
    }

    fn rates(&self, time: &LimiterClock) -> [[[Rate; 2]; 2]; Limit::ALL.len()] {
        Limit::ALL.map(|limit| {
            let (amount, each, bursts) = match limit {
                Limit::Connections => (self.connections_per_minute, MINUTE, 1),
                Limit::Logins => (self.logins_per_minute, MINUTE, 1),
                Limit::BadShares => (self.bad_shares_per_minute, MINUTE, 1),
                Limit::Bytes => (self.bytes_per_second, SECOND, BYTES_BURST_S),
            };
            let rates = || {
                [1, NETWORK_TIMES].map(|times| {
                    let amount = amount.saturating_mul(times);
                    Rate::new(amount, each, amount.saturating_mul(bursts), time)
                })
            };
            [rates(), rates()]
        })
    }
}

impl Limiter {
    pub(crate) fn new(rules: LimitRules, now: Instant) -> Self {
        let time = LimiterClock::default();
        Self(Mutex::new(Inner {
            began: now,
            rates: rules.rates(&time),
            time,
            rules,
            offences: Offences::default(),
            proven: HashMap::new(),
            crossed: Default::default(),
            complaints: Default::default(),
            bans_said: LogRation::default(),
        }))
    }

    /// Bans stay; counts towards a limit that changes are reset.
    pub(crate) fn set_rules(&self, rules: LimitRules, now: Instant) {
        let mut inner = self.inner(now);
        if inner.rules != rules {
            inner.rates = rules.rates(&inner.time);
            inner.rules = rules;
        }
    }

    /// Whether a client from there may connect, and how long it has to wait for its first answer.
    pub(crate) fn admit(&self, ip: IpAddr, now: Instant) -> Result<Option<Duration>, Refused> {
        let mut inner = self.inner(now);
        if inner.rules.denies(ip) {
            return Err(Refused::Denied);
        }
        if inner.rules.exempts(ip) {
            return Ok(None);
        }
        if inner.ban(ip, now).is_some() {
            return Err(Refused::Banned);
        }
        inner.take(Limit::Connections, ip, 1, 0, now).map_err(|_| Refused::TooOften)?;
        // If an address is in debt, another connection gains it nothing.
        let [bytes, _] = &inner.rates[Limit::Bytes as usize];
        let keys = [Network::host(ip), Network::around(ip)];
        let waits = bytes.iter().zip(keys).filter_map(|(rate, key)| rate.take(key, 1).err());
        Ok(waits.max())
    }

    /// Counts something that costs. `own_proof`: 1 if the connection that does it has had a share
    /// accepted.
    pub(crate) fn take(
        &self,
        limit: Limit,
        ip: IpAddr,
        count: u32,
        own_proof: usize,
        now: Instant,
    ) -> Result<(), LimitCrossed> {
        let mut inner = self.inner(now);
        if inner.rules.denies(ip) {
            return Err(LimitCrossed::Denied);
        }
        if inner.rules.exempts(ip) {
            return Ok(());
        }
        // Connections that came in before the ban and do not mine are closed too.
        if own_proof == 0
            && let Some(limit) = inner.ban(ip, now)
        {
            return Err(LimitCrossed::Banned(limit));
        }
        inner.take(limit, ip, count, own_proof, now)
    }

    /// A connection from there has had a share accepted.
    pub(crate) fn prove(&self, ip: IpAddr) {
        let mut inner = self.lock();
        for key in [Network::host(ip), Network::around(ip)] {
            *inner.proven.entry(key).or_default() += 1;
        }
    }

    /// Such a connection has ended.
    pub(crate) fn leave(&self, ip: IpAddr) {
        let mut inner = self.lock();
        for key in [Network::host(ip), Network::around(ip)] {
            if let Some(count) = inner.proven.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    inner.proven.remove(&key);
                }
            }
        }
    }

    /// The latest bans in force, at most `most` of them.
    pub(crate) fn bans(&self, most: usize, now: Instant) -> Vec<Ban> {
        self.inner(now).offences.bans(most, now)
    }

    /// Lifts a ban and forgets what led to it; false if there is none.
    pub(crate) fn lift(&self, network: Network, now: Instant) -> bool {
        self.inner(now).offences.lift(network, now)
    }

    /// Whether `[limits] deny` lists this address.
    pub(crate) fn denies(&self, ip: IpAddr) -> bool {
        self.lock().rules.denies(ip)
    }

    /// Whether no limit applies to this address.
    pub(crate) fn exempts(&self, ip: IpAddr) -> bool {
        self.lock().rules.exempts(ip)
    }

    pub(crate) fn view(&self, now: Instant) -> LimitsView {
        let mut inner = self.inner(now);
        LimitsView {
            crossed: inner.crossed,
            banned: inner.offences.banned(now),
            bans: inner.offences.bans_ever(),
        }
    }

    fn inner(&self, now: Instant) -> MutexGuard<'_, Inner> {
        let inner = self.lock();
        inner.time.set(now.saturating_duration_since(inner.began));
        inner
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The limit that it is banned for crossing.
    fn ban(&mut self, ip: IpAddr, now: Instant) -> Option<Limit> {
        let keys = [Network::host(ip), Network::around(ip)];
        let has_bans = !self.rules.ban_first.is_zero();
        keys.into_iter().filter(|_| has_bans).find_map(|key| self.offences.turn_away(key, now))
    }

    fn take(
        &mut self,
        limit: Limit,
        ip: IpAddr,
        count: u32,
        own_proof: usize,
        now: Instant,
    ) -> Result<(), LimitCrossed> {
        // Those who mine are not held up by what strangers at the same address owe.
        let [of_host, of_network] = &self.rates[limit as usize][usize::from(own_proof > 0)];
        let (host, network) = (Network::host(ip), Network::around(ip));
        let crossed = of_host
            .take(host, count)
            .map_err(|wait| (host, wait))
            .and_then(|()| of_network.take(network, count).map_err(|wait| (network, wait)));
        let Err((key, wait)) = crossed else { return Ok(()) };
        self.crossed[limit as usize] += 1;
        // Those who mine there are not banned for what a neighbour does.
        let others = self.proven.get(&key).copied().unwrap_or_default().saturating_sub(own_proof);
        let can_ban = others == 0 && limit.leads_to_bans() && !self.rules.ban_first.is_zero();
        if can_ban && self.strike(key, limit, now) {
            return Err(LimitCrossed::Banned(limit));
        }
        // The listener logs the connections that it refuses.
        if limit != Limit::Connections
            && let Some(similar_not_logged) = self.complaints[limit as usize].may_say(now)
        {
            let (deed, name, remedy) = (limit.deed(), limit.key(), limit.remedy());
            warn!(similar_not_logged, "{key} {deed} more than limits.{name} allows: {remedy}");
        }
        Err(LimitCrossed::Wait(wait))
    }

    /// True when that was once too often.
    fn strike(&mut self, key: Network, limit: Limit, now: Instant) -> bool {
        let LimitRules { ban_first, ban_longest, .. } = self.rules;
        match self.offences.strike(key, limit, ban_first, ban_longest, now) {
            Struck::Noted => false,
            Struck::Banned(length) => {
                if let Some(similar_not_logged) = self.bans_said.may_say(now) {
                    warn!(
                        similar_not_logged,
                        "{key} is banned for {length:?}: it crossed limits.{} again and again; the \
                         dashboard lists such bans, and can lift them",
                        limit.key()
                    );
                }
                true
            }
            Struck::Full => {
                if let Some(similar_not_logged) = self.bans_said.may_say(now) {
                    warn!(
                        similar_not_logged,
                        "{key} cannot be banned: {} are already",
                        offences::BANS_MAX
                    );
                }
                false
            }
        }
    }
}

/// A network may have this many times what an address may.
pub(crate) const NETWORK_TIMES: u32 = 4;
/// A farm that reconnects gets all its first jobs at once: 4,000 of 16 kB.
const BYTES_BURST_S: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
