//! What needs attention, in plain words and with what to do about it.

use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{Mode, Severity, Warning},
    },
    books::{
        PlacesView,
        client_mistakes::{ClientMistake, MistakeRecord},
    },
    datum::{NextPool, PoolState},
    ledger::LedgerState,
    node::Fork,
    template::{NodeState, NodeStatus, WrongNetwork},
    work::{Admission, printable},
};

/// Worst first. `admin_problem`: why there is no admin password although one is configured.
pub(crate) fn warnings(
    handles: &Handles,
    admin_problem: Option<&str>,
    moment: &Moment,
) -> Vec<Warning> {
    let mut all = Vec::new();
    work(handles, &mut all);
    let began_s = moment.age_s(handles.roster.began());
    nodes(&handles.templates.status.borrow(), began_s, &mut all);
    submit_only(&handles.templates.submit_only.borrow(), &mut all);
    pool(handles, moment, &mut all);
    blocks(handles, &mut all);
    if let LedgerState::Degraded { reason } = handles.ledger.state() {
        let text = "History is not being saved: hashrates, shares and blocks of this period may be \
                    missing from it later.";
        all.push(warning("ledger", Severity::Warning, text, reason));
    }
    tls(handles, &mut all);
    places(handles, &mut all);
    names(handles, &mut all);
    client_mistakes(handles, moment, &mut all);
    if let Some(problem) = admin_problem {
        let text = "Nothing can be changed here: the admin password cannot be used.";
        all.push(warning("admin-password", Severity::Warning, text, sentence(problem)));
    }
    all.sort_by_key(|warning| warning.severity);
    all
}

fn tls(handles: &Handles, all: &mut Vec<Warning>) {
    let tls = handles.tls.borrow();
    let Some(trouble) = &tls.trouble else { return };
    let text = if tls.is_on {
        "Miners that use TLS still get the old certificate: the new one cannot be used."
    } else {
        "Miners cannot use TLS: there is no certificate."
    };
    all.push(warning("tls-certificate", Severity::Warning, text, sentence(trouble)));
}

fn warning(
    code: &'static str,
    severity: Severity,
    text: impl Into<String>,
    advice: impl Into<String>,
) -> Warning {
    Warning { code, severity, text: text.into(), advice: advice.into() }
}

fn work(handles: &Handles, all: &mut Vec<Warning>) {
    if handles.configs.borrow().address.is_none() {
        let advice = "Set mining.address on the settings page, or in gatewayd.toml.";
        all.push(warning("setup-needed", Severity::Error, SETUP_NEEDED, advice));
        return;
    }
    if let Some((text, advice)) = wrong_network(handles) {
        all.push(warning("wrong-network", Severity::Error, text, advice));
    }
    let work = handles.work.borrow().clone();
    match work.as_deref().map(|work| &work.admission) {
        Some(Admission::Open) => {}
        // "what is wrong: what to do".
        Some(Admission::Closed(reason)) => {
            let (text, advice) = reason.split_once(": ").unwrap_or((reason, "See the log."));
            let text = format!("Miners are disconnected: {text}.");
            all.push(warning("no-work", Severity::Error, text, sentence(advice)));
        }
        None => {
            let text = "There is no work for miners yet.";
            let advice = "It comes with the node's first block template; the list of nodes says \
                          what each is waiting for.";
            all.push(warning("no-work", Severity::Error, text, advice));
        }
    }
}

/// Why nothing can be mined for the payout address, and what to do.
pub(super) fn wrong_network(handles: &Handles) -> Option<(String, String)> {
    let address = handles.configs.borrow().address.as_ref()?.text.clone();
    let WrongNetwork { node, network } = handles.templates.wrong_network()?;
    let text = format!(
        "Nothing can be mined: node {node} is on the network \"{network}\", but mining.address \
         {address} belongs to another."
    );
    let advice = format!(
        "Set mining.address to an address on \"{network}\", on the settings page or in \
         gatewayd.toml, or start the node on the address's network: mining then resumes without a \
         restart."
    );
    Some((text, advice))
}

/// Nodes that found blocks would not reach.
fn submit_only(nodes: &[NodeStatus], all: &mut Vec<Warning>) {
    let is_bad = |node: &&NodeStatus| matches!(node.state, NodeState::Down | NodeState::WrongChain);
    for node in nodes {
        if let Some(fork) = node.fork {
            all.push(fork_warning(node, fork, Severity::Warning));
        }
    }
    for node in nodes.iter().filter(is_bad).filter(|node| !is_forked(node)) {
        let why = node.last_error.as_deref().unwrap_or("see its log");
        let text = format!("A found block would not reach node {}.", node.name);
        all.push(warning("node-down", Severity::Warning, text, sentence(why)));
    }
}

/// True for a node whose blocks SHA-256 miners cannot mine.
fn is_forked(node: &NodeStatus) -> bool {
    node.fork.is_some_and(Fork::is_here)
}

fn fork_warning(node: &NodeStatus, fork: Fork, severity: Severity) -> Warning {
    let (code, severity) = match fork {
        Fork::Blake2b { is_here: true, .. } => ("node-blake2b", severity),
        Fork::Blake2b { is_here: false, .. } => ("node-blake2b-soon", Severity::Warning),
        Fork::Rdts => ("node-rdts", severity),
    };
    warning(code, severity, format!("Node {} {}.", node.name, fork.what()), sentence(Fork::ADVICE))
}

/// `began_s`: how long this process has been running.
fn nodes(nodes: &[NodeStatus], began_s: f64, all: &mut Vec<Warning>) {
    let others_work = nodes.iter().any(|node| node.state == NodeState::Ready);
    let severity = if others_work { Severity::Warning } else { Severity::Error };
    for node in nodes {
        if let Some(fork) = node.fork {
            all.push(fork_warning(node, fork, severity));
        }
        if let Some(why) = node.zmq_trouble.as_deref().filter(|_| node.state == NodeState::Ready) {
            let text = format!("Node {} reports no new blocks over ZeroMQ.", node.name);
            all.push(warning("node-zmq", Severity::Warning, text, sentence(why)));
        }
        let (code, what) = match node.state {
            _ if is_forked(node) => continue,
            NodeState::Down => ("node-down", "does not answer properly"),
            NodeState::Syncing => ("node-syncing", "gives no work yet"),
            NodeState::Behind => ("node-behind", "is behind the others"),
            NodeState::WrongChain => {
                ("node-wrong-chain", "is on another chain than the one being mined")
            }
            // It gets a few seconds before anybody needs to worry.
            NodeState::Starting if began_s > STARTING_MAX_S => {
                ("node-down", "has not answered since the start")
            }
            NodeState::Starting | NodeState::Ready => continue,
        };
        let why = node.last_error.as_deref().unwrap_or("see its log");
        let text = format!("Node {} {what}.", node.name);
        all.push(warning(code, severity, text, sentence(why)));
    }
    for node in nodes.iter().filter(|node| node.has_spare_threads == Some(false)) {
        let text = format!("Node {} has no RPC thread to spare.", node.name);
        let advice = "A found block may have to wait for other programs' requests: set \
                      rpcthreads=16 in its bitcoin.conf, and restart it.";
        all.push(warning("node-threads", Severity::Warning, text, advice));
    }
    let downloading = |node: &&NodeStatus| node.is_active && node.is_in_initial_download;
    if let Some(node) = nodes.iter().find(downloading) {
        let text = format!("Node {} is still downloading the block chain.", node.name);
        let advice = "Work on old blocks earns nothing: wait until it is done.";
        all.push(warning("node-downloading", Severity::Error, text, advice));
    }
}

fn pool(handles: &Handles, moment: &Moment, all: &mut Vec<Warning>) {
    let Some(pool) = handles.pool.borrow().clone() else { return };
    let (status, stats) = (pool.status.borrow().clone(), pool.stats.view());
    if let PoolState::Down { since } = status.state {
        let mode = super::mode(handles.work.borrow().as_deref());
        let meanwhile = match mode {
            Mode::Pooled => "shares are held for it",
            Mode::Solo => "blocks pay your own address meanwhile (pooling.when_down)",
            Mode::Waiting => "miners are disconnected meanwhile (pooling.when_down)",
        };
        let for_s = moment.age_s(since).round();
        let text = format!("Pool {} has been away for {for_s} s; {meanwhile}.", status.pool);
        let severity = if mode == Mode::Waiting { Severity::Error } else { Severity::Warning };
        let why = status.last_error.as_deref().unwrap_or("The reason is not known.");
        all.push(warning("pool-down", severity, text, sentence(why)));
    }
    for NextPool { pool, failing } in &status.next {
        let Some((_, why)) = failing else { continue };
        let text = if *pool == status.pool {
            format!("The new settings for pool {pool} do not work: the old ones are used for now.")
        } else {
            format!("Pool {pool} cannot be used: pool {} is kept for now.", status.pool)
        };
        let advice = format!(
            "{} Check its host, port and public_key; gatewayd keeps trying.",
            sentence(why)
        );
        all.push(warning("pool-next-down", Severity::Warning, text, advice));
    }
    let (accepted, rejected) = (stats.accepted, stats.rejected_total());
    if rejected >= REJECTED_MIN && rejected * REJECTED_PART > accepted {
        let worst = stats.rejected.iter().max_by_key(|(_, count)| *count);
        let worst = worst.map_or("unknown", |(reason, _)| reason.name());
        let text = format!(
            "The pool has rejected {rejected} of {} shares since the start, mostly for: {worst}.",
            accepted + rejected
        );
        let advice = "Compare the clocks of this machine and of the node, and ask the pool.";
        all.push(warning("pool-rejects", Severity::Warning, text, advice));
    }
    let dropped = handles.counters.view().relay_dropped;
    if dropped > 0 {
        let text = format!(
            "{dropped} shares never reached the pool, because this machine was too \
                            busy."
        );
        let advice = "Give it more processor time, or raise stratum.difficulty_min so that there \
                      are fewer shares.";
        all.push(warning("shares-dropped", Severity::Warning, text, advice));
    }
}

fn blocks(handles: &Handles, all: &mut Vec<Warning>) {
    let recent = handles.blocks.recent();
    let Some(report) = recent.iter().rev().find(|report| !report.is_accepted()) else { return };
    let text =
        format!("Block {} ({}) was found, but no node accepted it.", report.height, report.hash);
    let advice = "The Blocks page shows each node's answer. If it says \"stale\", another miner \
                  was faster, and nothing is wrong.";
    all.push(warning("block-refused", Severity::Warning, text, advice));
}

/// Places for miners are running out.
fn places(handles: &Handles, all: &mut Vec<Warning>) {
    let view = handles.counters.view().places;
    if !view.is_short() {
        return;
    }
    let PlacesView { taken, most, unproven } = view;
    let text = format!(
        "{taken} of {most} places for miners are taken, {unproven} of them by miners that have \
         sent no share yet."
    );
    let advice = "Miners without a share go first when others come. If all of them are yours, \
                  raise stratum.max_connections and the limit of open files (ulimit -n).";
    all.push(warning("places-short", Severity::Warning, text, advice));
}

/// Miners that are here now, whom no pool can pay.
fn names(handles: &Handles, all: &mut Vec<Warning>) {
    let unpayable = handles.roster.miners().into_iter().filter_map(|miner| miner.unpayable());
    let mut names: Vec<_> = unpayable.map(|name| name.0).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    let Some(first) = names.first() else { return };
    let name = printable(first, NAME_SHOWN_MAX);
    let more =
        if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
    let who = if count == 1 { "A miner".to_owned() } else { format!("{count} miners") };
    let text = format!(
        "{who} logged in by a name that begins with no address (\"{name}\"{more}): the pool can pay \
         nobody for its shares."
    );
    let advice = "Give it a user name that begins with your address, like bc1q….garage; or set \
                  pooling.usernames = \"worker\", and mining.address stands before all names.";
    all.push(warning("name-without-address", Severity::Warning, text, advice));
}

/// Who recently connected to the wrong port, or asks for what it cannot get.
fn client_mistakes(handles: &Handles, moment: &Moment, all: &mut Vec<Warning>) {
    let is_other = |odd: &MistakeRecord| !matches!(odd.mistake, ClientMistake::NoAddress { .. });
    for odd in handles.roster.client_mistakes().recent(moment.now).into_iter().filter(is_other) {
        let text = format!("{} {}.", odd.peer.ip(), odd.mistake);
        let advice = sentence(&odd.mistake.advice());
        all.push(warning(odd.mistake.code(), Severity::Warning, text, advice));
    }
}

/// With a capital letter at the beginning and a full stop at the end.
fn sentence(text: &str) -> String {
    let mut rest = text.trim().chars();
    let first = rest.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.trim().ends_with(['.', '?', '!']) { "" } else { "." };
    format!("{first}{}{end}", rest.as_str())
}

pub(super) const SETUP_NEEDED: &str = "No payout address is set yet, so nothing can be mined.";
/// Fewer are not significant.
const REJECTED_MIN: u64 = 10;
/// More than one in this many is too many.
const REJECTED_PART: u64 = 20;
const NAME_SHOWN_MAX: usize = 60;
const STARTING_MAX_S: f64 = 15.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_reads_as_a_sentence() {
        assert_eq!(sentence("check the node"), "Check the node.");
        assert_eq!(sentence("Is it on?"), "Is it on?");
        assert_eq!(sentence(""), ".");
    }
}
