//! gatewayd: a Bitcoin mining gateway between your node, your miners and a DATUM pool.
//!
//! ```text
//!  nodes --templates, tips--> template/ --watch<Template>--> work/ --watch<Work>--> sv1/ --> miners
//!                                         datum/ --watch<Payout>--^                  |
//!  nodes <--found blocks----- blocks/ <---------- first, always ---------- validate/ <- submit
//!  pool  <--shares----------- datum/  <---------- batches per read ------------------+
//! ```
//! `ARCHITECTURE.md` says who owns what and why.
#![cfg_attr(
    not(feature = "devnet"),
    allow(
        dead_code,
        unused_imports,
        reason = "with the devnet the compiler sees what nobody uses"
    )
)]
pub mod api;
pub mod blocks;
pub mod books;
mod clock;
pub mod config;
pub mod daemon;
pub mod datum;
#[cfg(feature = "devnet")]
pub mod devnet;
#[cfg(not(feature = "devnet"))]
#[path = "devnet/absent.rs"]
pub mod devnet;
pub mod healthcheck;
pub mod ledger;
pub mod listener;
pub mod logging;
mod net;
pub mod node;
pub mod stratum;
pub mod sv1;
pub mod sv2;
pub mod template;
pub mod validate;
pub mod work;
