//! A scripted node that does what a real one only does on a bad day.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::common::{bitcoind::Bitcoind, gateway::Gateway};
use bitcoin::{
    BlockHash, CompactTarget, Network, TxMerkleNode,
    block::{Header, Version},
    hashes::Hash as _,
};
use gatewayd::{
    node::{Auth, Fork, NodeConfig},
    template::{NodeState, NodeStatus, TemplateConfig, Templates},
    work::{Template, TemplateKind},
};
use tokio::{runtime::Runtime, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The node's current behaviour.
#[derive(Clone)]
struct Script {
    chain: &'static str,
    tip: u8,
    height: u32,
    password: String,
    /// Answered instead of a template.
    template_error: Option<(i32, &'static str)>,
    /// As in a template.
    rule: &'static str,
    has_commitment: bool,
    transactions: usize,
    bits: &'static str,
    /// The tip's.
    time: u64,
    /// Its headers, lowest first, if it shows whole headers; otherwise there is only a tip.
    blocks: Vec<Mined>,
    /// What the tip's header says in addition.
    chainwork: &'static str,
    /// As in a template, with what is added to its height.
    mintime: u64,
    curtime: u64,
    coinbase_extra: u64,
    height_extra: u32,
    version: &'static str,
    /// From its deployments; none: it does not know the call.
    fork: Option<&'static str>,
    /// It says that it publishes blocks; otherwise it does not know the call.
    publishes: bool,
    /// A method, and the HTTP status of its answers.
    refused: Option<(&'static str, u16)>,
    /// Its templates support long polling; this many polls are open, because nodes do not notice
    /// that a client has hung up.
    longpolls: Option<usize>,
    /// Closes connections instead of answering.
    hangs_up: bool,
    calls: Vec<String>,
}

struct FakeNode {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl FakeNode {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let script = Arc::new(Mutex::new(Script {
            chain: "regtest",
            tip: 1,
            height: 10,
            password: "p".into(),
            template_error: None,
            rule: "!segwit",
            has_commitment: true,
            transactions: 2,
            bits: "207fffff",
            time: 1000,
            blocks: Vec::new(),
            chainwork: "",
            mintime: 1001,
            curtime: 1002,
            coinbase_extra: 0,
            height_extra: 0,
            version: "/Fake:1/",
            fork: None,
            publishes: false,
            refused: None,
            longpolls: None,
            hangs_up: false,
            calls: Vec::new(),
        }));
        let node = Self { address: listener.local_addr().unwrap(), script: Arc::clone(&script) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&script);
                thread::spawn(move || serve(&stream.unwrap(), &script));
            }
        });
        node
    }

    fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// Waits until the session is over: one begins with that call. Before that, it may only be
    /// late.
    fn hang_up(&self) {
        let tried = self.called("hung up on getblockchaininfo");
        self.set(|script| script.hangs_up = true);
        crate::common::eventually("the session is over", PATIENCE, || {
            (self.called("hung up on getblockchaininfo") > tried).then_some(())
        });
    }

    fn called(&self, method: &str) -> usize {
        self.script.lock().unwrap().calls.iter().filter(|call| *call == method).count()
    }

    fn config(&self, name: &str) -> NodeConfig {
        NodeConfig::new(
            name,
            format!("http://{}", self.address).parse().unwrap(),
            Auth::UserPass("u".into(), "p".into()),
        )
    }
}

/// Answers when the tip is another one.
fn long_poll<'a>(
    mut script: MutexGuard<'a, Script>,
    mutex: &'a Mutex<Script>,
) -> MutexGuard<'a, Script> {
    let tip = script.tip;
    *script.longpolls.as_mut().unwrap() += 1;
    while script.tip == tip {
        drop(script);
        thread::sleep(Duration::from_millis(20));
        script = mutex.lock().unwrap();
    }
    *script.longpolls.as_mut().unwrap() -= 1;
    script
}

fn serve(stream: &TcpStream, mutex: &Mutex<Script>) {
    let mut reader = BufReader::new(stream);
    while let Some((authorization, body)) = request(&mut reader) {
        let mut script = mutex.lock().unwrap();
        let method = body.split("\"method\":\"").nth(1).unwrap().split('"').next().unwrap();
        if script.hangs_up {
            script.calls.push(format!("hung up on {method}"));
            return;
        }
        let expected = bitcoincore_rpc::jsonrpc::base64::encode(format!("u:{}", script.password));
        script.calls.push(method.to_owned());
        if method == "getblocktemplate" && body.contains("longpollid") {
            script = long_poll(script, mutex);
        }
        let refused = script.refused.filter(|(refused, _)| *refused == method);
        let (status, answer) = match refused {
            Some((_, status)) => (status, "no".into()),
            None if authorization == expected => (200, answer(&script, method, &body)),
            None => (401, String::new()),
        };
        drop(script);
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", answer.len());
        let mut stream = stream;
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if let Some(value) = line.strip_prefix("Authorization: Basic ") {
            authorization = value.to_owned();
        } else if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().unwrap();
        } else if line.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok()?;
            return Some((authorization, String::from_utf8(body).unwrap()));
        }
    }
}

/// A block's header, as `getblockheader` shows it.
#[derive(Clone)]
struct Mined {
    hash: BlockHash,
    height: u32,
    fields: String,
}

/// A header on `parent` that has the work of its bits, or one that claims to.
fn mine(parent: Option<&Mined>, height: u32, bits: u32, mark: u8, is_honest: bool) -> Mined {
    let prev_blockhash = parent.map_or_else(|| BlockHash::from_byte_array([7; 32]), |it| it.hash);
    let mut header = Header {
        version: Version::from_consensus(4),
        prev_blockhash,
        merkle_root: TxMerkleNode::from_byte_array([mark; 32]),
        time: 1_700_000_000 + height * 600,
        bits: CompactTarget::from_consensus(bits),
        nonce: 0,
    };
    while header.target().is_met_by(header.block_hash()) != is_honest {
        header.nonce += 1;
    }
    let Header { merkle_root, time, nonce, .. } = header;
    let fields = format!(
        r#""height":{height},"version":4,"merkleroot":"{merkle_root}","time":{time},"nonce":{nonce},
        "bits":"{bits:08x}","mediantime":1000,"previousblockhash":"{prev_blockhash}""#
    );
    Mined { hash: header.block_hash(), height, fields }
}

/// Honest headers of these heights on the last one of `base`; returns them all.
fn chain(base: &[Mined], heights: std::ops::RangeInclusive<u32>, mark: u8) -> Vec<Mined> {
    let mut all = base.to_vec();
    for height in heights {
        all.push(mine(all.last(), height, EASY, mark, true));
    }
    all
}

fn header(script: &Script, body: &str) -> Option<String> {
    let wanted = script.blocks.iter().find(|it| body.contains(&it.hash.to_string()))?;
    let is_tip = wanted.hash == script.blocks.last()?.hash;
    let (hash, fields, chainwork) = (wanted.hash, &wanted.fields, script.chainwork);
    let confirmations = if is_tip { 1 } else { 2 };
    Some(format!(
        r#"{{"hash":"{hash}","confirmations":{confirmations},"chainwork":"{chainwork}",{fields}}}"#
    ))
}

fn answer(script: &Script, method: &str, body: &str) -> String {
    let (mut tip, mut height, chain) =
        (format!("{:02x}", script.tip).repeat(32), script.height, script.chain);
    if let Some(last) = script.blocks.last() {
        (tip, height) = (last.hash.to_string(), last.height);
    }
    let chainwork = script.chainwork;
    let (bits, time) = (script.bits, script.time);
    let result = match method {
        "getblockchaininfo" => format!(
            r#"{{"chain":"{chain}","blocks":{height},"headers":{height},"initialblockdownload":false}}"#
        ),
        "getnetworkinfo" => format!(r#"{{"subversion":"{}"}}"#, script.version),
        "getzmqnotifications" if script.publishes => r#"[{"type":"pubhashblock"}]"#.into(),
        "getdeploymentinfo" if script.fork.is_some() => {
            format!(r#"{{"deployments":{{}}{}}}"#, script.fork.unwrap())
        }
        "getbestblockhash" => format!("\"{tip}\""),
        "getblockheader" if !script.blocks.is_empty() => match header(script, body) {
            Some(header) => header,
            None => {
                let error = r#"{"code":-5,"message":"Block not found"}"#;
                return format!(r#"{{"result":null,"error":{error},"id":0}}"#);
            }
        },
        "getblockheader" => format!(
            r#"{{"hash":"{tip}","confirmations":1,"height":{height},"bits":"{bits}","mediantime":1000,
            "time":{time},"chainwork":"{chainwork}"}}"#
        ),
        "getblocktemplate" => match script.template_error {
            Some((code, message)) => {
                return format!(
                    r#"{{"result":null,"error":{{"code":{code},"message":"{message}"}},"id":0}}"#
                );
            }
            None => template(script, &tip, height + script.height_extra),
        },
        _ => {
            return r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":0}"#
                .into();
        }
    };
    format!(r#"{{"result":{result},"error":null,"id":0}}"#)
}

fn template(script: &Script, tip: &str, height: u32) -> String {
    let (height, bits, rule) = (height + 1, script.bits, script.rule);
    let (mintime, curtime) = (script.mintime, script.curtime);
    let mut transactions = String::new();
    for at in 0..script.transactions {
        let comma = if at > 0 { "," } else { "" };
        write!(
            transactions,
            r#"{comma}{{"data":"00","txid":"{at:064x}","hash":"{at:063x}a","depends":[],"fee":1,"sigops":1,"weight":4}}"#
        )
        .unwrap();
    }
    let commitment = if script.has_commitment {
        r#""default_witness_commitment":"6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9","#
    } else {
        ""
    };
    let longpollid = match script.longpolls {
        Some(_) => format!(r#""longpollid":"{tip}0","#),
        None => String::new(),
    };
    format!(
        r#"{{{longpollid}"version":4,"rules":["!segwit","{rule}"],"previousblockhash":"{tip}","transactions":[{transactions}],
        "coinbasevalue":{},"mintime":{mintime},"curtime":{curtime},{commitment}"bits":"{bits}","height":{height}}}"#,
        5_000_000_000_u64
            .wrapping_add(script.transactions as u64)
            .wrapping_add(script.coinbase_extra)
    )
}

struct Side {
    runtime: Runtime,
    token: CancellationToken,
    templates: Templates,
}

impl Side {
    fn start(nodes: &[NodeConfig]) -> Self {
        Self::start_with(nodes, Duration::from_secs(40))
    }

    fn start_with(nodes: &[NodeConfig], refresh: Duration) -> Self {
        let runtime = Runtime::new().unwrap();
        let token = CancellationToken::new();
        let config = TemplateConfig {
            nodes: nodes.to_vec(),
            refresh,
            allow_rules: Vec::new().into(),
            chains: Vec::new(),
        };
        let guard = runtime.enter();
        let templates = gatewayd::template::spawn(config, &token, &TaskTracker::new());
        drop(guard);
        Self { runtime, token, templates }
    }

    #[track_caller]
    fn template(&self, is_it: impl Fn(&Template) -> bool) -> Arc<Template> {
        let mut templates = self.templates.templates.clone();
        self.runtime.block_on(async {
            let found = templates.wait_for(|template| template.as_ref().is_some_and(|t| is_it(t)));
            let found = timeout(PATIENCE, found).await.expect("no such template").unwrap();
            found.clone().unwrap()
        })
    }

    #[track_caller]
    fn status(&self, at: usize, is_it: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let mut status = self.templates.status.clone();
        self.runtime.block_on(async {
            let found = timeout(PATIENCE, status.wait_for(|status| is_it(&status[at]))).await;
            found.expect("no such status").unwrap()[at].clone()
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

#[test]
fn a_node_that_catches_up_is_waited_for() {
    let node = FakeNode::start();
    node.set(|script| script.template_error = Some((-10, "in initial sync")));
    let side = Side::start(&[node.config("syncing")]);
    let status = side.status(0, |status| status.state == NodeState::Syncing);
    let error = status.last_error.unwrap();
    assert!(
        error.starts_with("in initial sync (error -10): ") && error.ends_with("wait"),
        "{error}"
    );
    assert_eq!(status.network, Some(Network::Regtest));
    node.set(|script| script.template_error = None);
    side.template(|template| template.height == 11);
    side.status(0, |status| status.state == NodeState::Ready && status.last_error.is_none());
}

#[test]
fn a_required_rule_is_named_and_may_be_allowed() {
    let node = FakeNode::start();
    node.set(|script| script.rule = "!future");
    let side = Side::start(&[node.config("future")]);
    let status = side.status(0, |status| status.state == NodeState::Down);
    let error = status.last_error.unwrap();
    for word in ["\"future\"", "template.allow_rules"] {
        assert!(error.contains(word), "{word} is not in {error}");
    }
    // No header is turned into work that the node would reject.
    node.set(|script| (script.tip, script.height) = (2, 11));
    side.templates.notify.notify();
    assert!(side.templates.templates.borrow().is_none());
    side.templates.set_config(TemplateConfig {
        nodes: vec![node.config("future")],
        refresh: Duration::from_secs(40),
        allow_rules: vec!["future".into()].into(),
        chains: Vec::new(),
    });
    side.templates.notify.notify();
    side.template(|template| template.height == 12);
    side.status(0, |status| status.state == NodeState::Ready && status.last_error.is_none());
    // Never that one, whatever is allowed: it is a different proof of work.
    node.set(|script| (script.rule, script.tip, script.height) = ("!blake2b", 3, 12));
    side.templates.set_config(TemplateConfig {
        nodes: vec![node.config("future")],
        refresh: Duration::from_secs(40),
        allow_rules: vec!["future".into(), "blake2b".into()].into(),
        chains: Vec::new(),
    });
    side.templates.notify.notify();
    let status = side.status(0, |status| status.state == NodeState::WrongChain);
    assert!(status.last_error.unwrap().contains("BLAKE2b"));
}

#[test]
fn a_template_without_its_witness_commitment_is_not_mined_on() {
    let node = FakeNode::start();
    node.set(|script| script.has_commitment = false);
    let side = Side::start(&[node.config("uncommitted")]);
    let status = side.status(0, |status| status.state == NodeState::Down);
    assert!(status.last_error.unwrap().contains("default_witness_commitment"));
    assert!(side.templates.templates.borrow().is_none());
}

#[test]
fn too_many_transactions_are_cut() {
    let node = FakeNode::start();
    node.set(|script| script.transactions = 16_400);
    let side = Side::start(&[node.config("crowded")]);
    let template = side.template(|template| template.kind == TemplateKind::Full);
    assert_eq!((template.transactions.len(), template.subsidy()), (16_383, 5_000_000_000));
}

#[test]
fn a_new_cookie_is_read_when_the_old_one_is_refused() {
    let node = FakeNode::start();
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join(".cookie");
    std::fs::write(&cookie, "u:p").unwrap();
    let mut config = node.config("cookie");
    config.auth = Auth::CookieFile(cookie.clone());
    let side = Side::start(&[config]);
    side.template(|template| template.height == 11);
    // Another cookie while connections stay: each is refused once, and a new one works.
    std::fs::write(&cookie, "u:q").unwrap();
    node.set(|script| (script.password, script.tip, script.height) = ("q".into(), 2, 11));
    side.template(|template| template.height == 12 && template.kind == TemplateKind::Full);
    std::fs::write(&cookie, "nonsense").unwrap();
    node.set(|script| script.password = "r".into());
    // The refusal of the last cookie may be reported first.
    side.status(0, |status| {
        let told = status.last_error.as_ref();
        status.state == NodeState::Down
            && told.is_some_and(|told| told.contains("contains no user:password"))
    });
}

/// A node behind a liar once lost all of its RPC threads in seconds: an abandoned long poll holds
/// one until there is a new tip.
#[test]
fn at_most_one_long_poll_per_tip_is_abandoned_at_a_node() {
    let node = FakeNode::start();
    node.set(|script| script.longpolls = Some(0));
    let side = Side::start(&[node.config("polled")]);
    let polls = |node: &FakeNode| node.script.lock().unwrap().longpolls.unwrap();
    for tip in 2..4 {
        crate::common::eventually("a long poll", PATIENCE, || (polls(&node) == 1).then_some(()));
        for _ in 0..4 {
            node.hang_up();
            side.status(0, |status| status.state == NodeState::Down);
            let refused = node.called("waitforblockheight");
            node.set(|script| script.hangs_up = false);
            crate::common::eventually("another session waits", PATIENCE, || {
                (node.called("waitforblockheight") > refused).then_some(())
            });
            // If there is another long poll, it follows that refusal.
            let asked = node.called("getbestblockhash");
            crate::common::eventually("it is asked", PATIENCE, || {
                (node.called("getbestblockhash") >= asked + 2).then_some(())
            });
            assert_eq!(polls(&node), 1);
        }
        // Without it, the node is asked.
        node.set(|script| (script.tip, script.height) = (tip, script.height + 1));
        side.template(|it| it.height == 10 + u32::from(tip) && it.kind == TemplateKind::Full);
    }
}

#[test]
fn a_wrong_password_is_not_retried_all_the_time() {
    let node = FakeNode::start();
    node.set(|script| script.password = "other".into());
    let side = Side::start(&[node.config("refused")]);
    side.status(0, |status| status.state == NodeState::Down);
    thread::sleep(Duration::from_secs(3));
    assert!(node.called("getblockchaininfo") <= 2, "{}", node.called("getblockchaininfo"));
}

#[test]
fn on_a_test_network_a_tip_waits_for_its_template() {
    let node = FakeNode::start();
    node.set(|script| (script.chain, script.bits) = ("test", "1d00ffff"));
    let side = Side::start(&[node.config("testnet")]);
    side.template(|template| template.height == 11);
    node.set(|script| {
        (script.tip, script.height) = (2, 11);
        script.template_error = Some((-1, "busy"));
    });
    side.status(0, |status| status.state == NodeState::Down);
    let template = side.templates.templates.borrow().clone().unwrap();
    assert_eq!((template.kind, template.height), (TemplateKind::Full, 11));
    node.set(|script| script.template_error = None);
    side.template(|template| template.height == 12 && template.kind == TemplateKind::Full);
}

#[test]
fn on_a_test_network_easy_blocks_are_requested_when_they_begin() {
    let node = FakeNode::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    node.set(|script| {
        (script.chain, script.bits, script.time) = ("testnet4", "1b00ffff", now - 1200 + 4);
    });
    let side = Side::start(&[node.config("easy")]);
    side.template(|template| template.nbits.get() == 0x1b00_ffff);
    // The node's answer from then on; no other request is due for 40 seconds.
    node.set(|script| script.bits = "1d00ffff");
    let started = Instant::now();
    side.template(|template| template.nbits.get() == 0x1d00_ffff && template.height == 11);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn on_regtest_a_tip_is_worked_on_while_its_template_is_late() {
    let node = FakeNode::start();
    let side = Side::start(&[node.config("quick")]);
    side.template(|template| template.height == 11);
    node.set(|script| {
        (script.tip, script.height) = (2, 11);
        script.template_error = Some((-1, "busy"));
    });
    side.templates.notify.notify();
    let template = side.template(|template| template.height == 12);
    assert_eq!((template.kind, template.coinbase_value), (TemplateKind::Tip, 5_000_000_000));
}

#[test]
fn a_node_on_another_chain_is_left_out() {
    let (first, second) = (FakeNode::start(), FakeNode::start());
    second.set(|script| script.hangs_up = true);
    let side = Side::start(&[first.config("right"), second.config("wrong")]);
    side.template(|template| &*template.source == "right");
    second.set(|script| (script.chain, script.height, script.hangs_up) = ("signet", 500, false));
    side.status(1, |status| status.state == NodeState::WrongChain);
    first.set(|script| script.hangs_up = true);
    side.status(0, |status| status.state == NodeState::Down);
    assert_eq!(side.templates.network(), Some(Network::Regtest));
    assert_eq!(&*side.templates.templates.borrow().as_ref().unwrap().source, "right");
}

#[test]
fn a_node_that_falls_behind_is_left() {
    let (first, second) = (FakeNode::start(), FakeNode::start());
    let side = Side::start(&[first.config("stuck"), second.config("alive")]);
    side.template(|template| &*template.source == "stuck");
    side.status(1, |status| status.state == NodeState::Ready);
    second.set(|script| (script.tip, script.height) = (2, 11));
    let start = Instant::now();
    side.template(|template| &*template.source == "alive" && template.height == 12);
    println!("the better tip was worked on after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let status = side.status(0, |status| status.state == NodeState::Behind);
    assert!(start.elapsed() > Duration::from_secs(25), "{:?}", start.elapsed());
    let why = status.last_error.unwrap();
    assert!(why.contains("its last block is 10, but another node has had 11"), "{why}");
    first.set(|script| (script.tip, script.height) = (2, 11));
    side.template(|template| &*template.source == "stuck" && template.height == 12);
}

#[test]
fn failing_over_and_back_between_three() {
    let nodes = [FakeNode::start(), FakeNode::start(), FakeNode::start()];
    let configs = [nodes[0].config("a"), nodes[1].config("b"), nodes[2].config("c")];
    let side = Side::start(&configs);
    side.template(|template| &*template.source == "a");
    for at in [1, 2] {
        side.status(at, |status| status.state == NodeState::Ready);
    }
    let start = Instant::now();
    nodes[0].set(|script| script.hangs_up = true);
    nodes[1].set(|script| script.hangs_up = true);
    side.template(|template| &*template.source == "c");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    // With all of them down the last work stays; the daemon decides when that is too old.
    nodes[2].set(|script| script.hangs_up = true);
    let status = side.status(2, |status| status.state == NodeState::Down);
    assert!(status.template_at.is_some());
    nodes[1].set(|script| (script.hangs_up, script.tip, script.height) = (false, 2, 11));
    side.template(|template| &*template.source == "b" && template.height == 12);
    nodes[0].set(|script| (script.hangs_up, script.tip, script.height) = (false, 2, 11));
    side.template(|template| &*template.source == "a" && template.height == 12);
}

/// Starts a new session, for what the node says from now on.
fn meet_again(node: &FakeNode, side: &Side, change: impl FnOnce(&mut Script)) {
    node.hang_up();
    node.set(|script| {
        change(script);
        script.hangs_up = false;
    });
    side.status(0, |status| status.state == NodeState::Ready);
}

#[test]
fn a_node_that_no_longer_tells_its_chain_is_taken_to_be_where_it_was() {
    let node = FakeNode::start();
    node.set(|script| script.fork = Some(SOON));
    let side = Side::start_with(&[node.config("mute")], Duration::from_millis(200));
    let soon = Some(Fork::Blake2b { from: Some(50), is_here: false });
    side.status(0, |status| status.state == NodeState::Ready && status.fork == soon);
    for status in [403, 404, 503] {
        meet_again(&node, &side, |script| script.refused = Some(("getdeploymentinfo", status)));
        assert_eq!(side.status(0, |_| true).fork, soon, "{status}");
    }
    // It is asked again after a while, in the same session.
    node.set(|script| (script.refused, script.fork) = (None, Some("")));
    side.status(0, |status| status.fork.is_none() && status.state == NodeState::Ready);
    // What another node said does not count.
    meet_again(&node, &side, |script| script.fork = Some(SOON));
    side.status(0, |status| status.fork == soon);
    meet_again(&node, &side, |script| {
        (script.refused, script.version) = (Some(("getdeploymentinfo", 403)), "/Fake:2/");
    });
    side.status(0, |status| status.fork.is_none());
}

#[test]
fn a_node_that_only_gets_blocks_and_is_too_busy_to_answer_is_asked_again_soon() {
    let node = FakeNode::start();
    node.set(|script| {
        script.fork = Some(HERE);
        script.refused = Some(("getdeploymentinfo", 503));
    });
    let other = FakeNode::start();
    let config = NodeConfig { submit_only: true, ..node.config("busy") };
    let side = Side::start(&[other.config("other"), config]);
    crate::common::eventually("it is asked", PATIENCE, || {
        (node.called("getdeploymentinfo") > 0).then_some(())
    });
    node.set(|script| script.refused = None);
    let mut status = side.templates.submit_only.clone();
    let known = side.runtime.block_on(async {
        let known = status.wait_for(|status| status[0].state == NodeState::WrongChain);
        timeout(PATIENCE, known).await.is_ok()
    });
    assert!(known);
    assert!(node.called("getnetworkinfo") <= 3, "a minute was {}", node.called("getnetworkinfo"));
}

#[test]
fn a_node_built_without_zeromq_is_named() {
    let node = FakeNode::start();
    let config =
        NodeConfig { zmq_hashblock: Some("tcp://127.0.0.1:9".into()), ..node.config("built") };
    let side = Side::start(&[config]);
    let status = side.status(0, |status| status.zmq_trouble.is_some());
    assert!(status.zmq_trouble.unwrap().starts_with("the node was built without ZeroMQ"));
}

/// Two nodes behind one address, or one that keeps restarting.
#[test]
fn what_a_flapping_node_says_about_itself_is_logged_a_few_times() {
    let node = FakeNode::start();
    let gateway = Gateway::start(&format!(
        "[[node]]\nrpc_url = \"http://{}\"\nrpc_user = \"u\"\nrpc_password = \"p\"\n\
         zmq_hashblock = \"tcp://127.0.0.1:9\"\n[mining]\n\
         address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"\n[stratum]\n\
         listen = [\"127.0.0.1:0\"]\n[api]\nlisten = \"\"\n[ledger]\ndata_dir = \"{{dir}}\"\n",
        node.address
    ));
    for turn in 0..12 {
        let told = node.called("getblocktemplate");
        node.set(|script| {
            let is_even = turn % 2 == 0;
            script.fork = Some(if is_even { SOON } else { "" });
            (script.publishes, script.hangs_up) = (is_even, false);
        });
        crate::common::eventually("a session begins", PATIENCE, || {
            (node.called("getblocktemplate") > told).then_some(())
        });
        node.hang_up();
    }
    let lines = gateway.lines();
    for text in ["will follow the BLAKE2b chain", "ZeroMQ announces no blocks"] {
        let said = lines.iter().filter(|line| line.contains(text)).count();
        assert!((1..=5).contains(&said), "{text}: {said} times");
    }
}

#[test]
fn a_node_that_gives_no_work_is_not_logged_all_the_time() {
    let (node, publisher) = (FakeNode::start(), Bitcoind::regtest());
    node.set(|script| script.template_error = Some((-10, "in initial sync")));
    let config = format!(
        "[[node]]\nrpc_url = \"http://{}\"\nrpc_user = \"u\"\n\
         rpc_password = \"p\"\n{}\n[mining]\n\
         address = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"\n[stratum]\n\
         listen = [\"127.0.0.1:0\"]\n[api]\nlisten = \"\"\n[ledger]\ndata_dir = \"{{dir}}\"\n",
        node.address,
        publisher.zmq_url().map_or_else(String::new, |url| format!("zmq_hashblock = \"{url}\""))
    );
    let gateway = Gateway::start(&config);
    crate::common::eventually("it is asked again and again", PATIENCE, || {
        (node.called("getblocktemplate") >= 10).then_some(())
    });
    let lines = gateway.lines();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert_eq!(count("no work from the node"), 1, "{lines:#?}");
    assert!(count("listening for new blocks over ZeroMQ") <= 1, "{lines:#?}");
    assert!(count(&format!("node={}", node.address)) <= 4, "{lines:#?}");
    // Changes are logged.
    node.set(|script| script.template_error = Some((-9, "is not connected")));
    gateway.wait_for_line("is not connected", PATIENCE);
    node.set(|script| script.template_error = None);
    gateway.wait_for_line("the node gives work again", PATIENCE);
}

/// A preferred good node, another one with the same blocks, and these blocks.
fn good_and_other() -> (FakeNode, FakeNode, Vec<Mined>) {
    let (good, other) = (FakeNode::start(), FakeNode::start());
    let blocks = chain(&[], 0..=10, 0);
    for node in [&good, &other] {
        node.set(|script| script.blocks.clone_from(&blocks));
    }
    (good, other, blocks)
}

impl Side {
    /// Waits until both are in use and the first one leads.
    #[track_caller]
    fn is_settled(&self) {
        self.status(0, |status| status.is_active && status.state == NodeState::Ready);
        self.status(1, |status| status.state == NodeState::Ready);
    }

    /// Checks that only this node's work goes out, whatever is claimed, until the good node has
    /// another block.
    #[track_caller]
    fn stays_with(&self, name: &str, node: &FakeNode, blocks: &[Mined]) {
        let height = blocks.last().unwrap().height + 1;
        node.set(|script| script.blocks = chain(blocks, height..=height, 0));
        let template = self.template(|template| template.height == height + 1);
        assert_eq!(&*template.source, name);
    }
}

const ALL_WORK: &str = "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

/// Miners once stayed on such a tip for as long as it was watched.
#[test]
fn a_claim_of_unproven_work_takes_over_nothing() {
    let (good, liar, blocks) = good_and_other();
    // Where work costs something; on regtest no proof is required.
    for node in [&good, &liar] {
        node.set(|script| script.chain = "signet");
    }
    let side = Side::start(&[good.config("good"), liar.config("liar")]);
    side.is_settled();
    // A header without work, and one that claims all the work there can be.
    liar.set(|script| {
        script.blocks.push(mine(blocks.last(), 11, EASY, 1, false));
        script.chainwork = ALL_WORK;
    });
    let status = side.status(1, |status| status.state == NodeState::Down);
    let error = status.last_error.unwrap();
    assert!(error.contains("proof of work") && error.contains("rpc_url"), "{error}");
    side.stays_with("good", &good, &blocks);
    // A tip whose whole header is never shown.
    liar.set(|script| (script.blocks, script.tip, script.height) = (Vec::new(), 0xFE, 11));
    let status = side.status(1, |status| status.state == NodeState::WrongChain);
    let error = status.last_error.unwrap();
    assert!(error.contains("has not shown that block's header"), "{error}");
    assert!(side.status(0, |_| true).is_active);
}

#[test]
fn a_preferred_node_on_an_invented_tip_is_left() {
    let (liar, good, blocks) = good_and_other();
    let side = Side::start(&[liar.config("liar"), good.config("good")]);
    side.is_settled();
    liar.set(|script| (script.blocks, script.tip, script.height) = (Vec::new(), 0xFE, 11));
    let status = side.status(0, |status| status.state == NodeState::WrongChain);
    assert!(status.last_error.unwrap().contains("rpc_url"));
    side.status(1, |status| status.is_active);
    side.stays_with("good", &good, &blocks);
}

#[test]
fn a_node_that_is_ahead_and_shows_it_leads_at_once() {
    let (stuck, alive, blocks) = good_and_other();
    let side = Side::start(&[stuck.config("stuck"), alive.config("alive")]);
    side.is_settled();
    alive.set(|script| script.blocks = chain(&blocks, 11..=11, 0));
    let start = Instant::now();
    side.template(|template| &*template.source == "alive" && template.height == 12);
    println!("the better tip was worked on after {:?}", start.elapsed());
    stuck.set(|script| script.blocks = chain(&blocks, 11..=11, 0));
    side.template(|template| &*template.source == "stuck" && template.height == 12);
}

/// Until the headers in between have arrived, its work is not known; miners once went back in the
/// meantime.
#[test]
fn work_does_not_go_back_while_a_node_takes_several_blocks_at_once() {
    let (quick, slow, mut blocks) = good_and_other();
    let side = Side::start(&[quick.config("quick"), slow.config("slow")]);
    side.is_settled();
    let mut news = side.templates.templates.clone();
    news.mark_unchanged();
    for _ in 0..5 {
        let height = blocks.last().unwrap().height;
        let asked = quick.called("getblockheader");
        blocks = chain(&blocks, height + 1..=height + 3, 0);
        quick.set(|script| script.blocks.clone_from(&blocks));
        let mut heights = Vec::new();
        side.runtime.block_on(async {
            while heights.last() != Some(&(height + 4)) {
                timeout(PATIENCE, news.changed()).await.expect("no such template").unwrap();
                let template = news.borrow_and_update().clone().unwrap();
                heights.push(template.height);
                assert_eq!(&*template.source, "quick", "{heights:?}");
            }
        });
        assert!(heights.is_sorted(), "work went back: {heights:?}");
        crate::common::eventually("the headers between are asked for", PATIENCE, || {
            (quick.called("getblockheader") >= asked + 3).then_some(())
        });
    }
}

/// The headers down to where the chains split are requested.
#[test]
fn a_longer_chain_that_split_long_ago_is_followed() {
    let (stuck, alive, blocks) = good_and_other();
    stuck.set(|script| script.blocks = chain(&blocks, 11..=30, 1));
    alive.set(|script| script.blocks = chain(&blocks, 11..=33, 2));
    let side = Side::start(&[stuck.config("stuck"), alive.config("alive")]);
    crate::common::eventually("both are asked for headers below", PATIENCE, || {
        let is_asked = |node: &FakeNode| node.called("getblockheader") >= 20;
        (is_asked(&stuck) && is_asked(&alive)).then_some(())
    });
    side.status(0, |status| status.state == NodeState::Ready && !status.is_active);
    side.template(|template| &*template.source == "alive" && template.height == 34);
    // One without a connection to a known block is not, however long it is.
    let liar = chain(&[], 100..=140, 3);
    alive.set(|script| script.blocks.clone_from(&liar));
    let status = side.status(1, |status| status.state == NodeState::Down);
    assert!(status.last_error.unwrap().contains("does not know it"));
    side.template(|template| &*template.source == "stuck" && template.height == 31);
}

#[test]
fn headers_that_are_easier_than_the_chain_are_not_followed() {
    let (good, liar) = (FakeNode::start(), FakeNode::start());
    let base = vec![mine(None, 700_000, 0x1f7f_ffff, 0, true)];
    for node in [&good, &liar] {
        node.set(|script| {
            (script.chain, script.bits) = ("main", "1f7fffff");
            script.blocks.clone_from(&base);
        });
        node.set(|script| script.coinbase_extra = 625_000_000_u64.wrapping_sub(5_000_000_000));
    }
    liar.set(|script| script.bits = "207fffff");
    let side = Side::start(&[liar.config("liar"), good.config("good")]);
    let status = side.status(0, |status| status.state == NodeState::WrongChain);
    assert!(status.last_error.unwrap().contains("has the bits 207fffff"));
    side.status(1, |status| status.is_active);
    // A block of that kind, which cost nothing.
    liar.set(|script| script.blocks.push(mine(base.last(), 700_001, EASY, 1, true)));
    let status = side.status(0, |status| status.state == NodeState::Down);
    let error = status.last_error.unwrap();
    assert!(error.contains("its bits do not follow"), "{error}");
    assert!(side.status(1, |_| true).is_active);
}

#[test]
fn work_for_a_height_that_does_not_follow_the_tip_is_not_used() {
    let (good, liar, blocks) = good_and_other();
    let side = Side::start(&[liar.config("liar"), good.config("good")]);
    side.is_settled();
    liar.set(|script| {
        script.blocks = chain(&blocks, 11..=11, 0);
        script.height_extra = 30;
    });
    let status = side.status(0, |status| status.state == NodeState::WrongChain);
    let error = status.last_error.unwrap();
    assert!(error.starts_with("its work is for block 42, but builds on block 11"), "{error}");
    side.status(1, |status| status.is_active);
}

#[test]
fn a_nodes_wrong_clock_is_not_believed() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for curtime in [0, u64::from(u32::MAX)] {
        let node = FakeNode::start();
        node.set(|script| (script.chain, script.bits) = ("main", "1d00ffff"));
        node.set(|script| (script.curtime, script.mintime) = (curtime, 0));
        let side = Side::start(&[node.config("odd clock")]);
        let template = side.template(|template| template.kind == TemplateKind::Full);
        let off = now().abs_diff(template.curtime.into());
        assert!(off < 100, "{curtime} became {}", template.curtime);
    }
    let node = FakeNode::start();
    node.set(|script| (script.chain, script.bits) = ("main", "1d00ffff"));
    node.set(|script| (script.mintime, script.curtime) = (now() + 90_000, now() + 90_000));
    let side = Side::start(&[node.config("in the future")]);
    let status = side.status(0, |status| status.state == NodeState::Down);
    let error = status.last_error.unwrap();
    assert!(error.contains("ahead of this machine's clock"), "{error}");
}

#[test]
fn more_than_the_subsidy_is_not_mined() {
    let node = FakeNode::start();
    node.set(|script| script.coinbase_extra = 1);
    let side = Side::start(&[node.config("generous")]);
    let status = side.status(0, |status| status.state == NodeState::Down);
    let error = status.last_error.unwrap();
    assert!(error.contains("coinbasevalue contains 5000000001 sats besides the fees"), "{error}");
}

/// Regtest's.
const EASY: u32 = 0x207f_ffff;
/// As in a node's deployments.
const SOON: &str = r#","blake2b":{"height":50,"active":false}"#;
const HERE: &str = r#","blake2b":{"height":5,"active":true}"#;
/// A node is behind after 30 s.
const PATIENCE: Duration = Duration::from_secs(60);
