//! The status line that is logged each minute.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};
use tracing::info;

use super::systemd;
use crate::{
    books::{Counters, CountersView, Roster},
    datum::{self, PoolState},
    template::NodeStatus,
    work::{Admission, HASHES_PER_DIFFICULTY, Reject, Work},
};

/// What the line is made from.
pub(super) struct Reporter {
    pub(super) counters: Arc<Counters>,
    pub(super) roster: Arc<Roster>,
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    pub(super) nodes: watch::Receiver<Vec<NodeStatus>>,
    pub(super) pool: watch::Receiver<Option<datum::Pool>>,
}

/// Logs one line a minute: what an operator looks for first.
pub(super) async fn report(reporter: Reporter) {
    let mut minute = interval(REPORT_EACH);
    // A machine that slept reports one minute, not hundreds.
    minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
    minute.tick().await;
    let mut before = Sums::of(&reporter);
    loop {
        minute.tick().await;
        let now = Sums::of(&reporter);
        let line = reporter.line(&before, &now);
        line.log();
        systemd::status(&line.to_string());
        before = now;
    }
}

/// Totals at some moment.
struct Sums {
    at: Instant,
    counters: CountersView,
    pool_rejected: u64,
    unanswered: u64,
    lost: u64,
}

impl Sums {
    fn of(reporter: &Reporter) -> Self {
        let stats = reporter.pool.borrow().as_ref().map(|pool| pool.stats.view());
        let stats = stats.unwrap_or_default();
        let counters = reporter.counters.view();
        Self {
            at: Instant::now(),
            pool_rejected: stats.rejected_total(),
            unanswered: stats.unanswered,
            lost: stats.lost_total() + counters.relay_dropped,
            counters,
        }
    }
}

/// The line. Whatever is None is left out.
struct Line {
    hashrate: Hashrate,
    miners: usize,
    accepted: u64,
    rejected: u64,
    /// The most frequent reason for rejections.
    mostly: Option<&'static str>,
    mode: &'static str,
    /// Why miners are not admitted.
    why: Option<Arc<str>>,
    height: Option<u32>,
    tip_age: Option<Age>,
    pool: Option<&'static str>,
    /// Of the last share.
    round_trip: Option<Age>,
    pool_rejected: Option<u64>,
    unanswered: Option<u64>,
    held: Option<u64>,
    lost: Option<u64>,
    /// Since the start.
    blocks: Option<u64>,
}

impl Reporter {
    fn line(&self, before: &Sums, now: &Sums) -> Line {
        let took_s = now.at.saturating_duration_since(before.at).as_secs_f64().max(1.0);
        let (was, is) = (&before.counters, &now.counters);
        let difficulty = is.accepted_difficulty - was.accepted_difficulty;
        let rejects = Reject::ALL.into_iter().zip(is.rejected.iter().zip(was.rejected));
        let rejects = rejects.map(|(reject, (is, was))| (is - was, reject.name()));
        let mostly = rejects.max_by_key(|(count, _)| *count).filter(|(count, _)| *count > 0);
        let work = self.work.borrow().clone();
        let template = work.as_ref().map(|work| Arc::clone(&work.latest().template));
        let nodes = self.nodes.borrow();
        let tip = nodes.iter().find(|node| node.is_active).and_then(|node| node.tip);
        let pool = self.pool.borrow();
        let stats = pool.as_ref().map(|pool| pool.stats.view()).unwrap_or_default();
        let status = pool.as_ref().map(|pool| pool.status.borrow().clone());
        let name = status.as_ref().map(|status| Arc::clone(&status.pool)).unwrap_or_default();
        let tally = stats.pools.iter().find(|(pool, _)| *pool == name);
        let some = |count: u64| Some(count).filter(|count| *count > 0);
        Line {
            hashrate: Hashrate(difficulty * HASHES_PER_DIFFICULTY / took_s),
            miners: self.roster.len(),
            accepted: is.accepted - was.accepted,
            rejected: is.rejected_total() - was.rejected_total(),
            mostly: mostly.map(|(_, name)| name),
            mode: mode(work.as_deref()),
            why: work.and_then(|work| match &work.admission {
                Admission::Closed(why) => Some(Arc::clone(why)),
                Admission::Open => None,
            }),
            height: template.map(|template| template.height),
            tip_age: tip.map(|(_, at)| Age(now.at.into_std().saturating_duration_since(at))),
            pool: status.map(|status| match status.state {
                PoolState::Connecting => "connecting",
                PoolState::Up => "up",
                PoolState::Down { .. } => "down",
            }),
            round_trip: tally.map(|(_, tally)| Age(tally.round_trip)),
            pool_rejected: some(now.pool_rejected.saturating_sub(before.pool_rejected)),
            unanswered: some(now.unanswered.saturating_sub(before.unanswered)),
            held: some(stats.held),
            lost: some(now.lost.saturating_sub(before.lost)),
            blocks: some(is.blocks),
        }
    }
}

impl Line {
    fn log(&self) {
        info!(
            hashrate = %self.hashrate,
            miners = self.miners,
            accepted = self.accepted,
            rejected = self.rejected,
            mostly = self.mostly.map(display),
            mode = %self.mode,
            why = self.why.as_deref(),
            height = self.height,
            tip_age = self.tip_age.map(display),
            pool = self.pool.map(display),
            round_trip = self.round_trip.map(display),
            pool_rejected = self.pool_rejected,
            unanswered = self.unanswered,
            held = self.held,
            lost = self.lost,
            blocks = self.blocks,
            "the last minute"
        );
    }
}

/// The short form, for `systemctl status`.
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hashrate, miners, accepted, rejected, mode, .. } = self;
        write!(f, "{mode}")?;
        if let Some(height) = self.height {
            write!(f, " at height {height}")?;
        }
        write!(f, ", {miners} miners, {hashrate}; in the last minute {accepted} accepted, ")?;
        write!(f, "{rejected} rejected")?;
        if let Some(pool) = self.pool {
            write!(f, "; pool {pool}")?;
        }
        if let Some(round_trip) = self.round_trip {
            write!(f, ", {round_trip}")?;
        }
        Ok(())
    }
}

fn mode(work: Option<&Work>) -> &'static str {
    match work {
        Some(Work { admission: Admission::Closed(_), .. }) | None => "waiting",
        Some(work) if work.latest().payout.pooled.is_some() => "pooled",
        Some(_) => "solo",
    }
}

/// Hashes per second, with the unit that miners are sold by.
struct Hashrate(f64);

impl fmt::Display for Hashrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 7] = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"];
        let mut value = self.0;
        let mut unit = 0;
        while value >= 1000.0 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        write!(f, "{value:.2} {}", UNITS[unit])
    }
}

/// A duration, as precisely as anybody needs it.
#[derive(Clone, Copy)]
struct Age(Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0.as_secs();
        match s {
            0 => write!(f, "{:.1}ms", self.0.as_secs_f64() * 1000.0),
            1..60 => write!(f, "{s}s"),
            60..3600 => write!(f, "{}m{:02}s", s / 60, s % 60),
            _ => write!(f, "{}h{:02}m", s / 3600, s / 60 % 60),
        }
    }
}

const REPORT_EACH: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
