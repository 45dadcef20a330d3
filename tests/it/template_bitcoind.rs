//! Templates from a real bitcoind: every way to learn about a tip, and every way to lose the node.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::bitcoind::Bitcoind;
use bitcoin::Network;
use bitcoincore_rpc::RpcApi;
use gatewayd::{
    node::{Auth, NodeConfig, ProposeError},
    template::{NodeState, NodeStatus, TemplateConfig, Templates},
    work::{Hash256, Template, TemplateKind},
};
use tokio::{runtime::Runtime, sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::fmt::MakeWriter;

/// The template side of a gateway, and its log.
struct Side {
    runtime: Runtime,
    token: CancellationToken,
    tracker: TaskTracker,
    templates: Templates,
    log: Log,
}

impl Side {
    fn start(nodes: Vec<NodeConfig>) -> Self {
        let runtime = Runtime::new().unwrap();
        let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
        let log = Log::install();
        let config = TemplateConfig {
            nodes,
            refresh: Duration::from_secs(40),
            allow_rules: Vec::new().into(),
            chains: Vec::new(),
        };
        let guard = runtime.enter();
        let templates = gatewayd::template::spawn(config, &token, &tracker);
        drop(guard);
        Self { runtime, token, tracker, templates, log }
    }

    /// Waits for a template for which `is_it` holds.
    #[track_caller]
    fn template(&self, what: &str, is_it: impl Fn(&Template) -> bool) -> Arc<Template> {
        let mut templates = self.templates.templates.clone();
        let wait = async {
            let found = timeout(
                Duration::from_secs(30),
                templates.wait_for(|template| template.as_ref().is_some_and(|t| is_it(t))),
            );
            found.await.ok().map(|found| found.unwrap().clone().unwrap())
        };
        let found = self.runtime.block_on(wait);
        found.unwrap_or_else(|| panic!("no template {what}; log:\n{}", self.log.text()))
    }

    #[track_caller]
    fn full_on(&self, tip: Hash256) -> Arc<Template> {
        self.template("on the tip", |template| {
            template.kind == TemplateKind::Full && template.prevhash == tip
        })
    }

    #[track_caller]
    fn status(&self, what: &str, is_it: impl Fn(&[NodeStatus]) -> bool) -> Vec<NodeStatus> {
        let mut status = self.templates.status.clone();
        let wait = async {
            let found = timeout(Duration::from_secs(30), status.wait_for(|s| is_it(s)));
            found.await.ok().map(|found| found.unwrap().clone())
        };
        let found = self.runtime.block_on(wait);
        found.unwrap_or_else(|| panic!("never {what}; log:\n{}", self.log.text()))
    }

    #[track_caller]
    fn said(&self, text: &str) {
        crate::common::eventually(
            &format!("the log says {text:?}"),
            Duration::from_secs(10),
            || self.log.text().contains(text).then_some(()),
        );
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.token.cancel();
        self.tracker.close();
        let wait = async { timeout(Duration::from_secs(5), self.tracker.wait()).await };
        let done = self.runtime.block_on(wait);
        assert!(done.is_ok() || std::thread::panicking(), "tasks outlive the token");
    }
}

/// What was logged since the test began. Tests run in one process: each finds its own lines by
/// the name of its node.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn install() -> Self {
        static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
        let log = LOG.get_or_init(|| {
            let log = Self::default();
            let filter = tracing_subscriber::EnvFilter::new("gatewayd=debug");
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter);
            subscriber.with_writer(log.clone()).init();
            log
        });
        log.clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn node(name: &str, bitcoind: &Bitcoind) -> NodeConfig {
    NodeConfig::new(name, bitcoind.rpc_url().parse().unwrap(), bitcoind.auth())
}

fn tip(bitcoind: &Bitcoind) -> Hash256 {
    Hash256::from_display_hex(&bitcoind.best_hash().to_string()).unwrap()
}

/// Mines a block; returns the subsidy-only work on it, if seen, the full work, and how long that
/// took.
fn follow(side: &Side, bitcoind: &Bitcoind) -> (Option<Arc<Template>>, Arc<Template>, Duration) {
    let mut templates = side.templates.templates.clone();
    templates.mark_unchanged();
    let seen = side.runtime.spawn(record_until_full(templates));
    let hash = bitcoind.generate(1)[0].to_string();
    let start = Instant::now();
    let (quick, full) = side.runtime.block_on(async {
        timeout(Duration::from_secs(30), seen).await.expect("no full work").unwrap()
    });
    assert_eq!(full.prevhash.to_string(), hash);
    (quick, full, start.elapsed())
}

async fn record_until_full(
    mut templates: watch::Receiver<Option<Arc<Template>>>,
) -> (Option<Arc<Template>>, Arc<Template>) {
    let mut quick = None;
    loop {
        templates.changed().await.unwrap();
        let template = templates.borrow_and_update().clone().unwrap();
        match template.kind {
            TemplateKind::Tip => quick = Some(template),
            TemplateKind::Full => return (quick, template),
        }
    }
}

#[test]
fn zmq_announces_tips() {
    // Nothing else may do so: this user is allowed no waits.
    let bitcoind = Bitcoind::start_with(Network::Regtest, &[]);
    bitcoind.generate(1);
    let mut config = node("zmq", &bitcoind);
    let built_with = bitcoind.zmq_url();
    // It may be configured all the same.
    config.zmq_hashblock = built_with.clone().or_else(|| Some("tcp://127.0.0.1:9".into()));
    let side = Side::start(vec![config]);
    side.full_on(tip(&bitcoind));
    if built_with.is_none() {
        side.said("the node was built without ZeroMQ");
        crate::common::eventually("a tip by waiting", Duration::from_secs(20), || {
            follow(&side, &bitcoind);
            let is_it = |line: &str| line.contains("node=zmq") && line.contains("from=LongPoll");
            side.log.text().lines().any(is_it).then_some(())
        });
        return;
    }
    side.said("listening for new blocks over ZeroMQ node=zmq");
    // A subscription is logged a little before it takes effect.
    crate::common::eventually("a tip by ZeroMQ", Duration::from_secs(20), || {
        follow(&side, &bitcoind);
        side.log.text().contains("node=zmq height=2 ").then_some(())?;
        side.log
            .text()
            .lines()
            .any(|l| l.contains("node=zmq") && l.contains("from=Zmq"))
            .then_some(())
    });
    let (quick, full, after) = follow(&side, &bitcoind);
    let quick = quick.expect("subsidy-only work comes first");
    println!("full work {after:?} after generatetoaddress returned");
    assert_eq!((quick.height, quick.prevhash), (full.height, full.prevhash));
    assert_eq!((quick.nbits, quick.mintime), (full.nbits, full.mintime));
    assert_eq!(quick.coinbase_value, full.subsidy());
}

#[test]
fn waiting_for_the_height_detects_tips() {
    let bitcoind = Bitcoind::start_with(Network::Regtest, &[]);
    bitcoind.generate(1);
    let side = Side::start(vec![node("waits", &bitcoind)]);
    side.full_on(tip(&bitcoind));
    for _ in 0..3 {
        let (quick, full, after) = follow(&side, &bitcoind);
        println!("full work {after:?} after generatetoaddress returned");
        assert_eq!(quick.expect("subsidy-only work comes first").coinbase_value, full.subsidy());
    }
    let log = side.log.text();
    assert!(log.lines().any(|line| line.contains("node=waits") && line.contains("from=LongPoll")));
}

#[test]
fn a_long_poll_detects_tips_where_waiting_is_not_allowed() {
    let whitelist = "getblocktemplate,getblockchaininfo,getnetworkinfo,getbestblockhash,getblockheader,\
                     generatetoaddress,getblockcount,stop";
    let whitelist = format!("-rpcwhitelist=u:{whitelist}");
    let args = ["-rpcuser=u", "-rpcpassword=p", &whitelist];
    let bitcoind = Bitcoind::start_with(Network::Regtest, &args);
    bitcoind.generate(1);
    let side = Side::start(vec![node("longpolls", &bitcoind)]);
    side.full_on(tip(&bitcoind));
    side.said("waitforblockheight cannot be used: long polling instead node=longpolls");
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let (_, _, after) = follow(&side, &bitcoind);
        slowest = slowest.max(after);
    }
    println!("slowest {slowest:?}");
}

#[test]
fn a_notification_makes_it_look() {
    let bitcoind = Bitcoind::regtest();
    bitcoind.generate(1);
    let side = Side::start(vec![node("notices", &bitcoind)]);
    side.full_on(tip(&bitcoind));
    for assume in [false, true] {
        let hash = bitcoind.generate(1)[0];
        let hash = Hash256::from_display_hex(&hash.to_string()).unwrap();
        if assume {
            side.templates.notify.assume_tip(hash);
        } else {
            side.templates.notify.notify();
        }
        side.full_on(hash);
    }
    // A tip that does not exist does no harm.
    side.templates.notify.assume_tip(Hash256([7; 32]));
    let hash = bitcoind.generate(1)[0].to_string();
    side.full_on(Hash256::from_display_hex(&hash).unwrap());
}

#[test]
fn a_node_that_starts_late_or_restarts_gives_work_within_two_seconds() {
    let mut bitcoind = Bitcoind::prepare(Network::Regtest, &[]);
    let side = Side::start(vec![node("late", &bitcoind)]);
    side.said("no work from the node; retrying node=late");
    bitcoind.start();
    let up = Instant::now();
    side.full_on(tip(&bitcoind));
    assert!(up.elapsed() < Duration::from_secs(2), "{:?}", up.elapsed());

    // The cookie changes with a restart.
    let before = std::fs::read(bitcoind.cookie_file()).unwrap();
    bitcoind.generate(1);
    side.full_on(tip(&bitcoind));
    bitcoind.kill();
    side.status("down", |status| status[0].state == NodeState::Down);
    bitcoind.start();
    let up = Instant::now();
    assert_ne!(before, std::fs::read(bitcoind.cookie_file()).unwrap());
    let status = side.status("ready", |status| status[0].state == NodeState::Ready);
    assert!(up.elapsed() < Duration::from_secs(2), "{:?}", up.elapsed());
    println!("ready {:?} after the restarted node answered", up.elapsed());
    assert_eq!(status[0].network, Some(Network::Regtest));
    assert!(status[0].version.as_ref().unwrap().contains("/Satoshi:"));
    bitcoind.generate(1);
    side.full_on(tip(&bitcoind));
    let log = side.log.text();
    let mine = || log.lines().filter(|line| line.contains("node=late"));
    let refused = mine().filter(|l| l.contains("WARN") && l.contains("Connection refused")).count();
    assert!((1..=2).contains(&refused), "said {refused} times:\n{log}");
    assert!(mine().any(|line| line.contains("the node gives work again")));
}

#[test]
fn wrong_credentials_are_explained() {
    let args = ["-rpcuser=u", "-rpcpassword=p"];
    let bitcoind = Bitcoind::start_with(Network::Regtest, &args);
    let mut wrong = node("refused", &bitcoind);
    wrong.auth = Auth::UserPass("u".into(), "x".into());
    let side = Side::start(vec![wrong]);
    side.said("node=refused error=the node refuses the user or password advice=\"correct rpc_user");
    assert!(!side.log.text().contains("password: \"x\""));

    let mut missing = node("cookieless", &bitcoind);
    missing.auth = Auth::CookieFile("/nonexistent/.cookie".into());
    let side = Side::start(vec![missing]);
    side.said("node=cookieless error=cannot read the cookie file /nonexistent/.cookie");
}

#[test]
fn the_subsidy_is_exact_after_halvings_with_fees() {
    let mut bitcoind = Bitcoind::regtest();
    bitcoind.generate(148);
    let side = Side::start(vec![node("halving", &bitcoind)]);
    assert_eq!(side.full_on(tip(&bitcoind)).subsidy(), 50_0000_0000);
    let (quick, full, _) = follow(&side, &bitcoind);
    assert_eq!((full.height, full.subsidy()), (150, 25_0000_0000));
    assert_eq!(quick.unwrap().coinbase_value, 25_0000_0000);
    // The node caches a template for some seconds: nobody may ask while the mempool fills.
    drop(side);
    bitcoind.make_segwit_mempool(50);
    let side = Side::start(vec![node("fees", &bitcoind)]);
    let full = side.full_on(tip(&bitcoind));
    assert_eq!((full.transactions.len(), full.subsidy()), (50, 25_0000_0000));
    assert!(full.fees > 0 && full.witness_commitment.is_some());
    let (quick, full, _) = follow(&side, &bitcoind);
    assert_eq!(quick.unwrap().coinbase_value, full.subsidy());
}

#[test]
fn a_reorganisation_moves_work_back() {
    let bitcoind = Bitcoind::regtest();
    bitcoind.generate(5);
    let side = Side::start(vec![node("reorg", &bitcoind)]);
    side.full_on(tip(&bitcoind));
    let gone = bitcoind.invalidate_tip();
    let lower = side.full_on(tip(&bitcoind));
    assert_eq!(lower.height, 5);
    bitcoind.reconsider(&gone);
    let back = side.full_on(tip(&bitcoind));
    assert_eq!((back.height, back.prevhash.to_string()), (6, gone.to_string()));
}

#[test]
fn the_next_node_takes_over_and_the_first_comes_back() {
    let mut first = Bitcoind::regtest();
    let second = Bitcoind::regtest();
    first.generate(1);
    let block = first.rpc().get_block_hex(&first.best_hash()).unwrap();
    let _: Option<String> = second.rpc().call("submitblock", &[block.clone().into()]).unwrap();
    let side = Side::start(vec![node("first", &first), node("second", &second)]);
    side.status("first is active", |status| {
        status[0].is_active && status[1].state == NodeState::Ready
    });
    first.kill();
    let start = Instant::now();
    side.template("of the second", |template| &*template.source == "second");
    println!("failover {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(2));
    first.start();
    // After a kill it may have forgotten the block, and is not used again before it has caught up.
    let _: Option<String> = first.rpc().call("submitblock", &[block.into()]).unwrap();
    side.template("of the first", |template| &*template.source == "first");
    side.said("templates now come from another node from=second to=first");
}

#[test]
fn a_frozen_node_is_left_for_the_next() {
    let first = Bitcoind::regtest();
    let second = Bitcoind::regtest();
    let side = Side::start(vec![node("frozen", &first), node("awake", &second)]);
    side.status("both ready", |status| {
        status[0].is_active && status.iter().all(|node| node.state == NodeState::Ready)
    });
    first.freeze();
    let start = Instant::now();
    side.template("of the second", |template| &*template.source == "awake");
    println!("failover from a frozen node {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(6));
    first.thaw();
    side.template("of the first", |template| &*template.source == "frozen");
}

#[test]
fn nodes_come_and_go_while_it_runs() {
    let first = Bitcoind::regtest();
    let second = Bitcoind::regtest();
    let configs = [node("stays", &first), node("comes", &second)];
    let set = |side: &Side, nodes: &[&NodeConfig]| {
        let nodes = nodes.iter().map(|node| (*node).clone()).collect();
        side.templates.set_config(TemplateConfig {
            nodes,
            refresh: Duration::from_secs(1),
            allow_rules: Vec::new().into(),
            chains: Vec::new(),
        });
    };
    let names = |status: &[NodeStatus]| -> Vec<String> {
        status.iter().map(|node| node.name.to_string()).collect()
    };
    let side = Side::start(vec![configs[0].clone()]);
    let before = side.full_on(tip(&first));
    // The refresh interval changes at once: another template, although nothing is new.
    set(&side, &[&configs[0]]);
    side.template("again", |template| !std::ptr::eq(template, &*before));
    set(&side, &[&configs[1], &configs[0]]);
    side.status("a more preferred node takes over", |status| {
        names(status) == ["comes", "stays"] && status[0].is_active
    });
    side.template("of the new node", |template| &*template.source == "comes");
    // The node in use goes, and the other one takes over.
    set(&side, &[&configs[0]]);
    side.template("of the old node", |template| &*template.source == "stays");
    side.status("one is left", |status| names(status) == ["stays"] && status[0].is_active);
    assert!(side.runtime.block_on(side.templates.propose("00")).is_err());
    let log = side.log.text();
    let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(told("the node answers node=stays"), 1, "it was disturbed");
    assert_eq!(told("the nodes that give templates have changed before=[\"stays\"]"), 1);
    // All are gone at once: the work in use stays until the new one gives some.
    let last = side.templates.templates.borrow().clone();
    set(&side, &[]);
    side.status("none is left", <[_]>::is_empty);
    assert_eq!(side.templates.templates.borrow().is_some(), last.is_some());
    set(&side, &[&configs[1]]);
    side.template("of the new node again", |template| &*template.source == "comes");
}

#[test]
fn a_full_mempool_does_not_delay_a_tip() {
    let mut bitcoind = Bitcoind::regtest();
    // Twice a block's worth would change nothing: the template is full.
    bitcoind.make_segwit_mempool(4_000);
    let mut config = node("crowded", &bitcoind);
    config.zmq_hashblock = bitcoind.zmq_url();
    let side = Side::start(vec![config]);
    let full = side.full_on(tip(&bitcoind));
    assert!(full.transactions.len() > 3_000, "{}", full.transactions.len());
    if bitcoind.zmq_url().is_some() {
        side.said("listening for new blocks over ZeroMQ node=crowded");
    }
    // An empty block leaves the mempool as it is.
    let rpc = bitcoind.rpc();
    for _ in 0..5 {
        let address = bitcoind.new_address();
        let args = [address.to_string().into(), Vec::<String>::new().into()];
        let _: GeneratedBlock = rpc.call("generateblock", &args).unwrap();
        side.full_on(tip(&bitcoind));
    }
    let log = side.log.text();
    let mut quick: Vec<u64> = times(&log, "new tip: empty work sent node=crowded");
    let mut whole: Vec<u64> = times(&log, "template: full work sent node=crowded");
    quick.sort_unstable();
    whole.sort_unstable();
    println!("hint to subsidy-only work {quick:?} us, to full work {whole:?} us");
    assert_eq!(quick.len(), 5, "{log}");
}

#[derive(serde::Deserialize)]
struct GeneratedBlock {}

/// The `after_us` of log lines with `what`.
fn times(log: &str, what: &str) -> Vec<u64> {
    let lines = log.lines().filter(|line| line.contains(what));
    lines.filter_map(|line| line.split("after_us=").nth(1)?.trim().parse().ok()).collect()
}

#[test]
fn a_custom_signet_gives_work() {
    let bitcoind = Bitcoind::signet();
    let side = Side::start(vec![node("signet", &bitcoind)]);
    let full = side.full_on(tip(&bitcoind));
    assert_eq!((full.height, full.subsidy()), (1, 50_0000_0000));
    side.status("network", |_| side.templates.network() == Some(Network::Signet));
    // Nothing before the node's template: a block without a commitment cannot be signed.
    let (quick, full, _) = follow(&side, &bitcoind);
    assert!(quick.is_none() && full.height == 2, "{quick:?}");
}

/// Testnet 4 begins with blocks of minimum difficulty: its first one is years old.
#[test]
fn testnet4_gives_work_at_the_current_difficulty() {
    let bitcoind = Bitcoind::start_with(Network::Testnet4, &[]);
    let side = Side::start(vec![node("testnet4", &bitcoind)]);
    let full = side.full_on(tip(&bitcoind));
    assert_eq!((full.height, full.nbits.get(), full.subsidy()), (1, 0x1d00_ffff, 50_0000_0000));
    side.status("network", |_| side.templates.network() == Some(Network::Testnet4));
}

#[test]
fn a_node_that_makes_small_blocks_is_reported_once() {
    let mut bitcoind = Bitcoind::start_with(Network::Regtest, &["-blockmaxweight=150000"]);
    bitcoind.make_segwit_mempool(1_200);
    let nodes = vec![node("small", &bitcoind)];
    let config = |nodes| TemplateConfig {
        nodes,
        refresh: Duration::from_millis(200),
        allow_rules: Vec::new().into(),
        chains: Vec::new(),
    };
    let side = Side::start(nodes.clone());
    side.templates.set_config(config(nodes));
    side.said("the node's templates are less than half full");
    side.full_on(Hash256::from_display_hex(&bitcoind.generate(1)[0].to_string()).unwrap());
    let log = side.log.text();
    let is_it = |line: &&str| line.contains("less than half full") && line.contains("node=small");
    let told = log.lines().filter(is_it);
    let line = told.clone().next().unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("blockmaxweight"), "{line}");
    assert_eq!(told.count(), 1);
}

#[test]
fn a_proposal_is_judged() {
    let (bitcoind, other) = (Bitcoind::regtest(), Bitcoind::regtest());
    for hash in bitcoind.generate(2) {
        let hex = bitcoind.rpc().get_block_hex(&hash).unwrap();
        let _: Option<String> = other.rpc().call("submitblock", &[hex.into()]).unwrap();
    }
    let side = Side::start(vec![node("proposals", &bitcoind), node("second", &other)]);
    side.full_on(tip(&bitcoind));
    side.status("both", |status| status.iter().all(|it| it.state == NodeState::Ready));
    let block = bitcoind.rpc().get_block_hex(&bitcoind.best_hash()).unwrap();
    let verdict = side.runtime.block_on(side.templates.propose(&block));
    assert_eq!(verdict, Ok(()), "a block that it already has");
    let wrong = block.replacen(&block[8..72], &"0".repeat(64), 1);
    let verdict = side.runtime.block_on(side.templates.propose(&wrong));
    assert!(matches!(verdict, Err(ProposeError::Refused(_) | ProposeError::Stale)), "{verdict:?}");
    // The active one goes silent while it is asked.
    bitcoind.freeze();
    let verdict = async { timeout(Duration::from_secs(5), side.templates.propose(&block)).await };
    assert_eq!(side.runtime.block_on(verdict).expect("it waits for the silent one"), Ok(()));
    bitcoind.thaw();
}
