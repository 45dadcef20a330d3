//! `gatewayd healthcheck`: what Docker and node boxes check, and what their owners read.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use crate::common::{eventually, gateway::Gateway};
use gatewayd::devnet::node::{Node, NodeHandle, NodeOptions};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(120);

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap()
}

/// Both processes read the same file, so ports are chosen here.
fn config(node_url: &str, stratum: u16, api: &str) -> String {
    format!(
        r#"
[[node]]
rpc_url = "{node_url}"
rpc_user = "devnet"
rpc_password = "devnet"
[mining]
address = "{ADDRESS}"
[stratum]
listen = ["0.0.0.0:{stratum}"]
[api]
listen = "{api}"
[ledger]
data_dir = "{{dir}}"
"#
    )
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Exit code and output.
fn healthcheck(file: &Path) -> (Option<i32>, String) {
    let mut command = Gateway::command();
    let output = command.arg("--config").arg(file).arg("healthcheck").output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn file_of(gateway: &Gateway) -> std::path::PathBuf {
    gateway.dir().join("gatewayd.toml")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_work_is_healthy_wherever_its_api_listens() {
    let node = node().await;
    let api = free_port();
    let gateway = Gateway::start(&config(&node.rpc_url(), free_port(), &format!("0.0.0.0:{api}")));
    gateway.addr("http");
    gateway.addr("stratum");
    let (code, told) = healthcheck(&file_of(&gateway));
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told, format!("127.0.0.1:{api} is ready: miners get work\n"));
}

#[test]
fn one_without_work_says_what_it_waits_for() {
    let (nobody, api) = (free_port(), free_port());
    let url = format!("http://127.0.0.1:{nobody}");
    let gateway = Gateway::start(&config(&url, free_port(), &format!("127.0.0.1:{api}")));
    gateway.addr("http");
    let expected =
        format!("not ready: node 127.0.0.1:{nobody}: nothing answers at 127.0.0.1:{nobody}");
    // Until the node has been tried, there is another reason.
    eventually(&expected, SOON, || {
        let (code, told) = healthcheck(&file_of(&gateway));
        assert_eq!(code, Some(1), "{told}");
        told.contains(&expected).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_it_asks_for_work() {
    let node = node().await;
    let stratum = free_port();
    let gateway = Gateway::start(&config(&node.rpc_url(), stratum, ""));
    gateway.addr("stratum");
    let (code, told) = healthcheck(&file_of(&gateway));
    assert_eq!((code, told), (Some(0), format!("127.0.0.1:{stratum} hands out work\n")));
}

#[test]
fn a_gateway_that_does_not_run_is_unhealthy() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatewayd.toml");
    for (api, key) in
        [(format!("127.0.0.1:{}", free_port()), "api.listen"), (String::new(), "stratum.listen")]
    {
        let toml = config("http://127.0.0.1:1", free_port(), &api);
        std::fs::write(&file, toml.replace("{dir}", &dir.path().display().to_string())).unwrap();
        let (code, told) = healthcheck(&file);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains("nothing answers") && told.contains(key), "{told}");
    }
}

#[test]
fn another_program_on_its_port_is_not_mistaken_for_it() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatewayd.toml");
    std::fs::write(&file, config("http://127.0.0.1:1", free_port(), &addr.to_string())).unwrap();
    for answer in [
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let asked = std::thread::scope(|scope| {
            let stranger = scope.spawn(|| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let len = socket.read(&mut request).unwrap();
                socket.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(request[..len].to_vec()).unwrap()
            });
            let (code, told) = healthcheck(&file);
            assert_eq!(code, Some(1), "{told}");
            assert!(told.contains("is not gatewayd") && told.contains("api.listen"), "{told}");
            stranger.join().unwrap()
        });
        assert!(asked.starts_with("GET /readyz HTTP/1.1\r\n"), "{asked}");
    }
}
