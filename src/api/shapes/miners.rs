//! `/api/v1/miners` and `/api/v1/workers`.

use serde::Serialize;
use utoipa::ToSchema;

use super::Reasons;

/// Live SV1 connections and SV2 channels, by id.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Miners {
    /// How many there are in total.
    pub(crate) total: u64,
    pub(crate) miners: Vec<Miner>,
    /// Pass this as `after` to get those that did not fit.
    pub(crate) next_after: Option<u64>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Miner {
    /// Unique until the gateway restarts.
    pub(crate) id: u64,
    /// Address and port that it comes from.
    pub(crate) peer: String,
    pub(crate) protocol: Protocol,
    /// What it says it is; for SV2, vendor/hardware/firmware.
    pub(crate) user_agent: String,
    /// Names that it has sent shares with, latest last.
    pub(crate) workers: Vec<String>,
    /// The name it logged in with, where that begins with no address and the pool goes by it: then the
    /// pool can pay nobody for its shares.
    pub(crate) unpayable_name: Option<String>,
    /// Which coinbase it gets.
    pub(crate) class: Class,
    /// The difficulty that its shares must currently reach.
    pub(crate) difficulty: f64,
    /// Estimated from its shares in the last few minutes.
    pub(crate) hashrate_h_per_s: f64,
    pub(crate) accepted: u64,
    pub(crate) accepted_difficulty: f64,
    pub(crate) rejected: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub(crate) rejected_by_reason: Reasons,
    /// The real difficulty of its best share on this connection.
    pub(crate) best_share_difficulty: Option<f64>,
    pub(crate) last_share_age_s: Option<f64>,
    pub(crate) connected_at_unix_s: u64,
    pub(crate) connected_s: f64,
    pub(crate) blocks: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub(crate) enum Protocol {
    #[serde(rename = "sv1")]
    Sv1,
    #[serde(rename = "sv1+tls")]
    Sv1Tls,
    #[serde(rename = "sv2-standard")]
    Sv2Standard,
    #[serde(rename = "sv2-extended")]
    Sv2Extended,
}

/// Kinds of miners, by the largest coinbase that they can handle.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Class {
    /// Subsidy-only work, the same for all classes.
    Empty,
    /// A single output.
    Tiny,
    /// 500 bytes.
    Small,
    /// 755 bytes.
    Default,
    /// 6,500 bytes.
    Respectable,
    /// 16,000 bytes.
    Huge,
    /// 2,250 bytes.
    S21,
}

impl Class {
    /// Its name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Default => "default",
            Self::Respectable => "respectable",
            Self::Huge => "huge",
            Self::S21 => "s21",
        }
    }
}

/// Everybody who has sent a share, highest hashrate first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Workers {
    pub(crate) total: u64,
    pub(crate) workers: Vec<Worker>,
}

/// One user name, across connections and restarts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Worker {
    pub(crate) name: String,
    /// How many miners currently use this name.
    pub(crate) miners: u64,
    pub(crate) hashrate_1m_h_per_s: f64,
    pub(crate) hashrate_5m_h_per_s: f64,
    pub(crate) hashrate_1h_h_per_s: f64,
    pub(crate) accepted: u64,
    pub(crate) accepted_difficulty: f64,
    pub(crate) rejected: u64,
    #[schema(value_type = std::collections::BTreeMap<String, u64>)]
    pub(crate) rejected_by_reason: Reasons,
    pub(crate) best_share_difficulty: Option<f64>,
    pub(crate) best_share_at_unix_s: Option<u64>,
    pub(crate) first_seen_at_unix_s: Option<u64>,
    pub(crate) last_share_at_unix_s: Option<u64>,
    pub(crate) last_share_age_s: Option<f64>,
    pub(crate) blocks: u64,
}
