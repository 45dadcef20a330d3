//! Finds the difficulty at which a miner sends the wanted number of shares per minute.
//!
//! No clock: callers pass `now`.

use std::time::{Duration, Instant};

use super::Difficulty;

/// What the operator and the pool ask for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct VardiffConfig {
    /// Never below: the operator's floor, the class's, or the pool's, whichever is highest.
    pub(crate) floor: Difficulty,
    pub(crate) start: Difficulty,
    /// Never above; not below the floor.
    pub(crate) ceiling: Option<Difficulty>,
    pub(crate) shares_per_minute: u32,
    /// Difficulties are powers of two, as a pool credits them; otherwise whole numbers from 1 up.
    pub(crate) powers_of_two: bool,
}

/// A change of difficulty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum DifficultyChange {
    /// With the next job.
    Next(Difficulty),
    /// At once, with a clean duplicate of the job: the miner is far too fast.
    Quick(Difficulty),
    /// No change yet: a miner floods the gateway at a fixed difficulty. At this one it would send a
    /// share a second.
    Flood(Difficulty),
}

/// One miner's difficulty.
#[derive(Clone, Debug)]
pub(crate) struct Vardiff {
    config: VardiffConfig,
    difficulty: Difficulty,
    window_start: Instant,
    window_shares: u32,
    last_share: Instant,
}

impl Vardiff {
    pub(crate) fn new(config: VardiffConfig, now: Instant) -> Self {
        let mut vardiff = Self {
            config,
            difficulty: config.start,
            window_start: now,
            window_shares: 0,
            last_share: now,
        };
        vardiff.difficulty = vardiff.held(config.start.get());
        vardiff
    }

    pub(crate) fn difficulty(&self) -> Difficulty {
        self.difficulty
    }

    pub(crate) fn floor(&self) -> Difficulty {
        self.config.floor
    }

    /// Whether the rules let a miner stay at this difficulty.
    pub(crate) fn allows(&self, difficulty: Difficulty) -> bool {
        let VardiffConfig { floor, ceiling, .. } = self.config;
        difficulty >= floor && ceiling.is_none_or(|ceiling| difficulty <= ceiling)
    }

    /// Starts measuring afresh, as when a miner gets its first job.
    pub(crate) fn restart_at(&mut self, now: Instant) {
        self.restart(now);
        self.last_share = now;
    }

    /// What the miner asked for, held to the floor.
    pub(crate) fn suggest(&mut self, difficulty: Difficulty, now: Instant) -> Difficulty {
        self.set(self.held(difficulty.get()), now);
        self.difficulty
    }

    /// New rules (another pool, another configuration). True when the difficulty changed.
    pub(crate) fn configure(&mut self, config: VardiffConfig, now: Instant) -> bool {
        if self.config == config {
            return false;
        }
        self.config = config;
        let held = self.held(self.difficulty.get());
        let changed = held != self.difficulty;
        if changed {
            self.set(held, now);
        }
        changed
    }

    /// Counts an accepted share that was made at difficulty `at`.
    ///
    /// A share at an older difficulty shows that the miner is alive, but not how fast it is at the
    /// present one: what was in flight during a change must not cause another.
    pub(crate) fn on_share(&mut self, at: Difficulty, now: Instant) -> Option<DifficultyChange> {
        self.last_share = now;
        if at != self.difficulty {
            return None;
        }
        self.window_shares += 1;
        if self.config.ceiling == Some(self.config.floor) {
            return self.flood(now);
        }
        let aim = self.aim().as_secs_f64();
        let each =
            now.duration_since(self.window_start).as_secs_f64() / f64::from(self.window_shares);
        if self.window_shares == QUICK_SHARES && each * QUICK_RATE <= aim {
            let factor =
                (aim / each.max(EACH_LEAST_S)).clamp(QUICK_FACTOR_LEAST, QUICK_FACTOR_MOST);
            return self
                .change_at(self.difficulty.get() * factor, now)
                .map(DifficultyChange::Quick);
        }
        if self.window_shares < WINDOW_SHARES {
            return None;
        }
        let difficulty = self.difficulty.get();
        let change = if each < aim / 2.0 {
            self.change_at(difficulty * 2.0, now)
        } else if each > aim * 2.0 {
            self.change_at(difficulty / 2.0, now)
        } else {
            None
        };
        self.restart(now);
        change.map(DifficultyChange::Next)
    }

    /// Whether the gateway can bear a fixed difficulty.
    fn flood(&mut self, now: Instant) -> Option<DifficultyChange> {
        if self.window_shares < FLOOD_SHARES {
            return None;
        }
        let took = now.duration_since(self.window_start);
        let each = took.as_secs_f64() / f64::from(self.window_shares);
        self.restart(now);
        if took > FLOOD_TIME {
            return None;
        }
        Difficulty::new(self.difficulty.get() / each.max(EACH_LEAST_S)).map(DifficultyChange::Flood)
    }

    /// Asks for more at once: the miner sends more shares than can be told from duplicates.
    pub(crate) fn on_excess(&mut self, now: Instant) -> Option<DifficultyChange> {
        if self.window_shares == 0 && now < self.window_start + EXCESS_EACH {
            return None;
        }
        self.change_at(self.difficulty.get() * QUICK_FACTOR_LEAST, now).map(DifficultyChange::Quick)
    }

    /// When [`Self::on_deadline`] wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        self.last_share + self.patience()
    }

    /// Eases the difficulty of a miner that has been silent for too long.
    pub(crate) fn on_deadline(&mut self, now: Instant) -> Option<DifficultyChange> {
        if now < self.deadline() {
            return None;
        }
        let change = self.change_at(self.difficulty.get() / 2.0, now);
        self.restart(now);
        self.last_share = now;
        change.map(DifficultyChange::Next)
    }

    /// The target time between shares.
    fn aim(&self) -> Duration {
        Duration::from_secs(60) / self.config.shares_per_minute.max(1)
    }

    fn patience(&self) -> Duration {
        // Eight times the target time passes by chance before one share in three thousand.
        SILENCE.max(self.aim() * 8)
    }

    fn restart(&mut self, now: Instant) {
        self.window_start = now;
        self.window_shares = 0;
    }

    fn set(&mut self, difficulty: Difficulty, now: Instant) {
        self.difficulty = difficulty;
        self.restart(now);
        self.last_share = now;
    }

    /// `value` held to the rules.
    fn held(&self, value: f64) -> Difficulty {
        let VardiffConfig { floor, ceiling, powers_of_two, .. } = self.config;
        let wanted = Difficulty::new(value).unwrap_or(floor).max(floor);
        let held = if powers_of_two {
            let below = wanted.floor_pow2();
            if below < floor { wanted.ceil_pow2() } else { below }
        } else {
            // Firmware truncates a difficulty to a whole number, and would send shares that are too
            // easy.
            let whole = wanted.floor_whole();
            if whole < floor { wanted.ceil_whole() } else { whole }
        };
        ceiling.map_or(held, |ceiling| held.min(ceiling))
    }

    /// Moves to `value` held to the rules; none when that changes nothing.
    fn change_at(&mut self, value: f64, now: Instant) -> Option<Difficulty> {
        let held = self.held(value);
        let changed = held != self.difficulty;
        self.difficulty = held;
        if changed {
            self.restart(now);
        }
        changed.then_some(held)
    }
}

/// Shares after which the rate is judged.
const WINDOW_SHARES: u32 = 16;
/// Shares after which a miner that is much too fast is noticed.
const QUICK_SHARES: u32 = 8;
/// How many times too fast counts as much too fast.
const QUICK_RATE: f64 = 8.0;
const QUICK_FACTOR_LEAST: f64 = 4.0;
/// The most that one window's guess may raise it; the next window corrects it.
const QUICK_FACTOR_MOST: f64 = 65_536.0;
const EACH_LEAST_S: f64 = 1e-4;
/// At a fixed difficulty, this many shares in a window, twenty a second, are a flood. Eight a
/// minute are wanted; a hashrate market asks for one a second at most.
const FLOOD_SHARES: u32 = 600;
const FLOOD_TIME: Duration = Duration::from_secs(30);
/// Shares in flight when the difficulty changes must not change it again.
const EXCESS_EACH: Duration = Duration::from_secs(1);
/// A miner that has been silent this long gets an easier difficulty.
const SILENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "vardiff_tests.rs"]
mod tests;
