//! Hex digits, as Stratum V1 writes and reads them.

/// One to eight hex digits.
pub(super) fn parse_hex_u32(hex: &str) -> Option<u32> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    if hex.is_empty() || hex.len() > 8 {
        return None;
    }
    hex.bytes().try_fold(0, |value, byte| Some(value << 4 | digit(byte)?))
}

pub(super) fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    bytes.iter().for_each(|byte| out.extend_from_slice(&hex_byte(*byte)));
}

#[inline]
pub(super) fn hex_byte(byte: u8) -> [u8; 2] {
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
