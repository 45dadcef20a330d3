//! `gatewayd devnet …`: the parts of a test network on their own.

use std::process::ExitCode;

use super::{load, miner, node, pool};

#[derive(clap::Subcommand, Clone, Debug)]
pub enum Devnet {
    /// A Bitcoin node of a network of its own, with JSON-RPC.
    Node(node::NodeArgs),
    /// A DATUM pool with splits that checks every share. Prints its public key.
    Pool(pool::PoolArgs),
    /// Miners on this machine's processor.
    Miner(miner::MinerArgs),
    /// Thousands of connections that submit, to measure a gateway.
    Load(load::LoadArgs),
}

pub async fn run(part: Devnet) -> anyhow::Result<ExitCode> {
    match part {
        Devnet::Node(args) => node::run_cli(args).await?,
        Devnet::Pool(args) => pool::run_cli(args).await?,
        Devnet::Load(args) => return Ok(load::run_cli(args).await),
        Devnet::Miner(args) => return Ok(miner::run_cli(args).await),
    }
    Ok(ExitCode::SUCCESS)
}
