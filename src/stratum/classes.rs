//! Which coinbase a miner can take, judging by its user agent.
//!
//! A pattern is plain text, compared case-insensitively: `^text` matches a user agent that begins
//! with it, `text` one that contains it. The first rule that matches decides.

use crate::work::{CoinbaseClass, Difficulty};

/// One `[[stratum.class]]`, or a built-in one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClassRule {
    pattern: Box<str>,
    /// The pattern must match at the beginning.
    anchored: bool,
    class: CoinbaseClass,
    /// For SV2's extended channels.
    extended: CoinbaseClass,
    difficulty_min: Option<Difficulty>,
    shows_newest_job: bool,
}

impl ClassRule {
    pub(crate) fn new(
        pattern: &str,
        class: CoinbaseClass,
        difficulty_min: Option<Difficulty>,
    ) -> Self {
        let (anchored, text) = match pattern.strip_prefix('^') {
            Some(text) => (true, text),
            None => (false, pattern),
        };
        Self {
            pattern: text.to_ascii_lowercase().into(),
            anchored,
            class,
            extended: class,
            difficulty_min,
            shows_newest_job: false,
        }
    }

    /// As the operator writes it: the roomiest class that keeps within `max_coinbase` bytes.
    pub(crate) fn within(
        pattern: &str,
        max_coinbase: usize,
        difficulty_min: Option<Difficulty>,
    ) -> Self {
        Self::new(pattern, CoinbaseClass::within(max_coinbase), difficulty_min)
    }

    fn built_in(known: &KnownFirmware) -> Self {
        let floor = known.log2_difficulty_min.map(Difficulty::pow2);
        Self {
            extended: known.sv2,
            shows_newest_job: known.shows_newest_job,
            ..Self::new(known.pattern, known.sv1, floor)
        }
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
pub(crate) struct Classes(Box<[ClassRule]>);

impl Classes {
    /// Without `fingerprint` there are no built-in rules.
    pub(crate) fn new(fingerprint: bool, own: Vec<ClassRule>) -> Self {
        let built_in = if fingerprint { BUILT_IN } else { &[] };
        Self(own.into_iter().chain(built_in.iter().map(ClassRule::built_in)).collect())
    }

    /// The class for a user agent, and the least difficulty that comes with it.
    pub(crate) fn of(&self, user_agent: &str) -> (CoinbaseClass, Option<Difficulty>) {
        let rule = self.rule(user_agent);
        rule.map_or((CoinbaseClass::Default, None), |rule| (rule.class, rule.difficulty_min))
    }

    /// The same for an SV2 extended channel, whose user agent is vendor, hardware and firmware.
    pub(crate) fn of_extended(&self, user_agent: &str) -> (CoinbaseClass, Option<Difficulty>) {
        let rule = self.rule(user_agent);
        rule.map_or((CoinbaseClass::Default, None), |rule| (rule.extended, rule.difficulty_min))
    }

    /// Whether the miner displays an SV2 future job as if it were already being mined. Not a matter
    /// of class, so the operator's rules do not hide it.
    pub(crate) fn shows_newest_job(&self, user_agent: &str) -> bool {
        let lowercase = user_agent.to_ascii_lowercase();
        self.0.iter().any(|rule| rule.shows_newest_job && rule.matches(&lowercase))
    }

    fn rule(&self, user_agent: &str) -> Option<&ClassRule> {
        let lowercase = user_agent.to_ascii_lowercase();
        self.0.iter().find(|rule| rule.matches(&lowercase))
    }
}

/// What is known about a kind of miner.
struct KnownFirmware {
    pattern: &'static str,
    sv1: CoinbaseClass,
    /// Over SV2's extended channels; standard ones see no coinbase.
    sv2: CoinbaseClass,
    log2_difficulty_min: Option<i32>,
    shows_newest_job: bool,
}

impl KnownFirmware {
    const fn new(pattern: &'static str, class: CoinbaseClass) -> Self {
        Self { pattern, sv1: class, sv2: class, log2_difficulty_min: None, shows_newest_job: false }
    }

    /// Shows or checks whom each coinbase pays, so the extranonce must be in the scriptSig; its SV2
    /// frames hold 2,048 bytes, of which 20 branches take 640.
    const fn payout_reader(pattern: &'static str) -> Self {
        let known = Self::new(pattern, CoinbaseClass::Respectable);
        Self { sv2: CoinbaseClass::Small, shows_newest_job: true, ..known }
    }
}

/// Closed firmware gets the class that datum_gateway 0.4.1 gives it.
const BUILT_IN: &[KnownFirmware] = &[
    // Closed. The market refuses difficulties below 500,000.
    KnownFirmware {
        log2_difficulty_min: Some(19),
        ..KnownFirmware::new("^NiceHash/", CoinbaseClass::Small)
    },
    // Closed, like the five below.
    KnownFirmware::new("^Antminer S21/", CoinbaseClass::S21),
    KnownFirmware::new("bosminer-plus-tuner", CoinbaseClass::S21),
    KnownFirmware::new("^whatsminer/v1", CoinbaseClass::Respectable),
    KnownFirmware::new("^PowerPlay-BM/", CoinbaseClass::Huge),
    KnownFirmware::new("^xminer-1.", CoinbaseClass::Huge),
    // ESP-Miner. SV1: components/stratum/stratum_api.c grows its buffer with the line. SV2:
    // main/tasks/stratum_v2_task.c, SV2_MAX_FRAME_SIZE is 2,048 up to 2.14 (8,192 from 2.15 on,
    // which does not say its version). components/stratum/coinbase_decoder.c takes whatever follows
    // the extranonce as the end of the scriptSig, the sequence and the outputs.
    KnownFirmware::payout_reader("^bitaxe"),
    // ESP-Miner-NerdQAxePlus 1.0.38, one name per file in main/boards/*.cpp. SV1:
    // main/stratum/stratum_api.h, BIG_BUFFER_SIZE is 16,384, for a line. SV2:
    // main/stratum/stratum_task_v2.h, SV2_MAX_FRAME_SIZE is 2,048. It reads coinbases like
    // ESP-Miner, and if so configured refuses to mine what does not pay its user.
    KnownFirmware::payout_reader("^NerdQAxe"),
    KnownFirmware::payout_reader("^NerdAxe"),
    KnownFirmware::payout_reader("^NerdOCTAXE"),
    KnownFirmware::payout_reader("^NerdEKO"),
    KnownFirmware::payout_reader("^NerdHaxe"),
    KnownFirmware::payout_reader("^NerdQX"),
    KnownFirmware::payout_reader("^Q1370"),
    KnownFirmware::payout_reader("^Q1373"),
    // NerdMiner_v2 1.8.3: src/utils.cpp prints the coinbase into coinbase_buffer[512] and hashes what
    // is there: 255 bytes of it. Only the class without splits is that small.
    KnownFirmware::new("^NerdMinerV2/", CoinbaseClass::Tiny),
    KnownFirmware::new("^HAN_SOLOminer/", CoinbaseClass::Tiny),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(user_agent: &str, class: CoinbaseClass) {
        assert_eq!(Classes::new(true, Vec::new()).of(user_agent).0, class, "{user_agent}");
    }

    #[test]
    fn built_in_classes() {
        case("NiceHash/1.0.0", CoinbaseClass::Small);
        case("Antminer S21/Mon Dec", CoinbaseClass::S21);
        case("Antminer S21+/Mon Dec", CoinbaseClass::Default);
        case("BOSer bosminer-plus-tuner 0.2", CoinbaseClass::S21);
        case("whatsminer/v1.1", CoinbaseClass::Respectable);
        case("bitaxe/BM1370/v2.4", CoinbaseClass::Respectable);
        case("not a bitaxe", CoinbaseClass::Default);
        case("PowerPlay-BM/2", CoinbaseClass::Huge);
        case("xminer-1.2.3", CoinbaseClass::Huge);
        case("NerdMinerV2/V1.8.3", CoinbaseClass::Tiny);
        case("HAN_SOLOminer/V1.8.3", CoinbaseClass::Tiny);
        for board in ["NerdQAxe++", "NerdAxe", "NerdOCTAXE-γ", "NerdEKO", "NerdHaxe-γ", "NerdQX"]
        {
            case(&format!("{board}/BM1370/v1.0.38"), CoinbaseClass::Respectable);
        }
        case("Q1370/BM1370/v1.0.38", CoinbaseClass::Respectable);
        case("Q1373/BM1373/v1.0.38", CoinbaseClass::Respectable);
        case("", CoinbaseClass::Default);
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
        assert_eq!(classes.of("BitAxe/x"), (CoinbaseClass::Default, Difficulty::new(65536.0)));
        assert_eq!(classes.of("xminer-1.0").0, CoinbaseClass::Huge);
    }

    #[test]
    fn payout_readers_take_less_over_sv2_unless_told_otherwise() {
        let extended = |own, agent| Classes::new(true, own).of_extended(agent).0;
        for agent in ["bitaxe/BM1370", "NerdAxeGamma/BM1370", "NerdOCTAXE+/BM1368", "Q1370/BM1370"]
        {
            assert_eq!(extended(Vec::new(), agent), CoinbaseClass::Small, "{agent}");
        }
        let own = vec![ClassRule::within("^bitaxe", 6500, None)];
        assert_eq!(extended(own, "bitaxe/BM1370"), CoinbaseClass::Respectable);
        assert_eq!(extended(Vec::new(), "xminer-1.2"), CoinbaseClass::Huge);
    }

    #[test]
    fn screens_are_known_whatever_the_class() {
        let own = vec![ClassRule::within("bitaxe", 6500, None)];
        assert!(Classes::new(true, own.clone()).shows_newest_job("BitAxe/BM1370"));
        assert!(!Classes::new(false, own).shows_newest_job("bitaxe/BM1370"));
        assert!(!Classes::new(true, Vec::new()).shows_newest_job("translator/1"));
    }

    #[test]
    fn without_fingerprint_own_rules_alone_count() {
        let default = (CoinbaseClass::Default, None);
        assert_eq!(Classes::new(false, Vec::new()).of("xminer-1."), default);
        let floor = Difficulty::new(65536.0);
        let classes = Classes::new(false, vec![ClassRule::within("^Mine/", 6500, floor)]);
        assert_eq!(classes.of("mine/2"), (CoinbaseClass::Respectable, floor));
        assert_eq!(classes.of_extended("mine/2"), (CoinbaseClass::Respectable, floor));
        assert_eq!(classes.of("xminer-1."), default);
        assert_eq!(classes.of_extended("bitaxe/x"), default);
    }
}
