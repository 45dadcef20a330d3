//! HELLO and its response, on both sides.

use bytes::BytesMut;
use rand::{CryptoRng, Rng, RngCore};

use super::{
    cipher::{
        CipherError, Identity, Nonces, PublicIdentity, SEAL_LEN, SIGNATURE_LEN, SecureChannel,
    },
    codec::DecodeError,
    frame::{BODY_MAX, FrameHeader, HEADER_LEN, HeaderKey, command},
    link::{Frame, Link, LinkError},
    message::{GatewayKeys, Hello, Response},
};
use crate::work::printable_bytes;

/// A gateway that has sent HELLO and waits for the response.
#[derive(Debug)]
pub struct Handshake {
    session: Identity,
    keys: GatewayKeys,
    pool: PublicIdentity,
    nk: u32,
}

/// The result of a valid response.
#[derive(Debug)]
pub struct Welcome {
    /// The key that the pool signs with from now on.
    pub(crate) pool_session: PublicIdentity,
    pub(crate) motd: String,
}

impl Handshake {
    /// Writes HELLO.
    pub fn start(
        long_term: &Identity,
        pool: PublicIdentity,
        user_agent: &str,
        rng: &mut (impl RngCore + CryptoRng),
        out: &mut Vec<u8>,
    ) -> Result<(Self, Link), LinkError> {
        let session = Identity::generate(rng);
        let keys = GatewayKeys { long_term: *long_term.public(), session: *session.public() };
        let nk = rng.next_u32();
        let padding = vec![0; rng.gen_range(1..=HELLO_PADDING_MAX)];
        let user_agent = printable_bytes(user_agent.as_bytes(), USER_AGENT_MAX);
        let hello = Hello { keys, user_agent: user_agent.as_bytes(), nk, padding: &padding };
        let mut message = Vec::with_capacity(512);
        hello.encode(&mut message);
        // Nothing is received before HELLO is sent, so the mask does not matter yet.
        let mut link = Link::new(HeaderKey::HELLO, HeaderKey::to_gateway(nk), BODY_MAX);
        link.write_sealed(command::HELLO, message, long_term, &pool, rng, out)?;
        link.set_keys(HeaderKey::to_pool(nk), HeaderKey::to_gateway(nk));
        Ok((Self { session, keys, pool, nk }, link))
    }

    /// This connection's identity.
    pub fn session(&self) -> &Identity {
        &self.session
    }

    /// Checks the response and opens the channel.
    pub fn finish(&self, frame: &Frame, link: &mut Link) -> Result<Welcome, HandshakeError> {
        // Whether it is sealed does not matter: what counts is who signed it, and that it repeats
        // our keys.
        if !frame.header.signed {
            return Err(HandshakeError::Unsigned);
        }
        let message = self.pool.verify(&frame.plain)?;
        let response = Response::decode(message)?;
        if response.echo != self.keys {
            return Err(HandshakeError::Echo);
        }
        let nonces = Nonces::derive(self.nk, &self.keys.session.ed25519);
        link.set_channel(SecureChannel::of_gateway(
            &self.session,
            &response.session.x25519,
            nonces,
        ));
        Ok(Welcome {
            pool_session: response.session,
            motd: printable_bytes(response.motd, MOTD_MAX),
        })
    }
}

/// A gateway, as the pool knows it after HELLO.
#[derive(Debug)]
pub struct Visitor {
    pub keys: GatewayKeys,
    pub user_agent: String,
    nk: u32,
}

impl Visitor {
    /// Opens and checks a HELLO.
    pub fn read(
        header: &FrameHeader,
        body: &BytesMut,
        pool: &Identity,
    ) -> Result<Self, HandshakeError> {
        if header.command != command::HELLO || !header.sealed || !header.signed {
            return Err(HandshakeError::Unsigned);
        }
        let plain = pool.unseal(body)?;
        // The key to check it with is part of the signed message.
        let cut = plain.len().saturating_sub(SIGNATURE_LEN);
        let hello = Hello::decode(&plain[..cut])?;
        hello.keys.long_term.verify(&plain)?;
        let user_agent = printable_bytes(hello.user_agent, USER_AGENT_MAX);
        Ok(Self { keys: hello.keys, user_agent, nk: hello.nk })
    }

    /// The link that follows, with its channel open.
    pub fn link(&self, session: &Identity) -> Link {
        let (send, receive) = (HeaderKey::to_gateway(self.nk), HeaderKey::to_pool(self.nk));
        let mut link = Link::new(send, receive, BODY_MAX);
        let nonces = Nonces::derive(self.nk, &self.keys.session.ed25519);
        link.set_channel(SecureChannel::of_pool(session, &self.keys.session.x25519, nonces));
        link
    }
}

/// The bytes of a HELLO frame's header, and how long HELLO may be.
pub const HELLO_MAX: usize = HEADER_LEN + SEAL_LEN + SIGNATURE_LEN + 1024;

/// What is wrong with the other side's half of the handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandshakeError {
    #[error("a handshake that is not signed, or (HELLO) not sealed")]
    Unsigned,
    #[error("for the handshake, {0}")]
    Cipher(#[from] CipherError),
    #[error("a handshake that {0}")]
    Decode(#[from] DecodeError),
    #[error("a handshake that echoes keys other than ours")]
    Echo,
}

const HELLO_PADDING_MAX: usize = 200;
const USER_AGENT_MAX: usize = 254;
const MOTD_MAX: usize = 511;
