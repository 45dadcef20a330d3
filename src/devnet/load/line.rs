//! A fast parser for the lines that come by the thousand, reading only what measuring needs.
//! Anything unusual is left to the full parser.

use memchr::memmem;

use crate::work::Hash256;

/// What distinguishes one notify from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct NotifyHead {
    /// Subsidy-only work, as gatewayd and datum_gateway mark it.
    pub(super) empty: bool,
    pub(super) prevhash: Hash256,
    pub(super) clean: bool,
}

pub(super) fn is_notify(line: &[u8]) -> bool {
    let head = &line[..line.len().min(METHOD_WITHIN)];
    memmem::find(head, b"\"mining.notify\"").is_some()
}

impl NotifyHead {
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let params = memmem::find(line, b"\"params\"")?;
        let mut strings = line[params + 8..].split(|byte| *byte == b'"').skip(1).step_by(2);
        let (id, prevhash) = (strings.next()?, strings.next()?);
        let end = line.trim_ascii_end().strip_suffix(b"]}")?;
        Some(Self {
            empty: id.first() == Some(&b'N'),
            prevhash: unswap(prevhash)?,
            clean: end.trim_ascii_end().ends_with(b"true"),
        })
    }
}

/// A hash from V1's hex, where the bytes of each word are reversed.
fn unswap(hex: &[u8]) -> Option<Hash256> {
    let mut hash = Hash256::ZERO;
    if hex.len() != 64 {
        return None;
    }
    faster_hex::hex_decode(hex, &mut hash.0).ok()?;
    hash.0.chunks_exact_mut(4).for_each(<[u8]>::reverse);
    Some(hash)
}

/// The id of a request that was answered with `true`.
pub(super) fn accepted_id(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"id\":")?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    rest[end..].starts_with(b",\"result\":true").then_some(())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// `{"id":null,"method":"mining.notify"` and some white space.
const METHOD_WITHIN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifies_are_distinguished() {
        let prevhash = "0a0b0c0d".repeat(8);
        let line = |id: &str, clean: &str| {
            format!(
                r#"{{"id":null,"method":"mining.notify","params":["{id}","{prevhash}","00","11",["22"],"20000000","207fffff","66000000",{clean}]}}"#
            )
        };
        for (id, clean) in [("N1f", true), ("1f", false), ("Q2", true)] {
            let line = line(id, if clean { "true" } else { "false" });
            assert!(is_notify(line.as_bytes()));
            let head = NotifyHead::read(line.as_bytes()).unwrap();
            assert_eq!(head.empty, id.starts_with('N'));
            assert_eq!(head.prevhash.0[..8], [13, 12, 11, 10, 13, 12, 11, 10]);
            assert_eq!(head.clean, clean);
        }
        assert_eq!(NotifyHead::read(b"{\"method\":\"mining.notify\",\"params\":[\"1\"]}"), None);
    }

    #[test]
    fn acceptances_are_read_and_nothing_else_is() {
        assert_eq!(accepted_id(b"{\"id\":17,\"result\":true,\"error\":null}"), Some(17));
        assert_eq!(accepted_id(b"{\"id\":17,\"result\":null,\"error\":[21,\"x\",null]}"), None);
        assert_eq!(accepted_id(b"{\"id\":\"17\",\"result\":true}"), None);
        assert_eq!(accepted_id(b"{\"id\":"), None);
    }
}
