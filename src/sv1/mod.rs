//! Stratum V1. `session` is the protocol, without I/O or clock; `conn` puts it on a socket.
//!
//! One line in, at most a few lines out; a share's way through `message`, `validate` and `error`
//! allocates nothing and takes no lock. Not here: accepting connections (`listener`), and what
//! becomes of shares and blocks.

mod classes;
mod config;
mod conn;
mod effects;
mod error;
mod given;
mod message;
mod method;
mod names;
pub mod notify;
mod session;

pub use classes::{ClassRule, Classes};
pub use config::Config;
pub use conn::{BlockSink, Conn, ConnError, Context};
pub use effects::{Effects, Tally};
pub use session::{Close, Session};
