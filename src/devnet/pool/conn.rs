//! The pool's sockets: accepts gateways, runs a session for each, and carries out its owner's
//! commands.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand::{Rng, rngs::OsRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep_until, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{debug, info, warn};

use super::{
    habits::Habits,
    ledger::{Heard, Ledger, PoolStatsView, PoolTime, ShareRecord},
    options::{Control, Fault, PoolConfig, PoolOptions, Probe},
    session::{PoolClose, PoolSession},
};
use crate::{clock, datum::Identity};

/// A DATUM pool in this process.
pub struct Pool;

/// The controls of a running pool, which stops when the last copy is dropped.
#[derive(Clone)]
pub struct PoolHandle {
    /// Where it listens, with the actual port.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    running: Arc<Mutex<Option<Running>>>,
}

/// Shared by all tasks of a pool.
struct Shared {
    identity: Arc<Identity>,
    ledger: Mutex<Ledger>,
    control: watch::Sender<Control>,
}

/// Between `start` and `stop`.
struct Running {
    stop: DropGuard,
    tasks: TaskTracker,
}

impl Pool {
    pub async fn start(options: PoolOptions, listen: SocketAddr) -> io::Result<PoolHandle> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let identity = options.identity.unwrap_or_else(|| Identity::generate(&mut OsRng));
        let shared = Arc::new(Shared {
            identity: Arc::new(identity),
            ledger: Mutex::new(Ledger::listening(options.messages_kept)),
            control: watch::Sender::new(Control {
                habits: options.habits,
                ..Control::new(options.config)
            }),
        });
        let running = Running::start(listener, &shared);
        Ok(PoolHandle { addr, shared, running: Arc::new(Mutex::new(Some(running))) })
    }
}

impl PoolHandle {
    /// The long-term key in the form that gateways are configured with: Ed25519, then X25519.
    pub fn public_key_hex(&self) -> String {
        self.shared.identity.public().to_hex()
    }

    pub fn stats(&self) -> PoolStatsView {
        self.shared.ledger().stats.clone()
    }

    /// The latest shares, oldest first.
    pub fn recent_shares(&self) -> Vec<ShareRecord> {
        self.shared.ledger().recent().cloned().collect()
    }

    /// The latest blocks, oldest first.
    pub(crate) fn recent_blocks(&self) -> Vec<ShareRecord> {
        self.shared.ledger().blocks().cloned().collect()
    }

    /// The gateways' last messages, oldest first: see `PoolOptions::messages_kept`.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.ledger().heard().cloned().collect()
    }

    /// From now on the pool has this fault; None: no fault.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.shared.control.send_modify(|control| control.fault = fault);
    }

    pub fn config(&self) -> PoolConfig {
        PoolConfig::clone(&self.shared.control.borrow().config)
    }

    /// Changes the terms, and tells every gateway.
    pub fn set_config(&self, config: PoolConfig) {
        self.shared.control.send_modify(|control| control.config = config.into());
    }

    pub fn habits(&self) -> Habits {
        self.shared.control.borrow().habits
    }

    /// Changes how the pool treats its gateways, without telling them.
    pub fn set_habits(&self, habits: Habits) {
        self.shared.control.send_modify(|control| control.habits = habits);
    }

    /// Tells every gateway to check for a new block.
    pub fn notify_new_block(&self) {
        self.shared.control.send_modify(|control| control.new_blocks += 1);
    }

    /// Drops every connection.
    pub fn disconnect_all(&self) {
        self.shared.control.send_modify(|control| control.cuts += 1);
    }

    /// Asks every gateway for a job validation; the answers are only counted.
    pub fn probe(&self, probe: Probe) {
        self.shared.control.send_modify(|control| {
            let number = control.probe.as_ref().map_or(0, |(number, _)| *number);
            control.probe = Some((number + 1, probe));
        });
    }

    /// Closes the port and every connection. The memory is kept.
    pub async fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some(Running { stop, tasks }) = running {
            drop(stop);
            tasks.close();
            tasks.wait().await;
        }
    }

    /// Listens again, on the same port, with the same keys and memory.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.addr).await?;
        *lock(&self.running) = Some(Running::start(listener, &self.shared));
        Ok(())
    }
}

impl PoolHandle {
    /// Drops every connection and stops listening for a while, so that connecting fails. Comes back
    /// on the same port, with the same keys and memory.
    pub async fn leave_for(&self, absence: Duration) -> io::Result<()> {
        self.stop().await;
        tokio::time::sleep(absence).await;
        self.restart().await
    }

    /// Drops every connection and for a while hangs up on whoever connects, like a broken load
    /// balancer. Then it returns to its former fault.
    pub async fn hang_up_for(&self, absence: Duration) {
        let fault = self.shared.control.borrow().fault;
        self.set_fault(Some(Fault::RefuseConnections));
        self.disconnect_all();
        tokio::time::sleep(absence).await;
        self.set_fault(fault);
    }
}

impl Running {
    fn start(listener: TcpListener, shared: &Arc<Shared>) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (shared, token, spawner) = (Arc::clone(shared), stop.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = accept(&listener, &shared, &spawner, &token) => {}
            }
        });
        Self { stop: stop.drop_guard(), tasks }
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a gateway");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let refused = shared.control.borrow().has(Fault::RefuseConnections);
        let full = shared.ledger().stats.connections >= CONNECTIONS_MAX;
        if refused || full {
            debug!(%peer, full, "refused a gateway");
            continue;
        }
        let (shared, token) = (Arc::clone(shared), stop.clone());
        shared.ledger().stats.connections += 1;
        tasks.spawn(async move {
            let end = tokio::select! {
                biased;
                () = token.cancelled() => Ok(()),
                end = serve(stream, &shared) => end,
            };
            let mut ledger = shared.ledger();
            ledger.stats.connections -= 1;
            if let Err(error) = end {
                info!(%peer, %error, "a gateway's connection ended");
                ledger.stats.last_close = Some(error.to_string());
            }
        });
    }
}

/// Runs one connection to its end.
async fn serve(mut stream: TcpStream, shared: &Shared) -> Result<(), ConnError> {
    stream.set_nodelay(true)?;
    let mut watch = shared.control.subscribe();
    let mut control = watch.borrow_and_update().clone();
    let identity = Arc::clone(&shared.identity);
    let mut session = PoolSession::new(identity, OsRng.r#gen(), now(), &control);
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    loop {
        let deadline = session.deadline();
        let turn = tokio::select! {
            biased;
            changed = watch.changed() => match changed {
                Ok(()) => {
                    control = watch.borrow_and_update().clone();
                    session.on_control(now(), &control, &mut out)
                }
                Err(_) => return Ok(()),
            },
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                let bytes = input.split();
                let mut ledger = shared.ledger();
                session.on_bytes(&bytes, now(), &control, &mut ledger, &mut out)
            }
            () = sleep_until(deadline.unwrap_or_else(far).into()) => {
                session.on_deadline(now(), &control, &mut out)
            }
        };
        // Before acting on an error: the answers so far are valid.
        if !out.is_empty() {
            timeout(WRITE_TIMEOUT, stream.write_all(&out)).await.map_err(|_| ConnError::Slow)??;
            out.clear();
        }
        turn?;
    }
}

fn now() -> PoolTime {
    PoolTime { instant: clock::now(), unix: clock::unix_now().as_secs() }
}

fn far() -> Instant {
    clock::now() + Duration::from_secs(3600)
}

/// A panic elsewhere does not make the figures unreadable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection ends badly.
#[derive(Debug, thiserror::Error)]
enum ConnError {
    #[error(transparent)]
    PoolClose(#[from] PoolClose),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the gateway does not read")]
    Slow,
}

const CONNECTIONS_MAX: usize = 256;
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After an error of `accept`, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
