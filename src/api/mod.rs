//! Dashboard, JSON, metrics and administration over HTTP, on a thread of its own.
//!
//! ```text
//!  handles (what runs) -> view (pure) -> shapes -> read, admin, compat -> router -> conn (sockets)
//!                                           metrics, news -> events -^
//! ```
//! `shapes` is the contract with clients, `auth` decides who may change things. Not here: history
//! (`ledger`), and what settings mean and how they are changed (`config`).

mod admin;
mod assets;
pub(crate) mod auth;
mod bans;
mod budget;
mod clock;
mod compat;
mod conn;
mod datum_gateway;
mod error;
mod events;
mod extract;
mod handles;
mod host_check;
mod lan;
mod metrics;
mod news;
mod paced;
mod peer;
mod places;
mod prefix;
mod read;
mod router;
pub mod shapes;
mod state;
mod task;
mod tries;
mod view;
mod wrong_port;

pub(crate) use self::auth::SetupCode;
pub(crate) use self::conn::{Api, spawn};
pub(crate) use self::handles::{Facts, Handles, TlsFacts, Tried, Tries};
pub(crate) use self::task::try_password_file;
