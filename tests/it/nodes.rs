//! Several real nodes that die, freeze, disagree and come back, under one gateway.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::common::{
    bitcoind::Bitcoind, eventually, gateway::Gateway, http::get, templates::RunningTemplates,
};
use bitcoin::{BlockHash, Network};
use bitcoincore_rpc::RpcApi;
use gatewayd::{
    devnet::miner::{Miner, MinerHandle, MinerOptions},
    template::{NodeState, NodeStatus},
};

/// Addresses of test networks; nobody has their keys.
const SIGNET: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(60);

fn config(nodes: &[&Bitcoind], address: &str) -> String {
    let nodes: String = nodes.iter().map(|node| node.node_toml()).collect();
    format!(
        r#"
        {nodes}
        [mining]
        address = "{address}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.00005
        difficulty_start = 0.00005
        [api]
        listen = "127.0.0.1:0"
        [ledger]
        data_dir = "{{dir}}"
        "#
    )
}

/// A node's name in logs.
fn name(node: &Bitcoind) -> String {
    node.rpc_url().trim_start_matches("http://").to_owned()
}

fn states(gateway: &Gateway) -> Vec<(String, bool)> {
    let answer = get(gateway.addr("http"), "/api/v1/nodes").json();
    let nodes = answer["nodes"].as_array().unwrap();
    let state = |node: &serde_json::Value| {
        (node["state"].as_str().unwrap().to_owned(), node["is_active"].as_bool().unwrap())
    };
    nodes.iter().map(state).collect()
}

#[track_caller]
fn wait_states(gateway: &Gateway, wanted: &[(&str, bool)]) {
    eventually(&format!("nodes are {wanted:?}"), SOON, || {
        let states = states(gateway);
        let is_it = |(state, wanted): (&(String, bool), &(&str, bool))| {
            (state.0.as_str(), state.1) == (wanted.0, wanted.1)
        };
        (states.len() == wanted.len() && states.iter().zip(wanted).all(is_it)).then_some(())
    });
}

/// A miner that only reads.
struct Listener {
    reader: BufReader<TcpStream>,
}

impl Listener {
    /// Logs in, and returns when it has work.
    fn log_in(gateway: SocketAddr, username: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(gateway)?;
        stream.set_read_timeout(Some(SOON))?;
        let lines = format!(
            "{{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test/1\"]}}\n\
             {{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{username}\",\"x\"]}}\n"
        );
        (&stream).write_all(lines.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while !line.contains("mining.notify\",\"params") && !line.contains("\"params\":[\"") {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { reader })
    }

    /// True when the gateway has closed the connection.
    fn is_gone(&mut self) -> bool {
        self.reader.get_ref().set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match self.reader.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
    }
}

fn miner(gateway: &Gateway, address: &str, name: &str) -> MinerHandle {
    Miner::start(MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{address}.{name}"),
        hashrate_max: Some(60_000.0),
        ..MinerOptions::default()
    })
    .unwrap()
}

/// The preferred node hangs with 500 miners connected, some of whom find blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_costs_no_miner_and_no_share() {
    let (first, second) = (Bitcoind::signet(), Bitcoind::signet());
    let gateway = Gateway::start(&config(&[&first, &second], SIGNET));
    wait_states(&gateway, &[("ready", true), ("ready", false)]);
    let stratum = gateway.addr("stratum");
    let mut listeners: Vec<Listener> =
        (0..496).map(|at| Listener::log_in(stratum, &format!("{SIGNET}.{at}")).unwrap()).collect();
    let miners: Vec<_> = ["a", "b", "c", "d"].map(|name| miner(&gateway, SIGNET, name)).into();
    let shares = || miners.iter().map(|miner| miner.stats().accepted).sum::<u64>();
    let more_shares = |count: u64| {
        let wanted = shares() + count;
        eventually("more shares", SOON, || (shares() >= wanted).then_some(()));
    };
    more_shares(4);

    let before = gateway.line_count();
    let change = |from: &Bitcoind, to: &Bitcoind| {
        format!("another node from={} to={}", name(from), name(to))
    };
    first.freeze();
    let frozen_at = Instant::now();
    gateway.wait_for_line_after(before, &change(&first, &second), SOON);
    let took = frozen_at.elapsed();
    println!("a frozen node was left after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    more_shares(10);

    first.thaw();
    let thawed_at = Instant::now();
    let line = gateway.wait_for_line_after(before, &change(&second, &first), SOON);
    println!("taken back {:?} after it answers again: {line}", thawed_at.elapsed());
    more_shares(4);
    let lines = &gateway.lines()[before..];
    let changes = lines.iter().filter(|line| line.contains("templates now come from another node"));
    assert_eq!(changes.count(), 2, "{lines:#?}");
    let gone = listeners.iter_mut().filter_map(|it| it.is_gone().then_some(())).count();
    assert_eq!(gone, 0, "miners were sent away");
    for miner in miners {
        let stats = miner.stop().await;
        let lost = (stats.disconnects, stats.rejected);
        assert_eq!(lost, (0, 0), "{stats:?}");
    }
}

#[test]
fn without_nodes_miners_are_sent_away_and_with_the_first_they_may_return() {
    let (mut first, mut second) = (Bitcoind::regtest(), Bitcoind::regtest());
    let toml = config(&[&first, &second], REGTEST)
        .replace("[stratum]", "[stratum]\nstale_after = \"40s\"");
    let gateway = Gateway::start(&(toml + "[template]\nrefresh = \"2s\"\nstale_after = \"6s\"\n"));
    wait_states(&gateway, &[("ready", true), ("ready", false)]);
    let (stratum, api) = (gateway.addr("stratum"), gateway.addr("http"));
    let mut listener = Listener::log_in(stratum, REGTEST).unwrap();
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));

    let killed_at = Instant::now();
    first.kill();
    gateway.wait_for_line("templates now come from another node", SOON);
    println!("a dead node was left after {:?}", killed_at.elapsed());
    assert!(killed_at.elapsed() < Duration::from_secs(3), "{:?}", killed_at.elapsed());
    let killed_at = Instant::now();
    second.kill();
    assert!(!listener.is_gone());
    eventually("the miner is sent away", SOON, || listener.is_gone().then_some(()));
    let after = killed_at.elapsed();
    println!("with no node left, miners were sent away after {after:?}");
    // The last template was at most one refresh interval old.
    assert!((Duration::from_secs(3)..Duration::from_secs(12)).contains(&after), "{after:?}");
    let answer = get(api, "/readyz");
    assert_eq!(answer.status, 503, "{}", answer.text());
    for text in ["template.stale_after", &name(&first), &name(&second), "nothing answers"] {
        assert!(answer.text().contains(text), "{text} is not in {}", answer.text());
    }

    let before = gateway.line_count();
    second.start();
    let up_at = Instant::now();
    eventually("a miner may come", SOON, || Listener::log_in(stratum, REGTEST).ok());
    println!("a miner had work {:?} after the first node answered", up_at.elapsed());
    assert!(up_at.elapsed() < Duration::from_secs(4), "{:?}", up_at.elapsed());
    gateway.wait_for_line_after(before, "accepting miners", SOON);
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
}

/// A node of another network is listed first, and answers first: the address decides.
#[test]
fn a_node_on_another_chain_is_named_and_not_used() {
    let wrong = Bitcoind::signet();
    let mut right = Bitcoind::prepare(Network::Regtest, &[]);
    let gateway = Gateway::start(&config(&[&wrong, &right], REGTEST));
    let line = gateway.wait_for_line("this node is not used", SOON);
    assert!(line.contains(&name(&wrong)) && line.contains("mining.address"), "{line}");
    right.start();
    Listener::log_in(gateway.addr("stratum"), REGTEST).unwrap();
    wait_states(&gateway, &[("wrong-chain", false), ("ready", true)]);
}

impl RunningTemplates {
    #[track_caller]
    fn status(&self, what: &str, is_it: impl Fn(&[NodeStatus]) -> bool) -> Vec<NodeStatus> {
        eventually(what, 2 * SOON, || {
            let status = self.templates.status.borrow().clone();
            is_it(&status).then_some(status)
        })
    }

    #[track_caller]
    fn works_on(&self, tip: &BlockHash, source: &str) {
        eventually(&format!("work of {source} on {tip}"), SOON, || {
            let template = self.templates.templates.borrow().clone()?;
            let is_it = template.prevhash.to_string() == tip.to_string();
            (is_it && &*template.source == source).then_some(())
        });
    }

    /// Heights of all work, each time that it changed.
    fn heights(&self) -> Vec<u32> {
        let mut heights: Vec<u32> = self.seen.lock().unwrap().iter().map(|it| it.height).collect();
        heights.dedup();
        heights
    }
}

/// Blocks that no other node makes.
fn generate_own(node: &Bitcoind, count: u64) {
    let address = node.new_address();
    node.rpc().generate_to_address(count, &address).unwrap();
}

/// Submits to `to` all blocks of `from` above `height`.
fn submit_blocks(from: &Bitcoind, to: &Bitcoind, height: u64) {
    let (from, to) = (from.rpc(), to.rpc());
    for height in height + 1..=from.get_block_count().unwrap() {
        let hex = from.get_block_hex(&from.get_block_hash(height).unwrap()).unwrap();
        let _: Option<String> = to.call("submitblock", &[hex.into()]).unwrap();
    }
}

#[test]
fn a_reorganisation_is_followed_wherever_it_begins() {
    let (first, second) = (Bitcoind::regtest(), Bitcoind::regtest());
    first.generate(10);
    submit_blocks(&first, &second, 0);
    let side = RunningTemplates::start(&[("first", &first), ("second", &second)]);
    side.status("both are ready", |status| {
        status[0].is_active && status.iter().all(|node| node.state == NodeState::Ready)
    });
    // Cut off from each other: one finds three blocks, the other four.
    generate_own(&first, 3);
    side.works_on(&first.best_hash(), "first");
    generate_own(&second, 3);
    let began = Instant::now();
    generate_own(&second, 1);
    side.works_on(&second.best_hash(), "second");
    println!("the longer chain was worked on {:?} after its block was made", began.elapsed());
    // They see each other again: three blocks of the first are undone.
    submit_blocks(&second, &first, 10);
    assert_eq!(first.best_hash(), second.best_hash());
    side.works_on(&second.best_hash(), "first");
    let heights = side.heights();
    assert!(heights.is_sorted() && heights.last() == Some(&15), "work went back: {heights:?}");
}

#[test]
fn a_node_on_a_shorter_chain_is_left_and_named() {
    let (first, second, third) = (Bitcoind::regtest(), Bitcoind::regtest(), Bitcoind::regtest());
    first.generate(5);
    generate_own(&second, 8);
    submit_blocks(&second, &third, 0);
    let nodes = [("short", &first), ("long", &second), ("also-long", &third)];
    let side = RunningTemplates::start(&nodes);
    side.works_on(&second.best_hash(), "long");
    let status = side.status("the first is behind", |it| it[0].state == NodeState::Behind);
    assert!(status[1].is_active && status[2].state == NodeState::Ready);
    let why = status[0].last_error.as_deref().unwrap();
    assert!(why.starts_with("its last block is 5, but another node has had 8"), "{why}");
    submit_blocks(&second, &first, 0);
    side.works_on(&second.best_hash(), "short");
    side.status("all is well", |status| {
        status[0].is_active && status.iter().all(|node| node.state == NodeState::Ready)
    });
}

/// Every node in turn is the only one left; work never goes back, and the order is kept.
#[test]
fn three_nodes_fail_in_turn() {
    let mut nodes = [Bitcoind::regtest(), Bitcoind::regtest(), Bitcoind::regtest()];
    nodes[0].generate(3);
    submit_blocks(&nodes[0], &nodes[1], 0);
    submit_blocks(&nodes[0], &nodes[2], 0);
    let side = RunningTemplates::start(&[("a", &nodes[0]), ("b", &nodes[1]), ("c", &nodes[2])]);
    side.status("all are ready", |status| {
        status[0].is_active && status.iter().all(|node| node.state == NodeState::Ready)
    });
    let tip = nodes[0].best_hash();
    nodes[0].freeze();
    side.works_on(&tip, "b");
    nodes[1].kill();
    side.works_on(&tip, "c");
    nodes[0].thaw();
    side.works_on(&tip, "a");
    nodes[1].start();
    submit_blocks(&nodes[0], &nodes[1], 0);
    nodes[2].freeze();
    side.status("one is ill", |status| {
        status[0].is_active
            && status[1].state == NodeState::Ready
            && status[2].state == NodeState::Down
    });
    let hash = nodes[0].generate(1)[0];
    side.works_on(&hash, "a");
    nodes[2].thaw();
    side.status("it is behind, or ready", |status| status[2].state != NodeState::Down);
    assert_eq!(side.heights(), [4, 5]);
}
