//! Made-up transactions: they decode and have correct ids, weights and fees, but spend nothing
//! real. Pure, and the same for the same seed.

use std::{collections::BTreeMap, sync::Arc};

use bitcoin::{
    Amount, OutPoint, PubkeyHash, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, WPubkeyHash,
    Witness, absolute::LockTime, consensus::serialize, hashes::Hash, transaction::Version,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustc_hash::FxHashMap;

use crate::work::Hash256;

/// A transaction that is waiting for a block, or was in one.
#[derive(Debug)]
pub(super) struct PoolTx {
    /// Order of arrival; a parent comes before its child.
    sequence: u64,
    pub(super) txid: Hash256,
    pub(super) wtxid: Hash256,
    pub(super) raw: Box<[u8]>,
    /// Sats.
    pub(super) fee: u64,
    pub(super) weight: u64,
    pub(super) sigops: u64,
    /// The made-up transaction that it spends, if any.
    pub(super) parent: Option<Hash256>,
}

#[derive(Debug)]
pub(super) struct Mempool {
    rng: StdRng,
    waiting: BTreeMap<u64, Arc<PoolTx>>,
    sequences: FxHashMap<Hash256, u64>,
    next_sequence: u64,
    /// An output that the next transaction may spend, with its value.
    spendable: Option<(Txid, u64)>,
}

impl Mempool {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            waiting: BTreeMap::new(),
            sequences: FxHashMap::default(),
            next_sequence: 0,
            spendable: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Counts arrivals.
    pub(super) fn sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn get(&self, txid: &Hash256) -> Option<&Arc<PoolTx>> {
        self.sequences.get(txid).and_then(|sequence| self.waiting.get(sequence))
    }

    /// The transactions that fit into a block, parents first.
    pub(super) fn pick(&self) -> Vec<Arc<PoolTx>> {
        let (mut weight, mut sigops) = (0, 0);
        let fitting = self.waiting.values().take_while(|tx| {
            weight += tx.weight;
            sigops += tx.sigops;
            weight <= PICK_WEIGHT_MAX && sigops <= PICK_SIGOPS_MAX
        });
        fitting.cloned().collect()
    }

    /// Lets `count` transactions arrive.
    pub(super) fn grow(&mut self, count: usize) {
        for _ in 0..count {
            let tx = self.invent();
            self.insert(Arc::new(tx));
        }
    }

    /// Removes a block's transactions.
    pub(super) fn remove(&mut self, mined: &[Arc<PoolTx>]) {
        for tx in mined {
            self.waiting.remove(&tx.sequence);
            self.sequences.remove(&tx.txid);
        }
    }

    /// Puts an invalidated block's transactions back.
    pub(super) fn put_back(&mut self, unmined: &[Arc<PoolTx>]) {
        unmined.iter().cloned().for_each(|tx| self.insert(tx));
    }

    fn insert(&mut self, tx: Arc<PoolTx>) {
        self.sequences.insert(tx.txid, tx.sequence);
        self.waiting.insert(tx.sequence, tx);
    }

    fn invent(&mut self) -> PoolTx {
        let rate = self.rng.gen_range(1..=FEE_RATE_MAX);
        let chained = self.spendable.take().filter(|_| self.rng.gen_ratio(1, CHAINED_ONE_IN));
        let inputs = if chained.is_some() { 1 } else { self.rng.gen_range(1..=INPUTS_MAX) };
        let mut tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: (0..inputs).map(|_| self.input()).collect(),
            output: (0..self.rng.gen_range(1..=OUTPUTS_MAX)).map(|_| self.output()).collect(),
        };
        if let Some((txid, _)) = chained {
            tx.input[0].previous_output = OutPoint { txid, vout: 0 };
        }
        let fee = rate * tx.weight().to_vbytes_ceil();
        let parent = match chained {
            Some((txid, value)) => {
                // One output takes everything except the fee.
                tx.output.truncate(1);
                tx.output[0].value = Amount::from_sat(value - fee);
                Some(Hash256(txid.to_byte_array()))
            }
            None => None,
        };
        self.next_sequence += 1;
        let (txid, value) = (tx.compute_txid(), tx.output[0].value.to_sat());
        self.spendable = (value > SPENDABLE_LEAST).then_some((txid, value));
        let legacy = tx.output.iter().filter(|output| output.script_pubkey.is_p2pkh()).count();
        PoolTx {
            sequence: self.next_sequence,
            txid: Hash256(txid.to_byte_array()),
            wtxid: Hash256(tx.compute_wtxid().to_byte_array()),
            raw: serialize(&tx).into(),
            fee,
            weight: tx.weight().to_wu(),
            // One for each P2WPKH spent; a legacy one costs four.
            sigops: (tx.input.len() + 4 * legacy) as u64,
            parent,
        }
    }

    /// Looks like the spend of a P2WPKH output.
    fn input(&mut self) -> TxIn {
        let txid = Txid::from_byte_array(self.rng.r#gen());
        let (r, s): ([u8; 32], [u8; 32]) = (self.rng.r#gen(), self.rng.r#gen());
        let signature = [&[0x30, 0x44, 2, 32], &r[..], &[2, 32], &s, &[1]].concat();
        let public_key = [&[2], &self.rng.r#gen::<[u8; 32]>()[..]].concat();
        TxIn {
            previous_output: OutPoint { txid, vout: self.rng.gen_range(0..4) },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[signature, public_key]),
        }
    }

    fn output(&mut self) -> TxOut {
        let hash: [u8; 20] = self.rng.r#gen();
        let script_pubkey = if self.rng.gen_ratio(1, 4) {
            ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash))
        } else {
            ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash))
        };
        let value = Amount::from_sat(self.rng.gen_range(10_000..1_000_000_000));
        TxOut { value, script_pubkey }
    }
}

/// Leaves room for the coinbase, as Bitcoin Core's defaults do.
const PICK_WEIGHT_MAX: u64 = 4_000_000 - 8_000;
const PICK_SIGOPS_MAX: u64 = 80_000 - 400;
const FEE_RATE_MAX: u64 = 50;
const INPUTS_MAX: usize = 3;
const OUTPUTS_MAX: usize = 3;
/// How often a transaction spends the one before it.
const CHAINED_ONE_IN: u32 = 4;
/// More than any fee here: 50 sats for each of some 250 bytes.
const SPENDABLE_LEAST: u64 = 100_000;

#[cfg(test)]
mod tests {
    use bitcoin::consensus::deserialize;

    use super::*;

    #[test]
    fn transactions_have_the_ids_weights_and_fees_they_claim() {
        let mut pool = Mempool::new(1);
        pool.grow(300);
        let picked = pool.pick();
        assert_eq!(picked.len(), 300);
        for tx in &picked {
            let decoded: Transaction = deserialize(&tx.raw).unwrap();
            assert_eq!(decoded.compute_txid().to_byte_array(), tx.txid.0);
            assert_eq!(decoded.compute_wtxid().to_byte_array(), tx.wtxid.0);
            assert_eq!(decoded.weight().to_wu(), tx.weight);
            assert_ne!(tx.txid, tx.wtxid);
            assert!(tx.fee * 4 >= tx.weight);
            let spends = decoded.input[0].previous_output.txid.to_byte_array();
            assert!(tx.parent.is_none_or(|parent| parent.0 == spends));
        }
        assert!(picked.iter().filter(|tx| tx.parent.is_some()).count() > 10);
    }

    #[test]
    fn parents_come_first_even_when_put_back() {
        let mut pool = Mempool::new(2);
        pool.grow(50);
        let before = pool.pick();
        pool.remove(&before[..30]);
        assert_eq!(pool.len(), 20);
        assert!(pool.get(&before[0].txid).is_none());
        pool.put_back(&before[..30]);
        let ids = |txs: &[Arc<PoolTx>]| txs.iter().map(|tx| tx.txid).collect::<Vec<_>>();
        assert_eq!(ids(&pool.pick()), ids(&before));
    }

    #[test]
    fn what_is_picked_fits_into_a_block() {
        let mut pool = Mempool::new(3);
        pool.grow(9000);
        let picked = pool.pick();
        let weight: u64 = picked.iter().map(|tx| tx.weight).sum();
        assert!(picked.len() < 9000 && (3_900_000..=PICK_WEIGHT_MAX).contains(&weight));
    }
}
