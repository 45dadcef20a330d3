use super::*;

/// A miner and its luck, on a clock of their own.
struct VardiffHarness {
    vardiff: Vardiff,
    now: Instant,
    luck: u64,
    quick: u32,
    /// When a change that waits for the next job is due.
    waiting: Option<Instant>,
    difficulty: Difficulty,
}

fn config() -> VardiffConfig {
    VardiffConfig {
        floor: Difficulty::pow2(14),
        start: Difficulty::pow2(14),
        ceiling: None,
        shares_per_minute: 8,
        powers_of_two: true,
    }
}

fn start() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any origin will do")]
    Instant::now()
}

impl VardiffHarness {
    fn new(config: VardiffConfig) -> Self {
        let now = start();
        let vardiff = Vardiff::new(config, now);
        let difficulty = vardiff.difficulty();
        Self { vardiff, now, luck: 1, quick: 0, waiting: None, difficulty }
    }

    /// Uniform in (0, 1], the same in every run.
    fn chance(&mut self) -> f64 {
        self.luck = self
            .luck
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.luck >> 33) as f64 + 1.0) / (1_u64 << 31) as f64
    }

    /// Lets `seconds` pass with a miner of `speed` difficulties per second; counts its shares.
    fn mine(&mut self, speed: f64, seconds: f64) -> u32 {
        let end = self.now + Duration::from_secs_f64(seconds);
        let mut shares = 0;
        while self.now < end {
            // Memoryless: a share's time may be redrawn at each change.
            let wait = -self.chance().ln() * self.difficulty.get() / speed;
            let share = self.now + Duration::from_secs_f64(wait.min(1e9));
            let event = [Some(share), Some(self.vardiff.deadline()), self.waiting, Some(end)];
            let next = event.into_iter().flatten().min().unwrap_or(end);
            self.now = next;
            let change = if next == share {
                shares += 1;
                self.vardiff.on_share(self.difficulty, self.now)
            } else {
                self.vardiff.on_deadline(self.now)
            };
            if self.waiting.is_some_and(|job| self.now >= job) {
                self.waiting = None;
                self.difficulty = self.vardiff.difficulty();
            }
            match change {
                Some(DifficultyChange::Quick(difficulty)) => {
                    self.quick += 1;
                    self.difficulty = difficulty;
                    self.waiting = None;
                }
                Some(DifficultyChange::Next(_)) => {
                    self.waiting.get_or_insert(self.now + Duration::from_secs(20));
                }
                Some(DifficultyChange::Flood(_)) => unreachable!("nothing is fixed here"),
                None => {}
            }
        }
        shares
    }
}

/// A difficulty takes 2^32 hashes.
fn terahashes(count: f64) -> f64 {
    count * 1e12 / 4_294_967_296.0
}

#[test]
fn every_miner_ends_at_the_wanted_rate() {
    for tera in [20.0, 100.0, 335.0, 5_000.0, 1e6] {
        for powers_of_two in [true, false] {
            let mut bench = VardiffHarness::new(VardiffConfig { powers_of_two, ..config() });
            bench.mine(terahashes(tera), 3600.0);
            let hours = 200;
            let shares = bench.mine(terahashes(tera), f64::from(hours) * 3600.0);
            let per_minute = f64::from(shares) / f64::from(hours) / 60.0;
            assert!((4.0..=14.0).contains(&per_minute), "{tera} TH/s: {per_minute} a minute");
            if powers_of_two {
                assert_eq!(bench.difficulty, bench.difficulty.floor_pow2());
            }
        }
    }
}

#[test]
fn a_farm_on_one_connection_is_settled_within_a_minute() {
    let mut bench = VardiffHarness::new(config());
    let shares = bench.mine(terahashes(1e6), 60.0);
    assert!(bench.quick >= 1, "{}", bench.quick);
    assert!(shares < 100, "{shares}");
}

#[test]
fn a_slow_miner_is_eased_to_the_floor_and_no_further() {
    let mut bench = VardiffHarness::new(VardiffConfig { start: Difficulty::pow2(30), ..config() });
    bench.mine(terahashes(0.5), 3600.0);
    assert_eq!(bench.difficulty, config().floor);
    bench.mine(terahashes(0.5), 86_400.0);
    assert_eq!(bench.difficulty, config().floor);
}

#[test]
fn a_year_of_steady_mining_moves_little() {
    let mut bench = VardiffHarness::new(config());
    let speed = terahashes(200.0);
    bench.mine(speed, 3600.0);
    let (mut least, mut most) = (f64::MAX, 0_f64);
    for _ in 0..365 * 24 {
        bench.mine(speed, 3600.0);
        least = least.min(bench.difficulty.get());
        most = most.max(bench.difficulty.get());
    }
    assert!(most / least <= 16.0, "{least}..{most}");
    // By chance alone, once in some ten thousand windows.
    assert!(bench.quick < 30, "{}", bench.quick);
}

#[test]
fn a_target_rate_of_one_a_minute_is_kept_too() {
    let mut bench = VardiffHarness::new(VardiffConfig { shares_per_minute: 1, ..config() });
    let speed = terahashes(100.0);
    bench.mine(speed, 20_000.0);
    let shares = bench.mine(speed, 1_000_000.0);
    let per_minute = f64::from(shares) * 60.0 / 1e6;
    assert!((0.5..=1.9).contains(&per_minute), "{per_minute}");
}

#[test]
fn rules_hold_from_the_start() {
    let floor = Difficulty::new(100_000.0).unwrap();
    let rules = VardiffConfig { floor, start: Difficulty::ONE, ..config() };
    assert_eq!(Vardiff::new(rules, start()).difficulty(), Difficulty::pow2(17));
    let rules = VardiffConfig { powers_of_two: false, ..rules };
    assert_eq!(Vardiff::new(rules, start()).difficulty(), floor);
}

#[test]
fn a_higher_floor_lifts_at_once_and_a_lower_one_waits() {
    let now = start();
    let mut vardiff = Vardiff::new(config(), now);
    let lifted = VardiffConfig { floor: Difficulty::pow2(20), ..config() };
    assert!(vardiff.configure(lifted, now));
    assert_eq!(vardiff.difficulty(), Difficulty::pow2(20));
    assert!(!vardiff.configure(lifted, now));
    assert!(!vardiff.configure(config(), now));
    assert_eq!(vardiff.difficulty(), Difficulty::pow2(20));
}

#[test]
fn suggestions_are_held_to_the_rules() {
    let now = start();
    let mut vardiff = Vardiff::new(config(), now);
    for (wanted, given) in [(1.0, 14), (16384.0, 14), (100_000.0, 16), (131_072.0, 17)] {
        let given = Difficulty::pow2(given);
        assert_eq!(vardiff.suggest(Difficulty::new(wanted).unwrap(), now), given);
    }
}

/// Firmware truncates them.
#[test]
fn difficulties_are_whole_from_one_up_and_never_below_the_floor() {
    let now = start();
    for (floor, wanted, given) in [
        (0.001, 1746.23, 1746.0),
        (0.001, 1.5, 1.0),
        (0.001, 0.75, 0.75),
        (0.001, 0.0001, 0.001),
        (1.5, 1.2, 2.0),
        (1.5, 7.9, 7.0),
        (7.5, 7.9, 8.0),
    ] {
        let floor = Difficulty::new(floor).unwrap();
        let rules = VardiffConfig { floor, start: floor, powers_of_two: false, ..config() };
        let mut vardiff = Vardiff::new(rules, now);
        assert_eq!(vardiff.suggest(Difficulty::new(wanted).unwrap(), now).get(), given);
    }
}

#[test]
fn shares_at_an_older_difficulty_change_nothing() {
    let now = start();
    let mut vardiff = Vardiff::new(config(), now);
    for _ in 0..1000 {
        assert_eq!(vardiff.on_share(Difficulty::pow2(3), now), None);
    }
    assert_eq!(vardiff.difficulty(), config().floor);
}

#[test]
fn a_fixed_difficulty_stays_except_in_a_flood() {
    let fixed = Difficulty::pow2(14);
    let rules = VardiffConfig { ceiling: Some(fixed), ..config() };
    // Exactly as many as may be, and one in a while more.
    for (each_ms, flood) in [(51, None), (49, Some(16_384.0 / 0.049)), (0, Some(16_384e4))] {
        let mut now = start();
        let mut vardiff = Vardiff::new(rules, now);
        let mut changes = Vec::new();
        for _ in 0..3 * FLOOD_SHARES {
            now += Duration::from_millis(each_ms);
            changes.extend(vardiff.on_share(fixed, now));
            assert_eq!(vardiff.difficulty(), fixed);
        }
        assert_eq!(changes.len(), if flood.is_some() { 3 } else { 0 }, "{each_ms} ms");
        for change in changes {
            let DifficultyChange::Flood(enough) = change else { panic!("{change:?}") };
            assert!((enough.get() / flood.unwrap() - 1.0).abs() < 1e-9, "{enough:?}");
        }
    }
}
