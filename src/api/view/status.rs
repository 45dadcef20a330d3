//! Everything at a glance.

use std::sync::Arc;

use super::{finite, rejects};
use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{
            BestShare, Mode, ProtocolCount, Readiness, Shares, Status, StratumAccess, StratumPort,
            StratumTls, Warning,
        },
    },
    books::{CountersView, MinerProtocol},
    config::Config,
    ledger::Totals,
    template::{NodeState, NodeStatus},
    work::{Admission, Work},
};

pub(crate) fn mode(work: Option<&Work>) -> Mode {
    match work {
        Some(Work { admission: Admission::Closed(_), .. }) | None => Mode::Waiting,
        Some(work) if work.latest().payout.pooled.is_some() => Mode::Pooled,
        Some(_) => Mode::Solo,
    }
}

pub(crate) fn status(handles: &Handles, warnings: Vec<Warning>, moment: &Moment) -> Status {
    let work = handles.work.borrow().clone();
    let template = work.as_ref().map(|work| Arc::clone(&work.latest().template));
    let (counters, totals) = (handles.counters.view(), handles.ledger.totals());
    let hashrate = handles.ledger.hashrate();
    let config = handles.config();
    let began = handles.roster.began();
    let nodes = handles.templates.status.borrow().clone();
    let active = nodes.iter().find(|node| node.is_active);
    let tip = active.and_then(|node| node.tip);
    let miners = handles.roster.miners();
    let count = |protocol| miners.iter().filter(|miner| miner.protocol == protocol).count() as u64;
    Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at_unix_s: moment.unix_s_of(began),
        uptime_s: moment.now.saturating_duration_since(began).as_secs(),
        mode: mode(work.as_deref()),
        setup_needed: config.address.is_none() || handles.templates.wrong_network().is_some(),
        // These two are the caller's.
        setup_unfinished: false,
        network: handles.templates.network().map(|network| network.to_string()),
        tip_height: template.as_ref().map(|template| template.height.saturating_sub(1)),
        tip_hash: template.as_ref().map(|template| template.prevhash.to_string()),
        tip_age_s: tip.map(|(_, at)| moment.age_s(at)),
        template_age_s: active.and_then(|node| node.template_at).map(|at| moment.age_s(at)),
        network_difficulty: template.and_then(|it| finite(it.nbits.target().difficulty())),
        hashrate_1m_h_per_s: hashrate.m1,
        hashrate_5m_h_per_s: hashrate.m5,
        hashrate_1h_h_per_s: hashrate.h1,
        connections: counters.connections,
        miners: miners.len() as u64,
        miners_by_protocol: MinerProtocol::ALL
            .map(|it| ProtocolCount { protocol: super::protocol(it), miners: count(it) })
            .into(),
        shares: shares_of_session(&counters),
        shares_ever: shares_ever(&totals),
        ever_since_at_unix_s: (totals.since > 0).then_some(totals.since),
        best_share_session: best_of_session(handles),
        blocks_found: totals.blocks,
        blocks_found_session: handles.blocks.found(),
        blocks_accepted_session: handles.blocks.accepted(),
        best_share: totals.best.map(|best| BestShare {
            difficulty: best.difficulty,
            worker: best.worker,
            at_unix_s: (best.at > 0).then_some(best.at),
        }),
        stratum: StratumAccess {
            listen: handles.facts.stratum.iter().map(ToString::to_string).collect(),
            addresses: Vec::new(),
            ports: ports(handles, &config),
            sv2_authority_key: handles.facts.sv2_authority_key.clone(),
            tls: tls(handles),
        },
        warnings,
    }
}

fn tls(handles: &Handles) -> Option<StratumTls> {
    let tls = handles.tls.borrow();
    let (own_authority, names) = (tls.authority.is_some(), tls.names.to_vec());
    tls.is_on.then_some(StratumTls { own_authority, names })
}

/// With only what is set for each port: the rest is as for all.
fn ports(handles: &Handles, config: &Config) -> Vec<StratumPort> {
    let written = config.written.stratum.port.iter().zip(&config.stratum.ports);
    let ports = written.zip(&handles.facts.port_authority_keys);
    ports
        .map(|((written, port), key)| StratumPort {
            listen: port.listen.iter().map(ToString::to_string).collect(),
            difficulty_min: written.difficulty_min,
            difficulty_start: written.difficulty_start,
            difficulty_max: written.difficulty_max,
            max_coinbase_bytes: written.max_coinbase.map(|bytes| bytes as u64),
            sv2_authority_key: key.clone(),
        })
        .collect()
}

fn shares_of_session(counters: &CountersView) -> Shares {
    Shares {
        accepted: counters.accepted,
        accepted_difficulty: counters.accepted_difficulty,
        rejected: counters.rejected_total(),
        rejected_by_reason: rejects(counters.rejected),
    }
}

fn shares_ever(totals: &Totals) -> Shares {
    Shares {
        accepted: totals.accepted,
        accepted_difficulty: totals.difficulty,
        rejected: totals.rejected.iter().sum(),
        rejected_by_reason: rejects(totals.rejected),
    }
}

fn best_of_session(handles: &Handles) -> Option<BestShare> {
    let workers = handles.roster.workers();
    let best = workers.iter().map(|worker| (worker.score.view().best, worker));
    let (difficulty, worker) = best.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (difficulty > 0.0).then(|| BestShare {
        difficulty,
        worker: worker.name.to_string(),
        at_unix_s: None,
    })
}

/// Whether miners that connect now would get work that pays, and if not, why.
pub(crate) fn readiness(handles: &Handles, moment: &Moment) -> Readiness {
    if let Some(silent) = handles.counters.pulse.stalled(moment.now) {
        let reason = format!(
            "the threads that serve miners have been stuck for {} s: restart gatewayd, and find \
             out what keeps the processor busy",
            silent.as_secs()
        );
        return Readiness { ready: false, reasons: vec![reason] };
    }
    if let Some((text, advice)) = super::warnings::wrong_network(handles) {
        return Readiness { ready: false, reasons: vec![format!("{text} {advice}")] };
    }
    let work = handles.work.borrow().clone();
    let reasons = match work.as_deref().map(|work| &work.admission) {
        Some(Admission::Open) => off_chain(handles),
        Some(Admission::Closed(reason)) => {
            let mut reasons = vec![reason.to_string()];
            reasons.extend(failing_nodes(handles));
            reasons
        }
        None => not_started(handles),
    };
    Readiness { ready: reasons.is_empty(), reasons }
}

/// Why the current work pays nobody: no node is on its chain any more.
fn off_chain(handles: &Handles) -> Vec<String> {
    let is_off = |node: &NodeStatus| node.state == NodeState::WrongChain;
    let is_all = handles.templates.status.borrow().iter().all(is_off);
    if is_all { failing_nodes(handles) } else { Vec::new() }
}

fn failing_nodes(handles: &Handles) -> Vec<String> {
    let nodes = handles.templates.status.borrow();
    let troubled = nodes.iter().filter(|node| node.state != NodeState::Ready);
    let why = |node: &NodeStatus| {
        let why = node.last_error.as_deref().unwrap_or("has not given a block template yet");
        format!("node {}: {why}", node.name)
    };
    troubled.map(why).collect()
}

/// Why there has been no work since the start.
fn not_started(handles: &Handles) -> Vec<String> {
    if handles.configs.borrow().address.is_none() {
        return vec![super::warnings::SETUP_NEEDED.into()];
    }
    let mut reasons = failing_nodes(handles);
    if reasons.is_empty() {
        let pool = handles.pool.borrow().as_ref().map(|pool| pool.status.borrow().clone());
        let why =
            pool.and_then(|status| Some(format!("pool {}: {}", status.pool, status.last_error?)));
        reasons.push(why.unwrap_or_else(|| "the first work is being made".into()));
    }
    reasons
}
