//! An embedded regtest node: getblocktemplate, strict submitblock, a living mempool.
//!
//! Chain, mempool, checks and JSON are pure; `server.rs` connects them to sockets and the clock.
//! Not here: peers, scripts, coins. Its transactions are made up, and only those may be in its
//! blocks.

mod chain;
mod check;
mod cli;
mod gbt;
mod handle;
mod http;
mod mempool;
mod methods;
mod rpc;
mod server;
mod state;

pub(crate) use cli::{NodeArgs, run_cli};
pub(crate) use handle::Knobs;
pub use handle::{Node, NodeHandle};
pub(crate) use state::{BlockSummary, Seen};

use crate::work::Nbits;

/// A node's options.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The difficulty of all blocks after the genesis block.
    pub nbits: Nbits,
    /// Blocks on the genesis block, made without work.
    pub initial_height: u32,
    /// Transactions in the mempool at the start.
    pub transactions: usize,
    pub transactions_per_second: usize,
    /// The mempool holds no more than this.
    pub transactions_max: usize,
    pub user: String,
    pub password: String,
    /// Nodes with the same seed make up the same transactions.
    pub seed: u64,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            nbits: Nbits::new(DEFAULT_NBITS).expect("a valid target"),
            initial_height: 0,
            transactions: 25,
            transactions_per_second: 3,
            transactions_max: 4000,
            user: "devnet".into(),
            password: "devnet".into(),
            seed: 1,
        }
    }
}

/// 2^24 hashes on average, difficulty 1/256: seconds of work for a processor.
const DEFAULT_NBITS: u32 = 0x1e00_ffff;

#[cfg(test)]
mod node_tests;
