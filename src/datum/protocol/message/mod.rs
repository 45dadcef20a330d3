//! Every message of the protocol, in both directions, encoding and decoding.
//!
//! Plaintext only: signing, sealing and the channel are in `link`.

mod hello;
mod share;
mod to_gateway;
mod to_pool;

pub use hello::{GatewayKeys, Hello, Response};
pub use share::{CoinbaseContext, JobContext, ShareFlags, ShareMessage};
pub use to_gateway::{
    CoinbaserMessage, Configuration, ShareReason, ShareResponse, ShareStatus, ToGateway, Wanted,
};
pub use to_pool::{ToPool, Validation, ValidationError};

pub(crate) use super::codec::DecodeError;

/// Ends the meaningful part of most messages.
const END: u8 = 0xFE;
/// Longest username that crosses the wire.
pub(crate) const USERNAME_MAX: usize = 383;
