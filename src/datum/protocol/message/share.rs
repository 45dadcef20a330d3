//! A share, with the contexts that the pool needs to rebuild its header.

use std::borrow::Cow;

use super::{DecodeError, END, USERNAME_MAX};
use crate::{datum::protocol::codec::Reader, work::Hash256};

/// Kind 0x27.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShareMessage<'a> {
    /// 0 to 7.
    pub slot: u8,
    /// 0 to 5, or 0xFF.
    pub coinbase_id: u8,
    pub flags: ShareFlags,
    pub target_byte: u8,
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    /// Must have 12 bytes, or the pool refuses the share.
    pub extranonce: &'a [u8],
    pub username: &'a [u8],
    pub reserved: [u8; 4],
    /// Only in a slot's first share on a connection.
    pub job: Option<JobContext<'a>>,
    /// Only in a slot's first share with this coinbase.
    pub coinbase: Option<CoinbaseContext<'a>>,
    pub padding: &'a [u8],
}

/// A share's flags, in one byte.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShareFlags(pub u8);

impl ShareFlags {
    pub const BLOCK: u8 = 1;
    pub const SUBSIDY_ONLY: u8 = 2;
    pub const QUICKDIFF: u8 = 4;

    pub(crate) fn new(is_block: bool, subsidy_only: bool, quickdiff: bool) -> Self {
        let bit = |on, bit| if on { bit } else { 0 };
        Self(
            bit(is_block, Self::BLOCK)
                | bit(subsidy_only, Self::SUBSIDY_ONLY)
                | bit(quickdiff, Self::QUICKDIFF),
        )
    }

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Section 0x01: what all shares of a job have in common.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JobContext<'a> {
    pub prevhash: Hash256,
    /// Offset of the target byte in coinb1.
    pub target_byte_index: u16,
    pub nbits: u32,
    pub coinbaser_id: u8,
    pub height: u32,
    pub coinbase_value: u64,
    pub tx_count: u32,
    pub total_weight: u32,
    pub total_size: u32,
    pub total_sigops: u32,
    pub branches: Cow<'a, [Hash256]>,
}

/// Section 0x02: one coinbase of a job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CoinbaseContext<'a> {
    pub coinbase_id: u8,
    /// Holds 0xFF at the target byte's place.
    pub coinb1: &'a [u8],
    pub coinb2: &'a [u8],
}

impl<'a> ShareMessage<'a> {
    /// Appends the message, its kind byte first.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[KIND, self.slot, self.coinbase_id, self.flags.0, self.target_byte]);
        for field in [self.ntime, self.nonce, self.version] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.push(self.extranonce.len().to_le_bytes()[0]);
        out.extend_from_slice(self.extranonce);
        out.extend_from_slice(self.username);
        out.push(0);
        out.extend_from_slice(&self.reserved);
        if let Some(job) = &self.job {
            out.push(SECTION_JOB);
            job.encode(out);
        }
        if let Some(coinbase) = &self.coinbase {
            out.push(SECTION_COINBASE);
            coinbase.encode(out);
        }
        out.push(END);
        out.extend_from_slice(self.padding);
    }

    /// Reads what follows the kind byte.
    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let slot = reader.u8("job id")?;
        let coinbase_id = reader.u8("coinbase id")?;
        let flags = ShareFlags(reader.u8("flags")?);
        let target_byte = reader.u8("target byte")?;
        let ntime = reader.u32("ntime")?;
        let nonce = reader.u32("nonce")?;
        let version = reader.u32("version")?;
        let extranonce_len = reader.u8("extranonce length")?;
        let extranonce = reader.take(extranonce_len.into(), "extranonce")?;
        let username = reader.text(USERNAME_MAX, "username")?;
        let reserved = reader.array("reserved field")?;
        let job =
            if reader.skip_if(SECTION_JOB) { Some(JobContext::decode(&mut reader)?) } else { None };
        let coinbase = if reader.skip_if(SECTION_COINBASE) {
            Some(CoinbaseContext::decode(&mut reader)?)
        } else {
            None
        };
        reader.mark(END, "mark at the end of a share")?;
        let padding = reader.rest();
        Ok(Self {
            slot,
            coinbase_id,
            flags,
            target_byte,
            ntime,
            nonce,
            version,
            extranonce,
            username,
            reserved,
            job,
            coinbase,
            padding,
        })
    }
}

impl<'a> JobContext<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prevhash.0);
        out.extend_from_slice(&self.target_byte_index.to_le_bytes());
        out.extend_from_slice(&self.nbits.to_le_bytes());
        out.push(self.coinbaser_id);
        out.extend_from_slice(&self.height.to_le_bytes());
        out.extend_from_slice(&self.coinbase_value.to_le_bytes());
        for field in [self.tx_count, self.total_weight, self.total_size, self.total_sigops] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.push(self.branches.len().to_le_bytes()[0]);
        self.branches.iter().for_each(|branch| out.extend_from_slice(&branch.0));
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let prevhash = Hash256(reader.array("previous hash")?);
        let target_byte_index = reader.u16("target byte index")?;
        let nbits = reader.u32("nbits")?;
        let coinbaser_id = reader.u8("coinbaser id")?;
        let height = reader.u32("height")?;
        let coinbase_value = reader.u64("coinbase value")?;
        let tx_count = reader.u32("transaction count")?;
        let total_weight = reader.u32("total weight")?;
        let total_size = reader.u32("total size")?;
        let total_sigops = reader.u32("total sigops")?;
        let count = reader.u8("branch count")?;
        let branches = (0..count).map(|_| reader.array("merkle branches").map(Hash256));
        let branches = branches.collect::<Result<Vec<_>, _>>()?.into();
        Ok(Self {
            prevhash,
            target_byte_index,
            nbits,
            coinbaser_id,
            height,
            coinbase_value,
            tx_count,
            total_weight,
            total_size,
            total_sigops,
            branches,
        })
    }
}

impl<'a> CoinbaseContext<'a> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.coinbase_id);
        for part in [self.coinb1, self.coinb2] {
            out.extend_from_slice(&part.len().to_le_bytes()[..2]);
        }
        out.extend_from_slice(self.coinb1);
        out.extend_from_slice(self.coinb2);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let coinbase_id = reader.u8("coinbase's id")?;
        let coinb1_len = reader.u16("coinb1 length")?;
        let coinb2_len = reader.u16("coinb2 length")?;
        let coinb1 = reader.take(coinb1_len.into(), "coinb1")?;
        let coinb2 = reader.take(coinb2_len.into(), "coinb2")?;
        Ok(Self { coinbase_id, coinb1, coinb2 })
    }
}

pub(super) const KIND: u8 = 0x27;
const SECTION_JOB: u8 = 0x01;
const SECTION_COINBASE: u8 = 0x02;
