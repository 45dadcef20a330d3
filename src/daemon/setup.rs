//! Before there is work: waits until it is known whom blocks pay, and on which network.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{DaemonError, api::ApiShared, apply::LiveParts, systemd};
use crate::{
    config::{Config, SettingsFile},
    template::{NodeStatus, Templates},
    work::{Admission, Work},
};

/// Waits until it is known whom blocks pay, and that the nodes' chain can pay them; changes of the
/// configuration are applied meanwhile. Whoever makes the first settings may get them wrong and try
/// again.
pub(super) async fn set_up(
    parts: &mut LiveParts,
    settings: &SettingsFile,
    front: &ApiShared,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), DaemonError> {
    let has_page = front.api.is_some();
    let page = parts.config().api.listen.filter(|_| has_page).map(crate::healthcheck::local);
    if page.is_none() && parts.config().address.is_none() {
        return Err(DaemonError::NoAddress);
    }
    // With an address but no page, there is nothing to announce: the file is what counts.
    if let Some(page) = page.filter(|_| !settings.is_set_up()) {
        let api = &parts.config().api;
        // If there is a password, setting up takes that.
        let key = match api.admin_password_file {
            Some(_) => "sign in with the admin password".to_owned(),
            None => format!("enter the set-up code {}", front.setup_code.shown()),
        };
        let what = match parts.config().address {
            None => "not set up yet: mining.address is missing, so nothing is mined",
            Some(_) => "set-up is not finished: there has been no work for miners yet",
        };
        warn!(
            "{what}. Open http://{page}/ in a browser, {key} and enter the address that blocks should pay, and where your node is"
        );
        systemd::status(&format!("waiting to be set up at http://{page}/"));
    }
    while parts.config().address.is_none() {
        parts.next().await.ok_or(DaemonError::Stopped)?;
    }
    check_network(parts, has_page).await?;
    let ending = end_with_work(settings.clone(), parts.work.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(ending));
    let watch = watch_network(settings.configs(), parts.templates.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
    Ok(())
}

/// Ends set-up when there is work that miners are welcome to: then the settings are good.
async fn end_with_work(settings: SettingsFile, mut work: watch::Receiver<Option<Arc<Work>>>) {
    let is_open = |work: &Option<Arc<Work>>| {
        work.as_deref().is_some_and(|work| work.admission == Admission::Open)
    };
    if work.wait_for(is_open).await.is_ok() {
        settings.set_up();
    }
}

/// Waits until a node reports a chain that the payout address is valid on. If no node is on such a
/// chain, that is an error where there is no page to set another address on; otherwise it is
/// logged, and gatewayd waits for other settings or for the node to change chains.
async fn check_network(parts: &mut LiveParts, has_page: bool) -> Result<(), DaemonError> {
    let templates = parts.templates.clone();
    let mut told = LastLogged::default();
    let mut status = templates.status.clone();
    while templates.network().is_none() {
        match wrong_network(&parts.config(), &templates) {
            Some(wrong) if !has_page => return Err(wrong),
            wrong => told.tell(&parts.config(), wrong),
        }
        let changed = tokio::select! {
            changed = parts.next() => changed,
            changed = status.changed() => changed.ok(),
        };
        changed.ok_or(DaemonError::Stopped)?;
    }
    told.tell(&parts.config(), None);
    Ok(())
}

/// Logs when nodes change to a chain that the payout address does not belong to, while gatewayd
/// runs.
async fn watch_network(mut configs: watch::Receiver<Arc<Config>>, templates: Templates) {
    let mut told = LastLogged::default();
    let (mut status, mut networks) = (templates.status.clone(), templates.networks());
    loop {
        let config = Arc::clone(&configs.borrow_and_update());
        told.tell(&config, wrong_network(&config, &templates));
        let changed = tokio::select! {
            changed = configs.changed() => changed,
            changed = status.changed() => changed,
            changed = networks.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What was logged last, so that it is logged once.
#[derive(Default)]
struct LastLogged(Option<String>);

impl LastLogged {
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
                     send SIGHUP), or start the node on the address's network"
                );
                systemd::status(&format!("wrong network: set an address at http://{page}/"));
            }
            (Some(wrong), None) => error!("nothing can be mined: {wrong}, and send SIGHUP"),
            (None, _) => {
                info!("mining.address is valid on the node's network: mining goes on");
                systemd::status("serving miners");
            }
        }
        self.0 = wrong;
    }
}

/// None: some node is on a chain of the payout address, or has not reported its chain yet.
fn wrong_network(config: &Config, templates: &Templates) -> Option<DaemonError> {
    let address = config.address.as_ref()?.text.clone();
    let misfit = |node: &NodeStatus| {
        let network = node.network.filter(|chain| !config.fits_network(*chain))?;
        Some((network, node.name.to_string()))
    };
    let misfits: Option<Vec<_>> = templates.status.borrow().iter().map(misfit).collect();
    let (network, node) = misfits?.into_iter().next()?;
    Some(DaemonError::WrongNetwork { address, network, node })
}
