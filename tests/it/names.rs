//! Miners' names that no pool can pay: reported at login, once each, and rejected where configured.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use gatewayd::devnet::{
    miner::{Miner, MinerOptions, MinerProtocol},
    node::{Node, NodeHandle, NodeOptions},
    pool::{Pool, PoolHandle, PoolOptions},
};
use serde_json::Value;

use crate::common::{eventually, gateway::Gateway, http::get};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(120);

async fn network() -> (NodeHandle, PoolHandle) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let node = Node::start(NodeOptions::default(), any).await.unwrap();
    (node, Pool::start(PoolOptions::default(), any).await.unwrap())
}

fn start(node: &NodeHandle, pool: Option<&PoolHandle>, pooling: &str) -> Gateway {
    let pool = pool.map_or_else(String::new, |pool| {
        let (addr, key) = (pool.addr, pool.public_key_hex());
        let (host, port) = (addr.ip(), addr.port());
        format!("[[pool]]\nhost = \"{host}\"\nport = {port}\npublic_key = \"{key}\"\n")
    });
    Gateway::start(&format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n{pool}\
         [mining]\naddress = \"{ADDRESS}\"\n[pooling]\n{pooling}\n\
         [stratum]\nlisten = [\"127.0.0.1:0\"]\ndifficulty_min = 0.00001\n\
         difficulty_start = 0.00001\n[api]\nlisten = \"127.0.0.1:0\"\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n",
        node.rpc_url(),
        node.user(),
        node.password()
    ))
}

/// A miner that has logged in with this name, and what it was told.
fn login(gateway: &Gateway, name: &str, is_early: bool) -> (TcpStream, Value) {
    let mut socket = TcpStream::connect(gateway.addr("stratum")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let name = serde_json::to_string(name).unwrap();
    let authorize =
        format!("{{\"id\":7,\"method\":\"mining.authorize\",\"params\":[{name},\"x\"]}}\n");
    let subscribe = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test/1\"]}\n";
    let [one, two] = if is_early { [&*authorize, subscribe] } else { [subscribe, &*authorize] };
    socket.write_all(format!("{one}{two}").as_bytes()).unwrap();
    let lines = BufReader::new(socket.try_clone().unwrap()).lines().map(|line| line.unwrap());
    let mut answers = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let answer = answers.find(|answer| answer["id"] == 7).unwrap();
    (socket, answer)
}

fn rows(gateway: &Gateway) -> Vec<Value> {
    get(gateway.addr("http"), "/api/v1/miners").json()["miners"].as_array().unwrap().clone()
}

fn warned(gateway: &Gateway) -> Option<String> {
    let status = get(gateway.addr("http"), "/api/v1/status").json();
    let warnings = status["warnings"].as_array().unwrap();
    let found = warnings.iter().find(|it| it["code"] == "name-without-address");
    found.map(|it| it["text"].as_str().unwrap().to_owned())
}

/// How often it was logged, once it was.
#[track_caller]
fn said_in_the_end(gateway: &Gateway, name: &str) -> usize {
    gateway.wait_for_line(&format!("mines as \"{name}\""), SOON);
    said(gateway, name)
}

fn said(gateway: &Gateway, name: &str) -> usize {
    let name = format!("mines as \"{name}\"");
    gateway.lines().iter().filter(|line| line.contains(&name)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_without_an_address_is_said_in_log_table_and_warnings_while_pooled() {
    let (node, pool) = network().await;
    let gateway = start(&node, Some(&pool), "");
    let (fine, answer) = login(&gateway, &format!("{ADDRESS}.rig"), false);
    assert_eq!(answer["result"], true);
    assert_eq!(warned(&gateway), None);
    assert_eq!(rows(&gateway)[0]["unpayable_name"], Value::Null);
    drop(fine);
    for is_early in [false, true, false] {
        let (_socket, answer) = login(&gateway, "garage", is_early);
        assert_eq!(answer["result"], true, "it mines all the same");
        eventually("the table says so", SOON, || {
            rows(&gateway).iter().any(|row| row["unpayable_name"] == "garage").then_some(())
        });
        let text = warned(&gateway).unwrap();
        assert!(text.contains("\"garage\"") && text.contains("the pool can pay nobody"), "{text}");
    }
    assert_eq!(said_in_the_end(&gateway, "garage"), 1, "once, however often it comes back");
    // Not for ever: names that nobody uses any more are no longer reported.
    eventually("it is over", SOON, || warned(&gateway).is_none().then_some(()));
    // A forger writes no lines of his own.
    let (_socket, _) = login(&gateway, "x\nERROR \u{202e}forged", false);
    eventually("shown harmless", SOON, || {
        let row = rows(&gateway).into_iter().find(|row| row["unpayable_name"] != Value::Null)?;
        let name = row["unpayable_name"].as_str()?.to_owned();
        (!name.contains('\n') && !name.contains('\u{202e}')).then_some(())
    });
    assert!(!gateway.lines().iter().any(|line| line.starts_with("ERROR")));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_where_names_pay_nobody_anyway() {
    let (node, pool) = network().await;
    for (pool, pooling) in [
        (None, ""),
        (Some(&pool), "usernames = \"worker\""),
        (Some(&pool), "usernames = \"address\"\nwithout_address = \"refuse\""),
        (None, "without_address = \"refuse\""),
    ] {
        let gateway = start(&node, pool, pooling);
        let (_socket, answer) = login(&gateway, "garage", false);
        assert_eq!(answer["result"], true, "{pooling}");
        assert_eq!(warned(&gateway), None, "{pooling}");
        assert_eq!(said(&gateway, "garage"), 0, "{pooling}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_refuse_names_without_an_address_in_both_protocols() {
    let (node, pool) = network().await;
    let gateway = start(&node, Some(&pool), "without_address = \"refuse\"");
    for is_early in [false, true] {
        let (_socket, answer) = login(&gateway, "garage", is_early);
        assert_eq!(answer["result"], Value::Null);
        assert_eq!(answer["error"][0], 24, "{answer}");
        assert!(answer["error"][1].as_str().unwrap().contains("bitcoin address"), "{answer}");
    }
    assert_eq!(said_in_the_end(&gateway, "garage"), 1);
    let connect = gateway.addr("stratum").to_string();
    let mine = |protocol, username: &str| {
        Miner::start(MinerOptions {
            protocol,
            connect: connect.clone(),
            username: username.into(),
            user_agent: "test/1".into(),
            hashrate_max: Some(20_000.0),
            ..MinerOptions::default()
        })
        .unwrap()
    };
    for protocol in [MinerProtocol::Sv1, MinerProtocol::Sv2Standard] {
        let good = mine(protocol, &format!("{ADDRESS}.rig"));
        eventually("its shares count", SOON, || (good.stats().accepted > 0).then_some(()));
        good.stop().await;
    }
    // Whoever ignores the rejection mines for nothing, as long as others mine for something.
    let bad = mine(MinerProtocol::Sv1, "garage");
    let good = mine(MinerProtocol::Sv1, &format!("{ADDRESS}.rig"));
    eventually("its shares count", SOON, || (good.stats().accepted > 1).then_some(()));
    assert_eq!(bad.stop().await.accepted, 0);
    good.stop().await;
    let workers = get(gateway.addr("http"), "/api/v1/workers").json();
    assert!(!workers.to_string().contains("garage"), "{workers}");
}
