//! The two messages of the handshake.

use super::{DecodeError, END};
use crate::datum::protocol::{cipher::PublicIdentity, codec::Reader};

/// A gateway's two identities, as in HELLO and repeated in the response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GatewayKeys {
    pub long_term: PublicIdentity,
    pub session: PublicIdentity,
}

impl GatewayKeys {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.long_term.to_bytes());
        out.extend_from_slice(&self.session.to_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let long_term = PublicIdentity::from_bytes(&reader.array("long-term keys")?);
        let session = PublicIdentity::from_bytes(&reader.array("session keys")?);
        Ok(Self { long_term, session })
    }
}

/// The gateway's first message, before its signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello<'a> {
    pub keys: GatewayKeys,
    pub user_agent: &'a [u8],
    /// Seeds header masks and nonces.
    pub nk: u32,
    pub padding: &'a [u8],
}

impl<'a> Hello<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.keys.encode(out);
        out.extend_from_slice(self.user_agent);
        out.extend_from_slice(&[0, END]);
        out.extend_from_slice(&self.nk.to_le_bytes());
        out.extend_from_slice(self.padding);
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let keys = GatewayKeys::decode(&mut reader)?;
        let user_agent = reader.text(USER_AGENT_MAX, "user agent")?;
        reader.mark(END, "mark after the user agent")?;
        let nk = reader.u32("key number")?;
        Ok(Self { keys, user_agent, nk, padding: reader.rest() })
    }
}

/// The pool's answer, before its signature.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Response<'a> {
    /// The gateway's, repeated.
    pub echo: GatewayKeys,
    pub session: PublicIdentity,
    pub motd: &'a [u8],
    pub padding: &'a [u8],
}

impl<'a> Response<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.echo.encode(out);
        out.extend_from_slice(&self.session.to_bytes());
        out.extend_from_slice(self.motd);
        out.push(0);
        out.extend_from_slice(self.padding);
    }

    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let echo = GatewayKeys::decode(&mut reader)?;
        let session = PublicIdentity::from_bytes(&reader.array("pool's session keys")?);
        // If no NUL ends it, everything that is left: it is for people to read, and no reason to
        // refuse the pool.
        let rest = reader.rest();
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        let (motd, padding) = rest.split_at(end);
        let padding = padding.get(1..).unwrap_or_default();
        Ok(Self { echo, session, motd: &motd[..end.min(MOTD_MAX)], padding })
    }
}

/// Each of the C gateway's parts has at most 127 bytes.
const USER_AGENT_MAX: usize = 512;
/// Longer texts are cut here, far above the 511 bytes that the C gateway shows.
const MOTD_MAX: usize = 4096;
