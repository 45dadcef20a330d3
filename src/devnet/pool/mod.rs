//! A DATUM pool for development: the pool's side of the protocol, strict with shares, and able to
//! misbehave on request. `session.rs` is sans-IO; `conn.rs` has the sockets.
//!
//! Not here: the protocol's encoding, which `datum` does for both sides; anything about money.
//! Accounts live as long as the process.

mod check;
mod cli;
mod conn;
mod gateway;
mod habits;
mod inspect;
mod ledger;
mod options;
mod session;
mod split;

pub(crate) use cli::{PoolArgs, run_cli};
pub use conn::{Pool, PoolHandle};
pub use habits::{Coinbasers, Habits, PrimeIds};
pub use ledger::{Heard, Ledger, PoolStatsView, PoolTime};
pub use options::{Control, Fault, PoolConfig, PoolOptions, Probe, ValidationPlan};
pub use session::PoolSession;

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
fn test_now() -> std::time::Instant {
    std::time::Instant::now()
}
