//! Mining on a real blvm-node: its templates, blocks that it accepts, its NodeAPI.

use std::time::Duration;

use crate::common::{blvm::BlvmNode, eventually, gateway::Gateway};
use bitcoin::{
    Address, Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
    absolute::LockTime, consensus::encode::serialize_hex, opcodes::OP_TRUE, script::Builder,
    transaction::Version,
};
use gatewayd::devnet::miner::{Miner, MinerHandle, MinerOptions};

fn witness_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// An output that anyone can spend, with a witness.
fn anyone_can_spend() -> ScriptBuf {
    witness_script().to_p2wsh()
}

fn address(node: &BlvmNode) -> Address {
    Address::from_script(&anyone_can_spend(), node.network()).unwrap()
}

/// Spends the first output of `txid`, of `value` sats, to an output of the same kind.
fn spend(txid: Txid, value: u64) -> Transaction {
    let output = TxOut { value: Amount::from_sat(value), script_pubkey: anyone_can_spend() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid, vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[witness_script().as_bytes()]),
        }],
        output: vec![output],
    }
}

fn config(node: &BlvmNode) -> String {
    format!(
        r#"
        {}
        [mining]
        address = "{}"
        [template]
        refresh = "10s"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.00025
        difficulty_start = 0.00025
        [api]
        listen = ""
        [ledger]
        data_dir = "{{dir}}"
        [log]
        level = "info,gatewayd::template::blvm=debug,gatewayd::node::blvm=debug"
        "#,
        node.node_toml(),
        address(node),
    )
}

fn miner(gateway: &Gateway) -> MinerHandle {
    Miner::start(MinerOptions {
        connect: gateway.addr("stratum").to_string(),
        username: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.a".into(),
        hashrate_max: Some(250_000.0),
        ..MinerOptions::default()
    })
    .unwrap()
}

#[track_caller]
fn wait_for_height(node: &BlvmNode, height: u64) {
    eventually("blocks", Duration::from_secs(300), || {
        std::thread::sleep(Duration::from_secs(2));
        (node.height() >= height).then_some(())
    });
}

/// Twenty blocks over RPC and NodeAPI, with segwit transactions in them; then without its socket.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/peers/blvm runs it: the node takes ten minutes to build"]
async fn blocks_are_mined_through_a_blvm_node() {
    let node = BlvmNode::regtest();
    node.generate(110, &address(&node));
    let mut spends = Vec::new();
    for height in 1..=5 {
        let coinbase: Txid = node.transactions(height)[0].parse().unwrap();
        let tx = spend(coinbase, 50_0000_0000 - 10_000 * height);
        node.call("sendrawtransaction", &[serialize_hex(&tx).into()]);
        spends.push(tx.compute_txid().to_string());
    }
    let gateway = Gateway::start(&config(&node));
    gateway.wait_for_line("connected to the NodeAPI", Duration::from_secs(90));
    let start = node.height();
    let first = miner(&gateway);
    wait_for_height(&node, start + 20);
    let stats = first.stop().await;
    assert_eq!(stats.rejected, 0, "{stats:?}");
    let top = node.height();
    let mined: Vec<String> =
        (start + 1..=top).flat_map(|height| node.transactions(height)).collect();
    for txid in &spends {
        assert!(mined.contains(txid), "{txid} is not in a block");
    }
    let lines = gateway.lines();
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count() as u64;
    assert!(count("block accepted") >= 20);
    assert_eq!(count("REJECTED"), 0);
    assert!(count("NodeAPI: event") >= 20, "{}", count("NodeAPI: event"));
    assert!(count("NodeAPI: its template agrees") > 0);
    assert_eq!(count("contradict"), 0);

    // Removed under a running gateway, which goes on, and missing for one that starts.
    std::fs::remove_file(node.socket()).unwrap();
    let second = miner(&gateway);
    wait_for_height(&node, top + 2);
    second.stop().await;
    // The node counts connections of the last minute, from this gateway and from the next.
    let gateway = gateway.restart();
    gateway.wait_for_line("NodeAPI is unavailable", Duration::from_secs(30));
    let top = node.height();
    let third = miner(&gateway);
    wait_for_height(&node, top + 3);
    third.stop().await;
}
