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
#[derive(Debug)]
pub(super) struct Chooser {
    active: Option<usize>,
    records: Box<[Record]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    ready_since: Option<Instant>,
    behind_since: Option<Instant>,
}

impl Chooser {
    pub(super) fn new(sources: usize) -> Self {
        Self { active: None, records: vec![Record::default(); sources].into() }
    }

    /// The source to use. It stays as it is while none is ready.
    pub(super) fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Option<usize> {
        self.record(candidates, now);
        let fits = |at: usize| candidates[at].is_ready && !self.is_behind(at, now);
        let held = self.active.filter(|at| fits(*at));
        let first = (0..candidates.len()).find(|at| fits(*at));
        let ready = (0..candidates.len()).find(|at| candidates[*at].is_ready);
        self.active = match (held, first) {
            // A source that comes and goes is not taken back each time it comes.
            (Some(held), Some(first)) if first < held && !self.is_steady(first, now) => Some(held),
            (_, Some(first)) => Some(first),
            (_, None) => ready.or(self.active),
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

    fn candidates(list: &[(bool, u32)]) -> Vec<Candidate> {
        list.iter()
            .map(|(is_ready, height)| Candidate { is_ready: *is_ready, height: *height })
            .collect()
    }

    #[test]
    fn the_next_takes_over_at_once_and_the_first_comes_back_when_steady() {
        let mut chooser = Chooser::new(2);
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
        let mut chooser = Chooser::new(2);
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
}
