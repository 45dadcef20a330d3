//! Mining messages from a pool to its gateways.

use super::{DecodeError, END, to_pool::VALIDATION};
use crate::{datum::protocol::codec::Reader, work::PayoutOutput};

/// A mining message that a gateway receives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToGateway<'a> {
    /// Only valid if signed.
    Configuration(Configuration<'a>),
    Coinbaser(CoinbaserMessage<'a>),
    ShareResponse(ShareResponse),
    /// "Look for a new block template now."
    NewBlock,
    Validate {
        slot: u8,
        wanted: Wanted,
        indexes: Vec<u16>,
    },
}

/// Kind 0x99: whom to pay, and the tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Configuration<'a> {
    pub script: &'a [u8],
    pub prime_id: u32,
    pub tag: &'a [u8],
    pub min_difficulty: u64,
    pub padding: &'a [u8],
}

/// Kind 0x11: the split of a coinbase, not yet checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CoinbaserMessage<'a> {
    /// The requested value, repeated.
    pub value: u64,
    /// The length that the message claims to have; wrong if it differs from `body.len()`.
    pub len: u32,
    pub body: &'a [u8],
    pub padding: &'a [u8],
}

/// Kind 0x8F.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShareResponse {
    pub status: ShareStatus,
    pub reason: ShareReason,
    pub nonce: u32,
    pub target_byte: u8,
    pub slot: u8,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ShareStatus {
    Accepted,
    Tentative,
    Rejected,
    /// One that this version does not know. It counts as an answer, but not as accepted.
    Unknown(u8),
}

impl ShareStatus {
    pub(crate) const fn from_wire(byte: u8) -> Self {
        match byte {
            0x50 => Self::Accepted,
            0x55 => Self::Tentative,
            0x66 => Self::Rejected,
            byte => Self::Unknown(byte),
        }
    }

    pub(crate) const fn wire(self) -> u8 {
        match self {
            Self::Accepted => 0x50,
            Self::Tentative => 0x55,
            Self::Rejected => 0x66,
            Self::Unknown(byte) => byte,
        }
    }

    pub(crate) const fn is_accepted(self) -> bool {
        matches!(self, Self::Accepted | Self::Tentative)
    }
}

/// Why a pool refused a share: its number on the wire.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ShareReason(pub u16);

/// In which form a pool wants to see a template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Wanted {
    ShortIds = 0x10,
    Transactions = 0x11,
    Block = 0x12,
}

impl Wanted {
    pub(super) fn from_wire(kind: u8) -> Option<Self> {
        [Self::ShortIds, Self::Transactions, Self::Block].into_iter().find(|w| *w as u8 == kind)
    }
}

impl ShareReason {
    pub const NONE: Self = Self(0);
    pub(crate) const BAD_JOB_ID: Self = Self(10);
    pub(crate) const BAD_COINBASE_ID: Self = Self(11);
    pub(crate) const BAD_EXTRANONCE: Self = Self(12);
    pub(crate) const BAD_TARGET: Self = Self(13);
    pub(crate) const BAD_USERNAME: Self = Self(14);
    pub const BAD_COINBASER_ID: Self = Self(15);
    pub(crate) const BAD_MERKLE_COUNT: Self = Self(16);
    pub(crate) const COINBASE_TOO_LARGE: Self = Self(17);
    pub(crate) const COINBASE_MISSING: Self = Self(18);
    pub(crate) const TARGET_MISMATCH: Self = Self(19);
    pub(crate) const HASH_NOT_ZERO: Self = Self(20);
    pub const HIGH_HASH: Self = Self(21);
    pub(crate) const COINBASE_ID_MISMATCH: Self = Self(22);
    pub const BAD_NTIME: Self = Self(23);
    pub(crate) const BAD_VERSION: Self = Self(24);
    pub const STALE_BLOCK: Self = Self(25);
    pub(crate) const BAD_COINBASE: Self = Self(26);
    pub const BAD_OUTPUTS: Self = Self(27);
    pub const MISSING_TAG: Self = Self(28);
    pub const DUPLICATE: Self = Self(29);
    pub const OTHER: Self = Self(30);

    /// All numbers without a meaning are one.
    pub(crate) fn bounded(self) -> Self {
        Self(self.0.min(Self::OTHER.0 + 1))
    }

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self.0 {
            10 => "bad job id",
            11 => "bad coinbase id",
            12 => "bad extranonce size",
            13 => "bad target",
            14 => "bad username",
            15 => "bad coinbaser id",
            16 => "bad merkle count",
            17 => "coinbase too large",
            18 => "coinbase missing",
            19 => "target mismatch",
            20 => "H not zero",
            21 => "high hash",
            22 => "coinbase id mismatch",
            23 => "bad ntime",
            24 => "bad version",
            25 => "stale block",
            26 => "bad coinbase",
            27 => "bad coinbase outputs",
            28 => "missing pool tag",
            29 => "duplicate work",
            _ => "other",
        }
    }
}

impl<'a> ToGateway<'a> {
    /// Appends the message, its kind byte first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Configuration(configuration) => configuration.encode(out),
            Self::Coinbaser(coinbaser) => {
                out.push(COINBASER);
                out.extend_from_slice(&coinbaser.value.to_le_bytes());
                out.extend_from_slice(&coinbaser.len.to_le_bytes());
                out.extend_from_slice(coinbaser.body);
                out.extend_from_slice(coinbaser.padding);
            }
            Self::ShareResponse(response) => {
                out.extend_from_slice(&[SHARE_RESPONSE, response.status.wire()]);
                out.extend_from_slice(&response.reason.0.to_le_bytes());
                out.extend_from_slice(&response.nonce.to_le_bytes());
                out.extend_from_slice(&[response.target_byte, response.slot]);
            }
            Self::NewBlock => out.push(NEW_BLOCK),
            Self::Validate { slot, wanted, indexes } => {
                out.extend_from_slice(&[VALIDATION, *wanted as u8, *slot]);
                if *wanted == Wanted::Transactions {
                    out.extend_from_slice(&indexes.len().to_le_bytes()[..2]);
                    indexes.iter().for_each(|at| out.extend_from_slice(&at.to_le_bytes()));
                }
            }
        }
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("kind")? {
            CONFIGURATION => Configuration::decode(reader).map(Self::Configuration),
            COINBASER => {
                let value = reader.u64("coinbaser value")?;
                let len = reader.u32("coinbaser length")?;
                let rest = reader.rest();
                // A length that does not fit is for `coinbaser::check` to name.
                let body_len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
                let (body, padding) = rest.split_at(body_len);
                Ok(Self::Coinbaser(CoinbaserMessage { value, len, body, padding }))
            }
            SHARE_RESPONSE => ShareResponse::decode(reader).map(Self::ShareResponse),
            NEW_BLOCK => Ok(Self::NewBlock),
            VALIDATION => Self::decode_validate(reader),
            kind => Err(DecodeError::Kind(kind)),
        }
    }

    fn decode_validate(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.u8("validation kind")?;
        let wanted = Wanted::from_wire(kind)
            .ok_or_else(|| DecodeError::Value { what: "validation kind", value: kind.into() })?;
        let slot = reader.u8("job id")?;
        let mut indexes = Vec::new();
        if wanted == Wanted::Transactions {
            let count = reader.u16("transaction count")?;
            for _ in 0..count {
                indexes.push(reader.u16("transaction indexes")?);
            }
        }
        Ok(Self::Validate { slot, wanted, indexes })
    }
}

impl<'a> Configuration<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[CONFIGURATION, CONFIGURATION_VERSION]);
        out.push(self.script.len().to_le_bytes()[0]);
        out.extend_from_slice(self.script);
        out.extend_from_slice(&self.prime_id.to_le_bytes());
        out.push(self.tag.len().to_le_bytes()[0]);
        out.extend_from_slice(self.tag);
        out.extend_from_slice(&self.min_difficulty.to_le_bytes());
        out.extend_from_slice(&[0, END]);
        out.extend_from_slice(self.padding);
    }

    fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        reader.mark(CONFIGURATION_VERSION, "configuration version")?;
        let script_len = reader.u8("script length")?;
        let script = reader.take(script_len.into(), "payout script")?;
        let prime_id = reader.u32("prime id")?;
        let tag_len = reader.u8("tag length")?;
        let tag = reader.take(tag_len.into(), "coinbase tag")?;
        let min_difficulty = reader.u64("minimum difficulty")?;
        reader.mark(0, "mark before the end of the configuration")?;
        reader.mark(END, "mark at the end of the configuration")?;
        Ok(Self { script, prime_id, tag, min_difficulty, padding: reader.rest() })
    }
}

impl ShareResponse {
    fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            status: ShareStatus::from_wire(reader.u8("share status")?),
            reason: ShareReason(reader.u16("reason")?),
            nonce: reader.u32("nonce")?,
            target_byte: reader.u8("target byte")?,
            slot: reader.u8("job id")?,
        })
    }
}

impl CoinbaserMessage<'_> {
    /// Writes the body of a coinbaser: its id, then every output.
    pub fn encode_body(id: u8, outputs: &[PayoutOutput]) -> Vec<u8> {
        let mut body = vec![id];
        for output in outputs {
            body.extend_from_slice(&output.value.to_le_bytes());
            body.push(output.script.len().to_le_bytes()[0]);
            body.extend_from_slice(&output.script);
        }
        body
    }
}

const CONFIGURATION: u8 = 0x99;
const CONFIGURATION_VERSION: u8 = 0x01;
const COINBASER: u8 = 0x11;
const SHARE_RESPONSE: u8 = 0x8F;
const NEW_BLOCK: u8 = 0xF9;
