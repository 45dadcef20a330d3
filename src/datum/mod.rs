//! The DATUM client: keeps a pool connected, fetches splits, relays shares and accounts for each.
//!
//! ```text
//!  bytes -> frame -> link (cipher) -> message -> client --Event--> relay --watch<Payout>--> work
//!                                                  ^                 |
//!                                  shares ---------+----- hold <-----+ while the pool is away
//! ```
//! `conn.rs` and `task.rs` have the sockets; all else is sans-IO. The message types serve the pool's
//! side too (`devnet::pool`). Not here: who mines what (`work`), and which shares are good
//! (`validate`).
//!
//! Every share that enters leaves in exactly one way: accepted (perhaps tentatively) or rejected by
//! the pool, or lost by reason; until then it is held or awaits its answer. Shares whose answer was
//! outstanding when a connection broke are sent again on the next one. The pool may have counted
//! them the first time, so "duplicate work" as the answer to such a share means accepted.

mod awaiting;
mod cipher;
mod client;
mod codec;
mod coinbaser;
mod conn;
mod event;
mod frame;
mod handshake;
mod hints;
mod hold;
mod link;
mod liveness;
mod memory;
pub mod message;
mod options;
mod owed;
mod prime_ids;
mod proof;
mod rebuild;
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
pub use cipher::{Channel, CipherError, Identity, MAC_LEN, Nonces, PublicIdentity};
pub use client::{Client, ClientError};
pub use codec::DecodeError;
pub use coinbaser::{Checked, CoinbaserFault, check as check_coinbaser};
pub use event::{Configured, Event, Fault, Unsent};
pub use frame::{BODY_MAX, FrameError, HEADER_LEN, Header, HeaderKey, Inbox, command, mix};
pub use handshake::{HELLO_MAX, Handshake, HandshakeError, Visitor, Welcome};
pub use link::{Frame, Link, LinkError};
pub use memory::PoolMemory;
pub use options::{Backoff, DatumConfig, PoolConfig, default_user_agent};
pub use proof::{ShortIds, crosscheck};
pub use rebuild::{Rebuilt, rebuild};
pub use relay::{News, Relay, RelayOptions};
#[cfg(test)]
pub(crate) use stats::Verdict;
pub use stats::{Lost, PoolStats, PoolStatsView, PoolTally};
pub use status::{NextPool, PoolState, PoolStatus};
pub use task::{Inputs, Pool, SHARE_BATCHES_MAX, spawn};
pub use trial::Trial;
pub use usernames::{Modifier, UsernameMode, Usernames};
