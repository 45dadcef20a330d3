//! A channel: its future jobs, the one it works on, and its shares under way.

use std::sync::Arc;

use super::dig::{Body, Digger, Found};
use crate::{
    devnet::load::log::{Log, News, Sight},
    sv2::codec::{Bytes32, Message, SetNewPrevHash, SubmitSharesExtended, SubmitSharesStandard},
    work::{Hash256, Nbits, Target},
};

pub(super) struct Channel {
    pub(super) id: u32,
    pub(super) group: u32,
    /// Of jobs to come.
    pub(super) target: Target,
    prefix: [u8; EXTRANONCE_LEN_MAX],
    prefix_len: usize,
    /// 0 for a standard channel.
    rolled_len: usize,
    /// The oldest first.
    futures: Vec<Future>,
    prevhash: Option<(Hash256, Nbits)>,
    sight: Sight,
    digger: Option<Digger>,
    solved: Vec<Found>,
    under_way: usize,
    sequence: u32,
}

/// What the server says of a new channel.
pub(super) struct Opened<'a> {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) target: Target,
    pub(super) prefix: &'a [u8],
    pub(super) rolled_len: usize,
}

/// A job as it came.
#[derive(Clone)]
pub(super) struct Future {
    pub(super) id: u32,
    pub(super) version: u32,
    /// With which read.
    pub(super) batch: u64,
    pub(super) body: Arc<Body>,
}

impl Channel {
    pub(super) fn new(opened: &Opened<'_>) -> Self {
        let prefix_len = opened.prefix.len().min(EXTRANONCE_LEN_MAX);
        let mut prefix = [0; EXTRANONCE_LEN_MAX];
        prefix[..prefix_len].copy_from_slice(&opened.prefix[..prefix_len]);
        Self {
            id: opened.id,
            group: opened.group,
            target: opened.target,
            prefix,
            prefix_len,
            rolled_len: opened.rolled_len.min(EXTRANONCE_LEN_MAX),
            futures: Vec::new(),
            prevhash: None,
            sight: Sight::default(),
            digger: None,
            solved: Vec::new(),
            under_way: 0,
            sequence: 0,
        }
    }

    pub(super) fn is_addressed(&self, id: u32) -> bool {
        self.id == id || self.group == id
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn is_digging(&self) -> bool {
        self.digger.is_some()
    }

    /// Keeps a job until its prevhash comes.
    pub(super) fn keep(&mut self, job: Future) {
        if self.futures.len() >= FUTURES_MAX {
            self.futures.remove(0);
        }
        self.futures.push(job);
    }

    pub(super) fn on_prevhash(
        &mut self,
        prevhash: &SetNewPrevHash,
        batch: u64,
        submits: bool,
        log: &mut Log,
    ) {
        let Some(nbits) = Nbits::new(prevhash.nbits) else { return };
        self.prevhash = Some((prevhash.prev_hash, nbits));
        let job = self.futures.iter().find(|job| job.id == prevhash.job_id).cloned();
        self.futures.clear();
        self.solved.clear();
        self.digger = None;
        let Some(job) = job else { return };
        // Work that was there before its tip can only be subsidy-only. A root alone does not tell.
        let empty = match *job.body {
            Body::Root(_) => job.batch != batch,
            Body::Coinbase { ref path, .. } => path.is_empty(),
            Body::Unread { empty } => empty,
        };
        log.on_work(&mut self.sight, News { tip: prevhash.prev_hash, clean: true, empty });
        if submits {
            self.digger = Some(self.dig(&job, prevhash.prev_hash, nbits, prevhash.min_ntime));
        }
    }

    /// Takes a job on the tip that is known.
    pub(super) fn begin(&mut self, job: &Future, ntime: u32, submits: bool, log: &mut Log) {
        let Some((tip, nbits)) = self.prevhash else { return };
        let empty = match *job.body {
            Body::Root(_) => false,
            Body::Coinbase { ref path, .. } => path.is_empty(),
            Body::Unread { empty } => empty,
        };
        log.on_work(&mut self.sight, News { tip, clean: false, empty });
        if submits {
            self.digger = Some(self.dig(job, tip, nbits, ntime));
        }
    }

    fn dig(&self, job: &Future, prevhash: Hash256, nbits: Nbits, ntime: u32) -> Digger {
        let prefix = &self.prefix[..self.prefix_len];
        Digger::new(job, prevhash, nbits, ntime, self.target, prefix, self.rolled_len)
    }

    /// Solves one share, or tries to, and appends it. The number of hashes; 0 without work.
    pub(super) fn submit_one(&mut self, log: &Log, out: &mut Vec<u8>) -> u32 {
        let Some(digger) = &mut self.digger else { return 0 };
        let mut hashes = 1;
        if self.solved.is_empty() {
            hashes = digger.dig(&mut self.solved);
        }
        let Some(found) = self.solved.pop() else { return hashes };
        let share = SubmitSharesStandard {
            channel_id: self.id,
            sequence_number: self.sequence,
            job_id: found.job_id,
            nonce: found.nonce,
            ntime: found.ntime,
            version: found.version,
        };
        if self.rolled_len == 0 {
            share.append(out);
        } else {
            let extranonce = Bytes32::new(&found.rolled[..self.rolled_len]).unwrap_or_default();
            SubmitSharesExtended { share, extranonce, worker: None }.append(out);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.under_way += 1;
        log.on_submitted();
        hashes
    }

    /// The server has answered `count` shares.
    pub(super) fn on_answer(&mut self, count: u32) {
        self.under_way = self.under_way.saturating_sub(count as usize);
    }
}

/// The specification's own limit.
pub(super) const EXTRANONCE_LEN_MAX: usize = 32;
/// One is enough for gatewayd, which sends the next when that is too old; ESP-Miner keeps eight.
const FUTURES_MAX: usize = 8;
