//! A real nginx in front of a real node: answers come in chunks, and gatewayd works as usual.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use gatewayd::devnet::miner::{Miner, MinerOptions};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(60);

/// An nginx that passes everything on to a node, and substitutes a word that never occurs, so that
/// it cannot know the length of an answer in advance.
struct Nginx {
    child: Child,
    addr: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Nginx {
    fn before(node: &Bitcoind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = free.local_addr().unwrap();
        drop(free);
        let config = config(dir.path(), addr, &node.rpc_url());
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config).unwrap();
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/opt/homebrew/bin/nginx"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("no nginx here: install it (Debian: apt-get install nginx-light)");
        let child = Command::new(program)
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("nginx listens", SOON, || TcpStream::connect(addr).ok());
        Self { child, addr, _dir: dir }
    }

    /// Its raw answer to a call.
    fn raw(&self, login: &str) -> String {
        let body = r#"{"id":0,"method":"uptime","params":[]}"#;
        let mut stream = TcpStream::connect(self.addr).unwrap();
        let login = bitcoincore_rpc::jsonrpc::base64::encode(login);
        let len = body.len();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {login}\r\n\
             Content-Length: {len}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers.
        crate::common::gateway::signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn config(dir: &Path, addr: SocketAddr, node: &str) -> String {
    let dir = dir.display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {dir}/{of};\n"))
        .concat();
    format!(
        "daemon off;\npid {dir}/pid;\nerror_log {dir}/error.log;\nworker_processes 1;\nevents {{}}\n\
         http {{\naccess_log off;\n{temp}client_max_body_size 16m;\nproxy_read_timeout 1h;\n\
         server {{\nlisten {addr};\nlocation / {{\nproxy_pass {node};\nproxy_http_version 1.1;\n\
         sub_filter_types application/json;\nsub_filter never-there never-there;\n}}\n}}\n}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn chunked_answers_are_as_good_as_others() {
    let mut node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=secret"]);
    node.make_segwit_mempool(200);
    let nginx = Nginx::before(&node);
    let raw = nginx.raw("me:secret").to_ascii_lowercase();
    assert!(raw.contains("\r\ntransfer-encoding: chunked\r\n"), "{raw}");

    let toml = node.node_toml().replace(&node.rpc_url(), &format!("http://{}", nginx.addr));
    let gateway = Gateway::start(&format!(
        "{toml}[mining]\naddress = \"{ADDRESS}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         difficulty_min = 0.00025\ndifficulty_start = 0.00025\n[api]\nlisten = \"127.0.0.1:0\"\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n"
    ));
    gateway.wait_for_line("the node gives work", SOON);
    let height = node.height();
    let miner = Miner::start(MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.a"),
        hashrate_max: Some(1_500_000.0),
        ..MinerOptions::default()
    })
    .unwrap();
    eventually("two blocks through nginx", SOON, || (node.height() >= height + 2).then_some(()));
    gateway.wait_for_line("block accepted", SOON);
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    let broken = gateway
        .lines()
        .into_iter()
        .find(|line| line.contains("chunks") || line.contains("no verdict"));
    assert_eq!(broken, None);
}
