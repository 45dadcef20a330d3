//! What the API is given.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::settings::FileSettings;
use crate::{
    api::{self, Api, Facts, Handles, PortFacts, SetupCode, TlsFacts},
    blocks::BlockStats,
    books::{Counters, Roster},
    config::{self, Config},
    datum,
    ledger::Ledger,
    net::HostPort,
    template::Templates,
    work::{Difficulty, Work},
};

/// The API's side of what the daemon changes while it runs.
pub struct Front {
    /// None: `api.listen` is empty.
    pub api: Option<Api>,
    /// What the configuration says now; sending also makes the password file be read again.
    pub facts: watch::Sender<Arc<Facts>>,
    /// For whoever makes the first settings.
    pub setup_code: Arc<SetupCode>,
    /// The pool's side; none while there is none.
    pub pool: watch::Sender<Option<datum::Pool>>,
}

/// What the API looks at.
pub(super) struct Sights {
    pub(super) counters: Arc<Counters>,
    pub(super) roster: Arc<Roster>,
    pub(super) ledger: Ledger,
    pub(super) templates: Templates,
    pub(super) blocks: Arc<BlockStats>,
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    pub(super) tls: watch::Receiver<Arc<TlsFacts>>,
}

/// Starts the API if there is to be one. It ends with `stop`.
pub(super) fn start_api(
    config: &Config,
    facts: Facts,
    sights: Sights,
    settings: FileSettings,
    stop: &CancellationToken,
) -> Front {
    let (facts, facts_watch) = watch::channel(Arc::new(facts));
    let (pool, pool_watch) = watch::channel(None);
    let setup_code = Arc::new(SetupCode::make());
    let Sights { counters, roster, ledger, templates, blocks, work, tls } = sights;
    let handles = Handles {
        counters,
        roster,
        ledger,
        templates,
        blocks,
        work,
        pool: pool_watch,
        facts: facts_watch,
        tls,
        settings: Arc::new(settings),
        setup_code: Arc::clone(&setup_code),
    };
    let started = config.api.listen.map(|listen| api::spawn(listen, handles, stop.clone()));
    let api = started.transpose().unwrap_or_else(|error| {
        error!("no dashboard and no API: cannot start their thread: {error}; mining goes on");
        None
    });
    Front { api, facts, setup_code, pool }
}

pub(super) fn facts(
    config: &Config,
    stratum: &[SocketAddr],
    sv2_authority_key: Option<String>,
) -> Facts {
    Facts {
        pools: config
            .pools
            .iter()
            .map(|it| HostPort(&it.host, it.port).to_string().into())
            .collect(),
        is_set_up: config.mining.address.is_some(),
        address: config.mining.address.as_ref().map(|it| it.text.as_str().into()),
        own_script: super::convert::own_script(config),
        stratum: stratum.to_vec(),
        ports: config.stratum.ports.iter().map(port_facts).collect(),
        sv2_authority_key,
        stale_after: config.template.stale_after,
        admin_password_file: config.api.admin_password_file.clone(),
        metrics: config.api.metrics,
        base_path: Arc::clone(&config.api.base_path),
        allowed_hosts: Arc::clone(&config.api.allowed_hosts),
    }
}

fn port_facts(port: &config::Port) -> PortFacts {
    PortFacts {
        listen: port.listen.clone(),
        difficulty_min: port.difficulty_min.map(Difficulty::get),
        difficulty_start: port.difficulty_start.map(Difficulty::get),
        difficulty_max: port.difficulty_max.map(Difficulty::get),
        max_coinbase: port.max_coinbase,
        sv2_authority_key: port.authority_key_file.as_deref().and_then(|file| {
            // What is wrong with it was said when it was to be used.
            let key = super::authority::look(file).ok().flatten()?;
            Some(key.public().to_string())
        }),
    }
}
