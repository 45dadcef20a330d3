//! Writes the books to disk, and copes with a disk that is missing, full or damaged.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};

use super::{
    LedgerState,
    book::{Book, Moment},
    file::set_aside,
    store::Store,
    trouble::StoreError,
};

/// Owns the database file. Everything here may wait for the disk; the book is never locked
/// meanwhile.
#[derive(Debug)]
pub(super) struct Keeper {
    dir: PathBuf,
    store: Option<Store>,
    /// What the file contained has been loaded into the book.
    is_loaded: bool,
    next_try: Instant,
    pruned: Instant,
    trouble: Option<ReportedProblem>,
    /// What the operator should know for a while, although all is well again.
    notice: Option<(String, Instant)>,
}

/// A problem and when it was logged.
#[derive(Debug)]
struct ReportedProblem {
    text: String,
    at: Instant,
}

impl Keeper {
    pub(super) fn new(dir: &Path, now: Instant) -> Self {
        Self {
            dir: dir.to_owned(),
            store: None,
            is_loaded: false,
            next_try: now,
            pruned: now,
            trouble: None,
            notice: None,
        }
    }

    /// Does one round of work.
    pub(super) fn turn(&mut self, book: &Mutex<Book>, at: Moment, keep: Duration) {
        if at.now < self.next_try {
            return self.log_lost(book);
        }
        let mut done = self.write(book, at, false);
        if done.is_ok() && at.now.saturating_duration_since(self.pruned) >= PRUNE_EACH {
            self.pruned = at.now;
            done = self.prune(book, at, keep);
        }
        self.settle(done, book, at);
    }

    /// The last round: there is no time to wait for the disk to come back.
    pub(super) fn end(&mut self, book: &Mutex<Book>, at: Moment) {
        if let Err(trouble) = self.write(book, at, true) {
            let minutes = lock(book).minutes_waiting();
            error!(
                minutes,
                "the ledger's last minutes (history, totals) could not be written and are lost: \
                 {trouble}"
            );
        }
    }

    /// Checks whether the file is damaged, after the reader suspected it.
    pub(super) fn inspect(&mut self, book: &Mutex<Book>, at: Moment) {
        if let Some(store) = &self.store {
            let found = store.check();
            self.settle(found, book, at);
        }
    }

    pub(super) fn state(&self, now: Instant) -> LedgerState {
        if let Some(ReportedProblem { text, .. }) = &self.trouble {
            return LedgerState::Degraded { reason: format!("{text}. {MEANWHILE}") };
        }
        match &self.notice {
            Some((text, at)) if now.saturating_duration_since(*at) < NOTICE_FOR => {
                LedgerState::Degraded { reason: text.clone() }
            }
            _ => LedgerState::Ok,
        }
    }

    fn write(&mut self, book: &Mutex<Book>, at: Moment, last: bool) -> Result<(), StoreError> {
        loop {
            if self.store.as_ref().is_none_or(|store| !store.is_in_place()) {
                self.open(book)?;
            }
            let Some(store) = &mut self.store else { return Ok(()) };
            let Some(batch) = lock(book).take(at.now, last) else { return Ok(()) };
            if let Err(trouble) = store.write(&batch) {
                lock(book).put_back(batch);
                return Err(trouble);
            }
            if !lock(book).has_minutes() {
                return Ok(());
            }
        }
    }

    fn open(&mut self, book: &Mutex<Book>) -> Result<(), StoreError> {
        // Including its lock.
        self.store = None;
        let (store, stored) = Store::open(&self.dir)?;
        debug!(file = %store.path().display(), "the ledger is open");
        let is_new = stored.totals.is_none();
        let mut book = lock(book);
        if !self.is_loaded {
            book.load(stored);
            self.is_loaded = true;
        }
        if is_new {
            book.rewrite();
        }
        self.store = Some(store);
        Ok(())
    }

    fn prune(&mut self, book: &Mutex<Book>, at: Moment, keep: Duration) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let clock = lock(book).clock_is_steady().then_some(at.unix.as_secs());
        store.prune(clock, keep)
    }

    /// Logs the result if it has changed.
    fn settle(&mut self, done: Result<(), StoreError>, book: &Mutex<Book>, at: Moment) {
        match done {
            Ok(()) => {
                if self.trouble.take().is_some() {
                    info!("the ledger can be written again; what was waiting has been saved");
                }
            }
            Err(trouble) if trouble.is_damage() => self.begin_anew(&trouble, at),
            Err(trouble) => self.give_up(&trouble, at.now),
        }
        self.log_lost(book);
    }

    fn begin_anew(&mut self, trouble: &StoreError, at: Moment) {
        self.store = None;
        match set_aside(&self.dir, at.unix.as_secs()) {
            Ok(aside) => {
                let lost = if self.is_loaded {
                    "totals and workers are kept; the charts start over"
                } else {
                    "totals, workers and charts start over"
                };
                let text = format!(
                    "the history file was damaged and has been renamed to {}; a new one was begun: \
                     {lost}. Check the disk, and delete the old file if you do not want to repair \
                     it",
                    aside.display()
                );
                error!("{trouble}: {text}. Mining is not affected");
                self.notice = Some((text, at.now));
            }
            Err(error) => {
                let (path, why) = (self.dir.clone(), format!("{trouble}; {error}"));
                self.give_up(&StoreError::ReadOnly { path, why }, at.now);
            }
        }
    }

    fn give_up(&mut self, trouble: &StoreError, now: Instant) {
        // After a failed write, the connection cannot be trusted.
        self.store = None;
        self.next_try = now + RETRY_EACH;
        let text = trouble.to_string();
        let told = self.trouble.as_ref();
        let is_news =
            told.is_none_or(|it| it.text != text || now.saturating_duration_since(it.at) >= RETELL);
        if is_news {
            warn!("the ledger cannot be written: {text}. {MEANWHILE}");
            self.trouble = Some(ReportedProblem { text, at: now });
        }
    }

    fn log_lost(&self, book: &Mutex<Book>) {
        let lost = lock(book).take_lost();
        if lost > 0 && self.trouble.is_some() {
            debug!(
                lost,
                "minutes of the charts were dropped: the disk has been unavailable for \
                          too long"
            );
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const MEANWHILE: &str = "Mining goes on as before; shares are counted in memory and written once \
                         this is fixed, but lost if gatewayd stops before";
/// How often an unavailable disk is retried.
const RETRY_EACH: Duration = Duration::from_secs(5);
/// How often a persisting problem is logged again.
const RETELL: Duration = Duration::from_secs(3600);
const PRUNE_EACH: Duration = Duration::from_secs(600);
/// A damaged file is reported for a day.
const NOTICE_FOR: Duration = Duration::from_secs(86_400);
