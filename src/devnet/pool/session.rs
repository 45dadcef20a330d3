//! The pool's side of one gateway's connection: bytes in, bytes out. Without socket or clock.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    gateway::Gateway,
    ledger::{Ledger, PoolTime},
    options::{Control, Fault},
};
use crate::datum::{
    CipherError, FrameBuffer, HELLO_MAX, HandshakeError, HeaderKey, Identity, LinkError,
    SIGNATURE_LEN, Visitor, command,
    message::{DecodeError, Response},
};

/// The pool's side of one connection.
pub struct PoolSession {
    identity: Arc<Identity>,
    rng: StdRng,
    stage: Stage,
    /// HELLO must have arrived by then.
    hello_by: Instant,
    /// How often all connections had been dropped when this one began.
    cuts: u64,
}

enum Stage {
    Hello(FrameBuffer),
    Open(Box<Gateway>),
    /// After HELLO, without answering it: a fault.
    Mute,
}

impl PoolSession {
    /// `seed`: for everything random about this connection.
    pub fn new(identity: Arc<Identity>, seed: u64, now: PoolTime, control: &Control) -> Self {
        Self {
            identity,
            rng: StdRng::seed_from_u64(seed),
            stage: Stage::Hello(FrameBuffer::new(HELLO_MAX)),
            hello_by: now.instant + HELLO_TIMEOUT,
            cuts: control.cuts,
        }
    }

    /// Takes bytes from the gateway, and appends the answers.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        match &mut self.stage {
            Stage::Hello(inbox) => {
                inbox.push(bytes);
                let frame = inbox.next(&mut HeaderKey::HELLO.clone()).map_err(LinkError::from)?;
                let Some((header, body)) = frame else {
                    return Ok(());
                };
                let visitor = Visitor::read(&header, &body, &self.identity)?;
                if ledger.listens() {
                    let mut plain = self.identity.unseal(&body)?;
                    plain.truncate(plain.len().saturating_sub(SIGNATURE_LEN));
                    ledger.hear(ledger.stats.connected + 1, true, &plain);
                }
                self.welcome(&visitor, now, control, ledger, out)
            }
            Stage::Open(gateway) => gateway.on_bytes(bytes, now, control, ledger, out),
            Stage::Mute => Ok(()),
        }
    }

    /// Carries out the owner's commands.
    pub fn on_control(
        &mut self,
        now: PoolTime,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        if control.cuts != self.cuts {
            return Err(PoolClose::OnPurpose);
        }
        match &mut self.stage {
            Stage::Open(gateway) => gateway.on_control(now, control, out),
            Stage::Hello(_) | Stage::Mute => Ok(()),
        }
    }

    /// When `on_deadline` wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Hello(_) => Some(self.hello_by),
            Stage::Open(gateway) => gateway.deadline(),
            Stage::Mute => None,
        }
    }

    pub fn on_deadline(
        &mut self,
        now: PoolTime,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        match &mut self.stage {
            Stage::Hello(_) if now.instant >= self.hello_by => Err(PoolClose::NoHello),
            Stage::Open(gateway) => gateway.on_deadline(now, control, out),
            Stage::Hello(_) | Stage::Mute => Ok(()),
        }
    }

    /// Answers HELLO and sends the configuration.
    fn welcome(
        &mut self,
        visitor: &Visitor,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        if control.has(Fault::Silence) {
            self.stage = Stage::Mute;
            return Ok(());
        }
        let session = Identity::generate(&mut self.rng);
        let mut link = visitor.link(&session);
        let mut echo = visitor.keys;
        if control.has(Fault::WrongEcho) {
            let mut key = echo.session.x25519.to_bytes();
            key[0] ^= 1;
            echo.session.x25519 = key.into();
        }
        let motd = control.config.motd.as_bytes();
        let motd = &motd[..motd.len().min(MOTD_MAX)];
        let mut message = Vec::with_capacity(512);
        Response { echo, session: *session.public(), motd, padding: &[] }.encode(&mut message);
        let signer =
            if control.has(Fault::BadResponseSignature) { &session } else { &*self.identity };
        let to = &visitor.keys.session;
        link.write_sealed(command::RESPONSE, message, signer, to, &mut self.rng, out)?;
        let number = ledger.stats.connected + 1;
        let mut gateway =
            Gateway::new(link, session, visitor, &self.identity, number, now, control);
        gateway.configure(control, out)?;
        ledger.stats.connected = number;
        self.stage = Stage::Open(Box::new(gateway));
        Ok(())
    }
}

/// Why the pool hangs up.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolClose {
    #[error("the gateway did not send HELLO in time")]
    NoHello,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Signature(#[from] CipherError),
    #[error("a message that {0}")]
    Decode(#[from] DecodeError),
    #[error("cut on purpose")]
    OnPurpose,
}

/// A gateway sends HELLO as soon as it is connected.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// What the C gateway displays.
const MOTD_MAX: usize = 511;

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
