//! `/api/v1/work`.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Class, Mode};

/// What is being mined, and whom it would pay.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Work {
    pub(crate) mode: Mode,
    /// Why miners get no work; null while they do.
    pub(crate) waiting_for: Option<String>,
    /// None: there has been no work yet.
    pub(crate) job: Option<Job>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Job {
    pub id: String,
    /// Pays only the subsidy: used on a new tip until the node has a template.
    pub(crate) is_empty: bool,
    pub template: Template,
    pub payout: Payout,
    /// One for each class of miners; a single one while all get the same.
    pub(crate) coinbases: Vec<Coinbase>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Template {
    /// The node that made it.
    pub source: String,
    pub kind: TemplateKind,
    /// The height of the block being mined, one above the tip.
    pub height: u32,
    pub prevhash: String,
    /// Eight hex digits.
    pub version: String,
    /// Eight hex digits.
    pub nbits: String,
    pub(crate) network_difficulty: f64,
    /// The node's clock when it made the template.
    pub(crate) curtime_unix_s: u32,
    pub(crate) age_s: Option<f64>,
    pub transactions: u64,
    pub(crate) size_bytes: u32,
    /// Of all transactions except the coinbase.
    pub(crate) weight: u32,
    pub(crate) weight_limit: u32,
    pub(crate) sigops: u32,
    pub(crate) sigops_limit: u32,
    pub(crate) subsidy_sats: u64,
    pub(crate) fees_sats: u64,
    pub(crate) coinbase_value_sats: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TemplateKind {
    /// Made from the tip's header alone: subsidy only.
    Tip,
    Full,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Payout {
    /// `host:port`; null when solo.
    pub(crate) pool: Option<String>,
    pub(crate) prime_id: Option<u32>,
    pub(crate) pool_difficulty_min: Option<u64>,
    /// Outputs that the pool asked for; null when solo or not known yet.
    pub(crate) split_outputs: Option<u64>,
    /// As written into the coinbase.
    pub tag_primary: String,
    pub tag_secondary: String,
    pub unique_id: u16,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Coinbase {
    pub(crate) class: Class,
    /// Live miners that get it.
    pub(crate) miners: u64,
    pub(crate) size_bytes: u64,
    /// The class's limit; null if it has none.
    pub(crate) size_limit_bytes: Option<u64>,
    /// Σ outputs.
    pub(crate) value_sats: u64,
    /// The part of it that goes to `mining.address`.
    pub(crate) yours_sats: u64,
    pub(crate) outputs: Vec<Output>,
}

/// One output, in the coinbase's order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Output {
    pub(crate) kind: OutputKind,
    pub(crate) value_sats: u64,
    /// Null for scripts without an address.
    pub(crate) address: Option<String>,
    pub(crate) script_hex: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OutputKind {
    /// The pool's own script, which gets whatever no split claims.
    Pool,
    /// `mining.address`.
    Yours,
    /// Someone whom the pool pays.
    Split,
    /// The witness commitment, which pays nothing.
    Commitment,
    /// Room for extranonces, which pays nothing.
    Extranonce,
}
