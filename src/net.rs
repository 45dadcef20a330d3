//! Connecting to a host that has several addresses, of which some may be dead.
//!
//! Follows RFC 8305 ("happy eyeballs"): the families take turns, each address is tried a moment
//! after the one before it or as soon as that one has failed, and the first to accept wins. So an
//! address that swallows packets costs a quarter of a second, not the whole timeout.

use std::{collections::VecDeque, fmt, io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, ToSocketAddrs, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

/// A host and a port, written unambiguously: `[::1]:28915`.
pub(crate) struct HostPort<'a>(pub(crate) &'a str, pub(crate) u16);

impl fmt::Display for HostPort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Connects to the first address of `target` that accepts.
pub(crate) async fn connect(target: impl ToSocketAddrs) -> io::Result<TcpStream> {
    race(lookup_host(target).await?).await
}

/// The first connection to any of these addresses.
async fn race(addrs: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = in_turn(addrs);
    let mut trying = JoinSet::new();
    let mut failed = Vec::new();
    loop {
        if let Some(addr) = waiting.pop_front() {
            trying.spawn(async move { (addr, try_one(addr).await) });
        }
        tokio::select! {
            Some(tried) = trying.join_next() => match tried {
                Ok((_, Ok(stream))) => return Ok(stream),
                Ok((addr, Err(error))) => failed.push((addr, error)),
                // Happens only when the runtime shuts down.
                Err(error) => return Err(io::Error::other(error)),
            },
            () = sleep(STAGGER), if !waiting.is_empty() => {}
            else => return Err(failure(failed)),
        }
    }
}

async fn try_one(addr: SocketAddr) -> io::Result<TcpStream> {
    timeout(ADDRESS_MAX, TcpStream::connect(addr))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer")))
}

/// The addresses in order, but alternating between families: a family that is unreachable is so as
/// a whole.
fn in_turn(addrs: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for addr in addrs.take(ADDRESSES_MAX) {
        if !all.contains(&addr) {
            all.push(addr);
        }
    }
    let leads_with_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|addr| addr.is_ipv6() == leads_with_v6);
    let mut second = second.into_iter();
    let mut turns = VecDeque::new();
    for addr in first {
        turns.push_back(addr);
        turns.extend(second.next());
    }
    turns.extend(second);
    turns
}

/// What became of each address; for a single one, the system's own error.
fn failure(mut failed: Vec<(SocketAddr, io::Error)>) -> io::Error {
    match failed.len() {
        0 => io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address"),
        1 => failed.remove(0).1,
        _ => {
            let kind = failed[0].1.kind();
            let each = failed.iter().map(|(addr, error)| format!("{addr}: {error}"));
            io::Error::new(kind, each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// RFC 8305's "Connection Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
/// For one address: a lost packet is retransmitted after one second and after three.
const ADDRESS_MAX: Duration = Duration::from_secs(5);
/// More are a mistake or a prank.
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
