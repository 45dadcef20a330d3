//! New settings are tried before they are written: each node and pool that changes, once, and no
//! more often than a person needs.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use gatewayd::devnet::{
    node::{Node, NodeHandle, NodeOptions},
    pool::{Pool, PoolOptions},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{Answer, ask, get},
};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const PASSWORD: &str = "correct horse battery";
const SOON: Duration = Duration::from_secs(120);

fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), any()).await.unwrap()
}

fn start(node: &NodeHandle, address: &str, with_password: bool) -> (Gateway, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let file = if with_password { password.display().to_string() } else { String::new() };
    let gateway = Gateway::start(&format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n\
         [mining]\naddress = \"{address}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         [api]\nlisten = \"127.0.0.1:0\"\nadmin_password_file = \"{file}\"\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n",
        node.rpc_url(),
        node.user(),
        node.password()
    ));
    (gateway, folder)
}

fn put_as(api: SocketAddr, bearer: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {bearer}");
    let headers = [("Authorization", bearer.as_str())];
    ask(api, "PUT", "/api/v1/config", &headers, Some(&body.to_string()))
}

fn put(api: SocketAddr, changes: &Value, check_only: bool) -> Answer {
    let body = json!({ "changes": changes, "check_only": check_only, "try_changes": true });
    put_as(api, PASSWORD, &body)
}

fn ready(api: SocketAddr) {
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
    // The password is hashed first.
    let is_known = || get(api, "/api/v1/session").json()["admin_enabled"] == true;
    eventually("the password", SOON, || is_known().then_some(()));
}

/// Why nothing was changed.
#[track_caller]
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, 422, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["error"], "try-failed", "{answer}");
    assert_eq!(answer["problems"].as_array().unwrap().len(), 1, "{answer}");
    answer["problems"][0].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_let_in_is_not_saved_and_the_problem_names_the_key() {
    let (node, other) = (node().await, node().await);
    let (gateway, _folder) = start(&node, ADDRESS, true);
    let api = gateway.addr("http");
    ready(api);
    let file = gateway.dir().join("gatewayd.toml");
    let before = fs::read_to_string(&file).unwrap();
    let closed = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let cases = [
        (json!({ "node.0.rpc_password": "wrong" }), "node.0.rpc_password: node ", "refuses"),
        (
            json!({ "node.0.rpc_url": format!("http://{closed}") }),
            "node.0.rpc_url: node ",
            "nothing answers",
        ),
        (
            json!({
                "node.0.rpc_user": null,
                "node.0.rpc_password": null,
                "node.0.rpc_cookie_file": "/nowhere/.cookie",
            }),
            "node.0.rpc_cookie_file: node ",
            "/nowhere/.cookie",
        ),
        (
            json!({
                "node.1.rpc_url": other.rpc_url(),
                "node.1.rpc_user": other.user(),
                "node.1.rpc_password": "wrong",
            }),
            "node.1.rpc_password: node ",
            "correct rpc_user and rpc_password",
        ),
    ];
    for (changes, key, why) in &cases {
        for check_only in [true, false] {
            let problem = refused(&put(api, changes, check_only));
            assert!(problem.starts_with(key) && problem.contains(why), "{problem}");
            assert!(!problem.contains("wrong"), "no password in an answer: {problem}");
        }
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    assert_eq!(get(api, "/readyz").status, 200);
    let fine = json!({
        "node.1.rpc_url": other.rpc_url(),
        "node.1.rpc_user": other.user(),
        "node.1.rpc_password": other.password(),
    });
    let answer = put(api, &fine, false);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let tried = answer.json()["tried"].clone();
    assert_eq!(tried.as_array().unwrap().len(), 1, "only what changes: {tried}");
    assert!(tried[0].as_str().unwrap().ends_with("gives work, on \"regtest\""), "{tried}");
    // Saving it all the same takes a flag, and scripts are not asked.
    let body = json!({ "changes": { "node.1.rpc_password": "wrong" } });
    assert_eq!(put_as(api, PASSWORD, &body).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_with_another_key_is_not_saved_and_one_that_answers_is() {
    let node = node().await;
    let pool = Pool::start(PoolOptions::default(), any()).await.unwrap();
    let (gateway, _folder) = start(&node, ADDRESS, true);
    let api = gateway.addr("http");
    ready(api);
    let key = pool.public_key_hex();
    let wrong_digit = format!("{}{}", if key.starts_with('0') { '1' } else { '0' }, &key[1..]);
    let of = |port: u16, key: &str| json!({ "pool.0.host": "127.0.0.1", "pool.0.port": port, "pool.0.public_key": key });
    let problem = refused(&put(api, &of(pool.addr.port(), &wrong_digit), false));
    assert!(problem.starts_with("pool.0.public_key: pool 127.0.0.1:"), "{problem}");
    assert!(problem.contains("most likely not its key"), "{problem}");
    let closed = TcpListener::bind(any()).unwrap().local_addr().unwrap();
    let problem = refused(&put(api, &of(closed.port(), &key), false));
    assert!(problem.starts_with("pool.0.host: pool 127.0.0.1:"), "{problem}");
    let answer = put(api, &of(pool.addr.port(), &key), false);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().contains("has this key"), "{}", answer.text());
    let status = || get(api, "/api/v1/status").json();
    eventually("pooled", SOON, || (status()["mode"] == "pooled").then_some(()));
}

/// A stranger's port, and how often it was connected to.
fn counter() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(any()).unwrap();
    let (addr, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for socket in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(socket);
        }
    });
    (addr, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_sixty_four_tabs_knocks_at_no_door_more_often_than_one() {
    let node = node().await;
    let (gateway, _folder) = start(&node, ADDRESS, true);
    let api = gateway.addr("http");
    ready(api);
    let (stranger, count) = counter();
    let changes = json!({ "node.0.rpc_url": format!("http://{stranger}"), "node.0.rpc_user": "x",
                          "node.0.rpc_password": "y" });
    // The first one, so that the password is known before the others come.
    refused(&put(api, &changes, true));
    let one = count.load(Ordering::Relaxed);
    let tabs: Vec<_> = (0..63)
        .map(|_| {
            let changes = changes.clone();
            thread::spawn(move || put(api, &changes, true))
        })
        .collect();
    let answers: Vec<_> = tabs.into_iter().map(|tab| tab.join().unwrap()).collect();
    let refused = answers.iter().filter(|answer| answer.status == 429);
    assert!(refused.clone().all(|answer| answer.header("retry-after").is_some()));
    // Twelve at once, and one every five seconds of a slow machine.
    assert!(refused.count() >= 32, "{:?}", answers.iter().map(|it| it.status).collect::<Vec<_>>());
    let knocks = count.load(Ordering::Relaxed);
    assert!(knocks <= one * 32, "{knocks} connections, {one} for one try");
    // Settings that need no try are saved meanwhile.
    let answer = put_as(api, PASSWORD, &json!({ "changes": { "mining.coinbase_tag": "x" } }));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Whoever only makes the first settings learns nothing from tries, and sends nothing elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_try_sends_the_stored_login_to_nobody() {
    let node = node().await;
    let (gateway, _folder) = start(&node, "", false);
    let api = gateway.addr("http");
    let line = gateway.wait_for_line("set-up code ", SOON);
    let code = line.split("set-up code ").nth(1).unwrap().split(' ').next().unwrap();
    let (stranger, count) = counter();
    for changes in [
        json!({ "node.0.rpc_url": format!("http://{stranger}") }),
        json!({ "node.0.rpc_url": format!("http://{stranger}"),
                "node.0.rpc_password": "<secret>" }),
    ] {
        let body = json!({ "changes": changes, "check_only": true, "try_changes": true });
        let answer = put_as(api, code, &body);
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(answer.json()["error"], "bad-settings", "{}", answer.text());
    }
    assert_eq!(count.load(Ordering::Relaxed), 0);
    // Without a code nothing is tried at all.
    let body = json!({ "changes": { "pool.0.host": "127.0.0.1", "pool.0.port": stranger.port() },
                       "check_only": true, "try_changes": true });
    assert_eq!(put_as(api, "0000-0000", &body).status, 401);
    assert_eq!(count.load(Ordering::Relaxed), 0);
}
