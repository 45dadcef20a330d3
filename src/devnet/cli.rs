//! `gatewayd devnet …`: the parts of a test network, each on its own.

use std::process::ExitCode;

use super::{load, miner, node, pool};

#[derive(clap::Args, Clone, Debug)]
pub struct DevnetArgs {
    #[command(subcommand)]
    part: Part,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Part {
    /// A Bitcoin node on a network of its own, with JSON-RPC.
    Node(node::NodeArgs),
    /// A DATUM pool with payout splits, which checks every share. Prints its public key.
    Pool(pool::PoolArgs),
    /// CPU miners.
    Miner(miner::MinerArgs),
    /// Thousands of connections that submit shares, to measure a gateway.
    Load(load::LoadArgs),
}

pub async fn run(args: DevnetArgs) -> anyhow::Result<ExitCode> {
    match args.part {
        Part::Node(args) => node::run_cli(args).await?,
        Part::Pool(args) => pool::run_cli(args).await?,
        Part::Load(args) => return Ok(load::run_cli(args).await),
        Part::Miner(args) => return Ok(miner::run_cli(args).await),
    }
    Ok(ExitCode::SUCCESS)
}
