//! A CPU miner with real Stratum V1 or V2 over TCP: for the demo, for tests, for regtest.
//!
//! `message` is V1's syntax, `sv1` and `sv2` the protocols without a socket, `session` either of
//! them; `conn` is the socket, `scan` and `hasher` the hashing, on its own thread. Not meant to
//! earn anything.

mod cli;
mod conn;
mod hasher;
mod in_flight;
pub(in crate::devnet) mod message;
pub(in crate::devnet) mod scan;
mod session;
mod stats;
mod sv1;
mod sv2;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(in crate::devnet) use cli::cli_duration;
pub(crate) use cli::{MinerArgs, run_cli};
pub use stats::MinerStats;
pub(super) use stats::REJECT_KINDS_MAX;

use self::{conn::MinerConn, hasher::Hasher};
use crate::sv2::noise::AuthorityPublicKey;

/// A miner's protocol.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum MinerProtocol {
    /// Stratum V1.
    #[default]
    Sv1,
    /// Stratum V2 with a standard channel: headers only.
    Sv2Standard,
    /// Stratum V2 with an extended channel: rolls coinbases too.
    Sv2Extended,
}

/// Where to mine, and as whom.
#[derive(Clone, Debug)]
pub struct MinerOptions {
    /// `host:port`.
    pub connect: String,
    pub protocol: MinerProtocol,
    /// V2: the authority that must have certified the server; none: trust any server.
    pub authority: Option<AuthorityPublicKey>,
    /// V2, standard channel: take extended jobs for the channel's group.
    pub group_jobs: bool,
    pub username: String,
    /// V1 only.
    pub password: String,
    /// In V2: vendor and, after a slash, firmware.
    pub user_agent: String,
    /// Roll version bits, if the server allows it.
    pub version_rolling: bool,
    /// V1 only: subscribe to changes of extranonce1.
    pub extranonce_subscribe: bool,
    /// In V2 this becomes the maximum target requested.
    pub suggest_difficulty: Option<f64>,
    /// Hashes per second; none: as many as a core can do.
    pub hashrate_max: Option<f64>,
}

impl Default for MinerOptions {
    fn default() -> Self {
        Self {
            connect: String::new(),
            protocol: MinerProtocol::default(),
            authority: None,
            group_jobs: false,
            username: "miner".into(),
            password: "x".into(),
            user_agent: concat!("gatewayd-miner/", env!("CARGO_PKG_VERSION")).into(),
            version_rolling: true,
            extranonce_subscribe: false,
            suggest_difficulty: None,
            hashrate_max: None,
        }
    }
}

/// Starts miners.
pub struct Miner;

impl Miner {
    /// Connects and reconnects, and mines until the handle is stopped or dropped.
    ///
    /// Must be called within a tokio runtime. Fails if no more threads can be started.
    pub fn start(options: MinerOptions) -> io::Result<MinerHandle> {
        let (sender, found) = mpsc::channel(FOUND_MAX);
        let hasher = Arc::new(Hasher::spawn(options.hashrate_max, sender)?);
        let stats = Arc::default();
        let shutdown = CancellationToken::new();
        let conn = MinerConn {
            options,
            hasher: Arc::clone(&hasher),
            found,
            stats: Arc::clone(&stats),
            shutdown: shutdown.clone(),
            serial: 0,
            moved_to: None,
        };
        let task = tokio::spawn(conn.run());
        Ok(MinerHandle { hasher, stats, shutdown, task: Some(task) })
    }
}

/// A running miner.
pub struct MinerHandle {
    hasher: Arc<Hasher>,
    stats: Arc<Mutex<MinerStats>>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl MinerHandle {
    /// What has happened so far.
    pub fn stats(&self) -> MinerStats {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone();
        MinerStats { hashes: self.hasher.hashes(), ..stats }
    }

    /// Stops hashing, waits briefly for outstanding answers, and hangs up.
    pub async fn stop(mut self) -> MinerStats {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            // The only possible error is a panic in the task, which is on stderr already.
            let _ = task.await;
        }
        self.stats()
    }
}

impl Drop for MinerHandle {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Solved shares queued between the thread and the connection. When full, hashing waits.
const FOUND_MAX: usize = 64;

#[cfg(test)]
#[path = "miner_tests.rs"]
mod tests;
