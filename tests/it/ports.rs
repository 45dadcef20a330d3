//! Ports with rules of their own, difficulties by password and by settings, and clients at the
//! wrong port.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::common::{eventually, gateway::Gateway, http::get};
use gatewayd::{
    devnet::{
        miner::{Miner, MinerHandle, MinerOptions, MinerProtocol},
        node::{Node, NodeHandle, NodeOptions},
    },
    work::Nbits,
};
use serde_json::Value;

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(120);

/// Its blocks are out of reach, so that no difficulty is capped at a block's.
async fn node() -> NodeHandle {
    let nbits = Nbits::new(0x1700_ffff).unwrap();
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Node::start(NodeOptions { nbits, ..NodeOptions::default() }, any).await.unwrap()
}

fn toml(node: &NodeHandle, stratum: &str) -> String {
    format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n\
         [mining]\naddress = \"{ADDRESS}\"\n[api]\nlisten = \"127.0.0.1:0\"\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n{stratum}",
        node.rpc_url(),
        node.user(),
        node.password()
    )
}

/// All addresses that accept miners, in the order of the settings.
fn stratum_addrs(gateway: &Gateway, count: usize) -> Vec<SocketAddr> {
    eventually("all ports", SOON, || {
        let lines = gateway.lines();
        let lines = lines.iter().filter(|it| it.contains("listening protocol=stratum"));
        let addrs: Vec<_> =
            lines.map(|line| line.rsplit_once("addr=").unwrap().1.parse().unwrap()).collect();
        (addrs.len() == count).then_some(addrs)
    })
}

/// The difficulty sent to a miner that logs in with this password.
#[track_caller]
fn told(addr: SocketAddr, name: &str, password: &str) -> f64 {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let lines = format!(
        "{{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"{name}\",\"{password}\"]}}\n\
         {{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"test/1\"]}}\n"
    );
    socket.write_all(lines.as_bytes()).unwrap();
    let lines = BufReader::new(socket).lines().map(|line| line.unwrap());
    let set: Value = lines
        .map(|line| serde_json::from_str::<Value>(&line).unwrap())
        .find(|line| line["method"] == "mining.set_difficulty")
        .unwrap();
    set["params"][0].as_f64().unwrap()
}

const PORTS: &str = "[[stratum.port]]\nlisten = [\"127.0.0.1:0\"]\ndifficulty_min = 524288.0\n\
                     [[stratum.port]]\nlisten = [\"127.0.0.1:0\"]\ndifficulty_min = 0.5\n\
                     difficulty_start = 2.0\ndifficulty_max = 64.0\nmax_coinbase = 500\n";

#[tokio::test(flavor = "multi_thread")]
async fn each_port_has_its_rules_and_they_change_while_it_runs() {
    let node = node().await;
    let workers = "[stratum.worker_difficulty]\n\"bc1qme.rig\" = 7.0\n";
    let gateway = Gateway::start(&toml(&node, &format!("{PORTS}{workers}")));
    let [main, rentals, small] = stratum_addrs(&gateway, 3)[..] else { panic!("three ports") };
    for (addr, password, wanted) in [
        (main, "x", 16_384.0),
        (main, "d=65536", 65_536.0),
        (main, "d=2", 16_384.0),
        (rentals, "x", 524_288.0),
        (rentals, "x,d=1M", 1e6),
        (rentals, "fd=100", 524_288.0),
        (small, "x", 2.0),
        (small, "d=0.25", 0.5),
        (small, "diff=1k", 64.0),
    ] {
        assert_eq!(told(addr, "bc1qme.one", password), wanted, "{addr} {password}");
        assert_eq!(told(addr, "bc1qme.rig", password), 7.0, "the operator's setting");
    }
    let status = get(gateway.addr("http"), "/api/v1/status").json();
    assert_eq!(status["stratum"]["listen"].as_array().unwrap().len(), 3, "{status}");
    assert_eq!(status["stratum"]["ports"][1]["difficulty_max"], 64.0, "{status}");
    assert_eq!(status["stratum"]["ports"][0]["difficulty_start"], Value::Null, "{status}");

    let changed = toml(&node, &PORTS.replace("difficulty_start = 2.0", "difficulty_start = 8.0"));
    let file = gateway.dir().join("gatewayd.toml");
    fs::write(&file, changed.replace("{dir}", gateway.dir().to_str().unwrap())).unwrap();
    gateway.signal("HUP");
    gateway.wait_for_line("settings changed, in effect now", SOON);
    eventually("the new rules", SOON, || (told(small, "bc1qme.rig", "x") == 8.0).then_some(()));
    let moved = toml(
        &node,
        &PORTS.replace(
            "listen = [\"127.0.0.1:0\"]\ndifficulty_min = 0.5",
            "listen = [\"127.0.0.1:1\"]\ndifficulty_min = 0.5",
        ),
    );
    fs::write(&file, moved.replace("{dir}", gateway.dir().to_str().unwrap())).unwrap();
    gateway.signal("HUP");
    let line = gateway.wait_for_line("that need a restart", SOON);
    assert!(line.contains("stratum.port"), "{line}");
    assert_eq!(told(small, "bc1qme.rig", "x"), 8.0, "the old rules stay");
}

/// A Stratum V2 miner that trusts only this key.
fn miner(addr: SocketAddr, key: &str) -> MinerHandle {
    Miner::start(MinerOptions {
        connect: addr.to_string(),
        username: format!("{ADDRESS}.moved"),
        protocol: MinerProtocol::Sv2Standard,
        hashrate_max: Some(1000.0),
        authority: Some(key.parse().unwrap()),
        ..MinerOptions::default()
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_move_to_a_new_authority_key_while_the_old_one_stays_valid() {
    let node = node().await;
    let port =
        "[[stratum.port]]\nlisten = [\"127.0.0.1:0\"]\nauthority_key_file = \"{dir}/new.key\"\n";
    let gateway = Gateway::start(&toml(&node, port));
    let [old, new] = stratum_addrs(&gateway, 2)[..] else { panic!("two ports") };
    let api = gateway.addr("http");
    let access = get(api, "/api/v1/status").json()["stratum"].clone();
    let old_key = access["sv2_authority_key"].as_str().unwrap();
    let new_key = access["ports"][0]["sv2_authority_key"].as_str().unwrap();
    assert_ne!(old_key, new_key);
    gateway.wait_for_line(new_key, SOON);
    let miners = [miner(old, old_key), miner(new, new_key), miner(new, old_key)];
    eventually("two of them mine, and one hangs up", SOON, || {
        let [old, new, wrong] = miners.each_ref().map(MinerHandle::stats);
        assert_eq!(wrong.jobs, 0, "it is shown an unknown key");
        (old.jobs > 0 && new.jobs > 0 && wrong.disconnects > 0).then_some(())
    });
    for miner in miners {
        miner.stop().await;
    }
}

/// The whole answer until the other end closes.
#[track_caller]
fn answer(addr: SocketAddr, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(request).unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_at_the_wrong_port_are_told_where_they_belong() {
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, ""));
    let (stratum, api) = (gateway.addr("stratum"), gateway.addr("http"));
    let page = answer(stratum, b"GET / HTTP/1.1\r\nHost: box.local:23334\r\nAccept: */*\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 400") && page.contains("This port is for miners"), "{page}");
    assert!(page.contains("stratum+tcp://box.local:23334"), "{page}");
    let line = gateway.wait_for_line("web browser", SOON);
    assert!(line.contains("api.listen"), "{line}");

    let subscribe = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"bitaxe/x\"]}\n";
    let told = answer(api, subscribe);
    let port = format!("port {}", stratum.port());
    assert!(told.contains(&port), "{told}");
    let line = gateway.wait_for_line("speaks Stratum V1", SOON);
    assert!(
        line.contains("stratum.listen") && line.contains(&stratum.port().to_string()),
        "{line}"
    );
    let key: Vec<u8> = (0..64_u8).map(|at| at.wrapping_mul(167).wrapping_add(90)).collect();
    assert_eq!(answer(api, &key), "");

    let mut small = TcpStream::connect(stratum).unwrap();
    let suggest = b"{\"id\":2,\"method\":\"mining.suggest_difficulty\",\"params\":[512]}\n";
    small.write_all(&[subscribe.as_slice(), suggest].concat()).unwrap();
    let line = gateway.wait_for_line("512", SOON);
    assert!(line.contains("stratum.difficulty_min"), "{line}");
    let warnings = eventually("three warnings", SOON, || {
        let all = get(api, "/api/v1/status").json()["warnings"].to_string();
        let codes = ["browser-at-stratum", "miner-at-dashboard", "difficulty-wish"];
        codes.iter().all(|code| all.contains(code)).then_some(all)
    });
    assert!(warnings.contains("Stratum V2"), "{warnings}");
    // Browsers are served as before.
    assert_eq!(get(api, "/").status, 200);
    let before = gateway.line_count();
    for _ in 0..50 {
        answer(api, subscribe);
    }
    let said = gateway.lines()[before..].iter().filter(|it| it.contains("speaks Stratum")).count();
    assert_eq!(said, 0, "it was said a moment ago");
}
