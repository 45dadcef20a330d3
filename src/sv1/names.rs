//! The usernames that a connection submits with.

use crate::work::Username;

/// A small cache, so that a share's username costs no allocation.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: Vec<Username>,
    /// The one used last.
    current: usize,
}

impl Names {
    /// The shared form of `name`; none when it is too long for a pool.
    pub(super) fn intern(&mut self, name: &str) -> Option<&Username> {
        if self.known.get(self.current).is_none_or(|known| *known.0 != *name) {
            if name.len() > NAME_LEN_MAX {
                return None;
            }
            self.current =
                self.known.iter().position(|known| *known.0 == *name).unwrap_or_else(|| {
                    let fresh = Username(name.into());
                    if self.known.len() < NAMES_MAX {
                        self.known.push(fresh);
                        self.known.len() - 1
                    } else {
                        let oldest = (self.current + 1) % NAMES_MAX;
                        self.known[oldest] = fresh;
                        oldest
                    }
                });
        }
        self.known.get(self.current)
    }
}

/// A DATUM pool takes 384 bytes, of which an address and a dot may be put in front.
const NAME_LEN_MAX: usize = 300;
/// Enough for a proxy with a shelf of miners; more only cost an allocation each.
const NAMES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_bounded_and_right() {
        let mut names = Names::default();
        for round in 0..3 {
            for i in 0..200 {
                let name = format!("miner{i}");
                assert_eq!(&*names.intern(&name).unwrap().0, name, "{round}");
            }
        }
        assert_eq!(names.known.len(), NAMES_MAX);
        assert_eq!(names.intern(&"x".repeat(301)), None);
    }
}
