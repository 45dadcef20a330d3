//! The jobs that a miner was given, and on which terms.

use std::time::Instant;

use crate::{
    validate::Assignment,
    work::{JobId, Work},
};

/// One job as it went to this miner; `T` is what a protocol has to remember beside.
#[derive(Clone, Copy, Debug)]
pub struct Given<T = ()> {
    pub job: JobId,
    pub assignment: Assignment,
    pub at: Instant,
    pub wire: T,
}

/// What this miner may submit to, oldest first.
#[derive(Debug)]
pub struct GivenJobs<T = ()> {
    jobs: Vec<Given<T>>,
}

impl<T> Default for GivenJobs<T> {
    fn default() -> Self {
        Self { jobs: Vec::new() }
    }
}

impl<T> GivenJobs<T> {
    pub fn push(&mut self, given: Given<T>) {
        if self.jobs.len() == GIVEN_MAX {
            self.jobs.remove(0);
        }
        if self.jobs.len() == self.jobs.capacity() {
            self.jobs.reserve_exact(GIVEN_STEP);
        }
        self.jobs.push(given);
    }

    /// The latest that `is_it` says yes to.
    pub fn find(&self, is_it: impl Fn(&Given<T>) -> bool) -> Option<&Given<T>> {
        self.jobs.iter().rev().find(|given| is_it(given))
    }

    pub fn last(&self) -> Option<&Given<T>> {
        self.jobs.last()
    }

    /// Forgets jobs that `work` no longer has, except the last, whose terms are still the miner's.
    pub fn retain(&mut self, work: &Work) {
        let last = self.last().map(|given| given.job);
        self.jobs.retain(|given| Some(given.job) == last || work.job(given.job).is_some());
    }

    pub fn contains(&self, job: JobId) -> bool {
        self.jobs.iter().any(|given| given.job == job)
    }
}

/// Jobs live 160 s by default and come every 40 s, three more with each new tip, and each may have
/// a quickdiff twin. A storm of tips forgets the oldest early.
const GIVEN_MAX: usize = 32;
/// Most miners hold four to eight jobs of about 80 bytes.
const GIVEN_STEP: usize = 4;
