//! Seals and opens frames, once the handshake has made the keys.
//!
//! A frame's header is sealed on its own: 22 bytes. Its payload follows in chunks of at most
//! 65,519 bytes, each with its authentication code; an empty payload has none.
//!
//! This uses ring with the handshake's keys instead of snow's transport: the two directions can
//! have two owners, a frame is copied once when sealed and not at all when opened.

use std::fmt;

use ring::aead::{Aad, LessSafeKey};

use super::{
    HEADER_BLOCK_LEN, HEADER_LEN, NoiseError, TAG_LEN,
    resolver::{cipher_key, nonce_bytes},
};

/// Both directions of an encrypted connection.
#[derive(Debug)]
pub struct Transport {
    pub reader: Opener,
    pub writer: Sealer,
}

/// Seals what this side sends.
pub struct Sealer(Cipher);

impl Sealer {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// Appends a whole frame to `out`, sealed. On an error `out` is unchanged, and whether more can
    /// be sealed depends on the error: not after [`NoiseError::Ended`].
    pub fn seal_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (header, payload) = split_frame(frame)?;
        let start = out.len();
        out.reserve(HEADER_BLOCK_LEN + Opener::sealed_len(payload.len()));
        let mut chunks = std::iter::once(header).chain(payload.chunks(CHUNK_LEN));
        let sealed = chunks.try_for_each(|chunk| self.0.seal(chunk, out));
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }
}

/// Opens what the other side sends. After anything fails to open, nothing opens any more.
pub struct Opener {
    cipher: Cipher,
    /// How long the payload is that belongs to the last header.
    payload_len: usize,
}

impl Opener {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: Cipher::new(key), payload_len: 0 }
    }

    /// The header of the next frame.
    pub fn open_header(
        &mut self,
        block: &[u8; HEADER_BLOCK_LEN],
    ) -> Result<[u8; HEADER_LEN], NoiseError> {
        let mut block = *block;
        self.cipher.open(&mut block, 0)?;
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&block[..HEADER_LEN]);
        self.payload_len = payload_len(&header);
        Ok(header)
    }

    /// How many bytes a payload takes when sealed.
    pub const fn sealed_len(plain_len: usize) -> usize {
        plain_len + plain_len.div_ceil(CHUNK_LEN) * TAG_LEN
    }

    /// Opens a whole payload in place: [`Opener::sealed_len`] bytes for the length in its header. A
    /// frame without payload needs no call.
    pub fn open_payload<'a>(&mut self, sealed: &'a mut [u8]) -> Result<&'a [u8], NoiseError> {
        if sealed.len() != Self::sealed_len(self.payload_len) {
            return Err(NoiseError::SealedLength(sealed.len()));
        }
        // Each chunk moves to where the one before ends: over the authentication codes in between.
        let mut rest = &mut *sealed;
        let mut shift = 0;
        while rest.len() > shift {
            let end = rest.len().min(shift + SEALED_CHUNK_LEN);
            let opened = self.cipher.open(&mut rest[..end], shift)?;
            rest = rest.split_at_mut(opened).1;
            shift += TAG_LEN;
        }
        Ok(&sealed[..std::mem::take(&mut self.payload_len)])
    }
}

/// One direction's key and counter.
struct Cipher {
    /// None when the connection is over.
    key: Option<LessSafeKey>,
    nonce: u64,
}

impl Cipher {
    fn new(key: &[u8; 32]) -> Self {
        Self { key: Some(cipher_key(key)), nonce: 0 }
    }

    /// Appends `plain` to `out`, sealed.
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), NoiseError> {
        let (key, nonce) = self.next()?;
        let start = out.len();
        out.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(nonce_bytes(nonce), Aad::empty(), &mut out[start..])
            .map_err(|_| NoiseError::FrameLength(plain.len()))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Opens `block[from..]` and moves it to the block's start; returns its length.
    fn open(&mut self, block: &mut [u8], from: usize) -> Result<usize, NoiseError> {
        let (key, nonce) = self.next()?;
        let opened = key.open_within(nonce_bytes(nonce), Aad::empty(), block, from..);
        let len = opened.map(|plain| plain.len());
        if len.is_err() {
            self.key = None;
        }
        len.map_err(|_| NoiseError::Forged)
    }

    /// The key with a fresh nonce.
    fn next(&mut self) -> Result<(&LessSafeKey, u64), NoiseError> {
        let nonce = self.nonce;
        // Noise reserves the last nonce.
        self.nonce = nonce.checked_add(1).ok_or(NoiseError::Ended)?;
        Ok((self.key.as_ref().ok_or(NoiseError::Ended)?, nonce))
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("nonce", &self.0.nonce).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("nonce", &self.cipher.nonce).finish_non_exhaustive()
    }
}

/// Header and payload, which must be as long as the header says: otherwise the other side would
/// read the next frame from the middle of this one.
fn split_frame(frame: &[u8]) -> Result<(&[u8], &[u8]), NoiseError> {
    let (header, payload) =
        frame.split_first_chunk::<HEADER_LEN>().ok_or(NoiseError::FrameLength(frame.len()))?;
    if payload_len(header) != payload.len() {
        return Err(NoiseError::FrameLength(frame.len()));
    }
    Ok((header, payload))
}

/// The length that a header gives.
fn payload_len(header: &[u8; HEADER_LEN]) -> usize {
    let [_, _, _, l0, l1, l2] = *header;
    u32::from_le_bytes([l0, l1, l2, 0]) as usize
}

/// Noise's limit on a message.
const SEALED_CHUNK_LEN: usize = 65_535;
const CHUNK_LEN: usize = SEALED_CHUNK_LEN - TAG_LEN;

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
