//! A blvm-node on regtest, for tests: `blvm-node-for-tests DATA_DIR P2P_ADDR RPC_ADDR CONFIG`.
//! Ends cleanly when its standard input does, so that it never outlives its test.

use std::{env, net::SocketAddr, path::Path};

use anyhow::{Context, Result, bail};
use blvm_node::{ProtocolVersion, config::NodeConfig, node::Node};
use tokio::io::{AsyncReadExt, stdin};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    let args: Vec<String> = env::args().skip(1).collect();
    let [data_dir, p2p, rpc, config] = args.as_slice() else {
        bail!("usage: blvm-node-for-tests DATA_DIR P2P_ADDR RPC_ADDR CONFIG");
    };
    let p2p: SocketAddr = p2p.parse().context("P2P_ADDR")?;
    let rpc: SocketAddr = rpc.parse().context("RPC_ADDR")?;
    let config = NodeConfig::from_toml_file(Path::new(config))?;
    let version = Some(ProtocolVersion::Regtest);
    let storage = config.storage.clone();
    let mut node = Node::with_storage_config(data_dir, p2p, rpc, version, storage.as_ref())?
        .with_config(config.clone())?
        .with_modules_from_config(&config)?;
    tokio::select! {
        ended = node.start() => ended?,
        () = end_of_input() => {}
    }
    node.stop().await
}

async fn end_of_input() {
    let (mut input, mut buffer) = (stdin(), [0; 256]);
    while input.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
}
