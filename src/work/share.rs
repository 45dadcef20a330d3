//! A miner's claim, and the ways it can end.

use std::{fmt, sync::Arc};

use super::{CoinbaseId, Hash256, Job};

/// A parsed submit, whichever protocol carried it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Submission {
    /// extranonce1 ‖ extranonce2, as they stand in the coinbase.
    pub extranonce: [u8; 12],
    pub ntime: u32,
    pub nonce: u32,
    /// Bits that the miner rolled, before masking; `None` when it sent none.
    pub version_bits: Option<u32>,
    /// Bits that it may roll.
    pub version_mask: u32,
}

/// A submission that met its target.
#[derive(Clone, Debug)]
pub struct Share {
    pub job: Arc<Job>,
    pub coinbase_id: CoinbaseId,
    /// Made on the quickdiff variant of the job's coinbase.
    pub quickdiff: bool,
    /// floor(log2(difficulty)), as written into the coinbase.
    pub target_byte: u8,
    /// What the miner was asked for, and is credited with.
    pub difficulty: f64,
    pub extranonce: [u8; 12],
    pub ntime: u32,
    pub nonce: u32,
    /// As in the header, after rolling.
    pub version: u32,
    pub hash: Hash256,
    pub is_block: bool,
    pub username: Username,
}

/// A solved block, complete but for the transactions, which `job.template` has.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    pub job: Arc<Job>,
    pub hash: Hash256,
    pub header: [u8; 80],
    /// Without witness, as hashed into the merkle root.
    pub coinbase: Vec<u8>,
    pub username: Username,
}

/// Whom a share belongs to, as the miner wrote it. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Username(pub Arc<str>);

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a submission was refused. Each protocol maps this to its own wire code.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[repr(u8)]
pub enum Reject {
    #[error("unknown-work")]
    UnknownJob,
    /// Older than the job may be.
    #[error("stale-work")]
    StaleWork,
    /// On a block that is no longer the tip.
    #[error("stale-prevblk")]
    StalePrevblk,
    #[error("time-too-old")]
    NtimeTooOld,
    #[error("time-too-new")]
    NtimeTooNew,
    #[error("duplicate")]
    Duplicate,
    #[error("high-hash")]
    HighHash,
    /// Not even difficulty 1 where 1 is the least: a miner that hashes something else.
    #[error("H-not-zero")]
    HashNotZero,
    #[error("bad-version")]
    BadVersion,
    #[error("bad-extranonce2-size")]
    BadExtranonce,
    #[error("unauthorized-worker")]
    Unauthorized,
    #[error("not-subscribed")]
    NotSubscribed,
    /// Fields missing, or not of the form that they must have.
    #[error("malformed-submit")]
    Malformed,
}

impl Reject {
    pub const ALL: [Self; 13] = [
        Self::UnknownJob,
        Self::StaleWork,
        Self::StalePrevblk,
        Self::NtimeTooOld,
        Self::NtimeTooNew,
        Self::Duplicate,
        Self::HighHash,
        Self::HashNotZero,
        Self::BadVersion,
        Self::BadExtranonce,
        Self::Unauthorized,
        Self::NotSubscribed,
        Self::Malformed,
    ];
}
