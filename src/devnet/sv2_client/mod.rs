//! The client's side of Stratum V2, for the miner and for the load. No socket or clock here.
//!
//! `link` is the encryption: sealed bytes in, messages out, and the other way round. `session` is the
//! conversation, with as many channels as are wanted, and `channel` is one of them. What is mined with
//! their work, and what comes of the shares, is left to whoever mines: it is told by [`Event`]s.

mod channel;
mod link;
mod session;

pub(super) use channel::{Begin, Kind};
pub(super) use link::{Sv2Link, Sv2LinkError};
pub(super) use session::{Event, Setup, Sv2Client, Sv2ClientClose, Wanted};
