//! Which coinbase a miner can take, by what it says it is.
//!
//! A pattern is plain text, compared without regard to case: `^text` matches a user agent that
//! begins with it, `text` one that contains it. The first rule that matches decides.

use crate::work::{CoinbaseId, Difficulty};

/// One `[[stratum.class]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassRule {
    pattern: Box<str>,
    /// The pattern must stand at the beginning.
    anchored: bool,
    class: CoinbaseId,
    difficulty_min: Option<Difficulty>,
}

impl ClassRule {
    pub fn new(pattern: &str, class: CoinbaseId, difficulty_min: Option<Difficulty>) -> Self {
        let (anchored, text) = match pattern.strip_prefix('^') {
            Some(text) => (true, text),
            None => (false, pattern),
        };
        Self { pattern: text.to_ascii_lowercase().into(), anchored, class, difficulty_min }
    }

    /// As the operator writes it: the roomiest class that keeps within `max_coinbase` bytes.
    pub fn within(pattern: &str, max_coinbase: usize, difficulty_min: Option<Difficulty>) -> Self {
        Self::new(pattern, CoinbaseId::within(max_coinbase), difficulty_min)
    }

    fn matches(&self, lowercase: &str) -> bool {
        if self.anchored {
            lowercase.starts_with(&*self.pattern)
        } else {
            lowercase.contains(&*self.pattern)
        }
    }
}

/// The operator's rules, then the built-in ones.
#[derive(Clone, Debug)]
pub struct Classes {
    rules: Box<[ClassRule]>,
    /// For SV2's extended channels, before the built-in ones and behind the operator's.
    extended: Box<[ClassRule]>,
    own: usize,
}

impl Classes {
    /// Without `fingerprint` there are no built-in rules.
    pub fn new(fingerprint: bool, own: Vec<ClassRule>) -> Self {
        if !fingerprint {
            return Self { own: own.len(), rules: own.into(), extended: Box::default() };
        }
        let built_in = BUILT_IN.into_iter().map(|(pattern, class, exponent)| {
            ClassRule::new(pattern, class, exponent.map(Difficulty::pow2))
        });
        let extended = EXTENDED.map(|(pattern, class)| ClassRule::new(pattern, class, None));
        Self {
            own: own.len(),
            rules: own.into_iter().chain(built_in).collect(),
            extended: extended.into(),
        }
    }

    /// The class for a user agent, and the least difficulty that comes with it.
    pub fn of(&self, user_agent: &str) -> (CoinbaseId, Option<Difficulty>) {
        Self::first(self.rules.iter(), user_agent)
    }

    /// The same for an SV2 extended channel, whose user agent is vendor, hardware and firmware.
    pub fn of_extended(&self, user_agent: &str) -> (CoinbaseId, Option<Difficulty>) {
        let (own, built_in) = self.rules.split_at(self.own.min(self.rules.len()));
        Self::first(own.iter().chain(&self.extended).chain(built_in), user_agent)
    }

    fn first<'a>(
        mut rules: impl Iterator<Item = &'a ClassRule>,
        user_agent: &str,
    ) -> (CoinbaseId, Option<Difficulty>) {
        let lowercase = user_agent.to_ascii_lowercase();
        let rule = rules.find(|rule| rule.matches(&lowercase));
        rule.map_or((CoinbaseId::DEFAULT, None), |rule| (rule.class, rule.difficulty_min))
    }
}

/// Pattern, class, log2 of the least difficulty: what datum_gateway's pools and miners are used to.
const BUILT_IN: [(&str, CoinbaseId, Option<i32>); 7] = [
    // Its market refuses less than 500,000.
    ("^NiceHash/", CoinbaseId::SMALL, Some(19)),
    ("^Antminer S21/", CoinbaseId::S21, None),
    ("bosminer-plus-tuner", CoinbaseId::S21, None),
    ("^whatsminer/v1", CoinbaseId::RESPECTABLE, None),
    ("^bitaxe", CoinbaseId::RESPECTABLE, None),
    ("^PowerPlay-BM/", CoinbaseId::HUGE, None),
    ("^xminer-1.", CoinbaseId::HUGE, None),
];

/// What a miner can take over SV2, where that is less than over SV1. ESP-Miner 2.14 drops the
/// connection at a payload beyond 2,048 bytes (2.15 takes 8,192, and does not say its version): with
/// 755 bytes of coinbase and the 20 branches that it can hold, a job stays under 1,500.
const EXTENDED: [(&str, CoinbaseId); 1] = [("^bitaxe", CoinbaseId::DEFAULT)];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(user_agent: &str, class: CoinbaseId) {
        assert_eq!(Classes::new(true, Vec::new()).of(user_agent).0, class, "{user_agent}");
    }

    #[test]
    fn built_in_classes() {
        case("NiceHash/1.0.0", CoinbaseId::SMALL);
        case("Antminer S21/Mon Dec", CoinbaseId::S21);
        case("Antminer S21+/Mon Dec", CoinbaseId::DEFAULT);
        case("BOSer bosminer-plus-tuner 0.2", CoinbaseId::S21);
        case("whatsminer/v1.1", CoinbaseId::RESPECTABLE);
        case("bitaxe/BM1370/v2.4", CoinbaseId::RESPECTABLE);
        case("not a bitaxe", CoinbaseId::DEFAULT);
        case("PowerPlay-BM/2", CoinbaseId::HUGE);
        case("xminer-1.2.3", CoinbaseId::HUGE);
        case("", CoinbaseId::DEFAULT);
    }

    #[test]
    fn rentals_have_their_floor() {
        let floor = Classes::new(true, Vec::new()).of("NiceHash/1.0.0").1;
        assert_eq!(floor, Some(Difficulty::pow2(19)));
    }

    #[test]
    fn own_rules_come_first() {
        let own = ClassRule::within("^bitaxe", 755, Difficulty::new(65536.0));
        let classes = Classes::new(true, vec![own]);
        assert_eq!(classes.of("BitAxe/x"), (CoinbaseId::DEFAULT, Difficulty::new(65536.0)));
        assert_eq!(classes.of("xminer-1.0").0, CoinbaseId::HUGE);
    }

    #[test]
    fn bitaxes_take_less_over_sv2_unless_told_otherwise() {
        let extended = |own| Classes::new(true, own).of_extended("bitaxe/BM1370").0;
        assert_eq!(extended(Vec::new()), CoinbaseId::DEFAULT);
        assert_eq!(
            extended(vec![ClassRule::within("^bitaxe", 6500, None)]),
            CoinbaseId::RESPECTABLE
        );
        assert_eq!(Classes::new(true, Vec::new()).of_extended("xminer-1.2").0, CoinbaseId::HUGE);
    }

    #[test]
    fn without_fingerprint_own_rules_alone_count() {
        let default = (CoinbaseId::DEFAULT, None);
        assert_eq!(Classes::new(false, Vec::new()).of("xminer-1."), default);
        let floor = Difficulty::new(65536.0);
        let classes = Classes::new(false, vec![ClassRule::within("^Mine/", 6500, floor)]);
        assert_eq!(classes.of("mine/2"), (CoinbaseId::RESPECTABLE, floor));
        assert_eq!(classes.of_extended("mine/2"), (CoinbaseId::RESPECTABLE, floor));
        assert_eq!(classes.of("xminer-1."), default);
        assert_eq!(classes.of_extended("bitaxe/x"), default);
    }
}
