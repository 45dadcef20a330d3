//! From a solved header to the bytes that a node accepts.

use std::sync::Arc;

use super::{
    CoinbaseClass, FoundBlock, Hash256, Job, Username, Variant, coinbase::push_varint, merkle,
};

impl FoundBlock {
    /// An unsolved block of `job` with its largest coinbase, for a node to look at.
    pub fn proposal(job: &Arc<Job>) -> Self {
        let coinbase = job.coinbase(CoinbaseClass::Huge);
        let mut bytes = Vec::new();
        coinbase.write(Variant { target_byte: 0, quickdiff: false }, &[0; 12], &mut bytes);
        let root = merkle::root(Hash256::sha256d(&bytes), job.branches());
        let header = job.header(job.version, &root, job.template.curtime, 0);
        Self {
            job: Arc::clone(job),
            hash: Hash256::sha256d(&header),
            header,
            coinbase: bytes,
            username: Username("proposal".into()),
        }
    }

    /// The whole block as `submitblock` takes it, in binary.
    pub fn serialize(&self) -> Vec<u8> {
        let template = &self.job.template;
        let empty = self.job.is_empty();
        let transactions = if empty { &[][..] } else { &template.transactions };
        let witness = !empty && template.witness_commitment.is_some();
        let mut block = Vec::with_capacity(
            self.header.len() + 9 + self.coinbase.len() + 36 + template.total_size as usize,
        );
        block.extend_from_slice(&self.header);
        push_varint(transactions.len() + 1, &mut block);
        push_coinbase(&self.coinbase, witness, &mut block);
        for transaction in transactions {
            block.extend_from_slice(&transaction.raw);
        }
        block
    }
}

/// BIP 141: a block that commits to witnesses has a coinbase with a witness of 32 zero bytes.
fn push_coinbase(coinbase: &[u8], witness: bool, out: &mut Vec<u8>) {
    if !witness {
        out.extend_from_slice(coinbase);
        return;
    }
    let (version, body) = coinbase.split_at(4);
    let (body, lock_time) = body.split_at(body.len() - 4);
    out.extend_from_slice(version);
    out.extend_from_slice(&[0, 1]);
    out.extend_from_slice(body);
    out.extend_from_slice(&[1, 32]);
    out.extend_from_slice(&[0; 32]);
    out.extend_from_slice(lock_time);
}
