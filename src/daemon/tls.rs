//! The certificate for miners that use TLS: issued by this gateway's own authority, or read from
//! files, and replaced when it is time or the files have changed. Open connections keep the one
//! they have.

mod authority;
mod expiry;
mod files;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::NoServerSessionStorage,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use self::{
    authority::{Authority, authority_file, names},
    files::Files,
};
use crate::{
    api::TlsFacts,
    clock::unix_now,
    config::{Config, Tls},
    listener::TlsOffer,
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("{path} ({key}) cannot be read: {error}. Let gatewayd's user read that file", path = .path.display())]
    Read { key: &'static str, path: PathBuf, error: std::io::Error },
    #[error(
        "{path} (stratum.tls.certificate_file) holds no certificate: it should begin with \
         -----BEGIN CERTIFICATE-----, the server's own first, then those that it is signed by",
        path = .0.display()
    )]
    NoCertificate(PathBuf),
    #[error(
        "{path} (stratum.tls.key_file) holds no private key: it should begin with \
         -----BEGIN PRIVATE KEY-----",
        path = .0.display()
    )]
    NoKey(PathBuf),
    #[error(
        "{path} (stratum.tls.key_file) is protected by a passphrase, which gatewayd cannot enter: \
         remove it with `openssl pkey -in {path} -out unlocked.pem`",
        path = .0.display()
    )]
    LockedKey(PathBuf),
    #[error(
        "{certificate} and {key} (stratum.tls.certificate_file and key_file) do not match: \
         {error}",
        certificate = .certificate.display(), key = .key.display()
    )]
    Unusable { certificate: PathBuf, key: PathBuf, error: rustls::Error },
    #[error(
        "the certificate in {path} (stratum.tls.certificate_file) {}: renew it, or miners will refuse \
         it",
        ends(*.days), path = .path.display()
    )]
    Ends { path: PathBuf, days: i64 },
    #[error(
        "the authority for TLS in {path} (ledger.data_dir) {what}: {error}",
        path = .path.display()
    )]
    Authority { path: PathBuf, what: &'static str, error: String },
}

/// Keeps the certificate up to date.
struct CertificateKeeper {
    configs: watch::Receiver<Arc<Config>>,
    shown: watch::Sender<TlsOffer>,
    facts: watch::Sender<Arc<TlsFacts>>,
    source: CertificateSource,
    /// What was wrong at the last check.
    trouble: Option<String>,
    is_trouble_told: bool,
}

/// Where the current certificate comes from.
enum CertificateSource {
    Nothing,
    Files(Files),
    Own(Box<Authority>),
}

/// The certificate for miners, and what the dashboard says of it; kept up to date until `stop`.
///
/// Mining goes on whatever is wrong with a certificate: it is logged, and TLS is off.
pub(super) fn spawn(
    configs: watch::Receiver<Arc<Config>>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) -> (watch::Receiver<TlsOffer>, watch::Receiver<Arc<TlsFacts>>) {
    let (shown, shown_watch) = watch::channel(TlsOffer::Off);
    let (facts, facts_watch) = watch::channel(Arc::default());
    let source = CertificateSource::Nothing;
    let mut keeper =
        CertificateKeeper { configs, shown, facts, source, trouble: None, is_trouble_told: false };
    keeper.look(true);
    tasks.spawn(stop.clone().run_until_cancelled_owned(keep(keeper)));
    (shown_watch, facts_watch)
}

async fn keep(mut keeper: CertificateKeeper) {
    loop {
        let is_asked = tokio::select! {
            changed = keeper.configs.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = sleep(LOOK_EACH) => false,
        };
        let looked = tokio::task::spawn_blocking(move || {
            keeper.look(is_asked);
            keeper
        });
        // An error: the process ends.
        let Ok(same) = looked.await else { return };
        keeper = same;
    }
}

impl CertificateKeeper {
    /// `is_asked`: somebody is waiting for the result.
    fn look(&mut self, is_asked: bool) {
        let config = Arc::clone(&self.configs.borrow_and_update());
        if !matches!(config.stratum.tls, Tls::Off) && matches!(*self.shown.borrow(), TlsOffer::Off)
        {
            self.shown.send_replace(TlsOffer::NoCertificate);
        }
        let looked = match &config.stratum.tls {
            Tls::Off => {
                self.show(TlsOffer::Off, CertificateSource::Nothing);
                Ok(())
            }
            Tls::Files { certificate, key } => self.look_at_files(certificate, key),
            Tls::Own { names } => self.look_at_own(&config, names),
        };
        self.note(looked.err().map(|error| error.to_string()), is_asked);
        self.tell(&config);
    }

    fn look_at_files(&mut self, certificate: &Path, key: &Path) -> Result<(), TlsError> {
        let files = Files::read(certificate, key)?;
        if matches!(&self.source, CertificateSource::Files(known) if *known == files) {
            return files.check_end(unix_now().as_secs());
        }
        let shown = files.server_config()?;
        info!(certificate = %certificate.display(), "new TLS connections get this certificate");
        let end = files.check_end(unix_now().as_secs());
        self.show(TlsOffer::Certificate(shown), CertificateSource::Files(files));
        end
    }

    fn look_at_own(&mut self, config: &Config, more: &[String]) -> Result<(), TlsError> {
        let (names, now) = (names(config, more), unix_now().as_secs());
        if let CertificateSource::Own(known) = &mut self.source
            && known.path() == authority_file(config)
        {
            if !known.is_current(&names, now) {
                let shown = known.issue(names, now)?;
                self.shown.send_replace(TlsOffer::Certificate(shown));
            }
            return Ok(());
        }
        let mut authority = Authority::load_or_create(authority_file(config))?;
        let shown = authority.issue(names, now)?;
        self.show(TlsOffer::Certificate(shown), CertificateSource::Own(Box::new(authority)));
        Ok(())
    }

    fn show(&mut self, shown: TlsOffer, source: CertificateSource) {
        self.source = source;
        self.shown.send_replace(shown);
    }

    fn note(&mut self, trouble: Option<String>, is_asked: bool) {
        let is_same = trouble == self.trouble;
        if is_asked || !is_same {
            self.is_trouble_told = false;
        }
        // A pair of files may be caught half renewed: that is over by the next check.
        if let Some(text) = trouble.as_ref().filter(|_| is_asked || is_same)
            && !self.is_trouble_told
        {
            let old = if self.has_certificate() { STAYS } else { OFF };
            error!("{old}: {text}");
            self.is_trouble_told = true;
        }
        self.trouble = trouble;
    }

    fn has_certificate(&self) -> bool {
        matches!(*self.shown.borrow(), TlsOffer::Certificate(_))
    }

    /// For the dashboard.
    fn tell(&self, config: &Config) {
        let is_shown = self.has_certificate();
        let (authority, names) = match &self.source {
            CertificateSource::Own(own) => (Some(own.certificate()), own.names()),
            CertificateSource::Nothing | CertificateSource::Files(_) => (None, Arc::default()),
        };
        let is_wanted = !matches!(config.stratum.tls, Tls::Off);
        let trouble = self.trouble.as_deref().filter(|_| is_wanted).map(Arc::from);
        let facts = TlsFacts { is_on: is_shown, authority, names, trouble };
        self.facts.send_if_modified(|known| {
            let is_new = **known != facts;
            if is_new {
                *known = Arc::new(facts);
            }
            is_new
        });
    }
}

/// Tries the configured files, if there are any.
pub(super) fn try_files(config: &Config) -> Result<(), TlsError> {
    let Tls::Files { certificate, key } = &config.stratum.tls else { return Ok(()) };
    tried(certificate, key).map(drop)
}

fn tried(certificate: &Path, key: &Path) -> Result<Files, TlsError> {
    let files = Files::read(certificate, key)?;
    files.server_config().map(|_| files)
}

fn ends(days: i64) -> String {
    if days < 0 { "has expired".into() } else { format!("expires in {days} days") }
}

/// What `gatewayd check` says of it; none: TLS is off.
pub(super) fn check(config: &Config) -> Option<Result<String, String>> {
    let names_of = |more: &[String]| names(config, more).join(", ");
    match &config.stratum.tls {
        Tls::Off => None,
        Tls::Files { certificate, key } => Some(match tried(certificate, key) {
            Ok(files) => match files.check_end(unix_now().as_secs()) {
                Ok(()) => Ok(format!("miners get the certificate in {}", certificate.display())),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        }),
        Tls::Own { names } => Some(match authority::look(authority_file(config)) {
            Ok(is_made) => Ok(format!(
                "{} for {}",
                if is_made {
                    "gatewayd's own authority"
                } else {
                    "gatewayd creates its own authority at the first start,"
                },
                names_of(names)
            )),
            Err(error) => Err(error.to_string()),
        }),
    }
}

/// The configuration for a certificate and its key. Sessions are not resumed: mbedTLS, which most
/// miners use, treats a ticket as an error.
fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// Whoever renews a certificate waits for this; it reads two files of a few kB.
const LOOK_EACH: Duration = Duration::from_secs(10);
const OFF: &str = "there is no certificate, so TLS is off";
const STAYS: &str = "TLS keeps using the old certificate";
