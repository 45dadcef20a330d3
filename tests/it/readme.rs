//! README keeps its promises: every command in it is run by a check, or has a reason not to be.

use std::{fs, process::Command, time::Duration};

use crate::common::{eventually, gateway::Gateway};
use gatewayd::devnet::node::{Node, NodeOptions};
use tempfile::TempDir;

/// How we know that a command works.
enum Check {
    /// `.ci/run` or `.ci/packaging` has this exact line.
    Ci,
    /// The test below runs it, in README's order, in a directory of its own.
    Here,
    /// A test runs it against a gateway.
    Api,
    /// Another test runs it, against a gateway with TLS, in the order of README.
    Tls,
    /// Nothing runs it as written, for this reason.
    Not(&'static str),
}

const COMMANDS: &[(&str, Check)] = &[
    ("cargo run --release -- demo --for 60s", Check::Ci),
    ("bash tests/run", Check::Ci),
    ("cargo build --release", Check::Ci),
    ("target/release/gatewayd example-config > my-gateway.toml", Check::Here),
    (
        "target/release/gatewayd --config my-gateway.toml check",
        Check::Not("needs the reader's address and node; tests with a real bitcoind stand for it"),
    ),
    (
        "target/release/gatewayd --config my-gateway.toml run",
        Check::Not("needs the reader's address and node; tests with a real bitcoind stand for it"),
    ),
    ("curl -o gatewayd-ca.pem http://127.0.0.1:7152/api/v1/stratum/ca.pem", Check::Tls),
    (
        "openssl s_client -connect 127.0.0.1:23334 -CAfile gatewayd-ca.pem -verify_ip 127.0.0.1 -verify_return_error -brief < /dev/null",
        Check::Tls,
    ),
    ("curl http://127.0.0.1:7152/api/v1/bans", Check::Api),
    (
        "curl -X DELETE -H \"Authorization: Bearer $(cat admin-password)\" http://127.0.0.1:7152/api/v1/bans/203.0.113.7",
        Check::Not("needs somebody who is banned; tests/it/api.rs lifts a ban"),
    ),
    ("curl http://127.0.0.1:7152/api/v1/status", Check::Api),
    ("curl http://127.0.0.1:7152/api/v1/miners", Check::Api),
    ("curl 'http://127.0.0.1:7152/api/v1/history?metric=hashrate&window=24h'", Check::Api),
    ("curl http://127.0.0.1:7152/readyz", Check::Api),
    ("curl http://127.0.0.1:7152/api/v1/openapi.json", Check::Api),
    (
        "curl -X POST -H \"Authorization: Bearer $(cat admin-password)\" http://127.0.0.1:7152/api/v1/reload",
        Check::Api,
    ),
    ("bash packaging/deb/build", Check::Ci),
    ("sudo dpkg -i target/packaging/gatewayd_*.deb", Check::Ci),
    ("sudo -u gatewayd gatewayd --config /etc/gatewayd/gatewayd.toml check", Check::Ci),
    (
        "sudo systemctl enable --now gatewayd",
        Check::Not("needs systemd; .ci/packaging runs the unit's command in the unit's sandbox"),
    ),
    (
        "docker build -t gatewayd .",
        Check::Not("needs Docker; .ci/packaging checks the file and runs what the image would run"),
    ),
    (
        "cp packaging/docker/env.example packaging/docker/.env",
        Check::Not("belongs to the next one"),
    ),
    (
        "docker compose -f packaging/docker/compose.yml up -d",
        Check::Not("needs Docker; .ci/packaging has gatewayd check the environment that it sets"),
    ),
    (
        "target/release/gatewayd import-datum datum_gateway_config.json > my-gateway.toml",
        Check::Here,
    ),
];

#[test]
fn every_command_of_readme_is_accounted_for() {
    let readme = fs::read_to_string("README.md").unwrap();
    let commands = shell_commands(&readme);
    let known: Vec<_> = COMMANDS.iter().map(|(command, _)| *command).collect();
    assert_eq!(commands, known, "README's commands and the table here differ");
}

#[test]
fn ci_runs_the_commands_listed_for_it() {
    let ci =
        [".ci/run", ".ci/packaging"].map(|script| fs::read_to_string(script).unwrap()).concat();
    for (command, check) in COMMANDS {
        match check {
            Check::Ci => assert!(ci.contains(command), ".ci does not have: {command}"),
            Check::Not(reason) => assert!(!reason.is_empty()),
            Check::Here | Check::Api | Check::Tls => {}
        }
    }
}

#[test]
fn the_other_commands_work() {
    let dir = TempDir::new().unwrap();
    let binary = env!("CARGO_BIN_EXE_gatewayd");
    // What the reader has.
    let old = "tests/vectors/datum_gateway/typical.json";
    fs::copy(old, dir.path().join("datum_gateway_config.json")).unwrap();
    for (command, _) in COMMANDS.iter().filter(|(_, check)| matches!(check, Check::Here)) {
        let script = command.replace("target/release/gatewayd", binary);
        let status =
            Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).status().unwrap();
        assert!(status.success(), "{command}: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_answers_readmes_commands() {
    let node = Node::start(NodeOptions::default(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let dir = TempDir::new().unwrap();
    let password = dir.path().join("admin-password");
    fs::write(&password, "correct horse\n").unwrap();
    let gateway = Gateway::start(&format!(
        r#"
        [[node]]
        rpc_url = "{}"
        rpc_user = "{}"
        rpc_password = "{}"
        [mining]
        address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
        [stratum]
        listen = ["127.0.0.1:0"]
        [api]
        listen = "127.0.0.1:0"
        admin_password_file = "{}"
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.rpc_url(),
        node.user(),
        node.password(),
        password.display()
    ));
    let api = gateway.addr("http").to_string();
    gateway.addr("stratum");
    for (command, _) in COMMANDS.iter().filter(|(_, check)| matches!(check, Check::Api)) {
        let script = command.replace("127.0.0.1:7152", &api);
        let script = script.replace("curl ", "curl --silent --show-error --fail-with-body ");
        eventually(command, Duration::from_secs(30), || {
            let output = Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).output();
            let output = output.unwrap();
            // The password is read a moment after startup.
            let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(&output.stdout).is_ok();
            assert!(is_json, "{command}: {output:?}");
            output.status.success().then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_as_readme_says() {
    let node = Node::start(NodeOptions::default(), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let readme = fs::read_to_string("README.md").unwrap();
    let tls = readme.split("```toml\n").find(|it| it.starts_with("[stratum.tls]")).unwrap();
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    let gateway = Gateway::start(&format!(
        "[[node]]\nrpc_url = \"{url}\"\nrpc_user = \"{user}\"\nrpc_password = \"{password}\"\n\
         [mining]\naddress = \"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"\n\
         [api]\nlisten = \"127.0.0.1:0\"\n[ledger]\ndata_dir = \"{{dir}}\"\n\
         [stratum]\nlisten = [\"127.0.0.1:0\"]\n{}",
        tls.split("```").next().unwrap()
    ));
    let (api, stratum) = (gateway.addr("http").to_string(), gateway.addr("stratum").to_string());
    let dir = TempDir::new().unwrap();
    for (command, _) in COMMANDS.iter().filter(|(_, check)| matches!(check, Check::Tls)) {
        let script = command.replace("127.0.0.1:7152", &api).replace("127.0.0.1:23334", &stratum);
        let script = script.replace("curl ", "curl --silent --show-error --fail-with-body ");
        let output =
            Command::new("sh").args(["-ec", &script]).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[test]
fn files_that_readme_links_to_exist() {
    let readme = fs::read_to_string("README.md").unwrap();
    for target in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(target.starts_with("https://") || fs::exists(target).unwrap(), "no {target}");
    }
}

/// The lines of the blocks that are marked `sh`.
fn shell_commands(markdown: &str) -> Vec<&str> {
    let mut is_shell = false;
    let mut commands = Vec::new();
    for line in markdown.lines() {
        match line {
            "```sh" => is_shell = true,
            "```" => is_shell = false,
            _ if is_shell && !line.is_empty() => commands.push(line),
            _ => {}
        }
    }
    commands
}
