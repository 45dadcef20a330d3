//! What the API is given to look at and to act on. It reaches for nothing else.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tokio::sync::watch;

use super::auth::SetupCode;
use crate::{
    blocks::BlockStats,
    books::{Counters, Roster},
    config::{Config, SettingsFile},
    datum,
    ledger::Ledger,
    template::Templates,
    work::Work,
};

#[derive(Clone)]
pub struct Handles {
    pub counters: Arc<Counters>,
    pub roster: Arc<Roster>,
    pub ledger: Ledger,
    pub templates: Templates,
    pub blocks: Arc<BlockStats>,
    /// None: there has been no work yet.
    pub work: watch::Receiver<Option<Arc<Work>>>,
    /// None: solo, or not started yet.
    pub pool: watch::Receiver<Option<datum::Pool>>,
    /// What the configuration says now.
    pub configs: watch::Receiver<Arc<Config>>,
    pub facts: Arc<Facts>,
    pub tls: watch::Receiver<Arc<TlsFacts>>,
    pub settings: SettingsFile,
    /// For whoever makes the first settings.
    pub setup_code: Arc<SetupCode>,
}

impl Handles {
    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configs.borrow())
    }
}

/// What is known once everything listens.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where miners connect.
    pub stratum: Vec<SocketAddr>,
    pub sv2_authority_key: Option<String>,
    /// Those of ports that have their own, in the order of `[[stratum.port]]`.
    pub port_authority_keys: Vec<Option<String>>,
}

/// What miners are shown that speak TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsFacts {
    /// There is a certificate to show.
    pub is_on: bool,
    /// That of the gateway's own authority, as PEM, for miners.
    pub authority: Option<Arc<str>>,
    /// What that one has signed for.
    pub names: Arc<[String]>,
    /// Why there is no certificate, or no new one.
    pub trouble: Option<Arc<str>>,
}

/// The time, as answers need it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub now: Instant,
    pub unix_s: u64,
}

impl Moment {
    pub(super) fn age_s(&self, at: Instant) -> f64 {
        self.now.saturating_duration_since(at).as_secs_f64()
    }

    pub(super) fn unix_s_of(&self, at: Instant) -> u64 {
        self.unix_s.saturating_sub(self.now.saturating_duration_since(at).as_secs())
    }
}
