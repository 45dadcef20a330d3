//! Messages that hand out work.

use crate::work::Hash256;

use super::{
    bytes::{Bytes64K, Seq255},
    wire::message,
};

message! {
    /// A job for standard channels.
    NewMiningJob = 0, 0x15, true {
        channel_id: u32,
        job_id: u32,
        /// None for a future job, which waits for its [`SetNewPrevHash`].
        min_ntime: Option<u32>,
        version: u32,
        merkle_root: Hash256,
    }
}

message! {
    /// A job for extended channels and for groups.
    NewExtendedMiningJob<'a> = 0, 0x1F, true {
        channel_id: u32,
        job_id: u32,
        /// None for a future job, which waits for its [`SetNewPrevHash`].
        min_ntime: Option<u32>,
        version: u32,
        version_rolling_allowed: bool,
        /// From the coinbase upwards.
        merkle_path: Seq255<'a, Hash256>,
        /// Up to the extranonce prefix, without witness.
        coinbase_tx_prefix: Bytes64K<'a>,
        /// What follows the extranonce, without witness.
        coinbase_tx_suffix: Bytes64K<'a>,
    }
}

message! {
    /// Activates a future job and ends all others.
    SetNewPrevHash = 0, 0x20, true {
        channel_id: u32,
        job_id: u32,
        prev_hash: Hash256,
        min_ntime: u32,
        nbits: u32,
    }
}
