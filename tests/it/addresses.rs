//! Hosts with two addresses, of which the first is dead: the node, its ZeroMQ, the pool, and the
//! path of a found block. Uses a hosts file of its own, which takes a mount namespace.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use bitcoin::Network;
use gatewayd::devnet::{
    miner::{Miner, MinerOptions},
    pool::{Pool, PoolHandle, PoolOptions},
};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const HOSTS: &str = "127.0.0.1 localhost\n\
                     ::1 node.test\n127.0.0.1 node.test\n::1 pool.test\n127.0.0.1 pool.test\n";

/// [::1] with a port where SYNs are swallowed: the queue is full, and nobody accepts.
struct Swallower {
    _socket: Socket,
    _queued: Vec<TcpStream>,
}

impl Swallower {
    fn on(port: u16) -> Self {
        let addr = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port));
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        socket.set_only_v6(true).unwrap();
        socket.bind(&addr.into()).unwrap();
        socket.listen(0).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
            queued.push(stream);
            assert!(queued.len() < 64, "{addr} accepts every connection");
        }
        Self { _socket: socket, _queued: queued }
    }
}

/// A node and a pool behind names whose first address is dead.
struct Rig {
    node: Bitcoind,
    pool: PoolHandle,
    dir: TempDir,
    _dead: Vec<Swallower>,
}

impl Rig {
    /// None where this user may not create namespaces.
    async fn build() -> Option<Self> {
        if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|it| it.success()) {
            println!("skipped: `unshare -rm` is not allowed here");
            return None;
        }
        // By default it would listen on ::1 as well.
        let args = ["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"];
        let node = Bitcoind::start_with(Network::Regtest, &args);
        node.generate(1);
        let pool = Pool::start(PoolOptions::default(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let pool = pool.await.unwrap();
        let port = |url: String| url.rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
        let urls = [Some(node.rpc_url()), node.zmq_url()].into_iter().flatten();
        let ports = urls.map(port).chain([pool.addr.port()]);
        let dead = ports.map(Swallower::on).collect();
        Some(Self { node, pool, dir: TempDir::with_prefix("gatewayd-").unwrap(), _dead: dead })
    }

    /// gatewayd with this argument, seeing this rig's own host names.
    fn command(&self, argument: &str) -> Command {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        fs::write(path("hosts"), HOSTS).unwrap();
        let pool = format!(
            "[[pool]]\nhost = \"pool.test\"\nport = {}\npublic_key = \"{}\"\n",
            self.pool.addr.port(),
            self.pool.public_key_hex()
        );
        let config = format!(
            "{}\n{pool}\n[mining]\naddress = \"{ADDRESS}\"\n\
             [stratum]\nlisten = [\"127.0.0.1:0\"]\ndifficulty_min = 0.00025\n\
             difficulty_start = 0.00025\n[api]\nlisten = \"\"\n[log]\nlevel = \"debug\"\n\
             [ledger]\ndata_dir = \"{}\"\n",
            self.node.node_toml().replace("127.0.0.1", "node.test"),
            self.dir.path().display(),
        );
        fs::write(path("gatewayd.toml"), config).unwrap();
        let gatewayd = Gateway::command();
        let script = format!(
            "mount --bind {} /etc/hosts && exec {} --config {} {argument}",
            path("hosts"),
            gatewayd.get_program().display(),
            path("gatewayd.toml"),
        );
        let mut command = Command::new("unshare");
        for (name, value) in gatewayd.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(["-rm", "sh", "-c", &script]);
        command
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_first_address_hides_neither_node_nor_pool() {
    let Some(rig) = Rig::build().await else { return };
    let started = Instant::now();
    let gateway = Gateway::start_command(rig.command("run"));
    gateway.wait_for_line("the node answers", Duration::from_secs(30));
    let node_after = started.elapsed();
    eventually("the pool is reached", Duration::from_secs(30), || {
        (rig.pool.stats().connections > 0).then_some(())
    });
    let pool_after = started.elapsed();
    println!("the node after {node_after:?}, the pool after {pool_after:?}");
    // Most of this time is the program's start.
    assert!(node_after < Duration::from_secs(2), "{node_after:?}");
    if rig.node.zmq_url().is_some() {
        gateway.wait_for_line("listening for new blocks over ZeroMQ", Duration::from_secs(30));
    }
    let options = MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.m"),
        hashrate_max: Some(1_500_000.0),
        ..MinerOptions::default()
    };
    let before = rig.node.height();
    let miner = Miner::start(options).unwrap();
    gateway.wait_for_line("block found", Duration::from_secs(30));
    let found = Instant::now();
    eventually("the block is in the node", Duration::from_secs(30), || {
        (rig.node.height() > before).then_some(())
    });
    let block_after = found.elapsed();
    miner.stop().await;
    assert!(block_after < Duration::from_secs(1), "{block_after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_gets_past_a_dead_first_address() {
    let Some(rig) = Rig::build().await else { return };
    let output = rig.command("check").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(text.contains("gives work"), "{text}");
    assert!(text.contains("pool pool.test:") && text.contains("has this key"), "{text}");
    assert!(!text.contains("PROBLEM"), "{text}");
}
