//! Everything that the API may read and act on. It has access to nothing else.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Instant};

use tokio::sync::watch;

use super::auth::SetupCode;
use crate::{
    blocks::BlockStats,
    books::{Counters, Roster},
    config::{Config, Outlook, SettingsFile},
    datum,
    ledger::Ledger,
    template::Templates,
    work::Work,
};

#[derive(Clone)]
pub(crate) struct Handles {
    pub(crate) counters: Arc<Counters>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) ledger: Ledger,
    pub(crate) templates: Templates,
    pub(crate) blocks: Arc<BlockStats>,
    /// None: there has been no work yet.
    pub(crate) work: watch::Receiver<Option<Arc<Work>>>,
    /// None: solo, or not started yet.
    pub(crate) pool: watch::Receiver<Option<datum::Pool>>,
    /// The current configuration.
    pub(crate) configs: watch::Receiver<Arc<Config>>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) tls: watch::Receiver<Arc<TlsFacts>>,
    pub(crate) settings: SettingsFile,
    /// The code for making the first settings.
    pub(crate) setup_code: Arc<SetupCode>,
    pub(crate) tries: Tries,
}

/// Tries the nodes and pools of new settings: those that the settings change, or all of them.
pub(crate) type Tries = Arc<dyn Fn(Outlook, bool) -> Trying + Send + Sync>;
pub(crate) type Trying = Pin<Box<dyn Future<Output = Vec<Tried>> + Send>>;

/// What became of trying a node or a pool.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    /// What to correct, like `node.0.rpc_password`.
    pub(crate) key: String,
    /// Like "node 127.0.0.1:8332".
    pub(crate) what: String,
    pub(crate) result: Result<String, String>,
}

impl Handles {
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }
}

/// What is known once all ports are open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Where miners connect.
    pub(crate) stratum: Vec<SocketAddr>,
    pub(crate) sv2_authority_key: Option<String>,
    /// The keys of ports that have their own, in the order of `[[stratum.port]]`.
    pub(crate) port_authority_keys: Vec<Option<String>>,
}

/// The certificate for miners that use TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TlsFacts {
    /// Whether there is a certificate.
    pub(crate) is_on: bool,
    /// The certificate of the gateway's own authority, as PEM, for miners.
    pub(crate) authority: Option<Arc<str>>,
    /// The names that the authority has signed for.
    pub(crate) names: Arc<[String]>,
    /// Why there is no certificate, or no new one.
    pub(crate) trouble: Option<Arc<str>>,
}

/// The current time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix_s: u64,
}

impl Moment {
    pub(super) fn age_s(&self, at: Instant) -> f64 {
        self.now.saturating_duration_since(at).as_secs_f64()
    }

    pub(super) fn unix_s_of(&self, at: Instant) -> u64 {
        self.unix_s.saturating_sub(self.now.saturating_duration_since(at).as_secs())
    }
}
