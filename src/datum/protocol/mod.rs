//! The DATUM protocol, for both ends: keys and the encrypted channel, frames, the handshake, every
//! message, and how a pool rebuilds a share's header.
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

pub(crate) use cipher::CipherError;
#[cfg(feature = "devnet")]
pub(crate) use cipher::SIGNATURE_LEN;
pub use cipher::{Identity, MAC_LEN, Nonces, PublicIdentity, SecureChannel};
pub(crate) use frame::HEADER_LEN;
pub use frame::{BODY_MAX, FrameBuffer, FrameHeader, HeaderKey, command};
pub use handshake::HELLO_MAX;
pub use handshake::{Handshake, HandshakeError, Visitor};
pub(crate) use link::LinkError;
pub use link::{Frame, Link};
pub use proof::{ShortIds, crosscheck};
pub use rebuild::rebuild;
