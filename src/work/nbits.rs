//! The compact form of a block target.

use std::fmt;

use super::Target;

/// The header's `nBits`. Only well-formed, positive targets get in.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Nbits(u32);

impl Nbits {
    /// Regtest's.
    pub const EASIEST: Self = Self(0x207f_ffff);

    /// None for a negative, zero or overflowing target, which consensus refuses.
    pub fn new(bits: u32) -> Option<Self> {
        let (exponent, mantissa) = (bits >> 24, bits & 0x00FF_FFFF);
        let bytes = mantissa_bytes(mantissa);
        (mantissa & 0x0080_0000 == 0 && mantissa != 0 && exponent + bytes > 3)
            .then_some(())
            // The number has `exponent - 3` bytes below a mantissa of `bytes`.
            .filter(|()| exponent + bytes <= 35)
            .map(|()| Self(bits))
    }

    /// Parses the big-endian hex of `getblocktemplate` and `getblockheader`.
    pub fn from_hex(text: &str) -> Option<Self> {
        (text.len() == 8).then(|| u32::from_str_radix(text, 16).ok()).flatten().and_then(Self::new)
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    pub fn target(self) -> Target {
        let (exponent, mantissa) = ((self.0 >> 24) as usize, self.0 & 0x007F_FFFF);
        let mut bytes = [0; 32];
        for (i, byte) in mantissa.to_le_bytes()[..3].iter().enumerate() {
            // Bytes that would lie outside 0..32 are zero: `new` saw to it (or they are dropped
            // fractions, below).
            if let Some(slot) = (exponent + i).checked_sub(3).and_then(|at| bytes.get_mut(at)) {
                *slot = *byte;
            }
        }
        Target::from_le_bytes(&bytes)
    }
}

impl fmt::Display for Nbits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Nbits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Significant bytes of a 24-bit mantissa.
fn mantissa_bytes(mantissa: u32) -> u32 {
    (32 - mantissa.leading_zeros()).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_consensus_refuses() {
        for bits in [0, 0x0080_0001, 0x1d80_ffff, 0x2300_ffff, 0xff00_0001, 0x0100_3456] {
            assert_eq!(Nbits::new(bits), None, "{bits:08x}");
        }
        assert!(Nbits::new(0x207f_ffff).is_some());
    }

    proptest! {
        #[test]
        fn agrees_with_rust_bitcoin(bits: u32) {
            if let Some(nbits) = Nbits::new(bits) {
                let theirs = bitcoin::Target::from_compact(bitcoin::CompactTarget::from_consensus(bits));
                prop_assert_eq!(nbits.target().to_le_bytes(), theirs.to_le_bytes());
            }
        }
    }
}
