//! `/api/v1/status`, `/healthz`, `/readyz`.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Protocol, Reasons};

/// Everything at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Status {
    pub(crate) version: &'static str,
    pub(crate) started_at_unix_s: u64,
    pub(crate) uptime_s: u64,
    pub(crate) mode: Mode,
    /// Nothing can be mined until settings are made: there is no payout address yet, or it does not
    /// belong to the nodes' network (the warning "wrong-network" says which).
    pub(crate) setup_needed: bool,
    /// The first settings were made here and have brought no work yet, or none were made: whoever
    /// makes them is not done.
    pub(crate) setup_unfinished: bool,
    /// The chain being mined: "bitcoin", "testnet", "testnet4", "signet" or "regtest".
    pub(crate) network: Option<String>,
    /// Height of the chain's last block, on which miners are working.
    pub(crate) tip_height: Option<u32>,
    pub(crate) tip_hash: Option<String>,
    /// Since this gateway saw the tip.
    pub(crate) tip_age_s: Option<f64>,
    /// Since the node last gave a template.
    pub(crate) template_age_s: Option<f64>,
    pub(crate) network_difficulty: Option<f64>,
    pub(crate) hashrate_1m_h_per_s: f64,
    pub(crate) hashrate_5m_h_per_s: f64,
    pub(crate) hashrate_1h_h_per_s: f64,
    /// TCP connections of miners.
    pub(crate) connections: u64,
    /// SV1 connections and SV2 channels: what `/api/v1/miners` lists.
    pub(crate) miners: u64,
    pub(crate) miners_by_protocol: Vec<ProtocolCount>,
    /// Since this process started.
    pub(crate) shares: Shares,
    /// Since the ledger began, across restarts.
    pub(crate) shares_ever: Shares,
    pub(crate) ever_since_at_unix_s: Option<u64>,
    /// The best one ever.
    pub(crate) best_share: Option<BestShare>,
    /// The best since this process started.
    pub(crate) best_share_session: Option<BestShare>,
    /// In total.
    pub(crate) blocks_found: u64,
    pub(crate) blocks_found_session: u64,
    /// How many of those found since this process started are in a node's best chain.
    pub(crate) blocks_accepted_session: u64,
    /// Where miners connect.
    pub(crate) stratum: StratumAccess,
    /// What needs attention, worst first. Empty: all is well.
    pub(crate) warnings: Vec<Warning>,
}

/// Whom blocks would pay.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The pool and the miners it pays.
    Pooled,
    /// `mining.address`.
    Solo,
    /// Nobody: there is no work for miners now; `warnings` says why.
    Waiting,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct ProtocolCount {
    pub(crate) protocol: Protocol,
    pub(crate) miners: u64,
}

/// All miners' shares.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Shares {
    pub(crate) accepted: u64,
    /// Σ credited difficulty of accepted shares.
    pub(crate) accepted_difficulty: f64,
    pub(crate) rejected: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub(crate) rejected_by_reason: Reasons,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BestShare {
    /// The real difficulty of its hash, as miners show it.
    pub difficulty: f64,
    pub worker: String,
    pub(crate) at_unix_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StratumAccess {
    /// Listening addresses, like "0.0.0.0:23334".
    pub(crate) listen: Vec<String>,
    /// Where other machines of the same network find this one, as far as it knows.
    pub(crate) addresses: Vec<String>,
    /// Those with rules of their own.
    pub(crate) ports: Vec<StratumPort>,
    /// The key by which Stratum V2 miners can verify the gateway.
    pub(crate) sv2_authority_key: Option<String>,
    /// Null: miners cannot use TLS (`stratum.tls.enabled`).
    pub(crate) tls: Option<StratumTls>,
}

/// The certificate for miners that use TLS.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StratumTls {
    /// Issued by the gateway's own authority, whose certificate (`/api/v1/stratum/ca.pem`) they
    /// need.
    pub(crate) own_authority: bool,
    /// The names that it is issued for: miners have to connect to one of these. Empty: see the
    /// certificate.
    pub(crate) names: Vec<String>,
}

/// A `[[stratum.port]]`; null: as on all ports.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StratumPort {
    /// Its addresses.
    pub(crate) listen: Vec<String>,
    pub(crate) difficulty_min: Option<f64>,
    pub(crate) difficulty_start: Option<f64>,
    pub(crate) difficulty_max: Option<f64>,
    pub(crate) max_coinbase_bytes: Option<u64>,
    /// Its own key, by which Stratum V2 miners can verify it.
    pub(crate) sv2_authority_key: Option<String>,
}

/// Something that needs attention.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Warning {
    /// Stable, unlike the text: "no-work", "pool-down", "node-down", …
    pub(crate) code: &'static str,
    pub(crate) severity: Severity,
    /// What is wrong.
    pub(crate) text: String,
    /// What to do.
    pub(crate) advice: String,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Severity {
    /// Costs money now.
    Error,
    Warning,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Always true: otherwise there is no answer.
    pub(crate) alive: bool,
    pub(crate) version: &'static str,
    pub(crate) uptime_s: u64,
}

/// Whether miners that connect now would get work that pays.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// Why not.
    pub(crate) reasons: Vec<String>,
}

/// The `warnings` of [`Status`], as an event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Warnings {
    pub(crate) warnings: Vec<Warning>,
}
