//! Which source's templates are used. Pure; `now` is an argument.

use std::time::{Duration, Instant};

/// What choosing looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Gives templates, on the right chain.
    pub(super) is_ready: bool,
    /// The height that its latest template builds.
    pub(super) height: u32,
}

/// Chooses the most preferred source that is ready and keeps up.
#[derive(Debug, Default)]
pub(super) struct Chooser {
    active: Option<usize>,
    /// What the last work of the active source builds, or built, if that is gone.
    height: u32,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    ready_since: Option<Instant>,
    /// Lower than the highest one.
    behind_since: Option<Instant>,
    /// Ready, but lower than the active one when that was lost.
    low_since: Option<Instant>,
}

impl Chooser {
    /// Takes over other sources: where each of them was before, none for new ones.
    pub(super) fn rearrange(&mut self, origins: &[Option<usize>]) {
        let record = |origin: &Option<usize>| {
            origin.and_then(|at| self.records.get(at).copied()).unwrap_or_default()
        };
        self.records = origins.iter().map(record).collect();
        let moved = |active| origins.iter().position(|origin| *origin == Some(active));
        self.active = self.active.and_then(moved);
    }

    /// The source to use. It stays as it is while none is ready; none when it is gone.
    pub(super) fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Option<usize> {
        self.record(candidates, now);
        let active = self.active;
        let held = active.filter(|at| candidates[*at].is_ready && !self.is_behind(*at, now));
        // Without its source, the work in use is still there.
        self.height = active.map_or(self.height, |at| candidates[at].height);
        let height = self.height;
        self.record_low(candidates, height, held.is_some(), now);
        let fits = |at: usize| candidates[at].is_ready && !self.is_behind(at, now);
        let is_level = |at: usize| candidates[at].height >= height;
        let mut all = 0..candidates.len();
        self.active = match held {
            // A source that comes and goes is not taken back each time it comes, nor one that
            // would lead to an older tip: it has to catch up first.
            Some(held) => all
                .find(|at| *at == held || (fits(*at) && is_level(*at) && self.is_steady(*at, now))),
            // The last work of a lost source is better than an older tip, for a while.
            None => all
                .find(|at| fits(*at) && (is_level(*at) || self.is_low_for_long(*at, now)))
                .or(active),
        };
        self.active
    }

    fn record(&mut self, candidates: &[Candidate], now: Instant) {
        let ready = candidates.iter().filter(|candidate| candidate.is_ready);
        let height_max = ready.map(|candidate| candidate.height).max().unwrap_or(0);
        for (record, candidate) in self.records.iter_mut().zip(candidates) {
            let since = |since: Option<Instant>, holds: bool| holds.then(|| since.unwrap_or(now));
            record.ready_since = since(record.ready_since, candidate.is_ready);
            record.behind_since = since(record.behind_since, candidate.height < height_max);
        }
    }

    fn record_low(&mut self, candidates: &[Candidate], height: u32, is_held: bool, now: Instant) {
        for (record, candidate) in self.records.iter_mut().zip(candidates) {
            let is_low = !is_held && candidate.is_ready && candidate.height < height;
            record.low_since = is_low.then(|| record.low_since.unwrap_or(now));
        }
    }

    fn is_low_for_long(&self, at: usize, now: Instant) -> bool {
        let since = self.records[at].low_since;
        since.is_some_and(|since| now.duration_since(since) >= BEHIND_MAX)
    }

    fn is_behind(&self, at: usize, now: Instant) -> bool {
        let since = self.records[at].behind_since;
        since.is_some_and(|since| now.duration_since(since) >= BEHIND_MAX)
    }

    fn is_steady(&self, at: usize, now: Instant) -> bool {
        let since = self.records[at].ready_since;
        since.is_some_and(|since| now.duration_since(since) >= STEADY_AFTER)
    }
}

/// A node hears of a block this much after another one at most, if its connections are any good.
const BEHIND_MAX: Duration = Duration::from_secs(10);
/// A preferred source is taken back after this long without a failure.
const STEADY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    fn sources(count: usize) -> Chooser {
        let mut chooser = Chooser::default();
        chooser.rearrange(&vec![None; count]);
        chooser
    }

    fn candidates(list: &[(bool, u32)]) -> Vec<Candidate> {
        list.iter()
            .map(|(is_ready, height)| Candidate { is_ready: *is_ready, height: *height })
            .collect()
    }

    #[test]
    fn the_next_takes_over_at_once_and_the_first_comes_back_when_steady() {
        let mut chooser = sources(2);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(false, 0), (false, 0)]), None);
        assert_eq!(at(1, &[(false, 0), (true, 5)]), Some(1));
        assert_eq!(at(2, &[(true, 5), (true, 5)]), Some(1));
        assert_eq!(at(6, &[(true, 5), (true, 5)]), Some(1));
        assert_eq!(at(7, &[(true, 5), (true, 5)]), Some(0));
        assert_eq!(at(8, &[(false, 5), (true, 5)]), Some(1));
        assert_eq!(at(9, &[(true, 5), (false, 5)]), Some(0));
        assert_eq!(at(10, &[(false, 5), (false, 5)]), Some(0));
    }

    #[test]
    fn a_source_that_falls_behind_is_left() {
        let mut chooser = sources(2);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(true, 5), (true, 5)]), Some(0));
        assert_eq!(at(1, &[(true, 5), (true, 6)]), Some(0));
        assert_eq!(at(10, &[(true, 5), (true, 6)]), Some(0));
        assert_eq!(at(11, &[(true, 5), (true, 6)]), Some(1));
        assert_eq!(at(12, &[(true, 6), (true, 6)]), Some(0));
    }

    #[test]
    fn a_preferred_source_that_restarts_is_taken_back_when_it_has_caught_up() {
        let mut chooser = sources(2);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(true, 5), (true, 5)]), Some(0));
        assert_eq!(at(1, &[(false, 5), (true, 5)]), Some(1));
        assert_eq!(at(2, &[(true, 4), (true, 5)]), Some(1));
        assert_eq!(at(8, &[(true, 4), (true, 5)]), Some(1));
        assert_eq!(at(9, &[(true, 4), (true, 6)]), Some(1));
        assert_eq!(at(30, &[(true, 5), (true, 6)]), Some(1));
        assert_eq!(at(31, &[(true, 6), (true, 6)]), Some(0));
    }

    #[test]
    fn a_preferred_source_that_lags_does_not_hide_the_next_one() {
        let mut chooser = sources(3);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(false, 0), (false, 0), (true, 5)]), Some(2));
        assert_eq!(at(1, &[(true, 4), (true, 5), (true, 5)]), Some(2));
        assert_eq!(at(6, &[(true, 4), (true, 5), (true, 5)]), Some(1));
    }

    #[test]
    fn failing_over_to_an_older_tip_waits_for_it_to_catch_up() {
        let mut chooser = sources(2);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(true, 6), (true, 5)]), Some(0));
        // It has lagged for long when the first one fails: the wait begins then.
        assert_eq!(at(60, &[(false, 6), (true, 5)]), Some(0));
        assert_eq!(at(69, &[(false, 6), (true, 5)]), Some(0));
        assert_eq!(at(70, &[(false, 6), (true, 5)]), Some(1));
        assert_eq!(at(80, &[(true, 5), (false, 5)]), Some(0));
        assert_eq!(at(81, &[(true, 6), (true, 5)]), Some(0));
        assert_eq!(at(82, &[(false, 6), (true, 5)]), Some(0));
        assert_eq!(at(83, &[(false, 6), (true, 6)]), Some(1));
    }

    #[test]
    fn the_active_source_may_go_back() {
        let mut chooser = sources(2);
        let start = start();
        let mut at = |seconds, list: &[(bool, u32)]| {
            chooser.choose(&candidates(list), start + Duration::from_secs(seconds))
        };
        assert_eq!(at(0, &[(false, 0), (true, 6)]), Some(1));
        assert_eq!(at(1, &[(false, 0), (true, 5)]), Some(1));
        assert_eq!(at(2, &[(true, 5), (true, 5)]), Some(1));
        assert_eq!(at(7, &[(true, 5), (true, 5)]), Some(0));
    }

    #[test]
    fn sources_that_stay_keep_their_record_when_others_come_and_go() {
        let mut chooser = sources(2);
        let start = start();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(chooser.choose(&candidates(&[(true, 5), (true, 5)]), at(0)), Some(0));
        // The second becomes the first; a new one and the old first follow.
        chooser.rearrange(&[Some(1), None, Some(0)]);
        let all = candidates(&[(true, 5), (false, 0), (true, 5)]);
        assert_eq!(chooser.choose(&all, at(4)), Some(2));
        assert_eq!(chooser.choose(&all, at(5)), Some(0));
        // The one in use goes; what is left is on an older tip, and has to catch up.
        chooser.rearrange(&[Some(1)]);
        assert_eq!(chooser.choose(&candidates(&[(false, 0)]), at(6)), None);
        assert_eq!(chooser.choose(&candidates(&[(true, 4)]), at(7)), None);
        assert_eq!(chooser.choose(&candidates(&[(true, 5)]), at(8)), Some(0));
        chooser.rearrange(&[]);
        assert_eq!(chooser.choose(&[], at(9)), None);
        chooser.rearrange(&[None]);
        assert_eq!(chooser.choose(&candidates(&[(true, 4)]), at(10)), None);
        assert_eq!(chooser.choose(&candidates(&[(true, 4)]), at(20)), Some(0));
    }
}
