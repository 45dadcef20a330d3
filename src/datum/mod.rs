//! The DATUM client: keeps a pool connected, fetches splits, relays shares and accounts for each.
//!
//! ```text
//!  bytes -> frame -> link (cipher) -> message -> client --Event--> relay --watch<Payout>--> work
//!                                                  ^                 |
//!                                  shares ---------+----- hold <-----+ while the pool is away
//! ```
//! `protocol/` is what goes over the wire, and serves the pool's side too (`devnet::pool`); all around
//! it is the client. `conn.rs` and `task.rs` have the sockets; all else is sans-IO. Not here: who mines what (`work`), and which shares are good
//! (`validate`).
//!
//! Every share that enters leaves in exactly one way: accepted (perhaps tentatively) or rejected by
//! the pool, or lost by reason; until then it is held or awaits its answer. Shares whose answer was
//! outstanding when a connection broke are sent again on the next one. The pool may have counted
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

pub use awaiting::Sent;
pub use client::{Client, ClientError};
pub use coinbaser::{Checked, CoinbaserFault, check as check_coinbaser};
pub use event::{Configured, Event, Fault, Unsent};
pub use memory::PoolMemory;
pub use options::{Backoff, DatumConfig, PoolConfig, default_user_agent};
pub use protocol::{
    BODY_MAX, Channel, CipherError, DecodeError, Frame, FrameError, HEADER_LEN, HELLO_MAX,
    Handshake, HandshakeError, Header, HeaderKey, Identity, Inbox, Link, LinkError, MAC_LEN,
    Nonces, PublicIdentity, Rebuilt, ShortIds, Visitor, Welcome, command, crosscheck, message, mix,
    rebuild,
};
pub use relay::{News, Relay, RelayOptions};
#[cfg(test)]
pub(crate) use stats::Verdict;
pub use stats::{Lost, PoolStats, PoolStatsView, PoolTally};
pub use status::{NextPool, PoolState, PoolStatus};
pub use task::{Inputs, Pool, SHARE_BATCHES_MAX, spawn};
pub use trial::Trial;
pub use usernames::{Modifier, UsernameMode, Usernames};
