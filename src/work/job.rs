//! One immutable unit of mining: a template and a payout, ready to be hashed.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

use super::{
    Coinbase, CoinbaseClass, Coinbaser, Hash256, Payout, PoolTerms, Target, Template, UpcomingJob,
    VERSION_ROLLING_MASK,
};

/// Identifies a job for as long as a miner may still submit to it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct JobId(pub u32);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Work for miners. Never changes after publication: new information is a new job.
pub struct Job {
    pub id: JobId,
    pub template: Arc<Template>,
    pub payout: Arc<Payout>,
    /// The template's, without bits under the rolling mask: firmware ORs, XORs or replaces them.
    pub version: u32,
    pub block_target: Target,
    coinbases: Coinbases,
    rendered: [[OnceLock<Bytes>; RenderKind::COUNT]; CoinbaseClass::COUNT],
}

/// The coinbases that a job offers.
pub(super) enum Coinbases {
    /// One for everybody: subsidy-only, or the blank one while the pool's split is awaited.
    One(Coinbase),
    /// One for each class.
    Each(Box<[Coinbase; CoinbaseClass::CLASSES.len()]>),
}

impl Job {
    pub(super) fn new(
        id: JobId,
        template: Arc<Template>,
        payout: Arc<Payout>,
        coinbases: Coinbases,
    ) -> Self {
        Self {
            id,
            version: template.version & !VERSION_ROLLING_MASK,
            block_target: template.nbits.target(),
            coinbases,
            rendered: [const { [const { OnceLock::new() }; RenderKind::COUNT] };
                CoinbaseClass::COUNT],
            template,
            payout,
        }
    }

    /// True for work that pays the subsidy alone.
    pub fn is_empty(&self) -> bool {
        matches!(&self.coinbases, Coinbases::One(coinbase) if coinbase.id == CoinbaseClass::Empty)
    }

    /// The pool's split that it pays, if any: none while that is awaited.
    pub fn split(&self) -> Option<&Coinbaser> {
        let pays_splits = matches!(self.coinbases, Coinbases::Each(_));
        self.payout.split(&self.template).filter(|_| pays_splits)
    }

    pub fn prevhash(&self) -> &Hash256 {
        &self.template.prevhash
    }

    /// The coinbase for a miner of `class`, which may be a simpler one than the class could take.
    pub fn coinbase(&self, class: CoinbaseClass) -> &Coinbase {
        match &self.coinbases {
            Coinbases::One(coinbase) => coinbase,
            // No miner has the class `Empty`.
            Coinbases::Each(all) => all.get(class.slot()).unwrap_or(&all[0]),
        }
    }

    /// Every coinbase of this job, once.
    pub fn coinbases(&self) -> &[Coinbase] {
        match &self.coinbases {
            Coinbases::One(coinbase) => std::slice::from_ref(coinbase),
            Coinbases::Each(all) => all.as_slice(),
        }
    }

    /// Hashes on the coinbase's path to the root. A subsidy-only block has no other transaction,
    /// whatever its template has.
    pub fn branches(&self) -> &[Hash256] {
        if self.is_empty() { &[] } else { &self.template.merkle_branches }
    }

    /// The 80 bytes that are hashed.
    pub fn header(&self, version: u32, root: &Hash256, ntime: u32, nonce: u32) -> [u8; 80] {
        let mut header = [0; 80];
        header[..4].copy_from_slice(&version.to_le_bytes());
        header[4..36].copy_from_slice(&self.prevhash().0);
        header[36..68].copy_from_slice(&root.0);
        header[68..72].copy_from_slice(&ntime.to_le_bytes());
        header[72..76].copy_from_slice(&self.template.nbits.get().to_le_bytes());
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        header
    }

    /// Bytes that a protocol rendered once from this job and one of its coinbases, kept for all its
    /// connections.
    pub(crate) fn rendered(
        &self,
        class: CoinbaseClass,
        kind: RenderKind,
        render: impl FnOnce() -> Bytes,
    ) -> &Bytes {
        self.rendered[class.slot()][kind.index()].get_or_init(render)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("height", &self.template.height)
            .finish_non_exhaustive()
    }
}

/// The form in which a protocol writes a job with one of its coinbases.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RenderKind {
    /// Stratum V1's `mining.notify`.
    Notify { quickdiff: bool, clean: bool },
    /// Stratum V2's `NewExtendedMiningJob`.
    Extended { quickdiff: bool },
}

impl RenderKind {
    const COUNT: usize = 6;

    const fn index(self) -> usize {
        match self {
            Self::Notify { quickdiff, clean } => 2 * quickdiff as usize + clean as usize,
            Self::Extended { quickdiff } => 4 + quickdiff as usize,
        }
    }
}

/// The latest job and those that may still be submitted to.
#[derive(Clone, Debug)]
pub struct Work {
    /// Newest first; never empty. Jobs on earlier tips are kept for a while, so that a block found
    /// on one still reaches the node.
    pub jobs: Arc<[Arc<Job>]>,
    /// How fast the newest job goes out to miners.
    pub announce: Announce,
    /// The subsidy-only job of the next tip, where it can be known in advance.
    pub upcoming: Option<Arc<UpcomingJob>>,
    /// Counts publications.
    pub sequence: u64,
    pub admission: Admission,
    /// Pooled jobs of series up to this one are worthless: the pool has gone, and will accept no
    /// share of them when it is back.
    pub void_series: u64,
}

/// How fast new work goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Announce {
    /// To everybody at once: the old work is worth less or nothing.
    Now,
    /// Spread over the refresh interval, so that miners do not all answer in the same instant.
    Paced(std::time::Duration),
}

/// Whether miners are wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Admission {
    Open,
    /// Miners are sent to their own backup pools, for this reason.
    Closed(Arc<str>),
}

impl Work {
    pub fn latest(&self) -> &Arc<Job> {
        &self.jobs[0]
    }

    /// The hash that new blocks must build on.
    pub fn tip(&self) -> &Hash256 {
        self.latest().prevhash()
    }

    /// An error with the reason when miners are not wanted.
    pub(crate) fn admits(&self) -> Result<(), Arc<str>> {
        match &self.admission {
            Admission::Open => Ok(()),
            Admission::Closed(reason) => Err(Arc::clone(reason)),
        }
    }

    /// True when nobody pays for shares of `job` any more.
    pub fn is_void(&self, job: &Job) -> bool {
        let is_void = |terms: &PoolTerms| terms.is_void() || terms.series <= self.void_series;
        job.payout.pooled.as_ref().is_some_and(is_void)
    }

    /// True when a miner that works on `job` should drop it for the latest one at once.
    pub(crate) fn supersedes(&self, job: &Job) -> bool {
        job.prevhash() != self.tip()
            || self.is_void(job)
            // Solo work only goes on until there is a pool.
            || job.payout.pooled.is_none() && self.latest().payout.pooled.is_some()
    }

    pub fn job(&self, id: JobId) -> Option<&Arc<Job>> {
        self.jobs.iter().find(|job| job.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{
        Announce, BuildJob,
        fixture::{HARD, WorkFeed, solo, template},
    };

    #[test]
    fn no_class_and_no_kind_shares_the_bytes_of_another() {
        let mut feed = WorkFeed::new(HARD, &solo());
        let template = template(1, HARD, 5);
        let job = feed.publish(BuildJob::Classes, &template, &solo(), Announce::Now);
        let kinds = [(false, false), (false, true), (true, false), (true, true)]
            .map(|(quickdiff, clean)| RenderKind::Notify { quickdiff, clean })
            .into_iter()
            .chain([false, true].map(|quickdiff| RenderKind::Extended { quickdiff }));
        let classes = CoinbaseClass::CLASSES.into_iter().chain([CoinbaseClass::Empty]);
        let all: Vec<_> =
            classes.flat_map(|class| kinds.clone().map(move |kind| (class, kind))).collect();
        assert_eq!(all.len(), CoinbaseClass::COUNT * RenderKind::COUNT);
        for (number, (class, kind)) in all.iter().enumerate() {
            let bytes = Bytes::from(number.to_string());
            assert_eq!(job.rendered(*class, *kind, || bytes.clone()), &bytes, "{class:?} {kind:?}");
        }
    }
}
