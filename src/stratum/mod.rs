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
mod given;
mod meter;
mod names;
mod origin;
mod pacing;
pub(crate) mod places;
mod protocol;
mod terms;

pub(crate) use account::{Account, Claim};
pub(crate) use classes::{ClassRule, Classes};
pub use config::Config;
pub use conn::Context;
pub(crate) use conn::{BlockSink, Conn, ConnError};
pub use effects::Effects;
pub(crate) use effects::{Tally, Turn};
pub use gate::Limits;
pub(crate) use gate::Place;
pub(crate) use given::{Given, GivenJobs};
pub(crate) use meter::UsageMeter;
pub(crate) use names::Names;
pub use origin::Origin;
pub(crate) use pacing::{Pacing, is_urgent};
pub use protocol::{Closing, Protocol};
pub(crate) use terms::{Asked, Terms};
