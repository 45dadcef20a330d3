//! The headers of one job of one channel, and those that are shares.

use std::sync::Arc;

use super::channel::{EXTRANONCE_LEN_MAX, Future};
use crate::{
    devnet::{load::conn::HASHES_PER_SCAN, miner::scan::Midstate},
    work::{Hash256, Nbits, Target, VERSION_ROLLING_MASK, merkle},
};

/// Where a job's merkle root comes from.
pub(super) enum Body {
    Root(Hash256),
    Coinbase {
        prefix: Box<[u8]>,
        suffix: Box<[u8]>,
        path: Box<[Hash256]>,
    },
    /// Nobody will submit: not kept.
    Unread {
        empty: bool,
    },
}

/// A share.
#[derive(Clone, Copy)]
pub(super) struct Found {
    pub(super) job_id: u32,
    pub(super) version: u32,
    pub(super) ntime: u32,
    pub(super) nonce: u32,
    pub(super) rolled: [u8; EXTRANONCE_LEN_MAX],
}

/// Walks a job's headers: nonce, version, then the extranonce or, where that is not ours, the time.
pub(super) struct Digger {
    job_id: u32,
    version: u32,
    prevhash: Hash256,
    nbits: Nbits,
    ntime: u32,
    target: Target,
    body: Arc<Body>,
    /// The whole extranonce, of which what is behind `prefix_len` rolls.
    extranonce: [u8; EXTRANONCE_LEN_MAX],
    prefix_len: usize,
    rolled_len: usize,
    /// How often something other than the nonce was rolled.
    turn: u32,
    nonce: u32,
    midstate: Option<Midstate>,
}

impl Digger {
    pub(super) fn new(
        job: &Future,
        prevhash: Hash256,
        nbits: Nbits,
        ntime: u32,
        target: Target,
        prefix: &[u8],
        rolled_len: usize,
    ) -> Self {
        let mut extranonce = [0; EXTRANONCE_LEN_MAX];
        extranonce[..prefix.len()].copy_from_slice(prefix);
        Self {
            job_id: job.id,
            version: job.version,
            prevhash,
            nbits,
            ntime,
            target,
            body: Arc::clone(&job.body),
            extranonce,
            prefix_len: prefix.len(),
            rolled_len: rolled_len.min(EXTRANONCE_LEN_MAX - prefix.len()),
            turn: 0,
            nonce: 0,
            midstate: None,
        }
    }

    /// Hashes a little, and adds what it finds. The number of hashes.
    pub(super) fn dig(&mut self, found: &mut Vec<Found>) -> u32 {
        if self.nonce >= NONCES_PER_TURN {
            self.turn += 1;
            self.nonce = 0;
            self.midstate = None;
        }
        let version =
            self.version | (self.turn % VERSIONS) << VERSION_ROLLING_MASK.trailing_zeros();
        let rolls = self.turn / VERSIONS;
        let standard = self.rolled_len == 0;
        let ntime = if standard { self.ntime + rolls.min(NTIME_AHEAD_S_MAX) } else { self.ntime };
        if self.midstate.is_none() {
            // The last bytes of the extranonce count up.
            let end = self.prefix_len + self.rolled_len;
            let len = self.rolled_len.min(4);
            self.extranonce[end - len..end].copy_from_slice(&rolls.to_be_bytes()[4 - len..]);
            let root = self.root(end);
            let midstate = Midstate::new(version, &self.prevhash, &root, ntime, self.nbits);
            self.midstate = Some(midstate);
        }
        let Some(midstate) = &mut self.midstate else { return 0 };
        let mut rolled = [0; EXTRANONCE_LEN_MAX];
        rolled[..self.rolled_len]
            .copy_from_slice(&self.extranonce[self.prefix_len..][..self.rolled_len]);
        let job_id = self.job_id;
        midstate.scan(self.nonce, HASHES_PER_SCAN, &self.target, |nonce, _| {
            found.push(Found { job_id, version, ntime, nonce, rolled });
        });
        self.nonce += HASHES_PER_SCAN;
        HASHES_PER_SCAN
    }

    fn root(&self, end: usize) -> Hash256 {
        match &*self.body {
            Body::Root(root) => *root,
            Body::Coinbase { prefix, suffix, path } => {
                let coinbase = [prefix, &self.extranonce[..end], suffix];
                merkle::root(Hash256::sha256d_parts(&coinbase), path)
            }
            Body::Unread { .. } => Hash256::ZERO,
        }
    }
}

/// Before something else rolls.
const NONCES_PER_TURN: u32 = 64 * HASHES_PER_SCAN;
/// Tried before the extranonce or the time rolls.
const VERSIONS: u32 = 16;
/// Nodes allow two hours, gateways as much.
const NTIME_AHEAD_S_MAX: u32 = 6000;
