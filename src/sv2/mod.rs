//! Stratum V2: binary, encrypted, with the header work of standard channels left to the miner.
//!
//! ```text
//!  socket ==sealed frames== link --messages--> session --> channel (shares)  --> validate
//!                            |                    \-----> announce (jobs)   <-- work
//!                          noise, codec
//! ```
//! Jobs, validation, difficulty and counting are shared with V1 (`work`, `validate`, `stratum`).
//! Custom jobs and the job declaration protocol are not supported and are refused.

mod announce;
mod channel;
pub mod codec;
mod evicted;
mod group;
mod jobs;
mod link;
pub mod noise;
#[cfg(test)]
mod peer;
mod request;
mod session;

pub use link::Sv2Link;
