//! A gateway after its handshake: configuration, coinbasers, shares, validations, signs of life.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    check::{self, Paid, SLOTS, Slot},
    inspect::{Finding, Inspection},
    ledger::{Ledger, Moment, ShareRecord},
    options::{Control, Fault, PoolConfig, TAG_MAX, ValidationPlan},
    session::Close,
    split::{self, Answer},
};
use crate::{
    datum::{
        BODY_MAX, Frame, HEADER_LEN, Identity, Link, ShortIds, Visitor, command,
        message::{
            Configuration, DecodeError, GatewayKeys, ShareFlags, ShareMessage, ShareReason,
            ShareResponse, ShareStatus, ToGateway, ToPool, Validation, Wanted,
        },
        printable, rebuild,
    },
    work::{CoinbaserRequest, Hash256},
};

/// The state of an open connection.
pub(super) struct Gateway {
    link: Link,
    /// The pool's identity on this connection.
    session: Identity,
    keys: GatewayKeys,
    short_ids: ShortIds,
    config: Arc<PoolConfig>,
    /// The one before, and until when its terms may still be met.
    former: Option<(Arc<PoolConfig>, Instant)>,
    new_blocks: u64,
    probes: u64,
    slots: [Option<Slot>; SLOTS],
    inspections: [Option<Inspection>; SLOTS],
    /// Slots whose template might have been looked at.
    candidates: u32,
    accepted: u64,
    /// When the next sign of life is due, and how many there were.
    alive_at: Instant,
    signs: u64,
}

/// What the pool makes of a share.
struct Judged {
    hash: Hash256,
    height: u32,
    is_block: bool,
    paid: Paid,
    /// The difficulty that is credited.
    verdict: Result<f64, ShareReason>,
}

impl Gateway {
    pub(super) fn new(
        link: Link,
        session: Identity,
        visitor: &Visitor,
        pool: &Identity,
        now: Moment,
        control: &Control,
    ) -> Self {
        Self {
            link,
            session,
            keys: visitor.keys,
            short_ids: ShortIds::new(&visitor.keys.long_term, pool.public()),
            config: Arc::clone(&control.config),
            former: None,
            new_blocks: control.new_blocks,
            probes: control.probe.as_ref().map_or(0, |(number, _)| *number),
            slots: Default::default(),
            inspections: Default::default(),
            candidates: 0,
            accepted: 0,
            alive_at: now.instant + control.config.keepalive,
            signs: 0,
        }
    }

    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: Moment,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        self.link.push(bytes);
        while let Some(frame) = self.link.next(&self.session)? {
            self.on_frame(&frame, now, control, ledger, out)?;
        }
        Ok(())
    }

    fn on_frame(
        &mut self,
        frame: &Frame,
        now: Moment,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if frame.header.command != command::MINING || !frame.header.channel {
            return Ok(());
        }
        let plain = frame.verified(&self.keys.session)?;
        match ToPool::decode(plain) {
            Ok(ToPool::FetchCoinbaser { request, .. }) => {
                self.on_fetch(request, now, control, ledger, out)
            }
            Ok(ToPool::Share(share)) => self.on_share(&share, now, control, ledger, out),
            Ok(ToPool::Validation { slot, answer, .. }) => {
                self.on_validation(slot, &answer, control, ledger, out)
            }
            // Newer gateways may say more.
            Err(DecodeError::Kind(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn on_control(
        &mut self,
        now: Moment,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if !Arc::ptr_eq(&self.config, &control.config) {
            let former = std::mem::replace(&mut self.config, Arc::clone(&control.config));
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
        (!self.config.keepalive.is_zero()).then_some(self.alive_at)
    }

    /// Shows that the pool lives, if that is due.
    pub(super) fn on_deadline(&mut self, now: Moment, control: &Control, out: &mut Vec<u8>) {
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

    /// Sends the configuration, or what a fault makes of it.
    pub(super) fn configure(&mut self, control: &Control, out: &mut Vec<u8>) -> Result<(), Close> {
        if control.has(Fault::HugeFrame) {
            self.link.write_plain(command::INFO, &vec![0; BODY_MAX], out);
            return Ok(());
        }
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
    ) -> Result<(), Close> {
        if control.has(Fault::Silence) {
            return Ok(());
        }
        let start = out.len();
        self.link.write_channel(None, out, |frame| message.encode(frame))?;
        garble(control, start, out);
        Ok(())
    }

    fn on_fetch(
        &mut self,
        request: CoinbaserRequest,
        now: Moment,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let memory = ledger.gateway(&self.keys.long_term.ed25519);
        memory.on_request(request.prevhash, now.instant);
        if control.has(Fault::SilentCoinbaser) {
            return Ok(());
        }
        let outputs = split::divide(request.value, &self.config);
        let id = memory.issue(outputs.as_slice().into());
        ledger.stats.coinbasers += 1;
        let answer = Answer::new(request.value, id, &outputs, control.fault);
        self.say(&ToGateway::Coinbaser(answer.message()), control, out)
    }

    fn on_share(
        &mut self,
        share: &ShareMessage<'_>,
        now: Moment,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        self.learn(share, now, ledger);
        let judged = self.judge(share, now, control, ledger);
        let verdict = judged.verdict;
        self.book(share, &judged, now, ledger);
        if control.has(Fault::DisconnectOnShare) {
            return Err(Close::OnPurpose);
        }
        if !control.has(Fault::SilentShares) {
            let accepted = if control.has(Fault::Tentative) {
                ShareStatus::Tentative
            } else {
                ShareStatus::Accepted
            };
            let response = ShareResponse {
                status: if verdict.is_ok() { accepted } else { ShareStatus::Rejected },
                reason: verdict.err().unwrap_or(ShareReason::NONE),
                nonce: share.nonce,
                target_byte: share.target_byte,
                slot: share.slot,
            };
            self.say(&ToGateway::ShareResponse(response), control, out)?;
        }
        if verdict.is_ok() && !share.flags.has(ShareFlags::SUBSIDY_ONLY) {
            self.inspect(share.slot, control, out)?;
        }
        Ok(())
    }

    /// Keeps the contexts that a share brings, whatever the share itself is worth.
    fn learn(&mut self, share: &ShareMessage<'_>, now: Moment, ledger: &mut Ledger) {
        let at = usize::from(share.slot);
        let Some(slot) = self.slots.get_mut(at) else {
            return;
        };
        if let Some(job) = &share.job {
            let memory = ledger.gateway(&self.keys.long_term.ed25519);
            memory.on_job(job.prevhash, job.height, now.instant);
            *slot = Some(Slot::new(job, memory.issued(job.coinbaser_id)));
            self.inspections[at] = None;
        }
        if let (Some(parts), Some(slot)) = (&share.coinbase, slot) {
            let former = self.former.as_ref().filter(|(_, until)| now.instant <= *until);
            let mut configs = vec![&*self.config];
            configs.extend(former.map(|(config, _)| &**config));
            slot.add(parts, &configs);
        }
    }

    fn judge(
        &mut self,
        share: &ShareMessage<'_>,
        now: Moment,
        control: &Control,
        ledger: &mut Ledger,
    ) -> Judged {
        let mut judged = Judged {
            hash: Hash256::ZERO,
            height: 0,
            is_block: false,
            paid: Paid::default(),
            verdict: Err(ShareReason::OTHER),
        };
        judged.verdict = self.judge_into(share, now, ledger, control, &mut judged);
        judged
    }

    /// Finds everything out about a share, as far as it goes.
    fn judge_into(
        &mut self,
        share: &ShareMessage<'_>,
        now: Moment,
        ledger: &mut Ledger,
        control: &Control,
        judged: &mut Judged,
    ) -> Result<f64, ShareReason> {
        check::check_form(share)?;
        let former = self.former.as_ref().filter(|(_, until)| now.instant <= *until);
        let former = former.map_or(&self.config, |(config, _)| config);
        let lenient = [&self.config, former].into_iter().min_by_key(|c| c.min_difficulty);
        let config = lenient.unwrap_or(&self.config);
        let slot = self.slots.get_mut(usize::from(share.slot)).and_then(Option::as_mut);
        let slot = slot.ok_or(ShareReason::BAD_JOB_ID)?;
        judged.height = slot.job.height;
        let parts = slot.coinbase(share.coinbase_id).ok_or(ShareReason::COINBASE_MISSING)?;
        judged.paid = parts.verdict.unwrap_or_default();
        let rebuilt = rebuild(share, &slot.job, &parts.context());
        judged.hash = rebuilt.ok_or(ShareReason::TARGET_MISMATCH)?.hash;
        judged.is_block = slot.is_block(&judged.hash);
        slot.check(share, &judged.hash, now)?;
        let difficulty = match check::check_work(&judged.hash, share.target_byte, config) {
            Err(_) if config.blocks_suffice && judged.is_block => 0.0,
            result => result?,
        };
        let memory = ledger.gateway(&self.keys.long_term.ed25519);
        if memory.is_stale(&slot.job.prevhash, now.instant) {
            return Err(ShareReason::STALE_BLOCK);
        }
        if control.has(Fault::RejectShares) {
            return Err(ShareReason::OTHER);
        }
        if !ledger.insert(&judged.hash) {
            return Err(ShareReason::DUPLICATE);
        }
        Ok(difficulty)
    }

    fn book(
        &mut self,
        share: &ShareMessage<'_>,
        judged: &Judged,
        now: Moment,
        ledger: &mut Ledger,
    ) {
        let stats = &mut ledger.stats;
        let flagged = share.flags.has(ShareFlags::BLOCK);
        stats.blocks_flagged += u64::from(flagged);
        stats.blocks_misflagged += u64::from(flagged != judged.is_block);
        if judged.verdict.is_ok() {
            self.accepted += 1;
            stats.last_outputs = judged.paid.outputs;
            stats.last_splits = judged.paid.splits;
            stats.splits_max = stats.splits_max.max(judged.paid.splits);
        }
        let record = ShareRecord {
            username: printable(share.username, USERNAME_SHOWN_MAX).into(),
            slot: share.slot,
            coinbase_id: share.coinbase_id,
            target_byte: share.target_byte,
            height: judged.height,
            hash: judged.hash,
            is_block: judged.is_block,
            verdict: judged.verdict.map(|_| ()),
            unix: now.unix,
        };
        ledger.record(record, judged.verdict.unwrap_or(0.0));
    }

    /// Starts to look at the template of `slot`, if it is its turn.
    fn inspect(&mut self, slot: u8, control: &Control, out: &mut Vec<u8>) -> Result<(), Close> {
        let at = usize::from(slot);
        let Some(known) = self.slots.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        if std::mem::replace(&mut known.considered, true) {
            return Ok(());
        }
        let plan = self.config.validation;
        self.candidates = self.candidates.wrapping_add(1);
        if plan.every == 0 || !self.candidates.is_multiple_of(plan.every) {
            return Ok(());
        }
        let full = plan.full && known.job.total_size <= FULL_SIZE_MAX;
        let (inspection, question) = Inspection::start(slot, ValidationPlan { full, ..plan });
        self.inspections[at] = Some(inspection);
        self.say(&question, control, out)
    }

    fn on_validation(
        &mut self,
        slot: u8,
        answer: &Validation<'_>,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let at = usize::from(slot);
        let inspection = self.inspections.get_mut(at).and_then(Option::as_mut);
        let finding = match (inspection, self.slots.get(at).and_then(Option::as_ref)) {
            (Some(inspection), Some(known)) => {
                inspection.on_answer(slot, answer, &known.job, &self.short_ids)
            }
            _ => match answer {
                Validation::Error { error, .. } => Finding::Refused(*error),
                _ => Finding::Unasked,
            },
        };
        let stats = &mut ledger.stats;
        match finding {
            Finding::Good(next) => {
                stats.validations_ok += 1;
                match answer {
                    Validation::ShortIds { .. } => stats.validated(Wanted::ShortIds),
                    Validation::Transactions(_) => stats.validated(Wanted::Transactions),
                    Validation::Block(_) => stats.validated(Wanted::Block),
                    Validation::Error { .. } => {}
                }
                next.map_or(Ok(()), |question| self.say(&question, control, out))
            }
            Finding::Refused(error) => {
                stats.validations_refused += 1;
                stats.last_validation_refusal = Some(error.to_string());
                Ok(())
            }
            Finding::Bad(flaw) => {
                stats.validations_failed += 1;
                stats.last_validation_failure = Some(format!("slot {slot}: {flaw}"));
                Ok(())
            }
            Finding::Unasked => {
                stats.validations_unasked += 1;
                Ok(())
            }
        }
    }
}

/// Forges the frame that begins at `start`, if the pool is to do that.
fn garble(control: &Control, start: usize, out: &mut [u8]) {
    if control.has(Fault::BadMac)
        && let Some(byte) = out.get_mut(start + HEADER_LEN)
    {
        *byte ^= 1;
    }
}

/// How long work of a former configuration is accepted.
const CONFIG_GRACE: Duration = Duration::from_secs(30);
/// One ping in so many signs of life.
const SIGNS_PER_PING: u64 = 6;
/// Transactions that fit one frame with some thousand lengths of three bytes.
const FULL_SIZE_MAX: u32 = 3_900_000;
/// Bytes of a username that the log keeps.
const USERNAME_SHOWN_MAX: usize = 128;
