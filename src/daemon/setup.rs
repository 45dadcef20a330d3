//! Before there is work: whom blocks pay, and on which network.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;
use tracing::{error, warn};

use super::{
    DaemonError,
    api::{Front, facts},
    convert::fits_network,
    live::Live,
    settings::FileSettings,
    systemd,
};
use crate::{
    api::Facts,
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
) -> Result<(), DaemonError> {
    shown.follow(live);
    let is_first = !shown.settings.is_set_up();
    if is_first {
        let page = live.now().api.listen.filter(|_| shown.has_page);
        let page = crate::healthcheck::local(page.ok_or(DaemonError::NoAddress)?);
        warn!(
            "not set up yet: mining.address is missing, so nothing is mined. Open http://{page}/ \
             in a browser and say whom blocks should pay"
        );
        systemd::status(&format!("waiting to be set up at http://{page}/"));
    }
    loop {
        let is_set_up = |config: &Arc<Config>| config.mining.address.is_some();
        live.wait_for(is_set_up).await.ok_or(DaemonError::Stopped)?;
        match check_network(live, templates).await {
            Ok(()) => break,
            Err(wrong @ DaemonError::WrongNetwork { .. }) if is_first => error!("{wrong}"),
            Err(error) => return Err(error),
        }
        live.changed().await.ok_or(DaemonError::Stopped)?;
    }
    shown.settings.set_up();
    shown.show(&live.now());
    Ok(())
}

/// Waits until a node says that it is on a chain of the payout address; refuses an address that
/// is for the chain of none.
async fn check_network(live: &mut Live, templates: &Templates) -> Result<(), DaemonError> {
    let mut status = templates.status.clone();
    loop {
        if templates.network().is_some() {
            return Ok(());
        }
        let config = live.now();
        let misfit = |node: &NodeStatus| {
            let network = node.network.filter(|chain| !fits_network(&config, *chain))?;
            Some((network, node.name.to_string()))
        };
        let misfits: Option<Vec<_>> = status.borrow_and_update().iter().map(misfit).collect();
        if let Some((network, node)) = misfits.and_then(|all| all.into_iter().next()) {
            let address = config.mining.address.as_ref();
            let address = address.map_or_else(String::new, |it| it.text.clone());
            return Err(DaemonError::WrongNetwork { address, network, node });
        }
        tokio::select! {
            changed = status.changed() => changed.map_err(|_| DaemonError::Stopped)?,
            changed = live.changed() => changed.ok_or(DaemonError::Stopped)?,
        }
    }
}
