//! Stratum V2: binary, encrypted, with the header work of standard channels left to the miner.
pub mod codec;
pub mod noise;
