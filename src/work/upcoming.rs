//! The subsidy-only job of the next block, built before its tip is known.
//!
//! All that a tip adds to it is the hash, nbits and time. Protocols that can send work ahead
//! (Stratum V2's future jobs) then need only a few bytes, and no hashing, when the tip comes.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{Coinbase, JobId, Payout};

/// Becomes a [`Job`](super::Job) of the same id if the next tip is what it was built for.
pub struct UpcomingJob {
    pub id: JobId,
    pub(crate) height: u32,
    /// The template's, without bits under the rolling mask.
    pub(crate) version: u32,
    pub(crate) coinbase: Coinbase,
    pub(super) payout: Arc<Payout>,
    pub(super) subsidy: u64,
    pub(super) extranonce_prefix: u16,
    rendered: OnceLock<Bytes>,
}

impl UpcomingJob {
    pub(super) fn new(
        id: JobId,
        (height, version, subsidy): (u32, u32, u64),
        payout: Arc<Payout>,
        extranonce_prefix: u16,
        coinbase: Coinbase,
    ) -> Self {
        let rendered = OnceLock::new();
        Self { id, height, version, coinbase, payout, subsidy, extranonce_prefix, rendered }
    }

    /// Bytes that a protocol rendered from this once, kept for all its connections.
    pub(crate) fn rendered(&self, render: impl FnOnce() -> Bytes) -> &Bytes {
        self.rendered.get_or_init(render)
    }
}

impl fmt::Debug for UpcomingJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcoming")
            .field("id", &self.id)
            .field("height", &self.height)
            .finish_non_exhaustive()
    }
}
