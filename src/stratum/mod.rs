//! What the Stratum protocols share: a miner's connection, its rules, its place among all.
//!
//! `conn` puts any `protocol::Protocol` on a socket; the rest is plain data. Not here:
//! a protocol (`sv1`, `sv2`), accepting connections (`listener`).

mod account;
mod alarm;
mod allowance;
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

pub use account::{Account, Claim};
pub use classes::{ClassRule, Classes};
pub use config::Config;
pub use conn::{BlockSink, Conn, ConnError, Context};
pub use effects::{Effects, Tally, Turn};
pub use gate::{Gate, Limits, Place};
pub use given::{Given, GivenJobs};
pub use meter::UsageMeter;
pub use names::{Named, Names};
pub use origin::Origin;
pub(crate) use pacing::{Pacing, is_urgent};
pub use protocol::{Closing, Protocol};
pub use terms::{Asked, Terms, block_difficulty};
