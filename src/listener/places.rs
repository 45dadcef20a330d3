//! Who has a place, and who has earned it: pure, locked by `gate`.
//!
//! A miner earns its place with its first share. Until then it may keep it while there is room for
//! everybody; when there is none, it goes for whoever comes from where fewer wait for a first share.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::Limits;
use crate::work::{Refused, roster::Eviction};

/// Places of one kind: connections', or channels'.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: usize,
    per_ip: HashMap<IpAddr, usize>,
    /// Those without a share, by where they are from, the oldest first.
    unproven: HashMap<Network, BTreeMap<u64, Unproven>>,
    /// How many of those each network has; the last has the most.
    crowds: BTreeSet<(usize, Network)>,
    /// All of those, the oldest first.
    ages: BTreeMap<u64, Network>,
    /// Sent away, and not gone yet: not counted any more.
    leaving: HashSet<u64>,
    next: u64,
}

#[derive(Debug)]
struct Unproven {
    since: Instant,
    eviction: Arc<Eviction>,
}

/// A /24 or a /64: one party's, as a rule.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Network(u64);

impl Network {
    fn of(ip: IpAddr) -> Self {
        let v4 = |ip: std::net::Ipv4Addr| Self(u64::from(ip.to_bits() >> 8));
        match ip {
            IpAddr::V4(ip) => v4(ip),
            IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or_else(|| Self(prefix(ip)), v4),
        }
    }
}

/// The upper half; never a small number, as IPv4 networks are.
fn prefix(ip: Ipv6Addr) -> u64 {
    u64::try_from(ip.to_bits() >> 64).unwrap_or(u64::MAX) | 1 << 63
}

impl Places {
    /// Takes a place; gives its number.
    pub(super) fn enter(
        &mut self,
        ip: IpAddr,
        limits: Limits,
        eviction: &Arc<Eviction>,
        now: Instant,
    ) -> Result<u64, Refused> {
        let from_there = self.per_ip.get(&ip).copied().unwrap_or_default();
        let is_full = self.taken >= limits.connections;
        if from_there >= limits.connections_per_ip {
            return Err(if is_full { Refused::Full } else { Refused::FullForIp });
        }
        let network = Network::of(ip);
        if is_full && !self.make_room(network, eviction, now) {
            return Err(Refused::Full);
        }
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        *self.per_ip.entry(ip).or_default() += 1;
        let unproven = Unproven { since: now, eviction: Arc::clone(eviction) };
        self.unproven.entry(network).or_default().insert(number, unproven);
        self.ages.insert(number, network);
        self.resize(network, 1);
        Ok(number)
    }

    /// The miner of this place has had a share accepted.
    pub(super) fn prove(&mut self, number: u64, ip: IpAddr) {
        self.take_out(number, Network::of(ip));
    }

    pub(super) fn leave(&mut self, number: u64, ip: IpAddr) {
        self.take_out(number, Network::of(ip));
        if !self.leaving.remove(&number) {
            self.taken -= 1;
        }
        if let Some(from_there) = self.per_ip.get_mut(&ip) {
            *from_there -= 1;
            if *from_there == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    pub(super) fn unproven(&self) -> usize {
        self.ages.len()
    }

    /// Sends away one without a share: of the network that has the most of them, if that is more
    /// than `newcomer` would have; or else one that has had its chance.
    /// Never the connection of the newcomer itself, which may be one channel more of a proxy's.
    fn make_room(&mut self, newcomer: Network, own: &Arc<Eviction>, now: Instant) -> bool {
        let is_own = |it: &Unproven| Arc::ptr_eq(&it.eviction, own);
        if self.leaving.len() >= LEAVING_MAX {
            return false;
        }
        let wait_there = self.unproven.get(&newcomer).map_or(0, BTreeMap::len);
        let crowd = self.crowds.last().filter(|(count, _)| *count > wait_there + 1);
        let first_of = |network| self.unproven.get(&network)?.first_key_value();
        let had_chance = |(_, it): &(&u64, &Unproven)| now >= it.since + CHANCE;
        let chosen = match crowd {
            Some((_, network)) => first_of(*network).map(|(number, _)| (*number, *network)),
            None => self.ages.first_key_value().and_then(|(number, network)| {
                first_of(*network).filter(had_chance).map(|_| (*number, *network))
            }),
        };
        let Some((number, network)) = chosen else { return false };
        if self.unproven.get(&network).and_then(|all| all.get(&number)).is_some_and(is_own) {
            return false;
        }
        if let Some(sent) = self.take_out(number, network) {
            sent.eviction.want();
        }
        self.leaving.insert(number);
        self.taken -= 1;
        true
    }

    fn take_out(&mut self, number: u64, network: Network) -> Option<Unproven> {
        let sent = self.unproven.get_mut(&network)?.remove(&number)?;
        self.ages.remove(&number);
        self.resize(network, -1);
        Some(sent)
    }

    /// Brings the order of the crowds up to a network that has just changed `by` so much.
    fn resize(&mut self, network: Network, by: isize) {
        let count = self.unproven.get(&network).map_or(0, BTreeMap::len);
        self.crowds.remove(&(count.saturating_add_signed(-by), network));
        if count > 0 {
            self.crowds.insert((count, network));
        } else {
            self.unproven.remove(&network);
        }
    }
}

/// That are cut off and have not ended: each still holds a file.
const LEAVING_MAX: usize = 128;
/// An ASIC finds its first share within seconds, a Bitaxe within a minute, as a rule.
const CHANCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        places: Places,
        limits: Limits,
        now: Instant,
        all: Vec<(u64, IpAddr, Arc<Eviction>)>,
    }

    impl Bench {
        fn new(connections: usize, connections_per_ip: usize) -> Self {
            #[expect(clippy::disallowed_methods, reason = "any origin will do")]
            let now = Instant::now();
            let limits = Limits { connections, connections_per_ip };
            Self { places: Places::default(), limits, now, all: Vec::new() }
        }

        fn enter(&mut self, ip: &str) -> Result<u64, Refused> {
            let (ip, eviction) = (ip.parse().unwrap(), Arc::<Eviction>::default());
            let number = self.places.enter(ip, self.limits, &eviction, self.now)?;
            self.all.push((number, ip, eviction));
            Ok(number)
        }

        fn prove(&mut self, number: u64) {
            let ip = self.all.iter().find(|(it, _, _)| *it == number).unwrap().1;
            self.places.prove(number, ip);
        }

        /// Those that were sent away leave; how many of `network` there were.
        fn clear(&mut self, network: &str) -> usize {
            let (sent, stay): (Vec<_>, Vec<_>) =
                self.all.drain(..).partition(|(_, _, eviction)| eviction.is_wanted());
            self.all = stay;
            sent.iter().for_each(|(number, ip, _)| self.places.leave(*number, *ip));
            sent.iter().filter(|(_, ip, _)| ip.to_string().starts_with(network)).count()
        }
    }

    /// Four addresses held all places for two hours.
    #[test]
    fn a_crowd_without_shares_makes_room_for_everybody_else() {
        let mut bench = Bench::new(200, 100);
        for at in 0..200 {
            bench.enter(&format!("10.0.0.{}", at % 4)).unwrap();
        }
        assert_eq!(bench.enter("10.0.0.77"), Err(Refused::Full), "of the same crowd");
        for at in 0..50 {
            let number = bench.enter(&format!("192.0.2.{at}")).unwrap();
            bench.prove(number);
            assert_eq!(bench.clear("10.0.0."), 1);
        }
        assert_eq!(bench.places.taken(), 200);
        // A farm that comes back behind one address has its part at once.
        let came = (0..150).filter(|_| bench.enter("198.51.100.7").is_ok()).count();
        assert!(came >= 70, "{came}");
        assert_eq!(bench.clear("10.0.0."), came);
    }

    #[test]
    fn who_has_had_a_share_accepted_keeps_its_place() {
        let mut bench = Bench::new(3, 3);
        for ip in ["10.0.0.1", "10.0.0.1", "2001:db8::1"] {
            let number = bench.enter(ip).unwrap();
            bench.prove(number);
        }
        bench.now += Duration::from_secs(86_400);
        assert_eq!(bench.enter("192.0.2.1"), Err(Refused::Full));
        assert_eq!(bench.clear(""), 0);
    }

    #[test]
    fn of_equals_the_oldest_goes_once_it_has_had_its_chance() {
        let mut bench = Bench::new(3, 3);
        let first = bench.enter("10.0.0.1").unwrap();
        bench.now += Duration::from_secs(30);
        bench.enter("10.0.1.1").unwrap();
        bench.enter("2001:db8::1").unwrap();
        assert_eq!(bench.enter("192.0.2.1"), Err(Refused::Full));
        bench.now += Duration::from_secs(30);
        bench.enter("192.0.2.1").unwrap();
        let sent = bench.all.iter().find(|(_, _, eviction)| eviction.is_wanted()).unwrap();
        assert_eq!(sent.0, first);
        assert_eq!(bench.enter("192.0.3.1"), Err(Refused::Full));
    }

    #[test]
    fn networks_are_a_24_and_a_64() {
        let of = |ip: &str| Network::of(ip.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("10.0.0.255"));
        assert_ne!(of("10.0.0.1"), of("10.0.1.1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::1"), of("0.0.0.1"));
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut bench = Bench::new(9, 9);
        for at in 0..9 {
            let number = bench.enter(&format!("10.0.{}.1", at % 3)).unwrap();
            if at % 2 == 0 {
                bench.prove(number);
            }
        }
        for (number, ip, _) in bench.all.drain(..) {
            bench.places.leave(number, ip);
        }
        let Places { taken, per_ip, unproven, crowds, ages, leaving, .. } = bench.places;
        assert_eq!((taken, per_ip.len(), unproven.len()), (0, 0, 0));
        assert_eq!((crowds.len(), ages.len(), leaving.len()), (0, 0, 0));
    }
}
