//! A whole network in one process: for tests, for the demo, and for running by hand.

mod cli;
mod demo;
pub mod load;
pub mod miner;
pub mod node;
pub mod pool;
mod real_node;
mod sv2_client;

pub use cli::{DevnetArgs, run as run_devnet};
pub use demo::{DemoArgs, run as run_demo};
