//! The table at the end.

use std::{collections::BTreeMap, fmt, time::Duration};

use clap::ValueEnum as _;

use super::{LoadArgs, Speaks, churn::Churn, tips::TipTimes};

/// Everything that was measured.
#[derive(Debug, Default)]
pub(super) struct Report {
    speaks: Speaks,
    miners: usize,
    channels_per_connection: usize,
    in_flight: usize,
    /// Instead of everything below.
    pub(super) churn: Option<Churn>,
    /// Sorted.
    pub(super) arrivals: Vec<Duration>,
    pub(super) arrival_cpu: Option<Duration>,
    pub(super) connected: usize,
    pub(super) disconnects: u64,
    pub(super) connect_failures: u64,
    pub(super) rss_idle: Option<u64>,
    pub(super) rss_busy: Option<u64>,
    /// These three over the same stretch of time, after a warm-up.
    pub(super) submit_time: Duration,
    pub(super) submit_answered: u64,
    pub(super) submit_cpu: Option<Duration>,
    /// These three over everything.
    pub(super) submitted: u64,
    pub(super) accepted: u64,
    pub(super) rejects: BTreeMap<String, u64>,
    pub(super) tips: Vec<TipTimes>,
    /// While all of the tips were made.
    pub(super) tips_cpu: Option<Duration>,
}

impl Report {
    pub(super) fn new(args: &LoadArgs) -> Self {
        Self {
            speaks: args.protocol,
            miners: args.miners as usize,
            channels_per_connection: args.channels_per_connection as usize,
            in_flight: args.in_flight,
            ..Self::default()
        }
    }

    /// True if every miner got work, on every tip, and no share was rejected.
    pub(super) fn is_clean(&self) -> bool {
        if let Some(churn) = &self.churn {
            return churn.is_clean();
        }
        let missed = |tip: &TipTimes| tip.without_clean + tip.without_full > 0;
        self.arrivals.len() >= self.miners
            && self.rejects.is_empty()
            && !self.tips.iter().any(missed)
    }

    fn without_work_after(&self, time: Duration) -> usize {
        self.miners - self.arrivals.partition_point(|arrival| *arrival <= time).min(self.miners)
    }

    fn arrival_rows(&self, table: &mut Table) {
        table.spread("connect to first work", &self.arrivals);
        for seconds in [2, 30] {
            let without = self.without_work_after(Duration::from_secs(seconds));
            table.row(&format!("miners without work after {seconds} s"), without);
        }
        if let Some(cpu) = self.arrival_cpu.filter(|_| !self.arrivals.is_empty()) {
            let each = cpu.as_secs_f64() * 1e6 / self.arrivals.len() as f64;
            table.row("server CPU per arrival", format!("{each:.0} µs"));
        }
        table.row("failed connection attempts", self.connect_failures);
        table.row("disconnects", self.disconnects);
        table.row("connected at the end", self.connected);
    }

    fn submit_rows(&self, table: &mut Table) {
        if self.in_flight == 0 {
            return;
        }
        let answered = self.submit_answered as f64;
        let seconds = self.submit_time.as_secs_f64().max(1e-9);
        table.row("submits answered per second", format!("{:.0}", answered / seconds));
        if let Some(cpu) = self.submit_cpu {
            let each = cpu.as_secs_f64() * 1e6 / answered.max(1.0);
            table.row("server CPU per submit", format!("{each:.2} µs"));
            let share = 100.0 * cpu.as_secs_f64() / seconds;
            table.row("server CPU while submitting", format!("{share:.0} % of a core"));
        }
        table.row("submitted", self.submitted);
        table.row("accepted", self.accepted);
        table.row("rejected", self.rejects.values().sum::<u64>());
        for (kind, count) in &self.rejects {
            table.row(&format!("rejected: {kind}"), count);
        }
    }

    fn memory_rows(&self, table: &mut Table) {
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
        if let (Some(idle), Some(busy)) = (self.rss_idle, self.rss_busy) {
            table.row("server memory before", mebibytes(idle));
            table.row("server memory with all miners", mebibytes(busy));
            let each = busy.saturating_sub(idle) as f64 / 1024.0 / self.miners.max(1) as f64;
            table.row("server memory per miner", format!("{each:.2} KiB"));
        }
    }

    fn tip_rows(&self, table: &mut Table) {
        if self.tips.is_empty() {
            return;
        }
        table.row("tips", self.tips.len());
        let column = |of: fn(&TipTimes) -> Option<Duration>| {
            let mut times: Vec<_> = self.tips.iter().filter_map(of).collect();
            times.sort_unstable();
            times
        };
        let sum = |of: fn(&TipTimes) -> usize| self.tips.iter().map(of).sum::<usize>();
        table.spread("tip command → first clean work", &column(|tip| Some(tip.first_clean)));
        table.spread("tip command → last clean work", &column(|tip| Some(tip.last_clean)));
        table.spread("tip command → last full work", &column(|tip| tip.last_full));
        let after = |tip: &TipTimes| Some(tip.last_clean - tip.first_clean);
        table.spread("first → last clean work", &column(after));
        let after = |tip: &TipTimes| Some(tip.last_full?.saturating_sub(tip.first_clean));
        table.spread("first clean → last full work", &column(after));
        if let Some(cpu) = self.tips_cpu {
            let miners = (self.tips.len() * self.connected).max(1);
            let each = cpu.as_secs_f64() * 1e6 / miners as f64;
            table.row("server CPU per tip and miner, all work", format!("{each:.1} µs"));
        }
        table.row("missing clean work", sum(|tip| tip.without_clean));
        table.row("missing full work", sum(|tip| tip.without_full));
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::default();
        let Self { speaks, miners, channels_per_connection: each, in_flight, .. } = self;
        let protocol = speaks.to_possible_value();
        let protocol = protocol.as_ref().map_or("", |value| value.get_name());
        write!(f, "| {protocol}: {miners} miners")?;
        if *each > 1 {
            write!(f, ", {each} to a connection")?;
        }
        if let Some(churn) = &self.churn {
            churn.rows(&mut table);
            f.write_str(", logging in without pause")?;
        } else {
            self.arrival_rows(&mut table);
            self.submit_rows(&mut table);
            self.memory_rows(&mut table);
            self.tip_rows(&mut table);
            write!(f, ", {in_flight} in flight")?;
        }
        f.write_str(" | |\n|---|---|")?;
        table.0.iter().try_for_each(|(what, value)| write!(f, "\n| {what} | {value} |"))
    }
}

#[derive(Default)]
pub(super) struct Table(Vec<(String, String)>);

impl Table {
    pub(super) fn row(&mut self, what: &str, value: impl fmt::Display) {
        self.0.push((what.to_owned(), value.to_string()));
    }

    /// `times` are sorted.
    pub(super) fn spread(&mut self, what: &str, times: &[Duration]) {
        let Some(max) = times.last() else { return self.row(what, "never") };
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        let what = format!("{what}: p50 / p99 / max");
        self.row(&what, format!("{} / {} / {}", ms(p50), ms(p99), ms(*max)));
    }
}

/// The smallest of the sorted `times` that `percent` of them do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn miners_that_get_work_late_or_never_are_counted() {
        let arrivals = [1, 2, 5].map(Duration::from_secs).to_vec();
        let report = Report { miners: 5, arrivals, ..Report::default() };
        assert_eq!(report.without_work_after(Duration::from_secs(2)), 3);
        assert_eq!(report.without_work_after(Duration::from_secs(30)), 2);
        assert!(!report.is_clean());
    }
}
