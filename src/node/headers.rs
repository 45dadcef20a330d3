//! What a node's headers prove. Pure.
//!
//! A complete header proves its hash and the work that its bits stand for, whoever shows it.
//! Anything else that a node says, such as its chain's work, proves nothing. On regtest, work costs
//! nothing and proves nothing, so none is required.

use std::collections::VecDeque;

use bitcoin::{CompactTarget, Network};

use super::header::{ChainWork, EASY_AFTER, RETARGET_INTERVAL};
use crate::work::{Hash256, Nbits};

/// A header that was checked to have the hash that it is known by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProvenHeader {
    pub(crate) hash: Hash256,
    pub(crate) prevhash: Hash256,
    pub(crate) height: u32,
    pub(crate) bits: Nbits,
    pub(crate) time: u32,
}

/// The fields of an 80-byte header, as a node gives them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderFields {
    pub(crate) version: i32,
    pub(crate) prevhash: Hash256,
    pub(crate) merkle_root: Hash256,
    pub(crate) time: u32,
    pub(crate) bits: Nbits,
    pub(crate) nonce: u32,
}

/// Why a node's headers are not believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum HeaderFault {
    #[error("its hash is not the one that the node gave")]
    Hash,
    #[error("it does not have the proof of work that its bits require")]
    Work,
    #[error("it is not the parent of the next header")]
    Link,
    #[error("its height is not its parent's height plus one")]
    Height,
    #[error("its bits do not follow from its parent's")]
    Bits,
    #[error("the node does not know it, although its own chain is supposed to be built on it")]
    Missing,
}

impl HeaderFields {
    /// The header, if it has this hash.
    pub(crate) fn prove(&self, hash: Hash256, height: u32) -> Result<ProvenHeader, HeaderFault> {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&self.version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prevhash.0);
        header[36..68].copy_from_slice(&self.merkle_root.0);
        header[68..72].copy_from_slice(&self.time.to_le_bytes());
        header[72..76].copy_from_slice(&self.bits.get().to_le_bytes());
        header[76..].copy_from_slice(&self.nonce.to_le_bytes());
        if Hash256::sha256d(&header) != hash {
            return Err(HeaderFault::Hash);
        }
        let Self { prevhash, time, bits, .. } = *self;
        Ok(ProvenHeader { hash, prevhash, height, bits, time })
    }
}

impl ProvenHeader {
    pub(crate) fn work(&self) -> ChainWork {
        let target = bitcoin::Target::from_compact(CompactTarget::from_consensus(self.bits.get()));
        ChainWork::from_be_bytes(target.to_work().to_be_bytes())
    }

    /// An error if it lacks the work that its bits require. The first block is exempt.
    fn check_work(&self, network: Network) -> Result<(), HeaderFault> {
        let is_exempt = self.height == 0 || network == Network::Regtest;
        let is_fine = is_exempt || self.bits.target().is_met_by(&self.hash);
        if is_fine { Ok(()) } else { Err(HeaderFault::Work) }
    }

    /// What is wrong with this header as the child of that one.
    pub(crate) fn follows(&self, parent: &Self, network: Network) -> Result<(), HeaderFault> {
        if self.prevhash != parent.hash {
            return Err(HeaderFault::Link);
        }
        if parent.height.checked_add(1) != Some(self.height) {
            return Err(HeaderFault::Height);
        }
        let is_fine = bits_follow(self.bits, (self.height, self.time), parent, network);
        if is_fine { Ok(()) } else { Err(HeaderFault::Bits) }
    }
}

/// Whether a block of this height and time may have these bits, as far as its parent alone can
/// tell.
pub(crate) fn bits_follow(
    bits: Nbits,
    (height, time): (u32, u32),
    parent: &ProvenHeader,
    network: Network,
) -> bool {
    if bits == parent.bits {
        return true;
    }
    let ratio = bits.target().difficulty() / parent.bits.target().difficulty();
    let is_retarget = height.is_multiple_of(RETARGET_INTERVAL) && RETARGETED.contains(&ratio);
    match network {
        // Networks where all blocks have one difficulty, or at least that of the first.
        Network::Regtest => bits.target() <= parent.bits.target(),
        // Blocks of minimum difficulty may come after twenty minutes, and after one of them the
        // former difficulty returns, which its parent does not tell.
        Network::Testnet | Network::Testnet4 => {
            let is_easy = bits.get() == EASIEST && time > parent.time.saturating_add(EASY_AFTER);
            is_retarget || is_easy || parent.bits.get() == EASIEST
        }
        _ => is_retarget,
    }
}

/// A node's headers from its tip down, each the parent of the previous one. Never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HeaderChain {
    shown: VecDeque<ProvenHeader>,
    /// There are no more headers to request.
    is_whole: bool,
}

impl HeaderChain {
    fn of(tip: ProvenHeader) -> Self {
        let is_whole = tip.height == 0;
        Self { shown: VecDeque::from([tip]), is_whole }
    }

    /// The chain with a new tip: `old` extended if the tip builds on it, or else a new one.
    pub(crate) fn with_tip(
        old: Option<&Self>,
        tip: ProvenHeader,
        network: Network,
    ) -> Result<Self, HeaderFault> {
        tip.check_work(network)?;
        let Some(old) = old.filter(|old| old.tip().hash == tip.prevhash) else {
            return Ok(Self::of(tip));
        };
        tip.follows(old.tip(), network)?;
        let mut shown = VecDeque::with_capacity(old.shown.len().min(KEPT) + 1);
        shown.push_back(tip);
        shown.extend(old.shown.iter().take(KEPT - 1).cloned());
        let is_whole = old.is_whole && old.shown.len() < KEPT;
        Ok(Self { shown, is_whole })
    }

    pub(crate) fn tip(&self) -> &ProvenHeader {
        self.shown.front().expect("a chain has a tip")
    }

    /// The parent of the last header shown, to be requested next.
    pub(crate) fn wanted(&self) -> Option<Hash256> {
        let last = self.shown.back().filter(|_| !self.is_whole)?;
        Some(last.prevhash)
    }

    /// Takes the requested header.
    pub(crate) fn lengthen(
        &mut self,
        parent: ProvenHeader,
        network: Network,
    ) -> Result<(), HeaderFault> {
        parent.check_work(network)?;
        if let Some(last) = self.shown.back() {
            last.follows(&parent, network)?;
        }
        self.is_whole = parent.height == 0 || self.shown.len() + 1 >= WALK_MAX;
        self.shown.push_back(parent);
        Ok(())
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(crate) fn iter(
        &self,
    ) -> impl DoubleEndedIterator<Item = &ProvenHeader> + ExactSizeIterator {
        self.shown.iter()
    }
}

/// Two weeks of blocks: enough to compare a node that was away for that long, and two seconds of
/// calls. It costs memory only when nodes disagree.
const WALK_MAX: usize = 2016;
/// How many headers are kept while the tip moves on.
const KEPT: usize = 144;
/// A factor of four either way, and the rounding of the compact form.
const RETARGETED: std::ops::RangeInclusive<f64> = 0.2499..=4.001;
/// On test networks.
const EASIEST: u32 = 0x1d00_ffff;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A header of a block that really has the work of its bits, which should be little.
    pub(crate) fn mined(prevhash: Hash256, height: u32, bits: u32, mark: u8) -> ProvenHeader {
        let merkle_root = Hash256([mark; 32]);
        let bits = Nbits::new(bits).unwrap();
        let time = 1_700_000_000 + height * 600;
        (0..)
            .find_map(|nonce| {
                let fields = HeaderFields { version: 4, prevhash, merkle_root, time, bits, nonce };
                let header: Vec<u8> = [
                    &fields.version.to_le_bytes()[..],
                    &prevhash.0,
                    &merkle_root.0,
                    &time.to_le_bytes(),
                    &bits.get().to_le_bytes(),
                    &nonce.to_le_bytes(),
                ]
                .concat();
                let shown = fields.prove(Hash256::sha256d(&header), height).unwrap();
                bits.target().is_met_by(&shown.hash).then_some(shown)
            })
            .unwrap()
    }

    pub(crate) const EASY: u32 = 0x207f_ffff;

    /// The genesis block of the main network.
    fn genesis() -> HeaderFields {
        let root = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
        HeaderFields {
            version: 1,
            prevhash: Hash256::ZERO,
            merkle_root: Hash256::from_display_hex(root).unwrap(),
            time: 1_231_006_505,
            bits: Nbits::new(0x1d00_ffff).unwrap(),
            nonce: 2_083_236_893,
        }
    }

    fn genesis_hash() -> Hash256 {
        let hash = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
        Hash256::from_display_hex(hash).unwrap()
    }

    #[test]
    fn a_header_proves_its_hash_and_its_work() {
        let shown = genesis().prove(genesis_hash(), 1).unwrap();
        assert_eq!((shown.hash, shown.time), (genesis_hash(), 1_231_006_505));
        let work = format!("{:?}", shown.work());
        assert_eq!(work, format!("{:?}", ChainWork::from_hex("100010001").unwrap()));
        let other = HeaderFields { nonce: 1, ..genesis() };
        assert_eq!(other.prove(genesis_hash(), 1), Err(HeaderFault::Hash));
        // Its own hash, without the work.
        let idle = HeaderFields { bits: Nbits::new(0x1700_ffff).unwrap(), ..genesis() };
        let header = [
            &1_i32.to_le_bytes()[..],
            &idle.prevhash.0,
            &idle.merkle_root.0,
            &idle.time.to_le_bytes(),
            &idle.bits.get().to_le_bytes(),
            &idle.nonce.to_le_bytes(),
        ];
        let hash = Hash256::sha256d(&header.concat());
        let idle = idle.prove(hash, 1).unwrap();
        let alone = |network| HeaderChain::with_tip(None, idle.clone(), network);
        assert_eq!(alone(Network::Bitcoin), Err(HeaderFault::Work));
        let above = mined(hash, 2, EASY, 0);
        let mut chain = HeaderChain::with_tip(None, above, Network::Testnet4).unwrap();
        assert_eq!(chain.lengthen(idle.clone(), Network::Testnet4), Err(HeaderFault::Work));
        // Where it costs nothing.
        assert!(alone(Network::Regtest).is_ok());
    }

    #[track_caller]
    fn follow(network: Network, height: u32, old: u32, new: u32, expected: bool) {
        let parent =
            ProvenHeader { bits: Nbits::new(old).unwrap(), ..mined(Hash256::ZERO, 1, EASY, 0) };
        let time = parent.time + 600;
        let is_fine = bits_follow(Nbits::new(new).unwrap(), (height, time), &parent, network);
        assert_eq!(is_fine, expected, "{network} {height} {old:x} {new:x}");
    }

    #[test]
    fn bits_follow_from_the_parents() {
        use Network::{Bitcoin, Regtest, Signet, Testnet4};
        follow(Bitcoin, 900_001, 0x1702_1fff, 0x1702_1fff, true);
        // The easiest there are, on the main network.
        follow(Bitcoin, 900_001, 0x1702_1fff, 0x207f_ffff, false);
        follow(Bitcoin, 900_001, 0x1702_1fff, 0x1702_2000, false);
        follow(Bitcoin, 2016 * 450, 0x1702_1fff, 0x1702_0fff, true);
        follow(Bitcoin, 2016 * 450, 0x1702_1fff, 0x1708_7ffc, true);
        follow(Bitcoin, 2016 * 450, 0x1702_1fff, 0x1709_7ffc, false);
        follow(Signet, 2016 * 450, 0x1702_1fff, 0x207f_ffff, false);
        follow(Regtest, 2016, 0x207f_ffff, 0x1e00_ffff, true);
        follow(Regtest, 2016, 0x1e00_ffff, 0x207f_ffff, false);
        follow(Testnet4, 7, 0x1b02_1fff, 0x1d00_ffff, false);
        follow(Testnet4, 7, 0x1d00_ffff, 0x1b02_1fff, true);
        let parent = mined(Hash256::ZERO, 6, EASY, 0);
        let parent = ProvenHeader { bits: Nbits::new(0x1b02_1fff).unwrap(), ..parent };
        let easy = Nbits::new(0x1d00_ffff).unwrap();
        assert!(bits_follow(easy, (7, parent.time + 1201), &parent, Testnet4));
        assert!(!bits_follow(easy, (7, parent.time + 1201), &parent, Bitcoin));
    }

    #[test]
    fn a_chain_grows_at_both_ends() {
        let network = Network::Regtest;
        let mut all = vec![mined(Hash256::ZERO, 0, EASY, 0)];
        for height in 1..5 {
            all.push(mined(all.last().unwrap().hash, height, EASY, 0));
        }
        let mut chain = HeaderChain::with_tip(None, all[2].clone(), network).unwrap();
        assert_eq!(chain.wanted(), Some(all[1].hash));
        let other = mined(Hash256::ZERO, 1, EASY, 9);
        assert_eq!(chain.lengthen(other, network), Err(HeaderFault::Link));
        let higher = ProvenHeader { height: 7, ..all[1].clone() };
        assert_eq!(chain.lengthen(higher, network), Err(HeaderFault::Height));
        chain.lengthen(all[1].clone(), network).unwrap();
        chain.lengthen(all[0].clone(), network).unwrap();
        assert!(chain.is_whole() && chain.wanted().is_none());
        let chain = HeaderChain::with_tip(Some(&chain), all[3].clone(), network).unwrap();
        assert_eq!((chain.iter().len(), chain.is_whole()), (4, true));
        // Not the next one: what was known is no part of it.
        let reorganised = mined(all[2].hash, 3, EASY, 8);
        let chain = HeaderChain::with_tip(Some(&chain), reorganised, network).unwrap();
        assert_eq!((chain.iter().len(), chain.wanted()), (1, Some(all[2].hash)));
        let wrong = mined(chain.tip().hash, 4, 0x207f_fffe, 0);
        let wrong = HeaderChain::with_tip(Some(&chain), wrong, Network::Bitcoin);
        assert_eq!(wrong, Err(HeaderFault::Bits));
    }
}
