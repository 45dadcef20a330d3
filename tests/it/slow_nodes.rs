//! Nodes that are short of RPC threads, or take long to answer.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use bitcoin::Network;
use bitcoincore_rpc::RpcApi;
use gatewayd::devnet::miner::{Miner, MinerOptions};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A gateway on the `[[node]]` section.
fn gateway(node: &str) -> Gateway {
    Gateway::start(&format!(
        r#"
        {node}
        [mining]
        address = "{ADDRESS}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.00025
        difficulty_start = 0.00025
        [api]
        listen = ""
        [log]
        level = "debug"
        [ledger]
        data_dir = "{{dir}}"
        "#
    ))
}

fn without_zmq(section: &str) -> String {
    section
        .lines()
        .filter(|line| !line.starts_with("zmq_"))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// Mines some blocks through `gateway`; returns the longest time that one took to reach the node.
async fn mine(gateway: &Gateway, node: &Bitcoind) -> Duration {
    let goal = node.height() + 5;
    let options = MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.m"),
        hashrate_max: Some(1_500_000.0),
        ..MinerOptions::default()
    };
    let miner = Miner::start(options).unwrap();
    eventually("five blocks", Duration::from_secs(120), || (node.height() >= goal).then_some(()));
    miner.stop().await;
    let lines = gateway.lines();
    let accepted = lines.iter().filter(|line| line.contains("block accepted"));
    let took = accepted.map(|line| {
        let hash = line.split("hash=").nth(1).unwrap().split(' ').next().unwrap();
        let is_it = |line: &&String| line.contains("block found") && line.contains(hash);
        let found = lines.iter().find(is_it).unwrap();
        logged_at(line).saturating_sub(logged_at(found))
    });
    took.max().unwrap()
}

/// The time of day at the beginning of a line, such as `2026-11-27T07:43:08.403747Z`.
fn logged_at(line: &str) -> Duration {
    let part = |at: std::ops::Range<usize>| line[at].parse::<u64>().unwrap();
    let seconds = part(11..13) * 3600 + part(14..16) * 60 + part(17..19);
    Duration::from_secs(seconds) + Duration::from_micros(part(20..26))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_one_rpc_thread_gets_blocks_at_once() {
    for has_zmq in [false, true] {
        let node = Bitcoind::start_with(Network::Regtest, &["-rpcthreads=1"]);
        if has_zmq && node.zmq_url().is_none() {
            println!("skipped: this bitcoind was built without ZeroMQ");
            continue;
        }
        node.generate(1);
        let section = node.node_toml();
        let gateway = gateway(&if has_zmq { section } else { without_zmq(&section) });
        gateway.wait_for_line("template: full work sent", Duration::from_secs(20));
        let took = mine(&gateway, &node).await;
        assert!(took < Duration::from_secs(1), "ZeroMQ {has_zmq}: {took:?}");
        if !has_zmq {
            let advice = gateway.wait_for_line("no RPC thread to spare", Duration::from_secs(20));
            assert!(advice.contains("WARN") && advice.contains("rpcthreads=16"), "{advice}");
            // It is retried, but not logged again.
            let start = gateway.line_count();
            let again = "no RPC thread left besides the one that waits";
            gateway.wait_for_line_after(start, again, Duration::from_secs(60));
            let lines = gateway.lines();
            let said = lines.iter().filter(|it| it.contains("no RPC thread to spare")).count();
            assert_eq!(said, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_threads_others_hold_gets_blocks_at_once() {
    let node = Bitcoind::start_with(Network::Regtest, &["-rpcthreads=4"]);
    node.generate(1);
    for _ in 0..3 {
        // A client of its own for each, for ever.
        let rpc = node.rpc();
        thread::spawn(move || {
            let params = [1_000_000.into(), 0.into()];
            rpc.call::<serde::de::IgnoredAny>("waitforblockheight", &params)
        });
    }
    let gateway = gateway(&without_zmq(&node.node_toml()));
    gateway.wait_for_line("template: full work sent", Duration::from_secs(20));
    let took = mine(&gateway, &node).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn check_reports_a_node_without_a_thread_to_spare() {
    for (threads, is_short) in [("-rpcthreads=1", true), ("-rpcthreads=2", false)] {
        let node = Bitcoind::start_with(Network::Regtest, &[threads]);
        node.generate(1);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gatewayd.toml");
        let config = format!(
            "{}\n[mining]\naddress = \"{ADDRESS}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
             [api]\nlisten = \"\"\n[ledger]\ndata_dir = \"{}\"\n",
            node.node_toml(),
            dir.path().display()
        );
        std::fs::write(&file, config).unwrap();
        let output = Gateway::command().arg("--config").arg(&file).arg("check").output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(text.contains("PROBLEM node"), is_short, "{threads}: {text}");
        assert_eq!(text.contains("set rpcthreads=16"), is_short, "{threads}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_threads_to_spare_is_long_polled() {
    let node = Bitcoind::start_with(Network::Regtest, &["-rpcthreads=2"]);
    node.generate(1);
    let gateway = gateway(&without_zmq(&node.node_toml()));
    gateway.wait_for_line("template: full work sent", Duration::from_secs(20));
    eventually("a tip that a wait tells of", Duration::from_secs(30), || {
        let tip = node.generate(1)[0].to_string();
        let line = gateway.wait_for_line(&format!("tip={tip}"), Duration::from_secs(10));
        line.contains("from=LongPoll").then_some(())
    });
}

/// Passes requests on at once, and answers later.
fn delay(to: SocketAddr, by: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for here in listener.incoming() {
            let (Ok(here), Ok(there)) = (here, TcpStream::connect(to)) else { return };
            for stream in [&here, &there] {
                stream.set_nodelay(true).unwrap();
            }
            pass(here.try_clone().unwrap(), there.try_clone().unwrap(), Duration::ZERO);
            pass(there, here, by);
        }
    });
    addr
}

fn pass(mut from: TcpStream, mut to: TcpStream, by: Duration) {
    let (sender, parts) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + by, buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, part) in parts {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&part).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// A `[[node]]` section whose answers are delayed by `by`.
fn delayed(node: &Bitcoind, by: Duration) -> String {
    let address = node.rpc_url().strip_prefix("http://").unwrap().to_owned();
    let proxy = delay(address.parse().unwrap(), by);
    node.node_toml().replace(&address, &proxy.to_string())
}

#[test]
fn full_work_takes_no_longer_than_the_nodes_answer() {
    for delay_ms in [1100, 2000] {
        let delay = Duration::from_millis(delay_ms);
        let node = Bitcoind::regtest();
        node.generate(1);
        let gateway = gateway(&delayed(&node, delay));
        gateway.wait_for_line("template: full work sent", Duration::from_secs(60));
        // ZeroMQ is not delayed, once its subscription has got through. Without it, the
        // notification is an answer too.
        let (by, answers) = match node.zmq_url() {
            Some(_) => ("from=Zmq", 1),
            None => ("from=LongPoll", 2),
        };
        eventually("a tip by the usual way", Duration::from_secs(60), || {
            let tip = node.generate(1)[0].to_string();
            full_on(&gateway, &tip);
            gateway.lines().iter().any(|line| line.contains(by)).then_some(())
        });
        for _ in 0..4 {
            let (tip, start) = (node.generate(1)[0], Instant::now());
            full_on(&gateway, &tip.to_string());
            let took = start.elapsed();
            // A busy machine takes its time; this once took 5 to 45 s.
            assert!(took < delay * answers + Duration::from_secs(1), "{delay:?} each: {took:?}");
        }
    }
}

/// Waits for full work on this tip.
fn full_on(gateway: &Gateway, tip: &str) {
    eventually("full work", Duration::from_secs(60), || {
        let is_it = |line: &String| line.contains("full work sent") && line.contains(tip);
        gateway.lines().iter().any(is_it).then_some(())
    });
}
