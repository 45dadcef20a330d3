//! One connection to a pool, from HELLO to its end: bytes, templates and shares in; bytes and
//! events out. Knows nothing of sockets or other connections.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{
    awaiting::{Awaiting, Sent},
    coinbaser::{self, CoinbaserFault},
    event::{Configured, PoolEvent, PoolFault, Unsent},
    liveness::{Liveness, LivenessError, Trust},
    owed::{Answered, PendingCoinbasers},
    protocol::{
        cipher::{CipherError, Identity, PublicIdentity},
        codec::DecodeError,
        frame::command,
        handshake::{Handshake, HandshakeError},
        link::{Frame, Link, LinkError},
        message::{
            CoinbaserMessage, Configuration, ShareFlags, ShareMessage, ShareReason, ShareResponse,
            ToGateway, ToPool, Validation, Wanted,
        },
        proof::ShortIds,
    },
    slots::JobSlots,
    validation,
};
use crate::work::{CoinbaserRequest, Share, Template, TemplateKind, printable_bytes};

/// The gateway's side of one connection.
pub struct Client {
    link: Link,
    handshake: Handshake,
    /// The key that the pool signs with; none before its response.
    pool_session: Option<PublicIdentity>,
    /// Only the pool knows our session key, since its response was sealed.
    session_is_secret: bool,
    configured: bool,
    short_ids: ShortIds,
    rng: StdRng,
    slots: JobSlots,
    owed: PendingCoinbasers,
    awaiting: Awaiting,
    /// Shares given up since the last [`Self::take_unanswered`].
    unanswered: usize,
    liveness: Liveness,
    template: Option<Arc<Template>>,
    unknown_seen: UnknownSeen,
}

impl Client {
    /// Writes HELLO. `seed` feeds session keys and padding.
    pub fn new(
        keys: &Identity,
        pool: PublicIdentity,
        user_agent: &str,
        timeout: Duration,
        seed: [u8; 32],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Self, ClientError> {
        let mut rng = StdRng::from_seed(seed);
        let (handshake, link) = Handshake::start(keys, pool, user_agent, &mut rng, out)?;
        Ok(Self {
            link,
            handshake,
            pool_session: None,
            session_is_secret: false,
            configured: false,
            short_ids: ShortIds::new(keys.public(), &pool),
            rng,
            slots: JobSlots::default(),
            owed: PendingCoinbasers::default(),
            awaiting: Awaiting::default(),
            unanswered: 0,
            liveness: Liveness::new(timeout, now),
            template: None,
            unknown_seen: UnknownSeen::default(),
        })
    }

    /// Takes what the pool sent. After an error the connection must end.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        self.link.push(bytes);
        while let Some(frame) = self.link.next(self.handshake.session())? {
            self.on_frame(&frame, now, out, events)?;
            self.liveness.on_message(now);
            // A few bytes can ask for whole blocks, so a single read could ask for gigabytes.
            if out.len() > OUT_MAX {
                return Err(ClientError::Unread);
            }
        }
        Ok(())
    }

    /// Requests the split for a new full template, now or once the pool has configured us.
    pub fn on_template(
        &mut self,
        template: &Arc<Template>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        if template.kind == TemplateKind::Full {
            self.template = Some(Arc::clone(template));
            if self.configured {
                self.ask(now, out)?;
            }
        }
        Ok(())
    }

    /// True if a share may be sent now, however many answers are due: a pool need not give any.
    pub(crate) fn can_submit(&self) -> bool {
        self.configured
    }

    /// Sends a share. It comes back in an event, or from `into_parts`.
    pub fn submit(
        &mut self,
        share: Share,
        username: &str,
        replay: bool,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), (Share, Unsent)> {
        let padding = self.padding();
        let coinbase = share.job.coinbase(share.coinbase_id);
        let Some((slot, contexts)) = self.slots.contexts(&share.job, coinbase) else {
            return Err((share, Unsent::Solo));
        };
        let message = ShareMessage {
            slot,
            coinbase_id: coinbase.id.wire(),
            flags: ShareFlags::new(share.is_block, share.job.is_empty(), share.quickdiff),
            target_byte: share.target_byte,
            ntime: share.ntime,
            nonce: share.nonce,
            version: share.version,
            extranonce: &share.extranonce,
            username: username.as_bytes(),
            reserved: [0; 4],
            job: contexts.job,
            coinbase: contexts.coinbase,
            padding,
        };
        // Fails only without a channel or above 4 MiB; neither is possible here.
        if self.link.write_channel(None, out, |out| message.encode(out)).is_err() {
            return Err((share, Unsent::NotReady));
        }
        self.liveness.on_share(now);
        self.unanswered += self.awaiting.push(Sent::new(share, slot, now, replay));
        Ok(())
    }

    /// Shares sent but not answered, oldest first, and what was learnt about usernames.
    pub(super) fn into_parts(self) -> (impl DoubleEndedIterator<Item = Sent>, Trust) {
        (self.awaiting.into_all(), self.liveness.into_trust())
    }

    /// What was learnt on earlier connections to this pool.
    pub(super) fn set_trust(&mut self, trust: Trust) {
        self.liveness.set_trust(trust);
    }

    /// How many shares were given up, for want of an answer in time, since the last call.
    pub(crate) fn take_unanswered(&mut self) -> usize {
        std::mem::take(&mut self.unanswered)
    }

    pub fn awaiting(&self) -> usize {
        self.awaiting.len()
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.liveness.set_timeout(timeout);
    }

    /// The pool has accepted a share, or was sent none.
    pub(super) fn served(&self) -> bool {
        self.liveness.served()
    }

    /// When `on_deadline` is due.
    pub fn deadline(&self) -> Instant {
        let owed = self.owed.deadline().into_iter().chain(self.awaiting.deadline());
        owed.fold(self.liveness.deadline(), Instant::min)
    }

    pub fn on_deadline(
        &mut self,
        now: Instant,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        while let Some(request) = self.owed.give_up(now) {
            events.push(PoolEvent::CoinbaserLate { request });
        }
        self.unanswered += self.awaiting.expire(now);
        self.liveness.on_deadline(now).map_err(|dead| match dead {
            LivenessError::Unready(limit) => ClientError::Unready(limit),
            LivenessError::Silent(limit) => ClientError::Silent(limit),
            LivenessError::NoAcceptance(limit) => ClientError::NoAcceptance(limit),
        })
    }

    fn on_frame(
        &mut self,
        frame: &Frame,
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        match (frame.header.command, self.pool_session) {
            (command::RESPONSE, None) => {
                let welcome = self.handshake.finish(frame, &mut self.link)?;
                self.pool_session = Some(welcome.pool_session);
                self.session_is_secret = frame.header.sealed;
                events.push(PoolEvent::Welcome { motd: welcome.motd });
                Ok(())
            }
            (command::RESPONSE, Some(_)) => Err(ClientError::SecondResponse),
            (command::MINING, None) => Err(ClientError::TooEarly),
            // The C gateway would accept it; but then anybody on the way could configure us.
            (command::MINING, Some(_)) if !self.is_authentic(frame) => {
                Err(ClientError::Unencrypted)
            }
            (command::MINING, Some(signer)) => {
                let message = frame.verified(&signer).map_err(ClientError::Signature)?;
                self.on_mining(message, frame.header.signed, now, out, events)
            }
            (command::INFO, _) => {
                let text = frame.unchecked();
                let end = memchr::memchr(0, text).unwrap_or(text.len());
                events.push(PoolEvent::Info { text: printable_bytes(&text[..end], INFO_MAX) });
                Ok(())
            }
            (command::PING, _) => Ok(()),
            (command, _) => {
                if self.unknown_seen.first(command.into()) {
                    events.push(PoolEvent::Fault(PoolFault::UnknownCommand(command)));
                }
                Ok(())
            }
        }
    }

    /// Only the pool can have sent it: through the channel, signed, or sealed to a key that nobody
    /// else knows.
    fn is_authentic(&self, frame: &Frame) -> bool {
        let header = &frame.header;
        header.channel || header.signed || header.sealed && self.session_is_secret
    }

    fn on_mining(
        &mut self,
        message: &[u8],
        signed: bool,
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        let is_configuration = message.first() == Some(&0x99);
        match ToGateway::decode(message) {
            Ok(ToGateway::Configuration(configuration)) => {
                self.on_configuration(&configuration, signed, now, out, events)?;
            }
            Ok(ToGateway::Coinbaser(answer)) => self.on_coinbaser(&answer, now, events),
            Ok(ToGateway::ShareResponse(response)) => self.on_response(response, now, events),
            Ok(ToGateway::NewBlock) => events.push(PoolEvent::NewBlock),
            Ok(ToGateway::Validate { slot, wanted, indexes }) => {
                self.on_validate(slot, wanted, &indexes, out, events)?;
            }
            Err(error) if is_configuration && !self.configured => {
                return Err(ClientError::Configuration(PoolFault::Configuration(error)));
            }
            Err(error) if is_configuration => {
                events.push(PoolEvent::Fault(PoolFault::Configuration(error)));
            }
            Err(DecodeError::Kind(kind)) => {
                if self.unknown_seen.first(32 + usize::from(kind)) {
                    events.push(PoolEvent::Fault(PoolFault::UnknownKind(kind)));
                }
            }
            Err(error) => events.push(PoolEvent::Fault(PoolFault::Decode(error))),
        }
        Ok(())
    }

    fn on_configuration(
        &mut self,
        configuration: &Configuration<'_>,
        signed: bool,
        now: Instant,
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        match Configured::check(configuration, signed) {
            Ok(configured) => {
                events.push(PoolEvent::Configured(configured));
                self.configured = true;
                self.liveness.on_configured();
                // New terms need a new split.
                self.ask(now, out)
            }
            // An earlier one stays valid, if there was one.
            Err(fault) if self.configured => {
                events.push(PoolEvent::Fault(fault));
                Ok(())
            }
            Err(fault) => Err(ClientError::Configuration(fault)),
        }
    }

    fn ask(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), ClientError> {
        let Some(template) = &self.template else { return Ok(()) };
        if !self.owed.may_ask(now) {
            return Ok(());
        }
        let request = CoinbaserRequest::of(template);
        let message = ToPool::FetchCoinbaser { request, padding: self.padding() };
        self.link.write_channel(None, out, |out| message.encode(out))?;
        self.owed.ask(request, now);
        Ok(())
    }

    fn on_coinbaser(
        &mut self,
        answer: &CoinbaserMessage<'_>,
        now: Instant,
        events: &mut Vec<PoolEvent>,
    ) {
        let got = answer.value;
        let current = self.template.as_deref().map(CoinbaserRequest::of);
        let (request, fault) = match self.owed.answer(got, now) {
            Answered::Doubtful(request) if current == Some(request) => {
                (Some(request), CoinbaserFault::Doubtful { got })
            }
            // One for an earlier template is never used.
            Answered::For(request) | Answered::Doubtful(request) => {
                match coinbaser::check(answer, request) {
                    Ok(checked) => {
                        let (coinbaser, cut_at) = (Arc::new(checked.coinbaser), checked.cut_at);
                        return events.push(PoolEvent::Coinbaser { coinbaser, cut_at });
                    }
                    Err(fault) => (Some(request), fault),
                }
            }
            // What is outstanding may still be answered.
            Answered::Unasked(Some(asked)) => {
                (None, CoinbaserFault::Value { asked: asked.value, got })
            }
            Answered::Unasked(None) => (None, CoinbaserFault::Unasked { got }),
        };
        events.push(PoolEvent::CoinbaserRefused { request, fault });
    }

    fn on_response(&mut self, response: ShareResponse, now: Instant, events: &mut Vec<PoolEvent>) {
        // The target byte is not compared: pools send 0xFF with some rejections.
        let Some(sent) = self.awaiting.take(response.slot, response.nonce) else {
            events.push(PoolEvent::Fault(PoolFault::UnaskedResponse(response)));
            return;
        };
        let known = sent.replay && response.reason == ShareReason::DUPLICATE;
        let name = &sent.share.username.0;
        match response.status.is_accepted() || known {
            true => self.liveness.on_acceptance(name),
            false => self.liveness.on_refusal(name, response.reason, now),
        }
        let round_trip = now.saturating_duration_since(sent.at);
        events.push(PoolEvent::Answered { sent, response, round_trip });
    }

    fn on_validate(
        &mut self,
        slot: u8,
        wanted: Wanted,
        indexes: &[u16],
        out: &mut Vec<u8>,
        events: &mut Vec<PoolEvent>,
    ) -> Result<(), ClientError> {
        let padding = self.padding();
        let job = self.slots.told(slot).map(Arc::as_ref);
        let (slot, answer) = validation::answer(slot, job, wanted, indexes, &self.short_ids);
        // A whole block is sent without padding: it may need every byte of the frame.
        let padding = if matches!(answer, Validation::Block(_)) { &[] } else { padding };
        let message = ToPool::Validation { slot, answer, padding };
        self.link.write_channel(None, out, |out| message.encode(out))?;
        events.push(PoolEvent::Validated { slot, wanted });
        Ok(())
    }

    /// Padding of random length, so that lengths on the wire reveal little.
    fn padding(&mut self) -> &'static [u8] {
        &PADDING[..self.rng.gen_range(1..=PADDING.len())]
    }
}

/// Which unknown commands (0 to 31) and kinds (32 and up) have been logged.
#[derive(Debug, Default)]
struct UnknownSeen([u64; 5]);

impl UnknownSeen {
    fn first(&mut self, what: usize) -> bool {
        let Some(word) = self.0.get_mut(what / 64) else { return false };
        let bit = 1 << (what % 64);
        let first = *word & bit == 0;
        *word |= bit;
        first
    }
}

/// Why a connection must end, with the pool as the subject.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClientError {
    #[error("it sent {0}")]
    Link(#[from] LinkError),
    #[error("it sent {0}")]
    Handshake(#[from] HandshakeError),
    #[error("it sent {0}")]
    Signature(CipherError),
    #[error("it answered the handshake twice")]
    SecondResponse,
    #[error("it sent a mining message before the handshake ended")]
    TooEarly,
    #[error("it sent a mining message that is neither signed nor encrypted")]
    Unencrypted,
    #[error("it sent {0}, and there is no earlier one to fall back on")]
    Configuration(PoolFault),
    #[error("it sent no configuration within {0:?}")]
    Unready(Duration),
    #[error("it does not read what it is sent")]
    Unread,
    #[error("it has sent nothing for {0:?}")]
    Silent(Duration),
    #[error("it has accepted no share for {0:?}")]
    NoAcceptance(Duration),
}

/// With more than this unsent, a pool that does not read is given up: two whole blocks, and shares
/// besides.
pub(super) const OUT_MAX: usize = 16 << 20;
static PADDING: [u8; 80] = [0; 80];
const INFO_MAX: usize = 1024;
