//! The DATUM protocol, as both ends speak it: keys and the encrypted channel, frames, the handshake,
//! every message, and how a pool makes a share's header again.
//!
//! Not here: what a gateway does with it (the rest of `datum`), or a pool (`devnet::pool`).

pub(in crate::datum) mod cipher;
pub(in crate::datum) mod codec;
pub(in crate::datum) mod frame;
pub(in crate::datum) mod handshake;
pub(in crate::datum) mod link;
pub mod message;
pub(in crate::datum) mod proof;
mod rebuild;

pub use cipher::{Channel, CipherError, Identity, MAC_LEN, Nonces, PublicIdentity};
pub use codec::DecodeError;
pub use frame::{BODY_MAX, FrameError, HEADER_LEN, Header, HeaderKey, Inbox, command, mix};
pub use handshake::{HELLO_MAX, Handshake, HandshakeError, Visitor, Welcome};
pub use link::{Frame, Link, LinkError};
pub use proof::{ShortIds, crosscheck};
pub use rebuild::{Rebuilt, rebuild};
