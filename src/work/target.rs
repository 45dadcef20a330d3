//! 256-bit targets and the difficulties that stand for them. Exact; conversions are made only here.

use std::fmt;

use super::Hash256;

/// The bound that a block or share hash must not pass.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Target([u64; 4]); // Most significant word first, so that the derived order is numeric.

impl Target {
    pub const ZERO: Self = Self([0; 4]);
    pub const MAX: Self = Self([u64::MAX; 4]);
    /// Difficulty 1: 0xFFFF × 2^208, "bdiff".
    #[cfg(test)]
    pub(crate) const DIFFICULTY_1: Self = Self([0xFFFF_0000, 0, 0, 0]);

    pub fn from_le_bytes(bytes: &[u8; 32]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Self([word(24), word(16), word(8), word(0)])
    }

    pub(crate) fn to_le_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0.iter().rev()) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// True when `hash`, read as a little-endian number, is at most this target.
    pub fn is_met_by(&self, hash: &Hash256) -> bool {
        Self::from_le_bytes(&hash.0) <= *self
    }

    /// floor(0xFFFF × 2^208 / difficulty), for any fraction that an `f64` can say.
    pub fn from_difficulty(difficulty: Difficulty) -> Self {
        let (mantissa, exponent) = decompose(difficulty.0);
        // target = 0xFFFF × 2^shift / mantissa; long division, a bit at a time.
        let shift = 208 - exponent;
        let (bits, numerator) =
            if shift >= 0 { (shift, 0xFFFF_u64) } else { (0, 0xFFFF_u64 >> (-shift).min(63)) };
        let mut remainder = numerator % mantissa;
        let mut quotient = Self([0, 0, 0, numerator / mantissa]);
        for _ in 0..bits {
            if quotient.0[0] >> 63 != 0 {
                return Self::MAX;
            }
            // `mantissa` has at most 53 bits, so doubling the remainder cannot overflow.
            remainder <<= 1;
            let bit = u64::from(remainder >= mantissa);
            remainder -= bit * mantissa;
            quotient = quotient.shl1(bit);
        }
        quotient
    }

    /// How many times harder than difficulty 1, as near as an `f64` comes.
    pub fn difficulty(&self) -> f64 {
        let value = self.0.iter().fold(0.0_f64, |sum, word| sum.mul_add(TWO_64, *word as f64));
        if value == 0.0 { f64::INFINITY } else { DIFFICULTY_1 / value }
    }

    /// As miners are sent it, in its 40 leading bits: those who derive a difficulty from it in
    /// floating point and truncate that get the one that was meant, not the one below.
    pub(crate) fn told(self) -> Self {
        let Some(at) = self.0.iter().position(|word| *word != 0) else { return self };
        let keep =
            |word: u64, bits: u32| if bits == 0 { 0 } else { word >> (64 - bits) << (64 - bits) };
        let blank = self.0[at].leading_zeros();
        let mut words = [0; 4];
        words[at] = keep(self.0[at], (blank + TOLD_BITS).min(64));
        if let Some(next) = words.get_mut(at + 1) {
            *next = keep(self.0[at + 1], (blank + TOLD_BITS).saturating_sub(64));
        }
        Self(words)
    }

    fn shl1(self, low: u64) -> Self {
        let [a, b, c, d] = self.0;
        Self([a << 1 | b >> 63, b << 1 | c >> 63, c << 1 | d >> 63, d << 1 | low])
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.0;
        write!(f, "{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

/// The difficulty that `hash` would have met: the same figure as the miner shows.
pub(crate) fn hash_difficulty(hash: &Hash256) -> f64 {
    Target::from_le_bytes(&hash.0).difficulty()
}

/// A positive, finite share difficulty.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Difficulty(f64);

impl Difficulty {
    pub(crate) const ONE: Self = Self(1.0);

    /// None unless positive, finite and not absurdly small.
    pub fn new(value: f64) -> Option<Self> {
        (value.is_finite() && value >= DIFFICULTY_LEAST).then_some(Self(value))
    }

    /// 2^exponent, clamped to what a difficulty may be.
    pub fn pow2(exponent: i32) -> Self {
        Self(2f64.powi(exponent.clamp(-30, 63)))
    }

    pub(crate) const fn get(self) -> f64 {
        self.0
    }

    /// floor(log2), as the pool credits it.
    pub(crate) fn log2_floor(self) -> i32 {
        let (mantissa, exponent) = decompose(self.0);
        exponent + 63 - i32::try_from(mantissa.leading_zeros()).unwrap_or(63)
    }

    /// The byte written into a coinbase: `log2_floor`, 0 below difficulty 1.
    pub(crate) fn target_byte(self) -> u8 {
        u8::try_from(self.log2_floor().max(0)).unwrap_or(u8::MAX)
    }

    /// The greatest power of two not above it.
    pub(crate) fn floor_pow2(self) -> Self {
        Self::pow2(self.log2_floor())
    }

    /// The least power of two not below it.
    pub(crate) fn ceil_pow2(self) -> Self {
        let floor = self.floor_pow2();
        if floor.0 < self.0 { Self::pow2(self.log2_floor() + 1) } else { floor }
    }

    /// The greatest whole number not above it; below 1, the difficulty itself.
    pub(crate) fn floor_whole(self) -> Self {
        if self.0 < 1.0 { self } else { Self(self.0.floor()) }
    }

    /// The least whole number not below it; below 1, the difficulty itself.
    pub(crate) fn ceil_whole(self) -> Self {
        if self.0 < 1.0 { self } else { Self(self.0.ceil()) }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self(self.0.max(other.0))
    }

    pub(crate) fn min(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }
}

impl fmt::Display for Difficulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// `value` as mantissa × 2^exponent, exactly. `value` is positive and finite.
fn decompose(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let biased = i32::try_from(bits >> 52 & 0x7FF).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    if biased == 0 { (fraction.max(1), -1074) } else { (fraction | 1 << 52, biased - 1075) }
}

/// 2^32: expected hashes for a share of difficulty 1.
pub(crate) const HASHES_PER_DIFFICULTY: f64 = 4_294_967_296.0;
/// A relative error of 2^-39: far above an `f64`'s, far below what a share is worth.
const TOLD_BITS: u32 = 40;
/// Below this, every hash meets the target anyway (difficulty 1 takes 2^32 hashes).
const DIFFICULTY_LEAST: f64 = 1e-9;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;
/// 0xFFFF × 2^208.
const DIFFICULTY_1: f64 = 65_535.0 * TWO_64 * TWO_64 * TWO_64 * 65_536.0;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn case(difficulty: f64, hex: &str) {
        let target = Target::from_difficulty(Difficulty::new(difficulty).unwrap());
        assert_eq!(format!("{target:?}"), hex);
    }

    #[test]
    fn targets_are_exact() {
        case(1.0, "00000000ffff0000000000000000000000000000000000000000000000000000");
        case(2.0, "000000007fff8000000000000000000000000000000000000000000000000000");
        case(3.0, "0000000055550000000000000000000000000000000000000000000000000000");
        case(7.0, "0000000024922492492492492492492492492492492492492492492492492492");
        case(10.0, "0000000019998000000000000000000000000000000000000000000000000000");
        case(0.5, "00000001fffe0000000000000000000000000000000000000000000000000000");
        case(65536.0, "000000000000ffff000000000000000000000000000000000000000000000000");
    }

    #[test]
    fn tiny_difficulties_saturate() {
        assert_eq!(Target::from_difficulty(Difficulty(1e-300)), Target::MAX);
        assert_eq!(Difficulty::new(0.0), None);
        assert_eq!(Difficulty::new(f64::NAN), None);
        assert_eq!(Difficulty::new(-1.0), None);
    }

    #[test]
    fn target_byte_is_floor_log2() {
        for (difficulty, byte) in [(0.001, 0), (1.0, 0), (1.9, 0), (2.0, 1), (16384.0, 14)] {
            assert_eq!(Difficulty(difficulty).target_byte(), byte);
        }
        assert_eq!(Difficulty(0.3).floor_pow2(), Difficulty(0.25));
        assert_eq!(Difficulty(0.3).ceil_pow2(), Difficulty(0.5));
        assert_eq!(Difficulty(1024.0).ceil_pow2(), Difficulty(1024.0));
    }

    proptest! {
        #[test]
        fn targets_agree_with_rust_bitcoin(difficulty in 1u64..u64::from(u32::MAX)) {
            let ours = Target::from_difficulty(Difficulty(difficulty as f64));
            let max = bitcoin::Target::MAX_ATTAINABLE_MAINNET;
            // rust-bitcoin divides the same way only for whole difficulties.
            prop_assert_eq!(max, bitcoin::Target::from_le_bytes(Target::DIFFICULTY_1.to_le_bytes()));
            let theirs = bitcoin::Target::from_le_bytes(ours.to_le_bytes());
            prop_assert_eq!(theirs.difficulty_float().round(), difficulty as f64);
        }

        #[test]
        fn more_difficulty_is_less_target(a in 1e-6f64..1e15, b in 1e-6f64..1e15) {
            let target = |value| Target::from_difficulty(Difficulty(value));
            prop_assert_eq!(a < b, target(a) > target(b));
        }

        #[test]
        fn bytes_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(Target::from_le_bytes(&bytes).to_le_bytes(), bytes);
        }
    }
}
