//! A real HAProxy in front of gatewayd: miners are seen as themselves, and the headers of untrusted
//! proxies do not count.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
};

use gatewayd::devnet::miner::{Miner, MinerOptions, MinerProtocol};
use socket2::{Domain, Socket, Type};

use super::{ADDRESS, SOON, SUBSCRIBE, node, peers, stratum_addrs, toml};
use crate::common::{
    eventually,
    gateway::Gateway,
    haproxy::{HaProxy, ProxyEntry, free_addr},
};

/// Where HAProxy connects from; miners use other addresses of this machine.
const PROXY: &str = "127.0.0.9";

/// A connection from an address of the test's choice.
fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// The first line of the answer; empty if the connection is closed instead.
fn answer(socket: &mut TcpStream, said: &[u8]) -> String {
    let mut line = String::new();
    // The other side may be gone before all is sent.
    let _ = socket.write_all(said);
    let _ = BufReader::new(socket).read_line(&mut line);
    line
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_behind_haproxy_mine_as_themselves_and_its_checks_are_not_miners() {
    let node = node().await;
    let port = "[[stratum.port]]\nlisten = [\"127.0.0.1:0\"]\ndifficulty_min = 0.00002\n";
    let trusted = format!("trusted_proxies = [\"{PROXY}\"]\n{port}");
    let gateway = Gateway::start(&toml(&node, &trusted));
    let [main, other] = stratum_addrs(&gateway, 2)[..] else { panic!("two ports") };
    let with = |words: &str| format!("source {PROXY} {words} check inter 100ms");
    let v1 = with("send-proxy");
    let v2 = with("send-proxy-v2 proxy-v2-options crc32c,unique-id");
    // Checks that only connect.
    let plain = with(&format!("send-proxy addr {} port {}", main.ip(), main.port()));
    let proxy = HaProxy::start(&[
        ProxyEntry { to: main, server: &v1 },
        ProxyEntry { to: main, server: &v2 },
        ProxyEntry { to: other, server: &v2 },
        ProxyEntry { to: main, server: &plain },
    ]);
    let api = gateway.addr("http");
    let mut miners = Vec::new();
    for (at, addr) in proxy.addrs.iter().enumerate() {
        for protocol in [MinerProtocol::Sv1, MinerProtocol::Sv2Extended] {
            let options = MinerOptions {
                connect: addr.to_string(),
                protocol,
                username: format!("{ADDRESS}.way{at}"),
                hashrate_max: Some(100_000.0),
                ..MinerOptions::default()
            };
            miners.push(Miner::start(options).unwrap());
        }
    }
    eventually("shares by every way", SOON, || {
        miners.iter().all(|miner| miner.stats().accepted > 0).then_some(())
    });
    let seen = peers(api);
    assert_eq!(seen.len(), miners.len(), "{seen:?}");
    assert!(seen.iter().all(|peer| peer.starts_with("127.0.0.1:")), "{seen:?}");
    eventually("checks that passed", SOON, || {
        let passed = proxy.figure("check_status").iter().all(|status| status == "L4OK");
        (passed && proxy.figure("status").iter().all(|status| status == "UP")).then_some(())
    });
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    }
    eventually("nobody", SOON, || peers(api).is_empty().then_some(()));
    let is_complaint = |line: &String| line.contains("PROXY") || line.contains(PROXY);
    let complaints: Vec<_> = gateway.lines().into_iter().filter(is_complaint).collect();
    assert_eq!(complaints, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_log_lines_apply_to_the_miner_and_not_the_proxy() {
    let node = node().await;
    let limit = format!("max_connections_per_ip = 2\ntrusted_proxies = [\"{PROXY}/32\"]\n");
    let gateway = Gateway::start(&toml(&node, &limit));
    let server = format!("source {PROXY} send-proxy-v2");
    let to = gateway.addr("stratum");
    let proxy = HaProxy::start(&[ProxyEntry { to, server: &server }]);
    let from = |from: &str| connect(from, proxy.addrs[0]);
    let (mut first, mut second) = (from("127.0.0.77"), from("127.0.0.77"));
    assert!(answer(&mut first, SUBSCRIBE).contains("result"));
    assert!(answer(&mut second, SUBSCRIBE).contains("result"));
    assert_eq!(answer(&mut from("127.0.0.77"), SUBSCRIBE), "");
    let line = gateway.wait_for_line("stratum.max_connections_per_ip", SOON);
    assert!(line.contains("peer=127.0.0.77:") && !line.contains(PROXY), "{line}");
    assert!(answer(&mut from("127.0.0.78"), SUBSCRIBE).contains("result"));
    // What a session logs about its miner names the miner too.
    assert!(answer(&mut from("127.0.0.79"), b"GET / HTTP/1.1\r\n\r\n").contains("400"));
    let line = gateway.wait_for_line("with a web browser", SOON);
    assert!(line.contains("127.0.0.79:"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_must_send_a_header_and_nobody_else_may() {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 23334\r\n";
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, ""));
    let stratum = gateway.addr("stratum");
    let said = [HEADER, SUBSCRIBE].concat();
    assert_eq!(answer(&mut connect(PROXY, stratum), &said), "");
    let line = gateway.wait_for_line("sends a PROXY header", SOON);
    assert!(line.contains("stratum.trusted_proxies") && line.contains(PROXY), "{line}");

    let trusting = toml(&node, &format!("trusted_proxies = [\"{PROXY}\"]\n"));
    let file = gateway.dir().join("gatewayd.toml");
    fs::write(&file, trusting.replace("{dir}", gateway.dir().to_str().unwrap())).unwrap();
    gateway.signal("HUP");
    let miner = eventually("the header is believed", SOON, || {
        let mut miner = connect(PROXY, stratum);
        answer(&mut miner, &said).contains("result").then_some(miner)
    });
    assert_eq!(peers(gateway.addr("http")), ["192.0.2.7:4711"]);
    drop(miner);

    // Byte by byte, followed by the session's first line.
    let mut slow = connect(PROXY, stratum);
    for byte in &said[..said.len() - 1] {
        slow.write_all(&[*byte]).unwrap();
    }
    assert!(answer(&mut slow, b"\n").contains("result"));

    // The header is mandatory: otherwise whoever gets past the proxy could lie.
    assert_eq!(answer(&mut connect(PROXY, stratum), SUBSCRIBE), "");
    let line = gateway.wait_for_line("did not begin with a PROXY header", SOON);
    assert!(line.contains("send-proxy") && line.contains("stratum.trusted_proxies"), "{line}");
    // A silent one holds nobody up, and is disconnected in the end.
    let mut silent = connect(PROXY, stratum);
    assert!(answer(&mut connect("127.0.0.1", stratum), SUBSCRIBE).contains("result"));
    assert_eq!(answer(&mut silent, b""), "");
    assert_eq!(answer(&mut connect("127.0.0.1", stratum), &said), "", "not everybody is a proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_notices_that_everybody_is_trusted() {
    let node = node().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gatewayd.toml");
    let toml = toml(&node, "trusted_proxies = [\"10.0.0.5\", \"::/0\"]\n");
    fs::write(&path, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let output = Gateway::command().arg("--config").arg(&path).arg("check").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains("NOTICE  stratum.trusted_proxies: ::/0 means everybody"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_works_as_the_readme_says() {
    let readme = fs::read_to_string("README.md").unwrap();
    let block = |kind: &str, has: &str| {
        let fence = format!("```{kind}\n");
        let mut all = readme.split(&fence).skip(1);
        let block = all.find(|it| it.split("```").next().unwrap().contains(has)).unwrap();
        block.split("```").next().unwrap().to_owned()
    };
    let node = node().await;
    let trusted = block("toml", "trusted_proxies").replace("[stratum]\n", "");
    let gateway = Gateway::start(&toml(&node, &trusted.replace("10.0.0.5", "127.0.0.1")));
    let (stratum, addr) = (gateway.addr("stratum"), free_addr());
    let config = block("haproxy", "bind").replace(":23334\n", &format!("{addr}\n"));
    let proxy = HaProxy::start_with(&config.replace("10.0.0.9:23334", &stratum.to_string()), addr);
    let mut miner = connect("127.0.0.77", proxy.addrs[0]);
    assert!(answer(&mut miner, SUBSCRIBE).contains("result"));
    let seen = peers(gateway.addr("http"));
    assert!(seen.iter().any(|peer| peer.starts_with("127.0.0.77:")), "{seen:?}");
}
