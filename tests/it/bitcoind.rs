//! The harness itself, against the real node: what other tests rely on holds.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::common::bitcoind::Bitcoind;
use bitcoin::{Block, Network, TxMerkleNode, consensus::encode::serialize_hex, hashes::Hash as _};
use bitcoincore_rpc::RpcApi as _;
use serde_json::{Value, json};

fn template(node: &Bitcoind) -> Value {
    let rules = json!({ "rules": ["segwit", "signet"] });
    node.rpc().call("getblocktemplate", &[rules]).unwrap()
}

#[test]
fn regtest_answers_by_cookie_and_survives_restarts() {
    let mut node = Bitcoind::regtest();
    node.generate(3);
    let tip = node.best_hash();
    node.restart();
    assert_eq!((node.height(), node.best_hash()), (3, tip));
    node.kill();
    node.start();
    assert!(node.cookie_file().exists());
    assert!(node.node_toml().contains(&node.rpc_url()));
}

#[test]
fn user_and_password_are_read_from_the_arguments() {
    let node = Bitcoind::start_with(Network::Regtest, &["-rpcuser=a", "-rpcpassword=b"]);
    assert_eq!(node.height(), 0);
    assert!(!node.cookie_file().exists());
    assert!(node.node_toml().contains("rpc_user = \"a\""));
}

#[test]
fn a_segwit_template_commits_to_its_witnesses() {
    let mut node = Bitcoind::regtest();
    let txids = node.make_segwit_mempool(300);
    let template = template(&node);
    assert_eq!(txids.len(), 300);
    assert_eq!(template["transactions"].as_array().unwrap().len(), 300);
    assert!(template["default_witness_commitment"].as_str().unwrap().starts_with("6a24aa21a9ed"));
    let has_parents = |tx: &&Value| !tx["depends"].as_array().unwrap().is_empty();
    let children = template["transactions"].as_array().unwrap().iter().filter(has_parents).count();
    assert_eq!(children, 135, "15 chains of 10");
    node.generate(1);
    assert_eq!(node.rpc().get_raw_mempool().unwrap().len(), 0);
}

#[test]
fn a_mempool_of_four_thousand_fits_one_template() {
    let mut node = Bitcoind::regtest();
    node.make_segwit_mempool(4_000);
    assert_eq!(template(&node)["transactions"].as_array().unwrap().len(), 4_000);
}

#[test]
fn signet_of_our_own_gives_templates_and_blocks() {
    let node = Bitcoind::signet();
    let template = template(&node);
    assert_eq!(template["signet_challenge"], "51");
    assert!(template["rules"].as_array().unwrap().contains(&"!signet".into()));
    assert!(template["default_witness_commitment"].is_string());
    node.generate(1);
    assert_eq!(node.height(), 1);
}

#[test]
fn proposals_are_judged() {
    let node = Bitcoind::regtest();
    let tip = node.generate(1)[0];
    let mut block: Block = node.rpc().get_block(&tip).unwrap();
    // The same block again, on top of itself: its coinbase has the wrong height.
    block.header.prev_blockhash = tip;
    block.header.time += 1;
    let propose = |block: &Block| -> Value {
        let request =
            json!({ "mode": "proposal", "rules": ["segwit"], "data": serialize_hex(block) });
        node.rpc().call("getblocktemplate", &[request]).unwrap()
    };
    assert_eq!(propose(&block), "bad-cb-height");
    // With the right one it is fine: a proposal needs no proof of work.
    block.txdata[0].input[0].script_sig =
        bitcoin::script::Builder::new().push_int(2).push_int(0).into_script();
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    assert_eq!(propose(&block), Value::Null);
    block.header.merkle_root = TxMerkleNode::all_zeros();
    assert_eq!(propose(&block), "bad-txnmrklroot");
}

#[test]
fn reorganisations_go_back_and_forth() {
    let node = Bitcoind::regtest();
    node.generate(2);
    let tip = node.invalidate_tip();
    assert_eq!(node.height(), 1);
    node.reconsider(&tip);
    assert_eq!(node.best_hash(), tip);
}

#[test]
fn addresses_belong_to_the_network_and_each_is_new() {
    let nodes = [Bitcoind::regtest(), Bitcoind::regtest()];
    let mut all: Vec<_> =
        nodes.iter().flat_map(|it| [it.new_address(), it.new_address()]).collect();
    assert!(all.iter().all(|it| it.to_string().starts_with("bcrt1q")), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn a_frozen_node_accepts_connections_and_says_nothing() {
    let node = Bitcoind::regtest();
    node.freeze();
    let url = node.rpc_url();
    let addr = url.strip_prefix("http://").unwrap();
    TcpStream::connect(addr).unwrap();
    node.thaw();
    assert_eq!(node.height(), 0);
}

#[test]
fn a_node_that_cannot_start_fails_with_its_log() {
    let start = || Bitcoind::start_with(Network::Regtest, &["-nosuchoption"]);
    let panic = std::panic::catch_unwind(start).err().expect("it cannot start");
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("Invalid parameter -nosuchoption"), "{message}");
}

/// By hand, in ZMTP 3.0: what subscribers older than 3.1 send is understood too.
#[test]
fn zmq_announces_each_block() {
    let node = Bitcoind::regtest();
    let Some(url) = node.zmq_url() else {
        let refused = node.rpc().call::<Value>("getzmqnotifications", &[]).unwrap_err();
        assert!(refused.to_string().contains("-32601"), "it does have ZeroMQ: {refused}");
        return;
    };
    let mut publisher = TcpStream::connect(url.strip_prefix("tcp://").unwrap()).unwrap();
    publisher.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut greeting = b"\xFF\0\0\0\0\0\0\0\0\x7F\x03\0NULL".to_vec();
    greeting.resize(64, 0);
    publisher.write_all(&greeting).unwrap();
    publisher.read_exact(&mut greeting).unwrap();
    publisher.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB").unwrap();
    assert_eq!(&greeting[12..17], b"NULL\0");
    let frame = || {
        let (mut head, mut publisher) = ([0; 2], &publisher);
        publisher.read_exact(&mut head).unwrap();
        let mut body = vec![0; head[1].into()];
        publisher.read_exact(&mut body).unwrap();
        (head[0], body)
    };
    let (flags, ready) = frame();
    assert!(flags == 4 && ready.starts_with(b"\x05READY"));
    // If sent earlier, it would hang up.
    (&publisher).write_all(b"\0\x0a\x01hashblock").unwrap();
    // The node drops what it publishes before the subscription arrives, so it keeps mining.
    let stop = Arc::new(AtomicBool::new(false));
    let rpc = node.rpc();
    let address = node.new_address();
    let mining = thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            while !stop.load(Ordering::Relaxed) {
                rpc.generate_to_address(1, &address).unwrap();
            }
        }
    });
    let parts = [frame(), frame(), frame()];
    stop.store(true, Ordering::Relaxed);
    mining.join().unwrap();
    assert_eq!((parts[0].0, parts[1].0, parts[2].0), (1, 1, 0), "three parts");
    assert_eq!((&parts[0].1[..], parts[2].1.len()), (&b"hashblock"[..], 4));
    // In RPC's byte order.
    let hash = faster_hex::hex_string(&parts[1].1);
    let mut heights = 1..=node.height();
    let is_known = |height| node.rpc().get_block_hash(height).unwrap().to_string() == hash;
    assert!(heights.any(is_known), "{hash}");
}
