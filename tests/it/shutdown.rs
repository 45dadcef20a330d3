//! Found blocks survive the gateway.

use std::{fs, time::Duration};

use crate::common::{eventually, gateway::Gateway};
use gatewayd::devnet::{
    miner::{Miner, MinerHandle, MinerOptions},
    node::{Node, NodeHandle, NodeOptions},
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

async fn node() -> NodeHandle {
    // Every share is a block, so that there is one when needed.
    let nbits = gatewayd::work::Nbits::new(0x207f_ffff).unwrap();
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    Node::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

fn gateway(node: &NodeHandle) -> Gateway {
    Gateway::start(&format!(
        r#"
        [[node]]
        rpc_url = "{}"
        rpc_user = "{}"
        rpc_password = "{}"
        [mining]
        address = "{ADDRESS}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.0001
        difficulty_start = 0.0001
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.rpc_url(),
        node.user(),
        node.password(),
    ))
}

fn miner(gateway: &Gateway) -> MinerHandle {
    let connect = gateway.addr("stratum").to_string();
    Miner::start(MinerOptions { connect, ..MinerOptions::default() }).unwrap()
}

/// Names of the files of blocks whose outcome is open.
fn pending(gateway: &Gateway) -> Vec<String> {
    let names = fs::read_dir(gateway.dir().join("blocks")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".hex")).collect()
}

/// The gateway is killed after a block is found and before the slow node answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_survives_kill_9() {
    let node = node().await;
    let mut gateway = gateway(&node);
    // Longer than the gateway will live: the submission ends with its connection.
    node.set_unavailable(false);
    node.set_reject_blocks(None);
    let miner = miner(&gateway);
    node.set_submit_delay(Duration::from_secs(3600));
    gateway.wait_for_line("block found", Duration::from_secs(60));
    eventually("the block on disk", Duration::from_secs(5), || {
        (!pending(&gateway).is_empty()).then_some(())
    });
    gateway.kill9();
    miner.stop().await;
    assert_eq!(node.blocks().iter().filter(|block| block.submitted_by.is_some()).count(), 0);
    node.set_submit_delay(Duration::ZERO);
    let gateway = gateway.restart();
    gateway.wait_for_line("left undecided", Duration::from_secs(10));
    eventually("the block at the node", Duration::from_secs(10), || {
        node.blocks().iter().any(|block| block.submitted_by.is_some()).then_some(())
    });
    eventually("nothing pending", Duration::from_secs(10), || {
        pending(&gateway).is_empty().then_some(())
    });
}

/// SIGTERM at the moment when a block is found: it still goes out.
#[tokio::test(flavor = "multi_thread")]
async fn a_block_found_during_shutdown_goes_out() {
    let node = node().await;
    let mut gateway = gateway(&node);
    node.set_submit_delay(Duration::from_millis(1500));
    let miner = miner(&gateway);
    gateway.wait_for_line("block found", Duration::from_secs(60));
    assert_eq!(node.height(), 0, "the node has not answered yet");
    gateway.signal("TERM");
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
    assert!(node.height() >= 1);
    assert!(gateway.lines().iter().any(|line| line.contains("block accepted")));
    miner.stop().await;
}

/// SIGINT and SIGTERM end it cleanly, SIGHUP does not end it, SIGUSR1 looks for a block.
#[tokio::test(flavor = "multi_thread")]
async fn signals_do_what_they_say() {
    let node = node().await;
    let mut gateway = gateway(&node);
    gateway.addr("stratum");
    gateway.signal("HUP");
    gateway.wait_for_line("the configuration was reloaded", Duration::from_secs(5));
    gateway.signal("USR1");
    gateway.signal("INT");
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
}
