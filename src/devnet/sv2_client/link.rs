//! The client's end of an encrypted Stratum V2 connection: sealed bytes in, messages out, and the other
//! way round.

use std::mem;

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::session::Sv2Client;
use crate::sv2::{
    codec::{DecodeError, HEADER_LEN, Header, ServerMessage},
    noise::{
        ACT2_LEN, AuthorityPublicKey, HEADER_BLOCK_LEN, Initiator, NoiseError, Opener, Transport,
    },
};

#[derive(Debug, Error)]
pub(in crate::devnet) enum Sv2LinkError {
    #[error(transparent)]
    Noise(#[from] NoiseError),
    #[error("the server sent a message of {0} bytes")]
    TooLong(u32),
}

pub(in crate::devnet) struct Sv2Link {
    phase: Phase,
    /// The longest payload; a longer one ends the connection.
    payload_len_max: usize,
    /// Frames that are not sealed yet.
    plain: Vec<u8>,
}

enum Phase {
    /// Waits for the server's key.
    Handshake(Option<Initiator>),
    Open {
        transport: Transport,
        /// The header of a frame whose payload has not arrived yet.
        header: Option<Header>,
    },
}

impl Sv2Link {
    /// Appends our key to `out`. With an authority, only servers certified by it are accepted.
    pub(in crate::devnet) fn open(
        authority: Option<AuthorityPublicKey>,
        payload_len_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Self, Sv2LinkError> {
        let initiator = Initiator::start(authority, out)?;
        let phase = Phase::Handshake(Some(initiator));
        Ok(Self { phase, payload_len_max, plain: Vec::new() })
    }

    /// Whether the handshake is over.
    pub(in crate::devnet) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Where frames go that are to be sealed.
    pub(in crate::devnet) fn plain(&mut self) -> &mut Vec<u8> {
        &mut self.plain
    }

    /// An idle connection keeps no buffer.
    pub(in crate::devnet) fn forget_buffer(&mut self) {
        if self.is_open() {
            self.plain = Vec::new();
        }
    }

    /// Takes all whole frames from `input`, gives each to `on_message`, and seals what that appends
    /// into `out`. `now_unix`, in seconds since 1970, is what the server's certificate is held against.
    pub(in crate::devnet) fn on_input<E: From<Sv2LinkError> + From<DecodeError>>(
        &mut self,
        input: &mut BytesMut,
        now_unix: u32,
        out: &mut Vec<u8>,
        mut on_message: impl FnMut(&ServerMessage<'_>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.on_handshake(input, now_unix)?;
        let mut plain = mem::take(&mut self.plain);
        let read = self.read(input, |header, payload| {
            let message = ServerMessage::decode(header, payload, Sv2Client::EXTENSIONS)?;
            on_message(&message, &mut plain)
        });
        self.plain = plain;
        self.seal(out)?;
        read
    }

    /// Takes the server's key, once all of it is here.
    fn on_handshake(&mut self, input: &mut BytesMut, now_unix: u32) -> Result<(), Sv2LinkError> {
        let Phase::Handshake(initiator) = &mut self.phase else { return Ok(()) };
        let Some(act2) = input.first_chunk::<ACT2_LEN>() else { return Ok(()) };
        let initiator = initiator.take().ok_or(NoiseError::Ended)?;
        let transport = initiator.on_act2(act2, now_unix)?;
        input.advance(ACT2_LEN);
        self.phase = Phase::Open { transport, header: None };
        Ok(())
    }

    /// Takes all whole frames from `input`, and passes each to `on_frame` with its header.
    fn read<E: From<Sv2LinkError>>(
        &mut self,
        input: &mut BytesMut,
        mut on_frame: impl FnMut(Header, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Phase::Open { transport, header } = &mut self.phase {
            let Some(known) = *header else {
                let Some(block) = input.first_chunk::<HEADER_BLOCK_LEN>() else { break };
                let opened = transport.reader.open_header(block).map_err(Sv2LinkError::from)?;
                let opened = Header::decode(opened);
                if opened.len as usize > self.payload_len_max {
                    return Err(Sv2LinkError::TooLong(opened.len).into());
                }
                input.advance(HEADER_BLOCK_LEN);
                *header = Some(opened);
                continue;
            };
            let len = Opener::sealed_len(known.len as usize);
            let Some(sealed) = input.get_mut(..len) else { break };
            let payload = transport.reader.open_payload(sealed).map_err(Sv2LinkError::from)?;
            on_frame(known, payload)?;
            input.advance(len);
            *header = None;
        }
        Ok(())
    }

    /// Seals all frames into `out`; keeps them while the handshake lasts.
    pub(in crate::devnet) fn seal(&mut self, out: &mut Vec<u8>) -> Result<(), Sv2LinkError> {
        let Phase::Open { transport, .. } = &mut self.phase else { return Ok(()) };
        let mut rest = self.plain.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + Header::decode(*header).len as usize;
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            transport.writer.seal_frame(frame, out)?;
            rest = behind;
        }
        self.plain.clear();
        Ok(())
    }
}
