//! `/api/v1/history` and `/api/v1/rejects`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Series for a chart: one time axis, and a column of values for each line.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct History {
    pub(crate) metric: Metric,
    /// The unit of the values.
    pub(crate) unit: Unit,
    pub(crate) window_s: u64,
    /// Each value covers this long, starting at its time.
    pub(crate) step_s: u64,
    pub(crate) at_unix_s: Vec<u64>,
    /// First all workers together (or the one asked for), then the busiest, as many as asked for.
    pub(crate) series: Vec<Series>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Series {
    /// Null: all workers together.
    pub(crate) worker: Option<String>,
    /// One for each time; null where nothing was recorded.
    pub(crate) values: Vec<Option<f64>>,
}

/// Why shares were rejected within a period.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Rejects {
    pub(crate) window_s: u64,
    /// Null: all workers together.
    pub(crate) worker: Option<String>,
    /// Reason -> number of shares. A minute is included once it is over.
    pub(crate) by_reason: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Metric {
    #[default]
    Hashrate,
    /// Accepted shares in each step.
    Accepted,
    /// Rejected shares in each step.
    Rejected,
    /// Σ credited difficulty in each step.
    Difficulty,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    HPerS,
    Shares,
    Difficulty,
}
