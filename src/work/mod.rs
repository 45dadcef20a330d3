//! The nouns that everybody shares: what to mine on, whom to pay, jobs, submissions, shares.
//!
//! Uses no other module of ours and no socket; only `task` knows a clock, and `share_queue` a queue.
//! Not here: how any protocol writes these, and who mines (`books`).

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
pub mod limits;
pub mod merkle;
mod nbits;
pub mod networks;
mod outcome;
mod payout;
pub mod printable;
mod ration;
mod refused;
mod share;
mod share_queue;
mod target;
pub mod task;
mod template;
mod upcoming;
pub mod vardiff;

pub use assembler::{Assembler, AssemblerConfig, PoolHealth, WhenDown};
pub use builder::{BuildJob, JobBuilder};
pub use cidr::{Cidr, CidrError};
pub use class::CoinbaseClass;
pub(crate) use coinbase::quickdiff_tail;
pub use coinbase::{Coinbase, Variant, push_varint};
pub use hash::Hash256;
pub use job::{Admission, Announce, Job, JobId, RenderKind, Work};
pub use nbits::Nbits;
pub use outcome::BlockOutcome;
pub use payout::{Coinbaser, CoinbaserRequest, Payout, PayoutOutput, PoolTerms, VoidNow};
pub use printable::{printable, printable_bytes};
pub use ration::Ration;
pub use refused::Refused;
pub use share::{FoundBlock, Reject, Share, Submission, Username, Version};
pub use share_queue::{ShareBatch, ShareLane};
pub use target::{Difficulty, HASHES_PER_DIFFICULTY, Target, hash_difficulty};
pub use template::{BlockLimits, Template, TemplateKind, TemplateTx, TipHeader};
pub use upcoming::Upcoming;

/// Bits of the version that miners may roll (BIP 320).
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_e000;
