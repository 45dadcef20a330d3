//! The jobs that a miner was given, and the terms of each.

use std::time::{Duration, Instant};

use crate::{
    validate::Assignment,
    work::{Difficulty, JobId, Work},
};

/// One job as it went to this miner; `T` is what a protocol has to remember in addition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IssuedJob<T = ()> {
    pub(crate) job: JobId,
    pub(crate) assignment: Assignment,
    pub(crate) at: Instant,
    pub(crate) wire: T,
}

/// What this miner may submit to, oldest first.
#[derive(Debug)]
pub(crate) struct IssuedJobs<T = ()> {
    jobs: Vec<IssuedJob<T>>,
    raised: Option<Raise>,
}

/// The last time that a job came with a higher difficulty than the one before it.
#[derive(Clone, Copy, Debug)]
struct Raise {
    at: Instant,
    /// Shares accepted on easier terms since.
    easier: u32,
}

impl<T> Default for IssuedJobs<T> {
    fn default() -> Self {
        Self { jobs: Vec::new(), raised: None }
    }
}

impl<T> IssuedJobs<T> {
    pub(crate) fn push(&mut self, given: IssuedJob<T>) {
        let last = self.jobs.last().map(|last| last.assignment.difficulty);
        if last.is_some_and(|last| given.assignment.difficulty > last) {
            self.raised = Some(Raise { at: given.at, easier: 0 });
        }
        if self.jobs.len() == GIVEN_MAX {
            self.jobs.remove(0);
        }
        if self.jobs.len() == self.jobs.capacity() {
            self.jobs.reserve_exact(GIVEN_STEP);
        }
        self.jobs.push(given);
    }

    /// The latest for which `is_it` returns true.
    pub(crate) fn find(&self, is_it: impl Fn(&IssuedJob<T>) -> bool) -> Option<&IssuedJob<T>> {
        self.jobs.iter().rev().find(|given| is_it(given))
    }

    /// What a share for `given` must meet now, if that is not what it was given with: once a
    /// difficulty has been raised, easier ones before it hold only for a grace period.
    pub(crate) fn harder_terms(&self, given: &IssuedJob<T>, now: Instant) -> Option<Assignment> {
        let last = &self.jobs.last()?.assignment;
        if given.assignment.difficulty >= last.difficulty {
            return None;
        }
        let Raise { at, easier } = self.raised?;
        let is_over = easier >= GRACE_SHARES || now.saturating_duration_since(at) > GRACE;
        is_over.then_some(Assignment { target: last.target, ..given.assignment })
    }

    /// Notes a share that was accepted at `difficulty`.
    pub(crate) fn note_share(&mut self, difficulty: Difficulty) {
        let last = self.jobs.last().map(|last| last.assignment.difficulty);
        if let Some(raise) = &mut self.raised
            && last.is_some_and(|last| difficulty < last)
        {
            raise.easier = raise.easier.saturating_add(1);
        }
    }

    pub(crate) fn last(&self) -> Option<&IssuedJob<T>> {
        self.jobs.last()
    }

    /// Forgets jobs that `work` no longer has, except the last, whose terms still apply to the
    /// miner.
    pub(crate) fn retain(&mut self, work: &Work) {
        let last = self.last().map(|given| given.job);
        self.jobs.retain(|given| Some(given.job) == last || work.job(given.job).is_some());
    }

    pub(crate) fn contains(&self, job: JobId) -> bool {
        self.jobs.iter().any(|given| given.job == job)
    }
}

/// Jobs live 160 s by default and come every 40 s, three more with each new tip, and each may have
/// a quickdiff twin. In a storm of tips the oldest are forgotten early.
const GIVEN_MAX: usize = 32;
/// Most miners hold four to eight jobs of about 80 bytes.
const GIVEN_STEP: usize = 4;
/// A miner starts on a job within a second or two of receiving it; slow firmware and proxies may
/// have work of the last one queued for longer.
const GRACE: Duration = Duration::from_secs(30);
/// The largest farm has this many in flight while it learns its new difficulty. A miner that goes
/// on longer could otherwise find as many in a moment as in a job's whole life.
const GRACE_SHARES: u32 = 1024;
