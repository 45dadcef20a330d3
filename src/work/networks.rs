//! Networks to count by and to look up, with IPv4 inside IPv6, and long lists of them. `cidr` has
//! them as people write them.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Cidr;

/// All addresses with the same prefix. IPv4 is inside IPv6, as `::ffff:0:0/96`, so that an address
/// is the same however a socket shows it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Network {
    first: u128,
    len: u8,
}

impl Network {
    /// One address alone.
    pub(crate) fn host(ip: IpAddr) -> Self {
        Self::within(bits(ip), 128)
    }

    /// Usually one party's: a /24, or a /64 of IPv6.
    pub(crate) fn around(ip: IpAddr) -> Self {
        let bits = bits(ip);
        Self::within(bits, if is_v4(bits) { V4_LEN + 24 } else { 64 })
    }

    fn within(bits: u128, len: u8) -> Self {
        Self { first: bits & mask(len), len }
    }

    #[cfg(test)]
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        let bits = bits(ip);
        bits & mask(self.len) == self.first && may_hold(self.len, bits)
    }

    /// It is one address alone.
    pub(crate) fn is_host(self) -> bool {
        self.len == 128
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = Ipv6Addr::from_bits(self.first);
        let (ip, len) = match ip.to_ipv4_mapped() {
            Some(v4) if self.len >= V4_LEN => (IpAddr::V4(v4), self.len - V4_LEN),
            _ => (IpAddr::V6(ip), self.len),
        };
        if self.is_host() { write!(f, "{ip}") } else { write!(f, "{ip}/{len}") }
    }
}

impl From<Cidr> for Network {
    fn from(cidr: Cidr) -> Self {
        let (first, len) = cidr.parts();
        Self::within(bits(first), if first.is_ipv4() { V4_LEN + len } else { len })
    }
}

/// A list of them, which may be long.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Networks {
    /// By their lengths, the longest first.
    by_len: Vec<(u8, HashSet<u128>)>,
}

impl Networks {
    /// The prefix length of the closest network around `ip`, or none if it is in none.
    pub(crate) fn closest(&self, ip: IpAddr) -> Option<u8> {
        let bits = bits(ip);
        let around = |(len, all): &&(u8, HashSet<u128>)| {
            all.contains(&(bits & mask(*len))) && may_hold(*len, bits)
        };
        self.by_len.iter().find(around).map(|(len, _)| *len)
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.closest(ip).is_some()
    }

    pub(crate) fn add(&mut self, network: Network) {
        let Network { first, len } = network;
        match self.by_len.iter_mut().find(|(known, _)| *known == len) {
            Some((_, all)) => {
                all.insert(first);
            }
            None => {
                self.by_len.push((len, HashSet::from([first])));
                self.by_len.sort_by_key(|(len, _)| std::cmp::Reverse(*len));
            }
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<T: IntoIterator<Item = Network>>(networks: T) -> Self {
        let mut all = Self::default();
        networks.into_iter().for_each(|network| all.add(network));
        all
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip).to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn is_v4(bits: u128) -> bool {
    bits >> 32 == 0xFFFF
}

/// `::/0` is all of IPv6 and none of IPv4, although those addresses lie inside it.
fn may_hold(len: u8, bits: u128) -> bool {
    len >= V4_LEN || !is_v4(bits)
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0)
}

/// Of `::ffff:0:0/96`.
const V4_LEN: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        text.parse::<Cidr>().unwrap().into()
    }

    #[test]
    fn networks_show_as_people_write_them() {
        for (text, shown) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7/32", "203.0.113.7"),
            ("192.168.1.0/24", "192.168.1.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).to_string(), shown, "{text}");
            assert_eq!(network(shown), network(text), "{text}");
        }
    }

    #[test]
    fn an_address_is_in_its_networks_and_in_no_other() {
        assert!(network("10.0.0.0/8").contains(ip("10.255.0.1")));
        assert!(network("10.0.0.0/8").contains(ip("::ffff:10.0.0.1")));
        assert!(!network("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(!network("::/8").contains(ip("2001:db8::1")));
        assert!(network("0.0.0.0/0").contains(ip("255.255.255.255")));
        assert!(!network("0.0.0.0/0").contains(ip("2001:db8::1")));
        assert!(network("::/0").contains(ip("2001:db8::1")));
        assert!(!network("::/0").contains(ip("203.0.113.7")), "whoever denies IPv6 keeps IPv4");
        assert!(!network("::/64").contains(ip("203.0.113.7")));
        assert_eq!(Network::around(ip("10.0.0.7")), network("10.0.0.0/24"));
        assert_eq!(Network::around(ip("::ffff:10.0.0.7")), network("10.0.0.0/24"));
        assert_eq!(Network::around(ip("2001:db8::7")), network("2001:db8::/64"));
    }

    #[test]
    fn the_closest_network_of_a_list_is_found() {
        let list: Networks = ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "2001:db8::/32"]
            .map(network)
            .into_iter()
            .collect();
        assert_eq!(list.closest(ip("10.1.2.3")), Some(128));
        assert_eq!(list.closest(ip("10.1.2.4")), Some(112));
        assert_eq!(list.closest(ip("10.2.2.4")), Some(104));
        assert_eq!(list.closest(ip("2001:db8:1::")), Some(32));
        assert_eq!(list.closest(ip("11.0.0.1")), None);
        let list: Networks = ["::/0", "10.0.0.0/8"].map(network).into_iter().collect();
        assert_eq!(list.closest(ip("2001:db8::1")), Some(0));
        assert_eq!((list.closest(ip("10.0.0.1")), list.closest(ip("11.0.0.1"))), (Some(104), None));
        assert_eq!(Networks::default().closest(ip("10.0.0.1")), None);
    }
}
