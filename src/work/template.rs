//! What a node says a block may contain.

use std::sync::Arc;

use bytes::Bytes;

use super::{Hash256, Nbits, merkle};

/// A block template. Immutable; a newer one replaces it entirely.
#[derive(Debug)]
pub struct Template {
    /// The node that made it, as named in logs.
    pub source: Arc<str>,
    pub kind: TemplateKind,
    pub height: u32,
    pub version: u32,
    pub prevhash: Hash256,
    pub nbits: Nbits,
    /// The node's clock when it answered, unix seconds.
    pub curtime: u32,
    /// The least ntime that the network accepts (median time past + 1).
    pub mintime: u32,
    /// Subsidy and fees that the coinbase may pay, in sats.
    pub coinbase_value: u64,
    /// Σ fees of `transactions`, in sats; the exact subsidy is `coinbase_value - fees`.
    pub fees: u64,
    /// scriptPubKey of the witness commitment; none before segwit and in a tip template.
    pub witness_commitment: Option<Box<[u8]>>,
    pub transactions: Box<[TemplateTx]>,
    /// Sibling hashes of the coinbase on its way to the merkle root.
    pub merkle_branches: Box<[Hash256]>,
    /// Bytes of all `transactions`, with witnesses.
    pub total_size: u32,
    pub total_weight: u32,
    pub total_sigops: u32,
    pub limits: BlockLimits,
}

/// Where a template came from, and hence what may be built on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TemplateKind {
    /// Made from a block header alone, before the node has built a template: subsidy only.
    Tip,
    /// `getblocktemplate`.
    Full,
}

/// The network's limits on a whole block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockLimits {
    pub(crate) size: u32,
    pub(crate) weight: u32,
    pub(crate) sigops: u32,
}

/// One transaction of a template. `raw` shares one buffer with its siblings.
#[derive(Clone, Debug)]
pub struct TemplateTx {
    pub txid: Hash256,
    pub wtxid: Hash256,
    pub raw: Bytes,
    pub fee: u64,
    pub weight: u32,
    pub sigops: u32,
}

impl Template {
    /// The subsidy alone, exact on every network.
    pub fn subsidy(&self) -> u64 {
        self.coinbase_value.saturating_sub(self.fees)
    }

    /// Subsidy-only work on a tip whose header is all that is known.
    pub fn tip(source: Arc<str>, tip: &TipHeader) -> Self {
        Self {
            source,
            kind: TemplateKind::Tip,
            height: tip.height,
            version: tip.version,
            prevhash: tip.prevhash,
            nbits: tip.nbits,
            curtime: tip.curtime,
            mintime: tip.mintime,
            coinbase_value: tip.subsidy,
            fees: 0,
            witness_commitment: None,
            transactions: Box::default(),
            merkle_branches: Box::default(),
            total_size: 0,
            total_weight: 0,
            total_sigops: 0,
            limits: BlockLimits::CONSENSUS,
        }
    }

    /// Branches for `txids` of everything but the coinbase.
    pub fn branches(txids: impl Iterator<Item = Hash256>) -> Box<[Hash256]> {
        merkle::branches(txids)
    }
}

impl BlockLimits {
    /// Bitcoin's own limits, for when no template has said otherwise.
    pub const CONSENSUS: Self = Self { size: 4_000_000, weight: 4_000_000, sigops: 80_000 };
}

/// All that an empty block needs, for the block *after* the new tip.
#[derive(Clone, Debug)]
pub struct TipHeader {
    /// Height of the block to be mined: the tip's plus one.
    pub height: u32,
    pub version: u32,
    /// The new tip's hash.
    pub prevhash: Hash256,
    pub nbits: Nbits,
    pub curtime: u32,
    pub mintime: u32,
    /// Of the block to be mined, in sats.
    pub subsidy: u64,
}
