//! Stratum V1: `session` is the protocol, without I/O or clock.
//!
//! One line in, at most a few lines out; a share's path through `message`, `validate` and `error`
//! allocates nothing and takes no lock. Not here: connections (`stratum`), accepting them
//! (`listener`), and what becomes of shares and blocks.

#[cfg(test)]
mod conn_tests;
mod error;
mod hex;
mod message;
mod method;
pub mod notify;
mod session;

pub use session::Sv1Session;
