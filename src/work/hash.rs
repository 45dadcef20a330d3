//! 32-byte double-SHA256 hashes, kept in the order in which they are hashed.

use std::fmt;

use sha2::{Digest, Sha256};

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
    pub fn merkle_step(&self, right: &Self) -> Self {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&self.0);
        pair[32..].copy_from_slice(&right.0);
        Self::sha256d(&pair)
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
