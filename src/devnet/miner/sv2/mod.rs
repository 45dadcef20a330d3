//! The miner's side of Stratum V2, without socket or clock.
//!
//! `session` is the conversation, `channel` its one channel, standard or extended. This file wraps
//! them in Noise: sealed bytes in, sealed bytes out.

mod channel;
mod session;

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;

pub(super) use session::{Sv2MinerClose, Sv2MinerSession};

use super::{
    MinerOptions, MinerStats,
    scan::{Found, HashWork},
};
use crate::{
    devnet::sv2_link::Sv2Link,
    sv2::codec::{Message, NewExtendedMiningJob, ServerMessage},
};

/// One connection of a miner, encrypted.
pub(super) struct Sv2MinerLink {
    sealed: Sv2Link,
    session: Sv2MinerSession,
    /// Frames that are not sealed yet.
    plain: Vec<u8>,
}

impl Sv2MinerLink {
    /// Opens the conversation: appends our key to `out`. Serials begin after `serial`.
    pub(super) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Self, Sv2MinerClose> {
        let sealed = Sv2Link::open(options.authority, PAYLOAD_LEN_MAX, out)?;
        let mut plain = Vec::new();
        let session = Sv2MinerSession::open(options, serial, now, &mut plain);
        Ok(Self { sealed, session, plain })
    }

    /// Takes all whole frames from `input`. Look at `work` afterwards. `now_unix`, in seconds since
    /// 1970, is what the server's certificate is held against.
    pub(super) fn on_input(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        now_unix: u32,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2MinerClose> {
        self.sealed.on_handshake(input, now_unix)?;
        let (session, plain) = (&mut self.session, &mut self.plain);
        let read = self.sealed.read(input, |header, payload| {
            let message = ServerMessage::decode(header, payload, Sv2MinerSession::EXTENSIONS)?;
            session.on_message(&message, now, stats, plain)
        });
        self.seal(out)?;
        read
    }

    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2MinerClose> {
        self.session.on_found(found, now, stats, &mut self.plain);
        self.seal(out)
    }

    fn seal(&mut self, out: &mut Vec<u8>) -> Result<(), Sv2MinerClose> {
        Ok(self.sealed.seal(&mut self.plain, out)?)
    }

    pub(super) fn serial(&self) -> u64 {
        self.session.serial()
    }

    /// What to hash now.
    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        self.session.work()
    }

    pub(super) fn has_room(&self) -> bool {
        self.session.has_room()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.session.is_settled()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.session.deadline()
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2MinerClose> {
        self.session.on_deadline(now, stats)
    }

    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.session.on_end(stats);
    }
}

/// The longest message that a miner has a use for: a job whose every field is full.
const PAYLOAD_LEN_MAX: usize = NewExtendedMiningJob::LEN_MAX;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
