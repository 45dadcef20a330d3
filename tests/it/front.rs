//! What is in front of Stratum: a real HAProxy, and TLS.

mod haproxy;
mod tls;

use std::{net::SocketAddr, time::Duration};

use crate::common::{eventually, gateway::Gateway, http::get};
use gatewayd::devnet::node::{Node, NodeHandle, NodeOptions};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(60);
const SUBSCRIBE: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"test/1\"]}\n";

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), ([127, 0, 0, 1], 0).into()).await.unwrap()
}

fn toml(node: &NodeHandle, stratum: &str) -> String {
    format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n\
         [mining]\naddress = \"{ADDRESS}\"\n[api]\nlisten = \"127.0.0.1:0\"\n\
         [ledger]\ndata_dir = \"{{dir}}\"\n[stratum]\nlisten = [\"127.0.0.1:0\"]\n\
         difficulty_min = 0.00001\ndifficulty_start = 0.00001\n{stratum}",
        node.rpc_url(),
        node.user(),
        node.password()
    )
}

/// All addresses that accept miners.
fn stratum_addrs(gateway: &Gateway, count: usize) -> Vec<SocketAddr> {
    eventually("all ports", SOON, || {
        let lines = gateway.lines();
        let lines = lines.iter().filter(|it| it.contains("listening protocol=stratum"));
        let addrs: Vec<_> =
            lines.map(|line| line.rsplit_once("addr=").unwrap().1.parse().unwrap()).collect();
        (addrs.len() == count).then_some(addrs)
    })
}

/// The addresses in the table of miners.
fn peers(api: SocketAddr) -> Vec<String> {
    let miners = get(api, "/api/v1/miners").json();
    let rows = miners["miners"].as_array().unwrap();
    rows.iter().map(|row| row["peer"].as_str().unwrap().to_owned()).collect()
}
