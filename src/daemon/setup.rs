//! Before there is work: whom blocks pay, and on which network.

use std::{net::SocketAddr, sync::Arc};

use bitcoin::Network;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{
    DaemonError,
    api::{Front, facts},
    convert::fits_network,
    live::Live,
    settings::FileSettings,
    systemd,
};
use crate::{
    api::{Facts, SetupCode},
    config::Config,
    sv2::noise::AuthorityPublicKey,
    template::{NodeStatus, Templates},
};

/// What the API is told of the configuration.
#[derive(Clone)]
pub(super) struct Shown {
    /// There is a dashboard.
    has_page: bool,
    facts: watch::Sender<Arc<Facts>>,
    code: Arc<SetupCode>,
    stratum: Vec<SocketAddr>,
    authority: String,
    settings: FileSettings,
}

impl Shown {
    pub(super) fn new(
        front: &Front,
        stratum: &[SocketAddr],
        authority: AuthorityPublicKey,
        settings: &FileSettings,
    ) -> Self {
        Self {
            has_page: front.api.is_some(),
            facts: front.facts.clone(),
            code: Arc::clone(&front.setup_code),
            stratum: stratum.to_vec(),
            authority: authority.to_string(),
            settings: settings.clone(),
        }
    }

    pub(super) fn follow(&self, live: &Live) {
        let shown = self.clone();
        live.follow(move |config| shown.show(config));
    }

    fn show(&self, config: &Config) {
        let mut facts = facts(config, &self.stratum, Some(self.authority.clone()));
        facts.is_set_up = self.settings.is_set_up();
        self.facts.send_replace(Arc::new(facts));
    }
}

/// Waits until it is known whom blocks pay, and that the nodes' chain can. Whoever makes the first
/// settings may get them wrong and try again.
pub(super) async fn set_up(
    live: &mut Live,
    templates: &Templates,
    shown: &Shown,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), DaemonError> {
    shown.follow(live);
    let is_first = !shown.settings.is_set_up();
    if is_first {
        let page = live.now().api.listen.filter(|_| shown.has_page);
        let page = crate::healthcheck::local(page.ok_or(DaemonError::NoAddress)?);
        // With a password, that is what lets in whoever sets up.
        let key = match live.now().api.admin_password_file {
            Some(_) => "sign in with the admin password".to_owned(),
            None => format!("enter the set-up code {}", shown.code.shown()),
        };
        warn!(
            "not set up yet: mining.address is missing, so nothing is mined. Open http://{page}/ \
             in a browser, {key} and say whom blocks should pay"
        );
        systemd::status(&format!("waiting to be set up at http://{page}/"));
    }
    let is_set_up = |config: &Arc<Config>| config.mining.address.is_some();
    live.wait_for(is_set_up).await.ok_or(DaemonError::Stopped)?;
    check_network(live, templates, shown.has_page).await?;
    shown.settings.set_up();
    shown.show(&live.now());
    let watch = watch_network(live.clone(), templates.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
    Ok(())
}

/// Waits until a node says that it is on a chain of the payout address. An address that is for the
/// chain of none is refused where there is no page to set another one on; else it is said, and
/// other settings, or the node on another chain, are waited for.
async fn check_network(
    live: &mut Live,
    templates: &Templates,
    has_page: bool,
) -> Result<(), DaemonError> {
    let mut told = Told::default();
    let mut news = News::new(live, templates);
    while templates.network().is_none() {
        match wrong_network(&live.now(), templates) {
            Some(wrong) if !has_page => return Err(wrong),
            wrong => told.tell(&live.now(), wrong),
        }
        news.next().await?;
    }
    told.tell(&live.now(), None);
    Ok(())
}

/// Says it when nodes go over to a chain that the payout address is not of, while gatewayd runs.
async fn watch_network(live: Live, templates: Templates) {
    let mut told = Told::default();
    let mut news = News::new(&live, &templates);
    loop {
        told.tell(&live.now(), wrong_network(&live.now(), &templates));
        if news.next().await.is_err() {
            return;
        }
    }
}

/// What may change whether anything can be mined.
struct News {
    live: Live,
    status: watch::Receiver<Vec<NodeStatus>>,
    networks: watch::Receiver<Option<Network>>,
}

impl News {
    fn new(live: &Live, templates: &Templates) -> Self {
        let (status, networks) = (templates.status.clone(), templates.networks());
        Self { live: live.clone(), status, networks }
    }

    async fn next(&mut self) -> Result<(), DaemonError> {
        let changed = tokio::select! {
            changed = self.live.changed() => changed,
            changed = self.status.changed() => changed.ok(),
            changed = self.networks.changed() => changed.ok(),
        };
        changed.ok_or(DaemonError::Stopped)
    }
}

/// What was said last, so that it is said once.
#[derive(Default)]
struct Told(Option<String>);

impl Told {
    fn tell(&mut self, config: &Config, wrong: Option<DaemonError>) {
        let wrong = wrong.map(|wrong| wrong.to_string());
        if wrong == self.0 {
            return;
        }
        match (&wrong, config.api.listen) {
            (Some(wrong), Some(page)) => {
                let page = crate::healthcheck::local(page);
                error!(
                    "nothing can be mined: {wrong}, at http://{page}/ or in gatewayd.toml (then \
                     send SIGHUP), or start the node on the network of the address"
                );
                systemd::status(&format!("wrong network: set an address at http://{page}/"));
            }
            (Some(wrong), None) => error!("nothing can be mined: {wrong}, and send SIGHUP"),
            (None, _) => {
                info!("mining.address is of the node's network: mining goes on");
                systemd::status("serving miners");
            }
        }
        self.0 = wrong;
    }
}

/// None: some node may be on a chain of the payout address, or has not said its own.
fn wrong_network(config: &Config, templates: &Templates) -> Option<DaemonError> {
    let address = config.mining.address.as_ref()?.text.clone();
    let misfit = |node: &NodeStatus| {
        let network = node.network.filter(|chain| !fits_network(config, *chain))?;
        Some((network, node.name.to_string()))
    };
    let misfits: Option<Vec<_>> = templates.status.borrow().iter().map(misfit).collect();
    let (network, node) = misfits?.into_iter().next()?;
    Some(DaemonError::WrongNetwork { address, network, node })
}
