//! Which source's templates are used. Pure; `now` is an argument.
//!
//! The most preferred source that is ready, unless another one knows a better tip: that one leads
//! until the preferred one has the same tip, and one with a full template where the preferred one is
//! long at it. A source that was lost is taken back when it has been
//! well for a while, which grows with each loss.

use std::time::{Duration, Instant};

use crate::{node::ChainWork, work::Hash256};

/// What choosing looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Answers and gives templates, on the right chain.
    pub(super) is_ready: bool,
    pub(super) place: Place,
}

/// What the latest template of a source builds on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// That it builds.
    pub(super) height: u32,
    pub(super) tip: Hash256,
    /// In the chain up to the tip, where it is known.
    pub(super) work: Option<ChainWork>,
    /// Not only from the tip's header.
    pub(super) is_full: bool,
}

impl Place {
    pub(super) const NOWHERE: Self =
        Self { height: 0, tip: Hash256::ZERO, work: None, is_full: false };

    /// True when `other` is not worth mining on, compared with this.
    fn is_ahead_of(&self, other: &Self) -> bool {
        match (self.work, other.work) {
            (Some(work), Some(other)) => work > other,
            _ => self.height > other.height,
        }
    }

    /// True when nothing is lost by going over to this from `other`.
    fn is_level_with(&self, other: &Self) -> bool {
        let is_whole = self.is_full || !other.is_full;
        self.is_ahead_of(other) || (self.tip == other.tip && is_whole)
    }
}

/// Chooses a source.
#[derive(Debug)]
pub(super) struct Chooser {
    active: Option<usize>,
    /// Of the work in use; stays when its source goes.
    in_use: Place,
    records: Vec<Record>,
}

/// What is remembered of a source.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    ready_since: Option<Instant>,
    /// How often it was lost, lately.
    losses: u32,
    /// Behind another one that is ready.
    behind_since: Option<Instant>,
    /// On the tip of the active one.
    level_since: Option<Instant>,
    /// Ready, with work from the tip's header only.
    thin_since: Option<Instant>,
    /// Ready, but behind the active one when that was lost.
    low_since: Option<Instant>,
}

impl Default for Chooser {
    fn default() -> Self {
        Self { active: None, in_use: Place::NOWHERE, records: Vec::new() }
    }
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

    /// Begins anew, with all sources as they are: heights of another chain say nothing of this one.
    pub(super) fn forget(&mut self) {
        *self = Self { records: vec![Record::default(); self.records.len()], ..Self::default() };
    }

    /// The source to use. It stays as it is while none is ready; none when it is gone.
    pub(super) fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Option<usize> {
        // Without its source, the work in use is still there.
        self.in_use = self.active.map_or(self.in_use, |at| candidates[at].place);
        let held = self.active.filter(|at| candidates[*at].is_ready);
        self.record(candidates, held.is_some(), now);
        let fits = |at: &usize| candidates[*at].is_ready && !self.is_behind(*at, now);
        let mut all = 0..candidates.len();
        let next = match held {
            Some(held) => leader(candidates, held)
                .or_else(|| self.with_more(candidates, held, now))
                .or_else(|| {
                    // A source that comes and goes is not taken back each time it comes.
                    all.find(|at| *at == held || (fits(at) && self.is_steady(*at, now)))
                }),
            // The last work of a lost source is better than an older tip, for a while.
            None => all
                .find(|at| fits(at) && !self.in_use.is_ahead_of(&candidates[*at].place))
                .or_else(|| (0..candidates.len()).find(|at| self.is_low_for_long(*at, now)))
                .or(self.active),
        };
        if let Some(next) = next.filter(|_| next != self.active) {
            let in_use = candidates[next].place;
            for (record, candidate) in self.records.iter_mut().zip(candidates) {
                let is_level = candidate.place.is_level_with(&in_use);
                record.level_since = record.level_since.filter(|_| is_level);
            }
        }
        self.active = next;
        self.active
    }

    /// True for a source that gives templates, but of an older tip than another one for long.
    pub(super) fn is_behind(&self, at: usize, now: Instant) -> bool {
        lasts(self.records[at].behind_since, BEHIND_MAX, now)
    }

    fn record(&mut self, candidates: &[Candidate], is_held: bool, now: Instant) {
        let in_use = self.in_use;
        for (at, record) in self.records.iter_mut().enumerate() {
            let Candidate { is_ready, place } = candidates[at];
            let since = |since: Option<Instant>, holds: bool| holds.then(|| since.unwrap_or(now));
            if record.ready_since.is_some() && !is_ready {
                record.losses = record.losses.saturating_add(1);
            }
            record.ready_since = since(record.ready_since, is_ready);
            if lasts(record.ready_since, FORGIVEN_AFTER, now) {
                record.losses = 0;
            }
            let others = candidates.iter().filter(|other| other.is_ready);
            let is_behind = others.map(|other| other.place).any(|it| it.is_ahead_of(&place));
            record.behind_since = since(record.behind_since, is_behind);
            let is_level = is_ready && place.is_level_with(&in_use);
            record.level_since = since(record.level_since, is_level);
            record.thin_since = since(record.thin_since, is_ready && !place.is_full);
            let is_low = !is_held && is_ready && in_use.is_ahead_of(&place);
            record.low_since = since(record.low_since, is_low);
        }
    }

    /// The most preferred source with full work on the tip on which `held` has had none for long.
    fn with_more(&self, candidates: &[Candidate], held: usize, now: Instant) -> Option<usize> {
        if !lasts(self.records[held].thin_since, THIN_MAX, now) {
            return None;
        }
        candidates.iter().position(|it| {
            it.is_ready && it.place.is_full && it.place.tip == candidates[held].place.tip
        })
    }

    fn is_low_for_long(&self, at: usize, now: Instant) -> bool {
        lasts(self.records[at].low_since, LOW_MAX, now)
    }

    /// True when it has given no reason to doubt it for long enough.
    fn is_steady(&self, at: usize, now: Instant) -> bool {
        let record = &self.records[at];
        let doublings = record.losses.saturating_sub(1).min(DOUBLINGS_MAX);
        let wait = STEADY_AFTER * (1 << doublings);
        lasts(record.ready_since, wait, now) && lasts(record.level_since, LEVEL_AFTER, now)
    }
}

/// The most preferred source on the best tip, if that is better than the one of `held`.
fn leader(candidates: &[Candidate], held: usize) -> Option<usize> {
    let mut best = held;
    for (at, candidate) in candidates.iter().enumerate() {
        if candidate.is_ready && candidate.place.is_ahead_of(&candidates[best].place) {
            best = at;
        }
    }
    (best != held).then_some(best)
}

fn lasts(since: Option<Instant>, wait: Duration, now: Instant) -> bool {
    since.is_some_and(|since| now.duration_since(since) >= wait)
}

/// A node whose connections are any good hears of a block seconds after another one.
pub(super) const BEHIND_MAX: Duration = Duration::from_secs(30);
/// A block on such work has no fees, and most nodes give theirs in less.
const THIN_MAX: Duration = Duration::from_secs(1);
/// With the best node gone, the others get this long to find its tip.
const LOW_MAX: Duration = Duration::from_secs(10);
/// A preferred source is taken back after this long without a failure; longer each time it fails.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// Up to 5 minutes.
const DOUBLINGS_MAX: u32 = 6;
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// Around a new tip, work changes enough as it is.
const LEVEL_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "select_walk_tests.rs"]
mod walk;
