//! Messages of clients that choose their own transactions.

use crate::work::Hash256;

use super::{
    bytes::{Bytes64K, Bytes255, Seq255, Str255},
    wire::message,
};

message! {
    SetCustomMiningJob<'a> = 0, 0x22, true {
        channel_id: u32,
        request_id: u32,
        mining_job_token: Bytes255<'a>,
        version: u32,
        prev_hash: Hash256,
        min_ntime: u32,
        nbits: u32,
        coinbase_tx_version: u32,
        coinbase_prefix: Bytes255<'a>,
        coinbase_tx_input_n_sequence: u32,
        coinbase_tx_outputs: Bytes64K<'a>,
        coinbase_tx_locktime: u32,
        merkle_path: Seq255<'a, Hash256>,
    }
}

message! {
    SetCustomMiningJobSuccess = 0, 0x23, true {
        channel_id: u32,
        request_id: u32,
        job_id: u32,
    }
}

message! {
    SetCustomMiningJobError<'a> = 0, 0x24, true {
        channel_id: u32,
        request_id: u32,
        error_code: Str255<'a>,
    }
}
