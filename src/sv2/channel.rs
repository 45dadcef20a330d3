//! One channel: a miner of its own, with its difficulty, its jobs and its shares.

use std::time::{Duration, Instant};

use super::{
    codec::{CloseChannel, Message, Str255, SubmitSharesStandard, SubmitSharesSuccess},
    jobs,
};
use crate::{
    books::MinerProtocol,
    stratum::{
        Config, DifficultyTerms, Effects, IssuedJob, IssuedJobs, MinerAccount, MinerPlace,
        ShareClaim,
    },
    validate::{Assignment, RootSource, SeenShares},
    work::{
        CoinbaseClass, Difficulty, HASHES_PER_DIFFICULTY, Hash256, Job, JobId, Reject, Submission,
        SubmittedVersion, Work,
        vardiff::{DifficultyChange, Vardiff},
    },
};

/// What may roll on a channel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChannelKind {
    /// Nonce, time and version: all twelve bytes of the extranonce are set by the gateway.
    Standard,
    /// Eight bytes of the extranonce too.
    Extended,
}

impl ChannelKind {
    pub(super) const fn protocol(self) -> MinerProtocol {
        match self {
            Self::Standard => MinerProtocol::Sv2Standard,
            Self::Extended => MinerProtocol::Sv2Extended,
        }
    }
}

/// How a job was sent to a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentJob {
    pub(super) id: u32,
    /// For a standard channel; none for an extended one, which rolls its own.
    pub(super) root: Option<Hash256>,
}

/// A share of either kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubmittedShare<'a> {
    pub(super) kind: ChannelKind,
    pub(super) share: &'a SubmitSharesStandard,
    /// The miner's part of the extranonce.
    pub(super) rolled: &'a [u8],
    /// From extension 0x0002.
    pub(super) worker: Option<&'a str>,
}

/// A future job that the channel has.
#[derive(Clone, Copy, Debug)]
pub(super) struct FutureJob {
    pub(super) job: JobId,
    pub(super) target_byte: u8,
    pub(super) wire: SentJob,
}

/// Accepted shares not answered yet.
#[derive(Clone, Copy, Debug, Default)]
struct Batch {
    count: u32,
    last: u32,
    /// Σ credited difficulty, including what earlier answers rounded away.
    sum: f64,
}

pub(super) struct MiningChannel {
    pub(super) id: u32,
    pub(super) kind: ChannelKind,
    pub(super) group: u32,
    pub(super) account: MinerAccount,
    /// Whom its shares belong to; empty: the operator.
    identity: Box<str>,
    /// The worker that a share named last, and its full name.
    worker: (Box<str>, Box<str>),
    /// The prefix (extended) or all (standard) of its extranonce.
    pub(super) extranonce: [u8; 12],
    /// None: the connection's own.
    place: Option<MinerPlace>,
    /// True once it has had a share accepted.
    is_proven: bool,
    pub(super) class: CoinbaseClass,
    terms: DifficultyTerms,
    /// From the hashrate that it last reported.
    suggested: Option<Difficulty>,
    pub(super) vardiff: Vardiff,
    pub(super) told: Option<Difficulty>,
    pub(super) given: IssuedJobs<SentJob>,
    seen: SeenShares,
    pub(super) ahead: Option<FutureJob>,
    batch: Batch,
    /// When an update last got it a job of its own.
    renewed: Option<Instant>,
}

/// The parameters that a channel is opened with.
pub(super) struct ChannelOpening<'a> {
    pub(super) id: u32,
    pub(super) kind: ChannelKind,
    pub(super) account: MinerAccount,
    pub(super) identity: &'a str,
    pub(super) extranonce1: [u8; 4],
    pub(super) place: Option<MinerPlace>,
    pub(super) class: CoinbaseClass,
    pub(super) class_floor: Option<Difficulty>,
    pub(super) own_floor: Option<Difficulty>,
    /// Hashes per second, if the miner says.
    pub(super) hashrate: Option<f64>,
    pub(super) seen: SeenShares,
}

impl MiningChannel {
    pub(super) fn new(
        opening: ChannelOpening<'_>,
        config: &Config,
        work: &Work,
        now: Instant,
    ) -> Self {
        let ChannelOpening {
            id,
            kind,
            account,
            identity,
            place,
            class,
            class_floor,
            own_floor,
            ..
        } = opening;
        let mut extranonce = [0; 12];
        extranonce[..4].copy_from_slice(&opening.extranonce1);
        let set = config.difficulty_of(identity);
        let terms = DifficultyTerms { class_floor, own_floor, set, ..DifficultyTerms::default() };
        let mut vardiff = Vardiff::new(config.vardiff_rules(work, &terms), now);
        let suggested = opening.hashrate.and_then(|rate| config.difficulty_for(rate));
        if let Some(difficulty) = suggested {
            vardiff.suggest(difficulty, now);
        }
        Self {
            id,
            kind,
            group: 0,
            account,
            identity: identity.into(),
            worker: (Box::default(), identity.into()),
            extranonce,
            place,
            is_proven: false,
            class,
            terms,
            suggested,
            vardiff,
            told: None,
            given: IssuedJobs::default(),
            seen: opening.seen,
            ahead: None,
            batch: Batch::default(),
            renewed: None,
        }
    }

    /// Brings vardiff up to the rules of this work and configuration.
    pub(super) fn apply_rules(&mut self, config: &Config, work: &Work, now: Instant) {
        self.terms.want(config.difficulty_of(&self.identity), None);
        self.seen.expect(config.shares_expected());
        let rules = config.vardiff_rules(work, &self.terms);
        self.vardiff.configure(rules, now);
    }

    /// What its name is worth under other rules.
    pub(super) fn log_in(&mut self, config: &Config, now: Instant) {
        self.account.log_in(&self.identity, config, now);
    }

    pub(super) fn set_class(&mut self, (class, floor): (CoinbaseClass, Option<Difficulty>)) {
        (self.class, self.terms.class_floor) = (class, floor);
    }

    pub(super) fn set_own_floor(&mut self, floor: Option<Difficulty>) {
        self.terms.own_floor = floor;
    }

    /// Notes the difficulty that the miner's hashrate suggests. Proxies repeat the same one once a
    /// minute, which changes nothing.
    pub(super) fn suggest(&mut self, difficulty: Difficulty, now: Instant) {
        if self.suggested.replace(difficulty) != Some(difficulty) {
            self.vardiff.suggest(difficulty, now);
        }
    }

    /// Forgets what `work` no longer has.
    pub(super) fn forget(&mut self, work: &Work) {
        self.given.retain(work);
        let given = &self.given;
        self.seen.retain(|job| given.contains(job) && work.job(job).is_some());
    }

    /// The byte that tells its difficulty in its coinbases. Only a pool reads it; without one,
    /// channels of all difficulties can share their jobs.
    pub(super) fn target_byte(&self, work: &Work) -> u8 {
        let pooled = work.latest().payout.pooled.is_some();
        if pooled { self.vardiff.difficulty().target_byte() } else { 0 }
    }

    /// The terms for `job`: none when every variant of it was already given. Work that pays the
    /// subsidy alone has only one: the C gateway never made another, and full work follows soon.
    pub(super) fn terms(&self, job: &Job, work: &Work) -> Option<Assignment> {
        let target_byte = self.target_byte(work);
        let was_given = |quickdiff| {
            let same = |given: &IssuedJob<SentJob>| {
                let Assignment { target_byte: byte, quickdiff: quick, .. } = given.assignment;
                given.job == job.id && (byte, quick) == (target_byte, quickdiff)
            };
            self.given.find(same).is_some()
        };
        let mut variants = [false, true].into_iter().take(if job.is_empty() { 1 } else { 2 });
        let quickdiff = variants.find(|quickdiff| !was_given(*quickdiff))?;
        Some(self.assignment(self.vardiff.difficulty(), target_byte, quickdiff))
    }

    fn assignment(&self, difficulty: Difficulty, target_byte: u8, quickdiff: bool) -> Assignment {
        // Spares the target's long division when nothing has changed.
        let known = self.given.last().map(|last| last.assignment);
        let known = known.filter(|known| known.difficulty == difficulty);
        let assignment =
            known.unwrap_or_else(|| Assignment::new(self.class, difficulty, quickdiff));
        Assignment { class: self.class, quickdiff, target_byte, ..assignment }
    }

    /// Remembers a job that was sent.
    pub(super) fn give(&mut self, job: JobId, assignment: Assignment, wire: SentJob, now: Instant) {
        self.given.push(IssuedJob { job, assignment, at: now, wire });
    }

    /// True when it works on the tip with the right bits (on test networks they change), and for
    /// somebody who still pays for it.
    pub(super) fn is_on(&self, work: &Work) -> bool {
        let last = self.given.last().and_then(|last| work.job(last.job));
        let bits = work.latest().template.nbits;
        last.is_some_and(|job| !work.supersedes(job) && job.template.nbits == bits)
    }

    /// True when the difficulty that it was last told is still within the rules.
    pub(super) fn told_is_good(&self) -> bool {
        self.told.is_some_and(|told| self.vardiff.allows(told))
    }

    /// Notes the difficulty that the miner was told.
    pub(super) fn tell(&mut self, difficulty: Difficulty) {
        self.told = Some(difficulty);
        self.account.miner().set_difficulty(difficulty);
    }

    /// The byte of the difficulty that the miner was told.
    pub(super) fn told_byte(&self, work: &Work) -> Option<u8> {
        let pooled = work.latest().payout.pooled.is_some();
        self.told.map(|told| if pooled { told.target_byte() } else { 0 })
    }

    /// Whether an update may get it a job of its own: not in a flood of them.
    pub(super) fn may_renew(&mut self, now: Instant) -> bool {
        let may = self.renewed.is_none_or(|last| now >= last + RENEW_EACH);
        if may {
            self.renewed = Some(now);
        }
        may
    }

    /// Notes that a job which was sent ahead is now active.
    pub(super) fn begin(&mut self, ahead: FutureJob, now: Instant) {
        self.ahead = None;
        let Some(told) = self.told else { return };
        let terms = self.assignment(told, ahead.target_byte, false);
        self.give(ahead.job, terms, ahead.wire, now);
    }

    /// Judges a share. An accepted one is answered with [`Self::answer`], later and with others.
    pub(super) fn on_submit(
        &mut self,
        submit: &SubmittedShare<'_>,
        config: &Config,
        work: &Work,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Option<DifficultyChange>, Reject> {
        let judged = self.judge(submit, config, work, now, effects);
        let difficulty = judged.inspect_err(|reject| self.account.refuse(*reject, effects))?;
        self.batch.count += 1;
        self.batch.last = submit.share.sequence_number;
        self.batch.sum += difficulty.get();
        let change = self.vardiff.on_share(difficulty, now);
        let Some(DifficultyChange::Flood(enough)) = change else { return Ok(change) };
        let mistake = config.lift(&mut self.terms, &mut self.vardiff, enough, work, now);
        Ok(mistake.map(|mistake| {
            self.account.report_mistake(mistake, now);
            DifficultyChange::Quick(self.vardiff.difficulty())
        }))
    }

    fn judge(
        &mut self,
        submit: &SubmittedShare<'_>,
        config: &Config,
        work: &Work,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Difficulty, Reject> {
        let SubmittedShare { share, rolled, worker, .. } = *submit;
        let is_it = |given: &IssuedJob<SentJob>| given.wire.id == share.job_id;
        let given = self.given.find(is_it).ok_or(Reject::UnknownJob)?;
        let job = work.job(given.job).ok_or(Reject::StaleWork)?;
        let mut extranonce = self.extranonce;
        if self.kind == ChannelKind::Extended {
            // Stale before malformed, like SRI.
            let stale = job.prevhash() != work.tip();
            let reject = if stale { Reject::StalePrevblk } else { Reject::BadExtranonce };
            let rolled: [u8; 8] = rolled.try_into().map_err(|_| reject)?;
            extranonce[4..].copy_from_slice(&rolled);
        }
        let submission = Submission {
            extranonce,
            ntime: share.ntime,
            nonce: share.nonce,
            version: SubmittedVersion::Whole(share.version),
            version_mask: config.version_mask(job),
        };
        if let Some(worker) = worker
            && *self.worker.0 != *worker
        {
            self.worker = (worker.into(), full_name(&self.identity, worker).into());
        }
        let harder = self.given.harder_terms(given, now);
        let difficulty = given.assignment.difficulty;
        let claim = ShareClaim {
            job,
            assignment: harder.as_ref().unwrap_or(&given.assignment),
            given_at: given.at,
            source: given.wire.root.as_ref().map_or(RootSource::Coinbase, RootSource::Root),
            submission: &submission,
            username: if worker.is_some() { &self.worker.1 } else { &self.identity },
        };
        self.account.judge(&claim, &mut self.seen, config, work, now, effects)?;
        self.given.note_share(difficulty);
        Ok(difficulty)
    }

    /// Raises the difficulty of a miner that has sent more shares than can be told apart; false
    /// when that has been done already, or cannot be.
    pub(super) fn on_excess(&mut self, now: Instant) -> bool {
        let is_told = self.told == Some(self.vardiff.difficulty());
        is_told && self.vardiff.on_excess(now).is_some()
    }

    /// Notes that its miner has had a share accepted.
    pub(super) fn prove(&mut self) {
        if !std::mem::replace(&mut self.is_proven, true)
            && let Some(place) = &self.place
        {
            place.prove();
        }
    }

    /// True once it has had a share accepted.
    pub(super) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Somebody else needs its place.
    pub(super) fn is_evicted(&self) -> bool {
        self.place.as_ref().is_some_and(MinerPlace::is_evicted)
    }

    /// Tells the miner that the channel ends.
    pub(super) fn close(&self, reason_code: Str255<'_>, out: &mut Vec<u8>) {
        CloseChannel { channel_id: self.id, reason_code }.append(out);
    }

    /// Appends one answer to all shares accepted since the last.
    pub(super) fn answer(&mut self, out: &mut Vec<u8>) {
        if self.batch.count == 0 {
            return;
        }
        let sum = self.batch.sum.max(0.0).floor();
        SubmitSharesSuccess {
            channel_id: self.id,
            last_sequence_number: self.batch.last,
            new_submits_accepted_count: self.batch.count,
            // Saturates; nobody gets near that.
            new_shares_sum: to_u64(sum),
        }
        .append(out);
        self.batch = Batch { sum: self.batch.sum - sum, ..Batch::default() };
    }
}

impl Config {
    /// The bits of the version that a miner may roll on `job`. A DATUM pool is sent the whole
    /// version of a share, and none is known to accept more than BIP 320's.
    fn version_mask(&self, job: &Job) -> u32 {
        if job.payout.pooled.is_some() { self.pooled_version_mask } else { VERSION_MASK }
    }

    /// The difficulty at which `hashrate` (hashes per second) sends the wanted shares per minute.
    pub(super) fn difficulty_for(&self, hashrate: f64) -> Option<Difficulty> {
        let each_s = 60.0 / f64::from(self.shares_per_minute.max(1));
        Difficulty::new(hashrate * each_s / HASHES_PER_DIFFICULTY)
    }
}

/// Extension 0x0002 names the worker alone; its account is the channel's.
fn full_name(identity: &str, worker: &str) -> String {
    let account = identity.split('.').next().unwrap_or_default();
    if account.is_empty() { worker.to_owned() } else { format!("{account}.{worker}") }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
const fn to_u64(value: f64) -> u64 {
    value as u64
}

/// The merkle root for the terms of a standard channel; none for an extended one.
pub(super) fn root_for(
    channel: &MiningChannel,
    job: &Job,
    assignment: &Assignment,
) -> Option<Hash256> {
    (channel.kind == ChannelKind::Standard)
        .then(|| jobs::root(job, assignment, &channel.extranonce))
}

/// Proxies update once a minute.
const RENEW_EACH: Duration = Duration::from_secs(1);
/// Bits of the version that may roll for solo work: BIP 323's, as in the specification. The others
/// are for the node to signal with.
const VERSION_MASK: u32 = 0x1fff_ffe0;
