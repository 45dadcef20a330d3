//! What the API is given to look at and to act on. It reaches for nothing else.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{auth::SetupCode, settings::Settings};
use crate::{
    blocks::BlockStats,
    books::{Counters, Roster},
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
    pub facts: watch::Receiver<Arc<Facts>>,
    pub tls: watch::Receiver<Arc<TlsFacts>>,
    pub settings: Arc<dyn Settings>,
    /// For whoever makes the first settings.
    pub setup_code: Arc<SetupCode>,
}

/// What the configuration says, as far as answers depend on it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `host:port` of each `[[pool]]`, in order of preference.
    pub pools: Vec<Arc<str>>,
    /// The first settings are made, and hold.
    pub is_set_up: bool,
    /// `mining.address` as it is written.
    pub address: Option<Arc<str>>,
    /// The scriptPubKey of `mining.address`; none: it is not set yet.
    pub own_script: Option<Box<[u8]>>,
    /// Where miners connect.
    pub stratum: Vec<SocketAddr>,
    /// What some of those ports have of their own.
    pub ports: Vec<PortFacts>,
    pub sv2_authority_key: Option<String>,
    /// `template.stale_after`.
    pub stale_after: Duration,
    pub admin_password_file: Option<PathBuf>,
    /// Whether `/metrics` answers.
    pub metrics: bool,
    /// What stands before every path at the proxy in front; empty: nothing.
    pub base_path: Arc<str>,
    /// Names that the dashboard goes by besides those that no stranger can have.
    pub allowed_hosts: Arc<[Box<str>]>,
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

/// A port with rules of its own.
#[derive(Clone, Debug, Default)]
pub struct PortFacts {
    pub listen: Vec<SocketAddr>,
    pub difficulty_min: Option<f64>,
    pub difficulty_start: Option<f64>,
    pub difficulty_max: Option<f64>,
    pub max_coinbase: Option<usize>,
    pub sv2_authority_key: Option<String>,
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
