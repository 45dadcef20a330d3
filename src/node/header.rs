//! What a new tip's header tells about the next block, before the node has made a template. Pure.

use bitcoin::Network;
use serde::Deserialize;

use super::headers::{HeaderFault, HeaderFields, ProvenHeader};
use crate::work::{Hash256, Nbits, Template, TipHeader};

/// `getblockheader`, the part that matters.
#[derive(Debug, Deserialize)]
pub(crate) struct RawHeader<'a> {
    hash: &'a str,
    /// 1 for the tip, more below it, -1 off the best chain.
    confirmations: i64,
    height: u32,
    bits: &'a str,
    mediantime: u32,
    #[serde(default)]
    time: u32,
    /// Not every kind of node has this field.
    #[serde(default)]
    chainwork: &'a str,
    /// 2 for blocks with another proof of work; only nodes that know such blocks have this field.
    #[serde(default)]
    header_version: u32,
    /// With these fields the header proves itself; every real node has them.
    version: Option<i32>,
    merkleroot: Option<&'a str>,
    nonce: Option<u32>,
    /// The first block has none.
    previousblockhash: Option<&'a str>,
}

/// The work in a chain, as nodes report it: a 256-bit number.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct ChainWork([u8; 32]);

impl ChainWork {
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let padded = format!("{hex:0>64}");
        let mut bytes = [0; 32];
        let is_good = !hex.is_empty()
            && padded.len() == 64
            && faster_hex::hex_decode(padded.as_bytes(), &mut bytes).is_ok();
        // blvm-node reports zero when it does not know.
        let is_good = is_good && bytes != [0; 32];
        is_good.then_some(Self(bytes))
    }

    /// Half of the range, so that neither adding nor subtracting overflows.
    pub(crate) const MIDDLE: Self = {
        let mut bytes = [0; 32];
        bytes[0] = 0x80;
        Self(bytes)
    };
    pub(crate) const NONE: Self = Self([0; 32]);

    pub(crate) fn from_be_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn saturating_add(self, other: Self) -> Self {
        let mut carry = false;
        let mut sum = self.0;
        for (byte, other) in sum.iter_mut().zip(other.0).rev() {
            let (with, first) = byte.overflowing_add(other);
            let (with, second) = with.overflowing_add(u8::from(carry));
            (*byte, carry) = (with, first || second);
        }
        if carry { Self([0xFF; 32]) } else { Self(sum) }
    }

    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        let mut borrow = false;
        let mut rest = self.0;
        for (byte, other) in rest.iter_mut().zip(other.0).rev() {
            let (without, first) = byte.overflowing_sub(other);
            let (without, second) = without.overflowing_sub(u8::from(borrow));
            (*byte, borrow) = (without, first || second);
        }
        if borrow { Self::NONE } else { Self(rest) }
    }

    /// For tests: small numbers.
    #[cfg(test)]
    pub(crate) fn of(number: u8) -> Self {
        Self(std::array::from_fn(|at| if at == 31 { number } else { 0 }))
    }
}

/// A block header, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) hash: Hash256,
    pub(crate) confirmations: i64,
    pub(crate) height: u32,
    pub(crate) bits: Nbits,
    pub(crate) mediantime: u32,
    /// 0 if the node does not give it.
    pub(crate) time: u32,
    pub(crate) work: Option<ChainWork>,
    /// Its proof of work is not SHA-256.
    pub(crate) is_foreign: bool,
    /// None if the node does not show the whole header.
    pub(crate) shown: Option<ProvenHeader>,
}

impl RawHeader<'_> {
    /// None if a field is invalid.
    pub(crate) fn check(&self) -> Option<Header> {
        Some(Header {
            hash: Hash256::from_display_hex(self.hash)?,
            confirmations: self.confirmations,
            height: (self.height < HEIGHT_MAX).then_some(self.height)?,
            bits: Nbits::from_hex(self.bits)?,
            mediantime: self.mediantime,
            time: self.time,
            work: ChainWork::from_hex(self.chainwork),
            is_foreign: self.header_version > HEADER_VERSION_MAX,
            shown: None,
        })
    }

    /// The proven header; none if the node does not show all of it.
    pub(crate) fn prove(&self, header: &Header) -> Result<Option<ProvenHeader>, HeaderFault> {
        let fields = || {
            let prevhash = match self.previousblockhash {
                Some(hash) => Hash256::from_display_hex(hash)?,
                None => (header.height == 0).then_some(Hash256::ZERO)?,
            };
            let merkle_root = Hash256::from_display_hex(self.merkleroot?)?;
            let (version, nonce) = (self.version?, self.nonce?);
            let Header { bits, time, .. } = *header;
            Some(HeaderFields { version, prevhash, merkle_root, time, bits, nonce })
        };
        if header.is_foreign {
            return Ok(None);
        }
        fields().map(|fields| fields.prove(header.hash, header.height)).transpose()
    }
}

/// What the last full template told about the chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Learned {
    pub(crate) height: u32,
    /// In sats, exact.
    pub(crate) subsidy: u64,
    pub(crate) version: u32,
}

impl Learned {
    pub(crate) fn of(template: &Template) -> Self {
        Self { height: template.height, subsidy: template.subsidy(), version: template.version }
    }

    /// The subsidy at `height`; none if it cannot be computed exactly.
    fn subsidy_at(&self, height: u32, network: Network) -> Option<u64> {
        let interval = halving_interval(network);
        // Going back across a halving would have to undo a rounding.
        let halvings = (height / interval).checked_sub(self.height / interval)?;
        Some(self.subsidy.checked_shr(halvings).unwrap_or(0))
    }
}

/// Everything that subsidy-only work on `tip` needs; none if only a template can tell.
pub(crate) fn next_block(
    tip: &Header,
    learned: &Learned,
    network: Network,
    unix_now: u32,
) -> Option<TipHeader> {
    // A signet block is signed in its witness commitment, which a block with only a coinbase lacks:
    // Core answers bad-signet-blksig.
    (network != Network::Signet).then_some(())?;
    let height = tip.height + 1;
    let mintime = tip.mediantime.saturating_add(1);
    nbits_are_kept(height, network).then_some(())?;
    Some(TipHeader {
        height,
        version: learned.version,
        prevhash: tip.hash,
        nbits: tip.bits,
        curtime: unix_now.max(mintime),
        mintime,
        subsidy: learned.subsidy_at(height, network)?,
    })
}

/// The unix time from which a block on `tip` may have the minimum difficulty, on networks that
/// allow it.
pub(crate) fn easy_from(tip: &Header, network: Network) -> Option<u32> {
    let is_known = tip.time > 0 && matches!(network, Network::Testnet | Network::Testnet4);
    is_known.then(|| tip.time.saturating_add(EASY_AFTER + 1))
}

/// True if the block at `height` certainly has its parent's bits.
fn nbits_are_kept(height: u32, network: Network) -> bool {
    match network {
        // No retargeting at all.
        Network::Regtest => true,
        Network::Bitcoin => !height.is_multiple_of(RETARGET_INTERVAL),
        // Test networks allow blocks of minimum difficulty after 20 minutes.
        _ => false,
    }
}

/// The halving interval of a network where the block after a tip can be derived from the tip's
/// header (at most heights: see `next_block`); none elsewhere.
pub(crate) fn empty_blocks(network: Network) -> Option<u32> {
    matches!(network, Network::Bitcoin | Network::Regtest).then(|| halving_interval(network))
}

/// The most that a block at this height may create, in sats.
pub(crate) fn subsidy_max(height: u32, network: Network) -> u64 {
    FIRST_SUBSIDY.checked_shr(height / halving_interval(network)).unwrap_or(0)
}

fn halving_interval(network: Network) -> u32 {
    if network == Network::Regtest { 150 } else { 210_000 }
}

const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
/// Nodes that distinguish header versions use 0 for headers of 80 bytes.
const HEADER_VERSION_MAX: u32 = 1;
/// Twice the target time of a block.
pub(super) const EASY_AFTER: u32 = 1200;
pub(super) const RETARGET_INTERVAL: u32 = 2016;
/// BIP 34 heights end long before, and adding 1 cannot overflow.
pub(super) const HEIGHT_MAX: u32 = 500_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const SUBSIDY: u64 = 5_000_000_000;

    fn tip(height: u32) -> Header {
        Header {
            hash: Hash256([7; 32]),
            confirmations: 1,
            height,
            bits: Nbits::new(0x1d00_ffff).unwrap(),
            mediantime: 1000,
            time: 1100,
            work: None,
            is_foreign: false,
            shown: None,
        }
    }

    #[track_caller]
    fn case(network: Network, learned_at: u32, tip_at: u32, subsidy: Option<u64>) {
        let learned = Learned { height: learned_at, subsidy: SUBSIDY, version: 0x2000_0000 };
        let next = next_block(&tip(tip_at), &learned, network, 900);
        assert_eq!(next.map(|next| next.subsidy), subsidy, "{network} {learned_at} {tip_at}");
    }

    #[test]
    fn subsidy_is_exact_over_halvings() {
        case(Network::Regtest, 149, 148, Some(SUBSIDY));
        case(Network::Regtest, 149, 149, Some(SUBSIDY / 2));
        case(Network::Regtest, 149, 449, Some(SUBSIDY / 8));
        case(Network::Regtest, 1, 150 * 70, Some(0));
        case(Network::Bitcoin, 150, 150, Some(SUBSIDY));
        case(Network::Bitcoin, 839_990, 840_000, Some(SUBSIDY / 2));
    }

    #[test]
    fn no_block_makes_more_than_its_subsidy() {
        let max = |height, network| subsidy_max(height, network);
        assert_eq!(max(150, Network::Regtest), SUBSIDY / 2);
        assert_eq!(max(839_999, Network::Bitcoin), SUBSIDY / 8);
        assert_eq!(max(840_000, Network::Bitcoin), 312_500_000);
        assert_eq!(max(u32::MAX, Network::Regtest), 0);
    }

    #[test]
    fn back_over_a_halving_only_a_template_can_tell() {
        case(Network::Regtest, 150, 148, None);
        case(Network::Regtest, 299, 150, Some(SUBSIDY));
    }

    #[test]
    fn retargets_wait_for_the_template() {
        case(Network::Bitcoin, 2015, 2015, None);
        case(Network::Bitcoin, 2016, 2016, Some(SUBSIDY));
        case(Network::Regtest, 2100, 2015 + 2016, Some(SUBSIDY >> 12));
        case(Network::Testnet, 100, 100, None);
        case(Network::Testnet4, 100, 100, None);
    }

    #[test]
    fn on_signet_only_a_template_will_do() {
        case(Network::Signet, 2015, 2015, None);
        case(Network::Signet, 100, 100, None);
    }

    #[test]
    fn times_follow_the_median() {
        let learned = Learned { height: 1, subsidy: SUBSIDY, version: 4 };
        let next = |now| next_block(&tip(5), &learned, Network::Regtest, now).unwrap();
        assert_eq!((next(900).mintime, next(900).curtime), (1001, 1001));
        assert_eq!((next(5000).mintime, next(5000).curtime), (1001, 5000));
        assert_eq!((next(900).height, next(900).version), (6, 4));
    }

    #[test]
    fn on_test_networks_blocks_get_easy_after_twenty_minutes() {
        assert_eq!(easy_from(&tip(9), Network::Testnet4), Some(1100 + 1201));
        assert_eq!(easy_from(&tip(9), Network::Bitcoin), None);
        assert_eq!(easy_from(&Header { time: 0, ..tip(9) }, Network::Testnet), None);
    }

    #[test]
    fn work_adds_up() {
        let work = |hex| ChainWork::from_hex(hex).unwrap();
        assert_eq!(work("ff").saturating_add(work("ff01")), work("10000"));
        assert_eq!(work("10000").saturating_sub(work("ff01")), work("ff"));
        assert_eq!(work("1").saturating_sub(work("2")), ChainWork::NONE);
        let all = ChainWork::from_be_bytes([0xFF; 32]);
        assert_eq!(all.saturating_add(work("1")), all);
        assert_eq!(ChainWork::MIDDLE.saturating_add(ChainWork::MIDDLE), all);
    }

    #[test]
    fn work_compares_as_a_number() {
        let work = ChainWork::from_hex;
        assert!(work("0100") > work("ff") && work("ff") == work(&format!("{:0>64}", "ff")));
        assert_eq!(work("05"), Some(ChainWork::of(5)));
        for wrong in ["", "0x5", &"0".repeat(65)] {
            assert_eq!(work(wrong), None, "{wrong}");
        }
    }
}
