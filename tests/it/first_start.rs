//! The first start: without any file, with settings that do not work yet, with a first password.
//! Nobody is locked out on the way, and only the owner gets in.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};

use gatewayd::devnet::node::{Node, NodeHandle, NodeOptions};
use serde_json::{Value, json};

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{Answer, ask, get},
};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(120);

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

/// As started by somebody who has nothing but the program; the ports are the test's.
fn bare(folder: &Path) -> Command {
    let mut command = Gateway::command();
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("GATEWAYD_API__LISTEN", "127.0.0.1:0")
        .env("GATEWAYD_STRATUM__LISTEN", "[\"127.0.0.1:0\"]")
        .env("GATEWAYD_LEDGER__DATA_DIR", folder.join("data"));
    command
}

fn code_of(gateway: &Gateway) -> String {
    let line = gateway.wait_for_line("set-up code ", SOON);
    line.split("set-up code ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

fn put(api: SocketAddr, secret: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {secret}");
    let headers = [("Authorization", bearer.as_str())];
    ask(api, "PUT", "/api/v1/config", &headers, Some(&body.to_string()))
}

#[track_caller]
fn good(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn of(node: &NodeHandle, password: &str) -> Value {
    json!({
        "mining.address": ADDRESS,
        "node.0.rpc_url": node.rpc_url(),
        "node.0.rpc_user": node.user(),
        "node.0.rpc_password": password,
    })
}

fn is_open(api: SocketAddr) -> bool {
    get(api, "/api/v1/session").json()["setup_open"] == true
}

fn is_unfinished(api: SocketAddr) -> bool {
    get(api, "/api/v1/status").json()["setup_unfinished"] == true
}

fn ready(api: SocketAddr) {
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_any_file_is_set_up_and_a_named_file_has_to_be_there() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let mut named = Gateway::command();
    named.current_dir(folder.path()).args(["--config", "gatewayd.toml", "run"]);
    let missing = named.output().unwrap();
    assert_eq!(missing.status.code(), Some(78), "{missing:?}");
    fs::write(folder.path().join("gatewayd.toml"), "[mining]\nadress = \"x\"\n").unwrap();
    let broken = bare(folder.path()).output().unwrap();
    assert_eq!(broken.status.code(), Some(78), "{broken:?}");
    fs::remove_file(folder.path().join("gatewayd.toml")).unwrap();

    let gateway = Gateway::start_command(bare(folder.path()));
    let (code, api) = (code_of(&gateway), gateway.addr("http"));
    assert!(is_open(api) && is_unfinished(api));
    let body = json!({ "changes": of(&node, node.password()), "try_changes": true });
    good(&put(api, &code, &body));
    ready(api);
    assert!(!is_open(api) && !is_unfinished(api));
    let text = fs::read_to_string(folder.path().join("gatewayd.toml")).unwrap();
    assert!(text.contains(ADDRESS), "{text}");
}

/// A wrong password for the node, saved all the same, across two starts.
#[tokio::test(flavor = "multi_thread")]
async fn set_up_stays_open_until_there_is_work_over_restarts_too() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_command(bare(folder.path()));
    let (code, api) = (code_of(&gateway), gateway.addr("http"));
    good(&put(api, &code, &json!({ "changes": of(&node, "wrong") })));
    eventually("the node refuses", SOON, || {
        let nodes = get(api, "/api/v1/nodes").json();
        nodes.to_string().contains("rpc_password").then_some(())
    });
    assert!(is_open(api) && is_unfinished(api));
    let tried = json!({ "changes": {}, "check_only": true, "try_changes": true });
    let answer = put(api, &code, &tried);
    assert!(answer.text().contains("node.0.rpc_password: node "), "{}", answer.text());
    drop(gateway);

    let gateway = Gateway::start_command(bare(folder.path()));
    let (again, api) = (code_of(&gateway), gateway.addr("http"));
    assert_ne!(again, code);
    assert!(is_open(api) && is_unfinished(api));
    assert_eq!(put(api, &code, &tried).status, 401, "the earlier code");
    good(&put(api, &again, &json!({ "changes": of(&node, node.password()) })));
    ready(api);
    assert!(!is_open(api) && !is_unfinished(api));
    assert_eq!(put(api, &again, &json!({ "changes": {} })).status, 403);
    drop(gateway);

    // Once it has worked, set-up stays closed, with or without its node.
    drop(node);
    let gateway = Gateway::start_command(bare(folder.path()));
    let api = gateway.addr("http");
    assert!(!is_open(api) && !is_unfinished(api));
    assert!(!gateway.lines().iter().any(|line| line.contains("set-up code")));
}

#[tokio::test(flavor = "multi_thread")]
async fn set_up_gives_a_first_password_and_ends_with_it() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_command(bare(folder.path()));
    let (code, api) = (code_of(&gateway), gateway.addr("http"));
    let with = |password: &str, node_password: &str| {
        let changes = of(&node, node_password);
        json!({ "changes": changes, "admin_password": password })
    };
    for (bad, why) in [("short", "at least 8"), ("two\nlines of it", "no line"), ("", "empty")] {
        let answer = put(api, &code, &with(bad, node.password()));
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert!(answer.text().contains("admin_password ") && answer.text().contains(why));
    }
    // Where it is kept is not shown to whoever only has the code.
    let elsewhere = json!({ "changes": { "api.admin_password_file": "/etc/passwd" } });
    assert_eq!(put(api, &code, &elsewhere).status, 422);
    assert!(is_open(api));

    // With a node that does not work, set-up continues with the password.
    good(&put(api, &code, &with(PASSWORD, "wrong")));
    assert!(!is_open(api) && is_unfinished(api));
    assert_eq!(put(api, &code, &json!({ "changes": {} })).status, 401, "the code has expired");
    let file = folder.path().join("data/admin-password");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("$argon2id$") && !text.contains(PASSWORD), "{text}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    good(&put(api, PASSWORD, &json!({ "changes": of(&node, node.password()) })));
    ready(api);
    assert!(!is_unfinished(api));
    // A second password is not a first one.
    let answer = put(api, PASSWORD, &with("another password", node.password()));
    assert_eq!(answer.status, 422, "{}", answer.text());
    let lines = gateway.lines().join("\n");
    assert!(!lines.contains(PASSWORD), "no password in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_told_where_this_machine_is_found_and_never_a_loopback() {
    let node = node().await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = bare(folder.path());
    command.env("GATEWAYD_STRATUM__LISTEN", "[\"0.0.0.0:0\"]");
    let gateway = Gateway::start_command(command);
    let (code, api) = (code_of(&gateway), gateway.addr("http"));
    good(&put(api, &code, &json!({ "changes": of(&node, node.password()) })));
    ready(api);
    let status = get(api, "/api/v1/status").json();
    let addresses = status["stratum"]["addresses"].as_array().unwrap();
    for address in addresses {
        let address: std::net::IpAddr = address.as_str().unwrap().parse().unwrap();
        assert!(!address.is_loopback() && !address.is_unspecified(), "{address}");
    }
}
