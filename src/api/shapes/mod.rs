//! The API's answers, as types: their names and units are a stable interface.
//!
//! Units are in the names (`_s`, `_ms`, `_bytes`, `_sats`, `_h_per_s`, `_unix_s`); unknown values
//! are null, never left out. Not here: where the figures come from.

mod admin;
mod bans;
mod blocks;
pub(crate) mod datum_gateway;
mod history;
mod miners;
mod nodes;
mod pool;
mod status;
mod work;

use std::collections::BTreeMap;

pub use self::admin::*;
pub(crate) use self::bans::*;
pub(crate) use self::blocks::*;
pub(crate) use self::history::*;
pub(crate) use self::miners::*;
pub(crate) use self::nodes::*;
pub(crate) use self::pool::*;
pub(crate) use self::status::*;
pub(crate) use self::work::*;

/// Reason -> count.
pub(crate) type Reasons = BTreeMap<&'static str, u64>;
