//! The types that everything shares: what to mine on, whom to pay, jobs, submissions, shares.
//!
//! Uses no other module of ours and no socket, but for the clock in `task` and the queue in
//! `share_queue`. How a protocol writes these is not here, nor who mines (`books`).

mod allowance;
mod assembler;
mod block;
mod builder;
mod cidr;
mod class;
mod coinbase;
#[cfg(test)]
pub(crate) mod fixture;
mod hash;
mod job;
pub(crate) mod limits;
pub mod merkle;
mod nbits;
pub(crate) mod networks;
mod outcome;
mod payout;
pub(crate) mod printable;
mod ration;
mod refused;
mod share;
mod share_queue;
mod target;
pub(crate) mod task;
mod template;
mod upcoming;
pub(crate) mod vardiff;

pub(crate) use allowance::Allowance;
pub use assembler::{Assembler, AssemblerConfig, PoolHealth, WhenDown};
pub use builder::{BuildJob, JobBuilder};
pub(crate) use cidr::Cidr;
pub use class::CoinbaseClass;
pub use coinbase::{Coinbase, Variant};
pub(crate) use coinbase::{push_varint, quickdiff_tail};
pub use hash::Hash256;
#[cfg(feature = "devnet")]
pub(crate) use hash::SHA256_START;
pub(crate) use job::RenderKind;
pub use job::{Admission, Announce, Job, JobId, Work};
pub use nbits::Nbits;
pub use outcome::BlockOutcome;
pub use payout::{Coinbaser, CoinbaserRequest, Payout, PayoutOutput, PoolTerms, VoidNow};
pub(crate) use printable::{printable, printable_bytes};
pub(crate) use ration::LogRation;
pub(crate) use refused::Refused;
pub use share::{FoundBlock, Reject, Share, Submission, SubmittedVersion, Username};
pub(crate) use share_queue::{ShareBatch, ShareLane};
pub use target::{Difficulty, Target};
pub(crate) use target::{HASHES_PER_DIFFICULTY, hash_difficulty};
pub use template::{BlockLimits, Template, TemplateKind, TemplateTx, TipHeader};
pub(crate) use upcoming::UpcomingJob;

/// Bits of the version that miners may roll (BIP 320).
pub(crate) const VERSION_ROLLING_MASK: u32 = 0x1fff_e000;
