//! The node switches to another network, under a running gatewayd and before it starts: it stays
//! up, says what is wrong, and can be fixed from its page alone.

use std::{fs, net::SocketAddr, time::Duration};

use crate::common::{
    bitcoind::Bitcoind,
    eventually,
    gateway::Gateway,
    http::{Answer, ask, get},
};
use bitcoin::Network;
use gatewayd::devnet::miner::{Miner, MinerHandle, MinerOptions};
use serde_json::{Value, json};

/// Addresses of the same key on regtest and on the other test networks; nobody has the key.
const REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SIGNET: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const MAINNET: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(120);

/// Its login is the same on every network, as on a node box.
fn node(network: Network) -> Bitcoind {
    Bitcoind::start_with(network, &["-rpcuser=box", "-rpcpassword=secret"])
}

fn toml(node: &Bitcoind, address: &str, api: &str) -> String {
    format!(
        r#"{}
[mining]
address = "{address}"
[stratum]
listen = ["127.0.0.1:0"]
difficulty_min = 0.000244140625
difficulty_start = 0.000244140625
shares_per_minute = 60
[api]
{api}
[ledger]
data_dir = "{{dir}}"
"#,
        node.node_toml()
    )
}

const PAGE: &str = "listen = \"127.0.0.1:0\"\nadmin_password_file = \"{dir}/password\"";
const OPEN_PAGE: &str = "listen = \"127.0.0.1:0\"";

/// Starts gatewayd with an admin password, and checks that miners mine.
fn start(node: &Bitcoind, address: &str) -> (Gateway, MinerHandle) {
    let gateway = Gateway::start(&toml(node, address, PAGE));
    set_password(&gateway);
    let miner = miner(&gateway);
    goes_on(&miner);
    (gateway, miner)
}

/// The file is configured before it exists, as on a box's first start.
fn set_password(gateway: &Gateway) {
    fs::write(gateway.dir().join("password"), PASSWORD).unwrap();
    gateway.addr("http");
    gateway.signal("HUP");
    gateway.wait_for_line("the configuration was reloaded", SOON);
    let api = gateway.addr("http");
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
}

fn miner(gateway: &Gateway) -> MinerHandle {
    Miner::start(MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: format!("{REGTEST}.rig"),
        hashrate_max: Some(2_000_000.0),
        ..MinerOptions::default()
    })
    .unwrap()
}

/// Waits until more shares have been accepted.
#[track_caller]
fn goes_on(miner: &MinerHandle) {
    let before = miner.stats().accepted;
    eventually("another share", SOON, || (miner.stats().accepted > before + 1).then_some(()));
}

fn put(api: SocketAddr, password: Option<&str>, changes: &Value) -> Answer {
    let body = json!({ "changes": changes }).to_string();
    let bearer = format!("Bearer {}", password.unwrap_or_default());
    let headers: &[(&str, &str)] =
        if password.is_some() { &[("Authorization", &bearer)] } else { &[] };
    ask(api, "PUT", "/api/v1/config", headers, Some(&body))
}

/// What everybody can see: alive, not ready, and why.
#[track_caller]
fn says_what_is_wrong(api: SocketAddr, node: &Bitcoind, network: &str, address: &str) {
    let node = node.rpc_url().replace("http://", "");
    let is_told = |text: &str| [&node, network, address].iter().all(|it| text.contains(*it));
    let ready = eventually("not ready, and why", SOON, || {
        Some(get(api, "/readyz")).filter(|it| it.status == 503 && is_told(it.text()))
    });
    assert!(ready.text().contains("mining.address"), "{}", ready.text());
    assert_eq!(get(api, "/healthz").status, 200);
    let status = get(api, "/api/v1/status").json();
    assert_eq!(status["setup_needed"], true, "{status}");
    let warnings = status["warnings"].as_array().unwrap();
    let warning = warnings.iter().find(|it| it["code"] == "wrong-network").unwrap();
    assert_eq!(warning["severity"], "error");
    assert!(is_told(&warning.to_string()), "{warning}");
    assert_eq!(get(api, "/").status, 200);
}

/// Everything is as it should be on that network, with a block to prove it.
#[track_caller]
fn mines_on(api: SocketAddr, node: &Bitcoind, network: &str) {
    eventually("ready, on that network", SOON, || {
        let status = get(api, "/api/v1/status").json();
        let is_there = status["network"] == network && status["setup_needed"] == false;
        (is_there && get(api, "/readyz").status == 200).then_some(())
    });
    let height = node.height();
    eventually("a block", SOON, || (node.height() > height).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_moved_under_a_running_gateway_is_followed_by_the_page_alone() {
    let mut node = node(Network::Regtest);
    // Heights of the new network are lower.
    node.generate(50);
    let (gateway, miner) = start(&node, REGTEST);
    let api = gateway.addr("http");
    node.move_to(Network::Signet);
    let line = gateway.wait_for_line("nothing can be mined", SOON);
    for part in [&node.rpc_url()[7..], "signet", REGTEST, "http://127.0.0.1:"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    says_what_is_wrong(api, &node, "signet", REGTEST);

    let wanted = json!({ "mining.address": SIGNET });
    for stranger in [None, Some("guessed wrong")] {
        let refused = put(api, stranger, &wanted);
        assert_eq!(refused.status, 401, "{}", refused.text());
    }
    assert_eq!(get(api, "/api/v1/session").json()["setup_open"], false);
    let refused = put(api, Some(PASSWORD), &json!({ "mining.address": MAINNET }));
    assert!(refused.status == 422 && refused.text().contains("signet"), "{}", refused.text());
    let done = put(api, Some(PASSWORD), &wanted);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["needs_restart"], json!([]));
    mines_on(api, &node, "signet");
    goes_on(&miner);

    // And back, which needs the other address again.
    node.move_to(Network::Regtest);
    says_what_is_wrong(api, &node, "regtest", SIGNET);
    assert_eq!(put(api, Some(PASSWORD), &json!({ "mining.address": REGTEST })).status, 200);
    mines_on(api, &node, "regtest");
    goes_on(&miner);
    assert_eq!(miner.stop().await.rejected, 0);
    let said = gateway.lines().iter().filter(|it| it.contains("nothing can be mined")).count();
    assert_eq!(said, 2, "once for each move");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_moved_before_the_start_is_followed_by_the_page_alone() {
    let mut node = node(Network::Regtest);
    let (mut gateway, miner) = start(&node, REGTEST);
    miner.stop().await;
    gateway.kill9();
    node.move_to(Network::Signet);
    let gateway = gateway.restart();
    let api = gateway.addr("http");
    gateway.wait_for_line("nothing can be mined", SOON);
    says_what_is_wrong(api, &node, "signet", REGTEST);
    // Once set up, setup stays closed.
    assert_eq!(get(api, "/api/v1/session").json()["setup_open"], false);
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
    let wanted = json!({ "mining.address": SIGNET });
    assert_eq!(put(api, None, &wanted).status, 401);
    let done = put(api, Some(PASSWORD), &wanted);
    assert_eq!(done.status, 200, "{}", done.text());
    mines(&gateway, &node).await;
}

async fn mines(gateway: &Gateway, node: &Bitcoind) {
    let miner = miner(gateway);
    goes_on(&miner);
    mines_on(gateway.addr("http"), node, node.network().to_core_arg());
    assert_eq!(miner.stop().await.rejected, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_the_node_back_is_all_that_a_waiting_gateway_needs() {
    let mut node = node(Network::Signet);
    let gateway = Gateway::start(&toml(&node, REGTEST, OPEN_PAGE));
    let api = gateway.addr("http");
    says_what_is_wrong(api, &node, "signet", REGTEST);
    // There is no password, and it is set up: nobody could change anything before, and nobody can
    // now.
    assert_eq!(get(api, "/api/v1/session").json()["setup_open"], false);
    assert_eq!(put(api, None, &json!({ "mining.address": SIGNET })).status, 403);
    node.move_to(Network::Regtest);
    mines(&gateway, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_and_a_signal_are_enough_too() {
    let node = node(Network::Signet);
    let gateway = Gateway::start(&toml(&node, MAINNET, OPEN_PAGE));
    gateway.wait_for_line("nothing can be mined", SOON);
    let file = gateway.dir().join("gatewayd.toml");
    let text = fs::read_to_string(&file).unwrap().replace(MAINNET, SIGNET);
    fs::write(file, text).unwrap();
    gateway.signal("HUP");
    mines(&gateway, &node).await;
}

/// One change on the page names another node and another address.
#[tokio::test(flavor = "multi_thread")]
async fn the_page_alone_can_switch_to_another_node_on_another_network() {
    let (old, new) = (node(Network::Regtest), node(Network::Signet));
    let (gateway, miner) = start(&old, REGTEST);
    let api = gateway.addr("http");
    let done = put(
        api,
        Some(PASSWORD),
        &json!({ "mining.address": SIGNET, "node.0.rpc_url": new.rpc_url(),
                 "node.0.zmq_hashblock": new.zmq_url().unwrap_or_default() }),
    );
    assert_eq!(done.status, 200, "{}", done.text());
    mines_on(api, &new, "signet");
    goes_on(&miner);
    assert_eq!(miner.stop().await.rejected, 0);
}

/// Addresses of the test networks look the same, so nothing has to be set.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_moved_to_where_the_address_fits_is_followed_automatically() {
    let mut node = node(Network::Signet);
    let (gateway, miner) = start(&node, SIGNET);
    let api = gateway.addr("http");
    node.move_to(Network::Testnet4);
    eventually("testnet4", SOON, || {
        let status = get(api, "/api/v1/status").json();
        (status["network"] == "testnet4" && status["setup_needed"] == false).then_some(())
    });
    node.move_to(Network::Signet);
    mines_on(api, &node, "signet");
    goes_on(&miner);
    miner.stop().await;
}
