//! Extension 0x0001, which negotiates the others, and the fields that they append.

use super::{
    bytes::Seq64K,
    wire::{FieldProblem, PayloadReader, message},
};

message! {
    /// Comes right after the connection's setup.
    RequestExtensions<'a> = 0x0001, 0x00, false {
        request_id: u16,
        requested_extensions: Seq64K<'a, u16>,
    }
}

message! {
    RequestExtensionsSuccess<'a> = 0x0001, 0x01, false {
        request_id: u16,
        supported_extensions: Seq64K<'a, u16>,
    }
}

message! {
    RequestExtensionsError<'a> = 0x0001, 0x02, false {
        request_id: u16,
        unsupported_extensions: Seq64K<'a, u16>,
        /// What the server insists on and the client did not ask for.
        required_extensions: Seq64K<'a, u16>,
    }
}

/// The extensions' numbers.
pub mod id {
    pub const NEGOTIATION: u16 = 0x0001;
    pub const WORKER_HASHRATE: u16 = 0x0002;
}

/// The extensions that a connection has negotiated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extensions {
    /// 0x0002: each share of an extended channel names its worker.
    pub worker_hashrate: bool,
}

/// Whose share it is: up to 32 bytes of UTF-8.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct WorkerName<'a>(&'a str);

impl<'a> WorkerName<'a> {
    pub const LEN_MAX: usize = 32;

    /// None when it is too long.
    pub const fn new(name: &'a str) -> Option<Self> {
        if name.len() <= Self::LEN_MAX { Some(Self(name)) } else { None }
    }

    pub(crate) const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Finds the worker's name among the fields after a share.
///
/// The specification's example writes type and length big-endian, against its own rule and against
/// what the reference implementation sends. Both are understood: whichever reading yields whole
/// fields and a name is used. Fields of other extensions are skipped.
#[inline]
pub(super) fn read_worker<'a>(
    rest: PayloadReader<'a>,
) -> Result<Option<WorkerName<'a>>, FieldProblem> {
    if rest.rest().is_empty() {
        return Ok(None);
    }
    match walk(rest, u16::from_le_bytes) {
        Ok(Some(name)) => Ok(Some(name)),
        little => match (little, walk(rest, u16::from_be_bytes)) {
            (_, Ok(Some(name))) => Ok(Some(name)),
            (Ok(None), _) | (_, Ok(None)) => Ok(None),
            // Of two bad readings, the one that got as far as a name says more.
            (Err(FieldProblem::Truncated), Err(big)) => Err(big),
            (Err(little), _) => Err(little),
            (Ok(Some(name)), _) => Ok(Some(name)),
        },
    }
}

fn walk<'a>(
    mut reader: PayloadReader<'a>,
    order: fn([u8; 2]) -> u16,
) -> Result<Option<WorkerName<'a>>, FieldProblem> {
    let mut found = None;
    while !reader.rest().is_empty() {
        let extension = order(reader.array()?);
        let [field] = reader.array()?;
        let len = order(reader.array()?).into();
        let value = reader.take(len)?;
        if (extension, field) == (id::WORKER_HASHRATE, USER_IDENTITY) {
            let text = std::str::from_utf8(value).map_err(|_| FieldProblem::NotUtf8)?;
            let too_long = FieldProblem::TooLong { len, max: WorkerName::LEN_MAX };
            found = Some(WorkerName::new(text).ok_or(too_long)?);
        }
    }
    Ok(found)
}

/// Appends the worker's name as the reference implementation does.
pub(super) fn write_worker(name: WorkerName<'_>, out: &mut Vec<u8>) {
    let name = name.as_str().as_bytes();
    let [low, high, ..] = name.len().to_le_bytes();
    let [extension_low, extension_high] = id::WORKER_HASHRATE.to_le_bytes();
    out.extend_from_slice(&[extension_low, extension_high, USER_IDENTITY, low, high]);
    out.extend_from_slice(name);
}

/// The longest that `write_worker` appends.
pub(super) const WORKER_LEN_MAX: usize = 5 + WorkerName::LEN_MAX;
const USER_IDENTITY: u8 = 0x01;
