//! A client for tests: it mines, and holds the server to the specification and to what real clients
//! demand beyond it.

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash as _, sha256d};

use super::codec::{
    Extensions, HEADER_LEN, Header, NewExtendedMiningJob, NewMiningJob, ServerMessage,
    SetNewPrevHash, SubmitSharesStandard,
};
use crate::work::{Hash256, Target};

#[derive(Default)]
pub(super) struct Peer {
    channels: BTreeMap<u32, PeerChannel>,
    /// Future jobs that came by a group's id, since its last SetNewPrevHash.
    groups: BTreeMap<u32, Vec<u32>>,
    opened: Option<Result<u32, String>>,
    refusal: Option<String>,
    accepted: u32,
    sum: u64,
    sequence: u32,
    longest: usize,
    /// Version bits that it flips when mining.
    pub(super) rolled_version: u32,
}

struct PeerChannel {
    standard: bool,
    group: u32,
    prefix: Vec<u8>,
    /// Of the next job.
    target: Target,
    future: BTreeMap<u32, Job>,
    prevhash: Option<([u8; 32], u32, u32)>,
    /// Every job id on this tip: none may come twice.
    ids: Vec<u32>,
    running: Option<(u32, Job, Target)>,
    nonce: u32,
    last_extranonce: [u8; 12],
}

#[derive(Clone)]
enum Job {
    Root { version: u32, root: [u8; 32], ntime: u32 },
    Parts { version: u32, path: Vec<Hash256>, prefix: Vec<u8>, suffix: Vec<u8>, ntime: u32 },
}

impl Peer {
    /// Takes frames and returns the names of their messages in order.
    pub(super) fn receive(&mut self, mut frames: &[u8]) -> Vec<&'static str> {
        let mut names = Vec::new();
        while !frames.is_empty() {
            let (header, rest) = frames.split_first_chunk::<HEADER_LEN>().unwrap();
            let header = Header::decode(*header);
            let (payload, rest) = rest.split_at(header.len as usize);
            self.longest = self.longest.max(payload.len());
            let message = ServerMessage::decode(header, payload, Extensions::default()).unwrap();
            names.push(message.name());
            self.on(&message);
            frames = rest;
        }
        names
    }

    fn on(&mut self, message: &ServerMessage<'_>) {
        use ServerMessage as M;
        match message {
            M::OpenStandardMiningChannelSuccess(open) => {
                assert_eq!(open.extranonce_prefix.get().len(), 12);
                let group = open.group_channel_id;
                self.open(open.channel_id, true, group, open.extranonce_prefix.get(), open.target);
            }
            M::OpenExtendedMiningChannelSuccess(open) => {
                assert_eq!((open.extranonce_size, open.extranonce_prefix.get().len()), (8, 4));
                let group = open.group_channel_id;
                self.open(open.channel_id, false, group, open.extranonce_prefix.get(), open.target);
            }
            M::OpenMiningChannelError(error) => {
                self.opened = Some(Err(error.error_code.to_string()));
            }
            M::NewMiningJob(job) => {
                assert!(self.channels[&job.channel_id].standard);
                let NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root } = *job;
                let root = merkle_root.0;
                let ntime = min_ntime.unwrap_or(0);
                let job = Job::Root { version, root, ntime };
                self.take(channel_id, job_id, min_ntime.is_none(), &job);
            }
            M::NewExtendedMiningJob(job) => self.on_extended(job),
            M::SetNewPrevHash(prevhash) => self.on_prevhash(prevhash),
            M::SetTarget(set) => {
                for id in self.addressed(set.channel_id) {
                    self.channels.get_mut(&id).unwrap().target = set.maximum_target;
                }
            }
            M::SetGroupChannel(set) => {
                let id = set.group_channel_id;
                assert!(!self.channels.contains_key(&id));
                for channel in self.channels.values_mut().filter(|channel| channel.group == id) {
                    channel.group = 0;
                }
                self.groups.insert(id, Vec::new());
                for member in set.channel_ids.iter() {
                    self.channels.get_mut(&member).unwrap().group = id;
                }
            }
            M::SubmitSharesSuccess(success) => {
                assert!(success.new_submits_accepted_count > 0);
                self.accepted += success.new_submits_accepted_count;
                self.sum += success.new_shares_sum;
            }
            M::SubmitSharesError(error) => self.refusal = Some(error.error_code.to_string()),
            M::Unknown { .. } => panic!("a message that no client knows"),
            _ => {}
        }
    }

    fn open(&mut self, id: u32, standard: bool, group: u32, prefix: &[u8], target: Target) {
        assert!(
            !self.channels.contains_key(&group) && id != group && !self.groups.contains_key(&id)
        );
        if !standard {
            self.groups.entry(group).or_default();
        }
        let channel = PeerChannel {
            standard,
            group,
            prefix: prefix.to_vec(),
            target,
            future: BTreeMap::new(),
            prevhash: None,
            ids: Vec::new(),
            running: None,
            nonce: 0,
            last_extranonce: [0; 12],
        };
        assert!(self.channels.insert(id, channel).is_none());
        self.opened = Some(Ok(id));
    }

    fn on_extended(&mut self, job: &NewExtendedMiningJob<'_>) {
        assert!(job.version_rolling_allowed);
        let own = Job::Parts {
            version: job.version,
            path: job.merkle_path.iter().collect(),
            prefix: job.coinbase_tx_prefix.get().to_vec(),
            suffix: job.coinbase_tx_suffix.get().to_vec(),
            ntime: job.min_ntime.unwrap_or(0),
        };
        let is_future = job.min_ntime.is_none();
        if let Some(group) = self.groups.get_mut(&job.channel_id)
            && is_future
        {
            group.push(job.job_id);
        }
        for id in self.addressed(job.channel_id) {
            assert!(!self.channels[&id].standard, "an extended job for a standard channel");
            self.take(id, job.job_id, is_future, &own);
        }
    }

    fn take(&mut self, id: u32, job_id: u32, is_future: bool, job: &Job) {
        let channel = self.channels.get_mut(&id).unwrap();
        assert!(!channel.ids.contains(&job_id), "job {job_id} came twice");
        channel.ids.push(job_id);
        if is_future {
            channel.future.insert(job_id, job.clone());
            return;
        }
        let (_, min_ntime, _) = channel.prevhash.expect("a job for now, on no prevhash");
        assert!(job.ntime() >= min_ntime);
        channel.run(job_id, job.clone());
    }

    fn on_prevhash(&mut self, message: &SetNewPrevHash) {
        if let Some(group) = self.groups.get_mut(&message.channel_id) {
            assert!(group.contains(&message.job_id), "the group does not have that future job");
            group.clear();
        }
        for id in self.addressed(message.channel_id) {
            let channel = self.channels.get_mut(&id).unwrap();
            let mut job =
                channel.future.remove(&message.job_id).expect("a member lacks that future job");
            channel.future.clear();
            channel.ids = vec![message.job_id];
            channel.prevhash = Some((message.prev_hash.0, message.min_ntime, message.nbits));
            job.set_ntime(message.min_ntime);
            channel.run(message.job_id, job);
        }
    }

    /// The channel, or all of the group.
    fn addressed(&self, id: u32) -> Vec<u32> {
        if self.channels.contains_key(&id) {
            return vec![id];
        }
        let all = self.channels.iter().filter(|(_, channel)| channel.group == id);
        let ids: Vec<u32> = all.map(|(id, _)| *id).collect();
        assert!(!ids.is_empty(), "nobody is addressed by {id}");
        ids
    }

    pub(super) fn opened(&mut self) -> Result<u32, String> {
        self.opened.take().expect("no answer to the open")
    }

    pub(super) fn refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    pub(super) fn forget(&mut self, id: u32) {
        self.channels.remove(&id);
    }

    pub(super) fn channels(&self) -> Vec<u32> {
        self.channels.keys().copied().collect()
    }

    pub(super) fn is_standard(&self, id: u32) -> bool {
        self.channels.get(&id).is_some_and(|channel| channel.standard)
    }

    pub(super) fn group(&self, id: u32) -> u32 {
        self.channels[&id].group
    }

    pub(super) fn target(&self, id: u32) -> Target {
        self.channels[&id].target
    }

    pub(super) fn tip(&self, id: u32) -> Hash256 {
        Hash256(self.channels[&id].prevhash.unwrap().0)
    }

    pub(super) fn extranonce(&self, id: u32) -> [u8; 12] {
        self.channels[&id].last_extranonce
    }

    pub(super) fn prefix(&self, id: u32) -> Vec<u8> {
        self.channels[&id].prefix.clone()
    }

    /// The running job's id, version and time.
    pub(super) fn running(&self, id: u32) -> (u32, u32, u32) {
        let (job_id, job, _) = self.channels[&id].running.as_ref().unwrap();
        (*job_id, job.root(&[0; 12]).0, job.ntime())
    }

    pub(super) fn accepted(&self) -> u32 {
        self.accepted
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum
    }

    pub(super) fn longest_payload(&self) -> usize {
        self.longest
    }

    /// A share of the running job that was not found before, and the rolled extranonce.
    pub(super) fn mine(&mut self, id: u32) -> (SubmitSharesStandard, Vec<u8>) {
        let start = self.channels[&id].nonce;
        self.mine_from(id, start)
    }

    pub(super) fn mine_from(&mut self, id: u32, start: u32) -> (SubmitSharesStandard, Vec<u8>) {
        self.sequence += 1;
        let sequence_number = self.sequence;
        let channel = self.channels.get_mut(&id).unwrap();
        let (job_id, job, target) = channel.running.clone().expect("nothing to mine on");
        let (prevhash, _, nbits) = channel.prevhash.unwrap();
        let rolled = if channel.standard { Vec::new() } else { vec![0xE5; 8] };
        let mut extranonce = channel.prefix.clone();
        extranonce.extend_from_slice(&rolled);
        channel.last_extranonce = extranonce.as_slice().try_into().unwrap();
        let (version, root) = job.root(&extranonce);
        let version = version ^ self.rolled_version;
        let mut header = Vec::new();
        header.extend_from_slice(&version.to_le_bytes());
        header.extend_from_slice(&prevhash);
        header.extend_from_slice(&root);
        header.extend_from_slice(&job.ntime().to_le_bytes());
        header.extend_from_slice(&nbits.to_le_bytes());
        let found = (start..).find(|nonce| {
            let mut header = header.clone();
            header.extend_from_slice(&nonce.to_le_bytes());
            target.is_met_by(&Hash256(sha256d::Hash::hash(&header).to_byte_array()))
        });
        let nonce = found.unwrap();
        channel.nonce = nonce + 1;
        let share = SubmitSharesStandard {
            channel_id: id,
            sequence_number,
            job_id,
            nonce,
            ntime: job.ntime(),
            version,
        };
        (share, rolled)
    }
}

impl PeerChannel {
    fn run(&mut self, id: u32, job: Job) {
        // The server's duplicate check shows whether this repeats earlier work.
        self.nonce = 0;
        self.running = Some((id, job, self.target));
    }
}

impl Job {
    fn ntime(&self) -> u32 {
        match self {
            Self::Root { ntime, .. } | Self::Parts { ntime, .. } => *ntime,
        }
    }

    fn set_ntime(&mut self, to: u32) {
        match self {
            Self::Root { ntime, .. } | Self::Parts { ntime, .. } => *ntime = to,
        }
    }

    fn root(&self, extranonce: &[u8]) -> (u32, [u8; 32]) {
        match self {
            Self::Root { version, root, .. } => (*version, *root),
            Self::Parts { version, path, prefix, suffix, .. } => {
                let coinbase = [prefix, extranonce, suffix].concat();
                let txid = sha256d::Hash::hash(&coinbase).to_byte_array();
                let root = path.iter().fold(txid, |root, branch| {
                    sha256d::Hash::hash(&[root, branch.0].concat()).to_byte_array()
                });
                (*version, root)
            }
        }
    }
}
