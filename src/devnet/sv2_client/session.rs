//! The conversation: a connection is set up, channels are opened, and what the server says about them
//! is checked.

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use super::{
    channel::{Begin, Channel, Kind, Opened},
    link::Sv2LinkError,
};
use crate::{
    devnet::miner::{message::Root, scan::Found},
    sv2::codec::{
        DecodeError, Extensions, Message, NewExtendedMiningJob, OpenExtendedMiningChannel,
        OpenStandardMiningChannel, ServerMessage, SetupConnection, SetupConnectionSuccess, Str255,
        SubmitSharesError, SubmitSharesSuccess, protocol, setup_flags,
    },
    work::Target,
};

/// Why a connection has to end.
#[derive(Debug, Error)]
pub(in crate::devnet) enum Sv2ClientClose {
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

/// Who a client says it is.
pub(in crate::devnet) struct Setup<'a> {
    /// Where it connects to.
    pub(in crate::devnet) host: &'a str,
    pub(in crate::devnet) port: u16,
    pub(in crate::devnet) vendor: &'a str,
    pub(in crate::devnet) hardware: &'a str,
    pub(in crate::devnet) firmware: &'a str,
    pub(in crate::devnet) flags: u32,
}

/// The channels that are asked for.
pub(in crate::devnet) struct Wanted {
    pub(in crate::devnet) kind: Kind,
    /// One for each.
    pub(in crate::devnet) users: Vec<String>,
    pub(in crate::devnet) hashrate: f32,
    pub(in crate::devnet) max_target: Target,
    pub(in crate::devnet) extranonce_size_least: u16,
    pub(in crate::devnet) rolls_versions: bool,
    /// False: jobs are only looked at, so what nobody hashes is not kept.
    pub(in crate::devnet) hashes: bool,
}

/// What whoever mines has to know. Channels are numbered in the order in which they were opened.
pub(in crate::devnet) enum Event<'a> {
    /// The next channel is open.
    Opened {
        target: Target,
    },
    /// There is something to hash, in place of what there was.
    Begin {
        channel: usize,
        begin: Begin,
    },
    /// Holds for jobs that begin from now on.
    Target {
        target: Target,
    },
    Accepted {
        channel: usize,
        success: &'a SubmitSharesSuccess,
    },
    Refused {
        channel: usize,
        error: &'a SubmitSharesError<'a>,
    },
}

/// One connection of a client.
pub(in crate::devnet) struct Sv2Client {
    wanted: Wanted,
    /// None before `SetupConnection.Success`.
    setup: Option<SetupConnectionSuccess>,
    channels: Vec<Channel>,
    /// By the number of the request.
    answered: Vec<bool>,
    /// Counts what was read at once.
    read: u64,
}

type Heard = Result<(), Sv2ClientClose>;

impl Sv2Client {
    /// The flags that we request: none.
    pub(in crate::devnet) const EXTENSIONS: Extensions = Extensions { worker_hashrate: false };

    /// Opens the conversation.
    pub(in crate::devnet) fn open(setup: &Setup<'_>, wanted: Wanted, out: &mut Vec<u8>) -> Self {
        SetupConnection {
            protocol: protocol::MINING,
            min_version: protocol::VERSION,
            max_version: protocol::VERSION,
            flags: setup.flags,
            endpoint_host: Str255::cut(setup.host),
            endpoint_port: setup.port,
            vendor: Str255::cut(setup.vendor),
            hardware_version: Str255::cut(setup.hardware),
            firmware: Str255::cut(setup.firmware),
            device_id: Str255::default(),
        }
        .append(out);
        let answered = vec![false; wanted.users.len()];
        Self { wanted, setup: None, channels: Vec::new(), answered, read: 0 }
    }

    /// Whether a channel has been opened.
    pub(in crate::devnet) fn has_channel(&self) -> bool {
        !self.channels.is_empty()
    }

    /// What comes from now on was read later than what came before.
    pub(in crate::devnet) fn begin_read(&mut self) {
        self.read += 1;
    }

    /// Appends a solved share of job `job_id`.
    pub(in crate::devnet) fn submit(
        &self,
        channel: usize,
        (sequence_number, job_id): (u32, u32),
        found: &Found,
        out: &mut Vec<u8>,
    ) {
        if let Some(channel) = self.channels.get(channel) {
            channel.append_share(sequence_number, job_id, found, out);
        }
    }

    /// Handles a message of the server.
    pub(in crate::devnet) fn on_message(
        &mut self,
        message: &ServerMessage<'_>,
        out: &mut Vec<u8>,
        mut on_event: impl FnMut(Event<'_>) -> Heard,
    ) -> Heard {
        use ServerMessage as M;
        match message {
            M::SetupConnectionSuccess(success) => self.on_setup(success, out),
            M::SetupConnectionError(error) => refused("set up", error.error_code),
            M::OpenMiningChannelError(error) => refused("open a channel", error.error_code),
            M::Reconnect(reconnect) => {
                let host = reconnect.new_host.to_str_lossy();
                let host = (!host.is_empty()).then(|| host.into_owned());
                let port = (reconnect.new_port != 0).then_some(reconnect.new_port);
                Err(Sv2ClientClose::Reconnect { host, port })
            }
            M::OpenStandardMiningChannelSuccess(success) => {
                let opened = Opened {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    extranonce_prefix: success.extranonce_prefix.get(),
                    extranonce_size: 0,
                    target: success.target,
                };
                self.on_opened(success.request_id, &opened, false)?;
                on_event(Event::Opened { target: success.target })
            }
            M::OpenExtendedMiningChannelSuccess(success) => {
                let opened = Opened {
                    id: success.channel_id,
                    group: success.group_channel_id,
                    extranonce_prefix: success.extranonce_prefix.get(),
                    extranonce_size: success.extranonce_size,
                    target: success.target,
                };
                self.on_opened(success.request_id, &opened, true)?;
                on_event(Event::Opened { target: success.target })
            }
            _ => self.on_channel_message(message, on_event),
        }
    }

    /// Messages that only come when there is a channel, and those that are not for us.
    fn on_channel_message(
        &mut self,
        message: &ServerMessage<'_>,
        mut on_event: impl FnMut(Event<'_>) -> Heard,
    ) -> Heard {
        use ServerMessage as M;
        let read = self.read;
        match message {
            M::NewMiningJob(job) => {
                self.meant(job.channel_id, |at, channel| {
                    let begin = channel.on_job(job, read).map_err(Sv2ClientClose::Violation)?;
                    begin.map_or(Ok(()), |begin| on_event(Event::Begin { channel: at, begin }))
                })?;
            }
            M::NewExtendedMiningJob(job) => {
                let root = root_of(job, self.wanted.hashes);
                self.meant(job.channel_id, |at, channel| {
                    let begin = channel.on_extended_job(job, &root, read);
                    let begin = begin.map_err(Sv2ClientClose::Violation)?;
                    begin.map_or(Ok(()), |begin| on_event(Event::Begin { channel: at, begin }))
                })?;
            }
            M::SetNewPrevHash(message) => {
                self.meant(message.channel_id, |at, channel| {
                    let begin = channel.on_prevhash(message, read);
                    let begin = begin.map_err(Sv2ClientClose::Violation)?;
                    on_event(Event::Begin { channel: at, begin })
                })?;
            }
            M::SetTarget(message) => {
                let target = message.maximum_target;
                self.meant(message.channel_id, |_, channel| {
                    channel.target = target;
                    Ok(())
                })?;
                on_event(Event::Target { target })?;
            }
            M::SetExtranoncePrefix(message) => {
                let prefix = message.extranonce_prefix.get();
                self.meant(message.channel_id, |_, channel| {
                    channel.on_prefix(prefix).map_err(Sv2ClientClose::Violation)
                })?;
            }
            M::SetGroupChannel(message) => {
                self.channels.iter_mut().for_each(|channel| channel.on_group(message));
            }
            M::CloseChannel(message) => {
                self.meant(message.channel_id, |_, _| Ok(()))?;
                return Err(Sv2ClientClose::Closed(message.reason_code.to_string()));
            }
            M::SubmitSharesSuccess(success) => {
                let channel = self.own(success.channel_id)?;
                on_event(Event::Accepted { channel, success })?;
            }
            M::SubmitSharesError(error) => {
                let channel = self.own(error.channel_id)?;
                on_event(Event::Refused { channel, error })?;
            }
            // Answers to requests that we never make, or not for us: ignored.
            _ => {}
        }
        Ok(())
    }

    fn on_setup(&mut self, success: &SetupConnectionSuccess, out: &mut Vec<u8>) -> Heard {
        if self.setup.replace(*success).is_some() {
            return violation("it set up the connection twice");
        }
        if success.used_version != protocol::VERSION {
            return violation(format!("it chose version {}", success.used_version));
        }
        let Wanted { kind, ref users, hashrate, max_target, extranonce_size_least, .. } =
            self.wanted;
        for (request_id, user) in (REQUEST_ID_FIRST..).zip(users) {
            let (user_identity, nominal_hash_rate) = (Str255::cut(user), hashrate);
            match kind {
                Kind::Standard { .. } => OpenStandardMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                }
                .append(out),
                Kind::Extended => OpenExtendedMiningChannel {
                    request_id,
                    user_identity,
                    nominal_hash_rate,
                    max_target,
                    min_extranonce_size: extranonce_size_least,
                }
                .append(out),
            }
        }
        Ok(())
    }

    fn on_opened(&mut self, request_id: u32, opened: &Opened<'_>, extended: bool) -> Heard {
        let Wanted { kind, extranonce_size_least, rolls_versions, .. } = self.wanted;
        let Some(setup) = self.setup else {
            return violation("it opened a channel before the connection was set up");
        };
        let at = request_id.checked_sub(REQUEST_ID_FIRST).map(|at| at as usize);
        let answered = at.and_then(|at| self.answered.get_mut(at)).filter(|it| !**it);
        let Some(answered) = answered.filter(|_| extended == (kind == Kind::Extended)) else {
            return violation("it opened a channel that was not asked for");
        };
        if extended && opened.extranonce_size < extranonce_size_least {
            return violation(format!("it gave {} bytes to roll", opened.extranonce_size));
        }
        let fixed = setup.flags & setup_flags::REQUIRES_FIXED_VERSION != 0;
        let channel = Channel::new(opened, kind, rolls_versions && !fixed);
        self.channels.push(channel.map_err(Sv2ClientClose::Violation)?);
        *answered = true;
        Ok(())
    }

    /// Calls `on_channel` for each of our channels that `id` means, of which there is one at least.
    fn meant(
        &mut self,
        id: u32,
        mut on_channel: impl FnMut(usize, &mut Channel) -> Heard,
    ) -> Heard {
        let mut is_ours = false;
        for (at, channel) in self.channels.iter_mut().enumerate() {
            if channel.is_meant(id) {
                is_ours = true;
                on_channel(at, channel)?;
            }
        }
        if is_ours { Ok(()) } else { violation(format!("a message for channel {id}")) }
    }

    /// Answers to shares do not go to groups.
    fn own(&self, id: u32) -> Result<usize, Sv2ClientClose> {
        let at = self.channels.iter().position(|channel| channel.id == id);
        let what = || format!("it answered to shares of channel {id}");
        at.ok_or_else(|| Sv2ClientClose::Violation(what()))
    }
}

/// Where the roots of a job's headers come from; without all that it takes to hash one where nobody
/// will: only whether there are transactions.
fn root_of(job: &NewExtendedMiningJob<'_>, hashes: bool) -> Arc<Root> {
    let part = |part: &[u8]| if hashes { part.to_vec() } else { Vec::new() };
    let steps = if hashes { usize::MAX } else { 1 };
    Arc::new(Root::Coinbase {
        coinb1: part(job.coinbase_tx_prefix.get()),
        coinb2: part(job.coinbase_tx_suffix.get()),
        merkle_branch: job.merkle_path.iter().take(steps).collect(),
    })
}

fn refused(what: &'static str, code: Str255<'_>) -> Heard {
    Err(Sv2ClientClose::Refused(what, code.to_string()))
}

fn violation(what: impl Into<String>) -> Heard {
    Err(Sv2ClientClose::Violation(what.into()))
}

const REQUEST_ID_FIRST: u32 = 1;
