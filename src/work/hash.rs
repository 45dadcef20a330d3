//! 32-byte double-SHA256 hashes, kept in the order in which they are hashed.

use std::fmt;

use sha2::{Digest, Sha256, compress256};

/// A block, transaction or merkle hash in internal byte order; `Display` reverses it, as RPC does.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Hash256(pub [u8; 32]);

impl Hash256 {
    pub const ZERO: Self = Self([0; 32]);

    /// Hashes `bytes` twice with SHA-256.
    pub fn sha256d(bytes: &[u8]) -> Self {
        Self(Sha256::digest(Sha256::digest(bytes)).into())
    }

    /// Hashes the concatenation of `parts` twice, without joining them first.
    pub fn sha256d_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(Sha256::digest(hasher.finalize()).into())
    }

    /// One step up a merkle tree.
    ///
    /// A share takes a dozen of these, so they go straight to the compression function: a tenth
    /// faster than through a hasher's buffer.
    pub(crate) fn merkle_step(&self, right: &Self) -> Self {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&self.0);
        pair[32..].copy_from_slice(&right.0);
        let mut state = SHA256_START;
        compress256(&mut state, &[pair.into(), PAIR_PADDING.into()]);
        Self::second_round(state)
    }

    /// Double SHA-256 of a block header.
    pub fn of_header(header: &[u8; 80]) -> Self {
        let (mut first, mut second) = ([0; 64], HEADER_PADDING);
        first.copy_from_slice(&header[..64]);
        second[..16].copy_from_slice(&header[64..]);
        let mut state = SHA256_START;
        compress256(&mut state, &[first.into(), second.into()]);
        Self::second_round(state)
    }

    /// SHA-256 of the 32 bytes that the first hash produced.
    fn second_round(first: [u32; 8]) -> Self {
        let mut block = HASH_PADDING;
        let words = |words: [u32; 8], bytes: &mut [u8]| {
            for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
                bytes.copy_from_slice(&word.to_be_bytes());
            }
        };
        words(first, &mut block[..32]);
        let mut state = SHA256_START;
        compress256(&mut state, &[block.into()]);
        let mut hash = Self::ZERO;
        words(state, &mut hash.0);
        hash
    }

    /// Parses the reversed hex that RPC and block explorers show.
    pub fn from_display_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        (text.len() == 64).then_some(())?;
        faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
        bytes.reverse();
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// FIPS 180-4, 5.3.3.
pub(crate) const SHA256_START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
/// What follows a message of 64, 80 and 32 bytes in its last block: a one, zeros, its bits.
const PAIR_PADDING: [u8; 64] = padding(64);
const HEADER_PADDING: [u8; 64] = padding(80);
const HASH_PADDING: [u8; 64] = padding(32);

const fn padding(len: u16) -> [u8; 64] {
    let mut block = [0; 64];
    block[(len % 64) as usize] = 0x80;
    [block[62], block[63]] = (len * 8).to_be_bytes();
    block
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shortcuts_lead_to_the_same_hash(left: [u8; 32], right: [u8; 32], tail: [u8; 16]) {
            let pair = [left, right].concat();
            prop_assert_eq!(Hash256(left).merkle_step(&Hash256(right)), Hash256::sha256d(&pair));
            let header: [u8; 80] = [&pair[..], &tail].concat().try_into().unwrap();
            prop_assert_eq!(Hash256::of_header(&header), Hash256::sha256d(&header));
        }
    }
}
