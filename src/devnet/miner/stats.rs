//! What a miner has seen.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Counts since the start of a miner. `submitted` = accepted + rejected + late + unanswered, except
/// for shares that wait for their answer (or, if stale, for the clean job that explains it).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MinerStats {
    pub(crate) connected: bool,
    pub submitted: u64,
    pub accepted: u64,
    /// Σ difficulty of the accepted shares.
    pub(crate) accepted_difficulty: f64,
    /// Without the late ones.
    pub rejected: u64,
    /// Counts by code and text, like `23 high-hash`. At most `REJECT_KINDS_MAX` of them.
    pub rejects: BTreeMap<String, u64>,
    /// Stale, but nobody is to blame. A share is late if all of this holds:
    /// - the server refused it with code 21 and a text that does not begin with `time-`;
    /// - it was sent before the miner had read, from the same connection, a job with `clean_jobs`
    ///   and another prevhash than the share's;
    /// - such a job was read afterwards, at most `LATE_WAIT` after the rejection.
    ///
    /// Any other rejection is in `rejected`.
    pub late: u64,
    /// Solved, but not sent: a clean job had arrived in the meantime, or the connection was gone.
    pub(crate) discarded: u64,
    /// Sent on a connection that ended before the answer.
    pub(crate) unanswered: u64,
    /// Connections that ended other than by `stop`.
    pub disconnects: u64,
    pub connect_failures: u64,
    pub jobs: u64,
    pub clean_jobs: u64,
    /// The difficulty that the server set last; 0 before it has.
    pub difficulty: f64,
    pub(crate) hashes: u64,
    /// Shares sent whose hash met the nbits of their job.
    pub blocks_hint: u64,
    /// Total time between sending shares and their answers.
    pub(crate) latency_sum: Duration,
    pub(crate) latency_max: Duration,
}

impl MinerStats {
    pub(crate) fn latency_mean(&self) -> Duration {
        let answered = self.accepted + self.rejected + self.late;
        let answered = u32::try_from(answered).unwrap_or(u32::MAX);
        self.latency_sum.checked_div(answered).unwrap_or_default()
    }

    /// Sums up several miners.
    pub fn add(&mut self, other: &Self) {
        self.connected |= other.connected;
        self.submitted += other.submitted;
        self.accepted += other.accepted;
        self.accepted_difficulty += other.accepted_difficulty;
        self.rejected += other.rejected;
        for (kind, count) in &other.rejects {
            self.add_reject_kind(kind, *count);
        }
        self.late += other.late;
        self.discarded += other.discarded;
        self.unanswered += other.unanswered;
        self.disconnects += other.disconnects;
        self.connect_failures += other.connect_failures;
        self.jobs += other.jobs;
        self.clean_jobs += other.clean_jobs;
        self.difficulty = self.difficulty.max(other.difficulty);
        self.hashes += other.hashes;
        self.blocks_hint += other.blocks_hint;
        self.latency_sum += other.latency_sum;
        self.latency_max = self.latency_max.max(other.latency_max);
    }

    pub(super) fn add_rejected(&mut self, kind: &str) {
        self.rejected += 1;
        self.add_reject_kind(kind, 1);
    }

    pub(super) fn add_latency(&mut self, latency: Duration) {
        self.latency_sum += latency;
        self.latency_max = self.latency_max.max(latency);
    }

    fn add_reject_kind(&mut self, kind: &str, count: u64) {
        let known = self.rejects.contains_key(kind) || self.rejects.len() < REJECT_KINDS_MAX;
        let kind = if known { kind } else { "other" };
        *self.rejects.entry(kind.to_owned()).or_default() += count;
    }
}

impl fmt::Display for MinerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted, {} rejected", self.accepted, self.rejected)?;
        for (at, (kind, count)) in self.rejects.iter().enumerate() {
            write!(f, "{}{count} x {kind}", if at == 0 { " (" } else { ", " })?;
        }
        f.write_str(if self.rejects.is_empty() { "" } else { ")" })?;
        write!(f, ", {} late, {} at block strength", self.late, self.blocks_hint)?;
        write!(f, ", {} jobs ({} clean)", self.jobs, self.clean_jobs)?;
        write!(f, ", difficulty {}", self.difficulty)?;
        let (mean, max) = (self.latency_mean(), self.latency_max);
        write!(f, ", answers in {mean:.1?} (at most {max:.1?})")?;
        write!(f, ", {} disconnects", self.disconnects)
    }
}

/// Servers have about a dozen; more would mean that the server makes them up.
pub(in crate::devnet) const REJECT_KINDS_MAX: usize = 32;
