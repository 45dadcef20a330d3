//! A miner's Stratum V2 session: messages and solved shares in, frames and work out. No encryption,
//! socket or clock here.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    devnet::{
        miner::{
            MinerOptions, MinerProtocol, MinerStats,
            in_flight::{ANSWER_TIMEOUT, InFlight},
            scan::{Found, HashWork},
        },
        sv2_client::{Begin, Event, Kind, Setup, Sv2Client, Sv2ClientClose, Wanted},
    },
    sv2::codec::{ServerMessage, SubmitSharesError, SubmitSharesSuccess, codes, setup_flags},
    work::{Difficulty, Target},
};

/// A miner's side of Stratum V2.
pub(in crate::devnet::miner) struct Sv2MinerSession {
    client: Sv2Client,
    opened: Instant,
    mining: Mining,
}

/// What comes of the work on its one channel.
struct Mining {
    work: Option<Arc<HashWork>>,
    serial: u64,
    /// The first serial since the last `SetNewPrevHash`: older shares must not be sent.
    clean_serial: u64,
    /// Serials of work and the ids of their jobs, the oldest first.
    jobs: VecDeque<(u64, u32)>,
    sequence_number: u32,
    in_flight: InFlight,
}

impl Sv2MinerSession {
    /// Opens the session. Serials begin after `serial`, so that no two connections of a miner share
    /// one.
    pub(in crate::devnet::miner) fn open(
        options: &MinerOptions,
        serial: u64,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Self {
        let kind = kind_of(options);
        let mut flags = 0;
        if kind == (Kind::Standard { group_jobs: false }) {
            flags |= setup_flags::REQUIRES_STANDARD_JOBS;
        }
        if kind == Kind::Extended && options.version_rolling {
            flags |= setup_flags::REQUIRES_VERSION_ROLLING;
        }
        let (host, port) = options.connect.rsplit_once(':').unwrap_or((&options.connect, ""));
        let (vendor, firmware) =
            options.user_agent.split_once('/').unwrap_or((&options.user_agent, ""));
        let port = port.parse().unwrap_or(0);
        let setup = Setup { host, port, vendor, hardware: "processor", firmware, flags };
        let difficulty = options.suggest_difficulty.and_then(Difficulty::new);
        #[expect(clippy::cast_possible_truncation, reason = "a rough figure is enough")]
        let wanted = Wanted {
            kind,
            users: vec![options.username.clone()],
            hashrate: options.hashrate_max.unwrap_or(HASHRATE) as f32,
            max_target: difficulty.map_or(Target::MAX, Target::from_difficulty),
            extranonce_size_least: EXTRANONCE_SIZE_LEAST,
            rolls_versions: options.version_rolling,
            hashes: true,
        };
        let mining = Mining {
            work: None,
            serial,
            clean_serial: serial + 1,
            jobs: VecDeque::new(),
            sequence_number: 0,
            in_flight: InFlight::default(),
        };
        Self { client: Sv2Client::open(&setup, wanted, out), opened: now, mining }
    }

    pub(super) fn serial(&self) -> u64 {
        self.mining.serial
    }

    pub(super) fn work(&self) -> Option<&Arc<HashWork>> {
        self.mining.work.as_ref()
    }

    pub(super) fn has_room(&self) -> bool {
        self.mining.in_flight.has_room()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.mining.in_flight.is_settled()
    }

    /// Handles a message from the server. Check `work` afterwards.
    pub(super) fn on_message(
        &mut self,
        message: &ServerMessage<'_>,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) -> Result<(), Sv2ClientClose> {
        use ServerMessage as M;
        match message {
            M::NewMiningJob(_) | M::NewExtendedMiningJob(_) => stats.jobs += 1,
            M::SetNewPrevHash(_) => stats.clean_jobs += 1,
            _ => {}
        }
        let mining = &mut self.mining;
        self.client.on_message(message, out, |event| match event {
            Event::Opened { target } | Event::Target { target } => {
                stats.difficulty = target.difficulty();
                Ok(())
            }
            Event::Begin { begin, .. } => {
                mining.begin(begin, stats);
                Ok(())
            }
            Event::Accepted { success, .. } => mining.on_accepted(success, now, stats),
            Event::Refused { error, .. } => mining.on_refused(error, now, stats),
        })
    }

    /// Submits a solved share, unless a `SetNewPrevHash` has made it void.
    pub(super) fn on_found(
        &mut self,
        found: &Found,
        now: Instant,
        stats: &mut MinerStats,
        out: &mut Vec<u8>,
    ) {
        let (serial, mining) = (found.work.serial, &mut self.mining);
        let job = mining.jobs.iter().find(|(of, _)| *of == serial).map(|(_, id)| *id);
        let Some(job_id) = job.filter(|_| serial >= mining.clean_serial) else {
            stats.discarded += 1;
            return;
        };
        self.client.submit(CHANNEL, (mining.sequence_number, job_id), found, out);
        mining.in_flight.on_sent(mining.sequence_number.into(), found, now, stats);
        mining.sequence_number = mining.sequence_number.wrapping_add(1);
    }

    /// When `on_deadline` wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let opening = (!self.client.has_channel()).then(|| self.opened + OPEN_TIMEOUT);
        [opening, self.mining.in_flight.deadline()].into_iter().flatten().min()
    }

    pub(super) fn on_deadline(
        &mut self,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2ClientClose> {
        if !self.client.has_channel() && now >= self.opened + OPEN_TIMEOUT {
            return Err(Sv2ClientClose::Silent(OPEN_TIMEOUT));
        }
        let answers = self.mining.in_flight.on_deadline(now, stats);
        if answers { Ok(()) } else { Err(Sv2ClientClose::Silent(ANSWER_TIMEOUT)) }
    }

    /// Accounts for what is still open when the connection ends.
    pub(super) fn on_end(&mut self, stats: &mut MinerStats) {
        self.mining.in_flight.on_end(stats);
    }
}

impl Mining {
    fn begin(&mut self, begin: Begin, stats: &mut MinerStats) {
        if begin.job.clean {
            self.clean_serial = self.serial + 1;
            self.in_flight.on_clean(&begin.job.prevhash, stats);
        }
        self.serial += 1;
        if self.jobs.len() == JOBS_MAX {
            self.jobs.pop_front();
        }
        self.jobs.push_back((self.serial, begin.job_id));
        self.work = Some(begin.work(self.serial));
    }

    fn on_accepted(
        &mut self,
        success: &SubmitSharesSuccess,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2ClientClose> {
        let last = success.last_sequence_number.into();
        let count = self.in_flight.on_accepted_up_to(last, now, stats);
        if count != u64::from(success.new_submits_accepted_count) {
            return violation(format!(
                "it accepted {} shares up to number {last}, of which {count} were in flight",
                success.new_submits_accepted_count
            ));
        }
        Ok(())
    }

    fn on_refused(
        &mut self,
        error: &SubmitSharesError<'_>,
        now: Instant,
        stats: &mut MinerStats,
    ) -> Result<(), Sv2ClientClose> {
        let (number, kind) = (error.sequence_number.into(), error.error_code.to_string());
        let stale = error.error_code == codes::STALE_SHARE;
        if !self.in_flight.on_refused(number, kind, stale, now, stats) {
            return violation(format!("it rejected share {number}, which was not in flight"));
        }
        Ok(())
    }
}

fn kind_of(options: &MinerOptions) -> Kind {
    match options.protocol {
        MinerProtocol::Sv2Extended => Kind::Extended,
        // Stratum V1 has another session type.
        MinerProtocol::Sv2Standard | MinerProtocol::Sv1 => {
            Kind::Standard { group_jobs: options.group_jobs }
        }
    }
}

fn violation(what: String) -> Result<(), Sv2ClientClose> {
    Err(Sv2ClientClose::Violation(what))
}

/// The only one.
const CHANNEL: usize = 0;
/// The least that we need to roll: as many coinbases as there are nonces.
const EXTRANONCE_SIZE_LEAST: u16 = 4;
/// Hashes per second if no limit is set: about what a core can do.
const HASHRATE: f64 = 5e6;
/// Jobs since the last `SetNewPrevHash` whose shares may still come out of the hasher.
const JOBS_MAX: usize = 16;
/// From our key to an open channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
