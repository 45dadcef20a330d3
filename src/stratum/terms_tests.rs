use super::*;
use crate::{
    stratum::ClassRule,
    work::CoinbaseClass,
    work::fixture::{WorkFeed, pooled, solo},
};

/// A block takes 65,536.
const BLOCK: u32 = 0x1b00_ffff;

fn d(value: f64) -> Difficulty {
    Difficulty::new(value).unwrap()
}

/// Floor and ceiling.
fn rules(config: &Config, feed: &WorkFeed, terms: DifficultyTerms) -> (f64, f64) {
    let rules = config.vardiff_rules(&feed.work, &terms);
    assert!(rules.floor <= rules.ceiling.unwrap());
    (rules.floor.get(), rules.ceiling.unwrap().get())
}

#[test]
fn a_miner_is_never_asked_for_more_than_a_block_or_less_than_a_pool_takes() {
    let config = Config::with_address("bc1qnobody");
    let asked = |asked| DifficultyTerms { asked: Some(asked), ..DifficultyTerms::default() };
    let kind =
        |floor| DifficultyTerms { class_floor: Some(d(floor)), ..DifficultyTerms::default() };
    let set = |value| DifficultyTerms { set: Some(d(value)), ..DifficultyTerms::default() };
    let own = |value| DifficultyTerms { own_floor: Some(d(value)), ..DifficultyTerms::default() };
    let block = 65_535.0;
    let feed = WorkFeed::new(BLOCK, &solo());
    for (terms, wanted) in [
        (DifficultyTerms::default(), (16_384.0, block)),
        (kind(524_288.0), (block, block)),
        (asked(RequestedDifficulty::AtLeast(d(20_000.0))), (20_000.0, block)),
        (asked(RequestedDifficulty::AtLeast(d(1.0))), (16_384.0, block)),
        (asked(RequestedDifficulty::AtLeast(d(1e9))), (block, block)),
        (asked(RequestedDifficulty::Fixed(d(20_000.0))), (20_000.0, 20_000.0)),
        (asked(RequestedDifficulty::Fixed(d(1.0))), (16_384.0, 16_384.0)),
        (asked(RequestedDifficulty::Fixed(d(1e9))), (block, block)),
        // The operator's setting for one worker overrides the floor, but not a block's difficulty.
        (set(2.0), (2.0, 2.0)),
        (set(1e9), (block, block)),
        (
            DifficultyTerms { asked: Some(RequestedDifficulty::Fixed(d(20_000.0))), ..set(2.0) },
            (2.0, 2.0),
        ),
        (own(1e6), (1e6, 1e6)),
        // Raised by a flood, within the rules; a difficulty under vardiff is not raised.
        (DifficultyTerms { lift: Some(d(40.0)), ..set(2.0) }, (40.0, 40.0)),
        (DifficultyTerms { lift: Some(d(1.0)), ..set(2.0) }, (2.0, 2.0)),
        (DifficultyTerms { lift: Some(d(1e9)), ..set(2.0) }, (block, block)),
        (
            DifficultyTerms {
                lift: Some(d(3e4)),
                ..asked(RequestedDifficulty::Fixed(d(20_000.0)))
            },
            (3e4, 3e4),
        ),
        (
            DifficultyTerms {
                lift: Some(d(3e4)),
                ..asked(RequestedDifficulty::AtLeast(d(20_000.0)))
            },
            (20_000.0, block),
        ),
        (DifficultyTerms { lift: Some(d(3e4)), ..DifficultyTerms::default() }, (16_384.0, block)),
    ] {
        assert_eq!(rules(&config, &feed, terms), wanted, "{terms:?}");
    }
    // Powers of two, as a pool credits them, and its floor.
    let feed = WorkFeed::new(BLOCK, &pooled(1024));
    for (terms, wanted) in [
        (DifficultyTerms::default(), (16_384.0, 32_768.0)),
        (set(2.0), (1024.0, 1024.0)),
        (set(5000.0), (4096.0, 4096.0)),
        (asked(RequestedDifficulty::Fixed(d(20_000.0))), (16_384.0, 16_384.0)),
    ] {
        assert_eq!(rules(&config, &feed, terms), wanted, "{terms:?}");
    }
    let feed = WorkFeed::new(BLOCK, &pooled(1 << 20));
    assert_eq!(rules(&config, &feed, DifficultyTerms::default()), (1_048_576.0, 1_048_576.0));
}

#[test]
fn the_operators_maximum_limits_requests_and_classes() {
    let mut config = Config::with_address("bc1qnobody");
    config.difficulty_max = Some(d(32_768.0));
    let feed = WorkFeed::new(BLOCK, &solo());
    let terms = DifficultyTerms {
        class_floor: Some(d(524_288.0)),
        asked: Some(RequestedDifficulty::AtLeast(d(60_000.0))),
        ..DifficultyTerms::default()
    };
    assert_eq!(rules(&config, &feed, terms), (32_768.0, 32_768.0));
    let flood = DifficultyTerms {
        lift: Some(d(1e9)),
        asked: Some(RequestedDifficulty::Fixed(d(1.0))),
        ..terms
    };
    assert_eq!(rules(&config, &feed, flood), (32_768.0, 32_768.0));
}

#[test]
fn a_flood_whose_difficulty_may_not_be_raised_is_not_reported() {
    let mut config = Config::with_address("bc1qnobody");
    #[expect(clippy::disallowed_methods, reason = "any origin will do")]
    let now = Instant::now();
    let feed = WorkFeed::new(BLOCK, &solo());
    for (most, raised) in [(None, Some(20_000.0)), (Some(d(16_384.0)), None)] {
        config.difficulty_max = most;
        let mut terms = DifficultyTerms {
            asked: Some(RequestedDifficulty::Fixed(d(1.0))),
            ..DifficultyTerms::default()
        };
        let mut vardiff = Vardiff::new(config.vardiff_rules(&feed.work, &terms), now);
        let told = config.lift(&mut terms, &mut vardiff, d(20_000.0), &feed.work, now);
        assert_eq!(told.is_some(), raised.is_some());
        assert_eq!(vardiff.difficulty().get(), raised.unwrap_or(16_384.0));
    }
}

#[test]
fn a_ports_coinbase_limit_applies_to_every_class() {
    let mut config = Config::with_address("bc1qnobody");
    assert_eq!(config.class_of("xminer-1.0").0, CoinbaseClass::Huge);
    config.class_most = Some(CoinbaseClass::within(755));
    assert_eq!(config.class_of("xminer-1.0").0, CoinbaseClass::Default);
    assert_eq!(config.class_of_extended("xminer-1.0").0, CoinbaseClass::Default);
    assert_eq!(config.class_of("NiceHash/1").0, CoinbaseClass::Small);
    let own = ClassRule::within("^mine/", 6500, None);
    config.classes = crate::stratum::Classes::new(true, vec![own]);
    assert_eq!(config.class_of("mine/1").0, CoinbaseClass::Default);
}
