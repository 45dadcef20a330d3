//! `gatewayd devnet node`.

use std::{
    future::pending,
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use clap::Args;

use super::{BlockSummary, Node, NodeHandle, NodeOptions};
use crate::{devnet::miner::cli_duration, work::Nbits};

/// Runs an embedded regtest node until it is interrupted.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeArgs {
    /// Where to serve JSON-RPC; port 0 picks a free one.
    #[arg(long, default_value = "127.0.0.1:18443")]
    pub(crate) listen: SocketAddr,
    #[arg(long, default_value = "devnet")]
    pub(crate) rpc_user: String,
    #[arg(long, default_value = "devnet")]
    pub(crate) rpc_password: String,
    /// The difficulty of all blocks, in hex as in `getblocktemplate`.
    #[arg(long, default_value = "1e00ffff", value_parser = parse_nbits)]
    pub(crate) nbits: Nbits,
    /// Made-up transactions in the mempool at the start; more keep arriving.
    #[arg(long, default_value_t = 25)]
    pub(crate) transactions: usize,
    /// Make a block this often, without work, as if others were mining. By default never.
    #[arg(long, value_name = "TIME", value_parser = cli_duration)]
    pub(crate) block_every: Option<Duration>,
}

fn parse_nbits(text: &str) -> Result<Nbits, String> {
    Nbits::from_hex(text).ok_or_else(|| format!("{text:?} is not a target of 8 hex digits"))
}

/// Runs a node, and prints a line for each block until SIGINT or SIGTERM ends the process.
pub(crate) async fn run_cli(args: NodeArgs) -> io::Result<()> {
    let defaults = NodeOptions::default();
    let options = NodeOptions {
        nbits: args.nbits,
        transactions: args.transactions,
        transactions_max: defaults.transactions_max.max(args.transactions),
        user: args.rpc_user,
        password: args.rpc_password,
        ..defaults
    };
    let node = Node::start(options, args.listen).await?;
    print(&format!("listening protocol=rpc addr={}", node.addr))?;
    tokio::select! {
        done = print_blocks(&node) => done,
        () = make_blocks(&node, args.block_every) => Ok(()),
        done = terminated() => done,
    }
}

async fn make_blocks(node: &NodeHandle, each: Option<Duration>) {
    let Some(each) = each.filter(|each| !each.is_zero()) else { return pending().await };
    let mut due = tokio::time::interval(each);
    loop {
        due.tick().await;
        node.mine_one();
    }
}

async fn print_blocks(node: &NodeHandle) -> io::Result<()> {
    let mut seen = node.subscribe();
    let mut printed = node.best_hash();
    while seen.changed().await.is_ok() {
        if seen.borrow_and_update().tip == printed {
            continue;
        }
        let blocks = node.blocks();
        // After a reorganisation the last printed block is gone: then only the tip is new.
        let from = blocks.iter().rposition(|block| block.hash == printed);
        let from = from.map_or_else(|| blocks.len().saturating_sub(1), |at| at + 1);
        for block in &blocks[from..] {
            print(&line(block))?;
            printed = block.hash;
        }
    }
    Ok(())
}

fn line(block: &BlockSummary) -> String {
    let BlockSummary { height, hash, transactions, .. } = block;
    let paid: u64 = block.coinbase_outputs.iter().map(|(value, _)| value).sum();
    let outputs = block.coinbase_outputs.iter().filter(|(value, _)| *value > 0).count();
    let from = block.submitted_by.map_or_else(|| "itself".to_owned(), |from| from.to_string());
    format!(
        "block height={height} hash={hash} transactions={transactions} paid={paid} \
         outputs={outputs} from={from}"
    )
}

fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = terminate.recv() => Ok(()),
    }
}
