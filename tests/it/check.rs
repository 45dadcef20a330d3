//! `gatewayd check`, against a real node and the devnet.

use std::{
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::Output,
};

use crate::common::{bitcoind::Bitcoind, gateway::Gateway};
use gatewayd::devnet::{
    node::{Node, NodeHandle, NodeOptions},
    pool::{Pool, PoolHandle, PoolOptions},
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn config(node: &str, address: &str) -> String {
    format!(
        "{node}\n[mining]\naddress = \"{address}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         [api]\nlisten = \"127.0.0.1:0\"\n[ledger]\ndata_dir = \"{{dir}}\"\n"
    )
}

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

async fn pool() -> PoolHandle {
    Pool::start(PoolOptions::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

/// A `[[node]]` section for a devnet node.
fn node_toml(node: &NodeHandle) -> String {
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    format!("[[node]]\nrpc_url = \"{url}\"\nrpc_user = \"{user}\"\nrpc_password = \"{password}\"\n")
}

/// Runs `gatewayd check` on `toml`.
fn check(toml: &str) -> (Option<i32>, String) {
    check_with(toml, &[])
}

fn check_with(toml: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gatewayd.toml");
    fs::write(&path, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let mut command = Gateway::command();
    command.envs(environment.iter().copied());
    let output = command.arg("--config").arg(&path).arg("check").output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn check_says_what_works_and_what_to_do() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=secret"]);
    let toml = config(&node.node_toml(), ADDRESS);
    let (code, told) = check(&toml);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("gives work"), "{told}");

    let (code, told) = check(&toml.replace("secret", "wrong"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("PROBLEM node") && told.contains("rpc_password"), "{told}");
    assert!(!told.contains("wrong"), "a password does not belong in a log: {told}");

    let (code, told) = check(&toml.replace(ADDRESS, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("another network"), "{told}");

    let (code, told) =
        check(&toml.replace("difficulty", "dificulty").replace("[stratum]", "[stratun]"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("stratun"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_must_have_the_configured_key() {
    let (node, pool, other) = (node().await, pool().await, pool().await);
    let toml = |port: u16, key: &str| {
        let node = config(&node_toml(&node), ADDRESS);
        format!("{node}[[pool]]\nhost = \"127.0.0.1\"\nport = {port}\npublic_key = \"{key}\"\n")
    };
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    let (code, told) = check(&toml(port, &key));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(&format!("ok      pool 127.0.0.1:{port}: has this key")), "{told}");

    let signs_only = format!("{}{}", &key[..64], &other.public_key_hex()[64..]);
    let seals_only = format!("{}{}", &other.public_key_hex()[..64], &key[64..]);
    for wrong in [other.public_key_hex(), signs_only, seals_only] {
        let (code, told) = check(&toml(port, &wrong));
        assert_eq!(code, Some(78), "{told}");
        assert!(told.contains(&format!("PROBLEM pool 127.0.0.1:{port}: ")), "{told}");
        assert!(told.contains("pool.public_key is most likely not its key"), "{told}");
    }

    // Another server that answers at once, and one that never does.
    let stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = stranger.local_addr().unwrap().port();
    let talk = std::thread::spawn(move || {
        let (mut socket, _) = stranger.accept().unwrap();
        socket
            .write_all(b"220 mail.example ESMTP ready, and more than a frame's header\r\n")
            .unwrap();
        drop(socket);
        stranger
    });
    let (code, told) = check(&toml(port, &key));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("pool.public_key is most likely not its key"), "{told}");
    let _silent = talk.join().unwrap();
    let (code, told) = check(&toml(port, &key));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("no answer within 5s: check pool.host"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_paths_are_tried() {
    let node = node().await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap();
    let toml = config(&node_toml(&node), ADDRESS);
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    fs::write(&password, "correct horse\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let with_password = |file: &std::path::Path| {
        let api = format!("[api]\nadmin_password_file = \"{}\"", file.display());
        toml.replace("[api]", &api)
    };

    let (code, told) = check(&with_password(&password));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("ok      api.listen 127.0.0.1:0: free"), "{told}");
    assert!(told.contains("ok      api.admin_password_file: "), "{told}");

    let (code, told) = check(&with_password(&dir.path().join("none")));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("PROBLEM api.admin_password_file: "), "{told}");

    for key in ["api", "stratum"] {
        let addr = addr.to_string();
        let toml = match key {
            "api" => toml.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{addr}\"")),
            _ => toml.replace("[\"127.0.0.1:0\"]", &format!("[\"{addr}\"]")),
        };
        let (code, told) = check(&toml);
        assert_eq!(code, Some(78), "{told}");
        let problem = format!("PROBLEM {key}.listen {addr}: Address already in use");
        assert!(told.contains(&problem) && told.contains("set another port"), "{told}");
    }

    let (code, told) = check(&toml.replace("{dir}", "/proc/nowhere"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("PROBLEM ledger.data_dir: /proc/nowhere"), "{told}");
}

/// What `sudo gatewayd check` created would be root's, and the service could neither read nor
/// replace it.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_leaves_nothing_behind() {
    let node = node().await;
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("new/state");
    let toml = config(&node_toml(&node), ADDRESS).replace("{dir}", &state.display().to_string());
    let (code, told) = check(&toml);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("no authority key yet"), "{told}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{told}");

    let gateway = Gateway::start(&toml);
    gateway.addr("stratum");
    let (code, told) = check(&toml);
    assert_eq!(code, Some(0), "{told}");
    let (_, key) = told.split_once("may check the authority key ").unwrap();
    let key = key.lines().next().unwrap();
    assert!(gateway.lines().iter().any(|line| line.contains(key)), "{told}");
}

/// The ports of the running one are not a problem: it will be restarted, or told to reload.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_gateway_may_be_checked() {
    let node = node().await;
    let port = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let toml = config(&node_toml(&node), ADDRESS)
        .replace("[\"127.0.0.1:0\"]", &format!("[\"{}\"]", port()))
        .replace("\"127.0.0.1:0\"", &format!("\"{}\"", port()));
    let gateway = Gateway::start(&toml);
    gateway.addr("stratum");
    let (code, told) = check(&toml);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches("in use by the gatewayd that is running").count(), 2, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_for_blocks_only_is_tried_too() {
    let (node, other) = (node().await, node().await);
    let only_blocks = format!("{}submit_only = true\n", node_toml(&other));
    let toml = config(&format!("{}{only_blocks}", node_toml(&node)), ADDRESS);
    let (code, told) = check(&toml);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told.matches("gives work, on").count(), 1, "{told}");
    assert_eq!(told.matches("takes blocks, on").count(), 1, "{told}");

    let wrong = only_blocks.replace("rpc_password = \"", "rpc_password = \"x");
    let (code, told) = check(&toml.replace(&only_blocks, &wrong));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("PROBLEM node ") && told.contains("rpc_password"), "{told}");
}

#[test]
fn every_error_has_a_location_and_advice() {
    let toml = config("[[node]]\nrpc_url = \"https://x\"", "mine").replace("[api]", "[apy]");
    let environment = [("GATEWAYD_LOG__FORMAT", "xml"), ("GATEWAYD_POOLING__TIMOUT", "1s")];
    let (code, told) = check_with(&toml, &environment);
    assert_eq!(code, Some(78), "{told}");
    let lines: Vec<_> = told.lines().collect();
    let expected = [
        ("gatewayd.toml:2: node.rpc_url ", "http://"),
        ("gatewayd.toml:4: mining.address ", "is not a bitcoin address"),
        ("gatewayd.toml:7: apy is not known: ", "did you mean api?"),
        ("GATEWAYD_LOG__FORMAT: log.format ", "\"json\""),
        ("GATEWAYD_POOLING__TIMOUT: pooling.timout is not known: ", "did you mean timeout?"),
    ];
    assert_eq!(lines.len(), expected.len(), "{told}");
    for (line, (place, advice)) in lines.into_iter().zip(expected) {
        assert!(line.contains(place) && line.contains(advice), "{line:?} is not {place:?}");
    }
}

/// As gatewayd.toml promises: any key from the environment, lists as in TOML.
#[test]
fn the_environment_overrides_the_file() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=secret"]);
    let list =
        format!("[{{rpc_url=\"{}\", rpc_user=\"me\", rpc_password=\"secret\"}}]", node.rpc_url());
    let toml = config("", "nobody's");
    let environment = [
        ("GATEWAYD_MINING__ADDRESS", ADDRESS),
        ("GATEWAYD_NODE", &list),
        ("GATEWAYD_PORT", "tcp://10.0.0.1:80"),
    ];
    let (code, told) = check_with(&toml, &environment);
    assert_eq!(code, Some(0), "{told}");
}

/// Containers have no file: nodes and pools, which are lists of tables, have to work too.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_alone_is_enough() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=p=a,s}s]"]);
    let pool = pool().await;
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    let dir = tempfile::tempdir().unwrap();
    let mut command = Gateway::command();
    command.args(["--config", "/nowhere/gatewayd.toml", "check"]).envs([
        ("GATEWAYD_MINING__ADDRESS", ADDRESS.to_owned()),
        ("GATEWAYD_MINING__UNIQUE_ID", "7".to_owned()),
        ("GATEWAYD_LEDGER__DATA_DIR", dir.path().display().to_string()),
        ("GATEWAYD_STRATUM__LISTEN", "[\"127.0.0.1:0\"]".to_owned()),
        ("GATEWAYD_API__LISTEN", "127.0.0.1:0".to_owned()),
        ("GATEWAYD_STRATUM__DIFFICULTY_MIN", "65536.0".to_owned()),
        ("GATEWAYD_STRATUM__USERNAME_MODIFIERS", "{half={bc1qx=0.5, \"\"=0.5}}".to_owned()),
        (
            "GATEWAYD_NODE",
            format!(
                "[{{rpc_url=\"{0}\", rpc_user=\"me\", rpc_password=\"p=a,s}}s]\"}}, \
                  {{rpc_url=\"{0}\", rpc_user=\"me\", rpc_password=\"p=a,s}}s]\", submit_only=true}}]",
                node.rpc_url()
            ),
        ),
        (
            "GATEWAYD_POOL",
            format!("[{{host=\"127.0.0.1\", port={port}, public_key=\"{key}\"}}]"),
        ),
    ]);
    let output = command.output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("gives work"), "{told}");
    assert!(told.contains(&format!("ok      pool 127.0.0.1:{port}")), "{told}");
}

/// What people coming from datum_gateway do, up to `check`.
#[test]
fn an_imported_configuration_passes_check() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=secret"]);
    let json = fs::read_to_string("tests/vectors/datum_gateway/all-keys.json").unwrap();
    let url = node.rpc_url();
    let with_login = |login: &str| url.replace("http://", &format!("http://{login}@"));
    // Only what has to exist on this machine is replaced.
    let json = [
        ("http://node.lan:8331", &*url),
        ("\"datum\",", "\"me\","),
        ("some \\\"thing\\\" only you know", "secret"),
        ("http://a:b%40c@10.0.0.7:8332", &with_login("me:s%65cret")),
        ("http://10.0.0.8:8332/", &with_login("me:secret")),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", ADDRESS),
        ("192.168.1.9", "127.0.0.1"),
        ("/var/log/datum.log", "{dir}/datum.log"),
        ("pool.example", ""),
    ]
    .iter()
    .fold(json, |json, (old, new)| {
        assert!(json.contains(old), "{old}");
        json.replace(old, new)
    });
    let (code, toml, notes) = import(&json);
    assert_eq!(code, Some(0), "{notes}");
    assert!(notes.contains("stratum.max_threads is not needed"), "{notes}");
    let (code, told) = check(&format!("{toml}\n[ledger]\ndata_dir = \"{{dir}}\"\n"));
    assert_eq!(code, Some(0), "{told}\n{toml}");
    assert_eq!(told.matches("gives work").count(), 1, "{told}");
}

#[test]
fn import_refuses_what_it_does_not_understand() {
    let (code, toml, told) = import(r#"{ "stratum": { "listen_port": "23334" }, "api": 1 }"#);
    assert_eq!((code, toml.as_str()), (Some(78), ""), "{told}");
    assert!(
        told.contains("stratum.listen_port should be") && told.contains("api should"),
        "{told}"
    );
    let mut command = Gateway::command();
    let output = command.args(["import-datum", "/nowhere/config.json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/config.json"));
}

/// Runs `gatewayd import-datum`: exit code, standard output, standard error.
fn import(json: &str) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, json).unwrap();
    let Output { status, stdout, stderr } =
        Gateway::command().arg("import-datum").arg(&path).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn bad_arguments_and_missing_files_have_their_own_exit_codes() {
    let code = |args: &[&str]| Gateway::command().args(args).output().unwrap().status.code();
    assert_eq!(code(&["--nonsense"]), Some(64));
    assert_eq!(code(&["--config", "/nowhere/gatewayd.toml", "run"]), Some(78));
    assert_eq!(code(&["--version"]), Some(0));
}
