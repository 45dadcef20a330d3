//! Chain and mempool together, and the results of submitted blocks. Pure: time is an argument.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    absolute::LockTime, consensus::deserialize, hashes::Hash, transaction::Version,
};

use super::{
    chain::{Body, Chain, Entry, Standing, subsidy},
    check::{COMMITMENT_HEAD, Proof, Refused, check_alone, check_on_tip, commitment, height_push},
    mempool::{Mempool, PoolTx},
};
use crate::work::{Hash256, Nbits, merkle};

/// What long polls wait for to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    pub(crate) height: u32,
    pub(crate) tip: Hash256,
    /// Counts arrivals in the mempool.
    pub sequence: u64,
}

/// A block on the active chain.
#[derive(Clone, Debug)]
pub struct BlockSummary {
    pub(crate) height: u32,
    pub(crate) hash: Hash256,
    /// Sats and scriptPubKey of each coinbase output, including the witness commitment.
    pub(crate) coinbase_outputs: Vec<(u64, Box<[u8]>)>,
    /// Including the coinbase.
    pub transactions: usize,
    /// None for blocks that the node made itself.
    pub submitted_by: Option<IpAddr>,
}

/// Bytes that are not a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("Block decode failed")]
pub(super) struct Undecodable;

/// Everything that a template is made from.
#[derive(Debug)]
pub(super) struct Ingredients {
    pub(super) seen: Seen,
    pub(super) nbits: Nbits,
    /// Median time past of the tip.
    pub(super) mediantime: u32,
    pub(super) transactions: Vec<Arc<PoolTx>>,
}

#[derive(Debug)]
pub(super) struct State {
    chain: Chain,
    mempool: Mempool,
    /// How often each reason was given.
    rejected: BTreeMap<String, u64>,
    /// Counts blocks that the node made itself, to make each unique.
    made: u32,
}

impl State {
    pub(super) fn new(nbits: Nbits, seed: u64) -> Self {
        Self {
            chain: Chain::new(nbits),
            mempool: Mempool::new(seed),
            rejected: BTreeMap::new(),
            made: 0,
        }
    }

    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    pub(super) fn rejected(&self) -> &BTreeMap<String, u64> {
        &self.rejected
    }

    pub(super) fn seen(&self) -> Seen {
        let tip = self.chain.tip();
        Seen { height: tip.height, tip: tip.hash, sequence: self.mempool.sequence() }
    }

    pub(super) fn blocks(&self) -> Vec<BlockSummary> {
        self.chain.recent().map(|(entry, body)| summary(entry, body)).collect()
    }

    pub(super) fn ingredients(&self) -> Ingredients {
        Ingredients {
            seen: self.seen(),
            nbits: self.chain.nbits(),
            mediantime: self.chain.median_time(self.chain.tip().height),
            transactions: self.mempool.pick(),
        }
    }

    /// Lets transactions arrive, up to `max` in the mempool.
    pub(super) fn grow_mempool(&mut self, count: usize, max: usize) {
        self.mempool.grow(count.min(max.saturating_sub(self.mempool.len())));
    }

    /// Adds a block to the chain, or says why not.
    pub(super) fn submit(
        &mut self,
        block: &[u8],
        now: u32,
        from: Option<IpAddr>,
    ) -> Result<Result<(), Refused>, Undecodable> {
        let taken = match deserialize::<Block>(block) {
            Ok(block) => Ok(self.accept(&block, now, from)),
            Err(_) => Err(Undecodable),
        };
        match &taken {
            Ok(Ok(())) => {}
            Ok(Err(refused)) => self.count_rejection(&refused.to_string()),
            Err(undecodable) => self.count_rejection(&undecodable.to_string()),
        }
        taken
    }

    /// What `submit` would answer to a block with enough work.
    pub(super) fn propose(
        &self,
        block: &[u8],
        now: u32,
    ) -> Result<Result<(), Refused>, Undecodable> {
        let block: Block = deserialize(block).map_err(|_| Undecodable)?;
        Ok(self.judge_proposal(&block, now))
    }

    pub(super) fn count_rejection(&mut self, reason: &str) {
        *self.rejected.entry(reason.to_owned()).or_default() += 1;
    }

    /// Makes a block of the whole mempool, without work.
    pub(super) fn mine_one(&mut self, now: u32) -> Hash256 {
        self.made = self.made.wrapping_add(1);
        let transactions = self.mempool.pick();
        let coinbase = self.own_coinbase(&transactions);
        let branches = merkle::branches(transactions.iter().map(|tx| tx.txid));
        let root = merkle::root(Hash256(coinbase.compute_txid().to_byte_array()), &branches);
        let header = self.chain.next_header(root, now, self.made);
        self.connect(header, Body { coinbase, transactions, submitted_by: None });
        self.chain.tip().hash
    }

    /// Invalidates the tip and puts its transactions back. False if there is nothing to invalidate.
    pub(super) fn forget_tip(&mut self) -> bool {
        let forgotten = self.chain.forget_tip();
        if let Some(body) = &forgotten {
            self.mempool.put_back(&body.transactions);
        }
        forgotten.is_some()
    }

    fn accept(&mut self, block: &Block, now: u32, from: Option<IpAddr>) -> Result<(), Refused> {
        self.check_unknown(block)?;
        check_alone(block, Proof::Needed)?;
        let parent = Hash256(block.header.prev_blockhash.to_byte_array());
        if parent != self.chain.tip().hash {
            if self.chain.find(&parent).is_some() {
                self.chain.set_aside(block.header, &parent, block.txdata.len() - 1);
            }
            return Err(Refused::Inconclusive);
        }
        let transactions = check_on_tip(block, &self.chain, &self.mempool, now)?;
        let coinbase = block.txdata[0].clone();
        self.connect(block.header, Body { coinbase, transactions, submitted_by: from });
        Ok(())
    }

    fn judge_proposal(&self, block: &Block, now: u32) -> Result<(), Refused> {
        self.check_unknown(block)?;
        if block.header.prev_blockhash.to_byte_array() != self.chain.tip().hash.0 {
            return Err(Refused::NotBestPrevblk);
        }
        check_alone(block, Proof::Waived)?;
        check_on_tip(block, &self.chain, &self.mempool, now).map(|_| ())
    }

    fn check_unknown(&self, block: &Block) -> Result<(), Refused> {
        let hash = Hash256(block.header.block_hash().to_byte_array());
        Err(match self.chain.find(&hash) {
            None => return Ok(()),
            Some((_, Standing::Active)) => Refused::Duplicate,
            Some((_, Standing::Invalid)) => Refused::DuplicateInvalid,
            Some((_, Standing::Inconclusive)) => Refused::DuplicateInconclusive,
        })
    }

    fn connect(&mut self, header: bitcoin::block::Header, body: Body) {
        self.mempool.remove(&body.transactions);
        self.chain.connect(header, body);
    }

    fn own_coinbase(&self, transactions: &[Arc<PoolTx>]) -> Transaction {
        let height = self.chain.tip().height + 1;
        let script_sig = [&height_push(height)[..], OWN_TAG].concat();
        let fees: u64 = transactions.iter().map(|tx| tx.fee).sum();
        let reserved = [0; 32];
        let hash = commitment(transactions.iter().map(|tx| tx.wtxid), &reserved);
        let output = |value, script: Vec<u8>| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: ScriptBuf::from_bytes(script),
        };
        Transaction {
            version: Version::ONE,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: ScriptBuf::from_bytes(script_sig),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[reserved]),
            }],
            output: vec![
                output(subsidy(height) + fees, OP_TRUE.to_vec()),
                output(0, commitment_script(&hash)),
            ],
        }
    }
}

/// BIP 141's output script.
pub(super) fn commitment_script(hash: &Hash256) -> Vec<u8> {
    [&COMMITMENT_HEAD[..], &hash.0].concat()
}

fn summary(entry: &Entry, body: &Body) -> BlockSummary {
    let outputs = body.coinbase.output.iter();
    BlockSummary {
        height: entry.height,
        hash: entry.hash,
        coinbase_outputs: outputs
            .map(|output| (output.value.to_sat(), output.script_pubkey.as_bytes().into()))
            .collect(),
        transactions: body.transactions.len() + 1,
        submitted_by: body.submitted_by,
    }
}

/// In the scriptSig of the node's own blocks.
const OWN_TAG: &[u8] = b"\x06devnet";
const OP_TRUE: &[u8] = &[0x51];
