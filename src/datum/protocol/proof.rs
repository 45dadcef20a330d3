//! How a gateway identifies a template's transactions to its pool.

use bitcoin::hashes::{Hash, siphash24};

use super::cipher::PublicIdentity;
use crate::work::Hash256;

/// Computes short ids for one pair of gateway and pool.
#[derive(Clone, Copy, Debug)]
pub struct ShortIds {
    k0: u64,
    k1: u64,
}

impl ShortIds {
    /// Keyed with both long-term signing keys.
    pub fn new(gateway: &PublicIdentity, pool: &PublicIdentity) -> Self {
        let word = |at: usize| {
            let byte = |i: usize| gateway.ed25519[at + i] ^ pool.ed25519[at + i] ^ 0x55;
            u64::from_le_bytes(std::array::from_fn(byte))
        };
        Self { k0: word(0), k1: word(8) }
    }

    /// The low 48 bits of SipHash-2-4.
    pub fn of(&self, wtxid: &Hash256) -> [u8; 6] {
        let hash = siphash24::Hash::hash_with_keys(self.k0, self.k1, &wtxid.0);
        let [a, b, c, d, e, f, ..] = hash.to_byte_array();
        [a, b, c, d, e, f]
    }
}

/// All wtxids in one hash: a quick check that short ids were matched to the right transactions.
pub fn crosscheck<'a>(wtxids: impl Iterator<Item = &'a Hash256>) -> [u8; 32] {
    wtxids.fold(CROSSCHECK_START, |mut sum, wtxid| {
        sum.iter_mut().zip(wtxid.0).for_each(|(sum, byte)| *sum ^= byte);
        sum
    })
}

const CROSSCHECK_START: [u8; 32] = [
    0xA3, 0x4F, 0xC1, 0x9C, 0x5E, 0x88, 0x76, 0x12, 0x0A, 0x79, 0x3E, 0xF1, 0x6C, 0x93, 0x54, 0xAF,
    0xB8, 0x1D, 0xE8, 0x5A, 0x20, 0xC7, 0x94, 0x38, 0x6F, 0xA1, 0x02, 0xD9, 0x4A, 0x7B, 0xF0, 0x11,
];
