//! The peers that scripts put a gateway between, one at a time: `cargo run --example peer --
//! bitcoind`.
//!
//! `bitcoind` is a real one on regtest with 4,000 transactions waiting (`benches/load` and
//! `benches/tips`; needs `BITCOIND`), `blvm` a real blvm-node (`benches/tips`; needs `BLVM_NODE`).
//! Both print two parts, each followed by an empty line: the `[[node]]` section, and the command
//! that makes a new tip. They run until their standard input ends. `pool` is the devnet pool, which
//! prints all its figures when told to end (`tests/peers/c-gateway`).
#![allow(clippy::print_stdout, reason = "its whole purpose")]

#[path = "../tests/it/common/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests' harness, of which this uses a part"
)]
mod common;

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bitcoin::{Address, ScriptBuf};
use common::{bitcoind::Bitcoind, blvm::BlvmNode};
use gatewayd::devnet::pool::{Pool, PoolConfig, PoolOptions};

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("bitcoind") => bitcoind(),
        Some("blvm") => blvm(),
        Some("pool") => pool(),
        _ => Err(io::Error::other("name one of: bitcoind, blvm, pool")),
    }
}

fn bitcoind() -> io::Result<()> {
    let mut node = Bitcoind::regtest();
    node.generate(101);
    node.make_segwit_mempool(4000);
    // A block that does not include the transactions.
    let new_tip = format!(
        "curl -s -u $(cat {}) -d '{{\"method\":\"generateblock\",\"params\":[\"raw(51)\",[]]}}' {}",
        node.cookie_file().display(),
        node.rpc_url()
    );
    say(&node.node_toml(), &new_tip)?;
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Makes tips itself for whoever connects, because the node accepts ten connections a minute.
fn blvm() -> io::Result<()> {
    let node = BlvmNode::regtest();
    let anyone = ScriptBuf::from_bytes(vec![0x51]).to_p2wsh();
    let address = Address::from_script(&anyone, node.network()).map_err(io::Error::other)?;
    node.generate(110, &address);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    say(&node.node_toml(), &format!("bash -c 'read < /dev/tcp/127.0.0.1/{}'", addr.port()))?;
    let ended = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            ended.store(true, Ordering::SeqCst);
            TcpStream::connect(addr)
        }
    });
    for caller in listener.incoming() {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        node.generate(1, &address);
        caller?.write_all(b"done\n")?;
    }
    Ok(())
}

fn say(node_toml: &str, new_tip: &str) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{}\n\n{new_tip}\n", node_toml.trim_end())?;
    out.flush()
}

#[tokio::main]
async fn pool() -> io::Result<()> {
    let config = PoolConfig {
        tag: b"devnet".to_vec(),
        // The C gateway reads 0 as 2.
        min_difficulty: 1,
        blocks_suffice: true,
        ..PoolConfig::default()
    };
    let options = PoolOptions { config, ..PoolOptions::default() };
    let pool = Pool::start(options, ([127, 0, 0, 1], 0).into()).await?;
    println!("key {}", pool.public_key_hex());
    println!("port {}", pool.addr.port());
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    terminate.recv().await;
    let stats = pool.stats();
    println!("accepted {}", stats.accepted);
    println!("rejected {}", stats.rejected);
    for (reason, count) in &stats.rejected_by {
        println!("rejected-by {count} {}", reason.name());
    }
    for (class, count) in &stats.accepted_by_class {
        println!("class {class} {count}");
    }
    for (user, count) in &stats.accepted_by_user {
        println!("user {count} {user}");
    }
    println!("blocks {} misflagged {}", stats.blocks, stats.blocks_misflagged);
    println!("coinbasers {} splits {}", stats.coinbasers, stats.splits_max);
    let (ok, failed) = (stats.validations_ok, stats.validations_failed);
    println!("validations {ok} failed {failed} forms {:?}", stats.validations_by_form);
    if let Some(flaw) = &stats.last_validation_failure {
        println!("flaw {flaw}");
    }
    pool.stop().await;
    Ok(())
}
