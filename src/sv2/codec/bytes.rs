//! Fields of variable length: bytes, texts and sequences. Their types keep them within the limits
//! that the protocol sets, so that whatever can be built can be sent.

use std::{borrow::Cow, fmt};

use super::wire::{Field, FieldProblem, PayloadReader, count_len, write_count};

/// B0_32, B0_255 and B0_64K: up to `MAX` bytes.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Bytes<'a, const MAX: usize>(&'a [u8]);

pub type Bytes32<'a> = Bytes<'a, 32>;
pub type Bytes255<'a> = Bytes<'a, 0xFF>;
pub type Bytes64K<'a> = Bytes<'a, 0xFFFF>;

impl<'a, const MAX: usize> Bytes<'a, MAX> {
    /// None when there are too many.
    pub const fn new(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() <= MAX { Some(Self(bytes)) } else { None }
    }

    pub const fn get(self) -> &'a [u8] {
        self.0
    }
}

impl<'a, const MAX: usize> Field<'a> for Bytes<'a, MAX> {
    const LEN_MAX: usize = count_len(MAX) + MAX;

    #[inline]
    fn read(reader: &mut PayloadReader<'a>) -> Result<Self, FieldProblem> {
        let len = reader.count(MAX)?;
        Ok(Self(reader.take(len)?))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        write_count(self.0.len(), MAX, out);
        out.extend_from_slice(self.0);
    }
}

impl<const MAX: usize> fmt::Debug for Bytes<'_, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// STR0_255. The specification recommends UTF-8 but does not require it: a device whose serial
/// number is not UTF-8 may still mine, and one whose username is not can be told so.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct Str255<'a>(Bytes255<'a>);

impl<'a> Str255<'a> {
    /// None when it is too long.
    pub const fn new(text: &'a str) -> Option<Self> {
        match Bytes::new(text.as_bytes()) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// As much of `text` as fits, cut between characters.
    pub fn cut(text: &'a str) -> Self {
        Self(Bytes(cut(text, 0xFF).as_bytes()))
    }

    /// None when it is not UTF-8.
    pub const fn as_str(self) -> Option<&'a str> {
        match std::str::from_utf8(self.0.get()) {
            Ok(text) => Some(text),
            Err(_) => None,
        }
    }

    /// With replacement characters for what is not UTF-8; copies only in that case.
    pub(crate) fn to_str_lossy(self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.0.get())
    }

    pub(crate) const fn as_bytes(self) -> &'a [u8] {
        self.0.get()
    }
}

impl<'a> Field<'a> for Str255<'a> {
    const LEN_MAX: usize = Bytes255::LEN_MAX;

    #[inline]
    fn read(reader: &mut PayloadReader<'a>) -> Result<Self, FieldProblem> {
        Ok(Self(Bytes::read(reader)?))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
    }
}

impl fmt::Display for Str255<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_str_lossy())
    }
}

impl fmt::Debug for Str255<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_str_lossy(), f)
    }
}

/// As much of `text` as fits in `max` bytes, cut between characters.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(max)).rev().find(fits).unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// SEQ0_255 and SEQ0_64K: up to `MAX` elements of one size, either as received or as a slice.
#[derive(Clone, Copy)]
pub struct Seq<'a, T, const MAX: usize>(Items<'a, T>);

pub type Seq255<'a, T> = Seq<'a, T, 0xFF>;
pub type Seq64K<'a, T> = Seq<'a, T, 0xFFFF>;

#[derive(Clone, Copy)]
enum Items<'a, T> {
    /// A whole number of elements.
    Wire(&'a [u8]),
    Own(&'a [T]),
}

/// The elements of sequences: numbers and hashes, which always take `LEN_MAX` bytes.
pub trait Element: for<'a> Field<'a> + Copy {
    const SIZE: usize = <Self as Field<'static>>::LEN_MAX;
}

impl Element for u16 {}
impl Element for u32 {}
impl Element for crate::work::Hash256 {}

impl<'a, T: Element, const MAX: usize> Seq<'a, T, MAX> {
    /// None when there are too many.
    pub const fn new(items: &'a [T]) -> Option<Self> {
        if items.len() <= MAX { Some(Self(Items::Own(items))) } else { None }
    }

    pub(crate) const fn len(&self) -> usize {
        match self.0 {
            Items::Wire(bytes) => bytes.len() / T::SIZE,
            Items::Own(items) => items.len(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T, MAX> {
        let (bytes, items) = match self.0 {
            Items::Wire(bytes) => (bytes, [].as_slice()),
            Items::Own(items) => ([].as_slice(), items),
        };
        let mut reader = PayloadReader::new(bytes);
        std::iter::from_fn(move || T::read(&mut reader).ok()).chain(items.iter().copied())
    }
}

impl<'a, T: Element, const MAX: usize> Field<'a> for Seq<'a, T, MAX> {
    const LEN_MAX: usize = count_len(MAX) + MAX * T::SIZE;

    #[inline]
    fn read(reader: &mut PayloadReader<'a>) -> Result<Self, FieldProblem> {
        let count = reader.count(MAX)?;
        Ok(Self(Items::Wire(reader.take(count * T::SIZE)?)))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        write_count(self.len(), MAX, out);
        match self.0 {
            Items::Wire(bytes) => out.extend_from_slice(bytes),
            Items::Own(items) => items.iter().for_each(|item| item.write(out)),
        }
    }
}

impl<T: Element, const MAX: usize> Default for Seq<'_, T, MAX> {
    fn default() -> Self {
        Self(Items::Own(&[]))
    }
}

impl<T: Element + PartialEq, const MAX: usize> PartialEq for Seq<'_, T, MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Element + fmt::Debug, const MAX: usize> fmt::Debug for Seq<'_, T, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
