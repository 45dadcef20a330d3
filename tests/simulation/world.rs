//! Everything at once: events in order of time, and what must hold after each.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use gatewayd::{
    books::Roster,
    datum::{Identity, PoolMemory, PoolStats, Relay},
    devnet::pool::PoolTime,
    stratum::Config,
    sv2::noise::{AuthorityKey, Identity as NoiseIdentity},
    validate::SeenBudget,
    work::{Admission, Assembler, Job, JobId, Share, Template, Work},
};

use crate::{
    chance::Chance,
    floor::Rig,
    node::Node,
    plan::Plan,
    pools::SimPool,
    record::{Promise, Tally},
    uplink::Uplink,
};

pub struct World {
    pub plan: Plan,
    pub chance: Chance,
    base: Instant,
    /// Milliseconds since the start.
    pub now: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    queued: u64,
    pub node: Node,
    pub pools: Vec<SimPool>,
    pub rigs: Vec<Rig>,
    pub uplink: Uplink,
    pub assembler: Assembler,
    pub relay: Relay,
    pub stats: Arc<PoolStats>,
    pub config: Arc<Config>,
    pub identity: Arc<NoiseIdentity>,
    pub roster: Arc<Roster>,
    pub seen_budget: Arc<SeenBudget>,
    pub work: Option<Arc<Work>>,
    /// No more mishaps: what went wrong has to recover.
    pub is_calm: bool,
    /// When the machine last woke, as a Unix time; 0: it has never slept.
    pub woke: u64,
    pub tally: Tally,
    known_jobs: HashMap<JobId, Weak<Job>>,
    deadlines_now: u32,
}

pub enum Event {
    Block,
    Refresh,
    Template(Arc<Template>),
    Connect(usize),
    Arrive(usize, u64, Parcel),
    Mine(usize, u64),
    TakeWork(usize, u64),
    Verdict(Arc<Job>),
    RelayNews,
    RelayWork(Arc<Work>),
    Batch(u64, Vec<Share>),
    PoolTry,
    ToPool(u64, Vec<u8>),
    ToGateway(u64, Vec<u8>),
    PoolGone(u64),
    Trouble,
    Heal(usize),
}

/// A piece of what a miner sends.
pub struct Parcel {
    pub bytes: Vec<u8>,
    /// Submits that it completes: channel and number.
    pub claims: Vec<(u32, u32)>,
    pub closes: Option<u32>,
}

struct Entry(u64, u64, Event);

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl World {
    pub fn new(plan: Plan) -> Self {
        #[allow(clippy::disallowed_methods, reason = "any origin will do")]
        let base = Instant::now();
        let mut chance = Chance::new(plan.seed ^ 0xABCD);
        let pools = (0..plan.pools)
            .map(|at| SimPool::new(u8::try_from(at).unwrap(), plan.is_like_ocean, &mut chance))
            .collect();
        let authority = AuthorityKey::from_secret([7; 32]).unwrap();
        let lifetime = Duration::from_secs(1 << 30);
        let stats = Arc::new(PoolStats::default());
        let relay = Relay::new(plan.relay(), gateway_keys(), Arc::clone(&stats));
        let node = Node::new(plan.hardness);
        let assembler = Assembler::new(plan.assembler(), chance.word(), base);
        let config = Arc::new(plan.stratum());
        let rigs = (0..plan.rigs).map(|at| Rig::new(at, plan.hashrate, &mut chance)).collect();
        let mut world = Self {
            plan,
            chance,
            base,
            now: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            node,
            pools,
            rigs,
            uplink: Uplink::default(),
            assembler,
            relay,
            stats,
            config,
            identity: Arc::new(NoiseIdentity::issue(&authority, UNIX_START - 60, lifetime)),
            roster: Roster::new(base),
            seen_budget: Arc::default(),
            work: None,
            is_calm: false,
            woke: 0,
            tally: Tally::default(),
            known_jobs: HashMap::new(),
            deadlines_now: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.after(1, Event::Block);
        self.after(2000, Event::Refresh);
        self.after(30_000, Event::Trouble);
        if !self.pools.is_empty() {
            self.after(1, Event::PoolTry);
        }
        for rig in 0..self.rigs.len() {
            let wait = 3000 + self.chance.below(20_000);
            self.after(wait, Event::Connect(rig));
        }
    }

    pub fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Entry(at.max(self.now), self.queued, event)));
    }

    pub fn instant(&self) -> Instant {
        self.base + Duration::from_millis(self.now)
    }

    pub fn unix(&self) -> u64 {
        u64::from(UNIX_START) + self.now / 1000
    }

    pub fn moment(&self) -> PoolTime {
        PoolTime { instant: self.instant(), unix: self.unix() }
    }

    /// In milliseconds; not before the instant.
    fn ms(&self, instant: Instant) -> u64 {
        let nanos = instant.saturating_duration_since(self.base).as_nanos();
        u64::try_from(nanos.div_ceil(1_000_000)).unwrap()
    }

    /// Runs until `end` after the start.
    pub fn run_until(&mut self, end: Duration) {
        let end = u64::try_from(end.as_millis()).unwrap();
        loop {
            let event = self.queue.peek().map_or(end, |Reverse(entry)| entry.0);
            let due = self.deadline().map_or(end, |due| self.ms(due));
            let next = event.min(due);
            if next >= end {
                self.now = self.now.max(end);
                return;
            }
            let before = self.now;
            self.now = self.now.max(next);
            if due <= event {
                self.deadlines_now = if self.now == before { self.deadlines_now + 1 } else { 0 };
                assert!(self.deadlines_now < 1000, "a deadline that never passes");
                self.tally.checked(Promise::Deadlines);
                self.on_deadlines();
            } else if let Some(Reverse(Entry(_, _, event))) = self.queue.pop() {
                self.on_event(event);
            }
            self.tally.events += 1;
            self.check();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let own = [self.assembler.deadline(), self.relay.deadline(), self.uplink.deadline()];
        let pools = self.pools.iter().filter_map(|pool| pool.session.as_ref()?.deadline());
        let rigs = self.rigs.iter().filter_map(Rig::deadline);
        own.into_iter().flatten().chain(pools).chain(rigs).min()
    }

    fn on_deadlines(&mut self) {
        let now = self.instant();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        if is_due(self.assembler.deadline()) {
            let work = self.assembler.on_deadline(now);
            self.publish(work);
        }
        self.on_uplink_deadlines();
        for rig in 0..self.rigs.len() {
            if is_due(self.rigs[rig].deadline()) {
                self.on_rig_deadline(rig);
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Block => self.on_block_elsewhere(),
            Event::Refresh => self.on_refresh(),
            Event::Template(template) => self.on_template(&template),
            Event::Connect(rig) => self.on_connect(rig),
            Event::Arrive(rig, conn, parcel) => self.on_arrive(rig, conn, &parcel),
            Event::Mine(rig, conn) => self.on_mine(rig, conn),
            Event::TakeWork(rig, conn) => self.on_take_work(rig, conn),
            Event::Verdict(job) => self.on_verdict(&job),
            Event::RelayNews => self.on_relay_news(),
            Event::RelayWork(work) => self.relay.on_work(&work),
            Event::Batch(run, shares) => self.on_batch(run, shares),
            Event::PoolTry => self.on_pool_try(),
            Event::ToPool(wire, bytes) => self.on_to_pool(wire, &bytes),
            Event::ToGateway(wire, bytes) => self.on_to_gateway(wire, &bytes),
            Event::PoolGone(wire) => self.on_pool_gone(wire),
            Event::Trouble => self.on_trouble(),
            Event::Heal(pool) => self.heal(pool),
        }
    }

    fn on_block_elsewhere(&mut self) {
        if self.chance.one_in(12) {
            self.tally.mishap("the chain is reorganised");
            self.node.reorganise(&mut self.chance);
        } else {
            self.node.extend();
        }
        self.on_new_tip();
        let wait = self.chance.wait(self.plan.block_each);
        self.after(wait, Event::Block);
    }

    /// The node announces its tip, at once, late or not at all, and builds a template.
    pub fn on_new_tip(&mut self) {
        self.tally.tips += 1;
        let unix = self.unix();
        if !self.chance.one_in(8) {
            let late = if self.chance.one_in(10) { 3000 } else { 60 };
            let wait = self.chance.below(late);
            self.after(wait, Event::Template(self.node.tip_template(unix)));
        } else {
            self.tally.mishap("the node does not announce a tip's header");
        }
        let is_late = self.chance.one_in(10);
        if is_late {
            self.tally.mishap("the node gives a template up to 30 s late");
        }
        let late = if is_late { 30_000 } else { 1500 };
        let wait = self.chance.below(late);
        let template = self.node.full_template(unix, &mut self.chance);
        self.after(wait, Event::Template(template));
    }

    fn on_refresh(&mut self) {
        if self.chance.one_in(3) {
            self.node.collect_fees(&mut self.chance);
        }
        if !self.chance.one_in(20) {
            let template = self.node.full_template(self.unix(), &mut self.chance);
            let wait = self.chance.below(200);
            self.after(wait, Event::Template(template));
        } else {
            self.tally.mishap("the node gives no template when it is due");
        }
        self.after(40_000, Event::Refresh);
    }

    fn on_template(&mut self, template: &Arc<Template>) {
        let relay_first = self.chance.one_in(2);
        if relay_first {
            self.relay_template(template);
        }
        let work = self.assembler.on_template(template, self.instant());
        self.publish(work);
        if !relay_first {
            self.relay_template(template);
        }
    }

    fn on_verdict(&mut self, job: &Job) {
        let accepted = [None, Some(true), Some(true), Some(true), Some(false)];
        let accepted = accepted[self.chance.index(accepted.len())];
        let accepted = if self.is_calm { Some(true) } else { accepted };
        match accepted {
            None => self.tally.mishap("the node gives no verdict on a proposed block"),
            Some(false) => self.tally.mishap("the node refuses a proposed block"),
            Some(true) => {}
        }
        let work = self.assembler.on_verdict(job, accepted, self.instant());
        self.publish(work);
    }

    /// Hands new work to everybody, if there is any.
    pub fn publish(&mut self, work: Option<Work>) {
        if let Some(job) = self.assembler.take_proposal() {
            let wait = self.chance.below(3000);
            self.after(wait, Event::Verdict(job));
        }
        let Some(work) = work else { return };
        self.check_work(&work);
        self.tally.works += 1;
        let work = Arc::new(work);
        self.work = Some(Arc::clone(&work));
        if self.chance.one_in(2) {
            self.relay.on_work(&work);
        } else {
            let wait = self.chance.below(20);
            self.after(wait, Event::RelayWork(work));
        }
        for rig in 0..self.rigs.len() {
            let Some(conn) = self.rigs[rig].conn_number() else { continue };
            let is_slow = self.chance.one_in(50);
            if is_slow {
                self.tally.mishap("a connection takes new work up to 8 s late");
            }
            let wait = if is_slow { self.chance.below(8000) } else { 0 };
            self.after(wait, Event::TakeWork(rig, conn));
        }
    }

    fn check_work(&mut self, work: &Work) {
        let before = self.work.as_ref().map_or(0, |before| before.sequence);
        assert_eq!(work.sequence, before + 1, "a publication is missing");
        assert!((1..=32).contains(&work.jobs.len()), "{} jobs", work.jobs.len());
        for job in work.jobs.iter() {
            let known = self.known_jobs.entry(job.id).or_insert_with(|| Arc::downgrade(job));
            assert!(Weak::ptr_eq(known, &Arc::downgrade(job)), "two jobs of one id");
        }
        self.tally.checked(Promise::Ids);
        self.tally.checked(Promise::Splits);
        let job = work.latest();
        if let Some(split) = job.split() {
            assert_eq!(
                split.request.value, job.template.coinbase_value,
                "a split for another value"
            );
            assert_eq!(split.request.prevhash, job.template.prevhash, "a split for another tip");
        }
        for coinbase in job.coinbases() {
            assert!(coinbase.len() <= 16_384 + 500, "a coinbase of {}", coinbase.len());
        }
        if work.admission == Admission::Open {
            // The pool may have gone this instant: then the next work follows.
            let terms = job.payout.pooled.as_ref();
            let is_void = terms.is_some_and(|terms| terms.series <= work.void_series);
            assert!(!is_void, "work that nobody pays for");
        }
    }

    /// What holds after each step.
    fn check(&mut self) {
        self.check_accounts();
        self.tally.checked(Promise::Accounts);
        if !self.tally.events.is_multiple_of(64) {
            return;
        }
        self.tally.checked(Promise::Bounds);
        self.known_jobs.retain(|_, job| job.strong_count() > 0);
        let alive = self.known_jobs.len();
        self.tally.jobs_alive_max = self.tally.jobs_alive_max.max(alive);
        let held = usize::try_from(self.stats.view().held).unwrap();
        // The work's, the pool's slots on three connections, those in flight, and one for each
        // share that is held.
        assert!(alive <= 32 + 3 * 16 + 200 + held, "{alive} jobs alive, {held} shares held");
    }

    /// Restarts the gateway, as after a crash: only what it had written to disk is left.
    pub fn restart(&mut self) {
        self.tally.restarts += 1;
        let is_clean = self.chance.one_in(2);
        self.tally.mishap(if is_clean {
            "the gateway is restarted"
        } else {
            "the gateway crashes"
        });
        if is_clean {
            self.relay.shut_down();
            self.check_accounts();
            let view = self.stats.view();
            assert_eq!((view.held, view.awaiting), (0, 0));
        }
        self.close_books();
        let memory = PoolMemory::parse(&self.relay.memory().render());
        self.stats = Arc::default();
        self.relay = Relay::new(self.plan.relay(), gateway_keys(), Arc::clone(&self.stats));
        self.relay.remember(memory);
        self.assembler = Assembler::new(self.plan.assembler(), self.chance.word(), self.instant());
        self.known_jobs.clear();
        self.work = None;
        self.drop_uplink();
        for rig in 0..self.rigs.len() {
            self.drop_rig(rig);
        }
        let template = self.node.full_template(self.unix(), &mut self.chance);
        self.after(50, Event::Template(template));
        if !self.pools.is_empty() {
            self.after(10, Event::PoolTry);
        }
    }

    /// Ends in calm: no more mishaps, and what is due is done.
    pub fn finish(&mut self) {
        self.is_calm = true;
        self.node.clock_off = 0;
        for pool in 0..self.pools.len() {
            self.heal(pool);
        }
        self.run_until(Duration::from_millis(self.now) + CALM);
        self.check_calm();
        self.tally.checked(Promise::Calm);
        self.relay.shut_down();
        self.check_accounts();
        self.close_books();
        for rig in &self.rigs {
            let (accepted, refused) = rig.scores();
            self.tally.accepted += accepted;
            self.tally.refused += refused;
        }
        self.tally.blocks = self.node.submitted.len() as u64;
        self.tally.blocks_accepted = self.node.accepted;
    }

    /// After a quiet period everybody has work on the tip, and the pool has every share.
    fn check_calm(&self) {
        let work = self.work.as_ref().expect("there is work");
        assert_eq!(work.admission, Admission::Open, "admission stays closed");
        for rig in &self.rigs {
            assert!(rig.conn_number().is_some(), "a miner is not served");
        }
        if self.pools.is_empty() {
            return;
        }
        assert!(self.relay.is_up(), "the pool is not used: {:?}", self.relay.status());
        assert!(work.latest().payout.pooled.is_some(), "work for the pool");
        let view = self.stats.view();
        assert_eq!(view.held, 0, "shares are held for a pool that is there");
    }
}

pub fn gateway_keys() -> Identity {
    Identity::from_secrets(&[55; 32], [66; 32])
}

/// Longer than any timeout: a miner's, a pool's, a template's.
const CALM: Duration = Duration::from_secs(40 * 60);
pub const UNIX_START: u32 = 1_700_000_000;
