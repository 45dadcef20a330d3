//! A channel from the miner's side: which jobs wait, and with what the next one is mined.

use std::sync::Arc;

use crate::{
    devnet::miner::{
        message::{EXTRANONCE2_LEN_MAX, Extranonce, Root, StratumJob},
        scan::{Found, HashWork},
    },
    sv2::codec::{
        Bytes32, Message, NewExtendedMiningJob, NewMiningJob, SetGroupChannel, SetNewPrevHash,
        SubmitSharesExtended, SubmitSharesStandard,
    },
    work::{Hash256, Nbits, Target, VERSION_ROLLING_MASK},
};

/// What may be rolled, and so which messages are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::devnet) enum Kind {
    /// Nonce, time and version. `group_jobs`: the channel's group may get one extended job for all
    /// of its channels.
    Standard { group_jobs: bool },
    /// Also a part of the extranonce.
    Extended,
}

/// A channel of a connection.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: u32,
    kind: Kind,
    /// None: in no group any more.
    group: Option<u32>,
    rolls_versions: bool,
    extranonce_prefix: Vec<u8>,
    /// How many bytes of extranonce we roll.
    extranonce_size: usize,
    /// Applies to jobs that begin from now on.
    pub(super) target: Target,
    tip: Option<Tip>,
    /// Jobs that wait for their `SetNewPrevHash`, the oldest first.
    future: Vec<Waiting>,
}

/// The server's answer to our request.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) id: u32,
    pub(super) group: u32,
    pub(super) extranonce_prefix: &'a [u8],
    pub(super) extranonce_size: u16,
    pub(super) target: Target,
}

#[derive(Clone, Copy, Debug)]
struct Tip {
    prevhash: Hash256,
    nbits: Nbits,
    min_ntime: u32,
}

/// A job whose previous block, and so whose time, is not known yet.
#[derive(Debug)]
struct Waiting {
    id: u32,
    version: u32,
    version_mask: Option<u32>,
    root: Arc<Root>,
    extranonce: Extranonce,
    /// When it was read.
    read: u64,
}

/// Something to hash.
#[derive(Debug)]
pub(in crate::devnet) struct Begin {
    pub(in crate::devnet) job_id: u32,
    pub(in crate::devnet) job: StratumJob,
    /// It was there before it was known what it builds on, and not only read together with that.
    pub(in crate::devnet) has_waited: bool,
    extranonce: Extranonce,
    version_mask: Option<u32>,
    target: Target,
}

impl Begin {
    pub(in crate::devnet) fn work(self, serial: u64) -> Arc<HashWork> {
        let Self { job, extranonce, version_mask, target, .. } = self;
        let job = Arc::new(job);
        Arc::new(HashWork::with_target(serial, job, extranonce, version_mask, target))
    }
}

impl Channel {
    pub(super) fn new(
        opened: &Opened<'_>,
        kind: Kind,
        rolls_versions: bool,
    ) -> Result<Self, String> {
        let Opened { id, group, extranonce_prefix, target, .. } = *opened;
        let extranonce_size = usize::from(opened.extranonce_size);
        let extranonce_len = extranonce_prefix.len() + extranonce_size;
        if extranonce_len > EXTRANONCE_LEN_MAX {
            return Err(format!("an extranonce of {extranonce_len} bytes"));
        }
        if group == id {
            return Err(format!("channel {id} has its group's id"));
        }
        Ok(Self {
            id,
            kind,
            group: Some(group),
            rolls_versions,
            extranonce_prefix: extranonce_prefix.to_vec(),
            extranonce_size,
            target,
            tip: None,
            future: Vec::new(),
        })
    }

    /// Whether a message for channel `id` is for this one: by its own id or by its group's.
    pub(super) fn is_meant(&self, id: u32) -> bool {
        id == self.id || self.group == Some(id)
    }

    /// The bytes of extranonce that come before those that the hasher rolls.
    fn padding(&self) -> usize {
        self.extranonce_size.saturating_sub(EXTRANONCE2_LEN_MAX)
    }

    pub(super) fn on_job(
        &mut self,
        job: &NewMiningJob,
        read: u64,
    ) -> Result<Option<Begin>, String> {
        if self.kind == Kind::Extended || job.channel_id != self.id {
            return Err(format!("a standard job for channel {}", job.channel_id));
        }
        let waiting = Waiting {
            id: job.job_id,
            version: job.version,
            version_mask: self.version_mask(true),
            root: Arc::new(Root::Given(job.merkle_root)),
            extranonce: Extranonce::default(),
            read,
        };
        self.take(waiting, job.min_ntime)
    }

    pub(super) fn on_extended_job(
        &mut self,
        job: &NewExtendedMiningJob<'_>,
        root: &Arc<Root>,
        read: u64,
    ) -> Result<Option<Begin>, String> {
        let (root, extranonce) = match self.kind {
            Kind::Extended => (Arc::clone(root), self.extranonce()),
            Kind::Standard { group_jobs: true } if job.channel_id != self.id => {
                let root = root.with(&self.extranonce_prefix, &[]);
                (Arc::new(Root::Given(root)), Extranonce::default())
            }
            Kind::Standard { .. } => {
                return Err(format!("an extended job for channel {}", job.channel_id));
            }
        };
        let waiting = Waiting {
            id: job.job_id,
            version: job.version,
            version_mask: self.version_mask(job.version_rolling_allowed),
            root,
            extranonce,
            read,
        };
        self.take(waiting, job.min_ntime)
    }

    /// Begins the future job that the message names, and forgets all others.
    pub(super) fn on_prevhash(
        &mut self,
        message: &SetNewPrevHash,
        read: u64,
    ) -> Result<Begin, String> {
        let SetNewPrevHash { job_id, prev_hash, min_ntime, nbits, .. } = *message;
        let nbits = Nbits::new(nbits).ok_or_else(|| format!("nbits {nbits:08x}"))?;
        let at = self.future.iter().position(|waiting| waiting.id == job_id);
        let at = at.ok_or_else(|| {
            format!("SetNewPrevHash for job {job_id}, which was not announced as a future job")
        })?;
        let waiting = self.future.swap_remove(at);
        self.future.clear();
        let tip = Tip { prevhash: prev_hash, nbits, min_ntime };
        self.tip = Some(tip);
        let has_waited = waiting.read != read;
        Ok(Begin { has_waited, ..self.begin(waiting, tip, min_ntime, true) })
    }

    /// Applies to later jobs.
    pub(super) fn on_prefix(&mut self, prefix: &[u8]) -> Result<(), String> {
        if prefix.len() != self.extranonce_prefix.len() {
            return Err(format!(
                "an extranonce prefix of {} bytes after one of {}",
                prefix.len(),
                self.extranonce_prefix.len()
            ));
        }
        self.extranonce_prefix = prefix.to_vec();
        Ok(())
    }

    /// A group's list replaces what it had.
    pub(super) fn on_group(&mut self, message: &SetGroupChannel<'_>) {
        if message.channel_ids.iter().any(|id| id == self.id) {
            self.group = Some(message.group_channel_id);
        } else if self.group == Some(message.group_channel_id) {
            self.group = None;
        }
    }

    /// Appends a solved share of job `job_id`.
    pub(super) fn append_share(
        &self,
        sequence_number: u32,
        job_id: u32,
        found: &Found,
        out: &mut Vec<u8>,
    ) {
        let share = SubmitSharesStandard {
            channel_id: self.id,
            sequence_number,
            job_id,
            nonce: found.nonce,
            ntime: found.ntime,
            version: found.version,
        };
        if self.kind != Kind::Extended {
            share.append(out);
            return;
        }
        let mut extranonce = [0; EXTRANONCE_LEN_MAX];
        let rolled = &mut extranonce[..self.extranonce_size];
        rolled[self.padding()..].copy_from_slice(found.extranonce2());
        let extranonce = Bytes32::new(rolled).unwrap_or_default();
        SubmitSharesExtended { share, extranonce, worker: None }.append(out);
    }

    fn take(&mut self, waiting: Waiting, min_ntime: Option<u32>) -> Result<Option<Begin>, String> {
        let id = waiting.id;
        if self.future.iter().any(|other| other.id == id) {
            return Err(format!("two jobs with the id {id}"));
        }
        let Some(min_ntime) = min_ntime else {
            if self.future.len() == FUTURE_JOBS_MAX {
                self.future.remove(0);
            }
            self.future.push(waiting);
            return Ok(None);
        };
        let tip = self.tip.ok_or_else(|| format!("job {id} before any SetNewPrevHash"))?;
        if min_ntime < tip.min_ntime {
            return Err(format!("job {id} begins before its block's minimum time"));
        }
        Ok(Some(self.begin(waiting, tip, min_ntime, false)))
    }

    fn begin(&self, waiting: Waiting, tip: Tip, ntime: u32, clean: bool) -> Begin {
        let Waiting { id, version, version_mask, root, extranonce, .. } = waiting;
        let Tip { prevhash, nbits, .. } = tip;
        let name = id.to_string().into();
        Begin {
            job_id: id,
            job: StratumJob { id: name, prevhash, root, version, nbits, ntime, clean },
            has_waited: false,
            extranonce,
            version_mask,
            target: self.target,
        }
    }

    fn extranonce(&self) -> Extranonce {
        let padding = self.padding();
        let mut extranonce1 = self.extranonce_prefix.clone();
        extranonce1.resize(extranonce1.len() + padding, 0);
        Extranonce { extranonce1, extranonce2_len: self.extranonce_size - padding }
    }

    fn version_mask(&self, allowed: bool) -> Option<u32> {
        (self.rolls_versions && allowed).then_some(VERSION_ROLLING_MASK)
    }
}

/// The protocol's limit for prefix and rolled part together.
const EXTRANONCE_LEN_MAX: usize = 32;
/// As many as a Bitaxe keeps; with more, the oldest are forgotten.
const FUTURE_JOBS_MAX: usize = 8;
