//! What the Stratum protocols share: a miner's connection, its rules, its place among the others.
//!
//! `conn` puts any `protocol::Protocol` on a socket; the rest is plain data. Not here: the
//! protocols (`sv1`, `sv2`) and accepting connections (`listener`).

mod account;
mod alarm;
mod buffers;
mod classes;
mod config;
mod conn;
mod effects;
#[cfg(test)]
pub(crate) mod firmware;
pub(crate) mod gate;
mod issued_jobs;
mod meter;
mod names;
mod origin;
mod pacing;
pub(crate) mod places;
mod protocol;
mod terms;

pub(crate) use account::{MinerAccount, ShareClaim};
pub(crate) use classes::{ClassRule, Classes};
pub use config::Config;
pub(crate) use config::NameRule;
pub use conn::Context;
pub(crate) use conn::{BlockSink, ConnError, MinerConnection};
pub use effects::Effects;
pub(crate) use effects::{Tally, TurnBudget};
pub use gate::ConnectionLimits;
pub(crate) use gate::MinerPlace;
pub(crate) use issued_jobs::{IssuedJob, IssuedJobs};
pub(crate) use meter::UsageMeter;
pub(crate) use names::UsernameCache;
pub use origin::Origin;
pub(crate) use pacing::{Pacing, is_urgent};
pub use protocol::{Closing, Protocol};
pub(crate) use terms::{DifficultyTerms, RequestedDifficulty};
