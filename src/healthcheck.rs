//! Asks a running gateway for work, as a miner would.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// Subscribes at the first of `listen` that answers and waits for a job.
pub fn healthcheck(listen: &[SocketAddr], timeout: Duration) -> io::Result<SocketAddr> {
    let mut last = io::Error::other("stratum.listen is empty");
    for addr in listen {
        let addr = local(*addr);
        match gets_work(addr, timeout) {
            Ok(()) => return Ok(addr),
            Err(error) => {
                last = io::Error::new(error.kind(), format!("no work from {addr}: {error}"));
            }
        }
    }
    Err(last)
}

fn gets_work(addr: SocketAddr, timeout: Duration) -> io::Result<()> {
    let mut socket = TcpStream::connect_timeout(&addr, timeout)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.write_all(
        b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"gatewayd-healthcheck\"]}\n",
    )?;
    let mut lines = BufReader::new(socket);
    for _ in 0..LINES_MAX {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Err(io::Error::other(
                "it closed the connection: its log says what it waits for",
            ));
        }
        if line.contains("\"mining.notify\"") && line.contains("\"params\"") {
            return Ok(());
        }
    }
    Err(io::Error::other("it answers, but not with work"))
}

/// An address that listens everywhere is reached on this machine's own.
pub(crate) fn local(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The subscription's answer, a difficulty, a job: work comes in the first few lines.
const LINES_MAX: usize = 8;
