//! Passes `[limits]` to the limiter.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
};

use crate::{books::Roster, clock::now, config::Config, work::limits::LimitRules};

/// Passes the configuration to the limiter; newly denied miners are disconnected.
pub(super) fn set_rules(roster: &Roster, config: &Config) {
    let mut rules = LimitRules { gateways: gateways(), ..config.limits.clone() };
    // Each of their connections counts for the address it names; on their own they only do checks.
    config.stratum.trusted_proxies.iter().for_each(|it| rules.allow.add((*it).into()));
    roster.limiter().set_rules(rules, now());
    for miner in roster.miners() {
        if roster.limiter().denies(miner.peer.ip()) {
            miner.evict();
        }
    }
}

/// The routers next to this machine. In a container that is the host, through which Docker's proxy
/// forwards everybody.
fn gateways() -> Vec<IpAddr> {
    // None on other systems.
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    gateways_of(&routes).collect()
}

/// From lines with interface, destination, gateway, flags and so on, as the kernel prints them.
fn gateways_of(routes: &str) -> impl Iterator<Item = IpAddr> {
    routes.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let destination = fields.next()?;
        let gateway = u32::from_str_radix(fields.next()?, 16).ok()?;
        let is_default = destination == "00000000" && gateway != 0;
        is_default.then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_names_the_gateway() {
        let gateway = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
        let routes = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
             eth0\t00000000\t{}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
             eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
             eth1\t{}\t{}\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n\nnonsense\n",
            gateway([172, 17, 0, 1]),
            gateway([10, 9, 0, 0]),
            gateway([10, 0, 0, 254]),
        );
        assert_eq!(gateways_of(&routes).collect::<Vec<_>>(), [IpAddr::from([172, 17, 0, 1])]);
    }
}
