//! The books: everything counted by this process and by earlier ones.
//!
//! Samples go in, batches for the disk come out. Queries are answered from here, so that a slow
//! disk affects nobody.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use super::{
    BestShare, BlockNews, BlockRecord, Hashrates, Totals, WorkerRecord,
    found::Found,
    meter::{Decay, Meter},
    minute::{ClockWatch, Minute, PendingMinutes, Row},
    sum::Sum,
};
use crate::books::{
    CountersView,
    roster::{Miner, Worker},
};

/// Both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    /// Since 1970.
    pub(super) unix: Duration,
}

/// What a sample contains.
pub(super) struct Seen {
    pub(super) counters: CountersView,
    pub(super) miners: Vec<Arc<Miner>>,
    pub(super) workers: Vec<Arc<Worker>>,
}

/// The contents of a file when it was opened.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) totals: Option<StoredTotals>,
    pub(super) workers: Vec<StoredWorker>,
    /// Oldest first.
    pub(super) blocks: Vec<BlockRecord>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct StoredTotals {
    pub(super) sum: Sum,
    /// Unix seconds.
    pub(super) since: u64,
    pub(super) best: Option<BestShare>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredWorker {
    pub(super) name: Arc<str>,
    pub(super) sum: Sum,
    pub(super) best: f64,
    pub(super) best_at: u64,
    pub(super) first_seen: u64,
    pub(super) last_seen: u64,
}

/// What to write in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) totals: Option<StoredTotals>,
    /// Current values, not differences.
    pub(super) workers: Vec<StoredWorker>,
    pub(super) forgotten: Vec<Arc<str>>,
    /// To be added to what is there.
    pub(super) minutes: Vec<Minute>,
    pub(super) blocks: Vec<BlockRecord>,
}

#[derive(Debug)]
pub(super) struct Book {
    sampled: Instant,
    clock: ClockWatch,
    /// The minute that is being filled, since 1970.
    minute: u64,
    minute_seconds: f64,
    minute_began: Sum,
    /// What this process has counted.
    live: Sum,
    all: Meter,
    miners: FxHashMap<u64, Tracked>,
    samples: u64,
    /// What earlier processes have counted; its best share covers all of them.
    earlier: StoredTotals,
    workers: FxHashMap<Arc<str>, Entry>,
    forgotten: Vec<Arc<str>>,
    waiting: PendingMinutes,
    found: Found,
    totals_changed: bool,
    totals_taken: Instant,
}

#[derive(Debug)]
struct Tracked {
    meter: Meter,
    /// The number of the last sample that included it.
    seen: u64,
}

/// One username.
#[derive(Debug)]
struct Entry {
    earlier: Sum,
    best: f64,
    best_at: u64,
    first_seen: u64,
    last_seen: u64,
    /// None: has not mined since this process started.
    live: Option<Box<Live>>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Live {
    /// Which of the roster's entries it follows, and the number of the last sample that included
    /// it.
    id: u64,
    seen: u64,
    /// What earlier entries for the name had counted.
    base: Sum,
    sum: Sum,
    minute_began: Sum,
    meter: Meter,
}

impl Book {
    pub(super) fn new(at: Moment) -> Self {
        Self {
            sampled: at.now,
            clock: ClockWatch::new(at.unix.as_secs_f64()),
            minute: at.unix.as_secs() / 60,
            minute_seconds: 0.0,
            minute_began: Sum::default(),
            live: Sum::default(),
            all: Meter::default(),
            miners: FxHashMap::default(),
            samples: 0,
            earlier: StoredTotals { since: at.unix.as_secs(), ..StoredTotals::default() },
            workers: FxHashMap::default(),
            forgotten: Vec::new(),
            waiting: PendingMinutes::default(),
            found: Found::default(),
            totals_changed: true,
            totals_taken: at.now,
        }
    }

    /// Loads what an earlier run wrote. Only once: from then on the books are authoritative.
    pub(super) fn load(&mut self, stored: Stored) {
        if let Some(totals) = stored.totals {
            let best = [self.earlier.best.take(), totals.best].into_iter().flatten();
            let best = best.max_by(|a, b| a.difficulty.total_cmp(&b.difficulty));
            self.earlier = StoredTotals { best, ..totals };
        }
        for worker in stored.workers {
            let StoredWorker { name, sum, best, best_at, first_seen, last_seen } = worker;
            let known = Entry { changed: false, ..Entry::new(first_seen) };
            let entry = self.workers.entry(name).or_insert(known);
            entry.earlier = sum;
            entry.first_seen = first_seen;
            entry.last_seen = entry.last_seen.max(last_seen);
            if best > entry.best {
                (entry.best, entry.best_at) = (best, best_at);
            }
        }
        self.found.load(stored.blocks);
    }

    /// Takes a sample.
    pub(super) fn sample(&mut self, at: Moment, seen: &Seen) {
        let time = at.now.saturating_duration_since(self.sampled);
        let decay = Decay::over(time);
        let unix = at.unix.as_secs();
        self.samples += 1;
        self.clock.look(at.unix.as_secs_f64(), time);
        let live = Sum::from(&seen.counters);
        self.totals_changed |= live != self.live;
        self.live = live;
        self.all.sample(self.live.difficulty, &decay);
        self.sample_miners(&seen.miners, at.now, &decay);
        self.sample_workers(&seen.workers, unix, &decay);
        self.sample_departed(&decay);
        self.minute_seconds += time.as_secs_f64();
        self.sampled = at.now;
        if unix / 60 != self.minute {
            self.close_minute();
            self.minute = unix / 60;
        }
    }

    fn sample_miners(&mut self, miners: &[Arc<Miner>], now: Instant, decay: &Decay) {
        for miner in miners {
            let difficulty = miner.score.view().difficulty;
            let fresh = || Tracked { meter: Meter::default(), seen: 0 };
            let tracked = self.miners.entry(miner.id).or_insert_with(fresh);
            if tracked.seen == 0 {
                let here = now.saturating_duration_since(miner.connected);
                tracked.meter.sample(difficulty, &Decay::over(here));
            } else {
                tracked.meter.sample(difficulty, decay);
            }
            tracked.seen = self.samples;
        }
        let samples = self.samples;
        self.miners.retain(|_, tracked| tracked.seen == samples);
    }

    fn sample_workers(&mut self, workers: &[Arc<Worker>], unix: u64, decay: &Decay) {
        for worker in workers {
            let view = worker.score.view();
            if !self.workers.contains_key(&worker.name.0) {
                self.make_room();
            }
            let fresh = || Entry::new(unix);
            let entry = self.workers.entry(Arc::clone(&worker.name.0)).or_insert_with(fresh);
            let live = entry.live.get_or_insert_default();
            if live.id != worker.id {
                (live.id, live.base) = (worker.id, live.sum.clone());
            }
            live.seen = self.samples;
            let sum = live.base.plus(&Sum::from(&view));
            live.meter.sample(sum.difficulty, decay);
            if live.sum != sum {
                live.sum = sum;
                entry.last_seen = unix;
                entry.changed = true;
            }
            if entry.raise(view.best, unix) {
                let best = self.earlier.best.as_ref().map_or(0.0, |best| best.difficulty);
                if view.best > best {
                    let worker = worker.name.0.as_ref().to_owned();
                    self.earlier.best = Some(BestShare { difficulty: view.best, worker, at: unix });
                    self.totals_changed = true;
                }
            }
        }
    }

    /// Workers that the roster has no room for any more: their rates fall.
    fn sample_departed(&mut self, decay: &Decay) {
        let samples = self.samples;
        for live in self.workers.values_mut().filter_map(|entry| entry.live.as_mut()) {
            if live.seen != samples {
                live.meter.sample(live.sum.difficulty, decay);
            }
        }
    }

    /// Ends the current minute, even early.
    pub(super) fn close_minute(&mut self) {
        let mut workers = Vec::new();
        for (name, entry) in &mut self.workers {
            let Some(live) = &mut entry.live else { continue };
            let row = Row::from(&live.sum.since(&live.minute_began));
            if !row.is_empty() {
                workers.push((Arc::clone(name), row));
                live.minute_began = live.sum.clone();
            }
        }
        let total = Row::from(&self.live.since(&self.minute_began));
        self.minute_began = self.live.clone();
        let seconds = mem::take(&mut self.minute_seconds);
        self.waiting.push(Minute { t: self.minute, seconds, total, workers });
    }

    pub(super) fn hear(&mut self, news: BlockNews) {
        self.found.hear(news);
    }

    /// What should be written now; everything if it is the `last` time.
    pub(super) fn take(&mut self, now: Instant, last: bool) -> Option<Batch> {
        let minutes = self.waiting.take();
        let whole = last || !minutes.is_empty();
        let is_due = now.saturating_duration_since(self.totals_taken) >= TOTALS_EACH;
        let mut batch = Batch { minutes, blocks: self.found.take_changed(), ..Batch::default() };
        if self.totals_changed && (whole || is_due) {
            batch.totals = Some(self.stored_totals());
            self.totals_changed = false;
            self.totals_taken = now;
        }
        if whole {
            batch.forgotten = mem::take(&mut self.forgotten);
            for (name, entry) in &mut self.workers {
                if mem::take(&mut entry.changed) {
                    batch.workers.push(entry.stored(name));
                }
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Returns a batch that could not be written.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.totals_changed |= batch.totals.is_some();
        for worker in batch.workers {
            if let Some(entry) = self.workers.get_mut(&worker.name) {
                entry.changed = true;
            }
        }
        // Workers that have come back meanwhile are written again, not deleted.
        let gone = batch.forgotten.into_iter().filter(|name| !self.workers.contains_key(name));
        self.forgotten.extend(gone);
        self.waiting.put_back(batch.minutes);
        self.found.put_back(batch.blocks);
    }

    /// The file is new: everything that is known goes into it.
    pub(super) fn rewrite(&mut self) {
        self.totals_changed = true;
        self.forgotten.clear();
        self.workers.values_mut().for_each(|entry| entry.changed = true);
        self.found.change_all();
    }

    /// Whether more is waiting than one batch takes.
    pub(super) fn has_minutes(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Minutes that wait for the disk.
    pub(super) fn minutes_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Minutes dropped since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        self.waiting.take_lost()
    }

    /// Whether the wall clock can be trusted to decide what is old.
    pub(super) fn clock_is_steady(&self) -> bool {
        self.clock.is_steady()
    }

    pub(super) fn hashrate(&self) -> Hashrates {
        self.all.hashrates()
    }

    pub(super) fn miner_hashrate(&self, id: u64) -> Option<Hashrates> {
        self.miners.get(&id).map(|tracked| tracked.meter.hashrates())
    }

    #[cfg(test)]
    pub(super) fn worker_hashrate(&self, name: &str) -> Option<Hashrates> {
        Some(self.workers.get(name)?.live.as_ref()?.meter.hashrates())
    }

    /// Including what the counters say at this moment.
    pub(super) fn totals(&self, live: &CountersView) -> Totals {
        let Sum { accepted, difficulty, rejected, blocks } =
            self.earlier.sum.plus(&Sum::from(live));
        let (since, best) = (self.earlier.since, self.earlier.best.clone());
        Totals { accepted, difficulty, rejected, blocks, since, best }
    }

    /// Those seen last, latest first.
    pub(super) fn workers(&self, limit: usize) -> Vec<WorkerRecord> {
        let mut all: Vec<_> = self.workers.iter().collect();
        all.sort_unstable_by(|a, b| b.1.last_seen.cmp(&a.1.last_seen).then(a.0.cmp(b.0)));
        all.into_iter().take(limit).map(|(name, entry)| entry.record(name)).collect()
    }

    pub(super) fn blocks(&self, limit: usize) -> Vec<BlockRecord> {
        self.found.latest(limit)
    }

    fn stored_totals(&self) -> StoredTotals {
        StoredTotals { sum: self.earlier.sum.plus(&self.live), ..self.earlier.clone() }
    }

    /// When there are too many, forgets those that have been silent for longest, many at a time.
    fn make_room(&mut self) {
        if self.workers.len() < WORKERS_MAX {
            return;
        }
        let samples = self.samples;
        let is_silent = |entry: &Entry| entry.live.as_ref().is_none_or(|it| it.seen + 1 < samples);
        let silent = self.workers.iter().filter(|(_, entry)| is_silent(entry));
        let mut silent: Vec<_> =
            silent.map(|(name, entry)| (entry.last_seen, Arc::clone(name))).collect();
        silent.sort_unstable();
        for (_, name) in silent.into_iter().take(FORGOTTEN_AT_ONCE) {
            self.workers.remove(&name);
            self.forgotten.push(name);
        }
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.totals.is_none()
            && self.workers.is_empty()
            && self.forgotten.is_empty()
            && self.minutes.is_empty()
            && self.blocks.is_empty()
    }
}

impl Entry {
    fn new(first_seen: u64) -> Self {
        Self {
            earlier: Sum::default(),
            best: 0.0,
            best_at: 0,
            first_seen,
            last_seen: first_seen,
            live: None,
            changed: true,
        }
    }

    /// Records a share of that difficulty; true if it is the best so far.
    fn raise(&mut self, difficulty: f64, at: u64) -> bool {
        let is_best = difficulty > self.best;
        if is_best {
            (self.best, self.best_at) = (difficulty, at);
            self.changed = true;
        }
        is_best
    }

    fn sum(&self) -> Sum {
        self.live.as_ref().map_or_else(|| self.earlier.clone(), |it| self.earlier.plus(&it.sum))
    }

    fn stored(&self, name: &Arc<str>) -> StoredWorker {
        StoredWorker {
            name: Arc::clone(name),
            sum: self.sum(),
            best: self.best,
            best_at: self.best_at,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
        }
    }

    fn record(&self, name: &str) -> WorkerRecord {
        let Sum { accepted, difficulty, rejected, blocks } = self.sum();
        WorkerRecord {
            name: name.to_owned(),
            accepted,
            difficulty,
            rejected,
            blocks,
            best_difficulty: self.best,
            best_at: self.best_at,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            hashrate: self.live.as_ref().map_or_else(Hashrates::default, |it| it.meter.hashrates()),
        }
    }
}

/// Names that are remembered, some 200 bytes each and 400 more while they mine. More than the
/// roster has, so that there is always one to forget.
pub(super) const WORKERS_MAX: usize = 120_000;
/// Sorting all of them for each newcomer would take longer than everything else.
const FORGOTTEN_AT_ONCE: usize = 2_000;
/// How much of the totals a crash may lose. Rare enough not to wear out an SD card.
const TOTALS_EACH: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
