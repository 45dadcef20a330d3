//! `/api/v1/nodes`.

use serde::Serialize;
use utoipa::ToSchema;

/// The operator's nodes, in order of preference.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Node {
    /// Host and port.
    pub(crate) name: String,
    pub(crate) state: NodeState,
    /// Its templates are the ones in use.
    pub(crate) is_active: bool,
    /// What it calls itself.
    pub(crate) version: Option<String>,
    pub(crate) network: Option<String>,
    /// The height of its tip.
    pub(crate) height: Option<u32>,
    pub(crate) is_in_initial_download: bool,
    pub(crate) template_age_s: Option<f64>,
    /// How long its last template took.
    pub(crate) template_fetch_ms: Option<f64>,
    /// Since it last answered anything.
    pub(crate) answer_age_s: Option<f64>,
    /// Why it is not ready, or the last thing that went wrong, and what to do.
    pub(crate) last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeState {
    /// Has not answered yet.
    Starting,
    /// Gives templates.
    Ready,
    /// Catching up with the network.
    Syncing,
    Down,
    /// Gives templates, but has been a block or more behind another node for some time.
    Behind,
    /// On another chain than the one being mined.
    WrongChain,
    /// Only gets found blocks.
    SubmitOnly,
}
