//! The subscriber's side of ZMTP 3.x (rfc.zeromq.org/spec/37), for the one thing needed from a
//! node: its `hashblock` messages. Sans IO; `now` is an argument.
//!
//! Such a message is three short frames: the topic, the hash, and a count. A frame's length is
//! checked against that before anything of it is stored: anything longer, additional, or different
//! ends the session. Not here: the socket, and when to retry (`zmq`).

use std::time::{Duration, Instant};

use crate::work::{Hash256, printable_bytes};

/// One session with a publisher.
#[derive(Debug)]
pub struct Subscriber {
    state: State,
    /// Received but not parsed yet: less than the greeting, or than a frame.
    inbox: Vec<u8>,
    message: Message,
    block: Option<Block>,
    /// The last message's count.
    sequence: Option<u32>,
    opened_at: Instant,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// When the message or frame being received must be complete.
    begun_at: Option<Instant>,
    commands: Commands,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Greeting,
    /// Waits for READY from a peer that speaks 3.`minor`.
    Handshake {
        minor: u8,
    },
    Open {
        minor: u8,
    },
}

/// The parts of a message received so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Message {
    Nothing,
    Topic,
    Hash(Hash256),
}

/// A new block, as a node publishes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Block {
    pub(crate) hash: Hash256,
    /// How many messages were lost between the previous one and this.
    pub(crate) missed: u32,
}

/// Counts commands.
#[derive(Debug)]
struct Commands {
    since: Instant,
    count: usize,
}

/// Why a session ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ZmtpError {
    #[error("what answers there does not speak ZeroMQ: it starts with {0:?}")]
    NotZmtp(String),
    #[error("it speaks version {0} of ZeroMQ's protocol, but at least 3 is needed")]
    Old(u8),
    #[error("it requires the security mechanism {0:?}, but a node's publisher has none (\"NULL\")")]
    Mechanism(String),
    #[error("it refuses subscribers: {0:?}")]
    Refused(String),
    #[error("it is a {0:?} socket, not a publisher")]
    Socket(String),
    #[error("it announces a {what} of {length} bytes, but a node sends at most {max}")]
    TooLong { what: &'static str, length: u64, max: u64 },
    #[error("it sends a message that is not about a block: {0}")]
    Shape(&'static str),
    #[error("it sends {0}")]
    Malformed(&'static str),
    #[error("it sends more than {COMMANDS_MAX} commands in {COMMANDS_PERIOD:?}")]
    Flood,
    #[error("its {what} has not arrived after {limit:?}")]
    Slow { what: &'static str, limit: Duration },
    #[error("it has not answered a PING for {PONG_MAX:?}")]
    Silent,
}

impl ZmtpError {
    /// True for things that no node does, however busy it is.
    pub(crate) fn is_fault(&self) -> bool {
        !matches!(self, Self::Slow { what: HANDSHAKE, .. } | Self::Silent)
    }

    /// What the operator can do.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Slow { what: HANDSHAKE, .. } | Self::Silent => {
                "check whether the node hangs, and that zmq_hashblock is the address of its \
                 zmqpubhashblock"
            }
            Self::NotZmtp(_) => {
                "set zmq_hashblock to the address of the node's zmqpubhashblock (bitcoin-cli \
                 getzmqnotifications), which differs from that of its RPC"
            }
            _ => {
                "no node sends that: check what listens there, and set zmq_hashblock to the \
                 address of the node's zmqpubhashblock (bitcoin-cli getzmqnotifications)"
            }
        }
    }
}

impl Subscriber {
    /// Begins a session; what is to be sent is appended to `out`.
    pub fn new(now: Instant, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(&SIGNATURE);
        out.extend_from_slice(&VERSION);
        out.extend_from_slice(&NULL);
        // We are not the server; the rest is filler.
        out.resize(out.len() + GREETING_LEN - SERVER_AT, 0);
        Self {
            state: State::Greeting,
            inbox: Vec::new(),
            message: Message::Nothing,
            block: None,
            sequence: None,
            opened_at: now,
            heard_at: now,
            pinged_at: None,
            begun_at: None,
            commands: Commands { since: now, count: 0 },
        }
    }

    /// Takes received bytes. An error ends the session; blocks announced before it still count.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ZmtpError> {
        self.heard_at = now;
        self.pinged_at = None;
        self.inbox.extend_from_slice(bytes);
        let mut read = 0;
        while let Some(length) = self.on_next(read, now, out)? {
            read += length;
        }
        self.inbox.drain(..read);
        let is_between = self.inbox.is_empty() && self.message == Message::Nothing;
        self.begun_at = (!is_between).then(|| self.begun_at.unwrap_or(now));
        Ok(())
    }

    /// The last block announced since the previous call.
    pub fn take_block(&mut self) -> Option<Block> {
        self.block.take()
    }

    /// True once the subscription has been sent.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// When to call [`Self::on_deadline`].
    pub fn deadline(&self) -> Option<Instant> {
        let State::Open { minor } = self.state else {
            return Some(self.opened_at + HANDSHAKE_MAX);
        };
        let whole = self.begun_at.map(|at| at + MESSAGE_MAX);
        // Before 3.1 there are no PINGs.
        let alive = (minor > 0).then(|| match self.pinged_at {
            Some(at) => at + PONG_MAX,
            None => self.heard_at + PING_AFTER,
        });
        whole.into_iter().chain(alive).min()
    }

    /// Pings a silent peer; an error if a time limit has passed.
    pub fn on_deadline(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), ZmtpError> {
        let is_over = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let State::Open { minor } = self.state else {
            let late = is_over(self.opened_at, HANDSHAKE_MAX);
            let slow = ZmtpError::Slow { what: HANDSHAKE, limit: HANDSHAKE_MAX };
            return if late { Err(slow) } else { Ok(()) };
        };
        if self.begun_at.is_some_and(|at| is_over(at, MESSAGE_MAX)) {
            return Err(ZmtpError::Slow { what: "message's end", limit: MESSAGE_MAX });
        }
        match self.pinged_at {
            Some(at) if is_over(at, PONG_MAX) => return Err(ZmtpError::Silent),
            None if minor > 0 && is_over(self.heard_at, PING_AFTER) => {
                self.pinged_at = Some(now);
                command(b"PING", &NO_TTL, out);
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what is next in the inbox from `at` on: returns its length, or none if it is
    /// incomplete.
    fn on_next(
        &mut self,
        at: usize,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Option<usize>, ZmtpError> {
        if self.state == State::Greeting {
            return self.on_greeting(out);
        }
        let Some(frame) = Head::decode(&self.inbox[at..])? else { return Ok(None) };
        self.expect(&frame)?;
        let (start, end) = (at + frame.head_len, at + frame.head_len + frame.length);
        if self.inbox.len() < end {
            return Ok(None);
        }
        let mut body = [0; COMMAND_LEN_MAX];
        let body = &mut body[..frame.length];
        body.copy_from_slice(&self.inbox[start..end]);
        if frame.is_command {
            self.on_command(body, now, out)?;
            self.begun_at = None;
        } else {
            self.on_part(body)?;
            if self.message == Message::Nothing {
                self.begun_at = None;
            }
        }
        Ok(Some(end - at))
    }

    /// The first 64 bytes, refused as soon as one of them is wrong.
    fn on_greeting(&mut self, out: &mut Vec<u8>) -> Result<Option<usize>, ZmtpError> {
        let told = &self.inbox[..self.inbox.len().min(GREETING_LEN)];
        let is_wrong = |at: usize, byte| told.get(at).is_some_and(|told| *told != byte);
        if is_wrong(0, SIGNATURE[0]) || is_wrong(9, SIGNATURE[9]) {
            return Err(ZmtpError::NotZmtp(excerpt(told)));
        }
        let Some(major) = told.get(MAJOR_AT) else { return Ok(None) };
        if *major < VERSION[0] {
            return Err(ZmtpError::Old(*major));
        }
        let Some(mechanism) = told.get(MECHANISM_AT..SERVER_AT) else { return Ok(None) };
        if mechanism != NULL {
            let name = mechanism.split(|byte| *byte == 0).next().unwrap_or_default();
            return Err(ZmtpError::Mechanism(excerpt(name)));
        }
        if told.len() < GREETING_LEN {
            return Ok(None);
        }
        let is_later = *major > VERSION[0];
        self.state = State::Handshake { minor: if is_later { VERSION[1] } else { told[MINOR_AT] } };
        command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x03SUB", out);
        Ok(Some(GREETING_LEN))
    }

    /// Refuses a frame by its first bytes, so that nothing of one that is too long is stored.
    fn expect(&self, frame: &Head) -> Result<(), ZmtpError> {
        if frame.is_command {
            return Ok(());
        }
        if !self.is_open() {
            return Err(ZmtpError::Malformed("a message before it is ready"));
        }
        let (what, length, is_last) = match self.message {
            Message::Nothing => ("its topic is not \"hashblock\"", TOPIC.len(), false),
            Message::Topic => ("its second part is not a hash of 32 bytes", HASH_LEN, false),
            Message::Hash(_) => ("its third part is not a count of 4 bytes", SEQUENCE_LEN, true),
        };
        if frame.length != length {
            return Err(ZmtpError::Shape(what));
        }
        match (frame.has_more, is_last) {
            (true, true) => Err(ZmtpError::Shape("it has more than three parts")),
            (false, false) => Err(ZmtpError::Shape("it has fewer than three parts")),
            _ => Ok(()),
        }
    }

    /// A message's next part, whose length is right.
    fn on_part(&mut self, part: &[u8]) -> Result<(), ZmtpError> {
        self.message = match self.message {
            Message::Nothing if part == TOPIC => Message::Topic,
            Message::Nothing => return Err(ZmtpError::Shape("its topic is not \"hashblock\"")),
            Message::Topic => {
                let hash = <[u8; HASH_LEN]>::try_from(part);
                let mut hash = hash.map_err(|_| ZmtpError::Shape("it has no hash"))?;
                // Reversed, as RPC shows it.
                hash.reverse();
                Message::Hash(Hash256(hash))
            }
            Message::Hash(hash) => {
                let sequence = <[u8; SEQUENCE_LEN]>::try_from(part);
                let sequence = sequence.map_err(|_| ZmtpError::Shape("it has no count"))?;
                self.on_block(hash, u32::from_le_bytes(sequence));
                Message::Nothing
            }
        };
        Ok(())
    }

    fn on_block(&mut self, hash: Hash256, sequence: u32) {
        let last = self.sequence.replace(sequence);
        // A count that goes backwards is another publisher's, or was reset.
        let missed = last.and_then(|last| sequence.checked_sub(last)?.checked_sub(1));
        let unread = self.block.map_or(0, |block| block.missed);
        self.block = Some(Block { hash, missed: missed.unwrap_or(0).saturating_add(unread) });
    }

    fn on_command(
        &mut self,
        body: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ZmtpError> {
        self.commands.add(now)?;
        let (name, data) = split_name(body)
            .ok_or(ZmtpError::Malformed("a command without a name, or a shorter one"))?;
        match (self.state, name) {
            (_, b"ERROR") => Err(ZmtpError::Refused(excerpt(data.get(1..).unwrap_or_default()))),
            (State::Handshake { minor }, b"READY") => {
                see_publisher(data)?;
                subscribe(minor, out);
                self.state = State::Open { minor };
                Ok(())
            }
            (State::Handshake { .. }, _) => {
                Err(ZmtpError::Malformed("another command than READY first"))
            }
            (_, b"PING") => {
                let context = data.get(NO_TTL.len()..).filter(|it| it.len() <= PING_CONTEXT_MAX);
                command(b"PONG", context.ok_or(ZmtpError::Malformed("an invalid PING"))?, out);
                Ok(())
            }
            // PONG, and commands of later versions.
            _ => Ok(()),
        }
    }
}

impl Commands {
    fn add(&mut self, now: Instant) -> Result<(), ZmtpError> {
        if now.saturating_duration_since(self.since) >= COMMANDS_PERIOD {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        if self.count > COMMANDS_MAX { Err(ZmtpError::Flood) } else { Ok(()) }
    }
}

/// A frame's first bytes.
struct Head {
    has_more: bool,
    is_command: bool,
    head_len: usize,
    length: usize,
}

impl Head {
    /// None while it is incomplete.
    fn decode(bytes: &[u8]) -> Result<Option<Self>, ZmtpError> {
        let Some(flags) = bytes.first() else { return Ok(None) };
        let (has_more, is_command) = (flags & MORE != 0, flags & COMMAND != 0);
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(ZmtpError::Malformed("a frame with reserved flags"));
        }
        if has_more && is_command {
            return Err(ZmtpError::Malformed("a command in several frames"));
        }
        let (length, head_len) = if flags & LONG == 0 {
            let Some(length) = bytes.get(1) else { return Ok(None) };
            (u64::from(*length), 2)
        } else {
            let Some(length) = bytes.get(1..9).and_then(|it| <[u8; 8]>::try_from(it).ok()) else {
                return Ok(None);
            };
            (u64::from_be_bytes(length), 9)
        };
        let (what, max) =
            if is_command { ("command", COMMAND_LEN_MAX) } else { ("frame", HASH_LEN) };
        match usize::try_from(length) {
            Ok(length) if length <= max => {
                Ok(Some(Self { has_more, is_command, head_len, length }))
            }
            _ => Err(ZmtpError::TooLong { what, length, max: max as u64 }),
        }
    }
}

/// Checks in READY's properties that the socket is a publisher.
fn see_publisher(mut data: &[u8]) -> Result<(), ZmtpError> {
    while !data.is_empty() {
        let (name, value, rest) =
            split_property(data).ok_or(ZmtpError::Malformed("a READY that cannot be parsed"))?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            let is_publisher = matches!(value, b"PUB" | b"XPUB");
            return if is_publisher { Ok(()) } else { Err(ZmtpError::Socket(excerpt(value))) };
        }
        data = rest;
    }
    Err(ZmtpError::Malformed("a READY without its Socket-Type"))
}

/// The name and the value of the first property, and what follows it.
fn split_property(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, rest) = split_name(data)?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (value, rest) = rest.split_at_checked(length)?;
    Some((name, value, rest))
}

/// A name after its length, and what follows it.
fn split_name(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = body.split_first()?;
    let (name, rest) = rest.split_at_checked((*length).into())?;
    (!name.is_empty()).then_some((name, rest))
}

/// Subscribes in the way of the peer's version: with a command since 3.1, before that with a
/// message.
fn subscribe(minor: u8, out: &mut Vec<u8>) {
    if minor > 0 {
        return command(b"SUBSCRIBE", TOPIC, out);
    }
    out.extend_from_slice(&[0, SUBSCRIPTION_LEN, 1]);
    out.extend_from_slice(TOPIC);
}

/// Appends a short command.
fn command(name: &[u8], data: &[u8], out: &mut Vec<u8>) {
    let (Ok(name_len), Ok(length)) =
        (u8::try_from(name.len()), u8::try_from(1 + name.len() + data.len()))
    else {
        return;
    };
    out.extend_from_slice(&[COMMAND, length, name_len]);
    out.extend_from_slice(name);
    out.extend_from_slice(data);
}

/// How much of a hostile text goes into an error.
fn excerpt(bytes: &[u8]) -> String {
    printable_bytes(bytes, EXCERPT_LEN)
}

const SIGNATURE: [u8; 10] = [0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F];
const VERSION: [u8; 2] = [3, 1];
const NULL: [u8; 20] = *b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Offsets in the greeting: after the mechanism come a byte that says who is the server, and
/// filler.
const MAJOR_AT: usize = 10;
const MINOR_AT: usize = 11;
const MECHANISM_AT: usize = 12;
const SERVER_AT: usize = 32;
const GREETING_LEN: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;
const TOPIC: &[u8] = b"hashblock";
/// A 1 for "subscribe", and the topic.
const SUBSCRIPTION_LEN: u8 = 10;
/// The longest part of a message.
const HASH_LEN: usize = 32;
const SEQUENCE_LEN: usize = 4;
/// READY may contain an identity of 255 bytes and a few more properties; libzmq's has 27 bytes.
const COMMAND_LEN_MAX: usize = 512;
/// Fixed by the protocol.
const PING_CONTEXT_MAX: usize = 16;
/// A PING's first two bytes: the time to live, which we leave to the peer.
const NO_TTL: [u8; 2] = [0, 0];
/// A node only answers ours; other publishers may send a PING a second.
const COMMANDS_MAX: usize = 120;
const COMMANDS_PERIOD: Duration = Duration::from_secs(60);
/// Once connected, a node takes milliseconds.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const HANDSHAKE: &str = "greeting";
/// A message leaves the node in one piece.
const MESSAGE_MAX: Duration = Duration::from_secs(5);
/// A host that vanished is noticed within a minute; between blocks nothing else is sent.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_MAX: Duration = Duration::from_secs(30);
const EXCERPT_LEN: usize = 40;

#[cfg(test)]
#[path = "zmtp_tests.rs"]
mod tests;
