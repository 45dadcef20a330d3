//! The DATUM client: keeps a pool connected, fetches splits, relays shares and accounts for each of
//! them.
//!
//! ```text
//!  bytes -> frame -> link (cipher) -> message -> client --PoolEvent--> relay --watch<Payout>--> work
//!                                                  ^                 |
//!                                  shares ---------+----- hold <-----+ while the pool is away
//! ```
//! `protocol/` is what goes over the wire, and serves the pool's side too (`devnet::pool`);
//! everything else is the client. `conn.rs` and `task.rs` have the sockets; the rest is sans-IO.
//! Not here: who mines what (`work`), and which shares are valid (`validate`).
//!
//! Every share that enters leaves in exactly one way: accepted (perhaps tentatively) or rejected by
//! the pool, or lost for some reason; until then it is held or awaits its answer. Shares that were
//! unanswered when a connection was lost are sent again on the next one. The pool may have counted
//! them the first time, so "duplicate work" as the answer to such a share means accepted.

mod awaiting;
mod client;
mod coinbaser;
mod conn;
mod event;
mod hints;
mod hold;
mod liveness;
mod memory;
mod options;
mod owed;
mod prime_ids;
mod protocol;
mod relay;
mod retry;
mod slots;
mod stats;
mod status;
mod task;
mod trial;
mod usernames;
mod validation;

pub use client::{Client, ClientError};
pub use coinbaser::{CoinbaserFault, check as check_coinbaser};
pub(crate) use event::Configured;
pub use event::{PoolEvent, PoolFault};
pub use memory::PoolMemory;
pub(crate) use options::default_user_agent;
pub use options::{Backoff, DatumConfig, PoolConfig};
pub use protocol::HELLO_MAX;
#[cfg(feature = "devnet")]
pub(crate) use protocol::SIGNATURE_LEN;
pub use protocol::{
    BODY_MAX, Frame, FrameBuffer, FrameHeader, Handshake, HandshakeError, HeaderKey, Identity,
    Link, MAC_LEN, Nonces, PublicIdentity, SecureChannel, ShortIds, Visitor, command, crosscheck,
    message, rebuild,
};
pub(crate) use protocol::{CipherError, HEADER_LEN, LinkError};
pub use relay::{Relay, RelayOptions};
pub(crate) use stats::PoolTally;
#[cfg(test)]
pub(crate) use stats::PoolVerdict;
pub use stats::{Lost, PoolStats, PoolStatsView};
pub(crate) use status::NextPool;
pub use status::{PoolState, PoolStatus};
pub use task::{Inputs, Pool, spawn};
pub use trial::PoolTrial;
pub(crate) use usernames::Modifier;
pub use usernames::{UsernameMode, Usernames};
