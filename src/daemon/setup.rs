//! Before there is work: whom blocks pay, and on which network.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use super::{DaemonError, api::Front, apply::LiveParts, systemd};
use crate::{
    config::{Config, SettingsFile},
    template::{NodeStatus, Templates},
};

/// Waits until it is known whom blocks pay, and that the nodes' chain can; changes of the configuration
/// are put into effect meanwhile. Whoever makes the first settings may get them wrong and try again.
pub(super) async fn set_up(
    parts: &mut LiveParts,
    settings: &SettingsFile,
    front: &Front,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), DaemonError> {
    let has_page = front.api.is_some();
    if !settings.is_set_up() {
        let api = &parts.config().api;
        let page = api.listen.filter(|_| has_page);
        let page = crate::healthcheck::local(page.ok_or(DaemonError::NoAddress)?);
        // With a password, that is what lets in whoever sets up.
        let key = match api.admin_password_file {
            Some(_) => "sign in with the admin password".to_owned(),
            None => format!("enter the set-up code {}", front.setup_code.shown()),
        };
        warn!(
            "not set up yet: mining.address is missing, so nothing is mined. Open http://{page}/ \
             in a browser, {key} and say whom blocks should pay"
        );
        systemd::status(&format!("waiting to be set up at http://{page}/"));
    }
    while parts.config().address.is_none() {
        parts.next().await.ok_or(DaemonError::Stopped)?;
    }
    check_network(parts, has_page).await?;
    settings.set_up();
    let watch = watch_network(settings.configs(), parts.templates.clone());
    tasks.spawn(stop.clone().run_until_cancelled_owned(watch));
    Ok(())
}

/// Waits until a node says that it is on a chain of the payout address. An address that is for the
/// chain of none is refused where there is no page to set another one on; else it is said, and
/// other settings, or the node on another chain, are waited for.
async fn check_network(parts: &mut LiveParts, has_page: bool) -> Result<(), DaemonError> {
    let templates = parts.templates.clone();
    let mut told = Told::default();
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

/// Says it when nodes go over to a chain that the payout address is not of, while gatewayd runs.
async fn watch_network(mut configs: watch::Receiver<Arc<Config>>, templates: Templates) {
    let mut told = Told::default();
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
    let address = config.address.as_ref()?.text.clone();
    let misfit = |node: &NodeStatus| {
        let network = node.network.filter(|chain| !config.fits_network(*chain))?;
        Some((network, node.name.to_string()))
    };
    let misfits: Option<Vec<_>> = templates.status.borrow().iter().map(misfit).collect();
    let (network, node) = misfits?.into_iter().next()?;
    Some(DaemonError::WrongNetwork { address, network, node })
}
