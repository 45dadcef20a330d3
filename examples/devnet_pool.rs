//! The devnet pool alone, with all its figures at the end: `tests/peers/c-gateway` runs it.
#![allow(clippy::print_stdout, reason = "its whole purpose")]

use std::{io, net::SocketAddr};

use gatewayd::devnet::pool::{Pool, PoolConfig, PoolOptions};

#[tokio::main]
async fn main() -> io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listen: SocketAddr = listen.parse().map_err(io::Error::other)?;
    let config = PoolConfig {
        tag: b"devnet".to_vec(),
        // The C gateway takes 0 for 2.
        min_difficulty: 1,
        blocks_suffice: true,
        ..PoolConfig::default()
    };
    let pool = Pool::start(PoolOptions { config, ..PoolOptions::default() }, listen).await?;
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
