//! The jobs that a miner was given, and on which terms.

use std::time::Instant;

use super::notify::WireJobId;
use crate::{
    validate::Assignment,
    work::{JobId, Work},
};

/// One job as it went to this miner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) job: JobId,
    pub(super) assignment: Assignment,
    pub(super) at: Instant,
}

/// What this miner may submit to, oldest first.
#[derive(Debug, Default)]
pub(super) struct GivenJobs {
    jobs: Vec<Given>,
}

impl GivenJobs {
    pub(super) fn push(&mut self, given: Given) {
        if self.jobs.len() == GIVEN_MAX {
            self.jobs.remove(0);
        }
        if self.jobs.len() == self.jobs.capacity() {
            self.jobs.reserve_exact(GIVEN_STEP);
        }
        self.jobs.push(given);
    }

    pub(super) fn find(&self, id: WireJobId) -> Option<&Given> {
        self.jobs
            .iter()
            .rev()
            .find(|given| given.job == id.job && given.assignment.quickdiff == id.quickdiff)
    }

    pub(super) fn last(&self) -> Option<&Given> {
        self.jobs.last()
    }

    /// Forgets jobs that `work` no longer has, except the last, whose terms are still the miner's.
    pub(super) fn retain(&mut self, work: &Work) {
        let last = self.last().map(|given| given.job);
        self.jobs.retain(|given| Some(given.job) == last || work.job(given.job).is_some());
    }

    /// True when the quickdiff twin of `job` was given out.
    pub(super) fn has_twin(&self, job: JobId) -> bool {
        self.find(WireJobId { job, quickdiff: true }).is_some()
    }

    pub(super) fn contains(&self, job: JobId) -> bool {
        self.jobs.iter().any(|given| given.job == job)
    }
}

/// Jobs live 160 s by default and come every 40 s, three more with each new tip, and each may have
/// a quickdiff twin. A storm of tips forgets the oldest early.
const GIVEN_MAX: usize = 32;
/// Most miners hold four to eight jobs of about 80 bytes.
const GIVEN_STEP: usize = 4;
