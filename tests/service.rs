//! gatewayd as a service manager sees it: its log files, its notifications.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use std::{fs, time::Duration};

use common::gateway::Gateway;

/// A gateway whose node is not there: it waits.
const WAITING: &str = r#"
    [[node]]
    rpc_url = "http://127.0.0.1:1"
    rpc_user = "me"
    rpc_password = "secret"
    [mining]
    address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    [stratum]
    listen = ["127.0.0.1:0"]
    [api]
    listen = ""
    [ledger]
    data_dir = "{dir}"
"#;
const SOON: Duration = Duration::from_secs(20);

/// What is said last is there too, though a thread of its own writes it.
#[test]
fn the_log_goes_to_a_file_too() {
    let toml = format!("{WAITING}[log]\nfile = \"{{dir}}/logs/gatewayd.log\"");
    let mut gateway = Gateway::start(&toml);
    gateway.wait_for_line("gatewayd starts", SOON);
    gateway.signal("TERM");
    assert!(gateway.wait_exit(SOON).success());
    let file = fs::read_to_string(gateway.dir().join("logs/gatewayd.log")).unwrap();
    let without_time = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    let seen: Vec<_> = gateway.lines().iter().map(|line| without_time(line)).collect();
    assert_eq!(file.lines().map(without_time).collect::<Vec<_>>(), seen);
    assert!(file.contains("stopping before there was any work"), "{file}");
}

/// Logging that cannot be had is no reason not to mine.
#[test]
fn a_log_file_that_cannot_be_written_is_told_of() {
    let toml = format!("{WAITING}[log]\nfile = \"/proc/none/gatewayd.log\"\nformat = \"json\"");
    let gateway = Gateway::start(&toml);
    let line = gateway.wait_for_line("log.file", SOON);
    assert!(line.contains("/proc/none/gatewayd.log") && line.contains("\"WARN\""), "{line}");
    gateway.wait_for_line("gatewayd starts", SOON);
}
