//! Either protocol, as the socket sees it: bytes in, bytes and work out.

use std::{sync::Arc, time::Instant};

use bytes::{Buf, BytesMut};
use thiserror::Error;

use super::{
    MinerOptions, MinerProtocol, MinerStats,
    scan::{Found, HashWork},
    sv1::{Sv1MinerClose, Sv1MinerSession},
    sv2::Sv2MinerLink,
};
use crate::devnet::sv2_client::Sv2ClientClose;

/// Why a connection has to end.
#[derive(Debug, Error)]
pub(super) enum MinerClose {
    #[error("the server {0}")]
    Sv1(#[from] Sv1MinerClose),
    #[error("a line of more than {LINE_LEN_MAX} bytes")]
    LineTooLong,
    #[error(transparent)]
    Sv2(#[from] Sv2ClientClose),
}

/// A connection's protocol.
pub(super) enum MinerSession {
    Sv1 {
        session: Sv1MinerSession,
        /// Emptied after each call.
        text: String,
    },
    Sv2(Box<Sv2MinerLink>),
}

impl MinerSession {
    /// Opens the session. Serials of work begin after `serial`.
    pub(super) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Self, MinerClose> {
        if options.protocol != MinerProtocol::Sv1 {
            return Ok(Self::Sv2(Box::new(Sv2MinerLink::open(options, serial, now, out)?)));
        }
        let mut text = String::new();
        let session = Sv1MinerSession::open(options, serial, &mut text);
        out.append(&mut text.into_bytes());
        Ok(Self::Sv1 { session, text: String::new() })
    }

    /// Takes all complete messages from `input`. Check `work` afterwards.
    pub(super) fn on_input(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        now_unix: u32,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), MinerClose> {
        match self {
            Self::Sv1 { session, text } => {
                while let Some(end) = memchr::memchr(b'\n', input) {
                    session.on_line(&input[..end], now, stats, text)?;
                    input.advance(end + 1);
                }
                drain(text, out);
                if input.len() > LINE_LEN_MAX { Err(MinerClose::LineTooLong) } else { Ok(()) }
            }
            Self::Sv2(link) => Ok(link.on_input(input, now, now_unix, stats, out)?),
        }
    }

    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), MinerClose> {
        match self {
            Self::Sv1 { session, text } => {
                session.on_found(found, now, stats, text);
                drain(text, out);
                Ok(())
            }
            Self::Sv2(link) => Ok(link.on_found(found, now, stats, out)?),
        }
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), MinerClose> {
        match self {
            Self::Sv1 { session, .. } => Ok(session.on_deadline(now, stats)?),
            Self::Sv2(link) => Ok(link.on_deadline(now, stats)?),
        }
    }

    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        match self {
            Self::Sv1 { session, .. } => session.on_end(stats),
            Self::Sv2(link) => link.on_end(stats),
        }
    }

    pub(super) fn serial(&self) -> u64 {
        match self {
            Self::Sv1 { session, .. } => session.serial(),
            Self::Sv2(link) => link.serial(),
        }
    }

    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        match self {
            Self::Sv1 { session, .. } => session.work(),
            Self::Sv2(link) => link.work(),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        match self {
            Self::Sv1 { session, .. } => session.has_room(),
            Self::Sv2(link) => link.has_room(),
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Sv1 { session, .. } => session.is_settled(),
            Self::Sv2(link) => link.is_settled(),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Sv1 { session, .. } => session.deadline(),
            Self::Sv2(link) => link.deadline(),
        }
    }
}

fn drain(text: &mut String, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
    text.clear();
}

/// Far more than a notify needs, even with the largest coinbase that any gateway writes.
const LINE_LEN_MAX: usize = 256 * 1024;
