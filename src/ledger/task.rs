//! The ledger's threads, and the handle that others hold.
//!
//! One thread samples, one writes, one reads: a disk that hangs does not stop current figures, and
//! delays queries for history only briefly. None of them belongs to the runtime that serves miners.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{error::Elapsed, timeout},
};
use tracing::{error, warn};

use super::{
    BlockNews, BlockRecord, Hashrates, HistoryQuery, LedgerState, ReadError, Series, Totals,
    WorkerRecord,
    book::{Book, Moment, Seen},
    keeper::{Keeper, lock},
    read::{Reader, Unread},
};
use crate::{
    books::{Counters, Roster},
    clock::{now, unix_now},
};

#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// `ledger.data_dir`; the database is in it.
    pub data_dir: PathBuf,
    pub keep_history: Duration,
}

/// What the ledger reads.
pub struct Inputs {
    pub roster: Arc<Roster>,
    pub counters: Arc<Counters>,
    /// Returns what has become of blocks since the last call.
    pub blocks: Box<dyn Fn() -> Vec<BlockNews> + Send>,
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

/// A handle to the ledger. Cheap to clone; the threads end with the last handle.
#[derive(Clone, Debug)]
pub struct Ledger {
    shared: Arc<LedgerShared>,
    samples: SyncSender<Stop>,
    questions: SyncSender<HistoryRequest>,
}

/// Shared by the threads and the handles.
#[derive(Debug)]
struct LedgerShared {
    book: Mutex<Book>,
    counters: Arc<Counters>,
    state: Mutex<LedgerState>,
    keep_history_s: AtomicU64,
    /// The reader found the file damaged.
    is_suspect: AtomicBool,
}

/// Asks a thread to end, and to report back.
struct Stop(oneshot::Sender<()>);

enum HistoryRequest {
    History(HistoryQuery, oneshot::Sender<Result<Series, ReadError>>),
    Rejects(Option<String>, Duration, oneshot::Sender<Result<Vec<(String, u64)>, ReadError>>),
}

/// Starts the ledger. Never fails: without a disk it counts in memory, and says so.
pub fn spawn(config: LedgerConfig, inputs: Inputs) -> Ledger {
    let shared = Arc::new(LedgerShared {
        book: Mutex::new(Book::new(moment())),
        counters: Arc::clone(&inputs.counters),
        state: Mutex::new(LedgerState::Ok),
        keep_history_s: AtomicU64::new(config.keep_history.as_secs()),
        is_suspect: AtomicBool::new(false),
    });
    let (samples, stop_sampling) = sync_channel(1);
    let (writes, stop_writing) = sync_channel(1);
    let (questions, asked) = sync_channel(QUESTIONS_MAX);
    let (sampled, written, read) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
    let dir = config.data_dir;
    let reader = Reader::new(&dir);
    let keeper = Keeper::new(&dir, moment().now);
    start("ledger-sample", &shared, move || sample(&sampled, &inputs, &stop_sampling, &writes));
    start("ledger-write", &shared, move || write(&written, keeper, &stop_writing));
    start("ledger-read", &shared, move || answer(&read, reader, &asked));
    Ledger { shared, samples, questions }
}

impl Ledger {
    /// All miners together.
    pub fn hashrate(&self) -> Hashrates {
        lock(&self.shared.book).hashrate()
    }

    /// One live connection or channel, by its id in the roster. None before its first sample.
    pub(crate) fn miner_hashrate(&self, id: u64) -> Option<Hashrates> {
        lock(&self.shared.book).miner_hashrate(id)
    }

    /// Everything since the counting began, to the last share.
    pub fn totals(&self) -> Totals {
        let live = self.shared.counters.view();
        lock(&self.shared.book).totals(&live)
    }

    /// Shares over time, at most some 1,500 points.
    pub async fn history(&self, query: HistoryQuery) -> Result<Series, ReadError> {
        let (sender, answer) = oneshot::channel();
        self.ask(HistoryRequest::History(query, sender), answer).await
    }

    /// Rejections by reason, the most frequent first.
    pub async fn rejects(
        &self,
        worker: Option<String>,
        window: Duration,
    ) -> Result<Vec<(String, u64)>, ReadError> {
        let (sender, answer) = oneshot::channel();
        self.ask(HistoryRequest::Rejects(worker, window, sender), answer).await
    }

    /// The workers seen last, latest first.
    #[expect(clippy::unused_async, reason = "callers need not know that the disk is not used")]
    pub async fn workers(&self, limit: usize) -> Vec<WorkerRecord> {
        lock(&self.shared.book).workers(limit)
    }

    /// The blocks found last, latest first.
    #[expect(clippy::unused_async, reason = "callers need not know that the disk is not used")]
    pub async fn blocks(&self, limit: usize) -> Vec<BlockRecord> {
        lock(&self.shared.book).blocks(limit)
    }

    pub fn state(&self) -> LedgerState {
        lock(&self.shared.state).clone()
    }

    /// Changes `ledger.keep_history`.
    pub(crate) fn set_keep_history(&self, keep: Duration) {
        self.shared.keep_history_s.store(keep.as_secs(), Relaxed);
    }

    /// Writes everything to disk and ends the ledger's threads.
    pub async fn stop(&self) {
        let (done, ended) = oneshot::channel();
        if self.samples.try_send(Stop(done)).is_err() {
            return;
        }
        if let Err(Elapsed { .. }) = timeout(STOP_MAX, ended).await {
            warn!("the disk is too slow: the ledger's last minute may be lost");
        }
    }

    async fn ask<T>(
        &self,
        question: HistoryRequest,
        answer: oneshot::Receiver<Result<T, ReadError>>,
    ) -> Result<T, ReadError> {
        let gone = || ReadError::Unavailable("gatewayd is stopping".into());
        self.questions.try_send(question).map_err(|refused| match refused {
            TrySendError::Full(_) => ReadError::Busy,
            TrySendError::Disconnected(_) => gone(),
        })?;
        match timeout(ANSWER_MAX, answer).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(gone())),
            Err(Elapsed { .. }) => Err(ReadError::TimedOut),
        }
    }
}

/// Runs a thread, and makes a crash of it visible.
fn start(name: &str, shared: &Arc<LedgerShared>, run: impl FnOnce() + Send + 'static) {
    let alarm = CrashGuard { shared: Arc::clone(shared) };
    let run = move || {
        run();
        std::mem::forget(alarm);
    };
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(run) {
        error!(
            "cannot start a thread for the ledger ({name}): {error}; restart gatewayd to get \
             history again"
        );
    }
}

/// Dropped only by a panic, or if there is no thread at all.
struct CrashGuard {
    shared: Arc<LedgerShared>,
}

impl Drop for CrashGuard {
    fn drop(&mut self) {
        let reason = "a ledger thread crashed, which is a bug in gatewayd: mining goes on, but \
                      history is not recorded. Restart gatewayd, and please report its log";
        error!("{reason}");
        *lock(&self.shared.state) = LedgerState::Degraded { reason: reason.into() };
    }
}

fn sample(
    shared: &LedgerShared,
    inputs: &Inputs,
    stop: &Receiver<Stop>,
    writes: &SyncSender<Stop>,
) {
    loop {
        let wanted = stop.recv_timeout(until_next_sample());
        let seen = Seen {
            counters: inputs.counters.view(),
            miners: inputs.roster.miners(),
            workers: inputs.roster.workers(),
        };
        let news = (inputs.blocks)();
        let mut book = lock(&shared.book);
        book.sample(moment(), &seen);
        news.into_iter().for_each(|news| book.hear(news));
        match wanted {
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => book.close_minute(),
            Ok(stop) => {
                book.close_minute();
                // The writer exists until this was sent, or it crashed.
                let _ = writes.try_send(stop);
            }
        }
        return;
    }
}

fn write(shared: &LedgerShared, mut keeper: Keeper, stop: &Receiver<Stop>) {
    loop {
        keeper.turn(
            &shared.book,
            moment(),
            Duration::from_secs(shared.keep_history_s.load(Relaxed)),
        );
        if shared.is_suspect.swap(false, Relaxed) {
            keeper.inspect(&shared.book, moment());
        }
        let at = moment();
        *lock(&shared.state) = keeper.state(at.now);
        match stop.recv_timeout(WRITE_EACH) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return keeper.end(&shared.book, moment()),
            Ok(Stop(done)) => {
                keeper.end(&shared.book, moment());
                // Closes the file first.
                drop(keeper);
                let _ = done.send(());
                return;
            }
        }
    }
}

fn answer(shared: &LedgerShared, mut reader: Reader, asked: &Receiver<HistoryRequest>) {
    let failed = |unread: Unread| {
        if unread.is_damage {
            shared.is_suspect.store(true, Relaxed);
        }
        unread.error
    };
    // Ends when no handle is left.
    for question in asked {
        let now = moment().unix.as_secs();
        match question {
            // Nobody needs the answer if the caller has given up.
            HistoryRequest::History(_, to) if to.is_closed() => {}
            HistoryRequest::Rejects(_, _, to) if to.is_closed() => {}
            HistoryRequest::History(query, to) => {
                let _ = to.send(reader.history(&query, now).map_err(failed));
            }
            HistoryRequest::Rejects(worker, window, to) => {
                let _ = to.send(reader.rejects(worker.as_deref(), window, now).map_err(failed));
            }
        }
    }
}

/// Samples are taken at whole seconds of the wall clock, so that each minute ends with one.
fn until_next_sample() -> Duration {
    let each = SAMPLE_EACH.as_millis();
    let rest = each - moment().unix.as_millis() % each;
    u64::try_from(rest).map_or(SAMPLE_EACH, Duration::from_millis)
}

fn moment() -> Moment {
    Moment { now: now(), unix: unix_now() }
}

/// Divides a minute evenly. Often enough for a dashboard, rarely enough to cost nothing.
const SAMPLE_EACH: Duration = Duration::from_secs(2);
const WRITE_EACH: Duration = Duration::from_secs(1);
/// A page requests a few series at once.
const QUESTIONS_MAX: usize = 32;
/// Including the time for those ahead in the queue.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Service managers kill after 10 s in total.
const STOP_MAX: Duration = Duration::from_secs(3);
