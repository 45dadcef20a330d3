//! gatewayd.toml, for those who may change it over the API.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use tracing::info;

use crate::{
    api::{Answer, Applied, Change, Edit, Settings, SettingsError, SettingsView},
    config::{
        Config, Raw,
        edit::{Json, MASK, changed, hide, reveal, set_keys},
        keys_of_environment,
    },
};

/// The file that this process was started with.
#[derive(Clone)]
pub(super) struct FileSettings(Arc<Inner>);

struct Inner {
    /// None: there is no file.
    path: Option<PathBuf>,
    /// What is in use, as far as it is known. Held while the file is changed, so that changes do
    /// not overtake each other.
    running: Mutex<Option<Raw>>,
}

impl FileSettings {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let known = text
            .zip(path.as_ref())
            .and_then(|(text, path)| Some(Config::preview(&text, path).ok()?.1));
        Self(Arc::new(Inner { path, running: Mutex::new(known) }))
    }

    /// Does it on a thread that may wait for the disk.
    fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, SettingsError> + Send + 'static,
    ) -> Answer<'_, T> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&inner)).await;
            done.unwrap_or_else(|_| Err(SettingsError::NotWritable("It broke off.".into())))
        })
    }
}

impl Settings for FileSettings {
    fn read(&self) -> Answer<'_, SettingsView> {
        self.on_a_thread(Inner::read)
    }

    fn change(&self, change: Change) -> Answer<'_, Applied> {
        self.on_a_thread(move |inner| inner.change(&change))
    }

    fn reload(&self) -> Answer<'_, Applied> {
        self.on_a_thread(Inner::reload)
    }
}

impl Inner {
    fn read(&self) -> Result<SettingsView, SettingsError> {
        let path = self.path()?;
        let text = read(path)?;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (problems, file) = match Config::preview(&text, path) {
            Ok((_, raw)) => (Vec::new(), Some(raw)),
            Err(problems) => (problems, None),
        };
        let needs_restart = match (&running, &file) {
            (Some(running), Some(file)) => changed(running, file),
            _ => Vec::new(),
        };
        Ok(SettingsView {
            path: path.display().to_string(),
            values: values(running.or(file).unwrap_or_default())?,
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
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let old = read(path)?;
        if change.revision.as_ref().is_some_and(|edited| *edited != revision(&old)) {
            return Err(SettingsError::Outdated);
        }
        let new = edited(&old, &change.what).map_err(SettingsError::Refused)?;
        let (_, raw) = Config::preview(&new, path).map_err(SettingsError::Refused)?;
        let before = running.clone().unwrap_or_default();
        let needs_restart = changed(&before, &raw);
        if change.check_only {
            return Ok(Applied { applied: Vec::new(), needs_restart, revision: None });
        }
        write(path, &new).map_err(|error| {
            let path = path.display();
            SettingsError::NotWritable(format!(
                "{path} cannot be written: {error}. Make it and its folder writable for the user \
                 that gatewayd runs as, or edit it there."
            ))
        })?;
        info!(path = %path.display(), keys = ?needs_restart, "API: new settings are written");
        Ok(Applied { applied: Vec::new(), needs_restart, revision: Some(revision(&new)) })
    }

    fn reload(&self) -> Result<Applied, SettingsError> {
        let path = self.path()?;
        let text = read(path)?;
        let (_, raw) = Config::preview(&text, path).map_err(SettingsError::Refused)?;
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let needs_restart = changed(&running.clone().unwrap_or_default(), &raw);
        Ok(Applied { applied: Vec::new(), needs_restart, revision: None })
    }

    fn path(&self) -> Result<&Path, SettingsError> {
        let none = || {
            SettingsError::NotWritable("This gateway was started without a settings file.".into())
        };
        self.path.as_deref().ok_or_else(none)
    }
}

/// The text that a change makes of `old`, secrets in place.
fn edited(old: &str, what: &Edit) -> Result<String, Vec<String>> {
    match what {
        Edit::Text(text) => reveal(text, old),
        Edit::Keys(changes) => {
            let changes: BTreeMap<String, Json> = serde_json::from_str(changes.get())
                .map_err(|error| vec![format!("changes should be keys and values: {error}")])?;
            reveal(&set_keys(old, &changes)?, old)
        }
    }
}

fn values(raw: Raw) -> Result<Box<RawValue>, SettingsError> {
    let broken = |error| SettingsError::NotWritable(format!("The settings are no JSON: {error}."));
    to_raw_value(&raw.masked(MASK)).map_err(broken)
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |error: io::Error| {
        SettingsError::NotWritable(format!("{} cannot be read: {error}.", path.display()))
    };
    fs::read_to_string(path).map_err(unreadable)
}

fn revision(text: &str) -> String {
    faster_hex::hex_string(&Sha256::digest(text)[..8])
}

/// A file is replaced by another, so its folder counts.
fn is_writable(path: &Path) -> bool {
    let folder =
        path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

/// The whole new file or the whole old one, whatever happens meanwhile.
fn write(path: &Path, text: &str) -> io::Result<()> {
    // Through links: what they lead to is meant.
    let path = fs::canonicalize(path)?;
    let mode = fs::metadata(&path)?.permissions().mode();
    let beside = path.with_extension("toml.new");
    let mut file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(&beside, &path)
}
