//! The encrypted channel of Stratum V2: `Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256`.
//!
//! ```text
//!  miner                                     gateway
//!  Initiator::start  --act 1, 64 bytes-->    Responder::on_act1
//!  Initiator::on_act2 <--act 2, 234 bytes--  (ephemeral key, static key, certificate)
//!  Sealer            ==frames, sealed==>     Opener
//! ```
//! An [`AuthorityKey`], of which miners know the public half, signs an [`Identity`]: the static key
//! of a handshake and its certificate. Snow runs the handshake; what this crate adds is in
//! `resolver`. Frames are sealed with ring directly, see `transport`. No sockets and no clock here;
//! nor is the content of a frame known here, apart from the length in its header.
mod authority;
mod handshake;
mod identity;
mod resolver;
mod transport;

pub use super::codec::HEADER_LEN;
pub(crate) use authority::KeyTextError;
pub use authority::{AuthorityKey, AuthorityPublicKey};
pub use handshake::{Initiator, Responder};
pub use identity::{CertificateError, Identity};
pub use transport::{Opener, Sealer, Transport};

/// Why an encrypted connection is over.
#[derive(Debug, thiserror::Error)]
pub enum NoiseError {
    #[error("the Noise handshake failed: {0}")]
    Handshake(snow::Error),
    #[error("the server's certificate cannot be trusted: {0}")]
    Certificate(#[from] CertificateError),
    #[error("a message that was forged or garbled: its authentication code is wrong")]
    Forged,
    #[error("a sealed payload of {0} bytes, but its header gives another length")]
    SealedLength(usize),
    #[error("a frame of {0} bytes whose header gives another length")]
    FrameLength(usize),
    #[error("the encrypted channel has ended")]
    Ended,
}

/// What the client sends first: its ephemeral key.
pub const ACT1_LEN: usize = ELLSWIFT_LEN;
/// The server's ephemeral key, its static key and its certificate, the last two sealed.
pub const ACT2_LEN: usize = ELLSWIFT_LEN + (ELLSWIFT_LEN + TAG_LEN) + (CERTIFICATE_LEN + TAG_LEN);
/// A frame's header when sealed.
pub const HEADER_BLOCK_LEN: usize = HEADER_LEN + TAG_LEN;
/// A public key, encoded so that it looks like any 64 random bytes.
const ELLSWIFT_LEN: usize = 64;
const CERTIFICATE_LEN: usize = 74;
const TAG_LEN: usize = 16;
