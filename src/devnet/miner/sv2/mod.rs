//! The miner's side of Stratum V2, without socket or clock: sealed bytes in, sealed bytes out.
//!
//! `session` mines what `devnet/sv2_client` hears on its one channel, standard or extended.

mod session;

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;

pub(super) use session::Sv2MinerSession;

use super::{
    MinerOptions, MinerStats,
    scan::{Found, HashWork},
};
use crate::{
    devnet::sv2_client::{Sv2ClientClose, Sv2Link},
    sv2::codec::{Message, NewExtendedMiningJob},
};

/// One connection of a miner, encrypted.
pub(super) struct Sv2MinerLink {
    sealed: Sv2Link,
    session: Sv2MinerSession,
}

impl Sv2MinerLink {
    /// Opens the session: appends our key to `out`. Serials begin after `serial`.
    pub(super) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Self, Sv2ClientClose> {
        let mut sealed = Sv2Link::open(options.authority, PAYLOAD_LEN_MAX, out)?;
        let session = Sv2MinerSession::open(options, serial, now, sealed.plain());
        Ok(Self { sealed, session })
    }

    /// Takes all whole frames from `input`. Check `work` afterwards. `now_unix`, in seconds since
    /// 1970, is the time that the server's certificate is checked against.
    pub(super) fn on_input(
        &mut self,
        input: &mut BytesMut,
        now: Instant,
        now_unix: u32,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2ClientClose> {
        let session = &mut self.session;
        self.sealed.on_input(input, now_unix, out, |message, plain| {
            session.on_message(message, now, stats, plain)
        })
    }

    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2ClientClose> {
        self.session.on_found(found, now, stats, self.sealed.plain());
        Ok(self.sealed.seal(out)?)
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
    ) -> Result<(), Sv2ClientClose> {
        self.session.on_deadline(now, stats)
    }

    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.session.on_end(stats);
    }
}

/// The longest useful message: a job in which every field is full.
const PAYLOAD_LEN_MAX: usize = NewExtendedMiningJob::LEN_MAX;

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
