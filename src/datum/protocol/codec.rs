//! Reads little-endian fields from bytes in which no length can be trusted.

/// A bounds-checked reader for a message.
#[derive(Clone, Debug)]
pub(in crate::datum) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(in crate::datum) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(in crate::datum) fn take(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Short(what))?;
        self.rest = rest;
        Ok(head)
    }

    pub(in crate::datum) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short(what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(in crate::datum) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(in crate::datum) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(in crate::datum) fn u24(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let [a, b, c] = self.array(what)?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    pub(in crate::datum) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(in crate::datum) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A NUL-terminated string of at most `max` bytes, without its NUL.
    pub(in crate::datum) fn text(
        &mut self,
        max: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let window = &self.rest[..self.rest.len().min(max + 1)];
        let len = memchr::memchr(0, window).ok_or(DecodeError::Short(what))?;
        let text = self.take(len, what)?;
        self.take(1, what)?;
        Ok(text)
    }

    /// A byte that must be there.
    pub(in crate::datum) fn mark(
        &mut self,
        byte: u8,
        what: &'static str,
    ) -> Result<(), DecodeError> {
        match self.u8(what)? {
            found if found == byte => Ok(()),
            found => Err(DecodeError::Value { what, value: found.into() }),
        }
    }

    /// Takes the next byte if it is `mark`.
    pub(in crate::datum) fn skip_if(&mut self, mark: u8) -> bool {
        match self.rest.split_first() {
            Some((found, rest)) if *found == mark => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub(in crate::datum) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left: padding.
    pub(in crate::datum) fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// What is wrong with a message's bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("ends within its {0}")]
    Short(&'static str),
    #[error("{what} of {value} is impossible")]
    Value { what: &'static str, value: u64 },
    #[error("mining message of unknown kind {0:#04x}")]
    Kind(u8),
}
