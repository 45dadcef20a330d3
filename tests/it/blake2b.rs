//! Two real Knots across the activation of the BLAKE2b proof of work: one that forks, and one that
//! stays on the SHA-256 chain. What is known about them: shared/blake2b/BLAKE2B.md.

use std::{fs, time::Duration};

use crate::common::{
    bitcoind::{Bitcoind, help_names},
    eventually,
    gateway::Gateway,
    http::{Answer, get},
    templates::RunningTemplates,
};
use bitcoin::Network;
use bitcoincore_rpc::RpcApi;
use gatewayd::{
    devnet::miner::{Miner, MinerHandle, MinerOptions},
    template::NodeState,
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// The first block with the other proof of work, where there is one.
const FORK: u64 = 20;
/// Even a busy machine finds a block in half a minute.
const SOON: Duration = Duration::from_secs(300);

fn forks() -> Bitcoind {
    forks_with(&[])
}

fn forks_with(args: &[&str]) -> Bitcoind {
    // A node that does not know it does not start with it.
    let at = help_names("blake2b").then(|| format!("-testactivationheight=blake2b@{FORK}"));
    let args: Vec<&str> = at.as_deref().into_iter().chain(args.iter().copied()).collect();
    Bitcoind::start_with(Network::Regtest, &args)
}

/// Whether this bitcoind knows about the fork: older Knots and Bitcoin Core do not, and cannot be
/// tested here.
fn has_fork(node: &Bitcoind) -> bool {
    let info: serde_json::Value = node.rpc().call("getdeploymentinfo", &[]).unwrap();
    let has = info.get("blake2b").is_some();
    assert_eq!(has, help_names("blake2b"), "{info}");
    if !has {
        println!("skipped: this bitcoind does not know about the fork");
    }
    has
}

fn config(nodes: &[&str]) -> String {
    let nodes = nodes.concat();
    format!(
        r#"
        {nodes}
        [mining]
        address = "{ADDRESS}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.00025
        difficulty_start = 0.00025
        [api]
        listen = "127.0.0.1:0"
        [ledger]
        data_dir = "{{dir}}"
        "#
    )
}

fn name(node: &Bitcoind) -> String {
    node.rpc_url().trim_start_matches("http://").to_owned()
}

/// Submits to `to` all blocks of `from` that it lacks.
fn submit_blocks(from: &Bitcoind, to: &Bitcoind) {
    let (from, to) = (from.rpc(), to.rpc());
    for height in to.get_block_count().unwrap() + 1..=from.get_block_count().unwrap() {
        let hex = from.get_block_hex(&from.get_block_hash(height).unwrap()).unwrap();
        let _: Option<String> = to.call("submitblock", &[hex.into()]).unwrap();
    }
}

fn miner(gateway: &Gateway) -> MinerHandle {
    Miner::start(MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.a"),
        hashrate_max: Some(1_500_000.0),
        ..MinerOptions::default()
    })
    .unwrap()
}

fn states(gateway: &Gateway) -> Vec<(String, bool)> {
    let answer = get(gateway.addr("http"), "/api/v1/nodes").json();
    let state = |node: &serde_json::Value| {
        (node["state"].as_str().unwrap().to_owned(), node["is_active"].as_bool().unwrap())
    };
    answer["nodes"].as_array().unwrap().iter().map(state).collect()
}

#[track_caller]
fn wait_states(gateway: &Gateway, wanted: &[(&str, bool)]) {
    eventually(&format!("nodes are {wanted:?}"), SOON, || {
        let states = states(gateway);
        let states: Vec<_> = states.iter().map(|(state, active)| (&**state, *active)).collect();
        (states == wanted).then_some(())
    });
}

/// The warning with this code: its text and its advice.
fn warning(gateway: &Gateway, code: &str) -> Option<(String, String)> {
    let status = get(gateway.addr("http"), "/api/v1/status").json();
    let all = status["warnings"].as_array().unwrap();
    let found = all.iter().find(|warning| warning["code"] == code)?;
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    Some((text("text"), text("advice")))
}

#[track_caller]
fn is_named(text: &str) {
    for word in ["BLAKE2b", "SHA-256 miners need", "Bitcoin Core 30"] {
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

/// Exit code and output of `gatewayd check`.
fn check(toml: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gatewayd.toml");
    fs::write(&path, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let output = Gateway::command().arg("--config").arg(&path).arg("check").output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), told)
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_stay_on_the_sha256_side_and_their_block_at_the_fork_is_accepted() {
    let (forks, stays) = (forks(), Bitcoind::regtest());
    if !has_fork(&forks) {
        return;
    }
    forks.generate(FORK - 3);
    submit_blocks(&forks, &stays);
    // The one that forks is preferred.
    let toml = config(&[&forks.node_toml(), &stays.node_toml()]);
    let gateway = Gateway::start(&toml);
    wait_states(&gateway, &[("ready", true), ("ready", false)]);
    let (text, advice) =
        warning(&gateway, "node-blake2b-soon").expect("it is announced before the fork");
    assert!(text.contains(&name(&forks)) && text.contains(&format!("block {FORK}")), "{text}");
    is_named(&format!("{text} {advice}"));

    // Each share is a block: the miner itself takes both nodes to the fork, and one beyond it.
    let miner = miner(&gateway);
    eventually("blocks on the SHA-256 side of the fork", SOON, || {
        (stays.height() >= FORK + 2).then_some(())
    });
    assert_eq!(forks.height(), FORK - 1);
    wait_states(&gateway, &[("wrong-chain", false), ("ready", true)]);
    gateway.wait_for_line(&format!("block accepted height={FORK} "), SOON);
    let line = gateway.wait_for_line("the BLAKE2b chain", SOON);
    is_named(&line);
    let (text, advice) = warning(&gateway, "node-blake2b").expect("the page shows it");
    assert!(text.contains(&name(&forks)), "{text}");
    is_named(&format!("{text} {advice}"));
    assert_eq!(get(gateway.addr("http"), "/readyz").status, 200);

    // Far ahead in blocks and in work, on the other side.
    forks.generate(50);
    let height = stays.height();
    eventually("more blocks", SOON, || (stays.height() >= height + 3).then_some(()));
    let stats = miner.stop().await;
    assert_eq!(stats.disconnects, 0, "{stats:?}");
    assert_eq!(states(&gateway), [("wrong-chain".to_owned(), false), ("ready".to_owned(), true)]);
    let alarms: Vec<_> =
        gateway.lines().into_iter().filter(|line| line.contains("ERROR")).collect();
    assert!(alarms.is_empty(), "a node on another chain rejects each block: {alarms:#?}");
    assert!(warning(&gateway, "block-refused").is_none());

    let (code, told) = check(&toml);
    assert_eq!(code, Some(78), "{told}");
    let line = told.lines().find(|line| line.contains("PROBLEM")).unwrap();
    assert!(line.contains(&format!("node {}", name(&forks))), "{told}");
    is_named(line);
}

#[track_caller]
fn unready(gateway: &Gateway) -> Answer {
    eventually("not ready", SOON, || {
        let answer = get(gateway.addr("http"), "/readyz");
        (answer.status == 503).then_some(answer)
    })
}

#[test]
fn a_lone_node_that_forks_is_named_and_gives_no_more_work() {
    let forks = forks();
    if !has_fork(&forks) {
        return;
    }
    forks.generate(FORK - 2);
    let gateway = Gateway::start(&config(&[&forks.node_toml()]));
    wait_states(&gateway, &[("ready", true)]);
    eventually("ready", SOON, || {
        (get(gateway.addr("http"), "/readyz").status == 200).then_some(())
    });
    forks.generate(1);
    is_named(unready(&gateway).text());
    assert_eq!(states(&gateway)[0].0, "wrong-chain");

    // Continues from the other side, and from the start.
    forks.generate(3);
    let gateway = gateway.restart();
    is_named(&gateway.wait_for_line("the BLAKE2b chain", SOON));
    // Until a moment ago, the reason was that there was no template yet.
    eventually("readyz to name it", SOON, || {
        unready(&gateway).text().contains("BLAKE2b").then_some(())
    });
}

/// Where nothing else tells.
#[test]
fn a_template_refused_for_its_rule_names_the_chain() {
    let allowed = "getblocktemplate,getblockchaininfo,getnetworkinfo,getbestblockhash,\
                   getblockheader,generatetoaddress,getblockcount,stop,uptime,waitforblockheight";
    let allowed = format!("-rpcwhitelist=u:{allowed}");
    let knows = forks();
    if !has_fork(&knows) {
        return;
    }
    let forks = forks_with(&["-rpcuser=u", "-rpcpassword=p", &allowed]);
    forks.generate(FORK + 3);
    let toml = config(&[&forks.node_toml()]);
    let gateway = Gateway::start(&toml);
    is_named(&gateway.wait_for_line("the BLAKE2b chain", SOON));
    is_named(unready(&gateway).text());
    let (code, told) = check(&toml);
    assert_eq!(code, Some(78), "{told}");
    is_named(&told);
}

#[test]
fn a_node_that_only_gets_blocks_is_named_too() {
    let (forks, stays) = (forks(), Bitcoind::regtest());
    if !has_fork(&forks) {
        return;
    }
    forks.generate(FORK + 1);
    let only_blocks = format!("{}submit_only = true\n", forks.node_toml());
    let toml = config(&[&stays.node_toml(), &only_blocks]);
    let gateway = Gateway::start(&toml);
    wait_states(&gateway, &[("ready", true), ("wrong-chain", false)]);
    let (text, advice) = warning(&gateway, "node-blake2b").expect("the page shows it");
    is_named(&format!("{text} {advice}"));
    let (code, told) = check(&toml);
    assert_eq!(code, Some(78), "{told}");
    is_named(&told);
}

impl RunningTemplates {
    #[track_caller]
    fn wait(&self, wanted: &[NodeState]) {
        eventually(&format!("{wanted:?}"), SOON, || {
            let status = self.templates.status.borrow();
            status.iter().map(|node| node.state).eq(wanted.iter().copied()).then_some(())
        });
    }

    /// The nodes that gave work from the fork on.
    fn sources_after_fork(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let after = seen.iter().filter(|template| u64::from(template.height) >= FORK);
        after.map(|template| template.source.to_string()).collect()
    }
}

#[test]
fn no_work_is_made_from_a_header_at_the_fork() {
    let forks = forks();
    if !has_fork(&forks) {
        return;
    }
    forks.generate(FORK - 3);
    let side = RunningTemplates::start(&[("forks", &forks)]);
    side.wait(&[NodeState::Ready]);
    forks.generate(1);
    eventually("work from the last header before it", SOON, || {
        let height = side.templates.templates.borrow().as_ref()?.height;
        (u64::from(height) == FORK - 1).then_some(())
    });
    forks.generate(1);
    side.wait(&[NodeState::WrongChain]);
    // Blocks of the other kind.
    forks.generate(2);
    eventually("it is asked again", SOON, || {
        let height = side.templates.status.borrow()[0].height;
        (height == u32::try_from(FORK + 1).ok()).then_some(())
    });
    assert_eq!(side.sources_after_fork(), Vec::<String>::new());
}

#[test]
fn the_two_sides_are_never_mixed() {
    let (forks, stays) = (forks(), Bitcoind::regtest());
    if !has_fork(&forks) {
        return;
    }
    forks.generate(FORK - 2);
    submit_blocks(&forks, &stays);
    let side = RunningTemplates::start(&[("forks", &forks), ("stays", &stays)]);
    side.wait(&[NodeState::Ready, NodeState::Ready]);
    forks.generate(1);
    submit_blocks(&forks, &stays);
    side.wait(&[NodeState::WrongChain, NodeState::Ready]);
    // More work on the other side, then less.
    for (node, blocks) in [(&forks, 30), (&stays, 3), (&forks, 1), (&stays, 40)] {
        node.generate(blocks);
        eventually("work on the SHA-256 side", SOON, || {
            let template = side.templates.templates.borrow().clone()?;
            let is_tip = template.prevhash.to_string() == stays.best_hash().to_string();
            (is_tip && &*template.source == "stays").then_some(())
        });
    }
    side.wait(&[NodeState::WrongChain, NodeState::Ready]);
    let sources = side.sources_after_fork();
    assert!(!sources.is_empty() && sources.iter().all(|it| it == "stays"), "{sources:?}");
}
