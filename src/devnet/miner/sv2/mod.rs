//! The miner's side of Stratum V2, without socket or clock.
//!
//! `session` is the conversation, `channel` its one channel, standard or extended. This file wraps
//! them in Noise: sealed bytes in, sealed bytes out.

mod channel;
mod session;

use std::{sync::Arc, time::Instant};

use bytes::{Buf, BytesMut};

pub(super) use session::{Close, Session};

use super::{
    MinerOptions, MinerStats,
    scan::{Found, HashWork},
};
use crate::sv2::{
    codec::{HEADER_LEN, Header, Message, NewExtendedMiningJob, ServerMessage},
    noise::{ACT2_LEN, HEADER_BLOCK_LEN, Initiator, NoiseError, Opener, Transport},
};

/// One connection of a miner, encrypted.
pub(super) struct Link {
    phase: Phase,
    session: Session,
    /// Frames that are not sealed yet.
    plain: Vec<u8>,
}

enum Phase {
    /// Waits for the server's key.
    Handshake(Option<Initiator>),
    Open {
        transport: Transport,
        /// The header of a frame whose payload is not here yet.
        header: Option<Header>,
    },
}

impl Link {
    /// Opens the talk: appends our key to `out`. Serials begin after `serial`.
    pub(super) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Self, Close> {
        let initiator = Initiator::start(options.authority, out)?;
        let mut plain = Vec::new();
        let session = Session::open(options, serial, now, &mut plain);
        Ok(Self { phase: Phase::Handshake(Some(initiator)), session, plain })
    }

    /// Takes all whole frames from `input`. Look at `work` afterwards. `now_unix`, in seconds since
    /// 1970, is what the server's certificate is held against.
    pub(super) fn on_input(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        now_unix: u32,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if let Phase::Handshake(initiator) = &mut self.phase {
            let Some(act2) = input.first_chunk::<ACT2_LEN>() else { return Ok(()) };
            let initiator = initiator.take().ok_or(NoiseError::Ended)?;
            let transport = initiator.on_act2(act2, now_unix)?;
            input.advance(ACT2_LEN);
            self.phase = Phase::Open { transport, header: None };
        }
        let read = self.on_frames(input, now, stats);
        self.seal(out)?;
        read
    }

    fn on_frames(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Close> {
        while let Phase::Open { transport, header } = &mut self.phase {
            let Some(known) = *header else {
                let Some(block) = input.first_chunk::<HEADER_BLOCK_LEN>() else { break };
                let opened = Header::decode(transport.reader.open_header(block)?);
                if opened.len as usize > PAYLOAD_LEN_MAX {
                    return Err(Close::TooLong(opened.len));
                }
                input.advance(HEADER_BLOCK_LEN);
                *header = Some(opened);
                continue;
            };
            let len = Opener::sealed_len(known.len as usize);
            let Some(sealed) = input.get_mut(..len) else { break };
            let payload = transport.reader.open_payload(sealed)?;
            let message = ServerMessage::decode(known, payload, Session::EXTENSIONS)?;
            self.session.on_message(&message, now, stats, &mut self.plain)?;
            input.advance(len);
            *header = None;
        }
        Ok(())
    }

    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        self.session.on_found(found, now, stats, &mut self.plain);
        self.seal(out)
    }

    fn seal(&mut self, out: &mut Vec<u8>) -> Result<(), Close> {
        let Phase::Open { transport, .. } = &mut self.phase else { return Ok(()) };
        let mut rest = &*self.plain;
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + Header::decode(*header).len as usize;
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            transport.writer.seal_frame(frame, out)?;
            rest = behind;
        }
        self.plain.clear();
        Ok(())
    }

    pub(super) fn serial(&self) -> u64 {
        self.session.serial()
    }

    /// What to hash now.
    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        self.session.work()
    }

    pub(super) fn has_room(&self) -> bool {
        self.session.has_room()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.session.is_settled()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Close> {
        self.session.on_deadline(now, stats)
    }

    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.session.on_end(stats);
    }
}

/// The longest message that a miner has a use for: a job whose every field is full.
const PAYLOAD_LEN_MAX: usize = NewExtendedMiningJob::LEN_MAX;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
