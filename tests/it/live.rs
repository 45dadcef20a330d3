//! The configuration changes while miners mine: SIGHUP, the API, and a first start without one.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{ask, get},
};
use gatewayd::devnet::{
    miner::{Miner, MinerHandle, MinerOptions, MinerProtocol},
    node::{Node, NodeHandle, NodeOptions},
    pool::{Pool, PoolConfig, PoolHandle, PoolOptions},
};
use serde_json::{Value, json};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(120);

fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), any()).await.unwrap()
}

async fn pool(tag: &str) -> PoolHandle {
    let config = PoolConfig { tag: tag.as_bytes().to_vec(), ..PoolConfig::default() };
    Pool::start(PoolOptions { config, ..PoolOptions::default() }, any()).await.unwrap()
}

fn node_toml(node: &NodeHandle) -> String {
    format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n",
        node.rpc_url(),
        node.user(),
        node.password()
    )
}

fn pool_toml(pool: &PoolHandle) -> String {
    format!(
        "[[pool]]\nhost = \"{}\"\nport = {}\npublic_key = \"{}\"\n",
        pool.addr.ip(),
        pool.addr.port(),
        pool.public_key_hex()
    )
}

/// A configuration with these pools; `mining` and `stratum` are lines of those sections.
fn toml(node: &NodeHandle, pools: &[&PoolHandle], mining: &str, stratum: &str) -> String {
    let pools: String = pools.iter().map(|pool| pool_toml(pool)).collect();
    format!(
        r#"{}{pools}
[mining]
{mining}
[stratum]
listen = ["127.0.0.1:0"]
{stratum}
[api]
listen = "127.0.0.1:0"
[ledger]
data_dir = "{{dir}}"
[log]
level = "info"
"#,
        node_toml(node)
    )
}

const EASY: &str =
    "difficulty_min = 0.000244140625\ndifficulty_start = 0.000244140625\nshares_per_minute = 60";

fn paid() -> String {
    format!("address = \"{ADDRESS}\"")
}

fn write(gateway: &Gateway, text: &str) {
    let dir = gateway.dir();
    fs::write(dir.join("gatewayd.toml"), text.replace("{dir}", dir.to_str().unwrap())).unwrap();
}

/// Writes, signals, and waits until the log says it is done.
#[track_caller]
fn reload(gateway: &Gateway, text: &str) -> Vec<String> {
    let before = gateway.line_count();
    write(gateway, text);
    gateway.signal("HUP");
    gateway.wait_for_line_after(before, "configuration", SOON);
    gateway.lines()[before..].to_vec()
}

fn miner(gateway: &Gateway, protocol: MinerProtocol) -> MinerHandle {
    Miner::start(MinerOptions {
        protocol,
        connect: gateway.addr("stratum").to_string(),
        username: format!("{ADDRESS}.rig"),
        user_agent: "bitaxe/test/v1".into(),
        hashrate_max: Some(2_000_000.0),
        ..MinerOptions::default()
    })
    .unwrap()
}

#[track_caller]
fn eventually_at(api: SocketAddr, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(path, SOON, || Some(get(api, path).json()).filter(&fits))
}

/// Waits until another share has been accepted.
#[track_caller]
fn goes_on(miner: &MinerHandle) {
    let before = miner.stats().accepted;
    eventually("another share", SOON, || (miner.stats().accepted > before + 1).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_applies_settings_that_miners_need_not_notice() {
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, &[], &paid(), EASY));
    let api = gateway.addr("http");
    let miners = [MinerProtocol::Sv1, MinerProtocol::Sv2Extended].map(|it| miner(&gateway, it));
    miners.iter().for_each(goes_on);
    let harder =
        "difficulty_min = 0.00048828125\ndifficulty_start = 0.00048828125\nshares_per_minute = 60";
    let mining = format!("{}\ncoinbase_tag = \"changed\"", paid());
    let new = toml(&node, &[], &mining, harder).replace("\"info\"", "\"debug\"");
    let lines = reload(&gateway, &new).join("\n");
    let applied = gateway.wait_for_line("settings changed, in effect now", SOON);
    for key in ["mining.coinbase_tag", "stratum.difficulty_min", "log.level"] {
        assert!(applied.contains(key), "{applied}\n{lines}");
    }
    eventually("the new difficulty", SOON, || {
        miners.iter().all(|miner| miner.stats().difficulty >= 0.000_48).then_some(())
    });
    let tag = faster_hex::hex_string(b"changed");
    let has_tag = |work: &Value| {
        work["job"].to_string().contains("changed") || work.to_string().contains(&tag)
    };
    eventually_at(api, "/api/v1/work", has_tag);
    // New work is logged at this level.
    node.mine_one();
    gateway.wait_for_line("DEBUG", SOON);
    miners.iter().for_each(goes_on);
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_is_refused_as_a_whole() {
    let node = node().await;
    let good = toml(&node, &[], &paid(), EASY);
    let gateway = Gateway::start(&good);
    let miner = miner(&gateway, MinerProtocol::Sv1);
    goes_on(&miner);
    let difficulty = miner.stats().difficulty;
    let broken = toml(&node, &[], &paid(), "difficulty_min = -1.0\nshares_per_minute = 0")
        .replace("\"info\"", "\"loud\"");
    let lines = reload(&gateway, &broken).join("\n");
    gateway.wait_for_line("the old one stays", SOON);
    let lines = format!("{lines}\n{}", gateway.lines().join("\n"));
    for key in ["stratum.difficulty_min", "stratum.shares_per_minute"] {
        assert!(lines.contains(key), "{key}: {lines}");
    }
    // Invalid TOML, and an address of another network.
    reload(&gateway, "[mining\naddress");
    let other = "address = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"";
    let lines = reload(&gateway, &toml(&node, &[], other, EASY)).join("\n");
    assert!(lines.contains("network"), "{lines}");
    let lines = reload(&gateway, &toml(&node, &[], "", EASY)).join("\n");
    assert!(lines.contains("mining.address is missing"), "{lines}");
    goes_on(&miner);
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    assert!((stats.difficulty - difficulty).abs() < 1e-9, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_come_and_go_and_miners_stay() {
    let node = node().await;
    let (first, second) = (pool("first").await, pool("second").await);
    let gateway = Gateway::start(&toml(&node, &[], &paid(), EASY));
    let api = gateway.addr("http");
    let miners = [MinerProtocol::Sv1, MinerProtocol::Sv2Standard].map(|it| miner(&gateway, it));
    miners.iter().for_each(goes_on);
    for (pools, active) in
        [(vec![&first], &first), (vec![&second, &first], &second), (vec![&second], &second)]
    {
        reload(&gateway, &toml(&node, &pools, &paid(), EASY));
        let name = active.addr.to_string();
        let is_up = |view: &Value| {
            let used = view["pools"].as_array().unwrap().iter().find(|it| it["is_active"] == true);
            used.is_some_and(|it| it["name"] == name && it["state"] == "up")
        };
        let is_all = |view: &Value| view["pools"].as_array().unwrap().len() == pools.len();
        eventually_at(api, "/api/v1/pool", |view| is_up(view) && is_all(view));
        let before = active.stats().accepted;
        eventually("shares at the pool", SOON, || {
            (active.stats().accepted > before + 2).then_some(())
        });
    }
    reload(&gateway, &toml(&node, &[], &paid(), EASY));
    eventually_at(api, "/api/v1/status", |status| status["mode"] == "solo");
    eventually_at(api, "/api/v1/pool", |view| view["pools"] == json!([]));
    miners.iter().for_each(goes_on);
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    }
    assert_eq!((first.stats().rejected, second.stats().rejected), (0, 0));
}

/// The worst case: nothing is held for a pool that is away, so there must be no gap at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_whose_key_is_mistyped_is_not_switched_to() {
    let node = node().await;
    let (first, second) = (pool("first").await, pool("second").await);
    let holds_nothing = |pools: &[&PoolHandle]| {
        format!("{}[pooling]\nhold_shares = \"0s\"\n", toml(&node, pools, &paid(), EASY))
    };
    let gateway = Gateway::start(&holds_nothing(&[&first]));
    let api = gateway.addr("http");
    let miners = [MinerProtocol::Sv1, MinerProtocol::Sv2Extended].map(|it| miner(&gateway, it));
    let earns = |pool: &PoolHandle| {
        let before = pool.stats().accepted;
        eventually("shares at the pool", SOON, || {
            (pool.stats().accepted > before + 4).then_some(())
        });
    };
    earns(&first);
    let started = gateway.line_count();
    let good = holds_nothing(&[&second]);
    reload(&gateway, &good.replace(&second.public_key_hex(), &first.public_key_hex()));
    let told = |status: &Value| {
        let warnings = status["warnings"].as_array().unwrap();
        warnings.iter().any(|it| it["code"] == "pool-next-down")
    };
    let (used, wanted) = (first.addr.to_string(), second.addr.to_string());
    let status = eventually_at(api, "/api/v1/status", told).to_string();
    for part in [&used, &wanted, "public_key"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    earns(&first);
    let view = get(api, "/api/v1/pool").json();
    let states = |view: &Value| {
        let pools = view["pools"].as_array().unwrap().clone();
        let of = |it: &Value| (it["name"].clone(), it["state"].clone(), it["is_active"].clone());
        pools.iter().map(of).collect::<Vec<_>>()
    };
    let down = (json!(wanted), json!("down"), json!(false));
    assert_eq!(states(&view), [down, (json!(used), json!("up"), json!(true))], "{view}");
    assert!(view["pools"][0]["last_error"].is_string(), "{view}");
    let metrics = get(api, "/metrics");
    let is_up = format!("gatewayd_pool_up{{pool=\"{used}\"}} 1");
    assert!(metrics.text().contains(&is_up), "{}", metrics.text());

    reload(&gateway, &good);
    earns(&second);
    let view = get(api, "/api/v1/pool").json();
    assert_eq!(states(&view), [(json!(wanted), json!("up"), json!(true))], "{view}");
    assert!(!told(&get(api, "/api/v1/status").json()));
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    }
    let view = eventually_at(api, "/api/v1/pool", |view| view["relay"]["awaiting"] == 0);
    assert_eq!((&view["relay"]["lost"], &view["relay"]["held"]), (&json!(0), &json!(0)), "{view}");
    assert_eq!((first.stats().rejected, second.stats().rejected), (0, 0));
    let lines = gateway.lines().split_off(started);
    assert!(!lines.iter().any(|line| line.contains("sending miners away")), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_takes_over_when_the_file_says_so() {
    let (old, new) = (node().await, node().await);
    let gateway = Gateway::start(&toml(&old, &[], &paid(), EASY));
    let api = gateway.addr("http");
    let miner = miner(&gateway, MinerProtocol::Sv1);
    goes_on(&miner);
    while new.height() <= old.height() + 3 {
        new.mine_one();
    }
    reload(&gateway, &toml(&new, &[], &paid(), EASY));
    let height = u64::from(new.height());
    eventually_at(api, "/api/v1/status", |status| status["tip_height"].as_u64() >= Some(height));
    let nodes = eventually_at(api, "/api/v1/nodes", |it| it["nodes"][0]["state"] == "ready");
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1, "{nodes}");
    goes_on(&miner);
    let stats = miner.stop().await;
    assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    // Blocks go to the new node.
    let height = new.height();
    eventually("a block", SOON, || (new.height() >= height).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_need_a_restart_are_reported_and_the_old_values_stay() {
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, &[], &paid(), EASY));
    let api = gateway.addr("http");
    let stratum = gateway.addr("stratum");
    let new = toml(&node, &[], &format!("{}\ncoinbase_tag = \"x\"", paid()), EASY)
        .replace("[\"127.0.0.1:0\"]", "[\"127.0.0.1:1\"]");
    reload(&gateway, &new);
    let line = gateway.wait_for_line("need a restart", SOON);
    assert!(line.contains("stratum.listen") && !line.contains("coinbase_tag"), "{line}");
    // Repeated as long as it applies.
    let before = gateway.line_count();
    gateway.signal("HUP");
    gateway.wait_for_line_after(before, "need a restart", SOON);
    assert!(!gateway.lines()[before..].iter().any(|line| line.contains("in effect now")));
    assert_eq!(get(api, "/api/v1/status").status, 200);
    std::net::TcpStream::connect(stratum).unwrap();
}

/// The code from the log that allows the first settings.
fn code_of(gateway: &Gateway) -> String {
    let line = gateway.wait_for_line("set-up code ", SOON);
    let code = line.split("set-up code ").nth(1).unwrap().split(' ').next().unwrap();
    format!("Bearer {code}")
}

/// A browser signs in with the code; its session makes the first settings, and no others.
#[tokio::test(flavor = "multi_thread")]
async fn the_code_from_the_log_opens_a_session_for_the_first_settings_alone() {
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, &[], "", EASY));
    let api = gateway.addr("http");
    let code = code_of(&gateway);
    let login = |password: &str| {
        let body = json!({ "password": password }).to_string();
        ask(api, "POST", "/api/v1/session", &[], Some(&body))
    };
    let wrong = login("0000-0000");
    assert_eq!((wrong.status, &wrong.json()["error"]), (401, &json!("wrong-code")));
    let right = login(&code.replace("Bearer ", "").to_lowercase().replace('-', " "));
    assert_eq!(right.status, 200, "{}", right.text());
    let session = right.json();
    assert_eq!((&session["may_set_up"], &session["signed_in"]), (&json!(true), &json!(false)));
    let cookie = right.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let token = session["csrf_token"].as_str().unwrap();
    let headers = [("Cookie", cookie.as_str()), ("X-CSRF-Token", token)];
    let put = |headers: &[(&str, &str)], changes: Value| {
        let body = json!({ "changes": changes }).to_string();
        ask(api, "PUT", "/api/v1/config", headers, Some(&body)).status
    };
    assert_eq!(put(&headers[..1], json!({ "mining.address": ADDRESS })), 403, "a cookie alone");
    assert_eq!(put(&headers, json!({ "api.listen": "0.0.0.0:7152" })), 422);
    assert_eq!(ask(api, "POST", "/api/v1/notify", &headers, None).status, 403);
    assert_eq!(put(&headers, json!({ "mining.address": ADDRESS })), 200);
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
    assert_eq!(put(&headers, json!({ "mining.coinbase_tag": "x" })), 403);
}

/// As on a node box: whom to pay and where the node is are not known yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_waits_for_its_settings() {
    let node = node().await;
    let gateway = Gateway::start(
        r#"# mine
[stratum]
listen = ["127.0.0.1:0"]
difficulty_min = 0.000244140625
difficulty_start = 0.000244140625
[api]
listen = "127.0.0.1:0"
[ledger]
data_dir = "{dir}"
"#,
    );
    let line = gateway.wait_for_line("mining.address is missing", SOON);
    assert!(line.contains("http://127.0.0.1:"), "{line}");
    let bearer = code_of(&gateway);
    let api = gateway.addr("http");
    let ready = get(api, "/readyz");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert_eq!(get(api, "/healthz").status, 200);
    let status = get(api, "/api/v1/status").json();
    assert_eq!(status["setup_needed"], true, "{status}");
    assert_eq!(get(api, "/api/v1/session").json()["setup_open"], true);
    let put_with = |headers: &[(&str, &str)], changes: Value| {
        let body = json!({ "changes": changes }).to_string();
        ask(api, "PUT", "/api/v1/config", headers, Some(&body))
    };
    // A client that only reaches the port, even on this machine, has not read the log.
    for stranger in [&[][..], &[("Authorization", "Bearer 0000-0000")]] {
        let refused = put_with(stranger, json!({ "mining.address": ADDRESS }));
        assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("wrong-code")));
    }
    let refused = get(api, "/api/v1/config");
    assert_eq!(refused.status, 401, "{}", refused.text());
    let put = |changes: Value| put_with(&[("Authorization", &bearer)], changes);
    let bad = put(json!({ "mining.address": "1nothing" }));
    assert_eq!(bad.status, 422, "{}", bad.text());
    let node_settings = json!({
        "node.0.rpc_url": node.rpc_url(),
        "node.0.rpc_user": node.user(),
        "node.0.rpc_password": node.password(),
        "mining.address": ADDRESS,
    });
    let done = put(node_settings);
    assert_eq!(done.status, 200, "{}", done.text());
    assert_eq!(done.json()["needs_restart"], json!([]));
    let miner = miner(&gateway, MinerProtocol::Sv1);
    goes_on(&miner);
    assert_eq!(miner.stop().await.rejected, 0);
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
    // Setup closes after the first settings.
    assert_eq!(get(api, "/api/v1/session").json()["setup_open"], false);
    assert_eq!(put(json!({ "mining.coinbase_tag": "x" })).status, 403);
    let file = fs::read_to_string(gateway.dir().join("gatewayd.toml")).unwrap();
    assert!(file.starts_with("# mine\n") && file.contains(ADDRESS), "{file}");
}

/// Setup is still open without a password, while the node's password is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_gives_the_nodes_login_to_nobody() {
    let node = node().await;
    let gateway = Gateway::start(&toml(&node, &[], "", EASY));
    let api = gateway.addr("http");
    let file = gateway.dir().join("gatewayd.toml");
    let before = fs::read_to_string(&file).unwrap();
    let bearer = code_of(&gateway);
    let put = |changes: &Value| {
        let body = json!({ "changes": changes }).to_string();
        ask(api, "PUT", "/api/v1/config", &[("Authorization", &bearer)], Some(&body))
    };
    let thief = "http://192.0.2.7:8332";
    for (theft, advice) in [
        (json!({ "node.0.rpc_url": thief }), "enter the password again"),
        // There are others on this machine too.
        (json!({ "node.0.rpc_url": "http://127.0.0.1:1" }), "enter the password again"),
        (
            json!({ "node.0.rpc_url": thief, "node.0.rpc_password": "<secret>" }),
            "enter the password again",
        ),
        (
            json!({ "node.0": { "rpc_url": thief, "rpc_user": "x", "rpc_password": "<secret>" } }),
            "enter the password again",
        ),
        (json!({ "node.1.rpc_url": thief }), "node.1: as long as no admin password is set"),
        (
            json!({ "node.1.rpc_url": thief, "node.1.rpc_cookie_file": "/etc/passwd" }),
            "a cookie file may only be used for a node on this machine",
        ),
        (
            json!({
                "node.0.rpc_url": thief,
                "node.0.rpc_user": null,
                "node.0.rpc_password": null,
            }),
            "a cookie file may only be used for a node on this machine",
        ),
    ] {
        let answer = put(&theft);
        assert_eq!(answer.status, 422, "{theft}: {}", answer.text());
        assert!(answer.text().contains(advice), "{theft}: {}", answer.text());
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{theft}");
    }
    // A login of one's own, a cookie on this machine, and the stored login where it belongs.
    for fine in [
        json!({ "node.1.rpc_url": thief, "node.1.rpc_user": "x", "node.1.rpc_password": "y" }),
        json!({ "node.1": null }),
        json!({ "node.1.rpc_cookie_file": "/node/.cookie" }),
        json!({ "node.1": null }),
        json!({ "mining.address": ADDRESS, "node.0.rpc_user": node.user() }),
    ] {
        let answer = put(&fine);
        assert_eq!(answer.status, 200, "{fine}: {}", answer.text());
    }
    eventually("ready", SOON, || (get(api, "/readyz").status == 200).then_some(()));
}

/// As in a container: the environment names the node, and there is no file yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_from_the_environment_writes_its_file() {
    let node = node().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatewayd.toml");
    let nodes = format!(
        "[{{rpc_url={:?}, rpc_user={:?}, rpc_password={:?}}}]",
        node.rpc_url(),
        node.user(),
        node.password()
    );
    let mut command = Gateway::command();
    command
        .arg("--config")
        .arg(&file)
        .arg("run")
        .env("GATEWAYD_NODE", nodes)
        .env("GATEWAYD_STRATUM__LISTEN", "[\"127.0.0.1:0\"]")
        .env("GATEWAYD_STRATUM__DIFFICULTY_MIN", "0.000244140625")
        .env("GATEWAYD_STRATUM__DIFFICULTY_START", "0.000244140625")
        .env("GATEWAYD_API__LISTEN", "127.0.0.1:0")
        .env("GATEWAYD_LEDGER__DATA_DIR", dir.path());
    let gateway = Gateway::start_command(command);
    let api = gateway.addr("http");
    let body = json!({ "changes": { "mining.address": ADDRESS } }).to_string();
    let bearer = code_of(&gateway);
    let done = ask(api, "PUT", "/api/v1/config", &[("Authorization", &bearer)], Some(&body));
    assert_eq!(done.status, 200, "{}", done.text());
    let miner = miner(&gateway, MinerProtocol::Sv1);
    goes_on(&miner);
    assert_eq!(miner.stop().await.rejected, 0);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains(ADDRESS) && !text.contains(node.password()), "{text}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_an_address_and_without_a_page_it_exits() {
    let mut gateway = Gateway::start(
        "[[node]]\nrpc_user = \"a\"\nrpc_password = \"b\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         [api]\nlisten = \"\"\n[ledger]\ndata_dir = \"{dir}\"\n",
    );
    assert_eq!(gateway.wait_exit(SOON).code(), Some(78));
    assert!(gateway.lines().iter().any(|line| line.contains("mining.address")));
}
