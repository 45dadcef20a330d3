//! The line a minute that says how things are.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::info;

use super::systemd;
use crate::{
    datum,
    work::{Counters, CountersView, Door, Work},
};

/// What the line a minute is made of.
pub(super) struct Reporter {
    pub(super) counters: Arc<Counters>,
    pub(super) work: watch::Receiver<Option<Arc<Work>>>,
    pub(super) pool: watch::Receiver<Option<datum::Pool>>,
}

/// One line a minute: what an operator looks for first.
pub(super) async fn report(reporter: Reporter) {
    let mut minute = tokio::time::interval(REPORT_EACH);
    minute.tick().await;
    let mut before = reporter.counters.view();
    loop {
        minute.tick().await;
        let view = reporter.counters.view();
        systemd::status(&reporter.line(&before, &view));
        before = view;
    }
}

impl Reporter {
    /// Logs the minute between two views, and returns it in short.
    fn line(&self, before: &CountersView, view: &CountersView) -> String {
        let difficulty = view.accepted_difficulty - before.accepted_difficulty;
        let hashrate = Hashrate(difficulty * HASHES_PER_DIFFICULTY / REPORT_EACH.as_secs_f64());
        let accepted = view.accepted - before.accepted;
        let rejected = view.rejected_total() - before.rejected_total();
        let work = self.work.borrow().clone();
        let job = work.as_ref().map(|work| Arc::clone(work.latest()));
        let height = job.as_ref().map_or(0, |job| job.template.height);
        let mode = mode(work.as_deref());
        let pool = self.pool.borrow().as_ref().map_or_else(|| "none".into(), pool_summary);
        info!(
            miners = view.connections,
            %hashrate,
            accepted,
            rejected,
            blocks = view.blocks,
            dropped = view.relay_dropped,
            height,
            transactions = job.as_ref().map_or(0, |job| job.template.transactions.len()),
            mode,
            %pool,
            "the last minute"
        );
        format!(
            "{mode} at height {height}, {} miners, {hashrate}; in the last minute {accepted} \
             accepted, {rejected} rejected; pool: {pool}",
            view.connections
        )
    }
}

/// State and shares of the pool, in a word or two.
fn pool_summary(pool: &datum::Pool) -> String {
    let stats = pool.stats.view();
    let round_trip = stats.pools.iter().map(|(_, tally)| tally.round_trip).max();
    format!(
        "{:?}, {} ms, {} accepted, {} rejected, {} held, {} lost",
        *pool.health.borrow(),
        round_trip.unwrap_or_default().as_millis(),
        stats.accepted,
        stats.rejected_total(),
        stats.held,
        stats.lost_total()
    )
}

fn mode(work: Option<&Work>) -> &'static str {
    match work {
        Some(Work { door: Door::Closed(_), .. }) | None => "waiting",
        Some(work) if work.latest().payout.pooled.is_some() => "pooled",
        Some(_) => "solo",
    }
}

/// Hashes a second, with the unit that miners are sold by.
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

const REPORT_EACH: Duration = Duration::from_secs(60);
const HASHES_PER_DIFFICULTY: f64 = 4_294_967_296.0;
