//! Frames: a header of six bytes and a payload, before encryption.

/// What a frame's header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Who defines the message: 0 for the core specification. Without the channel bit.
    pub extension: u16,
    /// The payload begins with a channel's id. Old peers set this wrongly, so nothing depends on
    /// it.
    pub channel: bool,
    pub msg_type: u8,
    /// Bytes of payload that follow, encryption overhead not included.
    pub len: u32,
}

impl Header {
    #[inline]
    pub const fn decode(bytes: [u8; HEADER_LEN]) -> Self {
        let [low, high, msg_type, a, b, c] = bytes;
        Self {
            extension: u16::from_le_bytes([low, high]) & !CHANNEL_BIT,
            channel: high & 0x80 != 0,
            msg_type,
            len: u32::from_le_bytes([a, b, c, 0]),
        }
    }

    /// The low 24 bits of `len` are what a header can say.
    #[inline]
    pub const fn encode(self) -> [u8; HEADER_LEN] {
        let bit = if self.channel { CHANNEL_BIT } else { 0 };
        let [low, high] = (self.extension & !CHANNEL_BIT | bit).to_le_bytes();
        let [a, b, c, _] = self.len.to_le_bytes();
        [low, high, self.msg_type, a, b, c]
    }
}

/// Appends a frame whose payload `payload` appends. `Message::append` is the usual way; this one is
/// for payloads that are already encoded.
///
/// The payload must be shorter than [`PAYLOAD_LEN_LIMIT`]; every [`super::Message`] is.
#[inline]
pub(crate) fn append(
    extension: u16,
    channel: bool,
    msg_type: u8,
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&Header { extension, channel, msg_type, len: 0 }.encode());
    payload(out);
    let len = out.len() - start - HEADER_LEN;
    debug_assert!(len < PAYLOAD_LEN_LIMIT, "a payload of {len} bytes does not fit a frame");
    if let Some(place) = out.get_mut(start + HEADER_LEN - 3..start + HEADER_LEN) {
        let [a, b, c, ..] = len.to_le_bytes();
        place.copy_from_slice(&[a, b, c]);
    }
}

/// Set in the extension field when the payload begins with a channel's id.
pub(crate) const CHANNEL_BIT: u16 = 0x8000;
pub const HEADER_LEN: usize = 6;
/// The longest payload to take from a miner.
///
/// `SetupConnection` with all its strings full is 1,291 bytes long, an open 298, a share with its
/// worker's name 94; a request for 2,046 extensions still fits. Only a `SetCustomMiningJob` may be
/// longer, and only from a client that requires work selection, which is never granted.
pub(crate) const FRAME_LEN_MAX: usize = 4096;
/// One more than the header's 24 bits can hold.
pub(crate) const PAYLOAD_LEN_LIMIT: usize = 1 << 24;
