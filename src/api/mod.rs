//! Dashboard, JSON, metrics and administration over HTTP, on a thread of its own.
//!
//! ```text
//!  handles (what runs) -> view (pure) -> shapes -> read, admin, compat -> router -> conn (sockets)
//!                                           metrics, news -> events -^
//! ```
//! `shapes` is the promise to readers, `auth` the door, `settings` what the owner of gatewayd.toml
//! gives. Not here: what happened before (`ledger`), and what settings mean (`config`).

mod admin;
mod assets;
pub mod auth;
mod bans;
mod budget;
mod clock;
mod compat;
mod conn;
mod door;
mod error;
mod events;
mod extract;
mod handles;
mod metrics;
mod news;
mod paced;
mod peer;
mod places;
mod prefix;
mod read;
mod router;
mod settings;
pub mod shapes;
mod state;
mod stranger;
mod task;
mod view;

pub use self::{
    auth::SetupCode,
    conn::{Api, spawn},
    handles::{Facts, Handles, Moment, PortFacts, TlsFacts},
    settings::{Answer, Applied, Change, Edit, MASK, Settings, SettingsError, SettingsView},
    task::try_password_file,
};
