//! A whole network in the process: for tests, for the demo, and to be run by hand.

pub mod cli;
pub mod demo;
pub mod load;
pub mod miner;
pub mod node;
pub mod pool;
mod real_node;
