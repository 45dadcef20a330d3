//! Checks whether a block may follow the tip, with Bitcoin Core's rules and words, in its order.
//! Pure.

use std::sync::Arc;

use bitcoin::{Block, Transaction, Weight, hashes::Hash};
use rustc_hash::FxHashSet;

use super::{
    chain::{Chain, subsidy},
    mempool::{Mempool, PoolTx},
};
use crate::work::{Hash256, Nbits, merkle};

/// Why a block is refused, in the words of BIP 22 and Bitcoin Core.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub(crate) enum Refused {
    #[error("duplicate")]
    Duplicate,
    #[error("duplicate-invalid")]
    DuplicateInvalid,
    #[error("duplicate-inconclusive")]
    DuplicateInconclusive,
    #[error("inconclusive")]
    Inconclusive,
    /// A proposal that is not on the tip.
    #[error("inconclusive-not-best-prevblk")]
    NotBestPrevblk,
    #[error("high-hash")]
    HighHash,
    #[error("bad-diffbits")]
    BadDiffbits,
    #[error("bad-txnmrklroot")]
    BadTxnmrklroot,
    #[error("bad-txns-duplicate")]
    BadTxnsDuplicate,
    #[error("bad-cb-missing")]
    BadCbMissing,
    #[error("bad-cb-multiple")]
    BadCbMultiple,
    #[error("bad-cb-length")]
    BadCbLength,
    #[error("bad-cb-height")]
    BadCbHeight,
    #[error("bad-cb-amount")]
    BadCbAmount,
    #[error("time-too-old")]
    TimeTooOld,
    #[error("time-too-new")]
    TimeTooNew,
    #[error("bad-version(0x{0:08x})")]
    BadVersion(i32),
    #[error("bad-witness-nonce-size")]
    BadWitnessNonceSize,
    #[error("bad-witness-merkle-match")]
    BadWitnessMerkleMatch,
    #[error("unexpected-witness")]
    UnexpectedWitness,
    #[error("bad-blk-weight")]
    BadBlkWeight,
    #[error("bad-blk-sigops")]
    BadBlkSigops,
    #[error("bad-txns-inputs-missingorspent")]
    BadTxnsInputsMissingorspent,
}

/// Whether the header's hash must show work, which a proposal's need not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Proof {
    Needed,
    Waived,
}

/// Checks that do not depend on a block's position.
pub(super) fn check_alone(block: &Block, proof: Proof) -> Result<(), Refused> {
    let header = &block.header;
    let hash = Hash256(header.block_hash().to_byte_array());
    let target = Nbits::new(header.bits.to_consensus()).map(Nbits::target);
    let has_work = target.is_some_and(|target| target.is_met_by(&hash));
    if proof == Proof::Needed && !has_work {
        return Err(Refused::HighHash);
    }
    check_merkle_root(block)?;
    let [coinbase, others @ ..] = &block.txdata[..] else { return Err(Refused::BadCbMissing) };
    if !coinbase.is_coinbase() {
        return Err(Refused::BadCbMissing);
    }
    if others.iter().any(Transaction::is_coinbase) {
        return Err(Refused::BadCbMultiple);
    }
    if !SCRIPT_SIG_LENS.contains(&coinbase.input[0].script_sig.len()) {
        return Err(Refused::BadCbLength);
    }
    Ok(())
}

/// Checks that depend on the tip. Returns the transactions except the coinbase.
pub(super) fn check_on_tip(
    block: &Block,
    chain: &Chain,
    mempool: &Mempool,
    now: u32,
) -> Result<Vec<Arc<PoolTx>>, Refused> {
    check_header_on_tip(block, chain, now)?;
    let height = chain.tip().height + 1;
    let coinbase = block.txdata.first().ok_or(Refused::BadCbMissing)?;
    if !coinbase.input[0].script_sig.as_bytes().starts_with(&height_push(height)) {
        return Err(Refused::BadCbHeight);
    }
    check_witnesses(block, coinbase)?;
    if block.weight() > Weight::MAX_BLOCK {
        return Err(Refused::BadBlkWeight);
    }
    let transactions = known_transactions(block, mempool)?;
    let sigops: u64 = transactions.iter().map(|tx| tx.sigops).sum();
    if sigops + coinbase.total_sigop_cost(|_| None) as u64 > SIGOPS_MAX {
        return Err(Refused::BadBlkSigops);
    }
    let fees: u64 = transactions.iter().map(|tx| tx.fee).sum();
    let paid = coinbase.output.iter().map(|output| output.value.to_sat());
    if paid.fold(0, u64::saturating_add) > subsidy(height) + fees {
        return Err(Refused::BadCbAmount);
    }
    Ok(transactions)
}

fn check_merkle_root(block: &Block) -> Result<(), Refused> {
    let mut seen = FxHashSet::default();
    let txids: Vec<_> =
        block.txdata.iter().map(|tx| Hash256(tx.compute_txid().to_byte_array())).collect();
    let Some((coinbase, others)) = txids.split_first() else { return Err(Refused::BadTxnmrklroot) };
    let root = merkle::root(*coinbase, &merkle::branches(others.iter().copied()));
    if root.0 != block.header.merkle_root.to_byte_array() {
        return Err(Refused::BadTxnmrklroot);
    }
    // A repeated tail hashes to the same root (CVE-2012-2459).
    if txids.iter().all(|txid| seen.insert(*txid)) {
        Ok(())
    } else {
        Err(Refused::BadTxnsDuplicate)
    }
}

fn check_header_on_tip(block: &Block, chain: &Chain, now: u32) -> Result<(), Refused> {
    let header = &block.header;
    if header.bits.to_consensus() != chain.nbits().get() {
        return Err(Refused::BadDiffbits);
    }
    if header.time <= chain.median_time(chain.tip().height) {
        return Err(Refused::TimeTooOld);
    }
    if header.time > now.saturating_add(FUTURE_MAX_SECONDS) {
        return Err(Refused::TimeTooNew);
    }
    let version = header.version.to_consensus();
    if version < VERSION_LEAST { Err(Refused::BadVersion(version)) } else { Ok(()) }
}

/// BIP 141: the last output with the marker commits to all witnesses.
fn check_witnesses(block: &Block, coinbase: &Transaction) -> Result<(), Refused> {
    let scripts = coinbase.output.iter().rev().map(|output| output.script_pubkey.as_bytes());
    let mut marked = scripts
        .filter(|script| script.len() >= COMMITMENT_LEN && script.starts_with(&COMMITMENT_HEAD));
    let Some(script) = marked.next() else {
        let has_witness = |tx: &Transaction| tx.input.iter().any(|input| !input.witness.is_empty());
        let is_unexpected = block.txdata.iter().any(has_witness);
        return if is_unexpected { Err(Refused::UnexpectedWitness) } else { Ok(()) };
    };
    let witness = &coinbase.input[0].witness;
    let reserved = witness.nth(0).filter(|item| witness.len() == 1 && item.len() == 32);
    let reserved = reserved.ok_or(Refused::BadWitnessNonceSize)?;
    let wtxids = block.txdata[1..].iter().map(|tx| Hash256(tx.compute_wtxid().to_byte_array()));
    if script[COMMITMENT_HEAD.len()..COMMITMENT_LEN] == commitment(wtxids, reserved).0 {
        Ok(())
    } else {
        Err(Refused::BadWitnessMerkleMatch)
    }
}

/// Every transaction must be in the mempool, and those that it spends must precede it in the block.
fn known_transactions(block: &Block, mempool: &Mempool) -> Result<Vec<Arc<PoolTx>>, Refused> {
    let mut before = FxHashSet::default();
    let mut known = Vec::with_capacity(block.txdata.len());
    for tx in block.txdata.iter().skip(1) {
        let txid = Hash256(tx.compute_txid().to_byte_array());
        let found = mempool.get(&txid).filter(|known| {
            // A parent that is no longer in the mempool has been mined.
            let has_parent = known
                .parent
                .is_none_or(|parent| before.contains(&parent) || mempool.get(&parent).is_none());
            known.wtxid.0 == tx.compute_wtxid().to_byte_array() && has_parent
        });
        known.push(Arc::clone(found.ok_or(Refused::BadTxnsInputsMissingorspent)?));
        before.insert(txid);
    }
    Ok(known)
}

/// BIP 141's hash over the wtxids of all transactions except the coinbase.
pub(super) fn commitment(wtxids: impl Iterator<Item = Hash256>, reserved: &[u8]) -> Hash256 {
    // The coinbase's own wtxid counts as zero.
    let root = merkle::root(Hash256::ZERO, &merkle::branches(wtxids));
    Hash256::sha256d_parts(&[&root.0, reserved])
}

/// BIP 34: the beginning of a scriptSig. 1 to 16 are one opcode, as `CScript() << height` writes
/// them.
pub(super) fn height_push(height: u32) -> Vec<u8> {
    let mut push = vec![0];
    match height {
        0 => {}
        1..=16 => push[0] = 0x50 + height.to_le_bytes()[0],
        _ => {
            push.extend_from_slice(&height.to_le_bytes());
            while push.ends_with(&[0]) {
                push.pop();
            }
            if push.last().is_some_and(|last| last & 0x80 != 0) {
                push.push(0);
            }
            push[0] = u8::try_from(push.len() - 1).unwrap_or(u8::MAX); // 1 to 5.
        }
    }
    push
}

/// OP_RETURN, a push of 36 bytes, and BIP 141's marker.
pub(super) const COMMITMENT_HEAD: [u8; 6] = [0x6A, 0x24, 0xAA, 0x21, 0xA9, 0xED];
const COMMITMENT_LEN: usize = 38;
const SCRIPT_SIG_LENS: std::ops::RangeInclusive<usize> = 2..=100;
const SIGOPS_MAX: u64 = 80_000;
const FUTURE_MAX_SECONDS: u32 = 2 * 60 * 60;
/// BIP 65 made 4 the minimum.
const VERSION_LEAST: i32 = 4;

#[cfg(test)]
mod tests {
    use bitcoin::script::Builder;

    use super::*;

    #[test]
    fn heights_are_pushed_as_consensus_demands() {
        for height in [0, 1, 16, 17, 127, 128, 255, 256, 32_767, 32_768, 840_000, 8_388_608] {
            let theirs = Builder::new().push_int(height.into()).into_script();
            assert_eq!(height_push(height), theirs.as_bytes(), "{height}");
        }
    }

    #[test]
    fn reasons_read_as_bitcoin_core_writes_them() {
        assert_eq!(Refused::BadVersion(3).to_string(), "bad-version(0x00000003)");
        assert_eq!(Refused::BadVersion(-1).to_string(), "bad-version(0xffffffff)");
    }
}
