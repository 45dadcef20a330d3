//! Where a request comes from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, header};

use super::auth::Guest;

/// The peer of the connection; added to each request when it is accepted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// True if `peer`, and everybody that a proxy names in front of it, is on this machine or in a
/// private network. A client that lies about this only shuts itself out.
pub(super) fn is_local(peer: Peer, headers: &HeaderMap) -> bool {
    // The header of RFC 7239 may name clients without an address.
    is_private(peer.0.ip())
        && !headers.contains_key(header::FORWARDED)
        && values(headers, &["x-forwarded-for", "x-real-ip"])
            .all(|name| address(name.trim()).is_some_and(is_private))
}

/// True if the browser's connection is known to be encrypted, which only a proxy can tell.
pub(super) fn is_over_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// True for a name that no stranger's DNS can point here: an address, or a local name. Many proxies
/// replace the browser's name by their own, so other headers with it are checked as well.
pub(super) fn is_own_name(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origins = values(headers, &["origin"]);
    host.is_some_and(is_local_name)
        && values(headers, &["x-forwarded-host"]).all(|host| is_local_name(host.trim()))
        && origins.map(|it| it.split_once("://")).all(|it| it.is_some_and(|it| is_local_name(it.1)))
}

/// Whose request it is: the peer's, or that of whom a proxy on this machine or in a private network
/// names. The last entry was written by that proxy; earlier ones by its client.
pub(super) fn guest(peer: Peer, headers: &HeaderMap) -> Guest {
    let here = peer.0.ip().to_canonical();
    let named = values(headers, &["x-forwarded-for"]).filter_map(|name| address(name.trim()));
    match named.last().filter(|_| is_private(here)) {
        Some(client) => Guest { client, via: Some(here) },
        None => here.into(),
    }
}

/// An address as written in headers, perhaps with a port.
fn address(name: &str) -> Option<IpAddr> {
    let name = name.trim_matches(['[', ']']);
    let ip = name.parse().or_else(|_| name.parse().map(|addr: SocketAddr| addr.ip()));
    ip.ok().map(|ip: IpAddr| ip.to_canonical())
}

/// Everything listed in these headers; "?" stands for what is not text.
pub(super) fn values<'a>(
    headers: &'a HeaderMap,
    names: &'static [&str],
) -> impl Iterator<Item = &'a str> {
    let all = names.iter().flat_map(move |name| headers.get_all(*name));
    all.flat_map(|value| value.to_str().unwrap_or("?").split(','))
}

/// `host` without its port, normalised for comparison.
pub(super) fn name_of(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

/// `host` may have a port.
pub(super) fn is_local_name(host: &str) -> bool {
    let name = name_of(host);
    match name.parse::<IpAddr>() {
        Ok(ip) => is_private(ip),
        Err(_) => is_name(&name) && (!name.contains('.') || name.ends_with(".local")),
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.chars().all(is_part)
}

/// An address of this machine, a private network, or a link.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared(ip)
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// 100.64.0.0/10 (RFC 6598), used by overlay networks like Tailscale.
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
    fn what_a_proxy_tells_of_its_guests_only_shuts_them_out() {
        let peer = Peer(SocketAddr::from(([127, 0, 0, 1], 1)));
        let of = |pairs: &[(&str, &str)]| -> HeaderMap {
            let pair = |(name, value): &(&str, &str)| {
                let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            };
            pairs.iter().map(pair).collect()
        };
        let host = ("host", "127.0.0.1:7152");
        for (pairs, local, own) in [
            (vec![host], true, true),
            (vec![host, ("x-real-ip", "192.168.1.3")], true, true),
            (vec![host, ("x-real-ip", "8.8.8.8")], false, true),
            (vec![host, ("forwarded", "for=192.168.1.3")], false, true),
            (vec![host, ("x-forwarded-host", "umbrel.local")], true, true),
            (vec![host, ("x-forwarded-host", "evil.example")], true, false),
            (vec![host, ("x-forwarded-host", "umbrel.local, evil.example")], true, false),
            (vec![host, ("origin", "http://umbrel.local:7152")], true, true),
            (vec![host, ("origin", "https://evil.example")], true, false),
            (vec![host, ("origin", "null")], true, false),
            (vec![("host", "evil.example"), ("x-forwarded-host", "umbrel.local")], true, false),
        ] {
            let headers = of(&pairs);
            assert_eq!(
                (is_local(peer, &headers), is_own_name(&headers)),
                (local, own),
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_proxy_says_whose_request_it_is_and_nobody_else_does() {
        let of = |peer: &str, forwarded: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", HeaderValue::from_str(forwarded).unwrap());
            let guest = guest(Peer(SocketAddr::new(peer.parse().unwrap(), 1)), &headers);
            (guest.client.to_string(), guest.via.is_some())
        };
        assert_eq!(of("127.0.0.1", "8.8.8.8"), ("8.8.8.8".into(), true));
        assert_eq!(of("172.17.0.1", "1.1.1.1, 8.8.8.8:4711"), ("8.8.8.8".into(), true));
        assert_eq!(of("9.9.9.9", "8.8.8.8"), ("9.9.9.9".into(), false));
        assert_eq!(of("127.0.0.1", "unknown"), ("127.0.0.1".into(), false));
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
