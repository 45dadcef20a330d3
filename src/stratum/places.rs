//! Who has a place, and who has earned it: pure, locked by `gate`.
//!
//! A miner earns its place with its first share. Until then it keeps it while there is room for
//! everybody; when there is none, it gives way to a newcomer from a network where fewer wait for a
//! first share.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::gate::ConnectionLimits;
use crate::{
    books::roster::Eviction,
    work::{Refused, limits::NETWORK_TIMES},
};

/// Places of one kind: connections', or channels'.
#[derive(Debug, Default)]
pub(crate) struct PlaceTable {
    taken: usize,
    per_ip: HashMap<IpAddr, AddressPlaces>,
    /// Those without a share, by network, the oldest first.
    unproven: HashMap<PlaceNetwork, BTreeMap<u64, Unproven>>,
    /// How many of those each network has; the last has the most.
    crowds: BTreeSet<(usize, PlaceNetwork)>,
    /// All of those, the oldest first.
    ages: BTreeMap<u64, PlaceNetwork>,
    /// Sent away but not gone yet: no longer counted.
    leaving: HashSet<u64>,
    next: u64,
}

/// Places of one address.
#[derive(Debug, Default)]
struct AddressPlaces {
    /// The oldest first.
    all: BTreeMap<u64, Arc<Eviction>>,
    unproven: usize,
    /// How far the search for silent ones has got.
    looked: u64,
    /// When all were looked at and none was silent.
    in_vain: Option<Instant>,
}

#[derive(Debug)]
struct Unproven {
    since: Instant,
    ip: IpAddr,
    eviction: Arc<Eviction>,
}

/// Whose place is being looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    Anybodys,
    /// That of one without a share.
    Unproven,
}

/// A /24 or a /64: usually one party's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct PlaceNetwork(u64);

impl PlaceNetwork {
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

impl PlaceTable {
    /// Takes a place and returns its number.
    pub(crate) fn enter(
        &mut self,
        ip: IpAddr,
        limits: ConnectionLimits,
        eviction: &Arc<Eviction>,
        now: Instant,
    ) -> Result<u64, Refused> {
        let from_there = self.per_ip.get(&ip);
        let count = from_there.map_or(0, |it| it.all.len());
        let unproven = from_there.map_or(0, |it| it.unproven);
        let is_full = self.taken >= limits.connections;
        let network = PlaceNetwork::of(ip);
        // A farm reconnects, and its old connections are not yet known to be gone.
        let mut gave_way = false;
        if self.has_unproven(network, unproven, limits) {
            gave_way = self.silent_gives_way(ip, Whose::Unproven, limits, eviction, now);
            if !gave_way {
                return Err(Refused::FullOfUnproven);
            }
        }
        let is_full_there = count >= limits.connections_per_ip;
        if is_full_there && !gave_way {
            gave_way = self.silent_gives_way(ip, Whose::Anybodys, limits, eviction, now);
        }
        if is_full_there && !gave_way {
            return Err(if is_full { Refused::Full } else { Refused::FullForIp });
        }
        // Strangers before those of the same farm.
        if is_full
            && !gave_way
            && !self.make_room(network, eviction, now)
            && !self.silent_gives_way(ip, Whose::Anybodys, limits, eviction, now)
        {
            return Err(Refused::Full);
        }
        let number = self.next;
        self.next += 1;
        self.taken += 1;
        let from_there = self.per_ip.entry(ip).or_default();
        from_there.all.insert(number, Arc::clone(eviction));
        from_there.unproven += 1;
        let unproven = Unproven { since: now, ip, eviction: Arc::clone(eviction) };
        self.unproven.entry(network).or_default().insert(number, unproven);
        self.ages.insert(number, network);
        self.resize(network, 1);
        Ok(number)
    }

    /// The miner of this place has had a share accepted.
    pub(crate) fn prove(&mut self, number: u64, ip: IpAddr) {
        self.take_out(number, ip);
    }

    pub(crate) fn leave(&mut self, number: u64, ip: IpAddr) {
        self.take_out(number, ip);
        if !self.leaving.remove(&number) {
            self.give_up(number, ip);
        }
    }

    /// Frees the place for somebody else.
    fn give_up(&mut self, number: u64, ip: IpAddr) {
        self.taken -= 1;
        if let Some(from_there) = self.per_ip.get_mut(&ip) {
            from_there.all.remove(&number);
            if from_there.all.is_empty() {
                self.per_ip.remove(&ip);
            }
        }
    }

    /// `from_there`: those without a share of the newcomer's address.
    fn has_unproven(
        &self,
        network: PlaceNetwork,
        from_there: usize,
        limits: ConnectionLimits,
    ) -> bool {
        let most = limits.unproven;
        let around = self.unproven.get(&network).map_or(0, BTreeMap::len);
        most > 0 && (from_there >= most || around >= most.saturating_mul(NETWORK_TIMES as usize))
    }

    /// Sends away a connection of the newcomer's own address that has been silent like one that is
    /// cut off: a restarted router has forgotten them all.
    fn silent_gives_way(
        &mut self,
        ip: IpAddr,
        whose: Whose,
        limits: ConnectionLimits,
        own: &Arc<Eviction>,
        now: Instant,
    ) -> bool {
        let files = self.taken + self.leaving.len();
        if files >= limits.connections && self.leaving.len() >= LEAVING_MAX {
            return false;
        }
        let unproven = self.unproven.get(&PlaceNetwork::of(ip));
        let Some(from_there) = self.per_ip.get_mut(&ip) else { return false };
        if from_there.in_vain.is_some_and(|at| now < at + LOOK_EACH) {
            return false;
        }
        let looked = from_there.looked;
        let (before, behind) = (from_there.all.range(..looked), from_there.all.range(looked..));
        let mut silent: Option<(Duration, u64)> = None;
        for (at, (number, eviction)) in behind.chain(before).enumerate() {
            from_there.looked = *number + 1;
            if silent.is_some() && at >= LOOK_MIN {
                break;
            }
            let silence = eviction.silence(now);
            let is_unproven = unproven.is_some_and(|all| all.contains_key(number));
            let least = if is_unproven { SILENT } else { GONE };
            let is_asked = is_unproven || whose == Whose::Anybodys;
            if eviction.shares_connection_with(own) || silence < least || !is_asked {
                continue;
            }
            if silent.is_none_or(|(longest, _)| silence > longest) {
                silent = Some((silence, *number));
            }
            if silence >= GONE {
                break;
            }
        }
        let Some((_, number)) = silent else {
            from_there.in_vain = Some(now);
            return false;
        };
        if let Some(eviction) = from_there.all.get(&number) {
            eviction.request();
        }
        self.take_out(number, ip);
        self.leaving.insert(number);
        self.give_up(number, ip);
        true
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    pub(crate) fn unproven(&self) -> usize {
        self.ages.len()
    }

    /// Sends away one without a share: one of the network that has the most of them, if that is
    /// more than `newcomer` would have; otherwise one that has had its chance. Never another
    /// channel of the newcomer's connection, nor that connection itself: the newcomer may be one
    /// more channel of a proxy.
    fn make_room(&mut self, newcomer: PlaceNetwork, own: &Arc<Eviction>, now: Instant) -> bool {
        let is_own = |it: &Unproven| it.eviction.shares_connection_with(own);
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
        if let Some(sent) = self.take_out_of(number, network) {
            sent.eviction.request();
            self.leaving.insert(number);
            self.note_proven(sent.ip);
            self.give_up(number, sent.ip);
        }
        true
    }

    /// Takes it off the list of those without a share.
    fn take_out(&mut self, number: u64, ip: IpAddr) {
        if self.take_out_of(number, PlaceNetwork::of(ip)).is_some() {
            self.note_proven(ip);
        }
    }

    fn note_proven(&mut self, ip: IpAddr) {
        if let Some(from_there) = self.per_ip.get_mut(&ip) {
            from_there.unproven -= 1;
        }
    }

    fn take_out_of(&mut self, number: u64, network: PlaceNetwork) -> Option<Unproven> {
        let sent = self.unproven.get_mut(&network)?.remove(&number)?;
        self.ages.remove(&number);
        self.resize(network, -1);
        Some(sent)
    }

    /// Updates the order of the crowds for a network that has just changed by `by`.
    fn resize(&mut self, network: PlaceNetwork, by: isize) {
        let count = self.unproven.get(&network).map_or(0, BTreeMap::len);
        self.crowds.remove(&(count.saturating_add_signed(-by), network));
        if count > 0 {
            self.crowds.insert((count, network));
        } else {
            self.unproven.remove(&network);
        }
    }
}

/// How many may have been sent away and not ended: each still holds a file descriptor.
const LEAVING_MAX: usize = 128;
/// At the limit of its address, one without a share gives way to another after being silent this
/// long. Firmware takes longer than this to notice that it is cut off.
const SILENT: Duration = Duration::from_secs(30);
/// Nobody who mines is silent this long, except the smallest: of miners that find a share every
/// seven seconds on average, one in sixty finds none in 30 s, and one in 400,000 none in 90 s.
const GONE: Duration = Duration::from_secs(90);
/// How many places are looked at for a newcomer, at least; more while none is silent.
const LOOK_MIN: usize = 64;
/// Looking at all of them again sooner would find nobody.
const LOOK_EACH: Duration = Duration::from_secs(1);
/// An ASIC usually finds its first share within seconds, a Bitaxe within a minute.
const CHANCE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "places_walk_tests.rs"]
mod walk;

#[cfg(test)]
mod tests {
    use super::*;

    struct PlaceTableHarness {
        places: PlaceTable,
        limits: ConnectionLimits,
        now: Instant,
        all: Vec<(u64, IpAddr, Arc<Eviction>)>,
    }

    impl PlaceTableHarness {
        fn new(connections: usize, connections_per_ip: usize) -> Self {
            #[expect(clippy::disallowed_methods, reason = "any origin will do")]
            let now = Instant::now();
            let limits = ConnectionLimits { connections, connections_per_ip, unproven: 0 };
            Self { places: PlaceTable::default(), limits, now, all: Vec::new() }
        }

        fn enter(&mut self, ip: &str) -> Result<u64, Refused> {
            let (ip, eviction) = (ip.parse().unwrap(), Arc::<Eviction>::default());
            eviction.note_connected(self.now);
            let number = self.places.enter(ip, self.limits, &eviction, self.now)?;
            self.all.push((number, ip, eviction));
            Ok(number)
        }

        fn prove(&mut self, number: u64) {
            let ip = self.all.iter().find(|(it, _, _)| *it == number).unwrap().1;
            self.places.prove(number, ip);
        }

        /// Lets those that were sent away leave, and returns how many of `network` there were.
        fn clear(&mut self, network: &str) -> usize {
            let (sent, stay): (Vec<_>, Vec<_>) =
                self.all.drain(..).partition(|(_, _, eviction)| eviction.is_requested());
            self.all = stay;
            sent.iter().for_each(|(number, ip, _)| self.places.leave(*number, *ip));
            sent.iter().filter(|(_, ip, _)| ip.to_string().starts_with(network)).count()
        }
    }

    /// Four addresses held all places for two hours.
    #[test]
    fn a_crowd_without_shares_makes_room_for_everybody_else() {
        let mut bench = PlaceTableHarness::new(200, 100);
        for at in 0..200 {
            bench.enter(&format!("10.0.0.{}", at % 4)).unwrap();
        }
        assert_eq!(bench.enter("10.0.0.77"), Err(Refused::Full), "from the same network");
        for at in 0..50 {
            let number = bench.enter(&format!("192.0.2.{at}")).unwrap();
            bench.prove(number);
            assert_eq!(bench.clear("10.0.0."), 1);
        }
        assert_eq!(bench.places.taken(), 200);
        // A farm that reconnects behind one address gets its part at once.
        let came = (0..150).filter(|_| bench.enter("198.51.100.7").is_ok()).count();
        assert!(came >= 70, "{came}");
        assert_eq!(bench.clear("10.0.0."), came);
    }

    #[test]
    fn a_miner_that_has_had_a_share_accepted_keeps_its_place() {
        let mut bench = PlaceTableHarness::new(3, 3);
        for ip in ["10.0.0.1", "10.0.0.1", "2001:db8::1"] {
            let number = bench.enter(ip).unwrap();
            bench.prove(number);
        }
        bench.now += Duration::from_secs(86_400);
        assert_eq!(bench.enter("192.0.2.1"), Err(Refused::Full));
        assert_eq!(bench.clear(""), 0);
    }

    #[test]
    fn among_equals_the_oldest_goes_once_it_has_had_its_chance() {
        let mut bench = PlaceTableHarness::new(3, 3);
        let first = bench.enter("10.0.0.1").unwrap();
        bench.now += Duration::from_secs(30);
        bench.enter("10.0.1.1").unwrap();
        bench.enter("2001:db8::1").unwrap();
        assert_eq!(bench.enter("192.0.2.1"), Err(Refused::Full));
        bench.now += Duration::from_secs(30);
        bench.enter("192.0.2.1").unwrap();
        let sent = bench.all.iter().find(|(_, _, eviction)| eviction.is_requested()).unwrap();
        assert_eq!(sent.0, first);
        assert_eq!(bench.enter("192.0.3.1"), Err(Refused::Full));
    }

    /// 4,000 miners behind a restarted router: their old connections are not known to be gone.
    #[test]
    fn silent_connections_give_way_to_reconnecting_ones_of_the_same_address() {
        let mut bench = PlaceTableHarness::new(50_000, 5000);
        for _ in 0..4000 {
            let number = bench.enter("203.0.113.7").unwrap();
            bench.prove(number);
        }
        let neighbour = bench.enter("203.0.113.8").unwrap();
        bench.prove(neighbour);
        bench.now += GONE;
        // Some are behind another line and still alive.
        let alive: Vec<_> = bench
            .all
            .iter()
            .take(900)
            .map(|(number, _, it)| {
                it.note_activity(bench.now);
                *number
            })
            .collect();
        let came = (0..4000).filter(|_| bench.enter("203.0.113.7").is_ok()).count();
        assert_eq!(came, 4000);
        let sent: Vec<_> = bench
            .all
            .iter()
            .filter(|(_, _, it)| it.is_requested())
            .map(|(number, ..)| *number)
            .collect();
        assert_eq!(sent.len(), 3000, "as many as there was no room for");
        assert!(sent.iter().all(|number| !alive.contains(number) && *number != neighbour));
        assert_eq!(bench.places.taken(), 5001);
        bench.clear("");
        assert_eq!((bench.places.taken(), bench.places.leaving.len()), (5001, 0));
        // All that are here have just been heard, so there is no more room.
        bench.all.iter().for_each(|(_, _, it)| it.note_activity(bench.now));
        while bench.enter("203.0.113.7").is_ok() {}
        bench.now += Duration::from_secs(20);
        assert_eq!(bench.enter("203.0.113.7"), Err(Refused::FullForIp));
    }

    #[test]
    fn strangers_give_way_before_a_farms_own_live_miners() {
        let mut bench = PlaceTableHarness::new(100, 100);
        for _ in 0..40 {
            let number = bench.enter("203.0.113.7").unwrap();
            bench.prove(number);
        }
        while bench.enter("198.51.100.1").is_ok() {}
        // At 8 shares a minute, one miner in sixty is silent this long.
        bench.now += SILENT + Duration::from_secs(10);
        for _ in 0..20 {
            bench.enter("203.0.113.7").unwrap();
        }
        let sent = |from: &str| {
            let from: IpAddr = from.parse().unwrap();
            bench.all.iter().filter(|(_, ip, it)| *ip == from && it.is_requested()).count()
        };
        assert_eq!((sent("203.0.113.7"), sent("198.51.100.1")), (0, 20));
        // Those that may be gone do not go first either.
        bench.now += GONE;
        for _ in 0..20 {
            bench.enter("203.0.113.7").unwrap();
        }
        let sent = |from: &str| {
            let from: IpAddr = from.parse().unwrap();
            bench.all.iter().filter(|(_, ip, it)| *ip == from && it.is_requested()).count()
        };
        assert_eq!((sent("203.0.113.7"), sent("198.51.100.1")), (0, 40));
    }

    #[test]
    fn a_miner_is_not_taken_for_gone_after_half_a_minute() {
        let mut bench = PlaceTableHarness::new(50, 40);
        for _ in 0..40 {
            let number = bench.enter("203.0.113.7").unwrap();
            bench.prove(number);
        }
        bench.now += SILENT + Duration::from_secs(10);
        assert_eq!(bench.enter("203.0.113.7"), Err(Refused::FullForIp));
        bench.now += GONE - SILENT;
        bench.enter("203.0.113.7").unwrap();
    }

    #[test]
    fn an_address_and_its_network_have_only_so_many_without_a_share() {
        let mut bench = PlaceTableHarness::new(1000, 1000);
        bench.limits.unproven = 10;
        let mut first = None;
        for _ in 0..10 {
            first = Some(bench.enter("203.0.113.7").unwrap());
        }
        assert_eq!(bench.enter("203.0.113.7"), Err(Refused::FullOfUnproven));
        bench.prove(first.unwrap());
        bench.enter("203.0.113.7").unwrap();
        for at in 0..30 {
            bench.enter(&format!("203.0.113.{}", 100 + at)).unwrap();
        }
        assert_eq!(
            bench.enter("203.0.113.200"),
            Err(Refused::FullOfUnproven),
            "its network is full"
        );
        bench.enter("203.0.114.1").unwrap();
    }

    /// A farm whose miners have sent no share yet, behind a restarted router.
    #[test]
    fn connections_gone_without_a_share_give_way_to_those_that_reconnect() {
        let mut bench = PlaceTableHarness::new(1000, 1000);
        bench.limits.unproven = 10;
        let number = bench.enter("203.0.113.7").unwrap();
        bench.prove(number);
        while bench.enter("203.0.113.7").is_ok() {}
        bench.now += SILENT;
        let heard = Arc::clone(&bench.all[1].2);
        heard.note_activity(bench.now);
        let came = (0..20).filter(|_| bench.enter("203.0.113.7").is_ok()).count();
        assert_eq!(came, 9);
        assert!(!heard.is_requested() && !bench.all[0].2.is_requested());
        assert_eq!(bench.clear("203.0.113.7"), 9);
        assert_eq!((bench.places.taken(), bench.places.unproven()), (11, 10));
    }

    #[test]
    fn networks_are_a_24_and_a_64() {
        let of = |ip: &str| PlaceNetwork::of(ip.parse().unwrap());
        assert_eq!(of("10.0.0.1"), of("10.0.0.255"));
        assert_ne!(of("10.0.0.1"), of("10.0.1.1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("::1"), of("0.0.0.1"));
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut bench = PlaceTableHarness::new(9, 9);
        for at in 0..9 {
            let number = bench.enter(&format!("10.0.{}.1", at % 3)).unwrap();
            if at % 2 == 0 {
                bench.prove(number);
            }
        }
        for (number, ip, _) in bench.all.drain(..) {
            bench.places.leave(number, ip);
        }
        let PlaceTable { taken, per_ip, unproven, crowds, ages, leaving, .. } = bench.places;
        assert_eq!((taken, per_ip.len(), unproven.len()), (0, 0, 0));
        assert_eq!((crowds.len(), ages.len(), leaving.len()), (0, 0, 0));
    }
}
