//! Hashrates from difficulty and time, by exponential averages.

use std::time::Duration;

use super::Hashrates;
use crate::work::HASHES_PER_DIFFICULTY;

/// Measures one miner, one worker, or all together.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter {
    /// Σ difficulty at the last sample.
    difficulty: f64,
    /// Difficulty per second, as if there had been nothing before the first sample.
    rates: [f64; SPANS.len()],
    /// How much of each average has been measured; the rest is the time before it began.
    weights: [f64; SPANS.len()],
}

/// How much of the past still counts after some time. The same for all that are sampled together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decay {
    seconds: f64,
    left: [f64; SPANS.len()],
}

impl Decay {
    pub(super) fn over(time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        Self { seconds, left: SPANS.map(|span| (-seconds / span).exp()) }
    }
}

impl Meter {
    /// Takes Σ difficulty since the beginning, `decay` after the last sample.
    pub(super) fn sample(&mut self, difficulty: f64, decay: &Decay) {
        if decay.seconds <= 0.0 {
            return;
        }
        let rate = (difficulty - self.difficulty).max(0.0) / decay.seconds;
        self.difficulty = difficulty;
        for (at, left) in decay.left.into_iter().enumerate() {
            let faded = self.rates[at] * left;
            // Invisibly small rates become zero: subnormal numbers would only slow the processor
            // down.
            let faded = if faded < RATE_MIN { 0.0 } else { faded };
            self.rates[at] = faded + rate * (1.0 - left);
            self.weights[at] = self.weights[at] * left + (1.0 - left);
        }
    }

    pub(super) fn hashrates(&self) -> Hashrates {
        let [m1, m5, h1] = std::array::from_fn(|at| {
            let least = 1.0 - (-AGE_MIN_S / SPANS[at]).exp();
            self.rates[at] / self.weights[at].max(least) * HASHES_PER_DIFFICULTY
        });
        Hashrates { m1, m5, h1 }
    }
}

/// Seconds: a minute, five, an hour.
const SPANS: [f64; 3] = [60.0, 300.0, 3600.0];
/// A new miner's first share must not look like a farm: its first seconds count as this many.
const AGE_MIN_S: f64 = 30.0;
/// A thousandth of a hash per second.
const RATE_MIN: f64 = 1e-3 / HASHES_PER_DIFFICULTY;

#[cfg(test)]
mod tests {
    use super::*;

    /// Mines at `rate` difficulty a second for `seconds`, sampled each 2 s.
    fn run(meter: &mut Meter, total: &mut f64, rate: f64, seconds: u32) {
        let decay = Decay::over(Duration::from_secs(2));
        for _ in 0..seconds / 2 {
            *total += rate * 2.0;
            meter.sample(*total, &decay);
        }
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.01, "{found} is not near {expected}");
    }

    #[test]
    fn a_steady_miner_shows_its_rate_in_every_span_at_once() {
        let (mut meter, mut total) = (Meter::default(), 0.0);
        run(&mut meter, &mut total, 3.0, 40);
        let rate = 3.0 * HASHES_PER_DIFFICULTY;
        let Hashrates { m1, m5, h1 } = meter.hashrates();
        assert_near(m1, rate);
        assert_near(m5, rate);
        assert_near(h1, rate);
    }

    #[test]
    fn spans_forget_at_their_own_speed() {
        let (mut meter, mut total) = (Meter::default(), 0.0);
        run(&mut meter, &mut total, 1.0, 6 * 3600);
        run(&mut meter, &mut total, 0.0, 300);
        let Hashrates { m1, m5, h1 } = meter.hashrates();
        assert_near(m1 / HASHES_PER_DIFFICULTY, (-5.0_f64).exp());
        assert_near(m5 / HASHES_PER_DIFFICULTY, (-1.0_f64).exp());
        assert_near(h1 / HASHES_PER_DIFFICULTY, (-1.0_f64 / 12.0).exp());
    }

    #[test]
    fn the_first_share_is_no_farm() {
        let mut meter = Meter::default();
        meter.sample(60.0, &Decay::over(Duration::from_secs(1)));
        assert!(meter.hashrates().m1 < 2.6 * HASHES_PER_DIFFICULTY, "{meter:?}");
    }

    #[test]
    fn silence_ends_in_nothing_and_a_sample_of_no_time_is_none() {
        let (mut meter, mut total) = (Meter::default(), 0.0);
        run(&mut meter, &mut total, 1e6, 60);
        let before = meter.hashrates();
        meter.sample(total + 5.0, &Decay::over(Duration::ZERO));
        assert_eq!(meter.hashrates(), before);
        run(&mut meter, &mut total, 0.0, 400_000);
        assert_eq!(meter.hashrates(), Hashrates::default());
    }
}
