//! gatewayd as a service manager sees it: its log files, its notifications.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use crate::common::gateway::Gateway;
use gatewayd::devnet::node::{Node, NodeOptions};
use tempfile::TempDir;

/// A gateway whose node does not exist: it waits.
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

/// The last lines are there too, although a separate thread writes them.
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

/// A log file that cannot be written is no reason not to mine.
#[test]
fn a_log_file_that_cannot_be_written_is_reported() {
    let toml = format!("{WAITING}[log]\nfile = \"/proc/none/gatewayd.log\"\nformat = \"json\"");
    let gateway = Gateway::start(&toml);
    let line = gateway.wait_for_line("log.file", SOON);
    assert!(line.contains("/proc/none/gatewayd.log") && line.contains("\"WARN\""), "{line}");
    gateway.wait_for_line("gatewayd starts", SOON);
}

/// Stands in for systemd and receives its notifications.
struct Ear {
    dir: TempDir,
    socket: UnixDatagram,
}

impl Ear {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { dir, socket }
    }

    /// Starts a gateway that systemd watches, with a watchdog of two seconds.
    fn gateway(&self, toml: &str) -> Gateway {
        let config = self.dir.path().join("gatewayd.toml");
        fs::write(&config, toml.replace("{dir}", self.dir.path().to_str().unwrap())).unwrap();
        let mut command = Gateway::command();
        command
            .args(["--config", config.to_str().unwrap()])
            .env("NOTIFY_SOCKET", self.dir.path().join("notify"))
            .env("WATCHDOG_USEC", "2000000");
        Gateway::start_command(command)
    }

    /// Listens until a message has a line that begins with `wanted`; returns that message.
    #[track_caller]
    fn wait_for(&self, wanted: &str) -> String {
        let mut heard = Vec::new();
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            let mut bytes = [0; 4096];
            let Ok(len) = self.socket.recv(&mut bytes) else { break };
            let message = String::from_utf8(bytes[..len].to_vec()).unwrap();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
            heard.push(message);
        }
        panic!("no {wanted} in {heard:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_notified_of_the_state() {
    let node = Node::start(NodeOptions::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let ear = Ear::new();
    let toml = WAITING
        .replace("http://127.0.0.1:1", &node.rpc_url())
        .replace("\"me\"", &format!("{:?}", node.user()))
        .replace("\"secret\"", &format!("{:?}", node.password()));
    let mut gateway = ear.gateway(&toml);
    ear.wait_for("STATUS=waiting");
    ear.wait_for("READY=1");
    gateway.addr("stratum");
    ear.wait_for("STATUS=serving");
    // By now the watchdog's task connects to the Stratum port.
    for _ in 0..3 {
        ear.wait_for("WATCHDOG=1");
    }
    gateway.signal("HUP");
    let reloading = ear.wait_for("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    ear.wait_for("READY=1");
    gateway.signal("TERM");
    ear.wait_for("STOPPING=1");
    assert!(gateway.wait_exit(SOON).success());
    let lines = gateway.lines();
    assert!(!lines.iter().any(|line| line.contains("own Stratum port")), "{lines:#?}");
}

/// A node may take hours until it gives work: whoever waits for the service must not.
#[test]
fn a_gateway_without_work_is_ready_after_a_while() {
    let ear = Ear::new();
    let _gateway = ear.gateway(WAITING);
    ear.wait_for("STATUS=waiting");
    ear.wait_for("WATCHDOG=1");
    ear.wait_for("READY=1");
    ear.wait_for("WATCHDOG=1");
}
