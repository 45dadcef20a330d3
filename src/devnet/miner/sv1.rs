//! A miner's Stratum V1 session, without socket or clock: lines and solved shares in, bytes and
//! work out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    MinerOptions, MinerStats,
    in_flight::{ANSWER_TIMEOUT, InFlight},
    message::{
        Answer, Extranonce, ID_AUTHORIZE, ID_CONFIGURE, ID_EXTRANONCE, ID_SUBMIT_FIRST,
        ID_SUBSCRIBE, ID_SUGGEST, ParseError, ServerMessage, StratumJob, SubmitFields, WireError,
        plain, write_answer, write_request, write_submit,
    },
    scan::{Found, HashWork},
};
use crate::work::VERSION_ROLLING_MASK;

/// Why a connection has to end.
#[derive(Debug, Error)]
pub(super) enum Sv1MinerClose {
    #[error(transparent)]
    Malformed(#[from] ParseError),
    #[error("refused to {0}: {1}")]
    Refused(&'static str, String),
    #[error("did not answer within {0:?}")]
    Silent(Duration),
}

/// A miner's side of Stratum V1.
pub(super) struct Sv1MinerSession {
    user_agent: String,
    username: String,
    extranonce: Option<Extranonce>,
    /// Takes effect with the next job, as `difficulty`.
    difficulty_next: f64,
    version_mask: Option<u32>,
    work: Option<Arc<HashWork>>,
    serial: u64,
    /// The first serial since the last clean job: older shares must not be sent.
    clean_serial: u64,
    submit_id: u64,
    in_flight: InFlight,
}

impl Sv1MinerSession {
    /// Opens the session: appends everything up to the authorization to `out`.
    ///
    /// Work is numbered from the serial after `serial`, so that no two connections of a miner share
    /// one.
    pub(super) fn open(options: &MinerOptions, serial: u64, out: &mut String) -> Self {
        let (user_agent, username) = (plain(&options.user_agent), plain(&options.username));
        if options.version_rolling {
            let params = format!(
                r#"[["version-rolling"],{{"version-rolling.mask":"{VERSION_ROLLING_MASK:08x}","version-rolling.min-bit-count":2}}]"#
            );
            write_request(ID_CONFIGURE, "mining.configure", &params, out);
        }
        write_request(ID_SUBSCRIBE, "mining.subscribe", &format!(r#"["{user_agent}"]"#), out);
        if options.extranonce_subscribe {
            write_request(ID_EXTRANONCE, "mining.extranonce.subscribe", "[]", out);
        }
        let params = format!(r#"["{username}","{}"]"#, plain(&options.password));
        write_request(ID_AUTHORIZE, "mining.authorize", &params, out);
        if let Some(difficulty) = options.suggest_difficulty.filter(|value| value.is_finite()) {
            let params = format!("[{difficulty}]");
            write_request(ID_SUGGEST, "mining.suggest_difficulty", &params, out);
        }
        Self {
            user_agent,
            username,
            extranonce: None,
            difficulty_next: DIFFICULTY_UNTOLD,
            version_mask: None,
            work: None,
            serial,
            clean_serial: serial + 1,
            submit_id: ID_SUBMIT_FIRST,
            in_flight: InFlight::default(),
        }
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// What to hash now.
    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        self.work.as_ref()
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.has_room()
    }

    /// True if no share is waiting for an answer or an explanation.
    pub(super) fn is_settled(&self) -> bool {
        self.in_flight.is_settled()
    }

    /// Handles a line from the server. Check `work` afterwards.
    pub(super) fn on_line(
        &mut self,
        line: &[u8],
        now: Instant,
        stats: &mut MinerStats,
        out: &mut String,
    ) -> Result<(), Sv1MinerClose> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match ServerMessage::parse(line)? {
            ServerMessage::Answer(answer) => self.on_answer(&answer, now, stats)?,
            ServerMessage::Notify(job) => self.on_job(*job, stats),
            ServerMessage::SetDifficulty(difficulty) => {
                self.difficulty_next = difficulty;
                stats.difficulty = difficulty;
            }
            ServerMessage::SetVersionMask(mask) => self.on_version_mask(mask),
            // Applies from the next job on.
            ServerMessage::SetExtranonce(extranonce) => self.extranonce = Some(extranonce),
            ServerMessage::Ping(id) => write_answer(id, "\"pong\"", out),
            ServerMessage::GetVersion(id) => {
                write_answer(id, &format!("\"{}\"", self.user_agent), out);
            }
            ServerMessage::Other => {}
        }
        Ok(())
    }

    /// Submits a solved share, unless a clean job has made it void.
    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut String,
    ) {
        let work = &found.work;
        if work.serial < self.clean_serial {
            stats.discarded += 1;
            return;
        }
        let fields = SubmitFields {
            username: &self.username,
            job_id: &work.job.id,
            extranonce2: found.extranonce2(),
            ntime: found.ntime,
            nonce: found.nonce,
            version_bits: found.version_bits(),
        };
        write_submit(self.submit_id, &fields, out);
        self.in_flight.on_sent(self.submit_id, found, now, stats);
        self.submit_id += 1;
    }

    /// When `on_deadline` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.in_flight.deadline()
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv1MinerClose> {
        let answers = self.in_flight.on_deadline(now, stats);
        if answers { Ok(()) } else { Err(Sv1MinerClose::Silent(ANSWER_TIMEOUT)) }
    }

    /// Accounts for what is still open when the connection ends.
    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.in_flight.on_end(stats);
    }

    fn on_answer(
        &mut self,
        answer: &Answer<'_>,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv1MinerClose> {
        let refused = |what| {
            let error = answer.error.as_ref();
            Err(Sv1MinerClose::Refused(what, error.map(WireError::kind).unwrap_or_default()))
        };
        match answer.id {
            Some(ID_CONFIGURE) => self.version_mask = answer.version_mask(),
            Some(ID_SUBSCRIBE) if answer.error.is_some() => return refused("subscribe"),
            Some(ID_SUBSCRIBE) => self.extranonce = Some(answer.extranonce()?),
            Some(ID_AUTHORIZE) if !answer.is_true() => return refused("authorize"),
            // A server that does not support these may say so.
            Some(id) => self.on_submit_answer(id, answer, now, stats),
            None => {}
        }
        Ok(())
    }

    fn on_submit_answer(
        &mut self,
        id: u64,
        answer: &Answer<'_>,
        now: Instant,
        stats: &mut MinerStats,
    ) {
        if answer.is_true() {
            self.in_flight.on_accepted(id, now, stats);
            return;
        }
        let error = answer.error.clone().unwrap_or_default();
        self.in_flight.on_refused(id, error.kind(), error.is_stale(), now, stats);
    }

    fn on_job(&mut self, job: StratumJob, stats: &mut MinerStats) {
        stats.jobs += 1;
        if job.clean {
            stats.clean_jobs += 1;
            self.clean_serial = self.serial + 1;
            self.in_flight.on_clean(&job.prevhash, stats);
        }
        // Work that arrives before the answer to the subscription cannot be hashed.
        if let Some(extranonce) = self.extranonce.clone() {
            self.begin(Arc::new(job), extranonce, self.difficulty_next);
        }
    }

    /// BIP 310: applies at once, to the current job too.
    fn on_version_mask(&mut self, mask: u32) {
        let rolling = self.version_mask.is_some();
        if rolling && self.version_mask != Some(mask) {
            self.version_mask = Some(mask);
            if let Some(work) = self.work.take() {
                let HashWork { job, extranonce, difficulty, .. } = &*work;
                self.begin(Arc::clone(job), extranonce.clone(), *difficulty);
            }
        }
    }

    fn begin(&mut self, job: Arc<StratumJob>, extranonce: Extranonce, difficulty: f64) {
        self.serial += 1;
        let work = HashWork::new(self.serial, job, extranonce, self.version_mask, difficulty);
        self.work = Some(Arc::new(work));
    }
}

impl WireError {
    fn kind(&self) -> String {
        format!("{} {}", self.code, self.text)
    }

    /// Code 21 is also used for a wrong ntime.
    fn is_stale(&self) -> bool {
        self.code == 21 && !self.text.starts_with("time-")
    }
}

/// What miners assume until the server says otherwise.
const DIFFICULTY_UNTOLD: f64 = 1.0;

#[cfg(test)]
#[path = "sv1_tests.rs"]
mod tests;
