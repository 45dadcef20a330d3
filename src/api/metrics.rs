//! The same figures for Prometheus. They are read from their owners at each scrape, so nothing
//! outdated stays, and none of them is about a single miner.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
        MetricEncoder, NoLabelSet, text,
    },
    metrics::{MetricType, counter::ConstCounter, exemplar::Exemplar, gauge::ConstGauge},
    registry::Registry,
};

use super::{
    clock::moment,
    handles::Moment,
    shapes::{Coinbase, Node, NodeState, OutputKind, Pool, PoolState, Pools, Status},
    state::State,
    view,
};
use crate::{
    books::{CountersView, Histogram, HistogramView, MinerProtocol, TipClock},
    logging::Sink,
    work::{
        Refused, Reject,
        limits::{Limit, LimitsView},
    },
};

pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn render(state: &State) -> String {
    let mut registry = Registry::with_prefix("gatewayd");
    registry.register_collector(Box::new(Figures::of(state)));
    let mut page = String::with_capacity(16 * 1024);
    // Writing to a String never fails.
    let _ = text::encode(&mut page, &registry);
    page
}

/// A snapshot of everything that is shown.
#[derive(Debug)]
struct Figures {
    status: Status,
    ready: bool,
    counters: CountersView,
    submits: HistogramView,
    /// The time from first hearing of each tip until the first and the last miner got it.
    notify: [(&'static str, HistogramView); 2],
    nodes: Vec<Node>,
    pools: Pools,
    coinbases: Vec<Coinbase>,
    /// Node, result, count.
    submissions: Vec<(String, &'static str, u64)>,
    blocks_found: u64,
    events_dropped: u64,
    limits: LimitsView,
    log_lines_dropped: [(&'static str, u64); Sink::ALL.len()],
}

impl Figures {
    fn of(state: &State) -> Self {
        let (handles, moment) = (&state.handles, moment());
        let work = view::work(handles, &moment);
        let submissions = handles.blocks.answers().into_iter();
        Self {
            status: state.status(),
            ready: view::readiness(handles, &moment).ready,
            counters: handles.counters.view(),
            submits: handles.counters.submits.view(),
            notify: notify(&handles.counters.tip, &moment),
            nodes: view::nodes(handles, &moment).nodes,
            pools: view::pools(handles, &moment),
            coinbases: work.job.map(|job| job.coinbases).unwrap_or_default(),
            submissions: submissions.map(|((node, it), n)| (node.to_string(), it, n)).collect(),
            blocks_found: handles.blocks.found(),
            events_dropped: state.hub.dropped(),
            limits: handles.roster.limiter().view(moment.now),
            log_lines_dropped: Sink::ALL.map(|sink| (sink.name(), sink.dropped())),
        }
    }
}

fn notify(clock: &TipClock, moment: &Moment) -> [(&'static str, HistogramView); 2] {
    clock.settle(moment.now);
    [("first", clock.first.view()), ("last", clock.last.view())]
}

impl Collector for Figures {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.process(&mut page)?;
        self.shares(&mut page)?;
        self.miners(&mut page)?;
        self.nodes(&mut page)?;
        self.pools(&mut page)?;
        self.blocks(&mut page)
    }
}

impl Figures {
    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let labels = [("version", self.status.version)];
        page.0
            .encode_descriptor("build", "The version that is running", None, MetricType::Info)?
            .encode_info(&labels)?;
        let started = self.status.started_at_unix_s as f64;
        page.gauge("start_time_seconds", "When gatewayd started, unix time", started)?;
        let ready = f64::from(u8::from(self.ready));
        page.gauge("ready", "1 while miners get work that pays", ready)?;
        let mut events =
            page.counters("events_dropped", "Events dropped because a reader was too slow")?;
        events.counter(&[("sink", "sse")], self.events_dropped)?;
        let help = "Log lines dropped because nobody read them or the disk was too slow";
        let mut lines = page.counters("log_lines_dropped", help)?;
        for (sink, count) in self.log_lines_dropped {
            lines.counter(&[("sink", sink)], count)?;
        }
        Ok(())
    }

    fn shares(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut shares = page.counters("shares", "Miners' shares")?;
        for (protocol, counts) in MinerProtocol::ALL.into_iter().zip(&self.counters.by_protocol) {
            let protocol = ("protocol", protocol.name());
            let accepted = [("result", "accepted"), ("reason", ""), protocol];
            shares.counter(&accepted, counts.accepted)?;
            for (reject, count) in Reject::ALL.into_iter().zip(counts.rejected) {
                let labels = [("result", "rejected"), ("reason", reject.name()), protocol];
                shares.counter(&labels, count)?;
            }
        }
        let help = "Difficulty of shares: credited if accepted, required if rejected";
        let mut difficulty = page.counters("share_difficulty", help)?;
        difficulty.counter(&[("result", "accepted")], self.counters.accepted_difficulty)?;
        difficulty.counter(&[("result", "rejected")], self.counters.rejected_difficulty)?;
        let help = "Hashrate of all miners, averaged over five minutes";
        page.gauge("hashrate_hashes_per_second", help, self.status.hashrate_5m_h_per_s)?;
        let help = "Shares with an unreadable worker name, counted for the name of their channel";
        page.counter("shares_unnamed", help, self.counters.nameless)?;
        page.histogram(
            "submit_seconds",
            "From reading submissions to answering them",
            &self.submits,
        )
    }

    fn miners(&self, page: &mut Page<'_>) -> fmt::Result {
        let help = "Current SV1 connections and SV2 channels";
        let mut connections = page.gauges("connections", help)?;
        for (protocol, count) in MinerProtocol::ALL.into_iter().zip(&self.status.miners_by_protocol)
        {
            connections.gauge(&[("protocol", protocol.name())], count.miners as f64)?;
        }
        let mut refused =
            page.counters("connections_refused", "Refused connections and channels")?;
        for (reason, count) in Refused::ALL.into_iter().zip(self.counters.refused) {
            refused.counter(&[("reason", reason.name())], count)?;
        }
        let mut crossed = page.counters("limits_crossed", "How often a limit was exceeded")?;
        for (limit, count) in Limit::ALL.into_iter().zip(self.limits.crossed) {
            crossed.counter(&[("limit", limit.name())], count)?;
        }
        let banned = self.limits.banned as f64;
        page.gauge("banned", "Addresses and networks that are currently banned", banned)?;
        page.counter("bans", "Bans since the start", self.limits.bans)?;
        let help = "From hearing of a tip to the first and the last miner's work on it";
        let mut notify = page.histograms("notify_seconds", help)?;
        for (kind, view) in &self.notify {
            notify.histogram(&[("kind", *kind)], view)?;
        }
        Ok(())
    }

    fn nodes(&self, page: &mut Page<'_>) -> fmt::Result {
        let age_s = self.status.template_age_s;
        page.gauge("template_age_seconds", "Age of the last template", age_s)?;
        let help = "How long a node's last template took";
        let mut fetch = page.gauges("template_fetch_seconds", help)?;
        for node in &self.nodes {
            if let Some(took_ms) = node.template_fetch_ms {
                fetch.gauge(&[("source", &*node.name)], took_ms / 1000.0)?;
            }
        }
        let tip = self.status.tip_height.map(f64::from);
        page.gauge("tip_height", "Height of the tip being mined on", tip)?;
        let mut up = page.gauges(
            "node_up",
            "1 while a node gives templates, or answers if it only gets blocks",
        )?;
        for node in &self.nodes {
            let is_up = matches!(node.state, NodeState::Ready | NodeState::SubmitOnly);
            up.gauge(&[("source", &*node.name)], f64::from(u8::from(is_up)))?;
        }
        let mut active = page.gauges("node_active", "1 for the node whose templates are in use")?;
        for node in self.nodes.iter().filter(|node| node.state != NodeState::SubmitOnly) {
            active.gauge(&[("source", &*node.name)], f64::from(u8::from(node.is_active)))?;
        }
        let mut heights =
            page.gauges("node_height", "Height of the last block that a node knows")?;
        for node in &self.nodes {
            if let Some(height) = node.height {
                heights.gauge(&[("source", &*node.name)], f64::from(height))?;
            }
        }
        Ok(())
    }

    fn pools(&self, page: &mut Page<'_>) -> fmt::Result {
        let mut up = page.gauges("pool_up", "1 while a pool accepts shares")?;
        for pool in &self.pools.pools {
            let is_up = pool.state == PoolState::Up;
            up.gauge(&[("pool", &*pool.name)], f64::from(u8::from(is_up)))?;
        }
        let mut shares = page.counters("pool_shares", "Shares by a pool's answer")?;
        for pool in &self.pools.pools {
            pool_shares(&mut shares, pool)?;
        }
        let help = "From sending the last answered share to the pool's answer";
        let active = self.pools.pools.iter().find(|pool| pool.is_active);
        let took_ms = active.and_then(|pool| pool.round_trip_ms);
        page.gauge("pool_round_trip_seconds", help, took_ms.map(|ms| ms / 1000.0))?;
        let relay = &self.pools.relay;
        page.gauge("shares_held", "Shares waiting for a pool to come back", relay.held as f64)?;
        let mut lost = page.counters("shares_lost", "Accepted shares that reached no pool")?;
        for (reason, count) in &relay.lost_by_reason {
            lost.counter(&[("reason", *reason)], *count)?;
        }
        lost.counter(&[("reason", "queue-full")], relay.dropped)
    }

    fn blocks(&self, page: &mut Page<'_>) -> fmt::Result {
        page.counter("blocks_found", "Blocks found by our miners", self.blocks_found)?;
        let mut submissions =
            page.counters("block_submissions", "Nodes' answers to found blocks")?;
        for (node, result, count) in &self.submissions {
            submissions.counter(&[("node", &**node), ("result", result)], *count)?;
        }
        let help = "Paid outputs of the current coinbases";
        let mut outputs = page.gauges("coinbase_outputs", help)?;
        for coinbase in &self.coinbases {
            let paid = |kind| !matches!(kind, OutputKind::Commitment | OutputKind::Extranonce);
            let count = coinbase.outputs.iter().filter(|output| paid(output.kind)).count();
            outputs.gauge(&[("class", coinbase.class.name())], count as f64)?;
        }
        Ok(())
    }
}

fn pool_shares(shares: &mut Family<'_>, pool: &Pool) -> fmt::Result {
    let name = ("pool", &*pool.name);
    let (accepted, tentative) = (pool.shares.accepted, pool.shares.tentative);
    let plain = [name, ("result", "accepted"), ("reason", "")];
    shares.counter(&plain, accepted.saturating_sub(tentative))?;
    shares.counter(&[name, ("result", "tentative"), ("reason", "")], tentative)?;
    for (reason, count) in &pool.shares.rejected_by_reason {
        shares.counter(&[name, ("result", "rejected"), ("reason", reason)], *count)?;
    }
    shares.counter(&[name, ("result", "unanswered"), ("reason", "")], pool.shares.unanswered)
}

/// The page that metric families are written to, one after the other.
struct Page<'a>(DescriptorEncoder<'a>);

/// One metric family. It is listed even if it has no series.
struct Family<'a>(MetricEncoder<'a>);

impl Page<'_> {
    fn gauges(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        Ok(Family(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?))
    }

    fn counters(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        Ok(Family(self.0.encode_descriptor(name, help, None, MetricType::Counter)?))
    }

    /// A gauge without labels, if there is one.
    fn gauge(
        &mut self,
        name: &'static str,
        help: &str,
        value: impl Into<Option<f64>>,
    ) -> fmt::Result {
        let mut gauge = self.gauges(name, help)?;
        value.into().map_or(Ok(()), |value| gauge.0.encode_gauge(&value))
    }

    fn counter(&mut self, name: &'static str, help: &str, value: u64) -> fmt::Result {
        let exemplar = None::<&Exemplar<NoLabelSet, f64>>;
        self.counters(name, help)?.0.encode_counter(&value, exemplar)
    }

    fn histograms(&mut self, name: &'static str, help: &str) -> Result<Family<'_>, fmt::Error> {
        Ok(Family(self.0.encode_descriptor(name, help, None, MetricType::Histogram)?))
    }

    fn histogram(&mut self, name: &'static str, help: &str, view: &HistogramView) -> fmt::Result {
        encode_histogram(&mut self.histograms(name, help)?.0, view)
    }
}

fn encode_histogram(encoder: &mut MetricEncoder<'_>, view: &HistogramView) -> fmt::Result {
    let bounds = Histogram::BOUNDS.iter().map(std::time::Duration::as_secs_f64);
    // The encoder accumulates; its last bucket takes the rest.
    let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(view.buckets).collect();
    let count = view.buckets.iter().sum();
    encoder.encode_histogram::<NoLabelSet>(view.sum.as_secs_f64(), count, &buckets, None)
}

impl Family<'_> {
    fn histogram(&mut self, labels: &impl EncodeLabelSet, view: &HistogramView) -> fmt::Result {
        encode_histogram(&mut self.0.encode_family(labels)?, view)
    }

    fn gauge(
        &mut self,
        labels: &impl EncodeLabelSet,
        value: impl EncodeGaugeValue + fmt::Debug + Copy,
    ) -> fmt::Result {
        ConstGauge::new(value).encode(self.0.encode_family(labels)?)
    }

    fn counter(
        &mut self,
        labels: &impl EncodeLabelSet,
        value: impl EncodeCounterValue + fmt::Debug + Copy,
    ) -> fmt::Result {
        ConstCounter::new(value).encode(self.0.encode_family(labels)?)
    }
}
