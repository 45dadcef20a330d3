//! A Stratum V2 client of the load: a connection with one channel or many.

mod channel;
mod dig;

use std::{mem, sync::Arc};

use bytes::BytesMut;

use self::{
    channel::{Channel, Future, Opened},
    dig::Body,
};
use super::{
    Speaks,
    conn::{HASHES_PER_TURN, LEN_MAX, LoadClient, LoadConn, LoadError},
    log::Log,
};
use crate::{
    clock::unix_seconds,
    devnet::sv2_link::Sv2Link,
    sv2::codec::{
        Extensions, Message, NewExtendedMiningJob, OpenExtendedMiningChannel,
        OpenStandardMiningChannel, ServerMessage, SetNewPrevHash, SetupConnection, Str255,
        protocol, setup_flags,
    },
    work::Target,
};

/// One connection.
pub(super) struct Sv2LoadClient {
    link: Sv2Link,
    session: Session,
    /// Frames, not yet sealed.
    plain: Vec<u8>,
    out: Vec<u8>,
}

/// What is said on it: no encryption here.
struct Session {
    log: Log,
    speaks: Speaks,
    users: Vec<String>,
    user_agent: String,
    /// Jobs are kept whole.
    submits: bool,
    channels: Vec<Channel>,
    /// Counts reads.
    batch: u64,
}

impl Sv2LoadClient {
    pub(super) fn new(conn: &LoadConn, log: Log) -> Result<Self, LoadError> {
        let mut out = Vec::new();
        let link = Sv2Link::open(conn.authority, LEN_MAX, &mut out)?;
        let session = Session {
            log,
            speaks: conn.speaks,
            users: conn.users.clone(),
            user_agent: conn.user_agent.clone(),
            submits: conn.submits,
            channels: Vec::new(),
            batch: 0,
        };
        Ok(Self { link, session, plain: Vec::new(), out })
    }

    /// Seals all frames that are to be sent.
    fn seal(&mut self) -> Result<(), LoadError> {
        Ok(self.link.seal(&mut self.plain, &mut self.out)?)
    }
}

impl Session {
    fn set_up(&self, out: &mut Vec<u8>) {
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
        .append(out);
    }

    /// Asks for all channels at once.
    fn open_channels(&self, out: &mut Vec<u8>) {
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
                .append(out);
            } else {
                let min_extranonce_size = 8;
                OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size,
                }
                .append(out);
            }
        }
    }

    fn on_message(
        &mut self,
        message: &ServerMessage<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        use ServerMessage as M;
        let (submits, batch) = (self.submits, self.batch);
        match message {
            M::SetupConnectionSuccess(_) => self.open_channels(out),
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
            M::Reconnect(_) => return Err(LoadError::HungUp),
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
}

impl LoadClient for Sv2LoadClient {
    fn on_input(&mut self, input: &mut BytesMut) -> Result<(), LoadError> {
        self.session.batch += 1;
        if !self.link.is_open() {
            self.link.on_handshake(input, unix_seconds())?;
            if self.link.is_open() {
                self.session.set_up(&mut self.plain);
            }
        }
        let (session, plain) = (&mut self.session, &mut self.plain);
        self.link.read(input, |header, payload| {
            let message = ServerMessage::decode(header, payload, Extensions::default())?;
            session.on_message(&message, plain)
        })?;
        self.seal()
    }

    fn submit(&mut self, wanted: usize) -> Result<bool, LoadError> {
        let mut hashes = 0;
        for channel in &mut self.session.channels {
            while channel.under_way() < wanted && hashes < HASHES_PER_TURN {
                match channel.submit_one(&self.session.log, &mut self.plain) {
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
        if !self.session.submits {
            // Thousands of idle connections keep no buffers.
            drop(mem::take(&mut self.out));
            drop(mem::take(&mut self.plain));
        }
    }

    fn log(&mut self) -> &mut Log {
        &mut self.session.log
    }

    fn state(&self) -> String {
        if !self.link.is_open() {
            return "in the handshake".into();
        }
        let Session { channels, log, .. } = &self.session;
        let digging = channels.iter().filter(|channel| channel.is_digging()).count();
        let under_way: usize = channels.iter().map(Channel::under_way).sum();
        let (channels, working) = (channels.len(), log.working);
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

fn refused(code: Str255<'_>) -> Result<(), LoadError> {
    Err(LoadError::Refused(code.to_string()))
}

fn text(text: &str) -> Str255<'_> {
    Str255::new(text).unwrap_or_default()
}

/// A megahash each second: what a processor has.
const HASHRATE: f32 = 1e6;
