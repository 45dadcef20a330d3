//! One miner's side of its work, and what must become of its shares: an independent model, which
//! knows nothing of how gatewayd decides.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use gatewayd::work::{Hash256, JobId, Target, Work};

use crate::chance::Chance;

/// A job as a miner has it.
#[derive(Clone, Debug)]
pub struct RigJob {
    pub wire: Arc<str>,
    /// The gateway's number for it.
    pub job: JobId,
    pub version: u32,
    pub prevhash: Hash256,
    pub nbits: u32,
    pub ntime: u32,
    /// The coinbase before and after the extranonce, and the merkle branches; for a standard
    /// channel the root that it was given.
    pub root: Root,
    pub target: Target,
    /// When the gateway sent it, and when it arrives, in milliseconds.
    pub given_at: u64,
    pub here_at: u64,
}

#[derive(Clone, Debug)]
pub enum Root {
    Given(Hash256),
    Parts { coinb1: Arc<[u8]>, coinb2: Arc<[u8]>, branches: Arc<[Hash256]> },
}

/// What a miner claims to have found.
#[derive(Clone, Debug)]
pub struct Claim {
    pub wire: Arc<str>,
    pub extranonce2: [u8; 8],
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    pub hash: Hash256,
    /// Something that is invalid in any share.
    pub is_broken: bool,
}

/// What must become of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    Accepted,
    Refused(&'static str),
}

/// A share that the gateway has judged: an answer to it is due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub expected: Expected,
    pub block: Option<Hash256>,
    /// From a pooled job: the pool must be sent it if it is accepted, or a new block.
    pub is_pooled: bool,
    pub is_new_block: bool,
}

/// How long things last, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    pub job: u64,
    pub grace: u64,
}

/// A miner: an SV1 connection or an SV2 channel.
#[derive(Debug, Default)]
pub struct Lane {
    /// As the gateway remembers them: oldest first, 32 at most.
    pub jobs: Vec<RigJob>,
    /// The part of the twelve bytes that the gateway gave.
    pub prefix: Vec<u8>,
    raised_at: Option<u64>,
    /// Hashes that count as already sent.
    counted: HashSet<[u8; 32]>,
    /// Sent, by number, and not judged yet.
    pub sent: HashMap<u32, Claim>,
    /// Judged, by number, and not answered.
    pub due: HashMap<u32, Due>,
    /// What was sent last, to be sent again.
    pub last: Option<Claim>,
    pub accepted: u64,
    pub refused: u64,
}

impl Lane {
    pub fn give(&mut self, job: RigJob) {
        if let Some(last) = self.jobs.last()
            && job.target < last.target
        {
            self.raised_at = Some(job.given_at);
        }
        if self.jobs.len() == GIVEN_MAX {
            self.jobs.remove(0);
        }
        self.jobs.push(job);
    }

    /// Forgets what the work no longer has, except the last, as the gateway does.
    pub fn retain(&mut self, work: &Work) {
        let last = self.jobs.last().map(|last| last.job);
        self.jobs.retain(|it| Some(it.job) == last || work.job(it.job).is_some());
    }

    /// The newest job that has arrived, or sometimes an older one.
    pub fn pick(&self, now: u64, chance: &mut Chance) -> Option<&RigJob> {
        let here = self.jobs.iter().filter(|job| job.here_at <= now).count();
        let here = &self.jobs[..here];
        if chance.one_in(25) && !here.is_empty() {
            return Some(&here[chance.index(here.len())]);
        }
        here.last()
    }

    /// Mines until something is found, usually a share.
    pub fn mine(&mut self, now: u64, mask: u32, chance: &mut Chance) -> Option<Claim> {
        if let Some(last) = self.last.clone().filter(|_| chance.one_in(40)) {
            return Some(last);
        }
        let job = self.pick(now, chance)?.clone();
        let mut extranonce2 = [0; 8];
        extranonce2.copy_from_slice(&chance.bytes()[..8]);
        let extranonce = [&self.prefix[..], &extranonce2].concat();
        let root = job.root.of(&extranonce[..12]);
        let version = job.version | chance.word() & mask;
        let since = now.saturating_sub(job.given_at) / 1000;
        let ntime = job.ntime + u32::try_from(since).unwrap().min(6000);
        let start = chance.word();
        let wants_bad = chance.one_in(50);
        for tried in 0..TRIES_MAX {
            let nonce = start.wrapping_add(tried);
            let header = header(version, &job.prevhash, &root, ntime, job.nbits, nonce);
            let hash = Hash256::of_header(&header);
            if job.target.is_met_by(&hash) == wants_bad {
                continue;
            }
            let (wire, is_broken) = (Arc::clone(&job.wire), false);
            let claim = Claim { wire, extranonce2, ntime, nonce, version, hash, is_broken };
            self.last = Some(claim.clone());
            return Some(claim);
        }
        None
    }

    /// What must become of claim `number`, which the gateway is about to read.
    pub fn judge(&mut self, number: u32, work: &Work, now: u64, lives: Lives) {
        let Some(claim) = self.sent.remove(&number) else { return };
        let given = self.jobs.iter().rev().find(|job| job.wire == claim.wire);
        let job = given.and_then(|given| work.job(given.job).map(|job| (given, job)));
        let Some((given, job)) = job.filter(|_| !claim.is_broken) else {
            let expected = Expected::Refused("broken, or of a forgotten job");
            let due = Due { expected, block: None, is_pooled: false, is_new_block: false };
            self.due.insert(number, due);
            return;
        };
        let is_block = job.template.nbits.target().is_met_by(&claim.hash);
        let passes = self.passes(&claim, given, work, now, lives);
        let is_fresh =
            if passes.is_ok() || is_block { self.counted.insert(claim.hash.0) } else { true };
        let expected = match passes {
            Err(why) => Expected::Refused(why),
            Ok(()) if is_fresh => Expected::Accepted,
            Ok(()) => Expected::Refused("sent before"),
        };
        let is_pooled = job.payout.pooled.is_some();
        let block = is_block.then_some(claim.hash);
        let due = Due { expected, block, is_pooled, is_new_block: is_block && is_fresh };
        self.due.insert(number, due);
    }

    fn passes(
        &self,
        claim: &Claim,
        given: &RigJob,
        work: &Work,
        now: u64,
        lives: Lives,
    ) -> Result<(), &'static str> {
        let job = work.job(given.job).expect("looked up before");
        let check = |holds: bool, why| if holds { Ok(()) } else { Err(why) };
        check(job.prevhash() == work.tip(), "on another tip")?;
        check(now - given.given_at <= lives.job, "too old")?;
        check(!work.is_void(job), "of work that nobody pays for")?;
        check(claim.ntime >= job.template.mintime, "of a time too old")?;
        check(claim.ntime <= job.template.curtime.saturating_add(7200), "of a time too new")?;
        check(given.target.is_met_by(&claim.hash), "too easy")?;
        let last = self.jobs.last().expect("there is `given`");
        let is_eased = last.target < given.target;
        let is_over = self.raised_at.is_some_and(|at| now - at > lives.grace);
        check(!(is_eased && is_over) || last.target.is_met_by(&claim.hash), "too easy by now")
    }
}

impl Root {
    fn of(&self, extranonce: &[u8]) -> Hash256 {
        match self {
            Self::Given(root) => *root,
            Self::Parts { coinb1, coinb2, branches } => {
                let coinbase = [coinb1, extranonce, coinb2].concat();
                branches.iter().fold(Hash256::sha256d(&coinbase), |root, branch| {
                    Hash256::sha256d(&[root.0, branch.0].concat())
                })
            }
        }
    }
}

fn header(
    version: u32,
    prevhash: &Hash256,
    root: &Hash256,
    ntime: u32,
    nbits: u32,
    nonce: u32,
) -> [u8; 80] {
    let mut header = [0; 80];
    header[..4].copy_from_slice(&version.to_le_bytes());
    header[4..36].copy_from_slice(&prevhash.0);
    header[36..68].copy_from_slice(&root.0);
    header[68..72].copy_from_slice(&ntime.to_le_bytes());
    header[72..76].copy_from_slice(&nbits.to_le_bytes());
    header[76..].copy_from_slice(&nonce.to_le_bytes());
    header
}

const GIVEN_MAX: usize = 32;
/// Targets are such that some hundreds are enough.
const TRIES_MAX: u32 = 100_000;
