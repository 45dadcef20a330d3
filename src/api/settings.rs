//! The way to gatewayd.toml, as whoever owns it gives it to the API.

use std::{future::Future, pin::Pin};

use serde_json::value::RawValue;

/// The owner of the settings. The API never sees a secret: each is masked by [`MASK`].
pub trait Settings: Send + Sync {
    fn read(&self) -> Answer<'_, SettingsView>;

    /// Checks new settings, writes them and puts into effect what can be.
    fn change(&self, change: Change) -> Answer<'_, Applied>;

    /// Reads the file again, as SIGHUP does.
    fn reload(&self) -> Answer<'_, Applied>;
}

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, SettingsError>> + Send + 'a>>;

/// The file as it is.
#[derive(Clone, Debug)]
pub struct SettingsView {
    pub path: String,
    pub text: String,
    /// Every key with the value in use, as JSON.
    pub values: Box<RawValue>,
    pub revision: String,
    pub writable: bool,
    pub problems: Vec<String>,
    pub needs_restart: Vec<String>,
    pub from_environment: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Change {
    pub what: Edit,
    /// What was edited, if it matters.
    pub revision: Option<String>,
    pub check_only: bool,
    /// By somebody who may only make the first settings.
    pub sets_up: bool,
}

#[derive(Clone, Debug)]
pub enum Edit {
    /// The whole file.
    Text(String),
    /// A JSON object of keys and values.
    Keys(Box<RawValue>),
}

/// Keys that changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Applied {
    pub applied: Vec<String>,
    pub needs_restart: Vec<String>,
    /// None: nothing was written.
    pub revision: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    #[error("These settings cannot be used; nothing was changed.")]
    Refused(Vec<String>),
    #[error("The file has changed since you began: load it again, then make your changes anew.")]
    Outdated,
    #[error("The first settings are made: sign in to change them.")]
    SetUpAlready,
    #[error("{0}")]
    NotWritable(String),
}

/// Stands for a secret in what the API gives; given back, the secret stays as it is.
pub const MASK: &str = "<secret>";
