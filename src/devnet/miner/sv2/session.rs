//! One connection of a miner over Stratum V2: messages and solved shares in, frames and work out.
//! No encryption, socket or clock here.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::channel::{Begin, Channel, Kind, Opened};
use crate::{
    devnet::{
        miner::{
            MinerOptions, MinerProtocol, MinerStats,
            in_flight::{ANSWER_TIMEOUT, InFlight},
            scan::{Found, HashWork},
        },
        sv2_link::Sv2LinkError,
    },
    sv2::codec::{
        Bytes32, DecodeError, Extensions, Message, OpenExtendedMiningChannel,
        OpenStandardMiningChannel, ServerMessage, SetupConnection, SetupConnectionSuccess, Str255,
        SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess, codes,
        protocol, setup_flags,
    },
    work::{Difficulty, Target},
};

/// Why a connection is of no use any more.
#[derive(Debug, Error)]
pub(in crate::devnet::miner) enum Sv2MinerClose {
    #[error(transparent)]
    Link(#[from] Sv2LinkError),
    #[error("the server sent a broken {0}")]
    Broken(#[from] DecodeError),
    #[error("the server refused to {0}: {1}")]
    Refused(&'static str, String),
    #[error("the server broke the protocol: {0}")]
    Violation(String),
    #[error("the server closed the channel: {0}")]
    Closed(String),
    #[error("the server asks to reconnect")]
    Reconnect {
        /// None: the same.
        host: Option<String>,
        /// None: the same.
        port: Option<u16>,
    },
    #[error("the server did not answer within {0:?}")]
    Silent(Duration),
}

/// A miner's side of Stratum V2.
pub(in crate::devnet::miner) struct Sv2MinerSession {
    options: MinerOptions,
    opened: Instant,
    /// None before `SetupConnection.Success`.
    setup: Option<SetupConnectionSuccess>,
    channel: Option<Channel>,
    work: Option<Arc<HashWork>>,
    serial: u64,
    /// The first serial since the last `SetNewPrevHash`: what is older must not be sent.
    clean_serial: u64,
    /// Serials of work and the ids of their jobs, the oldest first.
    jobs: VecDeque<(u64, u32)>,
    sequence_number: u32,
    in_flight: InFlight,
}

impl Sv2MinerSession {
    /// What we ask for: nothing.
    pub(super) const EXTENSIONS: Extensions = Extensions { worker_hashrate: false };

    /// Opens the conversation. Serials begin after `serial`, so that no two connections of a miner share
    /// one.
    pub(in crate::devnet::miner) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Self {
        let mut flags = 0;
        if kind_of(options) == (Kind::Standard { group_jobs: false }) {
            flags |= setup_flags::REQUIRES_STANDARD_JOBS;
        }
        if kind_of(options) == Kind::Extended && options.version_rolling {
            flags |= setup_flags::REQUIRES_VERSION_ROLLING;
        }
        let (host, port) = options.connect.rsplit_once(':').unwrap_or((&options.connect, ""));
        let (vendor, firmware) =
            options.user_agent.split_once('/').unwrap_or((&options.user_agent, ""));
        SetupConnection {
            protocol: protocol::MINING,
            min_version: VERSION,
            max_version: VERSION,
            flags,
            endpoint_host: Str255::cut(host),
            endpoint_port: port.parse().unwrap_or(0),
            vendor: Str255::cut(vendor),
            hardware_version: Str255::cut("processor"),
            firmware: Str255::cut(firmware),
            device_id: Str255::default(),
        }
        .append(out);
        Self {
            options: options.clone(),
            opened: now,
            setup: None,
            channel: None,
            work: None,
            serial,
            clean_serial: serial + 1,
            jobs: VecDeque::new(),
            sequence_number: 0,
            in_flight: InFlight::default(),
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        self.work.as_ref()
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.has_room()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_settled()
    }

    /// Handles a message of the server. Look at `work` afterwards.
    pub(super) fn on_message(
        &mut self,
        message: &ServerMessage<'_>,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2MinerClose> {
        use ServerMessage as M;
        match message {
            M::SetupConnectionSuccess(success) => self.on_setup(success, out),
            M::SetupConnectionError(error) => refused("set up", error.error_code),
            M::OpenMiningChannelError(error) => refused("open a channel", error.error_code),
            M::Reconnect(reconnect) => {
                let host = reconnect.new_host.to_str_lossy();
                let host = (!host.is_empty()).then(|| host.into_owned());
                let port = (reconnect.new_port != 0).then_some(reconnect.new_port);
                Err(Sv2MinerClose::Reconnect { host, port })
            }
            M::OpenStandardMiningChannelSuccess(success) => {
                let opened = Opened {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    extranonce_prefix: success.extranonce_prefix.get(),
                    extranonce_size: 0,
                    target: success.target,
                };
                self.on_opened(success.request_id, &opened, false, stats)
            }
            M::OpenExtendedMiningChannelSuccess(success) => {
                let opened = Opened {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    extranonce_prefix: success.extranonce_prefix.get(),
                    extranonce_size: success.extranonce_size,
                    target: success.target,
                };
                self.on_opened(success.request_id, &opened, true, stats)
            }
            _ => self.on_channel_message(message, now, stats),
        }
    }

    /// What only comes when there is a channel, and what is not for us.
    fn on_channel_message(
        &mut self,
        message: &ServerMessage<'_>,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        use ServerMessage as M;
        match message {
            M::NewMiningJob(job) => {
                stats.jobs += 1;
                let begin =
                    self.channel(job.channel_id)?.on_job(job).map_err(Sv2MinerClose::Violation)?;
                self.begin(begin);
            }
            M::NewExtendedMiningJob(job) => {
                stats.jobs += 1;
                let channel = self.channel(job.channel_id)?;
                let begin = channel.on_extended_job(job).map_err(Sv2MinerClose::Violation)?;
                self.begin(begin);
            }
            M::SetNewPrevHash(message) => {
                stats.clean_jobs += 1;
                let channel = self.channel(message.channel_id)?;
                let begin = channel.on_prevhash(message).map_err(Sv2MinerClose::Violation)?;
                self.clean_serial = self.serial + 1;
                self.in_flight.on_clean(&message.prev_hash, stats);
                self.begin(Some(begin));
            }
            M::SetTarget(message) => {
                self.channel(message.channel_id)?.target = message.maximum_target;
                stats.difficulty = message.maximum_target.difficulty();
            }
            M::SetExtranoncePrefix(message) => {
                let channel = self.channel(message.channel_id)?;
                let prefix = message.extranonce_prefix.get();
                channel.on_prefix(prefix).map_err(Sv2MinerClose::Violation)?;
            }
            M::SetGroupChannel(message) => {
                if let Some(channel) = &mut self.channel {
                    channel.on_group(message);
                }
            }
            M::CloseChannel(message) => {
                self.channel(message.channel_id)?;
                return Err(Sv2MinerClose::Closed(message.reason_code.to_string()));
            }
            M::SubmitSharesSuccess(success) => self.on_accepted(success, now, stats)?,
            M::SubmitSharesError(error) => self.on_refused(error, now, stats)?,
            // For requests that we never make, or not for us: to be ignored.
            _ => {}
        }
        Ok(())
    }

    /// Submits a solved share, unless a `SetNewPrevHash` has made it void.
    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) {
        let serial = found.work.serial;
        let job = self.jobs.iter().find(|(of, _)| *of == serial).map(|(_, id)| *id);
        let (Some(channel), Some(job_id)) = (&self.channel, job) else {
            stats.discarded += 1;
            return;
        };
        if serial < self.clean_serial {
            stats.discarded += 1;
            return;
        }
        let share = SubmitSharesStandard {
            channel_id: channel.id,
            sequence_number: self.sequence_number,
            job_id,
            nonce: found.nonce,
            ntime: found.ntime,
            version: found.version,
        };
        if kind_of(&self.options) == Kind::Extended {
            let mut extranonce = vec![0; channel.padding()];
            extranonce.extend_from_slice(found.extranonce2());
            let extranonce = Bytes32::new(&extranonce).unwrap_or_default();
            SubmitSharesExtended { share, extranonce, worker: None }.append(out);
        } else {
            share.append(out);
        }
        self.in_flight.on_sent(self.sequence_number.into(), found, now, stats);
        self.sequence_number = self.sequence_number.wrapping_add(1);
    }

    /// When `on_deadline` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let opening = self.channel.is_none().then(|| self.opened + OPEN_TIMEOUT);
        [opening, self.in_flight.deadline()].into_iter().flatten().min()
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        if self.channel.is_none() && now >= self.opened + OPEN_TIMEOUT {
            return Err(Sv2MinerClose::Silent(OPEN_TIMEOUT));
        }
        let answers = self.in_flight.on_deadline(now, stats);
        if answers { Ok(()) } else { Err(Sv2MinerClose::Silent(ANSWER_TIMEOUT)) }
    }

    /// Accounts for what is still open when the connection ends.
    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.in_flight.on_end(stats);
    }

    fn on_setup(
        &mut self,
        success: &SetupConnectionSuccess,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2MinerClose> {
        if self.setup.replace(*success).is_some() {
            return violation("it set up the connection twice");
        }
        if success.used_version != VERSION {
            return violation(format!("it chose version {}", success.used_version));
        }
        let options = &self.options;
        let user_identity = Str255::cut(&options.username);
        #[expect(clippy::cast_possible_truncation, reason = "a rough figure is all that is asked")]
        let nominal_hash_rate = options.hashrate_max.unwrap_or(HASHRATE) as f32;
        let difficulty = options.suggest_difficulty.and_then(Difficulty::new);
        let max_target = difficulty.map_or(Target::MAX, Target::from_difficulty);
        match kind_of(options) {
            Kind::Standard { .. } => OpenStandardMiningChannel {
                request_id: REQUEST_ID,
                user_identity,
                nominal_hash_rate,
                max_target,
            }
            .append(out),
            Kind::Extended => OpenExtendedMiningChannel {
                request_id: REQUEST_ID,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size: EXTRANONCE_SIZE_LEAST,
            }
            .append(out),
        }
        Ok(())
    }

    fn on_opened(
        &mut self,
        request_id: u32,
        opened: &Opened<'_>,
        extended: bool,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        let kind = kind_of(&self.options);
        let Some(setup) = self.setup else {
            return violation("it opened a channel before the connection was set up");
        };
        let expected = request_id == REQUEST_ID && extended == (kind == Kind::Extended);
        if !expected || self.channel.is_some() {
            return violation("it opened a channel that was not asked for");
        }
        if extended && opened.extranonce_size < EXTRANONCE_SIZE_LEAST {
            return violation(format!("it gave {} bytes to roll", opened.extranonce_size));
        }
        let fixed = setup.flags & setup_flags::REQUIRES_FIXED_VERSION != 0;
        let rolls_versions = self.options.version_rolling && !fixed;
        let channel =
            Channel::new(opened, kind, rolls_versions).map_err(Sv2MinerClose::Violation)?;
        stats.difficulty = channel.target.difficulty();
        self.channel = Some(channel);
        Ok(())
    }

    /// Our channel, if `id` means it.
    fn channel(&mut self, id: u32) -> Result<&mut Channel, Sv2MinerClose> {
        let channel = self.channel.as_mut().filter(|channel| channel.is_meant(id));
        channel.ok_or_else(|| Sv2MinerClose::Violation(format!("a message for channel {id}")))
    }

    fn begin(&mut self, begin: Option<Begin>) {
        let Some(Begin { job_id, job, extranonce, version_mask, target }) = begin else { return };
        self.serial += 1;
        let job = Arc::new(job);
        let work = HashWork::with_target(self.serial, job, extranonce, version_mask, target);
        self.work = Some(Arc::new(work));
        if self.jobs.len() == JOBS_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back((self.serial, job_id));
    }

    fn on_accepted(
        &mut self,
        success: &SubmitSharesSuccess,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        self.own_channel(success.channel_id)?;
        let last = success.last_sequence_number.into();
        let count = self.in_flight.on_accepted_up_to(last, now, stats);
        if count != u64::from(success.new_submits_accepted_count) {
            return violation(format!(
                "it accepted {} shares up to number {last}, of which {count} were under way",
                success.new_submits_accepted_count
            ));
        }
        Ok(())
    }

    fn on_refused(
        &mut self,
        error: &SubmitSharesError<'_>,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        self.own_channel(error.channel_id)?;
        let (number, kind) = (error.sequence_number.into(), error.error_code.to_string());
        let stale = error.error_code == codes::STALE_SHARE;
        if !self.in_flight.on_refused(number, kind, stale, now, stats) {
            return violation(format!("it refused share {number}, which was not under way"));
        }
        Ok(())
    }

    /// Answers to shares do not go to groups.
    fn own_channel(&self, id: u32) -> Result<(), Sv2MinerClose> {
        if self.channel.as_ref().is_some_and(|channel| channel.id == id) {
            return Ok(());
        }
        violation(format!("it answered to shares of channel {id}"))
    }
}

fn kind_of(options: &MinerOptions) -> Kind {
    match options.protocol {
        MinerProtocol::Sv2Extended => Kind::Extended,
        // The session of Stratum V1 is another.
        MinerProtocol::Sv2Standard | MinerProtocol::Sv1 => {
            Kind::Standard { group_jobs: options.group_jobs }
        }
    }
}

fn refused(what: &'static str, code: Str255<'_>) -> Result<(), Sv2MinerClose> {
    Err(Sv2MinerClose::Refused(what, code.to_string()))
}

fn violation(what: impl Into<String>) -> Result<(), Sv2MinerClose> {
    Err(Sv2MinerClose::Violation(what.into()))
}

/// The only one there is.
const VERSION: u16 = 2;
const REQUEST_ID: u32 = 1;
/// What we roll at least: room for as many coinbases as there are nonces.
const EXTRANONCE_SIZE_LEAST: u16 = 4;
/// Hashes per second, where no limit is set: what a core gives, about.
const HASHRATE: f64 = 5e6;
/// Jobs since the last `SetNewPrevHash` whose shares may still come out of the hasher.
const JOBS_MAX: usize = 16;
/// From our key to an open channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
