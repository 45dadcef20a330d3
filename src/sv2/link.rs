//! The encrypted side of a session: handshake, sealed frames in, sealed frames out.

use std::{borrow::Cow, fmt, sync::Arc, time::Instant};

use super::{
    codec::{ClientMessage, DecodeError, Extensions, HEADER_LEN, Header, frame},
    noise::{ACT1_LEN, HEADER_BLOCK_LEN, Identity, NoiseError, Opener, Responder, Transport},
    session::{Sv2Session, violation},
};
use crate::{
    stratum::{Closing, Config, Effects, Origin, Protocol, Tally, TurnBudget},
    work::Work,
};

/// A Stratum V2 connection. Owned by its `MinerConnection`.
pub struct Sv2Link {
    phase: LinkPhase,
    session: Sv2Session,
}

#[expect(clippy::large_enum_variant, reason = "a connection is nearly always open")]
enum LinkPhase {
    /// Waits for the client's key.
    Handshake(Option<Responder>),
    Open {
        transport: Transport,
        /// The header of a frame whose payload has not arrived yet.
        header: Option<Header>,
    },
}

impl Sv2Link {
    pub fn new(
        config: Arc<Config>,
        identity: Arc<Identity>,
        origin: Origin,
        work: &Work,
        now: Instant,
    ) -> Self {
        Self {
            phase: LinkPhase::Handshake(Some(Responder::new(identity))),
            session: Sv2Session::new(config, origin, work, now),
        }
    }

    /// Seals the frames of `plain` into `out`.
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), Closing> {
        let LinkPhase::Open { transport, .. } = &mut self.phase else { return Ok(()) };
        let mut rest = plain;
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + Header::decode(*header).len as usize;
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            transport.writer.seal_frame(frame, out).map_err(|error| broken(&error))?;
            rest = behind;
        }
        Ok(())
    }

    /// Lets the session send something unasked.
    fn send_unasked(
        &mut self,
        out: &mut Vec<u8>,
        say: impl FnOnce(&mut Sv2Session, &mut Vec<u8>) -> Result<(), Closing>,
    ) -> Result<(), Closing> {
        // Growing it would cost five allocations for each miner at each tip.
        let mut plain = Vec::with_capacity(SPEECH_LEN);
        let said = say(&mut self.session, &mut plain);
        self.seal(&plain, out)?;
        said
    }

    /// Opens frames and lets the session answer. Returns the number of bytes used.
    fn on_frames(
        &mut self,
        inbox: &mut [u8],
        work: &Work,
        now: Instant,
        plain: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<usize, Closing> {
        let (mut used, mut turn) = (0, TurnBudget::default());
        while let LinkPhase::Open { transport, header } = &mut self.phase {
            let rest = inbox.get_mut(used..).unwrap_or_default();
            let Some(known) = *header else {
                let Some(block) = rest.first_chunk::<HEADER_BLOCK_LEN>() else { break };
                let opened = transport.reader.open_header(block).map_err(|error| broken(&error))?;
                let opened = Header::decode(opened);
                if opened.len as usize > frame::FRAME_LEN_MAX {
                    return Err(violation("sent a frame longer than 4096 bytes"));
                }
                *header = Some(opened);
                used += HEADER_BLOCK_LEN;
                continue;
            };
            let len = Opener::sealed_len(known.len as usize);
            let Some(sealed) = rest.get_mut(..len) else { break };
            if !turn.goes_on(plain.len()) {
                effects.is_cut = true;
                break;
            }
            let payload = transport.reader.open_payload(sealed).map_err(|error| broken(&error))?;
            *header = None;
            used += len;
            let message = read(known, payload, self.session.extensions(), &mut effects.tally)
                .map_err(|error| {
                    Closing::Violation(Cow::Owned(format!("sent a broken {error}")))
                })?;
            self.session.on_message(&message, work, now, plain, effects)?;
        }
        Ok(used)
    }
}

/// Reads a message. A share whose worker's name cannot be read is accepted without it: its work is
/// good, and its channel says whom it pays. The firmware would only reconnect and send the same
/// again.
pub(super) fn read<'a>(
    header: Header,
    payload: &'a [u8],
    extensions: Extensions,
    tally: &mut Tally,
) -> Result<ClientMessage<'a>, DecodeError> {
    match ClientMessage::decode(header, payload, extensions) {
        Err(error) if error.is_only_the_worker() => {
            tally.nameless += 1;
            ClientMessage::decode(header, payload, Extensions::default())
        }
        decoded => decoded,
    }
}

impl Protocol for Sv2Link {
    fn on_bytes(
        &mut self,
        inbox: &mut [u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<usize, Closing> {
        let mut used = 0;
        if let LinkPhase::Handshake(responder) = &mut self.phase {
            let Some(act1) = inbox.first_chunk::<ACT1_LEN>() else { return Ok(0) };
            let Some(responder) = responder.take() else { return Ok(0) };
            let transport = responder.on_act1(act1, out).map_err(|error| broken(&error))?;
            self.phase = LinkPhase::Open { transport, header: None };
            used = ACT1_LEN;
        }
        let mut plain = std::mem::take(&mut effects.frames);
        plain.clear();
        let rest = inbox.get_mut(used..).unwrap_or_default();
        let read = self.on_frames(rest, work, now, &mut plain, effects);
        // Also before closing: answers to accepted shares, and what went wrong.
        self.session.answer_shares(&mut plain);
        let sealed = self.seal(&plain, out);
        // The buffer of a flood is not kept.
        plain.clear();
        plain.shrink_to(FRAMES_KEPT);
        effects.frames = plain;
        let read = read?;
        sealed?;
        Ok(used + read)
    }

    fn on_work(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        self.send_unasked(out, |session, plain| session.on_work(work, now, plain))
    }

    fn on_config(&mut self, config: &Arc<Config>, work: &Work, now: Instant) {
        self.session.on_config(config, work, now);
    }

    fn deadline(&self) -> Instant {
        self.session.deadline()
    }

    fn on_deadline(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        self.send_unasked(out, |session, plain| session.on_deadline(work, now, plain))
    }

    fn is_proven(&self) -> bool {
        self.session.is_proven()
    }

    fn on_limit(&mut self, _: &Closing, out: &mut Vec<u8>) {
        // The connection ends anyway.
        let _ = self.send_unasked(out, |session, plain| {
            session.on_limit(plain);
            Ok(())
        });
    }

    fn on_eviction(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        self.send_unasked(out, |session, plain| {
            session.on_eviction(now, plain);
            Ok(())
        })
    }

    fn on_stop(&mut self, out: &mut Vec<u8>) {
        // The connection ends anyway.
        let _ = self.send_unasked(out, |session, plain| {
            session.on_stop(plain);
            Ok(())
        });
    }
}

impl fmt::Debug for Sv2Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Many times what a busy read needs.
const FRAMES_KEPT: usize = 1 << 18;
/// Room for a standard channel's job and the next tip's, or for most extended jobs.
const SPEECH_LEN: usize = 1024;

fn broken(error: &NoiseError) -> Closing {
    Closing::Violation(Cow::Owned(format!("sent what cannot be decrypted: {error}")))
}
