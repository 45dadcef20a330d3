//! Stratum V2's frames and messages as bytes: those that a mining server and its miners send.
//!
//! Decoding borrows from the frame, encoding appends to a `Vec`; neither allocates. What the
//! messages mean, and the order they may come in, is not known here.

mod bytes;
mod channel;
pub mod codes;
mod common;
mod custom_job;
mod extension;
pub(crate) mod frame;
mod job;
mod message;
mod share;
mod wire;

pub use bytes::{Bytes32, Bytes64K, Bytes255, Seq64K, Seq255, Str255};
pub use channel::{
    CloseChannel, OpenExtendedMiningChannel, OpenExtendedMiningChannelSuccess,
    OpenMiningChannelError, OpenStandardMiningChannel, OpenStandardMiningChannelSuccess,
    SetExtranoncePrefix, SetGroupChannel, SetTarget, UpdateChannel, UpdateChannelError,
};
pub use common::{
    ChannelEndpointChanged, Reconnect, SetupConnection, SetupConnectionError,
    SetupConnectionSuccess, protocol, setup_flags,
};
pub use custom_job::{SetCustomMiningJob, SetCustomMiningJobError, SetCustomMiningJobSuccess};
pub use extension::{
    Extensions, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess, WorkerName, id,
};
pub use frame::{HEADER_LEN, Header};
pub use job::{NewExtendedMiningJob, NewMiningJob, SetNewPrevHash};
pub use message::{ClientMessage, ServerMessage};
pub use share::{
    SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess,
};
pub use wire::{DecodeError, Message};

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
