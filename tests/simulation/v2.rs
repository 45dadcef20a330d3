//! A Stratum V2 client: a device with standard channels, or a proxy with extended ones.

use std::{collections::BTreeMap, sync::Arc};

use gatewayd::{
    sv2::{
        codec::{
            Bytes32, CloseChannel, Extensions, Header, Message, NewExtendedMiningJob, NewMiningJob,
            OpenExtendedMiningChannel, OpenStandardMiningChannel, ServerMessage, SetNewPrevHash,
            SetupConnection, Str255, SubmitSharesExtended, SubmitSharesStandard, UpdateChannel,
            protocol,
        },
        noise::{Initiator, Opener, Transport},
    },
    work::{Hash256, JobId, Target, Work},
};

use crate::{
    chance::Chance,
    lane::{Lane, RigJob, Root},
};

pub struct V2 {
    initiator: Option<Initiator>,
    transport: Option<Transport>,
    inbox: Vec<u8>,
    is_standard: bool,
    name: String,
    pub channels: BTreeMap<u32, Channel>,
    /// Requested and not answered yet.
    opening: u32,
    next: u32,
}

pub struct Channel {
    pub lane: Lane,
    group: u32,
    target: Target,
    future: BTreeMap<u32, Told>,
    /// Hash, time, bits.
    prevhash: Option<(Hash256, u32, u32)>,
    /// Sequence numbers in the order in which they were judged.
    order: Vec<u32>,
    /// Its close is in flight.
    is_closing: bool,
}

/// A job before it is activated.
#[derive(Clone)]
struct Told {
    id: u32,
    version: u32,
    root: Root,
}

/// When, and on what work, something is sent.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub work: &'a Work,
    pub now: u64,
    pub here_at: u64,
    pub unix: u32,
}

impl V2 {
    pub fn new(name: String, is_standard: bool) -> Self {
        Self {
            initiator: None,
            transport: None,
            inbox: Vec::new(),
            is_standard,
            name,
            channels: BTreeMap::new(),
            opening: 0,
            next: 0,
        }
    }

    pub fn greet(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.initiator = Some(Initiator::start(None, &mut out).unwrap());
        out
    }

    fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.transport.as_mut().unwrap().writer.seal_frame(frame, &mut out).unwrap();
        out
    }

    pub fn is_open(&self) -> bool {
        self.transport.is_some()
    }

    /// Asks for another channel.
    pub fn open(&mut self, chance: &mut Chance) -> Vec<u8> {
        self.next += 1;
        self.opening += 1;
        let user_identity = Str255::cut(&self.name);
        let (request_id, nominal_hash_rate, max_target) = (self.next, 0.0, Target::MAX);
        let mut frame = Vec::new();
        if self.is_standard {
            let open = OpenStandardMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
            };
            open.append(&mut frame);
        } else {
            let min_extranonce_size = u16::try_from(chance.below(9)).unwrap();
            OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size,
            }
            .append(&mut frame);
        }
        self.seal(&frame)
    }

    /// Closes a channel, or asks for another difficulty.
    ///
    /// Returns the frame, and the channel that it closes.
    pub fn fidget(&mut self, chance: &mut Chance) -> Option<(Vec<u8>, Option<u32>)> {
        let ids = self.ids();
        let channel_id = *ids.get(chance.index(ids.len().max(1)))?;
        let mut frame = Vec::new();
        let leaves = chance.one_in(3) && ids.len() > 1;
        if leaves {
            self.channels.get_mut(&channel_id)?.is_closing = true;
            CloseChannel { channel_id, reason_code: Str255::cut("bye") }.append(&mut frame);
        } else {
            let nominal_hash_rate = [0.0, 1.0, 50.0][chance.index(3)];
            UpdateChannel { channel_id, nominal_hash_rate, maximum_target: Target::MAX }
                .append(&mut frame);
        }
        Some((self.seal(&frame), leaves.then_some(channel_id)))
    }

    fn ids(&self) -> Vec<u32> {
        self.channels.iter().filter(|(_, it)| !it.is_closing).map(|(id, _)| *id).collect()
    }

    /// A submit of one of its channels, with the channel and the sequence number.
    pub fn submit(&mut self, now: u64, chance: &mut Chance) -> Option<(u32, u32, Vec<u8>)> {
        let ids = self.ids();
        let channel_id = *ids.get(chance.index(ids.len().max(1)))?;
        let lane = &mut self.channels.get_mut(&channel_id)?.lane;
        let mut claim = lane.mine(now, 0x1fff_e000, chance)?;
        let mut job_id: u32 = claim.wire.parse().unwrap();
        let kind = chance.below(60);
        let mut rolled = claim.extranonce2.to_vec();
        match kind {
            0 => job_id ^= 0x4000_0000,
            1 if !self.is_standard => rolled.push(0),
            _ => {}
        }
        claim.is_broken = kind == 0 || rolled.len() > 8;
        self.next += 1;
        let sequence_number = self.next;
        let (nonce, ntime, version) = (claim.nonce, claim.ntime, claim.version);
        lane.sent.insert(sequence_number, claim);
        let share =
            SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version };
        let mut frame = Vec::new();
        if self.is_standard {
            share.append(&mut frame);
        } else {
            let extranonce = Bytes32::new(&rolled).unwrap();
            SubmitSharesExtended { share, extranonce, worker: None }.append(&mut frame);
        }
        Some((channel_id, sequence_number, self.seal(&frame)))
    }

    /// Takes what the gateway sends; returns what to answer at once.
    pub fn receive(&mut self, bytes: &[u8], scene: Scene<'_>, chance: &mut Chance) -> Vec<u8> {
        self.inbox.extend_from_slice(bytes);
        if let Some(act2) = self.inbox.first_chunk::<234>()
            && let Some(initiator) = self.initiator.take()
        {
            self.transport = Some(initiator.on_act2(act2, scene.unix).unwrap());
            self.inbox.drain(..234);
            return self.set_up(chance);
        }
        let Some(mut transport) = self.transport.take() else { return Vec::new() };
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut rest = &mut inbox[..];
        while !rest.is_empty() {
            let (block, behind) = rest.split_first_chunk_mut().expect("a whole frame");
            let header = Header::decode(transport.reader.open_header(block).unwrap());
            let (sealed, behind) = behind.split_at_mut(Opener::sealed_len(header.len as usize));
            let payload = transport.reader.open_payload(sealed).unwrap();
            let message = ServerMessage::decode(header, payload, Extensions::default()).unwrap();
            self.on_message(&message, scene);
            rest = behind;
        }
        self.transport = Some(transport);
        Vec::new()
    }

    fn set_up(&mut self, chance: &mut Chance) -> Vec<u8> {
        let mut frame = Vec::new();
        SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: u32::from(self.is_standard),
            endpoint_host: Str255::cut("gateway"),
            endpoint_port: 23334,
            vendor: Str255::cut("sim"),
            hardware_version: Str255::cut("1"),
            firmware: Str255::cut("0"),
            device_id: Str255::cut(""),
        }
        .append(&mut frame);
        let mut out = self.seal(&frame);
        for _ in 0..=chance.below(if self.is_standard { 2 } else { 4 }) {
            out.extend(self.open(chance));
        }
        out
    }

    fn on_message(&mut self, message: &ServerMessage<'_>, scene: Scene<'_>) {
        use ServerMessage as M;
        match message {
            M::SetupConnectionSuccess(_) | M::Reconnect(_) => {}
            M::OpenStandardMiningChannelSuccess(open) => {
                assert_eq!(open.extranonce_prefix.get().len(), 12);
                let prefix = open.extranonce_prefix.get();
                self.enter(open.channel_id, open.group_channel_id, prefix, open.target);
            }
            M::OpenExtendedMiningChannelSuccess(open) => {
                assert_eq!((open.extranonce_size, open.extranonce_prefix.get().len()), (8, 4));
                let prefix = open.extranonce_prefix.get();
                self.enter(open.channel_id, open.group_channel_id, prefix, open.target);
            }
            M::NewMiningJob(job) => self.on_job(job, scene),
            M::NewExtendedMiningJob(job) => self.on_extended(job, scene),
            M::SetNewPrevHash(prevhash) => self.on_prevhash(prevhash, scene),
            M::SetTarget(set) => {
                for id in self.addressed(set.channel_id) {
                    self.channels.get_mut(&id).unwrap().target = set.maximum_target;
                }
            }
            M::SetGroupChannel(set) => {
                for member in set.channel_ids.iter() {
                    if let Some(channel) = self.channels.get_mut(&member) {
                        channel.group = set.group_channel_id;
                    }
                }
            }
            M::SubmitSharesSuccess(success) => {
                let Some(channel) = self.channels.get_mut(&success.channel_id) else { return };
                let at = channel.order.iter().position(|it| *it == success.last_sequence_number);
                let at = at.expect("a number that was not sent, or answered before");
                let covered: Vec<u32> = channel.order.drain(..=at).collect();
                assert_eq!(covered.len(), success.new_submits_accepted_count as usize);
                covered.iter().for_each(|number| channel.answer(*number, true, None));
            }
            M::SubmitSharesError(error) => {
                let Some(channel) = self.channels.get_mut(&error.channel_id) else { return };
                assert_eq!(channel.order.first(), Some(&error.sequence_number), "out of order");
                channel.order.remove(0);
                let code = error.error_code.to_string();
                channel.answer(error.sequence_number, false, Some(&code));
            }
            other => panic!("{other:?}"),
        }
    }

    fn enter(&mut self, id: u32, group: u32, prefix: &[u8], target: Target) {
        self.opening -= 1;
        let mut lane = Lane::default();
        lane.prefix = prefix.to_vec();
        let channel = Channel {
            lane,
            group,
            target,
            future: BTreeMap::new(),
            prevhash: None,
            order: Vec::new(),
            is_closing: false,
        };
        assert!(self.channels.insert(id, channel).is_none(), "two channels of one id");
    }

    fn on_job(&mut self, job: &NewMiningJob, scene: Scene<'_>) {
        let NewMiningJob { channel_id, job_id: id, min_ntime, version, merkle_root } = *job;
        // It may be for a channel that has just been closed.
        let Some(channel) = self.channels.get_mut(&channel_id) else { return };
        channel.take(Told { id, version, root: Root::Given(merkle_root) }, min_ntime, scene);
    }

    fn on_extended(&mut self, job: &NewExtendedMiningJob<'_>, scene: Scene<'_>) {
        let told = Told {
            id: job.job_id,
            version: job.version,
            root: Root::Parts {
                coinb1: job.coinbase_tx_prefix.get().into(),
                coinb2: job.coinbase_tx_suffix.get().into(),
                branches: job.merkle_path.iter().collect(),
            },
        };
        for id in self.addressed(job.channel_id) {
            self.channels.get_mut(&id).unwrap().take(told.clone(), job.min_ntime, scene);
        }
    }

    fn on_prevhash(&mut self, message: &SetNewPrevHash, scene: Scene<'_>) {
        for id in self.addressed(message.channel_id) {
            let channel = self.channels.get_mut(&id).unwrap();
            let told = channel.future.remove(&message.job_id).expect("a future job that it lacks");
            channel.future.clear();
            channel.prevhash = Some((message.prev_hash, message.min_ntime, message.nbits));
            channel.begin(told, message.min_ntime, scene);
        }
    }

    /// The channel, or all of the group.
    fn addressed(&self, id: u32) -> Vec<u32> {
        let is_it = |(it, channel): &(&u32, &Channel)| **it == id || channel.group == id;
        self.channels.iter().filter(is_it).map(|(id, _)| *id).collect()
    }
}

impl Channel {
    fn take(&mut self, told: Told, min_ntime: Option<u32>, scene: Scene<'_>) {
        match min_ntime {
            None => _ = self.future.insert(told.id, told),
            Some(ntime) => self.begin(told, ntime, scene),
        }
    }

    fn begin(&mut self, told: Told, ntime: u32, scene: Scene<'_>) {
        let (prevhash, mintime, nbits) = self.prevhash.expect("a job for now, on no prevhash");
        assert!(ntime >= mintime);
        let job: JobId = scene.work.latest().id;
        let wire: Arc<str> = told.id.to_string().into();
        assert!(self.lane.jobs.iter().all(|job| job.wire != wire), "an id twice");
        self.lane.give(RigJob {
            wire,
            job,
            version: told.version,
            prevhash,
            nbits,
            ntime,
            root: told.root,
            target: self.target,
            given_at: scene.now,
            here_at: scene.here_at,
        });
    }

    /// The gateway has read submit `number`.
    pub fn judged(&mut self, number: u32) {
        self.order.push(number);
    }

    fn answer(&mut self, number: u32, accepted: bool, why: Option<&str>) {
        let due = self.lane.due.remove(&number).expect("an answer to what was not sent");
        self.lane.count(due.expected, accepted, why);
    }
}
