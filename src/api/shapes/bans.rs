//! `/api/v1/bans`.

use serde::Serialize;
use utoipa::ToSchema;

/// Who is shut out for crossing limits again and again, the latest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Bans {
    /// How many there are in all; the answer has 1,000 at most.
    pub(crate) total: u64,
    pub(crate) bans: Vec<Ban>,
    /// Since this process started: how often each limit was crossed.
    pub(crate) crossed: Vec<Crossed>,
    /// Bans since this process started, those that have ended included.
    pub(crate) bans_session: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Ban {
    /// An address like "203.0.113.7", or a network like "203.0.113.0/24".
    pub(crate) address: String,
    /// The limit that was crossed last: "connections", "logins", "bad-shares" or "bytes".
    pub(crate) limit: &'static str,
    pub(crate) since_at_unix_s: u64,
    pub(crate) ends_in_s: u64,
    /// Which one it is of a row: each is twice as long as the one before.
    pub(crate) row: u32,
    /// Connections that were turned away for it.
    pub(crate) refused: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Crossed {
    pub(crate) limit: &'static str,
    pub(crate) times: u64,
}
