//! This gateway's identity towards Stratum V2 miners: a certificate, renewed long before it
//! expires.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use super::authority::{AuthorityError, load_or_create};
use crate::{
    clock::unix_seconds,
    config::Config,
    sv2::noise::{AuthorityKey, AuthorityPublicKey, Identity},
};

/// Where the authority key is kept.
pub(super) fn authority_file(config: &Config) -> PathBuf {
    let file = config.stratum.sv2.authority_key_file.clone();
    file.unwrap_or_else(|| config.ledger.data_dir.join("sv2-authority.key"))
}

/// The public half of the authority key, and an identity that is always renewed in time.
pub(super) fn spawn(
    config: &Config,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(AuthorityPublicKey, watch::Receiver<Arc<Identity>>), AuthorityError> {
    let (public, receiver) = spawn_from(&authority_file(config), config, stop, tasks)?;
    info!(public_key = %public, "Stratum V2 authority key");
    Ok((public, receiver))
}

/// The same for a port's own key: to move miners from one key to another while both are valid.
pub(super) fn spawn_for_port(
    file: &Path,
    config: &Config,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<watch::Receiver<Arc<Identity>>, AuthorityError> {
    let (public, receiver) = spawn_from(file, config, stop, tasks)?;
    let file = file.display();
    info!(public_key = %public, %file, "Stratum V2 authority key of a port (stratum.port)");
    Ok(receiver)
}

fn spawn_from(
    file: &Path,
    config: &Config,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(AuthorityPublicKey, watch::Receiver<Arc<Identity>>), AuthorityError> {
    let authority = load_or_create(file)?;
    let public = authority.public();
    let lifetime = config.stratum.sv2.certificate_lifetime;
    let issued = Arc::new(Identity::issue(&authority, unix_seconds(), lifetime));
    let (sender, receiver) = watch::channel(issued);
    tasks.spawn(stop.clone().run_until_cancelled_owned(renew(authority, lifetime, sender)));
    Ok((public, receiver))
}

/// By the wall clock, which may jump: a computer that slept must not show an expired certificate.
async fn renew(authority: AuthorityKey, lifetime: Duration, sender: watch::Sender<Arc<Identity>>) {
    let half = u32::try_from(lifetime.as_secs() / 2).unwrap_or(u32::MAX);
    loop {
        tokio::time::sleep(LOOK_EACH.min(lifetime / 4)).await;
        let now = unix_seconds();
        let left = sender.borrow().not_valid_after().saturating_sub(now);
        // More is left than its whole lifetime: the clock was set back.
        if left < half || left > half.saturating_mul(2).saturating_add(1) {
            sender.send_replace(Arc::new(Identity::issue(&authority, now, lifetime)));
            debug!("renewed the Stratum V2 certificate");
        }
    }
}

const LOOK_EACH: Duration = Duration::from_secs(60);
