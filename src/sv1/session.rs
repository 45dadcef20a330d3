//! One miner's Stratum V1 session: lines in, bytes out, shares and blocks out.
//!
//! No sockets, tasks or clocks here. Callers pass `now` and own the buffers, so a test can drive
//! years of mining in a millisecond.

mod difficulty;
mod quiet;

use std::{borrow::Cow, io::Write, sync::Arc, time::Instant};

use super::{
    error::{
        write_bad_params, write_method_not_found, write_notice, write_reject, write_result,
        write_true,
    },
    message::{RpcRequest, printable, scan_submit, trimmed},
    method::{configure::Configure, submit::Submit, subscribe},
    notify::{self, NotifyVariant, WireJobId},
};
use crate::{
    stratum::{
        self, Closing, Config, DifficultyTerms, Effects, IssuedJob, IssuedJobs, MinerAccount,
        Origin, Pacing, ShareClaim, TurnBudget, is_urgent,
    },
    validate::{Assignment, RootSource, SeenShares},
    work::{
        CoinbaseClass, Difficulty, JobId, Reject, VERSION_ROLLING_MASK, Work,
        vardiff::{DifficultyChange, Vardiff},
    },
};

/// A miner's side of the protocol. Owned by its connection.
#[derive(Debug)]
pub struct Sv1Session {
    config: Arc<Config>,
    origin: Origin,
    /// Once subscribed.
    account: Option<MinerAccount>,
    began: Instant,
    user_agent: Box<str>,
    class: CoinbaseClass,
    terms: DifficultyTerms,
    /// The worker that logged in last.
    worker: Box<str>,
    /// What the miner suggested last.
    suggested: Option<Difficulty>,
    vardiff: Vardiff,
    pacing: Pacing,
    given: IssuedJobs,
    seen: SeenShares,
    /// The difficulty that the miner was last told.
    told: Option<Difficulty>,
    /// When the miner was last sent a job.
    heard_of_work: Instant,
    /// A version mask still to be announced with the next job.
    mask_untold: Option<u32>,
}

impl Sv1Session {
    /// A session on a newly accepted connection.
    pub fn new(config: Arc<Config>, origin: Origin, work: &Work, now: Instant) -> Self {
        let rules = config.vardiff_rules(work, &DifficultyTerms::default());
        Self {
            seen: origin.seen(&config),
            config,
            origin,
            account: None,
            began: now,
            user_agent: Box::default(),
            class: CoinbaseClass::Default,
            terms: DifficultyTerms::default(),
            worker: Box::default(),
            suggested: None,
            vardiff: Vardiff::new(rules, now),
            pacing: Pacing::new(work, now),
            given: IssuedJobs::default(),
            told: None,
            heard_of_work: now,
            mask_untold: None,
        }
    }

    #[cfg(test)]
    pub(crate) fn user_agent(&self) -> &str {
        &self.user_agent
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.account.is_some()
    }

    #[cfg(test)]
    pub(crate) fn difficulty(&self) -> Difficulty {
        self.vardiff.difficulty()
    }

    /// Handles one line from the miner. Answers are appended to `out`.
    pub fn on_line(
        &mut self,
        line: &[u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<(), Closing> {
        let line = trimmed(line);
        if let Some(submit) = scan_submit(line) {
            self.on_submit(submit.id, &submit.fields, work, now, out, effects);
            return Ok(());
        }
        if line.is_empty() {
            return Ok(()); // Some firmware keeps connections alive this way.
        }
        let line = printable(line);
        let request = RpcRequest::parse(&line).ok_or(NOT_JSON)?;
        // An answer to one of our messages: nothing waits for it.
        let Some(method) = request.method.as_deref() else { return Ok(()) };
        match method {
            "mining.submit" => {
                let fields: Vec<Option<String>> = request.params().unwrap_or_default();
                let fields: Vec<&str> =
                    fields.iter().map(|field| field.as_deref().unwrap_or_default()).collect();
                self.on_submit(request.id, &fields, work, now, out, effects);
            }
            "mining.subscribe" => self.on_subscribe(&request, work, now, out),
            "mining.authorize" => return self.on_authorize(&request, work, now, out),
            "mining.configure" => self.on_configure(&request, work, now, out),
            "mining.suggest_difficulty" => self.on_suggest(&request, work, now, out),
            "mining.suggest_target" => self.on_suggest_target(&request, work, now, out),
            "mining.extranonce.subscribe" => write_true(request.id, out),
            "mining.ping" => write_result(request.id, b"\"pong\"", out),
            "mining.pong" => {}
            // BFGMiner sends its capabilities before it subscribes; a reply would confuse it.
            "mining.capabilities" if request.is_notice() => {}
            // BFGMiner asks for every job's, to look for its own; an empty list tells it not to.
            "mining.get_transactions" => write_result(request.id, b"[]", out),
            _ => write_method_not_found(request.id, out),
        }
        Ok(())
    }

    /// Notes new work, and announces it now or later.
    pub(crate) fn on_work(
        &mut self,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Closing> {
        let missed = self.pacing.see(work)?;
        self.apply_rules(work, now);
        if !self.is_subscribed() {
            return Ok(());
        }
        let latest = work.latest();
        self.given.retain(work);
        let given = &self.given;
        self.seen.retain(|job| given.contains(job) && work.job(job).is_some());
        let last = self.given.last().map(|last| last.job);
        if last == Some(latest.id) {
            return Ok(());
        }
        let urgent = missed || is_urgent(work, last, self.told, &self.vardiff);
        if self.pacing.is_now(work, urgent, self.origin.extranonce1(), now) {
            self.send_latest(work, now, out);
        }
        Ok(())
    }

    /// When [`Self::on_deadline`] wants to be called.
    pub(crate) fn deadline(&self) -> Instant {
        if !self.is_subscribed() {
            return self.began + self.config.login_timeout;
        }
        self.pacing.deadline(&self.config, self.vardiff.deadline().min(self.quiet_until()))
    }

    /// Does what has fallen due.
    pub(crate) fn on_deadline(
        &mut self,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Closing> {
        if !self.is_subscribed() {
            let timeout = self.config.login_timeout;
            let late = now >= self.began + timeout;
            return if late { Err(Closing::LoginTimeout(timeout)) } else { Ok(()) };
        }
        self.pacing.check_silence(&self.config, now)?;
        // A lower difficulty comes with the next job: the present one is not voided for it.
        let _ = self.vardiff.on_deadline(now);
        if self.pacing.is_due(now) {
            self.send_latest(work, now, out);
        }
        if now >= self.quiet_until() {
            self.end_quiet(work, now, out);
        }
        Ok(())
    }

    /// The first answer opens the session; later ones repeat it and change nothing.
    fn on_subscribe(
        &mut self,
        request: &RpcRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        subscribe::write_answer(request.id, self.origin.extranonce1(), out);
        if self.is_subscribed() {
            return;
        }
        self.user_agent = subscribe::user_agent(request);
        (self.class, self.terms.class_floor) = self.config.class_of(&self.user_agent);
        let agent = &self.user_agent;
        self.account = Some(MinerAccount::open(
            &self.origin,
            self.origin.sv1_protocol(),
            agent,
            self.class,
            now,
        ));
        if let Some(account) = self.account.as_ref().filter(|_| !self.worker.is_empty()) {
            account.log_in(&self.worker, &self.config, now);
        }
        self.pacing.restart_at(now);
        self.vardiff.restart_at(now);
        self.apply_rules(work, now);
        self.send_latest(work, now, out);
    }

    fn on_configure(
        &mut self,
        request: &RpcRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let Some(configure) = Configure::read(request, rollable(&self.config)) else {
            return write_bad_params(request.id, out);
        };
        configure.write_answer(request.id, out);
        // The answer itself grants the mask. set_version_mask repeats it for old firmware, but
        // never right after the answer, when an S21+ hangs up.
        self.mask_untold = configure.version_mask;
        if let Some(Some(floor)) = configure.minimum_difficulty {
            self.terms.own_floor = Some(floor);
            self.apply_rules(work, now);
            self.renew(work, now, out);
        }
    }

    fn on_submit(
        &mut self,
        id: &[u8],
        fields: &[&str],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) {
        match self.judge(fields, work, now, effects) {
            Ok(difficulty) => {
                write_true(id, out);
                if self.pacing.on_share(now) {
                    self.origin.prove();
                }
                match self.vardiff.on_share(difficulty, now) {
                    Some(DifficultyChange::Quick(_)) => self.renew(work, now, out),
                    Some(DifficultyChange::Flood(enough)) => self.end_flood(enough, work, now, out),
                    Some(DifficultyChange::Next(_)) | None => {}
                }
            }
            Err(reject) => {
                write_reject(id, reject, out);
                match &self.account {
                    Some(account) => account.refuse(reject, effects),
                    None => effects.tally.reject(self.origin.sv1_protocol(), reject, 0.0),
                }
                let is_told = self.told == Some(self.vardiff.difficulty());
                if reject == Reject::TooMany && is_told && self.vardiff.on_excess(now).is_some() {
                    self.renew(work, now, out);
                }
            }
        }
    }

    /// The difficulty that an accepted share was made at, or why there is none.
    fn judge(
        &mut self,
        fields: &[&str],
        work: &Work,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<Difficulty, Reject> {
        let account = self.account.as_mut().ok_or(Reject::NotSubscribed)?;
        let Submit { job: id, submission, username } =
            Submit::read(fields, self.origin.extranonce1(), rollable(&self.config))?;
        let given = self.given.find(|given| is_given_as(given, id)).ok_or(Reject::UnknownJob)?;
        let harder = self.given.harder_terms(given, now);
        let difficulty = given.assignment.difficulty;
        let claim = ShareClaim {
            job: work.job(given.job).ok_or(Reject::StaleWork)?,
            assignment: harder.as_ref().unwrap_or(&given.assignment),
            given_at: given.at,
            source: RootSource::Coinbase,
            submission: &submission,
            username,
        };
        account.judge(&claim, &mut self.seen, &self.config, work, now, effects)?;
        self.given.note_share(difficulty);
        Ok(difficulty)
    }

    /// Brings vardiff up to the rules of this work, this configuration and this miner.
    fn apply_rules(&mut self, work: &Work, now: Instant) {
        let rules = self.config.vardiff_rules(work, &self.terms);
        self.vardiff.configure(rules, now);
    }

    /// Puts a changed difficulty into effect at once, if that can be done without the miner
    /// repeating work: with newer work if there is any, otherwise with the quickdiff twin of this
    /// job. Work that pays the subsidy alone has none: the C gateway never made one, and full work
    /// follows soon.
    fn renew(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) {
        if !self.is_subscribed() || self.told == Some(self.vardiff.difficulty()) {
            return;
        }
        let latest = work.latest().id;
        let newer = self.given.last().is_none_or(|last| last.job != latest);
        if newer {
            self.send(work, now, Sending { quickdiff: false, clean: true }, out);
        } else if !work.latest().is_empty() && !self.has_twin(latest) {
            self.send(work, now, Sending { quickdiff: true, clean: true }, out);
        }
    }

    /// Announces the latest job.
    fn send_latest(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) {
        let last = self.given.last().and_then(|last| work.job(last.job));
        // A first job is clean too: the miner may have work from another connection.
        let clean = last.is_none_or(|last| work.supersedes(last));
        self.send(work, now, Sending { quickdiff: false, clean }, out);
    }

    fn send(&mut self, work: &Work, now: Instant, sending: Sending, out: &mut Vec<u8>) {
        self.pacing.sent();
        self.heard_of_work = now;
        if let Some(mask) = self.mask_untold.take()
            && !self.user_agent.starts_with(MASK_REFUSER)
        {
            // Writing to a vector cannot fail, here and below.
            let _ = writeln!(
                out,
                r#"{{"id":null,"method":"mining.set_version_mask","params":["{mask:08x}"]}}"#
            );
        }
        let difficulty = self.vardiff.difficulty();
        if self.told != Some(difficulty) {
            self.told = Some(difficulty);
            let _ = writeln!(
                out,
                r#"{{"id":null,"method":"mining.set_difficulty","params":[{difficulty}]}}"#
            );
        }
        let Sending { quickdiff, clean } = sending;
        let job = work.latest();
        let assignment = self.assignment(difficulty, quickdiff);
        let rendering = NotifyVariant { class: self.class, quickdiff, clean };
        notify::write(job, rendering, assignment.variant().target_byte, out);
        if let Some(account) = &self.account {
            account.miner().set_difficulty(difficulty);
        }
        self.given.push(IssuedJob { job: job.id, assignment, at: now, wire: () });
    }

    /// True when the quickdiff twin of `job` was given out.
    fn has_twin(&self, job: JobId) -> bool {
        let twin = WireJobId { job, quickdiff: true };
        self.given.find(|given| is_given_as(given, twin)).is_some()
    }

    /// Spares the target's long division when nothing has changed.
    fn assignment(&self, difficulty: Difficulty, quickdiff: bool) -> Assignment {
        match self.given.last() {
            Some(last) if last.assignment.difficulty == difficulty => {
                Assignment { quickdiff, class: self.class, ..last.assignment }
            }
            _ => Assignment::new(self.class, difficulty, quickdiff),
        }
    }
}

impl stratum::Protocol for Sv1Session {
    fn on_bytes(
        &mut self,
        inbox: &mut [u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<usize, Closing> {
        let (mut used, mut turn) = (0, TurnBudget::default());
        while let Some(len) = memchr::memchr(b'\n', &inbox[used..]) {
            if len > LINE_LEN_MAX {
                return Err(TOO_LONG);
            }
            if !turn.goes_on(out.len()) {
                effects.is_cut = true;
                return Ok(used);
            }
            self.on_line(&inbox[used..used + len], work, now, out, effects)?;
            used += len + 1;
        }
        if inbox.len() - used > LINE_LEN_MAX { Err(TOO_LONG) } else { Ok(used) }
    }

    fn on_work(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        self.on_work(work, now, out)
    }

    fn on_config(&mut self, config: &Arc<Config>, work: &Work, now: Instant) {
        self.config = Arc::clone(config);
        self.seen.expect(config.shares_expected());
        (self.class, self.terms.class_floor) = self.config.class_of(&self.user_agent);
        self.terms.want(self.config.difficulty_of(&self.worker), self.terms.asked);
        if let Some(account) = &mut self.account {
            account.miner().describe(&self.user_agent, self.class);
            account.forget_rules();
            account.log_in(&self.worker, &self.config, now);
        }
        self.apply_rules(work, now);
    }

    fn deadline(&self) -> Instant {
        self.deadline()
    }

    fn on_deadline(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        self.on_deadline(work, now, out)
    }

    fn is_proven(&self) -> bool {
        self.pacing.is_proven()
    }

    fn on_limit(&mut self, why: &Closing, out: &mut Vec<u8>) {
        write_notice(why, out);
    }

    fn on_stop(&mut self, _: &mut Vec<u8>) {
        // `client.reconnect` makes some firmware give up its backup pools: closing the connection
        // says enough.
    }
}

/// The bits of the version that a miner may roll, whoever is paid: they are granted once, and not
/// again when a pool comes or goes.
fn rollable(config: &Config) -> u32 {
    VERSION_ROLLING_MASK & config.pooled_version_mask
}

fn is_given_as(given: &IssuedJob, id: WireJobId) -> bool {
    given.job == id.job && given.assignment.quickdiff == id.quickdiff
}

/// How the latest job goes out.
#[derive(Clone, Copy)]
struct Sending {
    quickdiff: bool,
    clean: bool,
}

/// Drops the connection when it is sent a version mask (datum_gateway PR #105).
const MASK_REFUSER: &str = "Antminer S21+";
/// Real requests have a few hundred bytes.
const LINE_LEN_MAX: usize = 8192;
const NOT_JSON: Closing =
    Closing::Violation(Cow::Borrowed("sent a line that is not a JSON object"));
const TOO_LONG: Closing = Closing::Violation(Cow::Borrowed("sent a line longer than 8192 bytes"));

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
