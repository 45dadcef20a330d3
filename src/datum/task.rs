//! The task that keeps a pool connected.

mod change;

use std::{
    fs::{self, File},
    io::Read,
    ops::ControlFlow,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, spawn_blocking},
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::change::{Drain, PoolChange};
use super::{
    client::{ClientError, OUT_MAX},
    conn::{ConnEvent, ConnPhase, PoolConn},
    hints::Hints,
    memory::{FILE_LEN_MAX, PoolMemory},
    options::DatumConfig,
    protocol::cipher::Identity,
    relay::Relay,
    retry::{self, Ended, Next, Past},
    stats::PoolStats,
    status::PoolStatus,
};
use crate::{
    clock::now,
    work::{Payout, PoolHealth, ShareBatch, Template, Work},
};

/// The pool, as everybody else sees it.
#[derive(Clone)]
pub struct Pool {
    /// Present from the first configuration on; the last one stays while the pool is away.
    pub payout: watch::Receiver<Option<Arc<Payout>>>,
    pub status: watch::Receiver<PoolStatus>,
    /// The same in short, for the task that makes work.
    pub health: watch::Receiver<PoolHealth>,
    /// Shares that miners have been told are accepted.
    pub shares: mpsc::Sender<ShareBatch>,
    pub stats: Arc<PoolStats>,
}

/// The task's inputs and outputs.
pub struct Inputs {
    pub templates: watch::Receiver<Option<Arc<Template>>>,
    pub work: watch::Receiver<Option<Arc<Work>>>,
    /// Called when the pool reports a new block.
    pub new_block: Arc<dyn Fn() + Send + Sync>,
    pub shutdown: CancellationToken,
}

/// Starts the task, which follows `configs`. It ends after `shutdown`, once the last shares are
/// answered or given up.
pub fn spawn(
    mut configs: watch::Receiver<Arc<DatumConfig>>,
    inputs: Inputs,
) -> (Pool, JoinHandle<()>) {
    let config = Arc::clone(&configs.borrow_and_update());
    let mut rng = StdRng::from_entropy();
    let stats = Arc::new(PoolStats::default());
    let mut relay = Relay::new(config.relay(), Identity::generate(&mut rng), Arc::clone(&stats));
    if let Some(path) = &config.memory_file {
        relay.remember(read_memory(path));
    }
    let (payout, payout_watch) = watch::channel(None);
    let (status, status_watch) = watch::channel(relay.status().clone());
    let (health, health_watch) = watch::channel(relay.status().health());
    let (shares_in, shares) = mpsc::channel(SHARE_BATCHES_MAX);
    let phase = if config.pools.is_empty() { ConnPhase::Idle } else { ConnPhase::Waiting(now()) };
    let task = PoolTask {
        config,
        configs,
        inputs,
        rng,
        relay,
        payout,
        status,
        health,
        shares,
        out: Vec::new(),
        at: 0,
        change: None,
        without_pool: now(),
        phase,
        leaving: ConnPhase::Idle,
        hints: Hints::default(),
    };
    let pool = Pool {
        payout: payout_watch,
        status: status_watch,
        health: health_watch,
        shares: shares_in,
        stats,
    };
    (pool, tokio::spawn(task.run()))
}

struct PoolTask {
    config: Arc<DatumConfig>,
    configs: watch::Receiver<Arc<DatumConfig>>,
    inputs: Inputs,
    rng: StdRng,
    relay: Relay,
    payout: watch::Sender<Option<Arc<Payout>>>,
    status: watch::Sender<PoolStatus>,
    health: watch::Sender<PoolHealth>,
    shares: mpsc::Receiver<ShareBatch>,
    /// Bytes for the pool.
    out: Vec<u8>,
    /// Which pool is tried or used.
    at: usize,
    change: Option<PoolChange>,
    /// Since when there is no pool, or when there last was none.
    without_pool: Instant,
    phase: ConnPhase,
    /// The connection to the pool that was in use before, while it has its last shares to answer.
    leaving: ConnPhase,
    hints: Hints,
}

impl PoolTask {
    async fn run(mut self) {
        self.on_template();
        self.on_work();
        while self.turn().await.is_continue() {
            // A pool that never stops sending must not hold up timers or shares.
            self.on_due();
            self.take_shares();
            self.tell();
        }
        self.finish().await;
    }

    /// Waits for one thing to happen and deals with it.
    async fn turn(&mut self) -> ControlFlow<()> {
        let change = self.change.as_ref().and_then(PoolChange::deadline);
        let deadlines = [self.relay.deadline(), self.hints.deadline(), change];
        let deadline = deadlines.into_iter().flatten().min().unwrap_or_else(|| now() + IDLE);
        // Unbiased: no pool may starve another pool or a change.
        tokio::select! {
            () = self.inputs.shutdown.cancelled() => return ControlFlow::Break(()),
            Ok(()) = self.inputs.templates.changed() => self.on_template(),
            Ok(()) = self.inputs.work.changed() => self.on_work(),
            turn = self.phase.turn(&self.out) => self.on_turn(turn),
            Some(batch) = self.shares.recv() => self.on_batch(batch),
            Ok(()) = self.configs.changed() => self.on_config().await,
            turn = PoolChange::turn(&mut self.change) => self.on_change(turn),
            turn = self.leaving.turn(self.relay.leaving_out()) => self.on_leaving(turn),
            () = sleep_until(deadline.into()) => {}
        }
        ControlFlow::Continue(())
    }

    fn on_due(&mut self) {
        let now = now();
        if self.relay.deadline().is_some_and(|deadline| now >= deadline)
            && let Err(error) = self.relay.on_deadline(now)
        {
            self.end(Ended::Failed, &error.to_string());
        }
        self.relay.on_leaving_deadline(now, &mut self.out);
        if !self.relay.is_leaving() {
            self.leaving = ConnPhase::Idle;
        }
        self.on_change_due(now);
    }

    /// Takes the shares there are, but not so many that reading from the pool is starved.
    fn take_shares(&mut self) {
        for _ in 0..BATCHES_A_TURN {
            let Ok(batch) = self.shares.try_recv() else { break };
            self.on_batch(batch);
        }
    }

    fn on_batch(&mut self, mut batch: ShareBatch) {
        let shares = std::mem::take(&mut batch.shares);
        self.relay.on_shares(shares, now(), &mut self.out);
    }

    fn on_template(&mut self) {
        let template = self.inputs.templates.borrow_and_update().clone();
        let Some(template) = template else { return };
        if let Err(error) = self.relay.on_template(&template, now(), &mut self.out) {
            self.end(Ended::Failed, &error.to_string());
        }
        self.on_change_template(&template);
    }

    fn on_work(&mut self) {
        let work = self.inputs.work.borrow_and_update().clone();
        if let Some(work) = work {
            self.relay.on_work(&work);
        }
    }

    fn on_turn(&mut self, turn: ConnEvent) {
        match turn {
            ConnEvent::Retry => self.connect(),
            ConnEvent::Connected(Ok(stream)) => {
                let now = now();
                self.phase = ConnPhase::Connected(Box::new(PoolConn::new(stream, now)));
                let Some(pool) = self.config.pools.get(self.at) else { return };
                let mut seed = [0; 32];
                self.rng.fill_bytes(&mut seed);
                let (name, key) = (pool.name(), pool.public_key);
                if let Err(error) = self.relay.connect(&name, key, seed, now, &mut self.out) {
                    self.end(Ended::Failed, &error.to_string());
                }
            }
            ConnEvent::Connected(Err(error)) => {
                self.end(Ended::Unreached, &format!("no connection: {error}"));
            }
            ConnEvent::Read(Ok(0)) => self.end(Ended::Closed, "it closed the connection"),
            ConnEvent::Read(Ok(len)) => self.on_bytes(len),
            ConnEvent::Written(Ok(len)) => {
                self.out.drain(..len);
                self.relay.send_held(now(), &mut self.out);
            }
            ConnEvent::Read(Err(error)) | ConnEvent::Written(Err(error)) => {
                self.end(Ended::Closed, &format!("the connection was lost: {error}"));
            }
        }
        if self.out.len() > OUT_MAX {
            self.end(Ended::Failed, &ClientError::Unread.to_string());
        }
    }

    fn on_bytes(&mut self, len: usize) {
        let ConnPhase::Connected(conn) = &self.phase else { return };
        if let Err(error) = self.relay.on_bytes(conn.received(len), now(), &mut self.out) {
            self.end(Ended::Failed, &error.to_string());
        }
    }

    fn connect(&mut self) {
        let Some(pool) = self.config.pools.get(self.at) else { return };
        debug!(%pool, "connecting");
        self.relay.name_pool(&pool.name());
        self.phase = ConnPhase::connect(pool, self.config.backoff.connect_timeout);
    }

    /// The current attempt or connection is over: moves on to the next.
    fn end(&mut self, ended: Ended, why: &str) {
        // Shares accepted before this was known are on their way, like those sent on the
        // connection.
        self.take_shares();
        let now = now();
        self.out.clear();
        let backoff = self.config.backoff;
        let lasted = match &self.phase {
            ConnPhase::Connected(conn) => {
                now.saturating_duration_since(conn.since) >= backoff.lasted
            }
            _ => false,
        };
        let past = Past { lasted: lasted && self.relay.is_up(), served: self.relay.served() };
        if past.lasted {
            self.without_pool = now;
        }
        // From here on, the pools to change to are tried anyway, in their turn.
        if self.change.as_ref().is_some_and(|change| change.is_of(&self.config)) {
            self.drop_change();
        }
        let (at, wait) = match retry::next(ended, past, self.at, self.config.pools.len()) {
            Next::Quick => (0, self.random(Duration::ZERO, backoff.quick)),
            Next::Pool(at) => (at, Duration::ZERO),
            Next::Wait => {
                self.relay.none_left(now);
                let is_soon = now < self.without_pool + backoff.soon;
                let wait = match is_soon {
                    true => self.random(backoff.soon_least, backoff.soon_most),
                    false => self.random(backoff.least, backoff.most),
                };
                (0, wait)
            }
        };
        self.at = at;
        let Some(pool) = self.config.pools.get(at) else { return };
        self.relay.disconnected(why, &format!("trying {pool} in {wait:.1?}"), now);
        self.phase = ConnPhase::Waiting(now + wait);
    }

    fn random(&mut self, least: Duration, most: Duration) -> Duration {
        self.rng.gen_range(least..=most.max(least))
    }

    /// Publishes what has changed.
    fn tell(&mut self) {
        let updates = self.relay.take_news();
        if updates.payout {
            self.payout.send_replace(self.relay.payout().cloned());
        }
        if updates.status {
            let status = self.relay.status();
            let health = status.health();
            self.health.send_if_modified(|old| std::mem::replace(old, health) != health);
            self.status.send_replace(status.clone());
        }
        if updates.memory
            && let Some(path) = self.config.memory_file.clone()
        {
            let text = self.relay.memory().render();
            // Not awaited: if it fails, it can be learnt again.
            drop(spawn_blocking(move || write_memory(&path, &text)));
        }
        if updates.new_block {
            self.hints.offer();
        }
        if self.hints.take(now()) {
            (self.inputs.new_block)();
        }
    }

    /// Sends the last shares, waits a moment for answers, and counts what remains as lost.
    async fn finish(mut self) {
        self.shares.close();
        self.drain(Drain::Answers).await;
        self.relay.shut_down();
        self.tell();
    }
}

/// What an earlier run has learnt about pools; nothing if the file cannot be read.
fn read_memory(path: &Path) -> PoolMemory {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_LEN_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => PoolMemory::parse(&text),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                let path = path.display();
                warn!(
                    "{path} cannot be read: {error}. gatewayd has to learn again how its pools \
                     behave"
                );
            }
            PoolMemory::default()
        }
    }
}

fn write_memory(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        let path = path.display();
        warn!(
            "{path} cannot be written: {error}. Check that gatewayd may write to ledger.data_dir; \
             until then it has to learn again at each start how its pools behave"
        );
    }
}

/// Batches that may wait for the task. Senders count what finds no room.
pub(crate) const SHARE_BATCHES_MAX: usize = 4096;
/// Batches of shares taken between two reads.
const BATCHES_A_TURN: usize = 64;
/// How long to sleep when there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(3600);
