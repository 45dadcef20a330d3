//! The embedded node's chain: every header, the bodies of the latest blocks. Pure.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use bitcoin::{
    Block, BlockHash, CompactTarget, Network, Transaction, TxMerkleNode, Work,
    block::{Header, Version},
    constants::genesis_block,
    hashes::Hash,
};
use rustc_hash::FxHashMap;

use super::mempool::PoolTx;
use crate::work::{Hash256, Nbits};

/// A header that the node knows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) hash: Hash256,
    pub(super) header: Header,
    pub(super) height: u32,
    /// The work of this block and all before it.
    pub(super) work: Work,
    /// Including the coinbase.
    pub(super) transactions: u32,
}

/// The status of a known block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Active,
    /// Was the tip once, until it was invalidated.
    Invalid,
    /// Well-formed, but built on a block that was not the tip.
    Inconclusive,
}

/// A block's content.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) coinbase: Transaction,
    /// All except the coinbase.
    pub(super) transactions: Vec<Arc<PoolTx>>,
    /// None for blocks that the node made itself.
    pub(super) submitted_by: Option<IpAddr>,
}

/// The active chain. Never empty: it begins with regtest's genesis block.
#[derive(Debug)]
pub(super) struct Chain {
    nbits: Nbits,
    active: Vec<Entry>,
    /// The bodies of the last blocks of `active`, newest last.
    bodies: VecDeque<Body>,
    heights: FxHashMap<Hash256, u32>,
    off_chain: VecDeque<(Entry, Standing)>,
}

impl Chain {
    /// A chain with only the genesis block. Later blocks have `nbits`.
    pub(super) fn new(nbits: Nbits) -> Self {
        let mut chain = Self {
            nbits,
            active: Vec::new(),
            bodies: VecDeque::new(),
            heights: FxHashMap::default(),
            off_chain: VecDeque::new(),
        };
        let Block { header, mut txdata } = genesis_block(Network::Regtest);
        let coinbase = txdata.swap_remove(0);
        chain.connect(header, Body { coinbase, transactions: Vec::new(), submitted_by: None });
        chain
    }

    pub(super) fn nbits(&self) -> Nbits {
        self.nbits
    }

    pub(super) fn tip(&self) -> &Entry {
        &self.active[self.active.len() - 1]
    }

    pub(super) fn at_height(&self, height: u32) -> Option<&Entry> {
        self.active.get(usize::try_from(height).ok()?)
    }

    pub(super) fn find(&self, hash: &Hash256) -> Option<(&Entry, Standing)> {
        let active = self.heights.get(hash).and_then(|height| self.at_height(*height));
        active.map(|entry| (entry, Standing::Active)).or_else(|| {
            let mut others = self.off_chain.iter();
            others.find(|(entry, _)| entry.hash == *hash).map(|(entry, is)| (entry, *is))
        })
    }

    /// None if it is not on the active chain, or too old.
    pub(super) fn body(&self, height: u32) -> Option<&Body> {
        let depth = usize::try_from(self.tip().height.checked_sub(height)?).ok()?;
        self.bodies.iter().nth_back(depth)
    }

    /// The latest blocks, oldest first.
    pub(super) fn recent(&self) -> impl Iterator<Item = (&Entry, &Body)> {
        let from = self.active.len() - self.bodies.len();
        self.active[from..].iter().zip(&self.bodies)
    }

    /// Median time past: of the block at `height` and the ten before it.
    pub(super) fn median_time(&self, height: u32) -> u32 {
        let end = usize::try_from(height).map_or(self.active.len(), |height| height + 1);
        let end = end.min(self.active.len());
        let window = &self.active[end.saturating_sub(MEDIAN_SPAN)..end];
        let mut times: Vec<u32> = window.iter().map(|entry| entry.header.time).collect();
        times.sort_unstable();
        times[times.len() / 2]
    }

    /// Adds a block on the tip without checks, which are up to the caller.
    pub(super) fn connect(&mut self, header: Header, body: Body) {
        let entry = self.entry(header, self.active.last(), body.transactions.len());
        self.heights.insert(entry.hash, entry.height);
        self.active.push(entry);
        self.bodies.push_back(body);
        if self.bodies.len() > BODIES_MAX {
            self.bodies.pop_front();
        }
    }

    /// Remembers a block whose parent is known, but is not the tip.
    pub(super) fn set_aside(&mut self, header: Header, parent: &Hash256, transactions: usize) {
        let parent = self.find(parent).map(|(entry, _)| entry);
        let entry = self.entry(header, parent, transactions);
        self.push_off_chain(entry, Standing::Inconclusive);
    }

    /// Removes the tip from the chain, permanently. None if only the genesis block is left, or the
    /// block is so old that its body is gone.
    pub(super) fn forget_tip(&mut self) -> Option<Body> {
        if self.active.len() < 2 || self.bodies.len() < 2 {
            return None;
        }
        let entry = self.active.pop()?;
        self.heights.remove(&entry.hash);
        self.push_off_chain(entry, Standing::Invalid);
        self.bodies.pop_back()
    }

    /// The header of a block on the tip; `nonce` makes it unique.
    pub(super) fn next_header(&self, merkle_root: Hash256, now: u32, nonce: u32) -> Header {
        Header {
            version: Version::from_consensus(VERSION),
            prev_blockhash: BlockHash::from_byte_array(self.tip().hash.0),
            merkle_root: TxMerkleNode::from_byte_array(merkle_root.0),
            time: now.max(self.median_time(self.tip().height) + 1),
            bits: CompactTarget::from_consensus(self.nbits.get()),
            nonce,
        }
    }

    fn entry(&self, header: Header, parent: Option<&Entry>, transactions: usize) -> Entry {
        Entry {
            hash: Hash256(header.block_hash().to_byte_array()),
            header,
            height: parent.map_or(0, |parent| parent.height + 1),
            work: parent.map_or_else(|| header.work(), |parent| parent.work + header.work()),
            transactions: u32::try_from(transactions + 1).unwrap_or(u32::MAX),
        }
    }

    fn push_off_chain(&mut self, entry: Entry, standing: Standing) {
        self.off_chain.push_back((entry, standing));
        if self.off_chain.len() > OFF_CHAIN_MAX {
            self.off_chain.pop_front();
        }
    }
}

/// What the block at `height` may create, in sats.
pub(super) fn subsidy(height: u32) -> u64 {
    SUBSIDY_FIRST.checked_shr(height / HALVING_INTERVAL).unwrap_or(0)
}

/// The version in templates: BIP 9's top bits, no others set.
pub(super) const VERSION: i32 = 0x2000_0000;
const SUBSIDY_FIRST: u64 = 50 * 100_000_000;
/// Regtest's.
const HALVING_INTERVAL: u32 = 150;
const MEDIAN_SPAN: usize = 11;
/// Enough to show and to undo.
const BODIES_MAX: usize = 100;
const OFF_CHAIN_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn body(chain: &Chain) -> Body {
        let coinbase = chain.body(0).map(|body| body.coinbase.clone());
        let coinbase =
            coinbase.unwrap_or_else(|| genesis_block(Network::Regtest).txdata.swap_remove(0));
        Body { coinbase, transactions: Vec::new(), submitted_by: None }
    }

    fn grown(blocks: u32) -> Chain {
        let mut chain = Chain::new(Nbits::new(0x207f_ffff).unwrap());
        for at in 0..blocks {
            chain.connect(chain.next_header(Hash256::ZERO, 2_000_000_000 + at, at), body(&chain));
        }
        chain
    }

    #[test]
    fn genesis_is_regtests() {
        let genesis = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";
        assert_eq!(grown(0).tip().hash.to_string(), genesis);
        assert_eq!(grown(0).median_time(0), 1_296_688_602);
    }

    #[test]
    fn subsidy_halves_as_on_regtest() {
        let halves = [5_000_000_000, 2_500_000_000, 2_500_000_000, 1_250_000_000];
        assert_eq!([149, 150, 299, 300].map(subsidy), halves);
        assert_eq!(subsidy(150 * 64), 0);
    }

    #[test]
    fn bodies_are_bounded_and_headers_are_not() {
        let chain = grown(250);
        assert_eq!(chain.recent().count(), BODIES_MAX);
        assert_eq!(chain.recent().last().unwrap().0.hash, chain.tip().hash);
        assert!(
            chain.body(151).is_some() && chain.body(150).is_none() && chain.body(251).is_none()
        );
        assert_eq!(chain.at_height(3).unwrap().height, 3);
        assert_eq!(chain.median_time(250), 2_000_000_000 + 244);
    }

    #[test]
    fn forgotten_tips_stay_known() {
        let mut chain = grown(2);
        let tip = *chain.tip();
        assert!(chain.forget_tip().is_some());
        assert_eq!(chain.tip().height, 1);
        assert_eq!(chain.find(&tip.hash).unwrap().1, Standing::Invalid);
        assert!(chain.forget_tip().is_some());
        assert!(chain.forget_tip().is_none(), "the genesis block stays");
    }
}
