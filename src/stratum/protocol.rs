//! What a protocol's session does for the connection that carries it.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{Config, Effects};
use crate::work::Work;

/// A miner's side of a protocol: bytes in, bytes out, no socket and no clock. Owned by its connection.
pub trait Protocol {
    /// Handles what was received and returns how much of `inbox` it used; the rest is passed again
    /// with more after it. Answers are appended to `out`.
    fn on_bytes(
        &mut self,
        inbox: &mut [u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<usize, Closing>;

    /// Notes new work, and announces it now or later.
    fn on_work(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing>;

    /// Takes a changed configuration.
    fn on_config(&mut self, config: &Arc<Config>, work: &Work, now: Instant);

    /// When [`Self::on_deadline`] wants to be called.
    fn deadline(&self) -> Instant;

    /// Does what has fallen due.
    fn on_deadline(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing>;

    /// True once a share was accepted here: whoever it is does work.
    fn is_proven(&self) -> bool;

    /// Tells the miner why it is cut off, if the protocol has a message for it.
    fn on_limit(&mut self, _why: &Closing, _out: &mut Vec<u8>) {}

    /// Ends the miners on this connection whose places are needed for others.
    fn on_eviction(&mut self, _now: Instant, _out: &mut Vec<u8>) -> Result<(), Closing> {
        Ok(())
    }

    /// Says goodbye, if the protocol has a message for it: this process is about to end.
    fn on_stop(&mut self, out: &mut Vec<u8>);
}

impl Closing {
    pub(crate) const TOO_MANY_LOGINS: Self = Self::Violation(Cow::Borrowed(
        "logged in more often than limits.logins_per_minute allows from its address",
    ));
}

/// Why a session must end. Reads on after "the miner".
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Closing {
    /// It broke the protocol: what it did.
    #[error("{0}")]
    Violation(Cow<'static, str>),
    #[error("did not log in within {0:?}")]
    LoginTimeout(Duration),
    #[error("sent no share for {0:?}")]
    Idle(Duration),
    /// Not the miner's fault.
    #[error("sent away: {0}")]
    SentAway(Arc<str>),
}
