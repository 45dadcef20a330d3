//! Decides whether a submission is a share, and whether it is a block. Pure: no I/O, no clock, no
//! locks.

#[cfg(test)]
pub(crate) mod fixture;
mod seen;

use std::sync::Arc;

pub use seen::SeenShares;

use crate::work::{
    Coinbase, CoinbaseId, Difficulty, FoundBlock, Hash256, Job, Reject, Share, Submission, Target,
    Username, VERSION_ROLLING_MASK, Variant, merkle,
};

/// What a connection was given with a job, as far as a share's worth depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    pub class: CoinbaseId,
    pub difficulty: Difficulty,
    pub target: Target,
    pub quickdiff: bool,
}

impl Assignment {
    pub fn new(class: CoinbaseId, difficulty: Difficulty, quickdiff: bool) -> Self {
        Self { class, difficulty, target: Target::from_difficulty(difficulty), quickdiff }
    }

    pub fn variant(&self) -> Variant {
        Variant { target_byte: self.difficulty.target_byte(), quickdiff: self.quickdiff }
    }
}

/// The moment of a submission, and what it makes of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The hash that new blocks must build on.
    pub tip: &'a Hash256,
    /// True when the job was given out longer ago than jobs may live.
    pub expired: bool,
    /// The greatest ntime that the network would accept, unix seconds.
    pub ntime_max: u32,
}

/// What a submission comes to. A block counts whatever the share's fate is.
#[derive(Debug)]
pub struct Verdict {
    pub block: Option<Box<FoundBlock>>,
    pub share: Result<Share, Reject>,
}

/// Checks `submission` for `job`.
///
/// The block test comes before all others: a stale, late or oddly versioned share must never lose
/// a block. Then stale, ntime, version, target, duplicate.
pub fn check(
    job: &Arc<Job>,
    assignment: &Assignment,
    submission: &Submission,
    moment: &Moment<'_>,
    username: &Username,
    seen: &mut SeenShares,
    scratch: &mut Vec<u8>,
) -> Verdict {
    let coinbase = job.coinbase(assignment.class);
    let variant = assignment.variant();
    let rolled = submission.version_bits.unwrap_or(0);
    let version = job.version | (rolled & VERSION_ROLLING_MASK);
    let header = header(job, coinbase, variant, submission, version, scratch);
    let hash = Hash256::of_header(&header);
    let is_block = job.block_target.is_met_by(&hash);
    // `scratch` still holds the coinbase that the header was made of.
    let block = is_block.then(|| {
        Box::new(FoundBlock {
            job: Arc::clone(job),
            hash,
            header,
            coinbase: scratch.clone(),
            username: username.clone(),
        })
    });
    let share = refuse(job, assignment, submission, moment, &hash)
        .and_then(|()| if seen.insert(job.id, &hash) { Ok(()) } else { Err(Reject::Duplicate) })
        .map(|()| Share {
            job: Arc::clone(job),
            coinbase_id: coinbase.id,
            quickdiff: assignment.quickdiff,
            target_byte: variant.target_byte,
            difficulty: assignment.difficulty.get(),
            extranonce: submission.extranonce,
            ntime: submission.ntime,
            nonce: submission.nonce,
            version,
            hash,
            is_block,
            username: username.clone(),
        });
    Verdict { block, share }
}

/// Every refusal but the duplicate's.
fn refuse(
    job: &Job,
    assignment: &Assignment,
    submission: &Submission,
    moment: &Moment<'_>,
    hash: &Hash256,
) -> Result<(), Reject> {
    if job.prevhash() != moment.tip {
        return Err(Reject::StalePrevblk);
    }
    if moment.expired {
        return Err(Reject::StaleWork);
    }
    if submission.ntime < job.template.mintime {
        return Err(Reject::NtimeTooOld);
    }
    if submission.ntime > moment.ntime_max {
        return Err(Reject::NtimeTooNew);
    }
    // Firmware sends either the rolled bits or the whole version; both agree outside the mask.
    let foreign = submission.version_bits.unwrap_or(0) & !VERSION_ROLLING_MASK;
    if foreign != 0 && foreign != job.version {
        return Err(Reject::BadVersion);
    }
    if !assignment.target.is_met_by(hash) {
        let nonzero = assignment.difficulty >= Difficulty::ONE && hash.0[28..] != [0; 4];
        return Err(if nonzero { Reject::HashNotZero } else { Reject::HighHash });
    }
    Ok(())
}

/// The 80 bytes that the miner hashed. Leaves the coinbase in `scratch`.
fn header(
    job: &Job,
    coinbase: &Coinbase,
    variant: Variant,
    submission: &Submission,
    version: u32,
    scratch: &mut Vec<u8>,
) -> [u8; 80] {
    let txid = coinbase.txid(variant, &submission.extranonce, scratch);
    // A subsidy-only block has no other transaction, whatever its template has.
    let branches: &[Hash256] = if job.is_empty() { &[] } else { &job.template.merkle_branches };
    let root = merkle::root(txid, branches);
    let mut header = [0; 80];
    header[..4].copy_from_slice(&version.to_le_bytes());
    header[4..36].copy_from_slice(&job.prevhash().0);
    header[36..68].copy_from_slice(&root.0);
    header[68..72].copy_from_slice(&submission.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&job.template.nbits.get().to_le_bytes());
    header[76..].copy_from_slice(&submission.nonce.to_le_bytes());
    header
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
