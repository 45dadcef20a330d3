//! `gatewayd check`: tries out everything that the configuration names.

mod hashrate;
pub(super) mod pool;

use std::{
    io::{self, Write as _},
    net::TcpListener,
    path::Path,
    time::Duration,
};

use bitcoin::Network;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::hashrate::parse_hashrate;
use super::parts::is_without_ipv6;
use crate::{
    api,
    config::Config,
    healthcheck::is_gatewayd,
    listener,
    net::HostPort,
    node::Fork,
    template::{self, NodeState, NodeStatus},
    work::Difficulty,
};

/// Tries out everything that the configuration names, and prints what it found, also for a miner of
/// this hashrate if one is given. Returns the number of problems.
pub async fn check(config: &Config, hashrate: Option<f64>) -> usize {
    let mut report = Report { problems: 0 };
    report.tell("configuration", Ok("every key is understood".into()));
    if config.address.is_none() {
        let missing = "is missing: set it to your bitcoin address, here or on the dashboard";
        report.tell("mining.address", Err(missing.into()));
    }
    addresses(config, &mut report).await;
    proxies(config, &mut report);
    paths(config, &mut report);
    nodes(config, &mut report).await;
    if config.datum.pools.is_empty() {
        report.tell("pool", Ok("none: solo mining to mining.address".into()));
    }
    for pool in &config.datum.pools {
        let what = format!("pool {}", HostPort(&pool.host, pool.port));
        let tried = pool::try_pool(pool, &config.datum.user_agent).await;
        let floor = tried.as_ref().ok().map(pool::floor);
        let tried = tried.map(|terms| pool::describe(&terms));
        report.tell(&what, tried.map_err(|fault| fault.text));
        if let Some(told) = hashrate::too_rare(hashrate, floor) {
            report.notice(&what, &format!("{told}: {}", hashrate::POOL_ADVICE));
        }
    }
    let own = config.stratum.rules.difficulty_min.get();
    if let Some(told) = hashrate::too_rare(hashrate, Some(own)) {
        report.notice("stratum.difficulty_min", &format!("{told}: {}", hashrate::OWN_ADVICE));
    }
    report.problems
}

struct Report {
    problems: usize,
}

impl Report {
    fn tell(&mut self, what: &str, result: Result<String, String>) {
        self.problems += usize::from(result.is_err());
        match result {
            Ok(text) => say("ok     ", what, &text),
            Err(text) => say("PROBLEM", what, &text),
        }
    }

    /// Something that works but deserves attention.
    fn notice(&mut self, what: &str, text: &str) {
        say("NOTICE ", what, text);
    }
}

fn say(mark: &str, what: &str, text: &str) {
    // The terminal may be gone; the exit code still tells.
    let _ = writeln!(io::stdout(), "{mark} {what}: {text}");
}

async fn addresses(config: &Config, report: &mut Report) {
    let is_running = match config.api.listen {
        Some(addr) => is_gatewayd(addr, CHECK_API).await,
        None => false,
    };
    let mut some = false;
    let main = config.stratum.listen.iter().map(|addr| ("stratum.listen", addr));
    let ports = config.stratum.ports.iter().flat_map(|port| &port.listen);
    for (key, addr) in main.chain(ports.map(|addr| ("stratum.port", addr))) {
        let bound = listener::bind(*addr);
        let result = match bound {
            // As at start: the default lists both families.
            Err(error) if addr.is_ipv6() && some && is_without_ipv6(&error) => {
                Ok("left out: this machine has no IPv6".into())
            }
            bound => free(bound.map(drop), is_running),
        };
        some |= result.is_ok();
        report.tell(&format!("{key} {addr}"), result);
    }
    match config.api.listen {
        Some(addr) => {
            let bound = TcpListener::bind(addr).map(drop);
            report.tell(&format!("api.listen {addr}"), free(bound, is_running));
        }
        None => report.tell("api.listen", Ok("empty: no dashboard".into())),
    }
}

fn proxies(config: &Config, report: &mut Report) {
    if let Some(all) = config.stratum.trusted_proxies.iter().find(|it| it.is_everybody()) {
        report.notice(
            "stratum.trusted_proxies",
            &format!(
                "{all} means everybody: each miner must begin with a PROXY header, and may claim \
                 to be from any address; list your proxies' own addresses instead"
            ),
        );
    }
}

fn free(bound: io::Result<()>, is_running: bool) -> Result<String, String> {
    match bound {
        Ok(()) => Ok("free".into()),
        Err(error) if is_running && error.kind() == io::ErrorKind::AddrInUse => {
            Ok("in use by the gatewayd that is running".into())
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(format!("{error}: stop the program that uses it, or set another port"))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("{error}: only root may listen on ports below 1024; set a higher one"))
        }
        Err(error) => Err(format!("{error}: set an address of this machine, or 0.0.0.0 for all")),
    }
}

fn paths(config: &Config, report: &mut Report) {
    report.tell(
        "ledger.data_dir",
        try_folder(&config.ledger.data_dir, "found blocks could not be kept"),
    );
    report.tell("stratum.sv2", authority(&super::identity::authority_file(config)));
    for file in config.stratum.ports.iter().filter_map(|port| port.authority_key_file.as_deref()) {
        report.tell("stratum.port.authority_key_file", authority(file));
    }
    if let Some(told) = super::tls::check(config) {
        report.tell("stratum.tls", told);
    }
    if let Some(file) = &config.api.admin_password_file {
        let read = api::try_password_file(file);
        report.tell("api.admin_password_file", read.map(|()| "can be read".into()));
    }
    if let Some(file) = &config.log.file {
        let folder = file.parent().unwrap_or(file);
        report.tell("log.file", try_folder(folder, "the log could not be written"));
    }
}

async fn nodes(config: &Config, report: &mut Report) {
    let stop = CancellationToken::new();
    let mut asked = config.template.clone();
    // Nodes that only get blocks are asked for work too, to see that they answer.
    asked.nodes.iter_mut().for_each(|node| node.submit_only = false);
    let templates = template::spawn(asked, &stop, &TaskTracker::new());
    let mut status = templates.status.clone();
    let all = status.wait_for(|nodes| {
        nodes.iter().zip(&config.template.nodes).all(|(node, configured)| {
            is_ready(node)
                || node.state == NodeState::WrongChain
                || configured.submit_only
                    && node.network.is_some()
                    && node.state != NodeState::Starting
        })
    });
    let _ = tokio::time::timeout(CHECK_NODES, all).await;
    let tried = status.wait_for(|nodes| {
        nodes.iter().all(|node| !is_ready(node) || node.has_spare_threads.is_some())
    });
    let _ = tokio::time::timeout(CHECK_THREADS, tried).await;
    for (node, configured) in templates.status.borrow().iter().zip(&config.template.nodes) {
        let what = format!("node {}", node.name);
        let apart = node.fork.filter(|fork| is_apart(*fork));
        let result = match (node.network, &node.last_error) {
            _ if apart.is_some() => Err(apart.map_or_else(String::new, told)),
            (Some(network), _) if !config.fits_network(network) => {
                Err(format!("is on \"{network}\", but mining.address belongs to another network"))
            }
            (Some(network), _) if configured.submit_only => {
                Ok(format!("takes blocks, on \"{network}\""))
            }
            (Some(_), _) if node.has_spare_threads == Some(false) => Err(FEW_THREADS.into()),
            (Some(network), _) if is_ready(node) => Ok(gives_work(network)),
            (Some(_), None) => Err(format!("answers, but gave no work within {CHECK_NODES:?}")),
            (_, Some(error)) => Err(error.to_string()),
            (None, None) => Err(format!("no answer within {CHECK_NODES:?}")),
        };
        report.tell(&what, result);
        if let Some(fork) = node.fork.filter(|fork| !is_apart(*fork)) {
            report.notice(&what, &told(fork));
        }
        if let Some(why) = &node.zmq_trouble {
            report.notice(&what, &format!("reports no new blocks over ZeroMQ: {why}"));
        }
    }
    if let Some(template) = templates.templates.borrow().as_deref() {
        floors(config, template.nbits.target().difficulty(), report);
    }
    stop.cancel();
}

/// When solo, a floor above a block's difficulty has no effect: miners are never asked for more.
fn floors(config: &Config, block: f64, report: &mut Report) {
    let main = ("stratum.difficulty_min".into(), Some(config.stratum.rules.difficulty_min));
    let ports = config.written.stratum.port.iter().enumerate();
    let ports = ports.map(|(at, port)| {
        let floor = port.difficulty_min.and_then(Difficulty::new);
        (format!("stratum.port {} difficulty_min", at + 1), floor)
    });
    for (key, floor) in std::iter::once(main).chain(ports) {
        if let Some(floor) = floor.filter(|floor| floor.get() > block)
            && config.datum.pools.is_empty()
        {
            report.notice(
                &key,
                &format!(
                    "{floor} is above the network's current difficulty, {block:.3}: when solo, \
                     miners are asked for that instead (but at least 1), since blocks would be \
                     lost otherwise; lower it on this network"
                ),
            );
        }
    }
}

fn authority(file: &Path) -> Result<String, String> {
    match super::authority::look(file) {
        Ok(Some(key)) => Ok(format!("miners may check the authority key {}", key.public())),
        Ok(None) => Ok("no authority key yet: gatewayd creates one when it first starts".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn is_ready(node: &NodeStatus) -> bool {
    node.network.is_some() && node.state == NodeState::Ready
}

pub(super) fn gives_work(network: Network) -> String {
    format!("gives work, on \"{network}\"")
}

pub(super) fn told(fork: Fork) -> String {
    format!("this node {}: {}", fork.what(), Fork::ADVICE)
}

/// True for a node that is currently not on the chain of SHA-256 miners.
pub(super) fn is_apart(fork: Fork) -> bool {
    fork.is_here() || fork == Fork::Rdts
}

/// Leaves nothing behind: with `sudo gatewayd check`, it would not belong to the service.
fn try_folder(folder: &Path, or_else: &str) -> Result<String, String> {
    let probe = folder.join(".gatewayd-check");
    let made: Vec<_> = folder.ancestors().take_while(|it| !it.exists()).collect();
    let tried = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe));
    for folder in made {
        // A folder that is not empty any more stays.
        let _ = std::fs::remove_dir(folder);
    }
    tried
        .map(|()| format!("{} can be written to", folder.display()))
        .map_err(|error| format!("{}: {error}: {or_else}", folder.display()))
}

const FEW_THREADS: &str = "gives work, but has no RPC thread to spare, so a found block may have \
                           to wait for other programs' requests: set rpcthreads=16 in its \
                           bitcoin.conf, and restart it";
/// Three short waits for its next block, and the pauses between them.
const CHECK_THREADS: Duration = Duration::from_secs(4);
const CHECK_NODES: Duration = Duration::from_secs(5);
/// A gatewayd on this machine answers in milliseconds.
const CHECK_API: Duration = Duration::from_secs(1);
