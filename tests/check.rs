//! `gatewayd check` and `healthcheck` against a real node.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::{fs, process::Output, time::Duration};

use common::{bitcoind::Bitcoind, gateway::Gateway};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

fn config(node: &str, address: &str) -> String {
    format!(
        "{node}\n[mining]\naddress = \"{address}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n"
    )
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
    assert!(!told.contains("wrong"), "a password is no text for a log: {told}");

    let (code, told) = check(&toml.replace(ADDRESS, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("another network"), "{told}");

    let (code, told) =
        check(&toml.replace("difficulty", "dificulty").replace("[stratum]", "[stratun]"));
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("stratun"), "{told}");
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

/// Containers have no file: nodes and pools are lists of tables, so they have to work too.
#[test]
fn the_environment_may_be_all_there_is() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=p=a,s}s]"]);
    let pool = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = pool.local_addr().unwrap().port();
    let key = "f2".repeat(64);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Gateway::command();
    command.args(["--config", "/nowhere/gatewayd.toml", "check"]).envs([
        ("GATEWAYD_MINING__ADDRESS", ADDRESS.to_owned()),
        ("GATEWAYD_MINING__UNIQUE_ID", "7".to_owned()),
        ("GATEWAYD_LEDGER__DATA_DIR", dir.path().display().to_string()),
        ("GATEWAYD_STRATUM__LISTEN", "[\"127.0.0.1:0\"]".to_owned()),
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

/// What people do who come from datum_gateway, as far as `check`.
#[test]
fn an_imported_configuration_passes_check() {
    let node =
        Bitcoind::start_with(bitcoin::Network::Regtest, &["-rpcuser=me", "-rpcpassword=secret"]);
    let json = fs::read_to_string("tests/vectors/datum_gateway/all-keys.json").unwrap();
    let url = node.rpc_url();
    let with_login = |login: &str| url.replace("http://", &format!("http://{login}@"));
    // Only what has to exist on this machine is exchanged.
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
fn healthcheck_tells_a_gateway_with_work_from_none() {
    let node = Bitcoind::regtest();
    // A fixed port, so that both processes read the same file.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let toml =
        config(&node.node_toml(), ADDRESS).replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gatewayd.toml");
    fs::write(&path, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
    let healthy = || {
        let mut command = Gateway::command();
        command.arg("--config").arg(&path).arg("healthcheck").status().unwrap().success()
    };
    assert!(!healthy());
    let gateway = Gateway::start_with(&["--config", path.to_str().unwrap(), "run"]);
    gateway.wait_for_line("listening protocol=stratum", Duration::from_secs(20));
    assert!(healthy());
}

#[test]
fn bad_arguments_and_missing_files_have_their_exit_codes() {
    let code = |args: &[&str]| Gateway::command().args(args).output().unwrap().status.code();
    assert_eq!(code(&["--nonsense"]), Some(64));
    assert_eq!(code(&["--config", "/nowhere/gatewayd.toml", "run"]), Some(78));
    assert_eq!(code(&["--version"]), Some(0));
}
