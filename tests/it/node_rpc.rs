//! The embedded node over its socket: plain HTTP, and Bitcoin Core's own client.

use std::{net::Ipv4Addr, time::Duration};

use bitcoincore_rpc::{Auth, Client, RpcApi, json::GetBlockTemplateResult};
use gatewayd::devnet::node::{Node, NodeHandle, NodeOptions};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::spawn_blocking,
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(5);

async fn node() -> NodeHandle {
    Node::start(NodeOptions::default(), (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

/// A raw connection.
struct Wire(TcpStream);

/// The parts of an answer that tests look at.
#[derive(Debug, Deserialize)]
struct Answer {
    result: Option<Box<serde_json::value::RawValue>>,
    error: Option<Error>,
}

#[derive(Debug, Deserialize)]
struct Error {
    code: i32,
}

impl Answer {
    fn result(&self) -> &str {
        self.result.as_ref().unwrap().get()
    }

    fn code(&self) -> i32 {
        self.error.as_ref().unwrap().code
    }
}

impl Wire {
    async fn open(node: &NodeHandle) -> Self {
        Self(TcpStream::connect(node.addr).await.unwrap())
    }

    fn request(password: &str, body: &str) -> Vec<u8> {
        let secret = bitcoincore_rpc::jsonrpc::base64::encode(format!("devnet:{password}"));
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {secret}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    async fn send(&mut self, body: &str) {
        self.0.write_all(&Self::request("devnet", body)).await.unwrap();
    }

    /// Status and body of the next answer.
    async fn answer(&mut self) -> (u16, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        (status, body)
    }

    async fn call(&mut self, method: &str, params: &str) -> Answer {
        self.send(&format!(r#"{{"method":"{method}","params":{params},"id":1}}"#)).await;
        let (_, body) = timeout(SOON, self.answer()).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// True when the node has hung up.
    async fn is_over(&mut self) -> bool {
        let read = timeout(SOON, self.0.read(&mut [0; 64])).await.unwrap();
        matches!(read, Ok(0) | Err(_))
    }
}

const COUNT: &str = r#"{"method":"getblockcount","params":[],"id":1}"#;
const TEMPLATE: &str = r#"[{"rules":["segwit"]}]"#;

#[tokio::test]
async fn connections_are_kept_and_requests_may_come_in_pieces_or_together() {
    let node = node().await;
    let mut wire = Wire::open(&node).await;
    let request = Wire::request("devnet", COUNT);
    for piece in request.chunks(7) {
        wire.0.write_all(piece).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(wire.answer().await.0, 200);
    wire.0.write_all(&[&request[..], &request].concat()).await.unwrap();
    for _ in 0..2 {
        let (status, body) = wire.answer().await;
        assert_eq!((status, &body[..]), (200, &br#"{"result":0,"error":null,"id":1}"#[..]));
    }
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let node = node().await;
    let length = |n: usize| format!("POST / HTTP/1.1\r\nContent-Length: {n}\r\n\r\n");
    for (request, status) in [
        (length(100 << 20), 413),
        ("GET / HTTP/1.1\r\n\r\n".into(), 405),
        ("POST / HTTP/1.1\r\n\r\n".into(), 411),
        ("x".repeat(20_000), 431),
        ("\0\r\n\r\n".into(), 400),
    ] {
        let mut wire = Wire::open(&node).await;
        wire.0.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(wire.answer().await.0, status);
        assert!(wire.is_over().await);
    }
    let mut wire = Wire::open(&node).await;
    wire.0.write_all(&Wire::request("wrong", COUNT)).await.unwrap();
    assert_eq!(wire.answer().await.0, 401);
    wire.send("[]").await;
    assert_eq!(wire.answer().await.0, 500, "kept open despite the error before");
    assert_eq!(wire.call("nonsense", "[]").await.code(), -32601);
    assert_eq!(wire.call("getblocktemplate", "[]").await.code(), -8);
    assert_eq!(wire.call("getblocktemplate", r#"[{"rules":["csv"]}]"#).await.code(), -8);
    assert_eq!(wire.call("submitblock", r#"["00"]"#).await.code(), -22);
    assert_eq!(wire.call("submitblock", r#"["xy"]"#).await.code(), -22);
    assert_eq!(wire.call("submitblock", "[7]").await.code(), -3);
    assert_eq!(wire.call("getblockhash", "[1]").await.code(), -8);
    assert_eq!(wire.call("getblockheader", &format!(r#"["{}"]"#, "0".repeat(64))).await.code(), -5);
}

#[tokio::test]
async fn a_client_that_expects_continue_gets_it() {
    let node = node().await;
    let mut wire = Wire::open(&node).await;
    let request = String::from_utf8(Wire::request("devnet", COUNT)).unwrap();
    let request = request.replace("Host: x", "Expect: 100-continue");
    let (head, body) = request.split_at(request.len() - COUNT.len());
    wire.0.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    timeout(SOON, wire.0.read_exact(&mut go_on)).await.unwrap().unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    wire.0.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(wire.answer().await.0, 200);
}

#[tokio::test]
async fn a_long_poll_ends_with_a_new_tip_or_a_lost_one() {
    let node = node().await;
    let mut wire = Wire::open(&node).await;
    let mut id = id_of(wire.call("getblocktemplate", TEMPLATE).await.result());
    for height in [2, 3, 2] {
        let params = format!(r#"[{{"rules":["segwit"],"longpollid":"{id}"}}]"#);
        wire.send(&format!(r#"{{"method":"getblocktemplate","params":{params},"id":1}}"#)).await;
        assert!(timeout(Duration::from_millis(200), wire.answer()).await.is_err(), "it waits");
        if height == 2 && node.height() == 2 {
            assert!(node.forget_tip());
        } else {
            node.mine_one();
        }
        let (_, body) = timeout(SOON, wire.answer()).await.unwrap();
        let answer: Answer = serde_json::from_slice(&body).unwrap();
        let template: GetBlockTemplateResult = serde_json::from_str(answer.result()).unwrap();
        assert_eq!(template.height, height);
        id = id_of(answer.result());
    }
    // An id of another tip returns at once.
    let other = format!("{}7", "0".repeat(64));
    let params = format!(r#"[{{"rules":["segwit"],"longpollid":"{other}"}}]"#);
    wire.call("getblocktemplate", &params).await.result();
}

fn id_of(template: &str) -> String {
    #[derive(Deserialize)]
    struct Id {
        longpollid: String,
    }
    serde_json::from_str::<Id>(template).unwrap().longpollid
}

#[tokio::test]
async fn knobs_inject_faults() {
    let node = node().await;
    let mut wire = Wire::open(&node).await;
    node.set_initial_block_download(true);
    assert_eq!(wire.call("getblocktemplate", TEMPLATE).await.code(), -10);
    assert!(wire.call("getblockchaininfo", "[]").await.result().contains(r#"download":true"#));
    node.set_initial_block_download(false);
    node.set_reject_blocks(Some("rejected"));
    assert_eq!(wire.call("submitblock", r#"["00"]"#).await.result(), r#""rejected""#);
    assert_eq!(node.rejected().get("rejected"), Some(&1));
    node.set_reject_blocks(None);
    node.set_submit_delay(Duration::from_millis(300));
    wire.send(r#"{"method":"submitblock","params":["00"],"id":1}"#).await;
    assert!(timeout(Duration::from_millis(100), wire.answer()).await.is_err());
    assert_eq!(timeout(SOON, wire.answer()).await.unwrap().0, 500);
    node.set_unauthorized(true);
    wire.send(COUNT).await;
    assert_eq!(wire.answer().await.0, 401);
    node.set_unauthorized(false);
    wire.call("getblockcount", "[]").await.result();
    node.set_unavailable(true);
    assert!(wire.is_over().await);
    assert!(Wire::open(&node).await.is_over().await);
    node.set_unavailable(false);
    Wire::open(&node).await.call("getblockcount", "[]").await.result();
}

#[tokio::test]
async fn a_restarted_node_keeps_its_chain_and_port() {
    let node = node().await;
    let tip = node.mine_one();
    let mut wire = Wire::open(&node).await;
    wire.call("getblockcount", "[]").await.result();
    node.stop().await;
    assert!(wire.is_over().await);
    assert!(TcpStream::connect(node.addr).await.is_err());
    node.restart().await.unwrap();
    let answer = Wire::open(&node).await.call("getbestblockhash", "[]").await;
    assert_eq!(answer.result(), format!("\"{tip}\""));
}

#[tokio::test]
async fn the_mempool_grows() {
    let options =
        NodeOptions { transactions: 1, transactions_per_second: 50, ..Default::default() };
    let node = Node::start(options, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let mut seen = node.subscribe();
    timeout(SOON, seen.wait_for(|seen| seen.sequence >= 51)).await.unwrap().unwrap();
    node.mine_one();
    assert!(node.blocks()[1].transactions >= 52);
}

#[tokio::test(flavor = "multi_thread")]
async fn bitcoin_cores_client_understands() {
    let options = NodeOptions { initial_height: 19, ..Default::default() };
    let node = Node::start(options, (Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    node.mine_one();
    let client = |password: &str| {
        let auth = Auth::UserPass(node.user().into(), password.into());
        Client::new(&node.rpc_url(), auth).unwrap()
    };
    let (right, wrong) = (client(node.password()), client("wrong"));
    let calls = move || {
        let refused = wrong.get_block_count().unwrap_err().to_string();
        assert!(refused.contains("401"), "{refused}");
        let info = right.get_blockchain_info().unwrap();
        assert_eq!((info.blocks, info.chain), (20, bitcoin::Network::Regtest));
        assert!(right.get_network_info().unwrap().subversion.starts_with("/gatewayd"));
        let tip = right.get_best_block_hash().unwrap();
        assert_eq!(right.get_block_hash(20).unwrap(), tip);
        let below = right.get_block_hash(19).unwrap();
        let header = right.get_block_header_info(&below).unwrap();
        assert_eq!((header.confirmations, header.next_block_hash), (2, Some(tip)));
        assert_eq!(right.get_block_header(&tip).unwrap().prev_blockhash, below);
        let block = right.get_block(&tip).unwrap();
        assert!(block.check_merkle_root() && block.check_witness_commitment());
        assert_eq!(block.bip34_block_height().unwrap(), 20);
        let info = right.get_block_info(&tip).unwrap();
        assert_eq!((info.size, info.weight as u64), (block.total_size(), block.weight().to_wu()));
        assert_eq!(info.tx.len(), block.txdata.len());
    };
    spawn_blocking(calls).await.unwrap();
}
