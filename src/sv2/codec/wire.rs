//! Fields: little-endian numbers and hashes, read from bytes in which any length may be a lie.

use crate::work::{Hash256, Target};

use super::{extension::Extensions, frame::PAYLOAD_LEN_LIMIT};

/// A message of fixed layout.
pub trait Message<'a>: Sized {
    const NAME: &'static str;
    /// The extension that defines the message; 0 for the core specification.
    const EXTENSION: u16;
    const TYPE: u8;
    /// Whether the payload begins with the id of its channel.
    const CHANNEL: bool;
    /// The longest payload that the fields' types allow.
    const LEN_MAX: usize;

    /// Reads a payload. Bytes after the last known field are ignored: later versions may append
    /// fields, and those of an extension that was not negotiated are, by the specification (3.4.3),
    /// safely ignored.
    fn decode(payload: &'a [u8], extensions: Extensions) -> Result<Self, DecodeError>;

    /// Appends the payload, without a header.
    fn encode(&self, out: &mut Vec<u8>);

    /// Appends header and payload.
    fn append(&self, out: &mut Vec<u8>) {
        // A type whose longest value does not fit a frame does not compile.
        const { assert!(Self::LEN_MAX < PAYLOAD_LEN_LIMIT) };
        super::frame::append(Self::EXTENSION, Self::CHANNEL, Self::TYPE, out, |out| {
            self.encode(out);
        });
    }
}

/// What is wrong with a message, and where.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}: {field} {problem}")]
pub struct DecodeError {
    pub(crate) message: &'static str,
    pub(crate) field: &'static str,
    pub(crate) problem: FieldProblem,
}

impl DecodeError {
    /// True for a share in which only the worker's name is broken.
    pub(crate) fn is_only_the_worker(&self) -> bool {
        self.message == "SubmitSharesExtended" && self.field == "user_identity"
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FieldProblem {
    #[error("is cut short")]
    Truncated,
    #[error("has {len} elements where at most {max} are allowed")]
    TooLong { len: usize, max: usize },
    #[error("is not UTF-8")]
    NotUtf8,
}

/// A checked walk over a payload.
#[derive(Clone, Copy, Debug)]
pub struct PayloadReader<'a> {
    rest: &'a [u8],
}

impl<'a> PayloadReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], FieldProblem> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(FieldProblem::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FieldProblem> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(FieldProblem::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// A length or count: one byte when `max` fits one, else two.
    #[inline]
    pub(super) fn count(&mut self, max: usize) -> Result<usize, FieldProblem> {
        let len = if max <= 0xFF { u8::read(self)?.into() } else { u16::read(self)?.into() };
        if len > max { Err(FieldProblem::TooLong { len, max }) } else { Ok(len) }
    }

    pub(super) fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// Writes what `PayloadReader::count` reads. `len` is within `max`: its type saw to that.
#[inline]
pub(super) fn write_count(len: usize, max: usize, out: &mut Vec<u8>) {
    let [low, high, ..] = len.to_le_bytes();
    if max <= 0xFF {
        out.push(low);
    } else {
        out.extend_from_slice(&[low, high]);
    }
}

/// How many bytes a count of up to `max` takes.
pub(super) const fn count_len(max: usize) -> usize {
    if max <= 0xFF { 1 } else { 2 }
}

/// A part of a message.
pub trait Field<'a>: Sized {
    const LEN_MAX: usize;
    fn read(reader: &mut PayloadReader<'a>) -> Result<Self, FieldProblem>;
    fn write(&self, out: &mut Vec<u8>);
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Field<'_> for $type {
            const LEN_MAX: usize = size_of::<$type>();

            #[inline]
            fn read(reader: &mut PayloadReader<'_>) -> Result<Self, FieldProblem> {
                Ok(Self::from_le_bytes(reader.array()?))
            }

            #[inline]
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

// An `f32` may be infinite, negative or NaN: whoever uses it must check.
numbers!(u8, u16, u32, u64, f32);

/// BOOL. Only the lowest bit counts.
impl Field<'_> for bool {
    const LEN_MAX: usize = 1;

    #[inline]
    fn read(reader: &mut PayloadReader<'_>) -> Result<Self, FieldProblem> {
        Ok(u8::read(reader)? & 1 != 0)
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.push((*self).into());
    }
}

/// U256 that is a hash.
impl Field<'_> for Hash256 {
    const LEN_MAX: usize = 32;

    #[inline]
    fn read(reader: &mut PayloadReader<'_>) -> Result<Self, FieldProblem> {
        Ok(Self(reader.array()?))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// U256 that is a target.
impl Field<'_> for Target {
    const LEN_MAX: usize = 32;

    #[inline]
    fn read(reader: &mut PayloadReader<'_>) -> Result<Self, FieldProblem> {
        Ok(Self::from_le_bytes(&reader.array()?))
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }
}

/// OPTION: a sequence of at most one.
impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    const LEN_MAX: usize = 1 + T::LEN_MAX;

    #[inline]
    fn read(reader: &mut PayloadReader<'a>) -> Result<Self, FieldProblem> {
        Ok(if reader.count(1)? == 0 { None } else { Some(T::read(reader)?) })
    }

    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        write_count(self.is_some().into(), 1, out);
        if let Some(value) = self {
            value.write(out);
        }
    }
}

/// A struct of fields in wire order, and its [`Message`].
macro_rules! message {
    (
        $(#[$doc:meta])*
        $name:ident $(<$life:lifetime>)? = $extension:literal, $type:literal, $channel:literal {
            $($(#[$field_doc:meta])* $field:ident: $kind:ty,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl<'a> $crate::sv2::codec::wire::Message<'a> for $name $(<$life>)? {
            const NAME: &'static str = stringify!($name);
            const EXTENSION: u16 = $extension;
            const TYPE: u8 = $type;
            const CHANNEL: bool = $channel;
            const LEN_MAX: usize = $(<$kind as $crate::sv2::codec::wire::Field<'_>>::LEN_MAX +)* 0;

            #[inline]
            fn decode(
                payload: &'a [u8],
                _: $crate::sv2::codec::extension::Extensions,
            ) -> Result<Self, $crate::sv2::codec::wire::DecodeError> {
                use $crate::sv2::codec::wire::{DecodeError, Field, PayloadReader};
                let mut reader = PayloadReader::new(payload);
                Ok(Self {
                    $($field: Field::read(&mut reader).map_err(|problem| DecodeError {
                        message: stringify!($name),
                        field: stringify!($field),
                        problem,
                    })?,)*
                })
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::sv2::codec::wire::Field::write(&self.$field, out);)*
            }
        }
    };
}

pub(super) use message;
