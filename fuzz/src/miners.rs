//! What a miner, or anybody who finds the port, may send.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use gatewayd::{
    listener::header::{self, HeaderProgress},
    stratum::{Effects, Protocol},
    sv1,
    sv2::{
        Sv2Link,
        codec::{self, ClientMessage, Extensions, HEADER_LEN, ServerMessage},
        noise::{AuthorityKey, Identity, Initiator, Responder, Transport},
    },
};

use crate::work::{CURTIME, Desk, config, origin, start};

/// Stratum V1: lines. One that begins with a zero byte is not a line but an event: see [`news`].
pub fn sv1_session(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else { return };
    let mut talk = Talk::new(flags & 1 != 0, |desk| {
        sv1::Sv1Session::new(config(), origin(), &desk.work, start())
    });
    for line in data.split_inclusive(|byte| *byte == b'\n') {
        let told = match line.split_first() {
            Some((0, news)) => talk.news(news),
            _ => talk.receive(line),
        };
        let out = std::mem::take(&mut talk.out);
        for line in out.split_inclusive(|byte| *byte == b'\n') {
            let json = serde_json::from_slice::<serde_json::Value>(line);
            assert!(json.is_ok() && line.ends_with(b"\n"), "{}", line.escape_ascii());
        }
        if told.is_err() {
            return;
        }
    }
}

/// A message of either side: what can be read can be written again, and is the same.
pub fn sv2_messages(data: &[u8]) {
    let Some((head, payload)) = data.split_first_chunk::<HEADER_LEN>() else { return };
    let header = codec::Header::decode(*head);
    let extensions = Extensions::default();
    if let Ok(message) = ClientMessage::decode(header, payload, extensions) {
        let _ = format!("{message:?} {}", message.name());
    }
    if let Ok(message) = ServerMessage::decode(header, payload, extensions) {
        let _ = format!("{message:?} {}", message.name());
    }
}

/// Stratum V2: frames, sealed as by a client. The length in a frame's header is set here, because
/// the sealing client sets it; a frame of type 0xFF is not a frame but an event.
pub fn sv2_session(data: &[u8]) {
    let Some((flags, mut data)) = data.split_first() else { return };
    let mut talk = Talk::new(flags & 1 != 0, |desk| {
        Sv2Link::new(config(), Arc::clone(&IDENTITY), origin(), &desk.work, start())
    });
    let Some(mut transport) = shake_hands(&mut talk) else { return };
    while let Some((head, rest)) = data.split_first_chunk::<4>() {
        let [extension, msg_type, len_low, len_high] = *head;
        let len = usize::from(u16::from_le_bytes([len_low, len_high])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        data = rest;
        let told = if msg_type == 0xFF {
            talk.news(payload)
        } else {
            // Bit 15 means "to a channel"; the known extensions are 0 and 2.
            let extension = u16::from(extension & 0x7F) | u16::from(extension >> 7) << 15;
            let mut frame = extension.to_le_bytes().to_vec();
            frame.push(msg_type);
            frame.extend_from_slice(&u32::try_from(len).unwrap_or(0).to_le_bytes()[..3]);
            frame.extend_from_slice(payload);
            let mut sealed = Vec::new();
            transport.writer.seal_frame(&frame, &mut sealed).expect("short enough");
            talk.receive(&sealed)
        };
        open_all(&mut transport, &mut talk.out);
        if told.is_err() {
            return;
        }
    }
}

/// The Noise handshake from both ends, and frames after it that nobody sealed.
pub fn sv2_noise(data: &[u8]) {
    let Some((act1, rest)) = data.split_first_chunk::<64>() else { return };
    let mut out = Vec::new();
    if let Ok(mut transport) = Responder::new(Arc::clone(&IDENTITY)).on_act1(act1, &mut out) {
        if let Some(block) = rest.first_chunk() {
            assert!(transport.reader.open_header(block).is_err(), "forged");
        }
    }
    if let Some(act2) = rest.first_chunk::<234>() {
        let initiator = Initiator::start(Some(AUTHORITY.public()), &mut out).expect("act 1");
        assert!(initiator.on_act2(act2, CURTIME).is_err(), "nobody knows the authority's key");
    }
}

/// A PROXY header: what follows it is never consumed, and more bytes never change it.
pub fn proxy(data: &[u8]) {
    let whole = header::read(data);
    if let Ok(HeaderProgress::Whole(used, _)) = whole {
        assert!((1..=data.len()).contains(&used), "{used}");
        assert_eq!(header::read(&data[..used]), whole);
        assert_eq!(header::read(&data[..used - 1]), Ok(HeaderProgress::Partial));
    }
    if whole == Ok(HeaderProgress::Partial) {
        assert!(data.len() < 1024, "it waits for more than a header may have");
    }
}

/// A session, work for it, and what it has sent.
struct Talk<P> {
    session: P,
    desk: Desk,
    now: Instant,
    inbox: Vec<u8>,
    out: Vec<u8>,
    effects: Effects,
}

impl<P: Protocol> Talk<P> {
    fn new(pooled: bool, open: impl FnOnce(&Desk) -> P) -> Self {
        let desk = Desk::new(pooled);
        let session = open(&desk);
        let (now, effects) = (start(), Effects::default());
        Self { session, desk, now, inbox: Vec::new(), out: Vec::new(), effects }
    }

    /// Like a connection: what is not used up is passed again, and a turn that was cut continues.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.inbox.extend_from_slice(bytes);
        loop {
            let (work, effects) = (&self.desk.work, &mut self.effects);
            effects.is_cut = false;
            let used = self
                .session
                .on_bytes(&mut self.inbox, work, self.now, &mut self.out, effects)
                .map_err(drop)?;
            self.inbox.drain(..used);
            for share in effects.shares.drain(..) {
                let met = effects.blocks.iter().any(|block| block.hash == share.hash);
                assert!(!share.is_block || met, "a block for the pool that no node was given");
            }
            effects.blocks.clear();
            if !effects.is_cut {
                return Ok(());
            }
        }
    }

    /// Time passes or work arrives: a byte each.
    fn news(&mut self, news: &[u8]) -> Result<(), ()> {
        for byte in news.iter().take(16) {
            match byte >> 4 {
                0..8 => {
                    self.desk.publish(*byte);
                    self.session.on_work(&self.desk.work, self.now, &mut self.out).map_err(drop)?;
                }
                8..12 => {
                    self.now += Duration::from_secs(1) * (1 << (byte & 15));
                    let work = &self.desk.work;
                    self.session.on_deadline(work, self.now, &mut self.out).map_err(drop)?;
                }
                _ => {
                    self.now = self.now.max(self.session.deadline());
                    let work = &self.desk.work;
                    self.session.on_deadline(work, self.now, &mut self.out).map_err(drop)?;
                }
            }
        }
        Ok(())
    }
}

fn shake_hands(talk: &mut Talk<Sv2Link>) -> Option<Transport> {
    let mut act1 = Vec::new();
    let initiator = Initiator::start(None, &mut act1).ok()?;
    talk.receive(&act1).ok()?;
    let act2 = std::mem::take(&mut talk.out);
    initiator.on_act2(act2.first_chunk()?, CURTIME).ok()
}

/// All that the session sends can be opened, and is a message that clients know.
fn open_all(transport: &mut Transport, out: &mut Vec<u8>) {
    let mut rest = &mut std::mem::take(out)[..];
    while let Some((block, behind)) = rest.split_first_chunk_mut() {
        let header = codec::Header::decode(transport.reader.open_header(block).expect("sealed"));
        let len = gatewayd::sv2::noise::Opener::sealed_len(header.len as usize);
        let (sealed, behind) = behind.split_at_mut(len);
        let payload = transport.reader.open_payload(sealed).expect("sealed");
        let message = ServerMessage::decode(header, payload, Extensions::default());
        let message = message.expect("what we write can be read");
        assert!(!matches!(message, ServerMessage::Unknown { .. }), "{message:?}");
        rest = behind;
    }
}

static AUTHORITY: LazyLock<AuthorityKey> =
    LazyLock::new(|| AuthorityKey::from_secret([7; 32]).expect("a key"));
static IDENTITY: LazyLock<Arc<Identity>> = LazyLock::new(|| {
    let lifetime = Duration::from_secs(1 << 30);
    Arc::new(Identity::issue(&AUTHORITY, CURTIME - 60, lifetime))
});
