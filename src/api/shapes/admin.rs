//! Signing in, settings, actions, and errors.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Every answer that is not a success.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    /// Stable, unlike the text: "not-found", "unauthorized", "bad-request", …
    pub(crate) error: &'static str,
    /// What is wrong and what to do.
    pub(crate) message: String,
    /// For settings: everything that is wrong with them.
    pub(crate) problems: Vec<String>,
}

/// Whether this client may change things.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// False: read only, because `api.admin_password_file` is not set.
    pub(crate) admin_enabled: bool,
    pub(crate) signed_in: bool,
    /// There is no password, there has been no work for miners yet, and this client is on a local network:
    /// whoever signs in with the code from gatewayd's log may make the first settings.
    pub(crate) setup_open: bool,
    /// This client has done so.
    pub(crate) may_set_up: bool,
    /// To be sent back in the header `X-CSRF-Token` of every request; given only once, at sign-in.
    pub(crate) csrf_token: Option<String>,
    pub(crate) expires_in_s: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// While `setup_open`, the code.
    pub(crate) password: String,
}

/// gatewayd.toml.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Settings {
    pub(crate) path: String,
    /// The file with its comments. Each secret is shown as `"<secret>"`; if sent back like this, it
    /// stays unchanged.
    pub(crate) text: String,
    /// Every key with the value in use, defaults included; secrets are `<secret>` or "".
    #[schema(value_type = Object)]
    pub(crate) values: Box<RawValue>,
    /// Identifies this state of the file: a change made from an older one is refused.
    pub(crate) revision: String,
    /// False: the file cannot be written, and why.
    pub(crate) writable: bool,
    /// What is wrong with the current file.
    pub(crate) problems: Vec<String>,
    /// Keys whose values in the file take effect only after a restart.
    pub(crate) needs_restart: Vec<String>,
    /// Keys set by the environment, which overrides the file.
    pub(crate) from_environment: Vec<String>,
}

/// New settings: the whole text, or single keys.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsChange {
    /// The whole file.
    #[serde(default)]
    pub text: Option<String>,
    /// Key -> value, like `{"mining.address": "bc1q…", "node.0.rpc_url": "http://…"}`; null removes
    /// a key, a section or a list entry. Comments stay.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub changes: Option<Box<RawValue>>,
    /// The revision that was edited; null: the current one.
    #[serde(default)]
    pub(crate) revision: Option<String>,
    /// Only reports what is wrong and what would need a restart.
    #[serde(default)]
    pub(crate) check_only: bool,
    /// Tries the nodes and pools that change: each is asked once, as `gatewayd check` does it. Where
    /// one does not work, nothing is written, and `problems` says why (`try-failed`).
    #[serde(default)]
    pub(crate) try_changes: bool,
    /// Sets the first admin password, which gatewayd keeps as a hash in `ledger.data_dir`. Not where
    /// there is one.
    #[serde(default)]
    pub(crate) admin_password: Option<String>,
}

/// The result of new settings.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct SettingsApplied {
    /// Keys that changed and are in use now (or would be).
    pub(crate) applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub(crate) needs_restart: Vec<String>,
    /// The file's new revision; null if nothing was written.
    pub(crate) revision: Option<String>,
    /// With `try_changes`: what works, a line for each node and pool that was tried.
    pub(crate) tried: Vec<String>,
}

/// An action was taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Done {
    pub(crate) done: bool,
    pub(crate) message: String,
}
