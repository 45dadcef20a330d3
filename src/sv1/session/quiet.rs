//! A message for firmware that takes silence for a dead connection.

use std::time::{Duration, Instant};

use super::Sv1Session;
use crate::{
    sv1::notify::{self, NotifyVariant},
    work::Work,
};

impl Sv1Session {
    /// When the miner should be sent a job again, even without new work.
    pub(super) fn quiet_until(&self) -> Instant {
        self.heard_of_work + QUIET_MAX
    }

    /// Repeats the job that the miner has, with a later time: the same header again would be the
    /// same work again for firmware that restarts from the first extranonce2.
    pub(super) fn end_quiet(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) {
        // An eased difficulty has been waiting for a job.
        self.renew(work, now, out);
        if now < self.quiet_until() {
            return;
        }
        let latest = work.latest();
        let Some(last) = self.given.last().filter(|last| last.job == latest.id) else {
            return self.send_latest(work, now, out);
        };
        let later_s = now.saturating_duration_since(last.at).as_secs().min(LATER_MAX_S);
        let later_s = u32::try_from(later_s).unwrap_or(0);
        let terms = last.assignment.variant();
        let rendering = NotifyVariant {
            class: last.assignment.class,
            quickdiff: last.assignment.quickdiff,
            clean: false,
        };
        notify::write_later(latest, rendering, terms.target_byte, later_s, out);
        self.heard_of_work = now;
    }
}

/// cgminer expects a notify every minute and hangs up after 90 s without a byte (`stratum_rthread`
/// in cgminer.c); cpuminer waits for 120 s, ESP-Miner for 180.
const QUIET_MAX: Duration = Duration::from_secs(70);
/// A share's time may be two hours ahead of its template's; the miner may roll some more.
const LATER_MAX_S: u64 = 6000;
