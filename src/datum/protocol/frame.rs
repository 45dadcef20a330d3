//! Frames: a masked 4-byte header and a body.

use bytes::{Buf, BytesMut};

/// A frame's header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FrameHeader {
    /// Bytes of body that follow, encryption overhead included.
    pub len: u32,
    /// Two bits that the protocol reserves as 0. Kept, but not checked.
    pub reserved: u8,
    /// The body ends with an Ed25519 signature.
    pub signed: bool,
    /// The body is a sealed box to one identity.
    pub sealed: bool,
    /// The body is encrypted under the session's key.
    pub channel: bool,
    /// One of [`command`].
    pub command: u8,
}

/// The top-level commands.
pub mod command {
    /// From the gateway.
    pub(crate) const HELLO: u8 = 1;
    /// From the pool; no answer is defined.
    pub(crate) const PING: u8 = 1;
    pub const RESPONSE: u8 = 2;
    pub const MINING: u8 = 5;
    /// A text for the log.
    pub const INFO: u8 = 7;
}

impl FrameHeader {
    pub fn encode(self) -> u32 {
        self.len & LEN_MASK
            | u32::from(self.reserved & 3) << 22
            | u32::from(self.signed) << 24
            | u32::from(self.sealed) << 25
            | u32::from(self.channel) << 26
            | u32::from(self.command & 0x1F) << 27
    }

    pub fn decode(word: u32) -> Self {
        let [.., reserved, flags] = word.to_le_bytes();
        Self {
            len: word & LEN_MASK,
            reserved: reserved >> 6,
            signed: flags & 1 != 0,
            sealed: flags & 2 != 0,
            channel: flags & 4 != 0,
            command: flags >> 3,
        }
    }
}

/// The rolling mask for the headers of one direction.
#[derive(Clone, Copy, Debug)]
pub struct HeaderKey(u32);

impl HeaderKey {
    /// Masks the first header of a connection, HELLO.
    pub const HELLO: Self = Self(0xDC87_1829);

    /// gateway → pool, from the number in HELLO.
    pub fn to_pool(nk: u32) -> Self {
        Self(mix(nk))
    }

    /// pool → gateway, from the number in HELLO.
    pub fn to_gateway(nk: u32) -> Self {
        Self(mix(!nk))
    }

    /// Masks or unmasks one header and moves on to the next.
    pub fn apply(&mut self, word: u32) -> u32 {
        let masked = word ^ self.0;
        self.0 = mix(self.0);
        masked
    }
}

/// MurmurHash3-x86-32 of the four bytes of `i`.
pub(crate) fn mix(i: u32) -> u32 {
    let k = i.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let h = (MIX_SEED ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64) ^ 4;
    let h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    let h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

/// Collects bytes into frames.
#[derive(Debug)]
pub struct FrameBuffer {
    buffer: BytesMut,
    header: Option<FrameHeader>,
    body_max: usize,
}

impl FrameBuffer {
    /// Refuses bodies longer than `body_max`.
    pub fn new(body_max: usize) -> Self {
        Self { buffer: BytesMut::new(), header: None, body_max }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it has arrived. `key` unmasks its header.
    pub fn next(
        &mut self,
        key: &mut HeaderKey,
    ) -> Result<Option<(FrameHeader, BytesMut)>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                if self.buffer.len() < HEADER_LEN {
                    return Ok(None);
                }
                let header = FrameHeader::decode(key.apply(self.buffer.get_u32_le()));
                self.header = Some(header);
                header
            }
        };
        let len = header.len as usize;
        if len > self.body_max {
            return Err(FrameError { len, max: self.body_max });
        }
        if self.buffer.len() < len {
            return Ok(None);
        }
        self.header = None;
        Ok(Some((header, self.buffer.split_to(len))))
    }
}

/// A header that announces a longer frame than allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a frame of {len} bytes where at most {max} are allowed")]
pub struct FrameError {
    pub(crate) len: usize,
    pub(crate) max: usize,
}

pub(crate) const HEADER_LEN: usize = 4;
/// The maximum of the header's 22 bits, and so of what either side may have to buffer for a frame.
pub const BODY_MAX: usize = LEN_MASK as usize;
const LEN_MASK: u32 = (1 << 22) - 1;
const MIX_SEED: u32 = 0xb10c_feed;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_that_promises_too_much_is_refused_before_its_body_comes() {
        let mut inbox = FrameBuffer::new(100);
        inbox.push(&(101 ^ 0xDC87_1829_u32).to_le_bytes());
        let refused = inbox.next(&mut HeaderKey::HELLO.clone());
        assert_eq!(refused.unwrap_err(), FrameError { len: 101, max: 100 });
    }

    proptest! {
        #[test]
        fn headers_round_trip(word: u32) {
            prop_assert_eq!(FrameHeader::decode(word).encode(), word);
        }

        #[test]
        fn frames_come_out_whole_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cut in 1usize..20,
            nk: u32,
        ) {
            let (mut send, mut receive) = (HeaderKey::to_pool(nk), HeaderKey::to_pool(nk));
            let mut wire = Vec::new();
            for body in &bodies {
                let len = u32::try_from(body.len()).unwrap();
                let header = FrameHeader { len, command: 5, ..FrameHeader::default() };
                wire.extend_from_slice(&send.apply(header.encode()).to_le_bytes());
                wire.extend_from_slice(body);
            }
            let mut inbox = FrameBuffer::new(BODY_MAX);
            let mut found = Vec::new();
            for piece in wire.chunks(cut) {
                inbox.push(piece);
                while let Some((_, body)) = inbox.next(&mut receive).unwrap() {
                    found.push(body.to_vec());
                }
            }
            prop_assert_eq!(found, bodies);
        }
    }
}
