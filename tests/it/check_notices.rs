//! What `gatewayd check` says about a configuration that works but could be better, and what the
//! log and the page say about a silent ZeroMQ.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway, http::get};
use bitcoin::Network;
use gatewayd::devnet::{
    node::{Node, NodeOptions},
    pool::{Pool, PoolConfig, PoolOptions},
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(60);

fn config(nodes: &str) -> String {
    format!(
        "{nodes}[mining]\naddress = \"{ADDRESS}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         [api]\nlisten = \"127.0.0.1:0\"\n[ledger]\ndata_dir = \"{{dir}}\"\n"
    )
}

/// Exit code and output of `gatewayd check`.
fn check(toml: &str, args: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gatewayd.toml");
    fs::write(&path, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let mut command = Gateway::command();
    let output = command.arg("--config").arg(&path).arg("check").args(args).output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), told)
}

/// A node whose ZeroMQ publishes something else, or that was built without it.
fn deaf(args: &[&str]) -> (Bitcoind, String) {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let publisher = format!("-zmqpubrawblock=tcp://127.0.0.1:{port}");
    let args = [&["-nozmqpubhashblock", &publisher], args].concat();
    let node = Bitcoind::start_with(Network::Regtest, &args);
    let toml = config(&with_zmq(&node, &format!("tcp://127.0.0.1:{port}")));
    (node, toml)
}

/// The node's section, with this for its ZeroMQ.
fn with_zmq(node: &Bitcoind, endpoint: &str) -> String {
    let toml = node.node_toml();
    let lines = toml.lines().filter(|line| !line.starts_with("zmq_"));
    let own = format!("zmq_hashblock = \"{endpoint}\"");
    lines.chain([own.as_str()]).flat_map(|line| [line, "\n"]).collect()
}

fn warned(gateway: &Gateway, code: &str) -> Option<String> {
    let status = get(gateway.addr("http"), "/api/v1/status").json();
    let all = status["warnings"].as_array().unwrap();
    let found = all.iter().find(|warning| warning["code"] == code)?;
    Some(format!("{} {}", found["text"], found["advice"]))
}

#[test]
fn a_zeromq_without_blocks_is_noticed() {
    let (node, toml) = deaf(&[]);
    let (code, told) = check(&toml, &[]);
    assert_eq!(code, Some(0), "{told}");
    let notice = told.lines().find(|line| line.starts_with("NOTICE  node ")).unwrap();
    let why = match node.zmq_url() {
        Some(_) => "does not publish hashblock: set zmqpubhashblock",
        None => "was built without ZeroMQ",
    };
    assert!(notice.contains(why), "{notice}");
    let gateway = Gateway::start(&toml);
    gateway.wait_for_line("ZeroMQ announces no blocks", SOON);
    let text = eventually("the page says so", SOON, || warned(&gateway, "node-zmq"));
    assert!(text.contains(why), "{text}");
    node.generate(1);
    gateway.wait_for_line("the node gives work", SOON);
    let said = gateway.lines().iter().filter(|line| line.contains("ZeroMQ announces no")).count();
    assert_eq!(said, 1);

    let hears = Bitcoind::regtest();
    let toml = config(&hears.node_toml());
    let (code, told) = check(&toml, &[]);
    assert_eq!((code, told.contains("NOTICE  node ")), (Some(0), false), "{told}");
    let gateway = Gateway::start(&toml);
    gateway.wait_for_line("the node gives work", SOON);
    assert_eq!(warned(&gateway, "node-zmq"), None);
}

/// Where the node does not say what it publishes, blocks show it.
#[test]
fn a_silent_zeromq_is_noticed_when_blocks_arrive() {
    let allowed = "getblocktemplate,getblockchaininfo,getnetworkinfo,getbestblockhash,\
                   getblockheader,generatetoaddress,getblockcount,stop,uptime,waitforblockheight";
    let allowed = format!("-rpcwhitelist=u:{allowed}");
    let (node, toml) = deaf(&["-rpcuser=u", "-rpcpassword=p", &allowed]);
    let gateway = Gateway::start(&toml);
    gateway.wait_for_line("the node gives work", SOON);
    assert_eq!(warned(&gateway, "node-zmq"), None);
    eventually("the silence is noticed", SOON, || {
        node.generate(1);
        thread::sleep(Duration::from_secs(1));
        gateway.lines().iter().any(|line| line.contains("ZeroMQ announces no blocks")).then_some(())
    });
    let text = warned(&gateway, "node-zmq").unwrap();
    assert!(text.contains("getzmqnotifications"), "{text}");
}

/// What a hostile publisher sends, from its first byte on.
fn hostile() -> Vec<Vec<u8>> {
    let mut open = b"\xFF\0\0\0\0\0\0\0\0\x7F\x03\x01NULL".to_vec();
    open.resize(64, 0);
    open.extend_from_slice(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB");
    let with = |bytes: &[u8]| [&open[..], bytes].concat();
    let parts = b"\x01\x09hashblock".repeat(1 << 20);
    // A frame of 2^40 bytes, endless parts, and another mechanism.
    vec![with(b"\x02\0\0\x01\0\0\0\0\0"), with(&parts), {
        let mut greeting = b"\xFF\0\0\0\0\0\0\0\0\x7F\x03\x01CURVE".to_vec();
        greeting.resize(64, 0);
        greeting
    }]
}

/// Nine bytes from a publisher once ended the process, at every start.
#[test]
fn a_hostile_zeromq_costs_no_tip() {
    let publisher = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("tcp://{}", publisher.local_addr().unwrap());
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    thread::spawn(move || {
        for (stream, bytes) in publisher.incoming().zip(hostile().into_iter().cycle()) {
            // It hangs up as soon as it has had enough.
            let _ = stream.unwrap().write_all(&bytes);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let node = Bitcoind::regtest();
    let toml = config(&with_zmq(&node, &endpoint));
    let gateway = Gateway::start(&toml);
    let line = gateway.wait_for_line("zmq_hashblock: ZeroMQ failed", SOON);
    for words in [&endpoint, "a frame of 1099511627776 bytes", "getzmqnotifications"] {
        assert!(line.contains(words), "{words} is not in {line}");
    }
    eventually("each was tried", SOON, || (served.load(Ordering::Relaxed) >= 3).then_some(()));
    for _ in 0..3 {
        let tip = node.generate(1)[0].to_string();
        eventually("the new tip is worked on", SOON, || {
            let answer = get(gateway.addr("http"), "/api/v1/nodes");
            let told = answer.text();
            told.contains(&format!("\"height\":{}", node.height())).then_some(())
        });
        assert_eq!(node.best_hash().to_string(), tip);
    }
    let text = eventually("the page says so", SOON, || warned(&gateway, "node-zmq"));
    assert!(text.contains(&endpoint) && text.contains("no node sends that"), "{text}");
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 200_000, "{peak} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_is_too_high_for_a_miner_is_noticed() {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = Node::start(NodeOptions::default(), here).await.unwrap();
    let terms = PoolConfig { min_difficulty: 65_536, ..PoolConfig::default() };
    let options = PoolOptions { config: terms, ..PoolOptions::default() };
    let pool = Pool::start(options, here).await.unwrap();
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    let toml = config(&format!(
        "[[node]]\nrpc_url = \"{url}\"\nrpc_user = \"{user}\"\nrpc_password = \"{password}\"\n\
         [[pool]]\nhost = \"127.0.0.1:{port}\"\npublic_key = \"{key}\"\n"
    ));
    // 65,536 * 2^32 hashes are 78.2 hours of 1 GH/s; the gateway's own 16,384 are a quarter.
    let (code, told) = check(&toml, &["--hashrate", "1 GH/s"]);
    assert_eq!(code, Some(0), "{told}");
    let notice = |of: &str| {
        let start = format!("NOTICE  {of}");
        told.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{told}"))
    };
    assert!(
        notice(&format!("pool 127.0.0.1:{port}: "))
            .contains("difficulty 65536 only once in 3.3 days"),
        "{told}"
    );
    assert!(notice("stratum.difficulty_min: ").contains("only once in 19.5 hours"), "{told}");
    let (code, told) = check(&toml, &["--hashrate=1.2T"]);
    assert_eq!((code, told.contains("NOTICE  node ")), (Some(0), false), "{told}");
    let (code, told) = check(&toml, &["--hashrate", "fast"]);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("1.2T"), "{told}");
}
