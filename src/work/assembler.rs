//! Decides which job miners get next, from templates, payouts and the pool's health.
//!
//! A new tip gets work at once: first the subsidy alone, then the full template paying the payout
//! script alone, then the pool's split. No clock: callers pass `now`.

mod trial;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use self::trial::ProposalTrial;
use super::{
    Admission, Announce, BuildJob, CoinbaserRequest, Hash256, Job, JobBuilder, Payout, PoolTerms,
    Template, TemplateKind, UpcomingJob, Work,
};

/// What happens to miners when no pool answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenDown {
    Disconnect,
    Solo,
}

#[derive(Clone, Debug)]
pub struct AssemblerConfig {
    /// Pays blocks found while not pooled.
    pub solo: Arc<Payout>,
    /// Pools are configured, so solo mining is a fallback at most.
    pub pooled: bool,
    pub when_down: WhenDown,
    /// How long work on the last pool's terms goes on while no pool answers, if those terms hold.
    pub grace: Duration,
    /// If they do not, how long miners work for the operator before `when_down` applies.
    pub reconnect_grace: Duration,
    /// `template.refresh`: the interval over which routine work is spread.
    pub refresh: Duration,
    /// `template.stale_after`: miners are sent away when the template is older.
    pub stale_after: Duration,
    /// Blocks between halvings, where the next subsidy is known; a subsidy-only job can then be
    /// built before its tip.
    pub halving_interval: Option<u32>,
    /// Shares of older jobs are refused; blocks are still accepted for as long again.
    pub job_life: Duration,
    /// A pool's splits are not used until a node has said that it would accept a block with them.
    pub propose: bool,
}

/// Whether a pool accepts shares.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PoolHealth {
    Up,
    Down,
}

/// What a node has refused to accept in a block, of what the pool wants in it.
enum Distrust {
    None,
    /// Its splits, for as long as this is the tip.
    Splits(Hash256),
    /// Its script or tag, until it changes them.
    Terms(Arc<Payout>),
}

/// Owner of the current work.
pub struct Assembler {
    config: AssemblerConfig,
    builder: JobBuilder,
    template: Option<Arc<Template>>,
    template_at: Instant,
    pool_payout: Option<Arc<Payout>>,
    pool: PoolHealth,
    pool_down_since: Instant,
    /// See [`Work::void_series`].
    void_series: u64,
    /// Until when, at most, solo work goes on that a first pool is to take over.
    solo_until: Option<Instant>,
    /// The last payout that a node would accept in a block.
    good: Option<Arc<Payout>>,
    distrust: Distrust,
    trial: Option<ProposalTrial>,
    /// The tip and the terms that a node was last asked about.
    judged: Option<(Hash256, Arc<Payout>)>,
    /// What to ask a node about.
    proposal: Option<Arc<Job>>,
    /// Newest first.
    jobs: Vec<Arc<Job>>,
    upcoming: Option<Arc<UpcomingJob>>,
    /// When each of `jobs` was published.
    born: VecDeque<Instant>,
    /// Until when to wait for the pool's split.
    split_until: Option<Instant>,
    admission: Admission,
    sequence: u64,
}

impl Assembler {
    pub fn new(config: AssemblerConfig, first_id: u32, now: Instant) -> Self {
        Self {
            config,
            builder: JobBuilder::new(first_id),
            template: None,
            template_at: now,
            pool_payout: None,
            pool: PoolHealth::Down,
            pool_down_since: now,
            void_series: 0,
            solo_until: None,
            good: None,
            distrust: Distrust::None,
            trial: None,
            judged: None,
            proposal: None,
            jobs: Vec::new(),
            upcoming: None,
            born: VecDeque::new(),
            split_until: None,
            admission: Admission::Open,
            sequence: 0,
        }
    }

    /// Takes the node's newest template. The same template again only shows that the node is alive.
    pub fn on_template(&mut self, template: &Arc<Template>, now: Instant) -> Option<Work> {
        self.template_at = now;
        // A header adds nothing to a full template that is already here for the same tip.
        let known = |full: &Arc<Template>| {
            full.kind == TemplateKind::Full && full.prevhash == template.prevhash
        };
        if template.kind == TemplateKind::Tip && self.template.as_ref().is_some_and(known) {
            return None;
        }
        self.template = Some(Arc::clone(template));
        self.trial.take_if(|trial| *trial.job.prevhash() != template.prevhash);
        let payout = self.payout(now)?;
        let latest = self.jobs.first();
        let new_tip = latest.is_none_or(|job| job.prevhash() != &template.prevhash);
        if template.kind == TemplateKind::Tip {
            // A full template for this tip may have arrived first.
            return new_tip
                .then(|| self.publish(BuildJob::SubsidyOnly, Announce::Now, &payout, now));
        }
        let urgent = new_tip
            || self.admission != Admission::Open
            || latest.is_none_or(|job| {
                // Test networks switch to easy blocks on the same tip.
                job.template.nbits != template.nbits
                    || job.is_empty()
                    || job.payout.pooled.is_some() != payout.pooled.is_some()
            });
        let Some(terms) = payout.pooled.as_ref() else {
            return Some(self.publish(BuildJob::Classes, self.pace(urgent), &payout, now));
        };
        if settled(terms, template) {
            return self.offer(self.pace(urgent), &payout, now);
        }
        let until = self.split_until.filter(|_| !new_tip);
        self.split_until = until.or(Some(now + SPLIT_TIMEOUT));
        urgent.then(|| self.publish(BuildJob::Blank, Announce::Now, &payout, now))
    }

    /// Takes a pool's terms or its split for a template.
    pub fn on_payout(&mut self, payout: &Arc<Payout>, now: Instant) -> Option<Work> {
        let void_before = self.void_series;
        let work = self.take_payout(payout, now);
        work.or_else(|| self.tell_void(void_before))
    }

    /// Republishes the same work, because nobody pays for some of it any more.
    fn tell_void(&mut self, void_before: u64) -> Option<Work> {
        let is_told = self.void_series == void_before || self.admission != Admission::Open;
        (!is_told && !self.jobs.is_empty()).then(|| self.work(self.pace(false)))
    }

    fn take_payout(&mut self, payout: &Arc<Payout>, now: Instant) -> Option<Work> {
        let before = self.pool_payout.replace(Arc::clone(payout));
        let void = payout.pooled.as_ref().map_or(0, |terms| terms.void_series);
        self.void_series = self.void_series.max(void);
        if self.is_stale(now) || self.is_void(payout) {
            return self.reconsider(now);
        }
        let payout = self.payout(now)?;
        let template = self.template.clone()?;
        let terms = payout.pooled.as_ref()?;
        let settled = settled(terms, &template);
        let changed = before.as_ref().is_none_or(|before| terms_changed(before, &payout));
        if changed {
            self.split_until = (!settled).then(|| now + SPLIT_TIMEOUT);
            return match settled {
                true => self.offer(Announce::Now, &payout, now),
                false => Some(self.publish(BuildJob::Blank, Announce::Now, &payout, now)),
            };
        }
        if self.split_until.is_some() && settled {
            return self.publish_split(&payout, now);
        }
        let late = terms.coinbaser != before.and_then(|old| old.pooled.clone()?.coinbaser);
        if late && settled { self.offer(self.pace(false), &payout, now) } else { None }
    }

    /// No pool has said whom to pay, or the one that did is to be dropped.
    pub fn on_no_payout(&mut self) -> Option<Work> {
        let void_before = self.void_series;
        let gone = self.pool_payout.take();
        let terms = gone.as_ref().and_then(|payout| payout.pooled.as_ref());
        self.void_series = self.void_series.max(terms.map_or(0, |terms| terms.series));
        self.tell_void(void_before)
    }

    /// Applies the operator's new configuration.
    pub(crate) fn on_config(&mut self, config: &AssemblerConfig, now: Instant) -> Option<Work> {
        let old = std::mem::replace(&mut self.config, config.clone());
        if self.config.pooled && !old.pooled && self.pool == PoolHealth::Down {
            // A first pool is given time to come up; solo work goes on.
            self.pool_down_since = now;
            self.solo_until = Some(now + FIRST_POOL_GRACE);
        }
        if let Some(work) = self.reconsider(now) {
            return Some(work);
        }
        // New work all the same: it pays whom the operator wants paid now, and brings miners the
        // new rules.
        let payout = self.payout(now).filter(|_| self.admission == Admission::Open)?;
        let latest = self.jobs.first()?;
        let is_blank = payout.pooled.is_some() && latest.coinbases().len() == 1;
        match self.template.as_ref()?.kind {
            TemplateKind::Tip => {
                Some(self.publish(BuildJob::SubsidyOnly, Announce::Now, &payout, now))
            }
            TemplateKind::Full if is_blank => {
                let until = self.split_until;
                let work = self.publish(BuildJob::Blank, Announce::Now, &payout, now);
                self.split_until = until;
                Some(work)
            }
            TemplateKind::Full => self.offer(Announce::Now, &payout, now),
        }
    }

    /// Takes a change in whether any pool answers.
    pub fn on_pool_health(&mut self, health: PoolHealth, now: Instant) -> Option<Work> {
        if self.pool != health {
            self.pool = health;
            self.pool_down_since = now;
        }
        self.reconsider(now)
    }

    /// Whether miners are wanted, even before there has been any work.
    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// When [`Self::on_deadline`] wants to be called, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        let stale = self.template_at + self.config.stale_after;
        let grace = self.pool_down_since + self.grace();
        let pending = [
            self.split_until,
            self.solo_until,
            self.trial.as_ref().map(|trial| trial.until),
            (self.admission == Admission::Open).then_some(stale),
            // Without a template there is nothing to fall back to.
            (self.config.pooled
                && self.template.is_some()
                && self.pool == PoolHealth::Down
                && !self.fallen_back())
            .then_some(grace),
        ];
        pending.into_iter().flatten().min()
    }

    pub fn on_deadline(&mut self, now: Instant) -> Option<Work> {
        self.solo_until.take_if(|until| now >= *until);
        if let Some(trial) = self.trial.take_if(|trial| now >= trial.until) {
            let job = &trial.job;
            self.judged = Some((*job.prevhash(), Arc::clone(&job.payout)));
            return Some(self.put(trial.job, trial.announce, now));
        }
        if self.split_until.is_some_and(|until| now >= until) {
            self.split_until = None;
            if self.is_stale(now) {
                return self.reconsider(now);
            }
            let payout = self.payout(now)?;
            return self.publish_split(&payout, now);
        }
        self.reconsider(now)
    }

    /// Opens or closes admission, and moves between pool and solo, as the state now requires.
    fn reconsider(&mut self, now: Instant) -> Option<Work> {
        let payout = self.payout(now);
        let closed = self.closed(payout.is_some(), now);
        if let Some(reason) = closed {
            let admission = Admission::Closed(reason);
            self.trial = None;
            if self.admission == admission || self.jobs.is_empty() {
                self.admission = admission;
                return None;
            }
            self.admission = admission;
            return Some(self.work(Announce::Now));
        }
        let payout = payout?;
        let switched = self
            .jobs
            .first()
            .is_none_or(|job| job.payout.pooled.is_some() != payout.pooled.is_some());
        if self.admission == Admission::Open && !switched {
            return None;
        }
        self.template.as_ref()?;
        let split = payout.pooled.as_ref().zip(self.template.as_ref());
        let wait = split.is_some_and(|(terms, template)| !settled(terms, template));
        self.split_until = wait.then(|| now + SPLIT_TIMEOUT);
        match wait {
            true => Some(self.publish(BuildJob::Blank, Announce::Now, &payout, now)),
            false => self.offer(Announce::Now, &payout, now),
        }
    }

    /// True when no node has given a template for too long: the old one is worthless.
    fn is_stale(&self, now: Instant) -> bool {
        now >= self.template_at + self.config.stale_after
    }

    /// Why miners are not wanted now, if they are not.
    fn closed(&self, payable: bool, now: Instant) -> Option<Arc<str>> {
        if self.is_stale(now) {
            return Some(NO_TEMPLATE.into());
        }
        // A pool that is still being connected to is no reason to send anybody away.
        let is_late = now >= self.pool_down_since + self.grace();
        (!payable && is_late).then(|| NO_POOL.into())
    }

    /// Whom work pays now; none while miners should be elsewhere.
    fn payout(&self, now: Instant) -> Option<Arc<Payout>> {
        if !self.config.pooled {
            return Some(Arc::clone(&self.config.solo));
        }
        if self.pool_payout.is_none() && self.solo_until.is_some_and(|until| now < until) {
            return Some(Arc::clone(&self.config.solo));
        }
        let in_grace = now < self.pool_down_since + self.grace();
        if self.pool == PoolHealth::Up || in_grace {
            return self.pool_payout.as_ref().map(|payout| match self.is_void(payout) {
                true => Arc::clone(&self.config.solo),
                false => self.trusted(payout),
            });
        }
        (self.config.when_down == WhenDown::Solo).then(|| Arc::clone(&self.config.solo))
    }

    /// True when the pool no longer accepts shares of work on `payout`.
    fn is_void(&self, payout: &Payout) -> bool {
        payout.pooled.as_ref().is_some_and(|terms| terms.series <= self.void_series)
    }

    /// `payout` without what a node has refused.
    fn trusted(&self, payout: &Arc<Payout>) -> Arc<Payout> {
        match (&self.distrust, &payout.pooled) {
            (Distrust::Terms(refused), _) if refused.same_terms(payout) => {
                // If nothing better is known yet, mining on beats idling.
                let pool = |payout: &Payout| payout.pooled.as_ref().map(|it| it.pool.clone());
                let good = self.good.as_ref();
                let good = good.filter(|good| pool(good) == pool(payout) && !self.is_void(good));
                good.unwrap_or(payout).clone()
            }
            (Distrust::Splits(tip), Some(terms))
                if terms.coinbaser.as_ref().is_some_and(|it| it.request.prevhash == *tip) =>
            {
                let pooled = Some(PoolTerms { coinbaser: None, ..terms.clone() });
                Arc::new(Payout { pooled, ..Payout::clone(payout) })
            }
            _ => Arc::clone(payout),
        }
    }

    fn grace(&self) -> Duration {
        match &self.pool_payout {
            Some(payout) if self.is_void(payout) => self.config.reconnect_grace,
            Some(_) => self.config.grace,
            // Nothing is held for a pool that was never there.
            None => START_GRACE.min(self.config.grace),
        }
    }

    /// True when `when_down` has been applied.
    fn fallen_back(&self) -> bool {
        let solo = self.jobs.first().is_some_and(|job| job.payout.pooled.is_none());
        // Where there is to be no fallback, solo work between two connections does not count as
        // one.
        let is_between = self.config.when_down == WhenDown::Disconnect
            && self.pool_payout.as_ref().is_some_and(|payout| self.is_void(payout));
        solo && !is_between || self.admission != Admission::Open
    }

    fn publish_split(&mut self, payout: &Arc<Payout>, now: Instant) -> Option<Work> {
        self.split_until = None;
        let template = self.template.as_ref()?;
        if template.kind == TemplateKind::Tip {
            return None;
        }
        // Blank work leaves the split's owners unpaid: replace it everywhere at once.
        let urgent = self.jobs.first().is_none_or(|job| job.coinbases().len() == 1);
        self.offer(self.pace(urgent), payout, now)
    }

    fn pace(&self, urgent: bool) -> Announce {
        if urgent { Announce::Now } else { Announce::Paced(self.config.refresh) }
    }

    fn publish(
        &mut self,
        what: BuildJob,
        announce: Announce,
        payout: &Arc<Payout>,
        now: Instant,
    ) -> Work {
        self.trial = None;
        let Some(template) = &self.template else {
            self.admission = Admission::Open;
            return self.work(announce);
        };
        if what == BuildJob::Classes {
            self.split_until = None;
        }
        let job = self.builder.build_with(what, template, payout, self.upcoming.as_deref());
        self.put(job, announce, now)
    }

    /// Makes `job` the one that miners are given.
    fn put(&mut self, job: Arc<Job>, announce: Announce, now: Instant) -> Work {
        let before = self.upcoming.take();
        if let Some(interval) = self.config.halving_interval {
            self.upcoming = self.builder.build_upcoming(&job, interval, before);
        }
        self.jobs.insert(0, job);
        self.born.push_front(now);
        // Each holds a template of megabytes, so keep it only as long as a block could come of it.
        let kept = self.config.job_life * 2;
        let young = |born: &&Instant| now.saturating_duration_since(**born) <= kept;
        let count = self.born.iter().take_while(young).count().clamp(1, JOBS_MAX);
        self.born.truncate(count);
        self.jobs.truncate(count);
        self.admission = Admission::Open;
        self.work(announce)
    }

    fn work(&mut self, announce: Announce) -> Work {
        self.sequence += 1;
        Work {
            jobs: self.jobs.as_slice().into(),
            announce,
            upcoming: self.upcoming.clone(),
            sequence: self.sequence,
            admission: self.admission.clone(),
            void_series: self.void_series,
        }
    }
}

/// True when the pool has answered (or failed) for exactly this template.
fn settled(terms: &PoolTerms, template: &Template) -> bool {
    template.kind == TemplateKind::Tip || terms.settled == Some(CoinbaserRequest::of(template))
}

/// True when work on `old` should not go on under `new`.
fn terms_changed(old: &Payout, new: &Payout) -> bool {
    let of = |payout: &Payout| {
        payout.pooled.as_ref().map(|terms| (terms.epoch, terms.min_difficulty, terms.pool.clone()))
    };
    !old.same_terms(new) || of(old) != of(new)
}

/// How long the C gateway waits for a split.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long pools that are new to a running gateway may take to come up.
const FIRST_POOL_GRACE: Duration = Duration::from_secs(30);
/// At start, how long a pool may take before `when_down` applies.
const START_GRACE: Duration = Duration::from_secs(10);
/// Jobs that shares may still name: at a refresh every 40 s these last for minutes, and older ones
/// would be refused as stale anyway.
const JOBS_MAX: usize = 32;
const NO_TEMPLATE: &str = "no node has given a block template for too long (template.stale_after): \
    check that the nodes in [[node]] run and are synced";
const NO_POOL: &str = "no pool answers and pooling.when_down is \"disconnect\": \
    check the [[pool]] entries and the internet connection, or set it to \"solo\"";

#[cfg(test)]
#[path = "assembler_tests.rs"]
mod tests;
