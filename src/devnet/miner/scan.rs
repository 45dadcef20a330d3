//! From a job to hashes: tries every possible header once, and finds those that meet a target.

use std::sync::Arc;

use sha2::{
    compress256,
    digest::{consts::U64, generic_array::GenericArray},
};

use super::message::{EXTRANONCE2_LEN_MAX, Extranonce, StratumJob};
use crate::work::{Difficulty, Hash256, Nbits, SHA256_START, Target};

/// A job, with what its connection may roll.
#[derive(Debug)]
pub(crate) struct HashWork {
    /// Counts the work given to one miner, across connections.
    pub(crate) serial: u64,
    pub(crate) job: Arc<StratumJob>,
    pub(crate) extranonce: Extranonce,
    /// None when version rolling was not granted.
    pub(crate) version_mask: Option<u32>,
    pub(crate) difficulty: f64,
    pub(crate) target: Target,
    pub(crate) block_target: Target,
}

/// A header that meets the share target.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) work: Arc<HashWork>,
    extranonce2: [u8; EXTRANONCE2_LEN_MAX],
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    pub(crate) version: u32,
    pub(crate) meets_nbits: bool,
}

impl Found {
    pub(crate) fn extranonce2(&self) -> &[u8] {
        &self.extranonce2[..self.work.extranonce.extranonce2_len]
    }

    pub(crate) fn version_bits(&self) -> Option<u32> {
        self.work.version_mask.map(|mask| self.version & mask)
    }
}

impl HashWork {
    pub(crate) fn new(
        serial: u64,
        job: Arc<StratumJob>,
        extranonce: Extranonce,
        version_mask: Option<u32>,
        difficulty: f64,
    ) -> Self {
        // A target beyond any Difficulty is met by every hash, rather than none, so as not to idle.
        let target = Difficulty::new(difficulty).map_or(Target::MAX, Target::from_difficulty);
        Self { difficulty, ..Self::with_target(serial, job, extranonce, version_mask, target) }
    }

    pub(crate) fn with_target(
        serial: u64,
        job: Arc<StratumJob>,
        extranonce: Extranonce,
        version_mask: Option<u32>,
        target: Target,
    ) -> Self {
        let (difficulty, block_target) = (target.difficulty(), job.nbits.target());
        Self { serial, job, extranonce, version_mask, difficulty, target, block_target }
    }

    fn merkle_root(&self, extranonce2: &[u8]) -> Hash256 {
        self.job.root.with(&self.extranonce.extranonce1, extranonce2)
    }

    /// The version with the `index`-th pattern of rolled bits.
    fn version(&self, index: u32) -> u32 {
        let mask = self.version_mask.unwrap_or(0);
        (self.job.version & !mask) | spread(index, mask)
    }

    fn versions(&self) -> u32 {
        let bits = self.version_mask.unwrap_or(0).count_ones();
        1 << bits.min(VERSION_BITS_ROLLED)
    }

    /// The number of possible extranonce2 values, minus one.
    fn extranonce2_max(&self) -> u64 {
        match self.extranonce.extranonce2_len {
            0 => 0,
            len @ 1..EXTRANONCE2_LEN_MAX => (1 << (8 * len)) - 1,
            _ => u64::MAX,
        }
    }
}

/// Walks all headers of a job: low nonce bits, version, extranonce2, high nonce bits, ntime.
///
/// So each kind of rolling happens within a second, as with a fast miner, although a processor
/// would need minutes for all nonces.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Continues across jobs, so that even nearly identical jobs get different headers.
    extranonce2: u64,
    /// Number of extranonce2 values used with the current high nonce bits, minus one.
    extranonce2_used: u64,
    version_index: u32,
    nonce_low: u32,
    nonce_high: u32,
    ntime_ahead: u32,
    root: Option<Hash256>,
    midstate: Option<Midstate>,
}

impl Cursor {
    /// Begins with the extranonce2 that follows the present one.
    pub(crate) fn restart(&mut self) {
        *self = Self { extranonce2: self.extranonce2.wrapping_add(1), ..Self::default() };
    }

    /// Tries up to `budget` headers and adds to `found`. Returns how many were tried: zero if the
    /// job has no more of them.
    pub(crate) fn scan(
        &mut self,
        work: &Arc<HashWork>,
        budget: u32,
        found: &mut Vec<Found>,
    ) -> u32 {
        if self.ntime_ahead > NTIME_AHEAD_S_MAX {
            return 0;
        }
        let extranonce2 = self.extranonce2.to_be_bytes();
        let len = work.extranonce.extranonce2_len.min(EXTRANONCE2_LEN_MAX);
        let extranonce2 = &extranonce2[EXTRANONCE2_LEN_MAX - len..];
        let root = *self.root.get_or_insert_with(|| work.merkle_root(extranonce2));
        let version = work.version(self.version_index);
        let ntime = work.job.ntime.saturating_add(self.ntime_ahead);
        let midstate =
            self.midstate.get_or_insert_with(|| Midstate::of(work, version, &root, ntime));
        let count = budget.min(NONCE_LOW - self.nonce_low);
        let first = self.nonce_high << NONCE_LOW.ilog2() | self.nonce_low;
        midstate.scan(first, count, &work.target, |nonce, hash| {
            let mut hit = Found {
                work: Arc::clone(work),
                extranonce2: [0; EXTRANONCE2_LEN_MAX],
                ntime,
                nonce,
                version,
                meets_nbits: work.block_target.is_met_by(hash),
            };
            hit.extranonce2[..len].copy_from_slice(extranonce2);
            found.push(hit);
        });
        self.nonce_low += count;
        if self.nonce_low == NONCE_LOW {
            self.step(work);
        }
        count
    }

    /// Advances like an odometer, from the wheel after the low nonce bits.
    fn step(&mut self, work: &HashWork) {
        self.nonce_low = 0;
        self.midstate = None;
        self.version_index += 1;
        if self.version_index < work.versions() {
            return;
        }
        self.version_index = 0;
        self.root = None;
        self.extranonce2 = self.extranonce2.wrapping_add(1);
        if self.extranonce2_used < work.extranonce2_max() {
            self.extranonce2_used += 1;
            return;
        }
        self.extranonce2_used = 0;
        self.nonce_high += 1;
        if self.nonce_high > u32::MAX >> NONCE_LOW.ilog2() {
            self.nonce_high = 0;
            self.ntime_ahead += 1;
        }
    }
}

/// The SHA-256 state after a header's first 64 bytes, and the rest of the header.
#[derive(Debug)]
pub(crate) struct Midstate {
    state: [u32; 8],
    tail: Block,
}

type Block = GenericArray<u8, U64>;

impl Midstate {
    fn of(work: &HashWork, version: u32, root: &Hash256, ntime: u32) -> Self {
        Self::new(version, &work.job.prevhash, root, ntime, work.job.nbits)
    }

    pub(crate) fn new(
        version: u32,
        prevhash: &Hash256,
        root: &Hash256,
        ntime: u32,
        nbits: Nbits,
    ) -> Self {
        let mut head = Block::default();
        head[..4].copy_from_slice(&version.to_le_bytes());
        head[4..36].copy_from_slice(&prevhash.0);
        head[36..].copy_from_slice(&root.0[..28]);
        let mut tail = padded(16, 640);
        tail[..4].copy_from_slice(&root.0[28..]);
        tail[4..8].copy_from_slice(&ntime.to_le_bytes());
        tail[8..12].copy_from_slice(&nbits.get().to_le_bytes());
        let mut state = SHA256_START;
        compress256(&mut state, &[head]);
        Self { state, tail }
    }

    /// Calls `hit` for each of `count` nonces from `first` whose hash meets `target`.
    pub(crate) fn scan(
        &mut self,
        first: u32,
        count: u32,
        target: &Target,
        mut hit: impl FnMut(u32, &Hash256),
    ) {
        let mut top = [0; 4];
        top.copy_from_slice(&target.to_le_bytes()[28..]);
        let top = u32::from_le_bytes(top);
        let mut second = padded(32, 256);
        for nonce in first..=first + (count - 1) {
            self.tail[12..16].copy_from_slice(&nonce.to_le_bytes());
            let mut state = self.state;
            compress256(&mut state, std::slice::from_ref(&self.tail));
            write_words(&state, &mut second);
            let mut state = SHA256_START;
            compress256(&mut state, std::slice::from_ref(&second));
            // Nearly all end here, unless the target is close to the maximum.
            if state[7].swap_bytes() <= top {
                let mut hash = Hash256::ZERO;
                write_words(&state, &mut hash.0);
                if target.is_met_by(&hash) {
                    hit(nonce, &hash);
                }
            }
        }
    }
}

/// A last block with `len` bytes of a message of `message_bits` bits in all.
fn padded(len: usize, message_bits: u16) -> Block {
    let mut block = Block::default();
    block[len] = 0x80;
    block[62..].copy_from_slice(&message_bits.to_be_bytes());
    block
}

fn write_words(state: &[u32; 8], out: &mut [u8]) {
    for (bytes, word) in out.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
}

/// Puts the bits of `index` into the bits set in `mask`, lowest first.
fn spread(mut index: u32, mask: u32) -> u32 {
    let mut bits = 0;
    let mut rest = mask;
    while rest != 0 && index != 0 {
        let lowest = rest & rest.wrapping_neg();
        bits |= lowest * (index & 1);
        index >>= 1;
        rest ^= lowest;
    }
    bits
}

/// Nonces tried before something else is rolled: less than a millisecond's work, so that new work
/// is picked up at once, but enough to amortise the midstate.
pub(crate) const NONCE_LOW: u32 = 4096;
/// 16 versions for each extranonce2: even the slowest processor rolls both in under a second.
const VERSION_BITS_ROLLED: u32 = 4;
/// Far less than the two hours that nodes allow.
const NTIME_AHEAD_S_MAX: u32 = 600;

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
