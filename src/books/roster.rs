//! Who mines here: live miners, and the workers behind their shares, with what each has done.
//!
//! The lists are locked when miners connect, leave or name a new worker. A share touches only
//! atomics of its own miner and worker: no lock, no allocation.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Waker,
    time::{Duration, Instant},
};

use super::{Score, client_mistakes::ClientMistakes};
use crate::work::{
    CoinbaseClass, Difficulty, Reject, Username,
    limits::{LimitRules, Limiter},
};

/// The protocol that a miner speaks.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum MinerProtocol {
    Sv1,
    Sv1Tls,
    Sv2Standard,
    Sv2Extended,
}

impl MinerProtocol {
    pub(crate) const ALL: [Self; 4] =
        [Self::Sv1, Self::Sv1Tls, Self::Sv2Standard, Self::Sv2Extended];

    /// The name in the API and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sv1 => "sv1",
            Self::Sv1Tls => "sv1+tls",
            Self::Sv2Standard => "sv2-standard",
            Self::Sv2Extended => "sv2-extended",
        }
    }
}

/// Everybody. Made once, shared by all that serve miners and all that look.
#[derive(Debug)]
pub struct Roster {
    /// Times below are in milliseconds since this.
    began: Instant,
    next: AtomicU64,
    miners: Mutex<HashMap<u64, Arc<Miner>>>,
    workers: Mutex<HashMap<Arc<str>, Arc<Worker>>>,
    /// Counts the shares of names beyond [`WORKERS_MAX`].
    others: Arc<Worker>,
    client_mistakes: ClientMistakes,
    limiter: Limiter,
}

/// One live SV1 connection or SV2 channel.
#[derive(Debug)]
pub(crate) struct Miner {
    /// Unique for the life of this process.
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) protocol: MinerProtocol,
    pub(crate) connected: Instant,
    pub(crate) score: Score,
    difficulty: AtomicU64,
    /// The name that it logged in with, where a pool can pay nobody by it.
    unpayable: Mutex<Option<Username>>,
    about: Mutex<MinerInfo>,
    eviction: Arc<Eviction>,
}

/// Lets others close a connection, or one channel of it.
#[derive(Debug, Default)]
pub struct Eviction {
    wanted: AtomicBool,
    /// For a channel: its connection's.
    connection: Option<Arc<Self>>,
    /// A channel of this connection is to be closed.
    has_channel: AtomicBool,
    /// How many turns that has waited.
    turns: AtomicU8,
    /// When it came in; while that is unknown, so is its silence.
    came: OnceLock<Instant>,
    /// Milliseconds from then to when it was last heard.
    heard: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

/// What a miner says about itself, and what it was given for it.
#[derive(Clone, Debug)]
pub struct MinerInfo {
    /// SV1's user agent; SV2's vendor and hardware, `vendor/hardware/firmware`.
    pub user_agent: Box<str>,
    pub class: CoinbaseClass,
    /// Names it has sent shares with, latest last; bounded.
    pub workers: Vec<Username>,
}

/// Everything that one username has done since this process began, over all its connections.
#[derive(Debug)]
pub struct Worker {
    /// A new one each time the name is entered in the roster.
    pub(crate) id: u64,
    pub(crate) name: Username,
    pub(crate) score: Score,
}

impl Roster {
    pub fn new(now: Instant) -> Arc<Self> {
        let name = Username("(others)".into());
        let others = Worker { id: 0, name, score: Score::default() };
        Arc::new(Self {
            began: now,
            next: AtomicU64::new(1),
            miners: Mutex::default(),
            workers: Mutex::default(),
            others: Arc::new(others),
            client_mistakes: ClientMistakes::default(),
            limiter: Limiter::new(LimitRules::none(), now),
        })
    }

    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// Who connected to the wrong port, or asked for too much.
    pub(crate) fn client_mistakes(&self) -> &ClientMistakes {
        &self.client_mistakes
    }

    /// Who may come in, and how much they may ask for.
    pub(crate) fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Enters a miner; it leaves when the returned value is dropped.
    pub fn enter(
        self: &Arc<Self>,
        peer: SocketAddr,
        protocol: MinerProtocol,
        about: MinerInfo,
        eviction: &Arc<Eviction>,
        now: Instant,
    ) -> RosterEntry {
        let miner = Arc::new(Miner {
            id: self.next.fetch_add(1, Relaxed),
            peer,
            protocol,
            connected: now,
            score: Score::default(),
            difficulty: AtomicU64::default(),
            unpayable: Mutex::default(),
            about: Mutex::new(about),
            eviction: Arc::clone(eviction),
        });
        lock(&self.miners).insert(miner.id, Arc::clone(&miner));
        RosterEntry { roster: Arc::clone(self), miner }
    }

    /// All that are here now, in no particular order.
    pub(crate) fn miners(&self) -> Vec<Arc<Miner>> {
        lock(&self.miners).values().cloned().collect()
    }

    /// How many are here now.
    pub(crate) fn len(&self) -> usize {
        lock(&self.miners).len()
    }

    pub(crate) fn miner(&self, id: u64) -> Option<Arc<Miner>> {
        lock(&self.miners).get(&id).cloned()
    }

    /// The account of `name`, opened if necessary.
    pub fn worker(&self, name: &Username) -> Arc<Worker> {
        let mut workers = lock(&self.workers);
        if let Some(worker) = workers.get(&name.0) {
            return Arc::clone(worker);
        }
        if workers.len() >= WORKERS_MAX {
            forget_idle(&mut workers);
        }
        if workers.len() >= WORKERS_MAX {
            return Arc::clone(&self.others);
        }
        let id = self.next.fetch_add(1, Relaxed);
        let worker = Arc::new(Worker { id, name: name.clone(), score: Score::default() });
        workers.insert(Arc::clone(&name.0), Arc::clone(&worker));
        worker
    }

    /// Everyone who has sent a share, in no particular order.
    pub(crate) fn workers(&self) -> Vec<Arc<Worker>> {
        let mut all: Vec<_> = lock(&self.workers).values().cloned().collect();
        if self.others.score.accepted.load(Relaxed) > 0 {
            all.push(Arc::clone(&self.others));
        }
        all
    }
}

/// A miner's entry in the roster, for as long as this lives.
#[derive(Debug)]
pub struct RosterEntry {
    roster: Arc<Roster>,
    miner: Arc<Miner>,
}

impl RosterEntry {
    pub(crate) fn miner(&self) -> &Arc<Miner> {
        &self.miner
    }

    /// Counts a share that was accepted at `credited` and really has difficulty `real`.
    pub fn accept(&self, worker: &Worker, credited: f64, real: f64, is_block: bool, now: Instant) {
        let at = now.saturating_duration_since(self.roster.began);
        self.miner.score.accept_alone(credited, real, is_block, at);
        worker.score.accept(credited, real, is_block, at);
    }

    pub fn reject(&self, worker: Option<&Worker>, reject: Reject) {
        self.miner.score.reject(reject);
        if let Some(worker) = worker {
            worker.score.reject(reject);
        }
    }
}

impl Drop for RosterEntry {
    fn drop(&mut self) {
        lock(&self.roster.miners).remove(&self.miner.id);
    }
}

impl Miner {
    /// The difficulty that it was last told.
    pub(crate) fn difficulty(&self) -> f64 {
        f64::from_bits(self.difficulty.load(Relaxed))
    }

    pub(crate) fn set_difficulty(&self, difficulty: Difficulty) {
        self.difficulty.store(difficulty.get().to_bits(), Relaxed);
    }

    pub(crate) fn about(&self) -> MinerInfo {
        lock(&self.about).clone()
    }

    pub(crate) fn class(&self) -> CoinbaseClass {
        lock(&self.about).class
    }

    /// Replaces what the miner says about itself.
    pub(crate) fn describe(&self, user_agent: &str, class: CoinbaseClass) {
        let mut about = lock(&self.about);
        about.user_agent = user_agent.into();
        about.class = class;
    }

    pub(crate) fn set_unpayable(&self, name: Option<Username>) {
        *lock(&self.unpayable) = name;
    }

    pub(crate) fn unpayable(&self) -> Option<Username> {
        lock(&self.unpayable).clone()
    }

    /// Notes a name that the miner sends shares with.
    pub(crate) fn add_worker(&self, name: &Username) {
        let mut about = lock(&self.about);
        about.workers.retain(|known| known != name);
        if about.workers.len() == WORKERS_NAMED_MAX {
            about.workers.remove(0);
        }
        about.workers.push(name.clone());
    }

    /// Sends the miner away, with everything else on its connection.
    pub(crate) fn evict(&self) {
        self.eviction.request();
    }
}

impl Eviction {
    /// For one channel of a connection.
    pub(crate) fn of_channel(connection: &Arc<Self>) -> Self {
        Self { connection: Some(Arc::clone(connection)), ..Self::default() }
    }

    /// Whether both belong to the same connection.
    pub(crate) fn shares_connection_with(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let [own, others] = [self, other].map(|it| it.connection.as_ref().unwrap_or(it));
        Arc::ptr_eq(own, others)
    }

    pub(crate) fn request(&self) {
        self.wanted.store(true, Relaxed);
        match &self.connection {
            Some(connection) => {
                connection.request_channels();
            }
            None => self.wake(),
        }
    }

    /// Channels of this connection are to be closed.
    pub(crate) fn request_channels(&self) {
        // Whoever sees this must also see which ones.
        self.has_channel.store(true, Release);
        self.wake();
    }

    /// Whether channels are to be closed now; the connection asks once a turn. Not before all that
    /// they sent has been read, unless more keeps coming.
    pub(crate) fn take_channels(&self, is_read: bool) -> bool {
        if !self.has_channels() {
            return false;
        }
        if !is_read && self.turns.fetch_add(1, Relaxed) < TURNS_MAX {
            return false;
        }
        self.turns.store(0, Relaxed);
        self.has_channel.swap(false, Acquire)
    }

    pub(crate) fn has_channels(&self) -> bool {
        self.has_channel.load(Relaxed)
    }

    fn wake(&self) {
        if let Some(waker) = lock(&self.waker).as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Notes when the connection came in.
    pub(crate) fn note_connected(&self, now: Instant) {
        // Once is enough.
        let _ = self.came.set(now);
    }

    /// Notes that something was received from it.
    pub(crate) fn note_activity(&self, now: Instant) {
        if let Some(came) = self.came.get() {
            let after = now.saturating_duration_since(*came).as_millis();
            self.heard.store(after.try_into().unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// How long nothing has been received from it.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        if let Some(connection) = &self.connection {
            return connection.silence(now);
        }
        let Some(came) = self.came.get() else { return Duration::ZERO };
        let heard = Duration::from_millis(self.heard.load(Relaxed));
        now.saturating_duration_since(*came).saturating_sub(heard)
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Whom [`Self::request`] wakes: the task that serves the connection.
    pub(crate) fn set_waker(&self, waker: &Waker) {
        *lock(&self.waker) = Some(waker.clone());
    }
}

/// Makes room for many at a time: drops the workers that nobody uses now and that have been silent
/// longest. What they have done is in the ledger.
fn forget_idle(workers: &mut HashMap<Arc<str>, Arc<Worker>>) {
    let last = |worker: &Worker| worker.score.last_share.load(Relaxed);
    let latest = workers.values().map(|worker| last(worker)).max().unwrap_or_default();
    // What is newer may not be in the ledger yet.
    let until = latest.saturating_sub(SETTLED_AFTER_MS);
    let is_idle = |worker: &&Arc<Worker>| Arc::strong_count(worker) == 1 && last(worker) <= until;
    let mut idle: Vec<_> =
        workers.values().filter(is_idle).map(|it| (last(it), Arc::clone(&it.name.0))).collect();
    if idle.len() > FORGOTTEN_AT_ONCE {
        idle.select_nth_unstable(FORGOTTEN_AT_ONCE);
        idle.truncate(FORGOTTEN_AT_ONCE);
    }
    for (_, name) in idle {
        workers.remove(&name);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can leave them half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A farm has thousands; a stranger who makes up names must not fill memory. About 400 bytes each.
const WORKERS_MAX: usize = 100_000;
/// Searching all of them for each newcomer would take longer than the rest.
const FORGOTTEN_AT_ONCE: usize = 5_000;
/// Two reads each: more than a socket's buffer holds.
const TURNS_MAX: u8 = 64;
/// The ledger looks every two seconds.
const SETTLED_AFTER_MS: u64 = 30_000;
/// Enough for a proxy with a shelf of miners; the list is for people to read.
const WORKERS_NAMED_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn roster() -> (Arc<Roster>, Instant) {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        (Roster::new(now), now)
    }

    fn about() -> MinerInfo {
        MinerInfo { user_agent: "x/1".into(), class: CoinbaseClass::Default, workers: Vec::new() }
    }

    #[test]
    fn shares_count_for_the_miner_and_for_its_worker() {
        let (roster, now) = roster();
        let peer = "127.0.0.1:1".parse().unwrap();
        let first = roster.enter(peer, MinerProtocol::Sv1, about(), &Arc::default(), now);
        let second = roster.enter(peer, MinerProtocol::Sv2Standard, about(), &Arc::default(), now);
        let worker = roster.worker(&Username("a.b".into()));
        let later = now + Duration::from_millis(1500);
        first.accept(&worker, 2.0, 7.5, false, later);
        first.accept(&worker, 2.0, 3.5, false, now);
        second.accept(&worker, 0.5, 99.0, true, later);
        second.reject(Some(&worker), Reject::Duplicate);
        let view = first.miner().score.view();
        assert_eq!((view.accepted, view.difficulty, view.best, view.blocks), (2, 4.0, 7.5, 0));
        let view = roster.worker(&Username("a.b".into())).score.view();
        assert_eq!((view.accepted, view.difficulty, view.best, view.blocks), (3, 4.5, 99.0, 1));
        assert_eq!(view.last_share, Some(Duration::from_millis(1500)));
        assert_eq!(view.rejected[Reject::Duplicate as usize], 1);
        assert_eq!(view.rejected_total(), 1);
    }

    #[test]
    fn miners_leave_when_dropped() {
        let (roster, now) = roster();
        let presence = roster.enter(
            "127.0.0.1:1".parse().unwrap(),
            MinerProtocol::Sv1,
            about(),
            &Arc::default(),
            now,
        );
        let id = presence.miner().id;
        assert!(roster.miner(id).is_some());
        drop(presence);
        assert!(roster.miner(id).is_none() && roster.miners().is_empty());
    }

    #[test]
    fn made_up_names_share_an_account_while_all_are_in_use() {
        let (roster, _) = roster();
        let name = |n| Username(format!("w{n}").into());
        let held: Vec<_> = (0..WORKERS_MAX).map(|n| roster.worker(&name(n))).collect();
        let one = roster.worker(&Username("late".into()));
        let two = roster.worker(&Username("later".into()));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(roster.workers().len(), WORKERS_MAX);
        drop(held);
    }

    #[test]
    fn names_that_nobody_has_any_more_make_room_oldest_first() {
        let (roster, now) = roster();
        let peer = "127.0.0.1:1".parse().unwrap();
        let presence = roster.enter(peer, MinerProtocol::Sv1, about(), &Arc::default(), now);
        let name = |n| Username(format!("w{n}").into());
        let mut first = None;
        for n in 0..WORKERS_MAX {
            let worker = roster.worker(&name(n));
            let at = now + Duration::from_secs(n as u64);
            presence.accept(&worker, 1.0, 1.0, false, at);
            first.get_or_insert(worker);
        }
        let late = roster.worker(&Username("late".into()));
        assert_eq!(&*late.name.0, "late");
        let is_known = |n| roster.workers().iter().any(|worker| worker.name == name(n));
        assert!(is_known(0), "somebody mines with it");
        assert!(!is_known(1) && !is_known(FORGOTTEN_AT_ONCE));
        assert!(is_known(FORGOTTEN_AT_ONCE + 1) && is_known(WORKERS_MAX - 1));
        let back = roster.worker(&name(1));
        assert_eq!(back.score.view().accepted, 0);
        assert!(back.id > late.id);
    }

    #[test]
    fn names_of_a_miner_are_bounded_and_latest_last() {
        let (roster, now) = roster();
        let presence = roster.enter(
            "127.0.0.1:1".parse().unwrap(),
            MinerProtocol::Sv1,
            about(),
            &Arc::default(),
            now,
        );
        for n in 0..100 {
            presence.miner().add_worker(&Username(format!("w{n}").into()));
        }
        presence.miner().add_worker(&Username("w40".into()));
        let workers = presence.miner().about().workers;
        assert_eq!(workers.len(), WORKERS_NAMED_MAX);
        assert_eq!(&*workers[WORKERS_NAMED_MAX - 1].0, "w40");
    }
}
