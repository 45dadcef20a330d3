//! Starts the API with what it needs.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    api::{self, Api, Facts, Handles, SetupCode, TlsFacts},
    blocks::BlockStats,
    books::{Counters, Roster},
    config::{self, Config, SettingsFile},
    datum,
    ledger::Ledger,
    sv2::noise::AuthorityPublicKey,
    template::Templates,
    work::Work,
};

/// What the API shares with the daemon while it runs.
pub(crate) struct ApiShared {
    /// None: `api.listen` is empty.
    pub(crate) api: Option<Api>,
    /// Lets in whoever makes the first settings.
    pub(crate) setup_code: Arc<SetupCode>,
    /// The pool's status; none while no pool is configured.
    pub(crate) pool: watch::Sender<Option<datum::Pool>>,
}

/// What the API shows.
#[derive(Clone)]
pub(super) struct ApiInputs {
    pub(super) counters: Arc<Counters>,
    pub(super) roster: Arc<Roster>,
    pub(super) ledger: Ledger,
    pub(super) templates: Templates,
    pub(super) blocks: Arc<BlockStats>,
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    pub(super) tls: watch::Receiver<Arc<TlsFacts>>,
}

/// Starts the API if it is configured. It ends with `stop`.
pub(super) fn start_api(
    config: &Config,
    facts: Facts,
    sights: ApiInputs,
    settings: SettingsFile,
    stop: &CancellationToken,
) -> ApiShared {
    let (pool, pool_watch) = watch::channel(None);
    let setup_code = Arc::new(SetupCode::make());
    let ApiInputs { counters, roster, ledger, templates, blocks, work, tls } = sights;
    let handles = Handles {
        counters,
        roster,
        ledger,
        templates,
        blocks,
        work,
        pool: pool_watch,
        configs: settings.configs(),
        facts: Arc::new(facts),
        tls,
        settings,
        setup_code: Arc::clone(&setup_code),
        tries: super::tries::tries(),
    };
    let started = config.api.listen.map(|listen| api::spawn(listen, handles, stop.clone()));
    let api = started.transpose().unwrap_or_else(|error| {
        error!(
            "cannot start the thread of the dashboard and the API, so both are off: {error}; \
                mining goes on"
        );
        None
    });
    ApiShared { api, setup_code, pool }
}

pub(super) fn facts(
    config: &Config,
    stratum: &[SocketAddr],
    authority: &AuthorityPublicKey,
) -> Facts {
    Facts {
        stratum: stratum.to_vec(),
        sv2_authority_key: Some(authority.to_string()),
        port_authority_keys: config.stratum.ports.iter().map(port_authority_key).collect(),
    }
}

fn port_authority_key(port: &config::Port) -> Option<String> {
    // What is wrong with it was logged when it was first used.
    let key = super::authority::look(port.authority_key_file.as_deref()?).ok().flatten()?;
    Some(key.public().to_string())
}
