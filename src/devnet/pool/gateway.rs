//! A gateway after its handshake: configuration, coinbasers, shares, validations, keep-alives.

mod shares;
mod spot_checks;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    check::{SLOTS, Slot},
    habits::{Coinbasers, PrimeIds},
    inspect::Inspection,
    ledger::{Ledger, PoolTime, push_bounded},
    options::{Control, Fault, PoolConfig, TAG_MAX},
    session::PoolClose,
    split::{self, CoinbaserAnswer},
};
use crate::{
    datum::{
        Frame, HEADER_LEN, Identity, Link, ShortIds, Visitor, command,
        message::{Configuration, DecodeError, GatewayKeys, ToGateway, ToPool},
    },
    work::CoinbaserRequest,
};

/// The state of an open connection.
pub(super) struct Gateway {
    link: Link,
    /// The pool's identity on this connection.
    session: Identity,
    keys: GatewayKeys,
    short_ids: ShortIds,
    /// The number of this connection among the pool's, from 1.
    number: u64,
    prime_ids: PrimeIds,
    /// The owner's terms, and the same with this connection's prime id.
    wanted: Arc<PoolConfig>,
    config: Arc<PoolConfig>,
    /// The previous configuration, and until when work on its terms is accepted.
    former: Option<(Arc<PoolConfig>, Instant)>,
    new_blocks: u64,
    probes: u64,
    slots: [Option<Slot>; SLOTS],
    inspections: [Option<Inspection>; SLOTS],
    /// Slots whose template could have been checked.
    candidates: u32,
    accepted: u64,
    /// When the next keep-alive is due, and how many there were.
    alive_at: Instant,
    signs: u64,
    /// Splits to be sent later, in order.
    delayed: VecDeque<(Instant, CoinbaserAnswer)>,
}

impl Gateway {
    /// `number`: the number of this connection among the pool's, from 1.
    pub(super) fn new(
        link: Link,
        session: Identity,
        visitor: &Visitor,
        pool: &Identity,
        number: u64,
        now: PoolTime,
        control: &Control,
    ) -> Self {
        let prime_ids = control.habits.prime_ids;
        Self {
            link,
            session,
            keys: visitor.keys,
            short_ids: ShortIds::new(&visitor.keys.long_term, pool.public()),
            number,
            prime_ids,
            wanted: Arc::clone(&control.config),
            config: of_connection(&control.config, prime_ids, number),
            former: None,
            new_blocks: control.new_blocks,
            probes: control.probe.as_ref().map_or(0, |(number, _)| *number),
            slots: Default::default(),
            inspections: Default::default(),
            candidates: 0,
            accepted: 0,
            alive_at: now.instant + control.config.keepalive,
            signs: 0,
            delayed: VecDeque::new(),
        }
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        self.link.push(bytes);
        while let Some(frame) = self.link.next(&self.session)? {
            self.on_frame(&frame, now, control, ledger, out)?;
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: &Frame,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        if frame.header.command != command::MINING || !frame.header.channel {
            return Ok(());
        }
        let plain = frame.verified(&self.keys.session)?;
        ledger.hear(self.number, false, plain);
        match ToPool::decode(plain) {
            Ok(ToPool::FetchCoinbaser { request, .. }) => {
                self.on_fetch(request, now, control, ledger, out)
            }
            Ok(ToPool::Share(share)) => self.on_share(&share, now, control, ledger, out),
            Ok(ToPool::Validation { slot, answer, .. }) => {
                self.on_validation(slot, &answer, control, ledger, out)
            }
            // Newer gateways may send more.
            Err(DecodeError::Kind(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn on_control(
        &mut self,
        now: PoolTime,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        if !Arc::ptr_eq(&self.wanted, &control.config) {
            self.wanted = Arc::clone(&control.config);
            let config = of_connection(&self.wanted, self.prime_ids, self.number);
            let former = std::mem::replace(&mut self.config, config);
            self.former = Some((former, now.instant + CONFIG_GRACE));
            self.alive_at = now.instant + self.config.keepalive;
            self.configure(control, out)?;
        }
        if self.new_blocks != control.new_blocks {
            self.new_blocks = control.new_blocks;
            self.say(&ToGateway::NewBlock, control, out)?;
        }
        if let Some((number, probe)) = &control.probe
            && *number != self.probes
        {
            self.probes = *number;
            let (slot, wanted, indexes) = (probe.slot, probe.wanted, probe.indexes.clone());
            self.say(&ToGateway::Validate { slot, wanted, indexes }, control, out)?;
        }
        Ok(())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let sign = (!self.config.keepalive.is_zero()).then_some(self.alive_at);
        let split = self.delayed.front().map(|(due, _)| *due);
        [sign, split].into_iter().flatten().min()
    }

    /// Sends the splits that are due.
    pub(super) fn on_deadline(
        &mut self,
        now: PoolTime,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        self.show_life(now, control, out);
        while self.delayed.front().is_some_and(|(due, _)| *due <= now.instant) {
            if let Some((_, answer)) = self.delayed.pop_front() {
                self.say(&ToGateway::Coinbaser(answer.message()), control, out)?;
            }
        }
        Ok(())
    }

    /// Sends a keep-alive, if one is due.
    fn show_life(&mut self, now: PoolTime, control: &Control, out: &mut Vec<u8>) {
        if self.config.keepalive.is_zero() || now.instant < self.alive_at {
            return;
        }
        self.alive_at = now.instant + self.config.keepalive;
        self.signs += 1;
        if control.has(Fault::Silence) {
            return;
        }
        let text = format!("{} shares accepted on this connection\0", self.accepted);
        self.link.write_plain(command::INFO, text.as_bytes(), out);
        if self.signs.is_multiple_of(SIGNS_PER_PING) {
            self.link.write_plain(command::PING, &[], out);
        }
    }

    /// Sends the configuration, or a faulty one.
    pub(super) fn configure(
        &mut self,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        if control.has(Fault::Silence) {
            return Ok(());
        }
        let config = Arc::clone(&self.config);
        let message = ToGateway::Configuration(Configuration {
            script: &config.script[..config.script.len().min(usize::from(u8::MAX))],
            prime_id: config.prime_id,
            tag: &config.tag[..config.tag.len().min(TAG_MAX)],
            min_difficulty: config.min_difficulty,
            padding: &[],
        });
        let mut plain = Vec::new();
        message.encode(&mut plain);
        if control.has(Fault::TruncatedConfiguration) {
            plain.truncate(plain.len() / 2);
        }
        let signer = (!control.has(Fault::UnsignedConfiguration)).then_some(&self.session);
        let start = out.len();
        self.link.write_channel(signer, out, |frame| frame.extend_from_slice(&plain))?;
        garble(control, start, out);
        Ok(())
    }

    fn say(
        &mut self,
        message: &ToGateway<'_>,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        self.send(control, out, |frame| message.encode(frame))
    }

    fn send(
        &mut self,
        control: &Control,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), PoolClose> {
        if control.has(Fault::Silence) {
            return Ok(());
        }
        let start = out.len();
        self.link.write_channel(None, out, encode)?;
        garble(control, start, out);
        Ok(())
    }

    fn on_fetch(
        &mut self,
        request: CoinbaserRequest,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        let memory = ledger.gateway(&self.keys.long_term.ed25519);
        memory.on_request(request.prevhash, now.instant);
        if control.has(Fault::SilentCoinbaser) {
            return Ok(());
        }
        let outputs = split::divide(request.value, &self.config);
        let id = memory.issue(self.number, request, outputs.as_slice().into());
        ledger.stats.coinbasers += 1;
        let answer = CoinbaserAnswer::new(request.value, id, &outputs, control.fault);
        match control.habits.coinbasers {
            Coinbasers::Never => Ok(()),
            Coinbasers::AtOnce => self.say(&ToGateway::Coinbaser(answer.message()), control, out),
            Coinbasers::After(delay) => {
                push_bounded(&mut self.delayed, (now.instant + delay, answer), DELAYED_MAX);
                Ok(())
            }
        }
    }
}

/// The terms of one connection.
fn of_connection(config: &Arc<PoolConfig>, prime_ids: PrimeIds, number: u64) -> Arc<PoolConfig> {
    match prime_ids {
        PrimeIds::Kept => Arc::clone(config),
        PrimeIds::PerConnection => {
            let prime_id = prime_ids.of_connection(config.prime_id, number);
            Arc::new(PoolConfig { prime_id, ..PoolConfig::clone(config) })
        }
    }
}

/// Forges the frame that begins at `start`, if that is the pool's fault.
fn garble(control: &Control, start: usize, out: &mut [u8]) {
    if control.has(Fault::BadMac)
        && let Some(byte) = out.get_mut(start + HEADER_LEN)
    {
        *byte ^= 1;
    }
}

/// How long work on a former configuration is accepted.
const CONFIG_GRACE: Duration = Duration::from_secs(30);
/// One in this many keep-alives is a ping.
const SIGNS_PER_PING: u64 = 6;
/// Delayed splits: a gateway requests one per template, so at most one a second.
const DELAYED_MAX: usize = 256;
