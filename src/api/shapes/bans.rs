//! `/api/v1/bans`.

use serde::Serialize;
use utoipa::ToSchema;

/// Who is banned for exceeding limits again and again, the latest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Bans {
    /// How many there are in total; the answer has at most 1,000.
    pub(crate) total: u64,
    pub(crate) bans: Vec<Ban>,
    /// How often each limit was exceeded since this process started.
    pub(crate) crossed: Vec<Crossed>,
    /// Bans since this process started, including those that have ended.
    pub(crate) bans_session: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Ban {
    /// An address like "203.0.113.7", or a network like "203.0.113.0/24".
    pub(crate) address: String,
    /// The limit that was exceeded last: "connections", "logins", "bad-shares" or "bytes".
    pub(crate) limit: &'static str,
    pub(crate) since_at_unix_s: u64,
    pub(crate) ends_in_s: u64,
    /// Its number in a row of bans, each twice as long as the one before.
    pub(crate) row: u32,
    /// Connections that were refused because of it.
    pub(crate) refused: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Crossed {
    pub(crate) limit: &'static str,
    pub(crate) times: u64,
}
