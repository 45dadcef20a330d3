//! gatewayd.toml while gatewayd runs: reread on SIGHUP, changed over the API, always as a whole.

mod logins;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::{
    Config, Raw,
    edit::{Json, MASK, changed, hide, reveal, set_keys},
    keys_of_environment,
};

/// The configuration in use, and the file that it came from. What it shows has [`MASK`] in place of
/// each secret.
#[derive(Clone)]
pub(crate) struct SettingsFile(Arc<Inner>);

/// The file as it is.
#[derive(Clone, Debug)]
pub(crate) struct SettingsView {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Every key with the value in use, as JSON.
    pub(crate) values: Box<RawValue>,
    pub(crate) revision: String,
    pub(crate) writable: bool,
    pub(crate) problems: Vec<String>,
    pub(crate) needs_restart: Vec<String>,
    pub(crate) from_environment: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) what: Edit,
    /// The revision that was edited, if it matters.
    pub(crate) revision: Option<String>,
    pub(crate) check_only: bool,
    /// Made by somebody who may only make the first settings.
    pub(crate) sets_up: bool,
    /// What the file of the first admin password is to hold: a hash.
    pub(crate) first_password: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// The whole file.
    Text(String),
    /// A JSON object of keys and values.
    Keys(Box<RawValue>),
}

/// Keys that changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Applied {
    pub(crate) applied: Vec<String>,
    pub(crate) needs_restart: Vec<String>,
    /// None: nothing was written.
    pub(crate) revision: Option<String>,
}

/// What a change would come to.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    /// As it would be in use.
    pub(crate) next: Arc<Config>,
    pub(crate) now: Arc<Config>,
    /// Of the file that would be changed.
    pub(crate) revision: String,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("These settings cannot be used; nothing was changed.")]
    Refused(Vec<String>),
    #[error("The file has changed since you began: load it again, then redo your changes.")]
    Outdated,
    #[error(
        "Set-up is finished: sign in to change settings or, without an admin password, edit the file."
    )]
    SetUpAlready,
    #[error("{0}")]
    NotWritable(String),
}

/// Checks new settings against the running gateway; the error has a line for each problem.
pub(crate) type SettingsTrial = Box<dyn Fn(&Config, &Raw) -> Result<(), Vec<String>> + Send + Sync>;

struct Inner {
    /// None: there is no file.
    path: Option<PathBuf>,
    /// What is in use. Locked while the file is changed, so that changes do not overtake each
    /// other.
    running: Mutex<Arc<Raw>>,
    /// The same, for the parts that follow it.
    configs: watch::Sender<Arc<Config>>,
    /// What the file begins as.
    draft: Arc<str>,
    /// Where a first admin password is kept.
    password_file: PathBuf,
    /// Is there while the first settings were made on the page, and nothing has worked yet.
    unfinished: PathBuf,
    /// Checks what the file alone cannot tell: what the nodes are, and whether other files can be
    /// used.
    trial: OnceLock<SettingsTrial>,
    /// The first settings have been made, and work.
    is_set_up: AtomicBool,
    /// There was a file at the start: if it is missing later, something is wrong.
    had_file: bool,
}

impl SettingsFile {
    pub(crate) fn new(config: &Config) -> Self {
        let unfinished = config.ledger.data_dir.join(UNFINISHED);
        let is_set_up = config.address.is_some() && !unfinished.exists();
        Self(Arc::new(Inner {
            path: config.path.clone(),
            draft: Arc::clone(&config.draft),
            unfinished,
            password_file: config.ledger.data_dir.join(PASSWORD_FILE),
            running: Mutex::new(Arc::clone(&config.written)),
            configs: watch::Sender::new(Arc::new(config.clone())),
            trial: OnceLock::new(),
            is_set_up: AtomicBool::new(is_set_up),
            had_file: config.path.as_ref().is_some_and(|path| path.exists()),
        }))
    }

    /// What is in use, from now on.
    pub(crate) fn configs(&self) -> watch::Receiver<Arc<Config>> {
        self.0.configs.subscribe()
    }

    /// From now on, new settings have to pass this check too.
    pub(crate) fn try_with(&self, trial: SettingsTrial) {
        // The first one stays: there is only one gateway.
        let _ = self.0.trial.set(trial);
    }

    /// There is work for miners: from now on only an admin may change settings.
    pub(crate) fn set_up(&self) {
        if !self.0.is_set_up.swap(true, Ordering::AcqRel) {
            info!("set-up is done: there is work for miners");
            // Where it stays, the next start asks again.
            let _ = fs::remove_file(&self.0.unfinished);
        }
    }

    pub(crate) fn is_set_up(&self) -> bool {
        self.0.is_set_up.load(Ordering::Acquire)
    }

    /// The file as it is, and the values in use.
    pub(crate) async fn read(&self) -> Result<SettingsView, SettingsError> {
        self.on_a_thread(Inner::read).await
    }

    /// Checks new settings, writes them and applies what can be applied.
    pub(crate) async fn change(&self, change: Change) -> Result<Applied, SettingsError> {
        self.on_a_thread(move |inner| inner.change(&change)).await
    }

    /// Checks new settings, and shows what they would be; nothing is written.
    pub(crate) async fn look_ahead(&self, change: Change) -> Result<Outlook, SettingsError> {
        self.on_a_thread(move |inner| inner.look_ahead(&change)).await
    }

    /// Reads the file again, and applies what can be applied.
    pub(crate) async fn reload(&self) -> Result<Applied, SettingsError> {
        self.on_a_thread(Inner::reload).await
    }

    /// Runs on a thread that may wait for the disk.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SettingsError> + Send + 'static,
    ) -> Result<T, SettingsError> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_| {
            Err(SettingsError::NotWritable("The change was interrupted: try again.".into()))
        })
    }
}

impl Inner {
    fn read(&self) -> Result<SettingsView, SettingsError> {
        let path = self.path()?;
        let text = self.text(path)?;
        let running = Arc::clone(&self.running());
        let (problems, needs_restart) = match Config::preview(&text, path) {
            Ok(file) => {
                let live = Raw::clone(&file.written).without_restart(&running);
                (Vec::new(), changed(&live, &*file.written))
            }
            Err(problems) => (problems, Vec::new()),
        };
        Ok(SettingsView {
            path: path.display().to_string(),
            values: values(Raw::clone(&running))?,
            revision: revision(&text),
            writable: is_writable(path),
            problems,
            needs_restart,
            from_environment: keys_of_environment(),
            text: hide(&text),
        })
    }

    fn change(&self, change: &Change) -> Result<Applied, SettingsError> {
        let path = self.path()?;
        let mut running = self.running();
        let Prepared { new, next, .. } = self.prepare(change, &running)?;
        if change.check_only {
            return Ok(next.done(None));
        }
        if let Some(hash) = &change.first_password {
            self.write_password(hash)?;
        }
        write(path, &new).map_err(|error| {
            let path = path.display();
            SettingsError::NotWritable(format!(
                "{path} cannot be written: {error}. Make it and its folder writable for gatewayd's \
                 user, or edit the file itself."
            ))
        })?;
        info!(path = %path.display(), "API: wrote new settings");
        if change.sets_up {
            self.note_unfinished();
        }
        self.put_into_effect(&next, &mut running);
        Ok(next.done(Some(revision(&new))))
    }

    /// Before the settings that name it.
    fn write_password(&self, hash: &str) -> Result<(), SettingsError> {
        let file = &self.password_file;
        let written = file.parent().map_or(Ok(()), fs::create_dir_all);
        written.and_then(|()| write(file, &format!("{hash}\n"))).map_err(|error| {
            let path = file.display();
            SettingsError::NotWritable(format!(
                "The password cannot be kept: {path} cannot be written: {error}. Make its folder \
                 (ledger.data_dir) writable for the user that gatewayd runs as."
            ))
        })
    }

    /// So that a restart does not end the set-up of what has never worked.
    fn note_unfinished(&self) {
        let noted = self.unfinished.parent().map_or(Ok(()), fs::create_dir_all);
        let noted = noted.and_then(|()| fs::write(&self.unfinished, UNFINISHED_TEXT));
        if let Err(error) = noted {
            let path = self.unfinished.display();
            warn!("{path} cannot be written ({error}): after a restart set-up cannot go on");
        }
    }

    fn look_ahead(&self, change: &Change) -> Result<Outlook, SettingsError> {
        let running = self.running();
        let Prepared { next, revision, .. } = self.prepare(change, &running)?;
        let now = Arc::clone(&self.configs.borrow());
        Ok(Outlook { next: next.config, now, revision })
    }

    /// Checks a change of the file as it is now.
    fn prepare(&self, change: &Change, running: &Raw) -> Result<Prepared, SettingsError> {
        let path = self.path()?;
        if change.sets_up && self.is_set_up.load(Ordering::Acquire) {
            return Err(SettingsError::SetUpAlready);
        }
        let old = self.text(path)?;
        if change.revision.as_ref().is_some_and(|edited| *edited != revision(&old)) {
            return Err(SettingsError::Outdated);
        }
        let mut new = edited(&old, change).map_err(SettingsError::Refused)?;
        if change.first_password.is_some() {
            new = self.with_password_file(&new, running).map_err(SettingsError::Refused)?;
        }
        let next = self.next(&new, running).map_err(SettingsError::Refused)?;
        if change.sets_up {
            check_logins(path, &old, change, &next).map_err(SettingsError::Refused)?;
        }
        Ok(Prepared { new, next, revision: revision(&old) })
    }

    /// `text` with the file of the first password.
    fn with_password_file(&self, text: &str, running: &Raw) -> Result<String, Vec<String>> {
        if !running.api.admin_password_file.is_empty() {
            return Err(vec![HAS_PASSWORD.into()]);
        }
        let path = Json::Text(self.password_file.display().to_string());
        set_keys(text, &BTreeMap::from([(PASSWORD_KEY.to_owned(), path)]))
    }

    fn reload(&self) -> Result<Applied, SettingsError> {
        let path = self.path()?;
        let mut running = self.running();
        if self.had_file && !path.exists() {
            let gone = format!("{} is missing; the old settings stay in use.", path.display());
            return Err(SettingsError::NotWritable(gone));
        }
        let text = self.text(path)?;
        let next = self.next(&text, &running).map_err(|problems| {
            for problem in &problems {
                error!("{}: {problem}", path.display());
            }
            SettingsError::Refused(problems)
        })?;
        info!(path = %path.display(), "the configuration was reloaded");
        self.put_into_effect(&next, &mut running);
        Ok(next.done(None))
    }

    /// What a file with this text would change; the error has a line for each problem.
    fn next(&self, text: &str, running: &Raw) -> Result<Next, Vec<String>> {
        let path = self.path.as_deref().unwrap_or_else(|| Path::new(""));
        let file = Config::preview(text, path)?;
        let config = file.without_restart(running)?;
        if config.address.is_none() && !running.mining.address.is_empty() {
            let problem = "mining.address is missing: set the address that blocks should pay";
            return Err(vec![problem.into()]);
        }
        self.trial.get().map_or(Ok(()), |trial| trial(&config, running))?;
        let applied = changed(running, &*config.written);
        let needs_restart = changed(&*config.written, &*file.written);
        Ok(Next { config: Arc::new(config), applied, needs_restart })
    }

    fn put_into_effect(&self, next: &Next, running: &mut Arc<Raw>) {
        if !next.applied.is_empty() {
            info!(keys = ?next.applied, "settings changed, in effect now");
        }
        if !next.needs_restart.is_empty() {
            warn!(keys = ?next.needs_restart, "settings changed that need a restart of gatewayd");
        }
        *running = Arc::clone(&next.config.written);
        self.configs.send_replace(Arc::clone(&next.config));
    }

    /// A file that is not there yet is what it begins as: containers have their environment alone.
    fn text(&self, path: &Path) -> Result<String, SettingsError> {
        match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::from(&*self.draft)),
            read => read.map_err(|error| {
                SettingsError::NotWritable(format!("{} cannot be read: {error}.", path.display()))
            }),
        }
    }

    fn running(&self) -> MutexGuard<'_, Arc<Raw>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> Result<&Path, SettingsError> {
        let none = || {
            SettingsError::NotWritable("This gateway was started without a settings file.".into())
        };
        self.path.as_deref().ok_or_else(none)
    }
}

/// A change that may be made.
struct Prepared {
    /// The new text.
    new: String,
    next: Next,
    /// Of the old one.
    revision: String,
}

/// What a new text means for the running gateway.
struct Next {
    config: Arc<Config>,
    applied: Vec<String>,
    needs_restart: Vec<String>,
}

impl Next {
    fn done(self, revision: Option<String>) -> Applied {
        Applied { applied: self.applied, needs_restart: self.needs_restart, revision }
    }
}

/// The text that a change turns `old` into, with the secrets in place.
fn edited(old: &str, change: &Change) -> Result<String, Vec<String>> {
    match &change.what {
        Edit::Text(_) if change.sets_up => Err(vec![FIRST_KEYS.into()]),
        Edit::Text(text) => reveal(text, old),
        Edit::Keys(changes) => {
            let changes: BTreeMap<String, Json> =
                serde_json::from_str(changes.get()).map_err(|error| {
                    vec![format!(
                        "changes should be a JSON object of keys and values: \
                                               {error}"
                    )]
                })?;
            let is_first = |key: &String| {
                ["mining.", "node.", "pool."].iter().any(|part| key.starts_with(part))
                    || key == "pool"
            };
            if change.sets_up && !changes.keys().all(is_first) {
                return Err(vec![FIRST_KEYS.into()]);
            }
            reveal(&set_keys(old, &changes)?, old)
        }
    }
}

/// Whoever makes the first settings must not send a stored login elsewhere.
fn check_logins(path: &Path, old: &str, change: &Change, next: &Next) -> Result<(), Vec<String>> {
    let shown = Config::preview(&edited(&hide(old), change)?, path)?;
    // Nothing is known about a file that cannot be used.
    let known = Config::preview(old, path).map(|it| it.template.nodes).unwrap_or_default();
    logins::check(&known, &next.config.template.nodes, &shown.template.nodes)
}

fn values(raw: Raw) -> Result<Box<RawValue>, SettingsError> {
    let broken = |error| {
        SettingsError::NotWritable(format!(
            "The settings cannot be shown as JSON: \
                                                             {error}."
        ))
    };
    to_raw_value(&raw.masked(MASK)).map_err(broken)
}

fn revision(text: &str) -> String {
    faster_hex::hex_string(&Sha256::digest(text)[..8])
}

/// A file is replaced by another, so its folder has to be writable.
fn is_writable(path: &Path) -> bool {
    let folder =
        path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Leaves the whole new file or the whole old one, whatever happens meanwhile.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // Follows links: their target is what is meant.
    let (path, mode) = match fs::canonicalize(path) {
        Ok(path) => (path.clone(), fs::metadata(&path)?.permissions().mode()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), MODE_NEW),
        Err(error) => return Err(error),
    };
    let new_file = path.with_extension("toml.new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new_file)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    let moved = file.sync_all().and_then(|()| fs::rename(&new_file, &path));
    if moved.is_err() {
        // There may be passwords in it.
        let _ = fs::remove_file(&new_file);
    }
    moved
}

const FIRST_KEYS: &str = "without an admin password, only mining, node and pool can be set; for more, set \
     api.admin_password_file";
const PASSWORD_KEY: &str = "api.admin_password_file";
const HAS_PASSWORD: &str =
    "there is an admin password already: change what api.admin_password_file names";
/// In `ledger.data_dir`.
const PASSWORD_FILE: &str = "admin-password";
/// In `ledger.data_dir`.
const UNFINISHED: &str = "set-up-unfinished";
const UNFINISHED_TEXT: &str = "The settings were made on the dashboard, and there was no work yet. gatewayd \
                               removes this file when there is.\n";
/// There may be passwords in it.
const MODE_NEW: u32 = 0o600;
