//! `gatewayd devnet load`: many miners in one process, to measure a gateway.
//!
//! They arrive all at once, then submit as fast as they are answered, then watch new tips arrive.
//! Or (`--churn`) they log in again and again. Every share is really solved, which is meant for a
//! gateway with a tiny difficulty that vardiff leaves alone; with a higher one, this measures its
//! own hashing.

mod board;
mod churn;
mod conn;
mod line;
mod log;
mod process;
mod report;
mod sv1;
mod sv2;
mod tips;

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::lookup_host,
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::{board::Board, conn::LoadConn, process::Server, report::Report, tips::TipTimes};
use super::miner::cli_duration;
use crate::{clock::now, sv2::noise::AuthorityPublicKey};

/// The protocol of the load generator's miners.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Speaks {
    #[default]
    Sv1,
    Sv2Standard,
    Sv2Extended,
}

#[derive(clap::Args, Clone, Debug)]
pub struct LoadArgs {
    /// The gateway, as HOST:PORT.
    #[arg(long, value_name = "ADDR")]
    pub connect: String,
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Speaks,
    /// The gateway's Stratum V2 authority key, in base58. Without it, no key is checked.
    #[arg(long, value_name = "KEY")]
    pub authority_key: Option<AuthorityPublicKey>,
    /// How many miners: connections, or V2 channels.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub miners: u32,
    /// Stratum V2 miners on one connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub channels_per_connection: u32,
    /// Instead of everything else: connect, get work, get a share accepted (unless --in-flight is
    /// 0), hang up, and repeat, on each connection.
    #[arg(long)]
    pub churn: bool,
    /// With --churn: a file with the node's tips, as `devnet node` prints them. Everybody's first
    /// job must be on the latest tip or the one before.
    #[arg(long, value_name = "FILE", requires = "churn")]
    pub tips_from: Option<PathBuf>,
    /// With --churn: this many additional miners that stay, and submit without pause.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "churn")]
    pub steady: u32,
    /// Submissions that each miner keeps in flight; 0 to leave that part out.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub in_flight: usize,
    /// How long to submit.
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = cli_duration)]
    pub run_for: Duration,
    /// The gateway's process id, to measure its CPU time and memory.
    #[arg(long)]
    pub pid: Option<u32>,
    /// A shell command that makes a new tip, such as `bitcoin-cli generatetoaddress 1 ...`.
    #[arg(long, value_name = "CMD")]
    pub tip_command: Option<String>,
    /// How many tips to make.
    #[arg(long, default_value_t = 5)]
    pub tips: u32,
    /// Loopback addresses to connect from, starting at 127.0.0.2. By default one per 20,000 miners.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub sources: Option<u8>,
    #[arg(long, default_value = "load")]
    pub user: String,
    #[arg(long, default_value = concat!("gatewayd-load/", env!("CARGO_PKG_VERSION")))]
    pub user_agent: String,
}

#[derive(Debug, Error)]
enum LoadError {
    #[error("cannot resolve {address}: {error}")]
    Resolve { address: String, error: io::Error },
    #[error("cannot have {wanted} files open: {error}")]
    Files { wanted: u64, error: io::Error },
    #[error("cannot measure process {pid}: {error}")]
    Pid { pid: u32, error: io::Error },
}

/// Measures, and prints a table. Fails when a miner got no work or a share was rejected.
pub async fn run_cli(args: LoadArgs) -> ExitCode {
    match Box::pin(run(&args)).await {
        Ok(report) => {
            say(&report.to_string());
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            say(&format!("load: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &LoadArgs) -> Result<Report, LoadError> {
    process::raise_open_files(u64::from(args.miners) + OTHER_FILES)
        .map_err(|(wanted, error)| LoadError::Files { wanted, error })?;
    let address = resolve(&args.connect).await?;
    let open = |pid| Server::new(pid).map_err(|error| LoadError::Pid { pid, error });
    let server = args.pid.map(open).transpose()?;
    let mut report = Report::new(args);
    report.rss_idle = server.as_ref().and_then(Server::rss_bytes);
    if args.churn {
        report.churn = Some(churn(args, address, server.as_ref()).await);
        return Ok(report);
    }

    let crowd = Crowd::new(args, address);
    let Crowd { board, in_flight, shutdown, .. } = &crowd;
    let cpu_before = server.as_ref().and_then(Server::cpu);
    let mut conns = JoinSet::new();
    for conn in crowd.conns(0, args.miners) {
        conns.spawn(conn.run());
    }
    arrive(args, board, &mut report).await;
    report.arrival_cpu = elapsed_cpu(server.as_ref(), cpu_before);
    sleep(SETTLE).await;
    report.rss_busy = server.as_ref().and_then(Server::rss_bytes);
    if args.in_flight > 0 {
        submit(args, board, in_flight, server.as_ref(), &mut report).await;
    }
    if let Some(command) = &args.tip_command {
        let cpu = server.as_ref().and_then(Server::cpu);
        for _ in 0..args.tips {
            report.tips.extend(make_tip(command, board).await);
            sleep(SETTLE).await;
        }
        report.tips_cpu = elapsed_cpu(server.as_ref(), cpu);
    }
    report.connected = board.connected.load(Relaxed);
    report.disconnects = board.disconnects.load(Relaxed);
    report.connect_failures = board.connect_failures.load(Relaxed);
    shutdown.cancel();
    while conns.join_next().await.is_some() {}
    Ok(report)
}

/// Endless logins, and optionally some miners that stay.
async fn churn(args: &LoadArgs, address: SocketAddr, server: Option<&Server>) -> churn::Churn {
    let (coming, staying) = (Crowd::new(args, address), Crowd::new(args, address));
    staying.in_flight.send_replace(args.in_flight);
    let plan = churn::Plan {
        run_for: args.run_for,
        tips_from: args.tips_from.clone(),
        steady: staying.conns(args.miners, args.steady),
    };
    let cpu = server.and_then(Server::cpu);
    let mut churn = churn::run(coming.conns(0, args.miners), plan, &staying.board).await;
    churn.cpu = elapsed_cpu(server, cpu);
    staying.shutdown.cancel();
    churn
}

/// What the connections of a load have in common.
struct Crowd<'a> {
    args: &'a LoadArgs,
    address: SocketAddr,
    board: Arc<Board>,
    in_flight: watch::Sender<usize>,
    shutdown: CancellationToken,
}

impl<'a> Crowd<'a> {
    fn new(args: &'a LoadArgs, address: SocketAddr) -> Self {
        let (board, shutdown) = (Arc::new(Board::new(now())), CancellationToken::new());
        Self { args, address, board, in_flight: watch::channel(0).0, shutdown }
    }

    /// Connections for `count` miners, which are numbered from `first`.
    fn conns(&self, first: u32, count: u32) -> Vec<LoadConn> {
        let Self { args, address, .. } = *self;
        let numbers: Vec<u32> = (first..first + count).collect();
        let each = match args.protocol {
            Speaks::Sv1 => 1,
            Speaks::Sv2Standard | Speaks::Sv2Extended => args.channels_per_connection.max(1),
        };
        let conn = |numbers: &[u32]| LoadConn {
            board: Arc::clone(&self.board),
            address,
            source: source(args, address, numbers[0] / each),
            speaks: args.protocol,
            authority: args.authority_key,
            users: numbers.iter().map(|number| format!("{}.{number}", args.user)).collect(),
            user_agent: args.user_agent.clone(),
            in_flight: self.in_flight.subscribe(),
            submits: args.in_flight > 0,
            shutdown: self.shutdown.clone(),
        };
        numbers.chunks(each as usize).map(conn).collect()
    }
}

/// Waits until all have work, or `ARRIVAL_MAX` has passed.
async fn arrive(args: &LoadArgs, board: &Board, report: &mut Report) {
    let wanted = args.miners as usize;
    while board.arrivals().len() < wanted && now() < board.began + ARRIVAL_MAX {
        sleep(POLL).await;
    }
    report.arrivals = board.arrivals().clone();
    report.arrivals.sort_unstable();
    say(&format!("{} of {wanted} miners have work", report.arrivals.len()));
}

async fn submit(
    args: &LoadArgs,
    board: &Board,
    in_flight: &watch::Sender<usize>,
    server: Option<&Server>,
    report: &mut Report,
) {
    in_flight.send_replace(args.in_flight);
    sleep(WARM_UP).await;
    let (cpu, answered, began) = (server.and_then(Server::cpu), board.answered(), now());
    sleep(args.run_for).await;
    report.submit_cpu = elapsed_cpu(server, cpu);
    report.submit_answered = board.answered() - answered;
    report.submit_time = now().duration_since(began);
    in_flight.send_replace(0);
    // What is in flight belongs to these counts, and must not disturb the next measurement.
    let end = now() + DRAIN_MAX;
    while board.answered() < board.submitted.load(Relaxed) && now() < end {
        sleep(POLL).await;
    }
    report.submitted = board.submitted.load(Relaxed);
    report.accepted = board.accepted.load(Relaxed);
    report.rejects = board.rejects().clone();
    say(&format!("{} submits answered", report.submit_answered));
}

/// Runs `command` and waits until every miner has full work on the tip that it made.
async fn make_tip(command: &str, board: &Board) -> Option<TipTimes> {
    let seen = board.tips().count();
    let command = command.to_owned();
    let triggered = now();
    let running = spawn_blocking(move || process::shell(&command));
    let end = triggered + TIP_MAX;
    let wanted = board.connected.load(Relaxed);
    while !board.tips().is_complete(seen, wanted) && now() < end {
        sleep(POLL).await;
    }
    if let Ok(Err(error)) = running.await {
        say(&format!("the tip command failed: {error}"));
    }
    let times = board.tips().times(seen, triggered, wanted);
    if times.is_none() {
        say("no clean work on a new tip arrived");
    }
    times
}

fn elapsed_cpu(server: Option<&Server>, before: Option<Duration>) -> Option<Duration> {
    server?.cpu()?.checked_sub(before?)
}

async fn resolve(address: &str) -> Result<SocketAddr, LoadError> {
    let wrong = |error| LoadError::Resolve { address: address.to_owned(), error };
    let mut found = lookup_host(address).await.map_err(wrong)?;
    found.next().ok_or_else(|| wrong(io::ErrorKind::NotFound.into()))
}

/// The source address of miner `number`: one address only has ports for some 28,000 connections.
fn source(args: &LoadArgs, to: SocketAddr, number: u32) -> Option<IpAddr> {
    let most = u8::try_from(args.miners.div_ceil(MINERS_PER_SOURCE)).unwrap_or(200);
    let sources = args.sources.unwrap_or(most);
    let loopback = to.is_ipv4() && to.ip().is_loopback();
    (loopback && sources > 1).then(|| {
        let last = u8::try_from(number % u32::from(sources)).unwrap_or(0);
        Ipv4Addr::new(127, 0, 0, 2 + last).into()
    })
}

fn say(text: &str) {
    // If our stdout was closed, nobody wants to read this.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Runtime, libraries, standard streams.
const OTHER_FILES: u64 = 100;
const MINERS_PER_SOURCE: u32 = 20_000;
const ARRIVAL_MAX: Duration = Duration::from_secs(30);
const TIP_MAX: Duration = Duration::from_secs(20);
const DRAIN_MAX: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(1);
/// Between one measurement and the next.
const SETTLE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
