//! A miner's claim, and the ways it can end.

use std::{fmt, sync::Arc};

use super::{CoinbaseClass, Hash256, Job, printable};

/// A parsed submit, whichever protocol carried it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Submission {
    /// extranonce1 ‖ extranonce2, as they stand in the coinbase.
    pub extranonce: [u8; 12],
    pub ntime: u32,
    pub nonce: u32,
    pub version: SubmittedVersion,
    /// Bits of the version that it may roll.
    pub version_mask: u32,
}

/// How a miner gives the version of its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SubmittedVersion {
    /// Nothing: it is the job's.
    Job,
    /// Stratum V1: the bits that it rolled, before masking.
    Rolled(u32),
    /// Stratum V2: all of it, as hashed.
    Whole(u32),
}

/// A submission that met its target, or one that is a block whatever else it is.
///
/// `J` is how it holds its job: a share that is only waiting for an answer must not keep a template
/// in memory.
#[derive(Clone, Debug)]
pub struct Share<J = Arc<Job>> {
    pub job: J,
    pub coinbase_id: CoinbaseClass,
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
    /// The roster's number of the miner who sent it; 0: nobody in the roster.
    pub miner: u64,
}

impl<J> Share<J> {
    /// The same share, holding its job in another way.
    pub(crate) fn with_job<K>(self, job: K) -> Share<K> {
        let Self { coinbase_id, quickdiff, target_byte, difficulty, extranonce, .. } = self;
        let Self { ntime, nonce, version, hash, is_block, username, miner, .. } = self;
        Share {
            job,
            coinbase_id,
            quickdiff,
            target_byte,
            difficulty,
            extranonce,
            ntime,
            nonce,
            version,
            hash,
            is_block,
            username,
            miner,
        }
    }
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

/// Whom a share belongs to, as the miner wrote it, without what cannot be printed. Cheap to clone.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Username(pub Arc<str>);

impl Username {
    /// As a stranger sent it.
    pub fn heard(name: &str) -> Self {
        Self(printable(name, usize::MAX).into())
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reasons in the order in which the books count them, each with its name.
macro_rules! rejects {
    (
        $(#[$about:meta])*
        pub enum $type:ident {
            $($(#[$attribute:meta])* $reason:ident = $name:literal,)*
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
        #[error("{}", self.name())]
        #[repr(u8)]
        pub enum $type {
            $($(#[$attribute])* $reason,)*
        }

        impl $type {
            pub(crate) const ALL: [Self; [$($name),*].len()] = [$(Self::$reason),*];

            /// The name that miners, metrics and the API are given.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$reason => $name,)*
                }
            }
        }
    };
}

rejects! {
    /// Why a submission was refused. Each protocol has codes of its own for them.
    pub enum Reject {
        UnknownJob = "unknown-work",
        /// Older than the job may be.
        StaleWork = "stale-work",
        /// Built on a block that is no longer the tip.
        StalePrevblk = "stale-prevblk",
        NtimeTooOld = "time-too-old",
        NtimeTooNew = "time-too-new",
        Duplicate = "duplicate",
        /// More shares for the jobs that count than can be told from duplicates.
        TooMany = "too-many-shares",
        HighHash = "high-hash",
        /// Not even difficulty 1 where 1 is the least: a miner that hashes something else.
        HashNotZero = "H-not-zero",
        BadVersion = "bad-version",
        BadExtranonce = "bad-extranonce2-size",
        Unauthorized = "unauthorized-worker",
        NotSubscribed = "not-subscribed",
        /// Fields are missing or malformed.
        Malformed = "malformed-submit",
    }
}

impl Reject {
    /// No honest miner causes this, neither by being late nor by reconnecting.
    pub(crate) const fn is_bad(self) -> bool {
        matches!(
            self,
            Self::HighHash
                | Self::HashNotZero
                | Self::BadVersion
                | Self::BadExtranonce
                | Self::NotSubscribed
                | Self::Malformed
        )
    }
}
