//! A share on its way through the pool: remembered, checked, booked, answered.

use super::super::{
    check::{self, Paid, Slot},
    ledger::{Ledger, PoolTime, ShareRecord, Split},
    options::{Control, Fault},
    session::PoolClose,
};
use super::Gateway;
use crate::{
    datum::{
        message::{
            JobContext, ShareFlags, ShareMessage, ShareReason, ShareResponse, ShareStatus,
            ToGateway,
        },
        rebuild,
    },
    work::{CoinbaserRequest, Hash256, printable_bytes},
};

/// The pool's verdict on a share.
struct Judged {
    hash: Hash256,
    height: u32,
    is_block: bool,
    paid: Paid,
    /// The prime id in its coinbase, if that could be read.
    prime_id: Option<u32>,
    /// The difficulty that is credited.
    verdict: Result<f64, ShareReason>,
}

impl Gateway {
    pub(super) fn on_share(
        &mut self,
        share: &ShareMessage<'_>,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        *ledger.stats.shares_by_flags.entry(share.flags.0).or_default() += 1;
        self.learn(share, now, control, ledger);
        let judged = self.judge(share, now, control, ledger);
        let verdict = judged.verdict;
        self.book(share, &judged, now, ledger);
        if control.has(Fault::DisconnectOnShare) {
            return Err(PoolClose::OnPurpose);
        }
        if !control.has(Fault::SilentShares) && !ledger.stats.leaves_out_an_answer(control.habits) {
            self.answer(share, verdict.err(), control, out)?;
        }
        if verdict.is_ok() && !share.flags.has(ShareFlags::SUBSIDY_ONLY) {
            self.inspect(share.slot, control, ledger, out)?;
        }
        Ok(())
    }

    /// Answers the gateway's share.
    fn answer(
        &mut self,
        share: &ShareMessage<'_>,
        refusal: Option<ShareReason>,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<(), PoolClose> {
        let habits = &control.habits;
        let accepted = if control.has(Fault::Tentative) {
            ShareStatus::Tentative
        } else {
            ShareStatus::Accepted
        };
        let is_blank = refusal.is_some() && habits.blank_rejections;
        let response = ShareResponse {
            status: refusal.map_or(accepted, |_| ShareStatus::Rejected),
            reason: refusal.unwrap_or(ShareReason::NONE),
            nonce: share.nonce,
            target_byte: if is_blank { TARGET_BYTE_NONE } else { share.target_byte },
            slot: share.slot,
        };
        let message = ToGateway::ShareResponse(response);
        self.send(control, out, |frame| {
            let start = frame.len();
            message.encode(frame);
            // Also for statuses without a name.
            if let (Some(status), Some(byte)) = (habits.status, frame.get_mut(start + 1)) {
                *byte = status;
            }
        })
    }

    /// Keeps the contexts that a share brings, whether or not the share itself is valid.
    fn learn(
        &mut self,
        share: &ShareMessage<'_>,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
    ) {
        let at = usize::from(share.slot);
        if at >= self.slots.len() {
            return;
        }
        if let Some(job) = &share.job {
            let memory = ledger.gateway(&self.keys.long_term.ed25519);
            memory.on_job(job.prevhash, job.height, now.instant);
            let splits = self.splits_of(job, control, ledger);
            self.slots[at] = Some(Slot::new(job, splits));
            self.inspections[at] = None;
        }
        if let (Some(parts), Some(slot)) = (&share.coinbase, &mut self.slots[at]) {
            let former = self.former.as_ref().filter(|(_, until)| now.instant <= *until);
            let mut configs = vec![&*self.config];
            configs.extend(former.map(|(config, _)| &**config));
            slot.add(parts, &configs);
        }
    }

    /// The split of a job's coinbaser id. Counts ids that are misused, and refuses them if that is
    /// the pool's habit.
    fn splits_of(
        &self,
        job: &JobContext<'_>,
        control: &Control,
        ledger: &mut Ledger,
    ) -> Result<std::sync::Arc<[crate::work::PayoutOutput]>, ShareReason> {
        let request = CoinbaserRequest { prevhash: job.prevhash, value: job.coinbase_value };
        let memory = ledger.gateway(&self.keys.long_term.ed25519);
        match memory.issued(job.coinbaser_id, self.number, request) {
            Split::Right(outputs) => Ok(outputs),
            Split::Unknown => Err(ShareReason::BAD_COINBASER_ID),
            Split::Misused(misuse, outputs) => {
                ledger.stats.splits_misused.count(misuse);
                if control.habits.bound_splits { Err(misuse.reason()) } else { Ok(outputs) }
            }
        }
    }

    fn judge(
        &mut self,
        share: &ShareMessage<'_>,
        now: PoolTime,
        control: &Control,
        ledger: &mut Ledger,
    ) -> Judged {
        let mut judged = Judged {
            hash: Hash256::ZERO,
            height: 0,
            is_block: false,
            paid: Paid::default(),
            prime_id: None,
            verdict: Err(ShareReason::OTHER),
        };
        judged.verdict = self.judge_into(share, now, ledger, control, &mut judged);
        judged
    }

    /// Checks everything about a share, as far as possible.
    fn judge_into(
        &mut self,
        share: &ShareMessage<'_>,
        now: PoolTime,
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
        judged.prime_id = parts.prime_id;
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
        now: PoolTime,
        ledger: &mut Ledger,
    ) {
        let stats = &mut ledger.stats;
        let flagged = share.flags.has(ShareFlags::BLOCK);
        stats.blocks_flagged += u64::from(flagged);
        stats.blocks_misflagged += u64::from(flagged != judged.is_block);
        let foreign = judged.prime_id.is_some_and(|id| id != self.config.prime_id);
        stats.foreign_prime_ids += u64::from(foreign);
        if let Ok(difficulty) = judged.verdict {
            self.accepted += 1;
            stats.last_outputs = judged.paid.outputs;
            stats.last_splits = judged.paid.splits;
            stats.splits_max = stats.splits_max.max(judged.paid.splits);
            ledger.gateway(&self.keys.long_term.ed25519).unchecked.add(difficulty);
        }
        let record = ShareRecord {
            username: printable_bytes(share.username, USERNAME_SHOWN_MAX).into(),
            slot: share.slot,
            coinbase_id: share.coinbase_id,
            flags: share.flags,
            target_byte: share.target_byte,
            height: judged.height,
            hash: judged.hash,
            is_block: judged.is_block,
            verdict: judged.verdict.map(|_| ()),
            unix: now.unix,
        };
        ledger.record(record, judged.verdict.unwrap_or(0.0));
    }
}

/// Instead of the share's own target byte.
const TARGET_BYTE_NONE: u8 = 0xFF;
/// Bytes of a username that the log keeps.
const USERNAME_SHOWN_MAX: usize = 128;
