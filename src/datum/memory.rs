//! What is remembered about pools across connections and restarts: whether a pool gives a gateway
//! the same prime id each time. Text in, text out; `task.rs` has the file.

use std::fmt::Write;

use super::protocol::cipher::PublicIdentity;

/// By the pool's key, the most recently learnt at the end.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PoolMemory {
    pools: Vec<(String, bool)>,
}

impl PoolMemory {
    /// Whether the pool keeps a gateway's prime id across connections; None: not known yet.
    pub(crate) fn keeps_prime_id(&self, pool: &PublicIdentity) -> Option<bool> {
        let key = hex(pool);
        self.pools.iter().find(|(known, _)| *known == key).map(|(_, keeps)| *keeps)
    }

    /// Records what a pool has done; true if that is new.
    pub(super) fn learn(&mut self, pool: &PublicIdentity, keeps: bool) -> bool {
        if self.keeps_prime_id(pool) == Some(keeps) {
            return false;
        }
        self.put(hex(pool), keeps);
        true
    }

    fn put(&mut self, key: String, keeps: bool) {
        self.pools.retain(|(known, _)| *known != key);
        if self.pools.len() == POOLS_MAX {
            self.pools.remove(0);
        }
        self.pools.push((key, keeps));
    }

    /// Reads what `render` wrote. Malformed lines are skipped: everything here can be learnt again.
    pub fn parse(text: &str) -> Self {
        let mut memory = Self::default();
        for line in text.lines() {
            let Some((key, word)) = line.trim().split_once(' ') else { continue };
            let is_key = key.len() == KEY_DIGITS && key.bytes().all(|c| c.is_ascii_hexdigit());
            let keeps = match word.trim() {
                KEEPS => true,
                CHANGES => false,
                _ => continue,
            };
            if is_key {
                memory.put(key.to_ascii_lowercase(), keeps);
            }
        }
        memory
    }

    pub fn render(&self) -> String {
        let mut text = String::from(HEAD);
        for (key, keeps) in &self.pools {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} {}", if *keeps { KEEPS } else { CHANGES });
        }
        text
    }
}

fn hex(pool: &PublicIdentity) -> String {
    faster_hex::hex_string(&pool.to_bytes())
}

const HEAD: &str = "# What gatewayd has learnt about its pools, by public key; this file may be \
deleted at any time.
# keeps-prime-id: work goes on while the pool is away, and its shares are sent afterwards.
# new-prime-id: each connection brings a new one, and shares of earlier work would be refused.
";
const KEEPS: &str = "keeps-prime-id";
const CHANGES: &str = "new-prime-id";
/// Two public keys of 32 bytes.
const KEY_DIGITS: usize = 128;
/// Far more than anybody uses, though changed settings can bring new pools for ever; some 9 kB.
pub(super) const POOLS_MAX: usize = 64;
/// A file that is longer was not written here.
pub(super) const FILE_LEN_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datum::Identity;

    fn key(byte: u8) -> PublicIdentity {
        *Identity::from_secrets(&[byte; 32], [byte; 32]).public()
    }

    #[test]
    fn what_was_learnt_is_read_again() {
        let mut memory = PoolMemory::default();
        assert_eq!(memory.keeps_prime_id(&key(1)), None);
        assert!(memory.learn(&key(1), true) && memory.learn(&key(2), false));
        assert!(!memory.learn(&key(1), true));
        assert_eq!(PoolMemory::parse(&memory.render()), memory);
        assert!(memory.learn(&key(1), false));
        let read = PoolMemory::parse(&memory.render());
        assert_eq!(read.keeps_prime_id(&key(1)), Some(false));
        assert_eq!(read.keeps_prime_id(&key(2)), Some(false));
    }

    #[test]
    fn a_spoilt_file_costs_no_more_than_its_spoilt_lines() {
        let mut memory = PoolMemory::default();
        memory.learn(&key(1), true);
        let good = memory.render();
        for bad in ["", "\0\0\0", "zz keeps-prime-id", "# x", "0123 new-prime-id", "a b c\n\n"] {
            assert_eq!(PoolMemory::parse(&format!("{bad}\n{good}\n{bad}")), memory, "{bad:?}");
        }
        let many: String = (0..200u8).map(|at| format!("{} {KEEPS}\n", hex(&key(at)))).collect();
        assert_eq!(PoolMemory::parse(&many).pools.len(), POOLS_MAX);
    }
}
