//! Networks as people write them: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    first: IpAddr,
    bits: u8,
}

/// Why a text names no network. Reads on after the text.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CidrError {
    #[error("is not an address: write numbers, like 192.168.1.5 or 2001:db8::/32, not a name")]
    Address,
    #[error("has no length of 0 to {0} after the slash")]
    Length(u8),
    #[error(
        "has bits set beyond its length: write {0} for the network, or {1} for the one address"
    )]
    Host(Cidr, IpAddr),
}

impl Cidr {
    /// An IPv4 address is the same in its IPv6 form.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        match (self.first, ip.to_canonical()) {
            (IpAddr::V4(_), ip @ IpAddr::V4(_)) | (IpAddr::V6(_), ip @ IpAddr::V6(_)) => {
                masked(ip, self.bits) == self.first
            }
            _ => false,
        }
    }

    /// Its first address, and how many leading bits all its addresses share.
    pub(crate) fn parts(&self) -> (IpAddr, u8) {
        (self.first, self.bits)
    }

    /// Every address of its family.
    pub(crate) fn is_everybody(&self) -> bool {
        self.bits == 0
    }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(u32::from(V4_BITS - bits)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(u32::from(V6_BITS - bits)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let text = text.trim();
        let (ip, length) = text.split_once('/').map_or((text, None), |(ip, len)| (ip, Some(len)));
        let ip: IpAddr = ip.trim().parse().map_err(|_| CidrError::Address)?;
        let most = if ip.is_ipv4() { V4_BITS } else { V6_BITS };
        let bits = match length.map(|length| length.trim().parse::<u8>()) {
            None => most,
            Some(Ok(bits)) if bits <= most => bits,
            Some(_) => return Err(CidrError::Length(most)),
        };
        // Dual-stack sockets show IPv4 inside IPv6, and people copy that from logs.
        let (ip, bits) = match (ip.to_canonical(), bits.checked_sub(V6_BITS - V4_BITS)) {
            (short @ IpAddr::V4(_), Some(bits)) if ip.is_ipv6() => (short, bits),
            _ => (ip, bits),
        };
        let first = masked(ip, bits);
        let network = Self { first, bits };
        if first == ip { Ok(network) } else { Err(CidrError::Host(network, ip)) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

const V4_BITS: u8 = 32;
const V6_BITS: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn has(network: &str, ip: &str) -> bool {
        network.parse::<Cidr>().unwrap().contains(ip.parse().unwrap())
    }

    #[test]
    fn a_network_contains_what_begins_like_it() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("192.168.1.5", "192.168.1.5", "192.168.1.4"),
            ("172.16.0.0/12", "172.31.255.255", "172.32.0.0"),
            (" 10.0.0.0 / 31 ", "10.0.0.1", "10.0.0.2"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            assert!(has(network, inside), "{network} {inside}");
            assert!(!has(network, outside), "{network} {outside}");
        }
        assert!(has("10.0.0.0/8", "::ffff:10.1.2.3"));
    }

    /// As a dual-stack socket shows it.
    #[test]
    fn ipv4_may_be_written_in_its_ipv6_form() {
        for (network, shown) in [
            ("::ffff:10.0.0.5", "10.0.0.5/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:a00:5/128", "10.0.0.5/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network.parse::<Cidr>().unwrap().to_string(), shown, "{network}");
            assert!(has(network, "10.0.0.5") && has(network, "::ffff:10.0.0.5"), "{network}");
        }
        assert!(!has("::ffff:10.0.0.5", "10.0.0.6"));
        let error = "::ffff:10.1.2.3/104".parse::<Cidr>().unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8"), "{error}");
    }

    #[test]
    fn what_is_not_a_network_is_explained() {
        let error = |text: &str| text.parse::<Cidr>().unwrap_err();
        for text in ["", "haproxy", "10.0.0", "10.0.0.0:8", "[::1]", "/8"] {
            assert_eq!(error(text), CidrError::Address, "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/255.0.0.0"] {
            assert_eq!(error(text), CidrError::Length(32), "{text}");
        }
        assert_eq!(error("::/129"), CidrError::Length(128));
        let told = error("10.1.2.3/8").to_string();
        assert!(told.contains("10.0.0.0/8") && told.contains("10.1.2.3"), "{told}");
    }
}
