//! From a solved header to the bytes that a node accepts.

use super::{FoundBlock, coinbase::push_varint};

impl FoundBlock {
    /// The whole block as `submitblock` wants it, in binary.
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
