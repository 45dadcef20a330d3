//! What a miner in the same network calls this machine by.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// This machine's addresses, looked up now and then.
#[derive(Debug, Default)]
pub(super) struct Lan(Mutex<Option<(Instant, Vec<IpAddr>)>>);

impl Lan {
    /// Those that lead to one of the addresses that are listened on, likeliest first.
    pub(super) fn addresses(&self, listen: &[String], now: Instant) -> Vec<String> {
        let listen: Vec<_> =
            listen.iter().filter_map(|it| it.parse().ok()).map(|it: SocketAddr| it.ip()).collect();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = |(at, _): &(Instant, Vec<IpAddr>)| now >= *at + LOOK_EACH;
        if known.as_ref().is_none_or(is_old) {
            *known = Some((now, of_this_machine()));
        }
        let all = known.as_ref().map(|(_, all)| all.as_slice()).unwrap_or_default();
        chosen(&listen, all).iter().map(ToString::to_string).collect()
    }
}

/// Nobody can connect to a loopback from elsewhere, and nobody types a link's address.
fn chosen(listen: &[IpAddr], all: &[IpAddr]) -> Vec<IpAddr> {
    let leads = |ip: &&IpAddr| {
        listen.iter().any(|it| it == *ip || it.is_unspecified() && (it.is_ipv6() || ip.is_ipv4()))
    };
    let mut chosen: Vec<_> = all.iter().filter(leads).copied().collect();
    chosen.sort_by_key(|ip| match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 192 => 0,
        IpAddr::V4(ip) if ip.is_private() => 1,
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => 3,
    });
    chosen.truncate(SHOWN_MAX);
    chosen
}

fn of_this_machine() -> Vec<IpAddr> {
    // What a container calls itself by leads nowhere outside of it.
    if CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists()) {
        return Vec::new();
    }
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    let is_own = |it: &if_addrs::Interface| {
        !it.is_loopback() && !VIRTUAL.iter().any(|start| it.name.starts_with(start))
    };
    let own = all.iter().filter(|it| is_own(it)).map(if_addrs::Interface::ip);
    own.filter(|ip| !is_of_a_link(*ip)).collect()
}

fn is_of_a_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Networks of containers and virtual machines.
const VIRTUAL: [&str; 5] = ["docker", "br-", "veth", "virbr", "podman"];
const CONTAINER_MARKS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// A router gives another now and then.
const LOOK_EACH: Duration = Duration::from_secs(30);
/// More help nobody.
const SHOWN_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_listened_on_is_shown_and_loopback_never() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let all = ["10.1.1.1", "fd00::5", "192.168.1.10"].map(ip);
        let shown = |listen: &[&str]| {
            let listen: Vec<_> = listen.iter().map(|it| ip(it)).collect();
            let chosen = chosen(&listen, &all);
            chosen.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(&["0.0.0.0"]), "192.168.1.10 10.1.1.1");
        assert_eq!(shown(&["::"]), "192.168.1.10 10.1.1.1 fd00::5");
        assert_eq!(shown(&["10.1.1.1"]), "10.1.1.1");
        assert_eq!(shown(&["127.0.0.1"]), "");
    }
}
