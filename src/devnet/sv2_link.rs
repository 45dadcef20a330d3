//! The client's end of an encrypted Stratum V2 connection, for the miner and for the load: sealed
//! bytes in, frames out, and the other way round. No socket or clock here.

use bytes::{Buf, BytesMut};
use thiserror::Error;

use crate::sv2::{
    codec::{HEADER_LEN, Header},
    noise::{
        ACT2_LEN, AuthorityPublicKey, HEADER_BLOCK_LEN, Initiator, NoiseError, Opener, Transport,
    },
};

#[derive(Debug, Error)]
pub(super) enum Sv2LinkError {
    #[error(transparent)]
    Noise(#[from] NoiseError),
    #[error("the server sent a message of {0} bytes")]
    TooLong(u32),
}

pub(super) struct Sv2Link {
    phase: Phase,
    /// Of a payload; what is longer ends the connection.
    payload_len_max: usize,
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

impl Sv2Link {
    /// Appends our key to `out`. With an authority, only servers that it certifies will do.
    pub(super) fn open(
        authority: Option<AuthorityPublicKey>,
        payload_len_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Self, Sv2LinkError> {
        let initiator = Initiator::start(authority, out)?;
        Ok(Self { phase: Phase::Handshake(Some(initiator)), payload_len_max })
    }

    /// Whether the handshake is over.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Takes the server's key, once all of it is here. `now_unix`, in seconds since 1970, is what its
    /// certificate is held against.
    pub(super) fn on_handshake(
        &mut self,
        input: &mut BytesMut,
        now_unix: u32,
    ) -> Result<(), Sv2LinkError> {
        let Phase::Handshake(initiator) = &mut self.phase else { return Ok(()) };
        let Some(act2) = input.first_chunk::<ACT2_LEN>() else { return Ok(()) };
        let initiator = initiator.take().ok_or(NoiseError::Ended)?;
        let transport = initiator.on_act2(act2, now_unix)?;
        input.advance(ACT2_LEN);
        self.phase = Phase::Open { transport, header: None };
        Ok(())
    }

    /// Takes all whole frames from `input`, and gives each to `on_frame` with its header.
    pub(super) fn read<E: From<Sv2LinkError>>(
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

    /// Seals all frames of `plain` into `out`; keeps them while the handshake lasts.
    pub(super) fn seal(
        &mut self,
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2LinkError> {
        let Phase::Open { transport, .. } = &mut self.phase else { return Ok(()) };
        let mut rest = plain.as_slice();
        while let Some(header) = rest.first_chunk::<HEADER_LEN>() {
            let len = HEADER_LEN + Header::decode(*header).len as usize;
            let (frame, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            transport.writer.seal_frame(frame, out)?;
            rest = behind;
        }
        plain.clear();
        Ok(())
    }
}
