//! Debian's HAProxy, in front of a gateway.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{eventually, http::get};

/// One entry: where it listens, what it is in front of, and the HAProxy options that say how.
pub struct ProxyEntry<'a> {
    pub to: SocketAddr,
    /// Options of `server`, like `send-proxy-v2 check inter 100ms`.
    pub server: &'a str,
}

pub struct HaProxy {
    child: Child,
    /// In the order of the entries.
    pub addrs: Vec<SocketAddr>,
    figures: SocketAddr,
    _dir: tempfile::TempDir,
}

impl HaProxy {
    #[track_caller]
    pub fn start(ways: &[ProxyEntry<'_>]) -> Self {
        let mut free = (0..=ways.len()).map(|_| free_addr());
        let figures = free.next().unwrap();
        let addrs: Vec<_> = free.collect();
        let mut config = format!(
            "global\nnbthread 1\ndefaults\nmode tcp\ntimeout connect 10s\ntimeout client 10m\n\
             timeout server 10m\nlisten figures\nmode http\nbind {figures}\nstats enable\nstats uri /\n"
        );
        for (at, (way, addr)) in ways.iter().zip(&addrs).enumerate() {
            let ProxyEntry { to, server } = way;
            config += &format!("listen way{at}\nbind {addr}\nserver gatewayd {to} {server}\n");
        }
        Self::run(&config, addrs, figures)
    }

    /// One with a configuration of its own, listening at `addr` when this returns.
    #[track_caller]
    pub fn start_with(config: &str, addr: SocketAddr) -> Self {
        Self::run(config, vec![addr], addr)
    }

    #[track_caller]
    fn run(config: &str, addrs: Vec<SocketAddr>, figures: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let program = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/opt/homebrew/bin/haproxy"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("no HAProxy here: install it (Debian: apt-get install haproxy)");
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        for addr in addrs.iter().chain([&figures]) {
            eventually("HAProxy listens", SOON, || TcpStream::connect(addr).ok());
        }
        Self { child, addrs, figures, _dir: dir }
    }

    /// The figure of each entry's server, by the name of a column of its table.
    pub fn figure(&self, name: &str) -> Vec<String> {
        let answer = get(self.figures, "/;csv");
        let mut lines = answer.text().lines();
        let head = lines.next().unwrap().trim_start_matches("# ");
        let at = head.split(',').position(|column| column == name).unwrap();
        let servers = lines.filter(|line| line.contains(",gatewayd,"));
        servers.map(|line| line.split(',').nth(at).unwrap().to_owned()).collect()
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const SOON: Duration = Duration::from_secs(60);
