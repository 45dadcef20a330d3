//! What the API says, as types: their names and units are a promise to whoever reads them.
//!
//! Units are in the names (`_s`, `_ms`, `_bytes`, `_sats`, `_h_per_s`, `_unix_s`); what is not known is
//! null, never left out. Not here: where the figures come from.

mod admin;
mod bans;
mod blocks;
mod history;
mod miners;
mod nodes;
mod pool;
mod status;
mod work;

use std::collections::BTreeMap;

pub use self::{
    admin::*, bans::*, blocks::*, history::*, miners::*, nodes::*, pool::*, status::*, work::*,
};

/// Reason -> how often.
pub type Reasons = BTreeMap<&'static str, u64>;
