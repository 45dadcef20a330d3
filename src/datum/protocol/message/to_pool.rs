//! Mining messages from a gateway to its pool.

use super::{
    DecodeError, END,
    share::{self, ShareMessage},
    to_gateway::Wanted,
};
use crate::{
    datum::protocol::codec::Reader,
    work::{CoinbaserRequest, Hash256},
};

/// A mining message that a pool receives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ToPool<'a> {
    FetchCoinbaser { request: CoinbaserRequest, padding: &'a [u8] },
    Share(ShareMessage<'a>),
    Validation { slot: u8, answer: Validation<'a>, padding: &'a [u8] },
}

/// The three answers to a job validation, and the errors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Validation<'a> {
    /// One for each transaction; without transactions, there is no crosscheck.
    ShortIds { ids: Vec<[u8; 6]>, crosscheck: Option<[u8; 32]> },
    /// The requested ones.
    Transactions(Vec<&'a [u8]>),
    /// All except the coinbase.
    Block(Vec<&'a [u8]>),
    /// Why it cannot be answered.
    Error { wanted: Wanted, error: ValidationError },
}

/// Why a validation cannot be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[repr(u8)]
pub enum ValidationError {
    #[error("no such job")]
    NoJob = 0xF0,
    #[error("job without template")]
    NoTemplate = 0xF1,
    #[error("too many transactions")]
    TooMany = 0xF2,
    #[error("job id out of range")]
    OutOfRange = 0xF3,
    #[error("bad count or index")]
    BadIndex = 0xF4,
}

impl ValidationError {
    fn from_wire(code: u8) -> Result<Self, DecodeError> {
        Ok(match code {
            0xF0 => Self::NoJob,
            0xF1 => Self::NoTemplate,
            0xF2 => Self::TooMany,
            0xF3 => Self::OutOfRange,
            0xF4 => Self::BadIndex,
            _ => {
                return Err(DecodeError::Value { what: "validation status", value: code.into() });
            }
        })
    }
}

impl<'a> ToPool<'a> {
    /// Appends the message, its kind byte first.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::FetchCoinbaser { request, padding } => {
                out.push(FETCH_COINBASER);
                out.extend_from_slice(&request.value.to_le_bytes());
                out.extend_from_slice(&request.prevhash.0);
                out.push(END);
                out.extend_from_slice(padding);
            }
            Self::Share(share) => share.encode(out),
            Self::Validation { slot, answer, padding } => {
                answer.encode(*slot, out);
                out.extend_from_slice(padding);
            }
        }
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("kind")? {
            FETCH_COINBASER => {
                let value = reader.u64("coinbaser value")?;
                let prevhash = Hash256(reader.array("previous hash")?);
                reader.mark(END, "mark at the end of a coinbaser request")?;
                let request = CoinbaserRequest { prevhash, value };
                Ok(Self::FetchCoinbaser { request, padding: reader.rest() })
            }
            share::KIND => Ok(Self::Share(ShareMessage::decode(reader)?)),
            VALIDATION => Validation::decode(reader),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

impl<'a> Validation<'a> {
    fn encode(&self, slot: u8, out: &mut Vec<u8>) {
        let wanted = match self {
            Self::ShortIds { .. } => Wanted::ShortIds,
            Self::Transactions(_) => Wanted::Transactions,
            Self::Block(_) => Wanted::Block,
            Self::Error { wanted, .. } => *wanted,
        };
        out.extend_from_slice(&[VALIDATION, wanted as u8 | ANSWER, slot]);
        match self {
            Self::ShortIds { ids, crosscheck } => {
                out.push(OK);
                out.extend_from_slice(&ids.len().to_le_bytes()[..2]);
                ids.iter().for_each(|id| out.extend_from_slice(id));
                if let Some(crosscheck) = crosscheck {
                    out.extend_from_slice(crosscheck);
                    out.push(END);
                }
            }
            Self::Transactions(transactions) | Self::Block(transactions) => {
                out.push(OK);
                out.extend_from_slice(&transactions.len().to_le_bytes()[..2]);
                for raw in transactions {
                    out.extend_from_slice(&raw.len().to_le_bytes()[..3]);
                    out.extend_from_slice(raw);
                }
                out.push(END);
            }
            Self::Error { error, .. } => out.push(*error as u8),
        }
    }

    fn decode(mut reader: Reader<'a>) -> Result<ToPool<'a>, DecodeError> {
        let kind = reader.u8("validation kind")?;
        let wanted = Wanted::from_wire(kind & !ANSWER).filter(|_| kind & ANSWER != 0);
        let wanted = wanted
            .ok_or_else(|| DecodeError::Value { what: "validation kind", value: kind.into() })?;
        let slot = reader.u8("job id")?;
        let status = reader.u8("validation status")?;
        if status != OK {
            let error = ValidationError::from_wire(status)?;
            let answer = Self::Error { wanted, error };
            return Ok(ToPool::Validation { slot, answer, padding: reader.rest() });
        }
        let count = reader.u16("transaction count")?;
        let answer = if wanted == Wanted::ShortIds {
            let ids = (0..count).map(|_| reader.array("short ids")).collect::<Result<_, _>>()?;
            let crosscheck = if count == 0 {
                None
            } else {
                let crosscheck = reader.array("crosscheck")?;
                reader.mark(END, "mark at the end of short ids")?;
                Some(crosscheck)
            };
            Self::ShortIds { ids, crosscheck }
        } else {
            let transaction = |_| {
                let len = reader.u24("transaction size")?;
                reader.take(len as usize, "transaction")
            };
            let transactions = (0..count).map(transaction).collect::<Result<_, _>>()?;
            reader.mark(END, "mark at the end of transactions")?;
            if wanted == Wanted::Block {
                Self::Block(transactions)
            } else {
                Self::Transactions(transactions)
            }
        };
        Ok(ToPool::Validation { slot, answer, padding: reader.rest() })
    }
}

const FETCH_COINBASER: u8 = 0x10;
pub(super) const VALIDATION: u8 = 0x50;
/// Set in the second kind byte of answers.
const ANSWER: u8 = 0x80;
const OK: u8 = 0x01;
