//! Chooses the source whose templates are used. Pure; `now` is an argument.
//!
//! It is the most preferred source that is ready, unless another one knows a better tip: that one
//! leads until the preferred one has the same tip; or one with a full template leads, if the
//! preferred one takes long to make one. A source that was lost is used again once it has worked
//! for a while, which grows with each loss.

use std::time::{Duration, Instant};

use crate::{node::ChainWork, work::Hash256};

/// What the choice is based on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Answers and gives templates, on the right chain.
    pub(super) is_ready: bool,
    pub(super) place: WorkPosition,
}

/// What the latest template of a source builds on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WorkPosition {
    /// The block that it builds.
    pub(super) height: u32,
    pub(super) tip: Hash256,
    /// The work in the chain up to the tip, if known.
    pub(super) work: Option<ChainWork>,
    /// It has a full template, not only work derived from the tip's header.
    pub(super) is_full: bool,
}

impl WorkPosition {
    pub(super) const NOWHERE: Self =
        Self { height: 0, tip: Hash256::ZERO, work: None, is_full: false };

    /// True if `other` is not worth mining on, compared with this.
    fn is_ahead_of(&self, other: &Self) -> bool {
        match (self.work, other.work) {
            (Some(work), Some(other)) => work > other,
            _ => self.height > other.height,
        }
    }

    /// True if nothing is lost by switching from `other` to this.
    fn is_level_with(&self, other: &Self) -> bool {
        let is_whole = self.is_full || !other.is_full;
        self.is_ahead_of(other) || (self.tip == other.tip && is_whole)
    }
}

/// Chooses a source.
#[derive(Debug)]
pub(super) struct Chooser {
    active: Option<usize>,
    /// The position of the work in use; stays when its source goes away.
    in_use: WorkPosition,
    records: Vec<Record>,
}

/// What is remembered about a source.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    ready_since: Option<Instant>,
    /// How often it was lost recently.
    losses: u32,
    /// Since when it is behind another one that is ready.
    behind_since: Option<Instant>,
    /// Since when it is on the tip of the active one.
    level_since: Option<Instant>,
    /// Since when it is ready, but only with work derived from the tip's header.
    thin_since: Option<Instant>,
    /// It was ready, but behind the active one, when that was lost.
    low_since: Option<Instant>,
}

impl Default for Chooser {
    fn default() -> Self {
        Self { active: None, in_use: WorkPosition::NOWHERE, records: Vec::new() }
    }
}

impl Chooser {
    /// Takes a new list of sources: for each its former index, none for new ones.
    pub(super) fn rearrange(&mut self, origins: &[Option<usize>]) {
        let record = |origin: &Option<usize>| {
            origin.and_then(|at| self.records.get(at).copied()).unwrap_or_default()
        };
        self.records = origins.iter().map(record).collect();
        let moved = |active| origins.iter().position(|origin| *origin == Some(active));
        self.active = self.active.and_then(moved);
    }

    /// Starts over with the same sources: heights on another chain say nothing about this one.
    pub(super) fn forget(&mut self) {
        *self = Self { records: vec![Record::default(); self.records.len()], ..Self::default() };
    }

    /// The source to use. It stays the same while none is ready; none if it was removed.
    pub(super) fn choose(&mut self, candidates: &[Candidate], now: Instant) -> Option<usize> {
        // The work in use outlives its source.
        self.in_use = self.active.map_or(self.in_use, |at| candidates[at].place);
        let held = self.active.filter(|at| candidates[*at].is_ready);
        self.record(candidates, held.is_some(), now);
        let fits = |at: &usize| candidates[*at].is_ready && !self.is_behind(*at, now);
        let mut all = 0..candidates.len();
        let next = match held {
            Some(held) => leader(candidates, held)
                .or_else(|| self.with_more(candidates, held, now))
                .or_else(|| {
                    // A source that comes and goes is not used again each time it comes.
                    all.find(|at| *at == held || (fits(at) && self.is_steady(*at, now)))
                }),
            // For a while, a lost source's last work is better than an older tip.
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

    /// True for a source that has long been giving templates on an older tip than another one.
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

    /// The most preferred source with full work on a tip for which `held` has long had none.
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

    /// True if it has worked for long enough.
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

/// A well-connected node hears of a block within seconds of another one.
pub(super) const BEHIND_MAX: Duration = Duration::from_secs(30);
/// A block from such work earns no fees, and most nodes give a full template sooner.
const THIN_MAX: Duration = Duration::from_secs(1);
/// When the best node is lost, the others get this long to find its tip.
const LOW_MAX: Duration = Duration::from_secs(10);
/// A preferred source is used again after this long without a failure; longer each time it fails.
const STEADY_AFTER: Duration = Duration::from_secs(5);
/// Up to 5 minutes.
const DOUBLINGS_MAX: u32 = 6;
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// Around a new tip, work changes often enough anyway.
const LEVEL_AFTER: Duration = Duration::from_secs(2);

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "select_walk_tests.rs"]
mod walk;
