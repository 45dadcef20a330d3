//! Where a request comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, header};

/// The other end of the connection; put into each request by whoever accepted it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// True when `peer`, and everybody whom a proxy names in front of it, is on this machine or in a
/// private network. A client that lies about others only shuts itself out.
pub(super) fn is_local(peer: Peer, headers: &HeaderMap) -> bool {
    let named = headers.get_all("x-forwarded-for").iter();
    is_private(peer.0.ip())
        && named.flat_map(|value| value.to_str().unwrap_or("?").split(',')).all(|name| {
            let name = name.trim().trim_matches(['[', ']']);
            let ip = name.parse().or_else(|_| name.parse().map(|addr: SocketAddr| addr.ip()));
            ip.is_ok_and(is_private)
        })
}

/// True when the browser's way here is known to be encrypted, which only a proxy can tell.
pub(super) fn is_over_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// True for a name that no stranger's DNS can point here: an address, or one of the house.
pub(super) fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    match name.parse::<IpAddr>() {
        Ok(ip) => is_private(ip),
        Err(_) => !name.contains('.') || name.ends_with(".local"),
    }
}

/// Of this machine, a private network, or a link.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10 (RFC 6598): what overlay networks like Tailscale use.
fn is_shared(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 100 && b & 0xC0 == 64
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[track_caller]
    fn case(peer: &str, forwarded: Option<&str>, expected: bool) {
        let mut headers = HeaderMap::new();
        if let Some(forwarded) = forwarded {
            headers.insert("x-forwarded-for", HeaderValue::from_str(forwarded).unwrap());
        }
        let peer = Peer(SocketAddr::new(peer.parse().unwrap(), 1));
        assert_eq!(is_local(peer, &headers), expected, "{peer:?} {forwarded:?}");
    }

    #[test]
    fn the_house_is_told_from_the_world() {
        for home in ["127.0.0.1", "::1", "10.1.2.3", "172.17.0.1", "192.168.1.9", "fd00::1"] {
            case(home, None, true);
        }
        for home in ["::ffff:192.168.1.9", "169.254.3.4", "fe80::1", "100.100.1.1"] {
            case(home, None, true);
        }
        for world in ["8.8.8.8", "2001:db8::1", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8"] {
            case(world, None, false);
        }
    }

    #[test]
    fn a_proxy_in_the_house_does_not_make_the_world_local() {
        case("127.0.0.1", Some("192.168.1.3"), true);
        case("127.0.0.1", Some("192.168.1.3, 10.0.0.1:4711"), true);
        case("127.0.0.1", Some("8.8.8.8"), false);
        case("127.0.0.1", Some("8.8.8.8, 192.168.1.3"), false);
        case("127.0.0.1", Some("unknown"), false);
    }

    #[test]
    fn names_of_the_house() {
        let own = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
            is_own_name(&headers)
        };
        for host in ["127.0.0.1:7152", "[::1]:7152", "[fd00::2]", "localhost", "umbrel.local:1"] {
            assert!(own(host), "{host}");
        }
        for host in [
            "evil.example:7152",
            "8.8.8.8:7152",
            "[2001:db8::1]:7152",
            "192.168.1.2.evil.example",
            "local.evil.example.",
        ] {
            assert!(!own(host), "{host}");
        }
        assert!(!is_own_name(&HeaderMap::new()));
    }
}
