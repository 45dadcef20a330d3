//! A Stratum V2 client of the load: a connection with one channel or many.

mod channel;
mod dig;

use std::{
    mem,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;

use self::{
    channel::{Channel, Future, Opened},
    dig::Body,
};
use super::{
    Speaks,
    conn::{self, Conn, ConnError, HASHES_PER_TURN, LEN_MAX},
    log::Log,
};
use crate::{
    sv2::{
        codec::{
            Extensions, HEADER_LEN, Header, Message, NewExtendedMiningJob,
            OpenExtendedMiningChannel, OpenStandardMiningChannel, ServerMessage, SetNewPrevHash,
            SetupConnection, Str255, protocol, setup_flags,
        },
        noise::{ACT2_LEN, HEADER_BLOCK_LEN, Initiator, Opener, Transport},
    },
    work::Target,
};

/// One connection.
pub(super) struct Talk {
    log: Log,
    speaks: Speaks,
    users: Vec<String>,
    user_agent: String,
    /// Jobs are kept whole.
    submits: bool,
    phase: Phase,
    /// Frames, not yet sealed.
    plain: Vec<u8>,
    out: Vec<u8>,
    channels: Vec<Channel>,
    /// Counts reads.
    batch: u64,
}

enum Phase {
    Handshake(Option<Initiator>),
    Open { transport: Transport, header: Option<Header> },
}

impl Talk {
    pub(super) fn new(conn: &Conn, log: Log) -> Result<Self, ConnError> {
        let mut out = Vec::new();
        let initiator = Initiator::start(conn.authority, &mut out)?;
        Ok(Self {
            log,
            speaks: conn.speaks,
            users: conn.users.clone(),
            user_agent: conn.user_agent.clone(),
            submits: conn.submits,
            phase: Phase::Handshake(Some(initiator)),
            plain: Vec::new(),
            out,
            channels: Vec::new(),
            batch: 0,
        })
    }

    fn on_act2(&mut self, act2: &[u8; ACT2_LEN]) -> Result<(), ConnError> {
        let Phase::Handshake(initiator) = &mut self.phase else { return Ok(()) };
        let Some(initiator) = initiator.take() else { return Ok(()) };
        let transport = initiator.on_act2(act2, unix_now())?;
        self.phase = Phase::Open { transport, header: None };
        let (vendor, rest) = self.user_agent.split_once('/').unwrap_or((&self.user_agent, ""));
        SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: match self.speaks {
                Speaks::Sv2Standard => setup_flags::REQUIRES_STANDARD_JOBS,
                _ => 0,
            },
            endpoint_host: text("127.0.0.1"),
            endpoint_port: 0,
            vendor: text(vendor),
            hardware_version: text(rest),
            firmware: Str255::default(),
            device_id: Str255::default(),
        }
        .append(&mut self.plain);
        Ok(())
    }

    /// Asks for all channels at once.
    fn open_channels(&mut self) {
        for (request_id, user) in (0..).zip(&self.users) {
            let (user_identity, nominal_hash_rate) = (text(user), HASHRATE);
            let max_target = Target::MAX;
            if self.speaks == Speaks::Sv2Standard {
                OpenStandardMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                }
                .append(&mut self.plain);
            } else {
                let min_extranonce_size = 8;
                OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size,
                }
                .append(&mut self.plain);
            }
        }
    }

    fn on_message(&mut self, message: &ServerMessage<'_>) -> Result<(), ConnError> {
        use ServerMessage as M;
        let (submits, batch) = (self.submits, self.batch);
        match message {
            M::SetupConnectionSuccess(_) => self.open_channels(),
            M::OpenStandardMiningChannelSuccess(open) => {
                self.channels.push(Channel::new(&Opened {
                    id: open.channel_id,
                    group: open.group_channel_id,
                    target: open.target,
                    prefix: open.extranonce_prefix.get(),
                    rolled_len: 0,
                }))
            }
            M::OpenExtendedMiningChannelSuccess(open) => {
                self.channels.push(Channel::new(&Opened {
                    id: open.channel_id,
                    group: open.group_channel_id,
                    target: open.target,
                    prefix: open.extranonce_prefix.get(),
                    rolled_len: open.extranonce_size.into(),
                }))
            }
            M::NewMiningJob(job) => {
                let body = Arc::new(Body::Root(job.merkle_root));
                let future = Future { id: job.job_id, version: job.version, batch, body };
                self.on_job(job.channel_id, &future, job.min_ntime);
            }
            M::NewExtendedMiningJob(job) => {
                let body = Arc::new(body_of(job, submits));
                let future = Future { id: job.job_id, version: job.version, batch, body };
                self.on_job(job.channel_id, &future, job.min_ntime);
            }
            M::SetNewPrevHash(prevhash) => self.on_prevhash(prevhash),
            M::SetTarget(told) => {
                let told_to = |channel: &&mut Channel| channel.is_addressed(told.channel_id);
                let channels = self.channels.iter_mut().filter(told_to);
                channels.for_each(|channel| channel.target = told.maximum_target);
            }
            M::SetGroupChannel(group) => {
                for id in group.channel_ids.iter() {
                    let channel = self.channels.iter_mut().find(|channel| channel.id == id);
                    channel.into_iter().for_each(|it| it.group = group.group_channel_id);
                }
            }
            M::SubmitSharesSuccess(answer) => {
                if let Some(channel) = channel(&mut self.channels, answer.channel_id) {
                    channel.on_answer(answer.new_submits_accepted_count);
                    self.log.on_accepted(answer.new_submits_accepted_count);
                }
            }
            M::SubmitSharesError(error) => {
                if let Some(channel) = channel(&mut self.channels, error.channel_id) {
                    channel.on_answer(1);
                    self.log.on_rejected(error.error_code.to_string());
                }
            }
            M::SetupConnectionError(error) => return refused(error.error_code),
            M::OpenMiningChannelError(error) => return refused(error.error_code),
            M::CloseChannel(close) => return refused(close.reason_code),
            M::Reconnect(_) => return Err(ConnError::HungUp),
            _ => {}
        }
        Ok(())
    }

    fn on_job(&mut self, to: u32, job: &Future, min_ntime: Option<u32>) {
        let submits = self.submits;
        let addressed = self.channels.iter_mut().filter(|channel| channel.is_addressed(to));
        for channel in addressed {
            match min_ntime {
                Some(ntime) => channel.begin(job, ntime, submits, &mut self.log),
                None => channel.keep(job.clone()),
            }
        }
    }

    fn on_prevhash(&mut self, prevhash: &SetNewPrevHash) {
        let to = prevhash.channel_id;
        let addressed = self.channels.iter_mut().filter(|channel| channel.is_addressed(to));
        for channel in addressed {
            channel.on_prevhash(prevhash, self.batch, self.submits, &mut self.log);
        }
    }

    /// Reads one frame, if it is here.
    fn on_frame(&mut self, input: &mut BytesMut) -> Result<bool, ConnError> {
        let Phase::Open { transport, header } = &mut self.phase else {
            if input.len() < ACT2_LEN {
                return Ok(false);
            }
            let act2 = input.split_to(ACT2_LEN);
            let act2 = act2.first_chunk().ok_or(ConnError::TooLong)?;
            return self.on_act2(act2).map(|()| true);
        };
        let Some(known) = *header else {
            let Some(block) = input.first_chunk::<HEADER_BLOCK_LEN>() else { return Ok(false) };
            let opened = Header::decode(transport.reader.open_header(block)?);
            if opened.len as usize > LEN_MAX {
                return Err(ConnError::TooLong);
            }
            *header = Some(opened);
            let _ = input.split_to(HEADER_BLOCK_LEN);
            return Ok(true);
        };
        let len = Opener::sealed_len(known.len as usize);
        if input.len() < len {
            return Ok(false);
        }
        let mut sealed = input.split_to(len);
        let payload = transport.reader.open_payload(&mut sealed)?;
        *header = None;
        let message = ServerMessage::decode(known, payload, Extensions::default())?;
        self.on_message(&message)?;
        Ok(true)
    }

    /// Seals all frames that are to be sent.
    fn seal(&mut self) -> Result<(), ConnError> {
        let Phase::Open { transport, .. } = &mut self.phase else { return Ok(()) };
        let mut rest = self.plain.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + Header::decode(*header).len as usize;
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            transport.writer.seal_frame(frame, &mut self.out)?;
            rest = behind;
        }
        self.plain.clear();
        Ok(())
    }
}

impl conn::Talk for Talk {
    fn on_input(&mut self, input: &mut BytesMut) -> Result<(), ConnError> {
        self.batch += 1;
        while self.on_frame(input)? {}
        self.seal()
    }

    fn submit(&mut self, wanted: usize) -> Result<bool, ConnError> {
        let mut hashes = 0;
        for channel in &mut self.channels {
            while channel.under_way() < wanted && hashes < HASHES_PER_TURN {
                match channel.submit_one(&self.log, &mut self.plain) {
                    0 => break,
                    count => hashes += count,
                }
            }
        }
        self.seal()?;
        Ok(hashes >= HASHES_PER_TURN)
    }

    fn out(&self) -> &[u8] {
        &self.out
    }

    fn on_sent(&mut self) {
        self.out.clear();
        if !self.submits {
            // Thousands of idle connections keep no buffers.
            drop(mem::take(&mut self.out));
            drop(mem::take(&mut self.plain));
        }
    }

    fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    fn state(&self) -> String {
        if matches!(self.phase, Phase::Handshake(_)) {
            return "in the handshake".into();
        }
        let digging = self.channels.iter().filter(|channel| channel.is_digging()).count();
        let under_way: usize = self.channels.iter().map(Channel::under_way).sum();
        let (channels, working) = (self.channels.len(), self.log.working);
        format!("{channels} channels, {working} got work, {digging} have it, {under_way} under way")
    }
}

fn channel(channels: &mut [Channel], id: u32) -> Option<&mut Channel> {
    channels.iter_mut().find(|channel| channel.id == id)
}

/// As much of a job as is needed: what nobody hashes is not kept.
fn body_of(job: &NewExtendedMiningJob<'_>, submits: bool) -> Body {
    if !submits {
        return Body::Unread { empty: job.merkle_path.is_empty() };
    }
    Body::Coinbase {
        prefix: job.coinbase_tx_prefix.get().into(),
        suffix: job.coinbase_tx_suffix.get().into(),
        path: job.merkle_path.iter().collect(),
    }
}

fn refused(code: Str255<'_>) -> Result<(), ConnError> {
    Err(ConnError::Refused(code.to_string()))
}

fn text(text: &str) -> Str255<'_> {
    Str255::new(text).unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the wall clock")]
fn unix_now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// A megahash each second: what a processor has.
const HASHRATE: f32 = 1e6;
