//! The session of a connection: messages in, frames out. No encryption, sockets or clock here.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    announce::JobAnnouncer,
    channel::{ChannelKind, ChannelOpening, MiningChannel, SubmittedShare},
    codec::{
        Bytes32, ClientMessage, Extensions, Message, OpenExtendedMiningChannelSuccess,
        OpenMiningChannelError, OpenStandardMiningChannelSuccess, Reconnect,
        SetCustomMiningJobError, SetupConnection, SetupConnectionError, SetupConnectionSuccess,
        Str255, SubmitSharesError, SubmitSharesStandard, UpdateChannel, UpdateChannelError, codes,
        protocol::VERSION, setup_flags,
    },
    evicted::EvictedChannels,
    request::{
        ChannelRequest, ClientSetup, SetupRefusal, class_of, code_of, floor_of, hashrate, refusal,
        user_agent,
    },
};
use crate::{
    stratum::{Closing, Config, Effects, MinerAccount, Origin, Pacing, is_urgent},
    work::{Reject, Target, Work, vardiff::DifficultyChange},
};

/// A miner's (or a proxy's) connection, once encrypted. Owned by its [`super::Sv2Link`].
pub(super) struct Sv2Session {
    config: Arc<Config>,
    origin: Origin,
    setup: Option<ClientSetup>,
    extensions: Extensions,
    /// By id, ascending.
    channels: Vec<MiningChannel>,
    announcer: JobAnnouncer,
    /// The connection's own extranonce1 is in use.
    own_place_used: bool,
    /// Channels with shares to answer at the end of this read.
    unanswered: Vec<u32>,
    evicted: EvictedChannels,
    /// For all its channels together.
    pacing: Pacing,
    /// Since when there is no channel; none while there is.
    idle_since: Option<Instant>,
    /// No later than the earliest vardiff deadline of its channels.
    vardiff_deadline: Instant,
}

impl Sv2Session {
    pub(super) fn new(config: Arc<Config>, origin: Origin, work: &Work, now: Instant) -> Self {
        Self {
            config,
            origin,
            setup: None,
            extensions: Extensions::default(),
            channels: Vec::new(),
            announcer: JobAnnouncer::default(),
            own_place_used: false,
            unanswered: Vec::new(),
            evicted: EvictedChannels::default(),
            pacing: Pacing::new(work, now),
            idle_since: Some(now),
            vardiff_deadline: now + FAR,
        }
    }

    pub(super) fn extensions(&self) -> Extensions {
        self.extensions
    }

    /// Handles one message. Answers are appended to `out`, except those to accepted shares: see
    /// [`Self::answer_shares`].
    pub(super) fn on_message(
        &mut self,
        message: &ClientMessage<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<(), Closing> {
        use ClientMessage as M;
        if let M::SetupConnection(setup) = message {
            return self.on_setup(setup, out);
        }
        if self.setup.is_none() {
            return Err(violation("did not begin with SetupConnection"));
        }
        match message {
            M::SubmitSharesStandard(share) => {
                let submit = SubmittedShare {
                    kind: ChannelKind::Standard,
                    share,
                    rolled: &[],
                    worker: None,
                };
                self.on_submit(&submit, work, now, out, effects);
            }
            M::SubmitSharesExtended(extended) => {
                let submit = SubmittedShare {
                    kind: ChannelKind::Extended,
                    share: &extended.share,
                    rolled: extended.extranonce.get(),
                    worker: extended.worker.map(|worker| worker.as_str()),
                };
                self.on_submit(&submit, work, now, out, effects);
            }
            M::OpenStandardMiningChannel(open) => {
                let request = ChannelRequest {
                    request_id: open.request_id,
                    kind: ChannelKind::Standard,
                    identity: open.user_identity.as_str(),
                    hashrate: open.nominal_hash_rate,
                    max_target: open.max_target,
                    extranonce_size: 0,
                };
                self.on_open(&request, work, now, out);
            }
            M::OpenExtendedMiningChannel(open) => {
                let request = ChannelRequest {
                    request_id: open.request_id,
                    kind: ChannelKind::Extended,
                    identity: open.user_identity.as_str(),
                    hashrate: open.nominal_hash_rate,
                    max_target: open.max_target,
                    extranonce_size: open.min_extranonce_size,
                };
                self.on_open(&request, work, now, out);
            }
            M::UpdateChannel(update) => self.on_update(update, work, now, out),
            M::CloseChannel(close) => self.end(close.channel_id, now),
            M::RequestExtensions(request) => self.extensions.grant(request, out),
            M::SetCustomMiningJob(custom) => SetCustomMiningJobError {
                channel_id: custom.channel_id,
                request_id: custom.request_id,
                error_code: codes::JD_NOT_SUPPORTED,
            }
            .append(out),
            // The specification says to ignore unknown messages.
            M::SetupConnection(_) | M::ChannelEndpointChanged(_) | M::Unknown { .. } => {}
        }
        Ok(())
    }

    /// Answers the accepted shares of a read, one message for each channel.
    pub(super) fn answer_shares(&mut self, out: &mut Vec<u8>) {
        for id in self.unanswered.drain(..) {
            if let Ok(at) = self.channels.binary_search_by_key(&id, |channel| channel.id) {
                self.channels[at].answer(out);
            }
        }
    }

    /// Notes new work, and announces it now or later.
    pub(super) fn on_work(
        &mut self,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Closing> {
        let mut urgent = self.pacing.see(work)?;
        for channel in &mut self.channels {
            channel.apply_rules(&self.config, work, now);
            channel.forget(work);
            let last = channel.given.last().map(|last| last.job);
            urgent |= is_urgent(work, last, channel.told, &channel.vardiff);
        }
        if self.pacing.is_now(work, urgent, self.origin.extranonce1(), now) {
            self.send_latest(work, now, out);
        }
        Ok(())
    }

    pub(super) fn on_config(&mut self, config: &Arc<Config>, work: &Work, now: Instant) {
        self.config = Arc::clone(config);
        let Some(setup) = &self.setup else { return };
        self.announcer.set_shows_newest_job(config.classes.shows_newest_job(&setup.user_agent));
        for channel in &mut self.channels {
            channel.set_class(class_of(config, setup, channel.kind));
            channel.apply_rules(config, work, now);
            channel.account.miner().describe(&setup.user_agent, channel.class);
            channel.account.forget_rules();
            channel.log_in(config, now);
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        if let Some(since) = self.idle_since {
            return self.patience().map_or(since + FAR, |patience| since + patience);
        }
        self.pacing.deadline(&self.config, self.vardiff_deadline)
    }

    pub(super) fn on_deadline(
        &mut self,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Closing> {
        if let Some(since) = self.idle_since {
            return match self.patience() {
                Some(patience) if now < since + patience => Ok(()),
                Some(patience) if self.setup.is_none() => Err(Closing::LoginTimeout(patience)),
                Some(patience) => Err(Closing::Idle(patience)),
                None => {
                    self.idle_since = Some(now);
                    Ok(())
                }
            };
        }
        self.pacing.check_silence(&self.config, now)?;
        if now >= self.vardiff_deadline {
            // A lower difficulty comes with the next job: the present one is not voided for it.
            for channel in &mut self.channels {
                let _ = channel.vardiff.on_deadline(now);
            }
            self.note_vardiff_deadline(now);
        }
        if self.pacing.is_due(now) {
            self.send_latest(work, now, out);
        }
        Ok(())
    }

    /// How long a connection may go without a channel. A proxy opens none before its first miner
    /// connects, which may be much later; so it gets the time of a miner without shares.
    fn patience(&self) -> Option<Duration> {
        let Config { login_timeout, idle_timeout, .. } = *self.config;
        if self.setup.is_none() {
            return Some(login_timeout);
        }
        (!idle_timeout.is_zero()).then_some(idle_timeout)
    }

    pub(super) fn is_proven(&self) -> bool {
        self.pacing.is_proven()
    }

    /// Ends its channels because a limit was crossed.
    pub(super) fn on_limit(&self, out: &mut Vec<u8>) {
        self.channels.iter().for_each(|channel| channel.close(codes::LIMIT_CROSSED, out));
    }

    /// Asks the client to reconnect to this address at once, when a new process listens.
    pub(super) fn on_stop(&self, out: &mut Vec<u8>) {
        if self.setup.is_some() {
            Reconnect { new_host: Str255::default(), new_port: 0 }.append(out);
        }
    }

    fn on_setup(&mut self, setup: &SetupConnection<'_>, out: &mut Vec<u8>) -> Result<(), Closing> {
        if self.setup.is_some() {
            return Err(violation("sent SetupConnection twice"));
        }
        if let Some(SetupRefusal { flags, error_code, why }) = refusal(setup) {
            SetupConnectionError { flags, error_code }.append(out);
            return Err(violation(why));
        }
        let user_agent = user_agent(setup);
        self.announcer.set_shows_newest_job(self.config.classes.shows_newest_job(&user_agent));
        self.setup = Some(ClientSetup {
            user_agent,
            requires_standard_jobs: setup.flags & setup_flags::REQUIRES_STANDARD_JOBS != 0,
        });
        SetupConnectionSuccess { used_version: VERSION, flags: 0 }.append(out);
        Ok(())
    }

    fn on_open(
        &mut self,
        request: &ChannelRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let request_id = request.request_id;
        self.catch_up(work, now, out);
        match self.open(request, work, now) {
            Ok(at) => self.welcome(request_id, at, work, now, out),
            Err(error_code) => OpenMiningChannelError { request_id, error_code }.append(out),
        }
    }

    /// The index of a new channel, or the error code.
    fn open(
        &mut self,
        request: &ChannelRequest<'_>,
        work: &Work,
        now: Instant,
    ) -> Result<usize, Str255<'static>> {
        let setup = self.setup.as_ref().ok_or(codes::UNSUPPORTED_PROTOCOL)?;
        if self.origin.may_log_in(self.pacing.is_proven(), now).is_err() {
            return Err(codes::TOO_MANY_LOGINS);
        }
        if request.kind == ChannelKind::Extended && setup.requires_standard_jobs {
            return Err(codes::EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS);
        }
        if request.extranonce_size > EXTRANONCE_SIZE {
            return Err(codes::MIN_EXTRANONCE_SIZE_TOO_LARGE);
        }
        let identity = request.identity.ok_or(codes::INVALID_USER_IDENTITY)?;
        if !self.origin.may_mine_as(identity, &self.config, now) {
            return Err(codes::INVALID_USER_IDENTITY);
        }
        let hashrate = hashrate(request.hashrate).ok_or(codes::INVALID_NOMINAL_HASHRATE)?;
        let own_floor = floor_of(&request.max_target).ok_or(codes::MAX_TARGET_OUT_OF_RANGE)?;
        if self.channels.len() >= CHANNELS_MAX {
            self.origin.refuse_channel();
            return Err(codes::CHANNEL_CAPACITY_EXHAUSTED);
        }
        let (extranonce1, place) = if self.own_place_used {
            let place = self.origin.channel(now).ok_or(codes::CHANNEL_CAPACITY_EXHAUSTED)?;
            (place.extranonce1(), Some(place))
        } else {
            self.own_place_used = true;
            (self.origin.extranonce1(), None)
        };
        let (class, class_floor) = class_of(&self.config, setup, request.kind);
        let (protocol, agent) = (request.kind.protocol(), &setup.user_agent);
        let opening = ChannelOpening {
            id: self.announcer.new_id(),
            kind: request.kind,
            account: MinerAccount::open(&self.origin, protocol, agent, class, now),
            identity,
            extranonce1,
            place,
            class,
            class_floor,
            own_floor,
            hashrate,
            seen: self.origin.seen(&self.config),
        };
        opening.account.log_in(identity, &self.config, now);
        self.channels.push(MiningChannel::new(opening, &self.config, work, now));
        if self.idle_since.take().is_some() {
            self.pacing.restart_at(now);
        }
        Ok(self.channels.len() - 1)
    }

    /// Announces a channel that was opened, and gives it its first work.
    fn welcome(
        &mut self,
        request_id: u32,
        at: usize,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        self.announcer.enter(&mut self.channels, at, work);
        let Some(channel) = self.channels.get_mut(at) else { return };
        let difficulty = channel.vardiff.difficulty();
        let (channel_id, group_channel_id) = (channel.id, channel.group);
        let target = Target::from_difficulty(difficulty).told();
        let extranonce = channel.extranonce;
        let prefix = |len| Bytes32::new(&extranonce[..len]).unwrap_or_default();
        match channel.kind {
            ChannelKind::Standard => OpenStandardMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_prefix: prefix(12),
                group_channel_id,
            }
            .append(out),
            ChannelKind::Extended => OpenExtendedMiningChannelSuccess {
                request_id,
                channel_id,
                target,
                extranonce_size: EXTRANONCE_SIZE,
                extranonce_prefix: prefix(4),
                group_channel_id,
            }
            .append(out),
        }
        channel.tell(difficulty);
        self.announcer.send_first(&mut self.channels, at, work, now, out);
        self.note_vardiff_deadline(now);
    }

    fn on_update(&mut self, update: &UpdateChannel, work: &Work, now: Instant, out: &mut Vec<u8>) {
        let channel_id = update.channel_id;
        let mut refuse = |error_code| UpdateChannelError { channel_id, error_code }.append(out);
        let Ok(at) = self.channels.binary_search_by_key(&channel_id, |channel| channel.id) else {
            return refuse(codes::INVALID_CHANNEL_ID);
        };
        let Some(hashrate) = hashrate(update.nominal_hash_rate) else {
            return refuse(codes::INVALID_NOMINAL_HASHRATE);
        };
        let Some(floor) = floor_of(&update.maximum_target) else {
            return refuse(codes::MAX_TARGET_OUT_OF_RANGE);
        };
        let channel = &mut self.channels[at];
        channel.set_own_floor(floor);
        channel.apply_rules(&self.config, work, now);
        if let Some(difficulty) = hashrate.and_then(|rate| self.config.difficulty_for(rate)) {
            channel.suggest(difficulty, now);
        }
        let harder = channel.told.is_some_and(|told| channel.vardiff.difficulty() > told);
        let may_renew = channel.may_renew(now);
        self.catch_up(work, now, out);
        let told = may_renew && self.announcer.renew(&mut self.channels, at, work, now, out);
        if harder && !told {
            // The specification requires an answer, even if no job comes with it.
            self.announcer.set_target(&mut self.channels, at, work, out);
        }
        self.note_vardiff_deadline(now);
    }

    /// The places of some channels are needed for others.
    pub(super) fn on_eviction(&mut self, now: Instant, out: &mut Vec<u8>) {
        for id in self.evicted.close(&mut self.channels, &self.origin.eviction, out) {
            self.end(id, now);
        }
    }

    /// `id`: a channel's, or a group's.
    fn end(&mut self, id: u32, now: Instant) {
        self.announcer.leave(&mut self.channels, id);
        if self.channels.is_empty() && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }

    fn on_submit(
        &mut self,
        submit: &SubmittedShare<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) {
        let SubmitSharesStandard { channel_id, sequence_number, .. } = *submit.share;
        let kind = submit.kind;
        let refuse = |error_code, out: &mut Vec<u8>| {
            SubmitSharesError { channel_id, sequence_number, error_code }.append(out);
        };
        let found = self.channels.binary_search_by_key(&channel_id, |channel| channel.id);
        let Some(at) = found.ok().filter(|at| self.channels[*at].kind == kind) else {
            effects.tally.reject(kind.protocol(), self.evicted.reject_of(channel_id), 0.0);
            return refuse(codes::INVALID_CHANNEL_ID, out);
        };
        let channel = &mut self.channels[at];
        match channel.on_submit(submit, &self.config, work, now, effects) {
            Ok(change) => {
                channel.prove();
                if self.pacing.on_share(now) {
                    self.origin.prove();
                }
                if !self.unanswered.contains(&channel_id) {
                    self.unanswered.push(channel_id);
                }
                if let Some(DifficultyChange::Quick(_)) = change {
                    self.catch_up(work, now, out);
                    self.announcer.renew(&mut self.channels, at, work, now, out);
                }
            }
            Err(reject) => {
                // An answer covers all shares up to one: those before this come first.
                channel.answer(out);
                refuse(code_of(reject), out);
                if reject == Reject::TooMany && channel.on_excess(now) {
                    self.catch_up(work, now, out);
                    self.announcer.renew(&mut self.channels, at, work, now, out);
                }
            }
        }
    }

    /// Sends now what is due later: then all channels have the same job before one is changed.
    fn catch_up(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) {
        if self.pacing.is_waiting() {
            self.send_latest(work, now, out);
        }
    }

    fn send_latest(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) {
        self.pacing.sent();
        self.announcer.send(&mut self.channels, work, now, out);
    }

    fn note_vardiff_deadline(&mut self, now: Instant) {
        let deadlines = self.channels.iter().map(|channel| channel.vardiff.deadline());
        self.vardiff_deadline = deadlines.min().unwrap_or(now + FAR);
    }
}

pub(super) fn violation(what: &'static str) -> Closing {
    Closing::Violation(Cow::Borrowed(what))
}

/// Together with the prefix's 4, the 12 that a DATUM pool demands.
const EXTRANONCE_SIZE: u16 = 8;
/// A proxy in front of a large farm; each takes about 1 KiB, and a place among `max_connections`.
const CHANNELS_MAX: usize = 8192;
/// In place of "never".
const FAR: Duration = Duration::from_secs(86_400);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
