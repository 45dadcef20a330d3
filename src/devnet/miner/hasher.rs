//! The hashing thread: switches to new work within a batch, and keeps to a hashrate if told to.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::scan::{Cursor, Found, HashWork, NONCE_LOW};
use crate::clock::now;

/// Handle of a hashing thread, which ends when this is dropped.
pub(super) struct Hasher {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Counts changes of the slot, so that the thread can see without locking that there was none.
    generation: AtomicU64,
    slot: Mutex<Slot>,
    changed: Condvar,
    hashes: AtomicU64,
}

#[derive(Default)]
struct Slot {
    work: Option<Arc<HashWork>>,
    stop: bool,
}

impl Hasher {
    pub(super) fn spawn(hashrate_max: Option<f64>, found: mpsc::Sender<Found>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = Thread {
            shared: Arc::clone(&shared),
            generation: 0,
            work: None,
            cursor: Cursor::default(),
            throttle: Throttle::new(hashrate_max, now()),
            found,
        };
        thread::Builder::new().name("hasher".into()).spawn(move || thread.run())?;
        Ok(Self { shared })
    }

    /// Switches to `work`, or waits when there is none.
    pub(super) fn mine(&self, work: Option<Arc<HashWork>>) {
        self.shared.change(|slot| slot.work = work);
    }

    pub(super) fn hashes(&self) -> u64 {
        self.shared.hashes.load(Relaxed)
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.change(|slot| slot.stop = true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Slot)) {
        let mut slot = self.lock();
        change(&mut slot);
        self.generation.fetch_add(1, Relaxed);
        self.changed.notify_one();
    }
}

struct Thread {
    shared: Arc<Shared>,
    generation: u64,
    work: Option<Arc<HashWork>>,
    cursor: Cursor,
    throttle: Throttle,
    found: mpsc::Sender<Found>,
}

impl Thread {
    fn run(mut self) {
        be_nice();
        let mut found = Vec::new();
        let mut pause = Some(Duration::ZERO);
        while self.take_up_news(pause) {
            let Some(work) = &self.work else {
                pause = None;
                continue;
            };
            let count = self.cursor.scan(work, self.throttle.batch, &mut found);
            self.shared.hashes.fetch_add(u64::from(count), Relaxed);
            pause = (count > 0).then(|| self.throttle.pause(count, now()));
            for found in found.drain(..) {
                // Waits while the connection has too many shares in flight. Shares that get stale
                // meanwhile are not sent.
                if self.found.blocking_send(found).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for new work, at most for `pause`, and switches to it. False: stop.
    fn take_up_news(&mut self, pause: Option<Duration>) -> bool {
        let idle = |_: &mut Slot| self.shared.generation.load(Relaxed) == self.generation;
        let slot = match pause {
            Some(Duration::ZERO) if self.shared.generation.load(Relaxed) == self.generation => {
                return true;
            }
            Some(pause) => {
                let slot = self.shared.lock();
                let waited = self.shared.changed.wait_timeout_while(slot, pause, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
            None => {
                let waited = self.shared.changed.wait_while(self.shared.lock(), idle);
                waited.unwrap_or_else(PoisonError::into_inner)
            }
        };
        let generation = self.shared.generation.load(Relaxed);
        if generation != self.generation {
            self.generation = generation;
            self.work.clone_from(&slot.work);
            self.cursor.restart();
        }
        !slot.stop
    }
}

/// Limits the hashrate by pauses of a few milliseconds.
struct Throttle {
    hashrate_max: Option<f64>,
    batch: u32,
    began: Instant,
    /// Hashes since `began`.
    hashes: u64,
}

impl Throttle {
    fn new(hashrate_max: Option<f64>, now: Instant) -> Self {
        let hashrate_max = hashrate_max.filter(|rate| rate.is_finite() && *rate > 0.0);
        let nonce_low = f64::from(NONCE_LOW);
        let batch = hashrate_max.map_or(nonce_low, |rate| rate * BATCH_S);
        #[expect(clippy::cast_possible_truncation, reason = "clamped to 1..=NONCE_LOW")]
        let batch = batch.clamp(1.0, nonce_low) as u32;
        Self { hashrate_max, batch, began: now, hashes: 0 }
    }

    /// How long to rest after `count` more hashes.
    fn pause(&mut self, count: u32, now: Instant) -> Duration {
        let Some(rate) = self.hashrate_max else { return Duration::ZERO };
        self.hashes += u64::from(count);
        let due = Duration::try_from_secs_f64(self.hashes as f64 / rate).unwrap_or(PAUSE_MAX);
        let spent = now.duration_since(self.began);
        if spent > due + CATCH_UP_MAX {
            // Hashes missed while the processor was busy elsewhere are not made up for.
            (self.began, self.hashes) = (now, 0);
        }
        due.saturating_sub(spent).min(PAUSE_MAX)
    }
}

/// Gives everything else on this machine priority, above all a gateway running next to the miner.
fn be_nice() {
    // On Linux this affects only the calling thread. A failure is not worth reporting.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(NICENESS);
}

#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;
/// With a limited hashrate, new work is picked up after at most this long.
const BATCH_S: f64 = 0.002;
const CATCH_UP_MAX: Duration = Duration::from_millis(100);
/// Even a hashrate of one hash per century must not keep the thread from ending.
const PAUSE_MAX: Duration = Duration::from_secs(1);
