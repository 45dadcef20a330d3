use bitcoin::hashes::Hash as _;
use proptest::prelude::*;

use super::*;
use crate::work::{
    BuildJob, JobBuilder, Payout, VERSION_ROLLING_MASK as MASK,
    fixture::{CURTIME, EASY, HARD, MINTIME, pooled, solo, template},
};

struct ValidationHarness {
    job: Arc<Job>,
    assignment: Assignment,
    seen: SeenShares,
}

/// Every fourth hash meets this.
fn least() -> Difficulty {
    Difficulty::new(1e-9).unwrap()
}

impl ValidationHarness {
    fn new(what: BuildJob, nbits: u32, payout: &Arc<Payout>, difficulty: Difficulty) -> Self {
        let job = JobBuilder::new(1).build(what, &template(1, nbits, 5), payout);
        let assignment = Assignment::new(CoinbaseClass::Default, difficulty, false);
        Self { job, assignment, seen: SeenShares::default() }
    }

    fn easy() -> Self {
        Self::new(BuildJob::Classes, HARD, &solo(), least())
    }

    fn check(&mut self, submission: &Submission) -> ShareVerdict {
        self.check_at(submission, self.job.prevhash().to_owned(), false)
    }

    fn check_at(&mut self, submission: &Submission, tip: Hash256, expired: bool) -> ShareVerdict {
        let moment = ShareContext { tip: &tip, expired, ntime_max: CURTIME + 7200 };
        let nobody = Username("nobody".into());
        let (job, seen, scratch) = (&self.job, &mut self.seen, &mut Vec::new());
        check(
            job,
            &self.assignment,
            RootSource::Coinbase,
            submission,
            &moment,
            &nobody,
            seen,
            scratch,
        )
    }

    /// A nonce with which `base` is a share.
    fn mine(&mut self, base: Submission) -> Submission {
        let mut fresh = SeenShares::default();
        std::mem::swap(&mut fresh, &mut self.seen);
        let mined = (0..)
            .map(|nonce| Submission { nonce, ..base })
            .find(|submission| self.check(submission).share.is_ok())
            .unwrap();
        self.seen = fresh;
        mined
    }
}

fn submission() -> Submission {
    Submission {
        extranonce: [7; 12],
        ntime: CURTIME,
        nonce: 0,
        version: SubmittedVersion::Job,
        version_mask: MASK,
    }
}

/// The header as the bitcoin crate builds it from the transactions themselves.
fn reference_header(job: &Job, assignment: &Assignment, submission: &Submission) -> [u8; 80] {
    let mut coinbase = Vec::new();
    job.coinbase(assignment.class).write(
        assignment.variant(),
        &submission.extranonce,
        &mut coinbase,
    );
    let coinbase: bitcoin::Transaction = bitcoin::consensus::deserialize(&coinbase).unwrap();
    let others: &[_] = if job.is_empty() { &[] } else { &job.template.transactions };
    let txids = std::iter::once(coinbase.compute_txid().to_raw_hash())
        .chain(others.iter().map(|tx| bitcoin::hashes::sha256d::Hash::from_byte_array(tx.txid.0)));
    let version = match submission.version {
        SubmittedVersion::Job => job.version,
        SubmittedVersion::Rolled(bits) => job.version | bits & MASK,
        SubmittedVersion::Whole(version) => version,
    };
    let header = bitcoin::block::Header {
        version: bitcoin::block::Version::from_consensus(version.cast_signed()),
        prev_blockhash: bitcoin::BlockHash::from_byte_array(job.prevhash().0),
        merkle_root: bitcoin::merkle_tree::calculate_root(txids).unwrap().into(),
        time: submission.ntime,
        bits: bitcoin::CompactTarget::from_consensus(job.template.nbits.get()),
        nonce: submission.nonce,
    };
    bitcoin::consensus::serialize(&header).try_into().unwrap()
}

proptest! {
    #[test]
    fn headers_agree_with_rust_bitcoin(
        transactions in 0u32..40, class in 0usize..6, what in 0usize..3, quickdiff: bool,
        extranonce: [u8; 12], nonce: u32, how in 0usize..3, bits: u32, exponent in -20..40,
    ) {
        let what = [BuildJob::SubsidyOnly, BuildJob::Blank, BuildJob::Classes][what];
        let payout = if quickdiff { pooled(1) } else { solo() };
        let job = JobBuilder::new(1).build(what, &template(1, EASY, transactions), &payout);
        let difficulty = Difficulty::pow2(exponent);
        let assignment = Assignment::new(CoinbaseClass::CLASSES[class], difficulty, quickdiff);
        let version = [SubmittedVersion::Job, SubmittedVersion::Rolled(bits & MASK), SubmittedVersion::Whole(bits)][how];
        let submission = Submission { extranonce, ntime: CURTIME, nonce, version, version_mask: MASK };
        let moment = ShareContext { tip: job.prevhash(), expired: false, ntime_max: CURTIME };
        let (nobody, mut seen) = (Username("".into()), SeenShares::default());
        let verdict = check(&job, &assignment, RootSource::Coinbase, &submission, &moment, &nobody, &mut seen, &mut Vec::new());
        let header = reference_header(&job, &assignment, &submission);
        let hash = Hash256::sha256d(&header);
        prop_assert_eq!(verdict.block.is_some(), job.block_target.is_met_by(&hash));
        if let Some(block) = verdict.block {
            prop_assert_eq!(block.header, header);
            prop_assert_eq!(block.hash, hash);
        }
        if let Ok(share) = verdict.share {
            prop_assert_eq!(share.hash, hash);
            prop_assert!(assignment.target.is_met_by(&hash));
        }
    }
}

#[test]
fn a_mined_share_is_accepted_once() {
    let mut bench = ValidationHarness::easy();
    let mined = bench.mine(submission());
    let share = bench.check(&mined).share.unwrap();
    assert_eq!((share.nonce, share.ntime, share.is_block), (mined.nonce, CURTIME, false));
    assert_eq!(bench.check(&mined).share.unwrap_err(), Reject::Duplicate);
}

#[test]
fn each_refusal_has_its_reason() {
    let mut bench = ValidationHarness::easy();
    let good = bench.mine(submission());
    let tip = *bench.job.prevhash();
    let mut case = |submission: Submission, tip, expired, reason| {
        let verdict = bench.check_at(&submission, tip, expired);
        assert_eq!(verdict.share.unwrap_err(), reason);
    };
    case(good, Hash256([9; 32]), true, Reject::StalePrevblk);
    case(good, tip, true, Reject::StaleWork);
    case(Submission { ntime: MINTIME - 1, ..good }, tip, false, Reject::NtimeTooOld);
    case(Submission { ntime: CURTIME + 7201, ..good }, tip, false, Reject::NtimeTooNew);
    let foreign = Submission { version: SubmittedVersion::Rolled(0x4000_0000), ..good };
    case(foreign, tip, false, Reject::BadVersion);
}

#[test]
fn ntime_bounds_are_inclusive() {
    let mut bench = ValidationHarness::easy();
    for ntime in [MINTIME, CURTIME + 7200] {
        let mined = bench.mine(Submission { ntime, ..submission() });
        assert!(bench.check(&mined).share.is_ok());
    }
}

#[test]
fn too_easy_hashes_are_high_or_not_even_difficulty_1() {
    let mut hard = ValidationHarness::new(BuildJob::Classes, HARD, &solo(), Difficulty::pow2(40));
    assert_eq!(hard.check(&submission()).share.unwrap_err(), Reject::HashNotZero);
    let mut soft = ValidationHarness::new(BuildJob::Classes, HARD, &solo(), Difficulty::pow2(-1));
    assert_eq!(soft.check(&submission()).share.unwrap_err(), Reject::HighHash);
}

#[test]
fn version_bits_may_come_alone_or_in_the_whole_version() {
    let mut bench = ValidationHarness::easy();
    let bits = 0x0012_2000;
    let mined = bench.mine(Submission { version: SubmittedVersion::Rolled(bits), ..submission() });
    let share = bench.check(&mined).share.unwrap();
    assert_eq!(share.version, 0x2000_0000 | bits);
    let whole = Submission { version: SubmittedVersion::Rolled(0x2000_0000 | bits), ..mined };
    // The same header again.
    assert_eq!(bench.check(&whole).share.unwrap_err(), Reject::Duplicate);
}

#[test]
fn a_whole_version_is_hashed_as_it_is_and_refused_beyond_the_mask() {
    let mut bench = ValidationHarness::easy();
    let fine =
        bench.mine(Submission { version: SubmittedVersion::Whole(0x2012_2000), ..submission() });
    assert_eq!(bench.check(&fine).share.unwrap().version, 0x2012_2000);
    // Rolled bits alone make another header.
    let bits = Submission { version: SubmittedVersion::Whole(0x0012_2000), ..fine };
    assert_eq!(bench.check(&bits).share.unwrap_err(), Reject::BadVersion);
}

/// Bits beyond the mask, alone or in the whole version, or cleared from the job's: no share is
/// accepted, and every block is found.
#[test]
fn a_block_is_found_on_the_header_that_was_hashed() {
    let mut bench = ValidationHarness::new(BuildJob::Classes, EASY, &solo(), least());
    let tip = *bench.job.prevhash();
    let cases = [
        (SubmittedVersion::Whole(0x2000_0020), 0x2000_0020),
        (SubmittedVersion::Whole(0x6000_2000), 0x6000_2000),
        (SubmittedVersion::Whole(0x0000_2000), 0x0000_2000),
        (SubmittedVersion::Rolled(0x2000_0020), 0x2000_0020),
        (SubmittedVersion::Rolled(0x0000_2020), 0x2000_2020),
        (SubmittedVersion::Rolled(0x4000_2000), 0x6000_2000),
        // As in BIP 310.
        (SubmittedVersion::Rolled(0x4000_2000), 0x2000_2000),
    ];
    for (version, hashed) in cases {
        let claims = (0..64).map(|nonce| Submission { nonce, version, ..submission() });
        let mut blocks = 0;
        for claim in claims {
            let whole = Submission { version: SubmittedVersion::Whole(hashed), ..claim };
            let header = reference_header(&bench.job, &bench.assignment, &whole);
            let verdict = bench.check_at(&claim, tip, false);
            assert_eq!(verdict.share.unwrap_err(), Reject::BadVersion);
            if !bench.job.block_target.is_met_by(&Hash256::sha256d(&header)) {
                continue;
            }
            blocks += 1;
            let block = verdict.block.expect("the miner has found one");
            assert!(bench.job.block_target.is_met_by(&Hash256::sha256d(&block.header)));
            if let SubmittedVersion::Whole(_) = version {
                assert_eq!(block.header, header);
            }
        }
        assert!(blocks > 10, "{version:?}");
    }
}

/// Stale, expired, or with an impossible time, version or target: a block is a block.
#[test]
fn a_block_is_found_whatever_becomes_of_its_share() {
    let mut bench = ValidationHarness::new(BuildJob::Classes, EASY, &solo(), Difficulty::pow2(60));
    let bases = [
        submission(),
        Submission { ntime: MINTIME - 1, ..submission() },
        Submission { ntime: u32::MAX, ..submission() },
        Submission { version: SubmittedVersion::Rolled(0x4000_0000), ..submission() },
    ];
    for base in bases {
        let verdict = (0..)
            .map(|nonce| bench.check_at(&Submission { nonce, ..base }, Hash256::ZERO, true))
            .find(|verdict| verdict.block.is_some())
            .unwrap();
        assert_eq!(verdict.share.unwrap_err(), Reject::StalePrevblk);
        let block = verdict.block.unwrap();
        assert!(bench.job.block_target.is_met_by(&Hash256::sha256d(&block.header)));
        let root = Hash256::sha256d(&block.coinbase);
        let root = merkle::root(root, &bench.job.template.merkle_branches);
        assert_eq!(block.header[36..68], root.0);
    }
}

fn numbered(i: u64) -> Hash256 {
    let mut hash = Hash256::ZERO;
    hash.0[..8].copy_from_slice(&i.to_le_bytes());
    hash
}

/// 9.8 million replays were accepted once: a full memory forgot what it had seen.
#[test]
fn a_flood_of_shares_is_refused_and_none_is_forgotten() {
    let mut seen = SeenShares::default();
    let job = |i: u64| crate::work::JobId(u32::try_from(i % 3).unwrap());
    let mut accepted = 0;
    while seen.insert(job(accepted), &numbered(accepted), false) == DuplicateCheck::Fresh {
        accepted += 1;
        assert!(accepted < 20_000, "bounded");
    }
    assert!(accepted >= 16_384);
    for i in 0..accepted {
        assert_eq!(seen.insert(job(i), &numbered(i), false), DuplicateCheck::Before);
    }
    for i in accepted..accepted * 2 {
        assert_eq!(seen.insert(job(i), &numbered(i), false), DuplicateCheck::Full);
    }
    // A block still has room, and is counted once.
    let block = numbered(accepted);
    assert_eq!(seen.insert(job(0), &block, true), DuplicateCheck::Fresh);
    assert_eq!(seen.insert(job(0), &block, true), DuplicateCheck::Before);
    seen.retain(|_| false);
    assert_eq!(seen.insert(job(0), &numbered(0), false), DuplicateCheck::Fresh);
}

#[test]
fn an_operator_who_wants_more_shares_gets_room_for_more() {
    let mut seen = SeenShares::default();
    seen.expect(10_000);
    let job = crate::work::JobId(1);
    assert!((0..100_000).all(|i| seen.insert(job, &numbered(i), false) == DuplicateCheck::Fresh));
}

#[test]
fn flooders_leave_room_for_others_and_give_theirs_back() {
    let seen_budget = Arc::<SeenBudget>::default();
    let job = crate::work::JobId(1);
    let mut flooders = Vec::new();
    let first_full = loop {
        let mut seen = SeenShares::new(Arc::clone(&seen_budget));
        let accepted = (0..)
            .take_while(|i| seen.insert(job, &numbered(*i), false) == DuplicateCheck::Fresh)
            .count();
        flooders.push(seen);
        if accepted < 16_384 {
            break accepted;
        }
        assert!(flooders.len() < 1000, "the budget is shared");
    };
    assert!(first_full >= 256, "each has its own in any case");
    let mut honest = SeenShares::new(Arc::clone(&seen_budget));
    assert!((0..256).all(|i| honest.insert(job, &numbered(i), false) == DuplicateCheck::Fresh));
    drop(flooders);
    assert!((256..5000).all(|i| honest.insert(job, &numbered(i), false) == DuplicateCheck::Fresh));
}
