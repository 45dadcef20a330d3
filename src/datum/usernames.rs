//! The name under which a share is sent to the pool.

use std::borrow::Cow;

use super::protocol::message::USERNAME_MAX;
use crate::work::Hash256;

/// What is made of the names that miners log in with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UsernameMode {
    /// As the miner sends them.
    #[default]
    Full,
    /// The operator's address, a dot, and the miner's name.
    Worker,
    /// The operator's address alone.
    Address,
}

/// One `name~modifier`: shares go to addresses at random, each with its fraction of 1.
///
/// An empty address stands for the miner's own name.
#[derive(Clone, Debug, PartialEq)]
pub struct Modifier {
    pub(crate) name: String,
    pub(crate) parts: Vec<(String, f64)>,
}

/// All rules for usernames.
#[derive(Clone, Debug)]
pub struct Usernames {
    mode: UsernameMode,
    address: String,
    modifiers: Vec<Ranges>,
}

/// A modifier, with each fraction turned into the highest random number that it covers.
#[derive(Clone, Debug)]
struct Ranges {
    name: String,
    parts: Vec<(String, u16)>,
}

impl Usernames {
    pub fn new(mode: UsernameMode, address: String, modifiers: &[Modifier]) -> Self {
        let modifiers = modifiers.iter().map(Ranges::new).collect();
        Self { mode, address, modifiers }
    }

    /// The pool's name for a share of `username` whose hash is `hash`.
    pub(crate) fn map<'a>(&'a self, username: &'a str, hash: &Hash256) -> Cow<'a, str> {
        let name = cut(username, USERNAME_MAX);
        let mapped = match self.modified(name, hash) {
            Cow::Borrowed(name) => self.by_mode(name),
            Cow::Owned(name) => Cow::Owned(self.by_mode(&name).into_owned()),
        };
        if mapped.len() <= USERNAME_MAX {
            return mapped;
        }
        Cow::Owned(cut(&mapped, USERNAME_MAX).to_owned())
    }

    fn by_mode<'a>(&'a self, name: &'a str) -> Cow<'a, str> {
        match self.mode {
            // A miner without a name is called by the address alone.
            _ if name.is_empty() || name == self.address => Cow::Borrowed(&self.address),
            UsernameMode::Address => Cow::Borrowed(&self.address),
            UsernameMode::Full if !name.starts_with('.') => Cow::Borrowed(name),
            UsernameMode::Full | UsernameMode::Worker => {
                let dot = if name.starts_with('.') { "" } else { "." };
                Cow::Owned(format!("{}{dot}{name}", self.address))
            }
        }
    }

    fn modified<'a>(&'a self, name: &'a str, hash: &Hash256) -> Cow<'a, str> {
        let Some((plain, modifier)) = name.split_once('~') else {
            return Cow::Borrowed(name);
        };
        let Some(ranges) = self.modifiers.iter().find(|ranges| ranges.name == modifier) else {
            return Cow::Borrowed(name);
        };
        let draw = u16::from_le_bytes([hash.0[0], hash.0[1]]);
        let part = ranges.parts.iter().find(|(_, highest)| draw <= *highest);
        match part {
            // If the fractions do not add up to 1, the rest goes to the operator.
            None => Cow::Borrowed(&self.address),
            Some((address, _)) if address.is_empty() => Cow::Borrowed(plain),
            Some((address, _)) => match plain.find('.') {
                Some(dot) => Cow::Owned(format!("{address}{}", &plain[dot..])),
                None => Cow::Borrowed(address),
            },
        }
    }
}

impl Ranges {
    fn new(modifier: &Modifier) -> Self {
        let mut sum = 0.0;
        let mut parts = Vec::new();
        for (address, part) in &modifier.parts {
            sum += part.max(0.0);
            let highest = (sum * 65_536.0).ceil() - 1.0;
            if highest >= 0.0 {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "clamped to the range of u16 right here"
                )]
                parts.push((address.clone(), highest.min(65_535.0) as u16));
            }
        }
        Self { name: modifier.name.clone(), parts }
    }
}

/// At most `max` bytes, whole characters, and nothing from a NUL on: it would end the field.
fn cut(name: &str, max: usize) -> &str {
    let name = name.split('\0').next().unwrap_or_default();
    let mut end = name.len().min(max);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(low: u16) -> Hash256 {
        let mut hash = Hash256::ZERO;
        hash.0[..2].copy_from_slice(&low.to_le_bytes());
        hash
    }

    #[track_caller]
    fn case(mode: UsernameMode, name: &str, expected: &str) {
        let names = Usernames::new(mode, "addr".into(), &[]);
        assert_eq!(names.map(name, &Hash256::ZERO), expected);
    }

    #[test]
    fn names_follow_the_mode() {
        use UsernameMode::{Address, Full, Worker};
        case(Full, "bc1q.rig", "bc1q.rig");
        case(Full, ".rig", "addr.rig");
        case(Full, "", "addr");
        case(Worker, "rig", "addr.rig");
        case(Worker, ".rig", "addr.rig");
        case(Worker, "", "addr");
        case(Worker, "addr", "addr");
        case(Address, "rig", "addr");
        case(Full, "a\0b", "a");
        case(Full, "name~nobody", "name~nobody");
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let names = Usernames::new(UsernameMode::Worker, "addr".into(), &[]);
        let name = "ä".repeat(400);
        let mapped = names.map(&name, &Hash256::ZERO);
        assert!(mapped.len() <= USERNAME_MAX && mapped.starts_with("addr.ä"));
    }

    #[test]
    fn modifiers_split_by_the_low_bits_of_the_hash() {
        let parts = vec![("other".into(), 0.25), (String::new(), 0.5)];
        let modifiers = [Modifier { name: "split".into(), parts }];
        let names = Usernames::new(UsernameMode::Full, "addr".into(), &modifiers);
        let map = |name, low| names.map(name, &draw(low)).into_owned();
        assert_eq!(map("me.rig~split", 0), "other.rig");
        assert_eq!(map("me~split", 0x3FFF), "other");
        assert_eq!(map("me.rig~split", 0x4000), "me.rig");
        assert_eq!(map("me.rig~split", 0xBFFF), "me.rig");
        assert_eq!(map("me.rig~split", 0xC000), "addr");
    }
}
