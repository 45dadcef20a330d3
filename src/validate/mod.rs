//! Decides whether a submission is a share, and whether it is a block. Pure: no I/O, no clock, no
//! locks.

mod seen;

use std::sync::Arc;

pub(crate) use seen::DuplicateCheck;
pub use seen::{SeenBudget, SeenShares};

use crate::work::{
    CoinbaseClass, Difficulty, FoundBlock, Hash256, Job, Reject, Share, Submission,
    SubmittedVersion, Target, Username, Variant, merkle,
};

/// What a connection was given with a job, as far as the value of a share depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assignment {
    pub(crate) class: CoinbaseClass,
    pub(crate) difficulty: Difficulty,
    pub(crate) target: Target,
    pub(crate) quickdiff: bool,
    /// The byte by which the coinbase tells a pool the difficulty.
    pub(crate) target_byte: u8,
}

impl Assignment {
    pub fn new(class: CoinbaseClass, difficulty: Difficulty, quickdiff: bool) -> Self {
        let target = Target::from_difficulty(difficulty);
        Self { class, difficulty, target, quickdiff, target_byte: difficulty.target_byte() }
    }

    pub(crate) fn variant(&self) -> Variant {
        Variant { target_byte: self.target_byte, quickdiff: self.quickdiff }
    }
}

/// The circumstances of a submission that decide whether its job still counts.
#[derive(Clone, Copy, Debug)]
pub struct ShareContext<'a> {
    /// The hash that new blocks must build on.
    pub tip: &'a Hash256,
    /// True when the job was given out longer ago than jobs may live, or nobody pays for it now.
    pub expired: bool,
    /// The latest ntime that the network would accept, unix seconds.
    pub ntime_max: u32,
}

/// Where a header's merkle root comes from.
#[derive(Clone, Copy, Debug)]
pub enum RootSource<'a> {
    /// Hashed from the coinbase, with the submitted extranonce in it.
    Coinbase,
    /// Known since the miner was given the job: it cannot change its extranonce.
    Root(&'a Hash256),
}

/// The result of a submission. A block counts whatever becomes of the share.
#[derive(Debug)]
pub struct ShareVerdict {
    pub block: Option<Box<FoundBlock>>,
    /// This block has not been found before.
    pub(crate) is_new_block: bool,
    pub share: Result<Share, Reject>,
    /// The share of a new block, if refused for another reason: for the pool, which may pay for it.
    pub(crate) refused_block: Option<Share>,
}

/// Checks `submission` for `job`.
///
/// The block test comes before all others: a stale, late or oddly versioned share must never lose
/// a block. Then stale, ntime, version, target, duplicate.
#[expect(clippy::too_many_arguments, reason = "one call, on the share path, of what it needs")]
pub fn check(
    job: &Arc<Job>,
    assignment: &Assignment,
    source: RootSource<'_>,
    submission: &Submission,
    moment: &ShareContext<'_>,
    username: &Username,
    seen: &mut SeenShares,
    scratch: &mut Vec<u8>,
) -> ShareVerdict {
    let coinbase = job.coinbase(assignment.class);
    let variant = assignment.variant();
    let root = match source {
        // `scratch` then holds the coinbase that the root was made from.
        RootSource::Coinbase => {
            let txid = coinbase.txid(variant, &submission.extranonce, scratch);
            merkle::root(txid, job.branches())
        }
        RootSource::Root(root) => *root,
    };
    let (version, header, hash) = hashed(job, submission, &root);
    let is_block = job.block_target.is_met_by(&hash);
    let block = is_block.then(|| {
        if let RootSource::Root(_) = source {
            scratch.clear();
            coinbase.write(variant, &submission.extranonce, scratch);
        }
        Box::new(FoundBlock {
            job: Arc::clone(job),
            hash,
            header,
            coinbase: scratch.clone(),
            username: username.clone(),
        })
    });
    let refused = refuse(job, assignment, submission, moment, &hash);
    // A block is remembered whatever becomes of its share, so that it is counted once.
    let counts = is_block || refused.is_ok();
    let seen = if counts { seen.insert(job.id, &hash, is_block) } else { DuplicateCheck::Before };
    let fresh = match seen {
        DuplicateCheck::Fresh => Ok(()),
        DuplicateCheck::Before => Err(Reject::Duplicate),
        DuplicateCheck::Full => Err(Reject::TooMany),
    };
    let accepted = refused.and(fresh);
    let share = || Share {
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
        miner: 0,
    };
    let is_new_block = is_block && seen == DuplicateCheck::Fresh;
    let refused_block = (is_new_block && accepted.is_err()).then(share);
    ShareVerdict { block, is_new_block, share: accepted.map(|()| share()), refused_block }
}

/// The header that the miner hashed, its version and its hash.
fn hashed(job: &Job, submission: &Submission, root: &Hash256) -> (u32, [u8; 80], Hash256) {
    let with = |version| {
        let header = job.header(version, root, submission.ntime, submission.nonce);
        (version, header, Hash256::of_header(&header))
    };
    let mask = submission.version_mask;
    let (masked, bits) = match submission.version {
        SubmittedVersion::Job => return with(job.version),
        SubmittedVersion::Whole(version) => return with(version),
        SubmittedVersion::Rolled(bits) => (job.version & !mask | bits & mask, bits),
    };
    if is_version_good(job, submission) {
        return with(masked);
    }
    // Firmware that rolls other bits than it was allowed may have hashed them: not a valid share,
    // but a block is a block.
    let all = [masked, bits, job.version ^ bits].map(with);
    let block = all.iter().find(|(_, _, hash)| job.block_target.is_met_by(hash));
    *block.unwrap_or(&all[0])
}

/// True when only bits that may be rolled were rolled.
fn is_version_good(job: &Job, submission: &Submission) -> bool {
    let fixed = !submission.version_mask;
    match submission.version {
        SubmittedVersion::Job => true,
        SubmittedVersion::Whole(version) => version & fixed == job.version & fixed,
        // Firmware sends either the rolled bits or the whole version.
        SubmittedVersion::Rolled(bits) => bits & fixed == 0 || bits & fixed == job.version & fixed,
    }
}

/// Every reason for refusal except a duplicate.
fn refuse(
    job: &Job,
    assignment: &Assignment,
    submission: &Submission,
    moment: &ShareContext<'_>,
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
    if !is_version_good(job, submission) {
        return Err(Reject::BadVersion);
    }
    if !assignment.target.is_met_by(hash) {
        let nonzero = assignment.difficulty >= Difficulty::ONE && hash.0[28..] != [0; 4];
        return Err(if nonzero { Reject::HashNotZero } else { Reject::HighHash });
    }
    Ok(())
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
