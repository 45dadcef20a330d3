//! bincode 1 as blvm-node's modules use it, and the frames around it. Pure.
//!
//! Numbers are little-endian and of fixed width, lengths have 8 bytes, enum tags 4; a frame is a
//! 4-byte big-endian length and a message.

use crate::work::Hash256;

/// Why a message cannot be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    #[error("it ends too early")]
    Short,
    #[error("{0} bytes are left over")]
    Left(usize),
    #[error("a flag is neither 0 nor 1")]
    Flag,
    #[error("a text is not UTF-8")]
    Text,
    #[error("a length is larger than any block's")]
    Length,
    #[error("it is not the answer to what was asked")]
    Other,
    #[error("a frame of {0} bytes is longer than any message")]
    Frame(usize),
}

/// Reads a message from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_le_bytes)
    }

    /// An 8-byte number that must fit into 4 bytes.
    pub(super) fn u64_as_u32(&mut self) -> Result<u32, WireError> {
        u32::try_from(self.u64()?).map_err(|_| WireError::Length)
    }

    pub(super) fn i64(&mut self) -> Result<i64, WireError> {
        self.array().map(i64::from_le_bytes)
    }

    /// In the internal byte order of hashes.
    pub(super) fn hash(&mut self) -> Result<Hash256, WireError> {
        self.array().map(Hash256)
    }

    pub(super) fn flag(&mut self) -> Result<bool, WireError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(WireError::Flag),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.u64()?).map_err(|_| WireError::Length)?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| WireError::Text)
    }

    /// How many elements follow, each of at least `size` bytes, so that a false count allocates
    /// nothing.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, WireError> {
        let count = usize::try_from(self.u64()?).map_err(|_| WireError::Length)?;
        let needed = count.checked_mul(size).ok_or(WireError::Length)?;
        if needed > self.0.len() { Err(WireError::Short) } else { Ok(count) }
    }

    pub(super) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Left(self.0.len())) }
    }
}

/// Writes one frame.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Writer<'a> {
    /// Begins a frame at the end of `out`.
    pub(super) fn frame(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend([0; HEAD_LEN]);
        Self { out, start }
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.out.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.out.extend(value.to_le_bytes());
        self
    }

    pub(super) fn text(self, text: &str) -> Self {
        let written = self.u64(text.len() as u64);
        written.out.extend(text.as_bytes());
        written
    }

    pub(super) fn flag(self, flag: bool) -> Self {
        self.out.push(flag.into());
        self
    }

    /// Ends the frame: what is written here is far below a frame's limit of 4 GB.
    pub(super) fn end(self) {
        let length = self.out.len() - self.start - HEAD_LEN;
        let head = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(place) = self.out.get_mut(self.start..self.start + HEAD_LEN) {
            place.copy_from_slice(&head);
        }
    }
}

/// Splits received bytes into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
}

impl Frames {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message. After an error, nothing that follows can be trusted.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, WireError> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some((head, rest)) = rest.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head)).unwrap_or(usize::MAX);
        if length > FRAME_LEN_MAX {
            return Err(WireError::Frame(length));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        self.at += HEAD_LEN + length;
        Ok(Some(message))
    }
}

const HEAD_LEN: usize = 4;
/// A template for a full block: 4 MB without witnesses, and at most as much again for bincode's
/// wide numbers, times two. The node itself allows 40 MiB, for calls that are not made here.
const FRAME_LEN_MAX: usize = 16 << 20;
