//! The answer to `getblocktemplate`. Pure.

use bitcoin::{CompactTarget, Target};
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{
    chain::{VERSION, subsidy},
    check::commitment,
    state::{Ingredients, Seen, commitment_script},
};
use crate::work::{BlockLimits, Hash256};

/// BIP 22's object with BIP 9's and BIP 145's fields.
#[derive(Debug, Serialize)]
pub(super) struct Template {
    capabilities: [&'static str; 1],
    version: i32,
    rules: [&'static str; 3],
    vbavailable: Empty,
    vbrequired: u32,
    previousblockhash: String,
    transactions: Vec<TemplateTx>,
    coinbaseaux: Empty,
    coinbasevalue: u64,
    longpollid: String,
    target: String,
    mintime: u32,
    mutable: [&'static str; 3],
    noncerange: &'static str,
    sigoplimit: u32,
    sizelimit: u32,
    weightlimit: u32,
    curtime: u32,
    bits: String,
    height: u32,
    default_witness_commitment: String,
}

#[derive(Debug, Serialize)]
struct TemplateTx {
    data: String,
    txid: String,
    hash: String,
    depends: Vec<usize>,
    fee: u64,
    sigops: u64,
    weight: u64,
}

#[derive(Debug, Serialize)]
struct Empty {}

impl Template {
    pub(super) fn new(from: &Ingredients, now: u32) -> Self {
        let height = from.seen.height + 1;
        let mintime = from.mediantime + 1;
        let fees: u64 = from.transactions.iter().map(|tx| tx.fee).sum();
        let hash = commitment(from.transactions.iter().map(|tx| tx.wtxid), &[0; 32]);
        let target = Target::from_compact(CompactTarget::from_consensus(from.nbits.get()));
        Self {
            capabilities: ["proposal"],
            version: VERSION,
            rules: ["csv", "!segwit", "taproot"],
            vbavailable: Empty {},
            vbrequired: 0,
            previousblockhash: from.seen.tip.to_string(),
            transactions: transactions(from),
            coinbaseaux: Empty {},
            coinbasevalue: subsidy(height) + fees,
            longpollid: long_poll_id(&from.seen),
            target: format!("{target:x}"),
            mintime,
            mutable: ["time", "transactions", "prevblock"],
            noncerange: "00000000ffffffff",
            sigoplimit: BlockLimits::CONSENSUS.sigops,
            sizelimit: BlockLimits::CONSENSUS.size,
            weightlimit: BlockLimits::CONSENSUS.weight,
            curtime: now.max(mintime),
            bits: from.nbits.to_string(),
            height,
            default_witness_commitment: faster_hex::hex_string(&commitment_script(&hash)),
        }
    }
}

fn transactions(from: &Ingredients) -> Vec<TemplateTx> {
    let mut places = FxHashMap::default();
    let numbered = from.transactions.iter().zip(1..);
    numbered
        .map(|(tx, place)| {
            places.insert(tx.txid, place);
            TemplateTx {
                data: faster_hex::hex_string(&tx.raw),
                txid: tx.txid.to_string(),
                hash: tx.wtxid.to_string(),
                depends: tx
                    .parent
                    .and_then(|parent| places.get(&parent).copied())
                    .into_iter()
                    .collect(),
                fee: tx.fee,
                sigops: tx.sigops,
                weight: tx.weight,
            }
        })
        .collect()
}

/// The tip and the mempool's counter, as Bitcoin Core writes it.
fn long_poll_id(seen: &Seen) -> String {
    format!("{}{}", seen.tip, seen.sequence)
}

/// None for an id that this node did not write.
pub(super) fn parse_long_poll_id(id: &str) -> Option<(Hash256, u64)> {
    let (tip, sequence) = id.split_at_checked(64)?;
    Some((Hash256::from_display_hex(tip)?, sequence.parse().ok()?))
}
