//! A whole network in one process: node, pool, gateway, miners. For newcomers and for CI.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    miner::{Miner, MinerHandle, MinerOptions, MinerProtocol, MinerStats, cli_duration},
    node::{Node, NodeHandle, NodeOptions},
    pool::{Habits, Pool, PoolConfig, PoolHandle, PoolOptions, PrimeIds},
    real_node::RealNode,
};
use crate::{
    blocks::{BlockOutcome, BlockReport},
    clock::now,
    config::Config,
    daemon::Gateway,
    sv2::noise::AuthorityPublicKey,
    work::{Hash256, Nbits},
};

#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {
    /// Stop after this long, like 60s, and print the results. Default: until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = cli_duration)]
    run_for: Option<Duration>,
    /// How many CPU miners to run: a third with Stratum V1, a third with V2's
    /// standard channels, a third with its extended ones.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    miners: u16,
    /// Where to serve the dashboard; by default on the usual port if that is free.
    #[arg(long, value_name = "ADDR")]
    api: Option<SocketAddr>,
    /// Use this bitcoind, on regtest in a temporary folder, instead of the built-in node.
    #[arg(long, value_name = "PATH")]
    bitcoind: Option<PathBuf>,
}

/// Runs the demo. Exits with a failure if anything was refused or nothing was found.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let folder = Folder::new()?;
    let mut demo = Demo::start(&args, &folder).await?;
    let end = args.run_for.map(|run_for| now() + run_for);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => demo.tell_news(),
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                break;
            }
        }
        if end.is_some_and(|end| now() >= end) {
            break;
        }
    }
    let summary = demo.stop().await;
    summary.tell();
    Ok(if summary.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that runs.
struct Demo {
    node: DemoNode,
    pool: PoolHandle,
    gateway: Gateway,
    miners: Vec<(MinerProtocol, MinerHandle)>,
    started: Instant,
    /// What has already been reported.
    block_told: Option<Hash256>,
    told_at: Instant,
}

enum DemoNode {
    Embedded(NodeHandle),
    Real(#[expect(dead_code, reason = "runs until it is dropped")] RealNode),
}

impl Demo {
    async fn start(args: &DemoArgs, folder: &Folder) -> anyhow::Result<Self> {
        let (node, node_toml) = start_node(args.bitcoind.as_deref(), folder).await?;
        // The tag of the pool that pays.
        let habits = Habits { prime_ids: PrimeIds::PerConnection, ..Habits::default() };
        let options = PoolOptions { habits, ..PoolOptions::default() };
        let pool = Pool::start(options, any_port()).await.context("starting the pool")?;
        say(&format!("pool      a DATUM pool with payout splits, at {}", pool.addr));
        let toml = config(&node_toml, &pool, &folder.0, args);
        let path = folder.0.join("gatewayd.toml");
        std::fs::write(&path, &toml).context("writing gatewayd.toml")?;
        write_password(&password_file(&folder.0)).context("writing the password")?;
        let config = Config { path: Some(path), ..Config::parse(&toml)? };
        let gateway = Gateway::start(&config).await?;
        let stratum = *gateway.stratum.first().context(
            "the gateway does not listen on any \
                                                        address",
        )?;
        say(&format!(
            "gateway   gatewayd, on {stratum}: point your own miner at stratum+tcp://{stratum}"
        ));
        let authority = gateway.authority;
        say(&format!("          (Stratum V2: stratum2+tcp://{stratum}/{authority})"));
        if let Some(api) = &gateway.front.api
            && let Ok(Some(addr)) = tokio::time::timeout(API_WAIT, api.addr()).await
        {
            say(&format!("dashboard http://{addr}/ (password: {PASSWORD})"));
        }
        let miners: std::io::Result<_> = (0..args.miners)
            .map(|n| Ok((protocol_of(n), start_miner(n, args.miners, stratum, authority)?)))
            .collect();
        say(&format!(
            "miners    {} on this machine's processor, over real TCP: Stratum V1, V2 standard, V2 \
             extended",
            args.miners
        ));
        say("");
        let now = now();
        let miners = miners.context("starting the miners")?;
        Ok(Self { node, pool, gateway, miners, started: now, block_told: None, told_at: now })
    }

    /// Reports new blocks and, every few seconds, progress.
    fn tell_news(&mut self) {
        let at = self.started.elapsed().as_secs();
        let reports = self.gateway.blocks.recent();
        let told = reports.iter().position(|report| Some(report.hash) == self.block_told);
        for report in reports.iter().skip(told.map_or(0, |told| told + 1)) {
            self.block_told = Some(report.hash);
            let outcome =
                if report.is_accepted() { "accepted by the node" } else { "NOT accepted" };
            say(&format!("{at:4} s    block {} found, {outcome}: {}", report.height, report.hash));
        }
        if self.told_at.elapsed() < TELL_EACH {
            return;
        }
        self.told_at = now();
        let view = self.gateway.counters.view();
        let pool = self.pool.stats();
        say(&format!(
            "{at:4} s    {} miners, {} shares accepted ({} by the pool), {} rejected, {} blocks",
            view.connections,
            view.accepted,
            pool.accepted,
            view.rejected_total(),
            self.gateway.blocks.accepted(),
        ));
    }

    /// Stops in an order in which nothing is lost, then adds up.
    async fn stop(self) -> Summary {
        say("");
        say("stopping  the miners first, then everything still on its way");
        let mut summary = Summary::default();
        for (protocol, miner) in self.miners {
            let stats = miner.stop().await;
            match summary.miners.iter_mut().find(|(of, _)| *of == protocol) {
                Some((_, total)) => total.add(&stats),
                None => summary.miners.push((protocol, stats)),
            }
        }
        let (blocks, counters) = (self.gateway.blocks.clone(), self.gateway.counters.clone());
        let relay = self.gateway.pool.borrow().clone();
        let splits = PoolConfig::sample_splits(SPLITS);
        self.gateway.stop().await;
        summary.blocks = blocks.accepted();
        summary.blocks_found = blocks.found();
        // One that lost against another block of this network is not a failure.
        let refused = |report: &&BlockReport| {
            report.answers.iter().any(|(_, answer)| matches!(answer, BlockOutcome::Rejected(_)))
        };
        summary.blocks_refused = blocks.recent().iter().filter(refused).count() as u64;
        summary.gateway_accepted = counters.view().accepted;
        let pool = self.pool.stats();
        summary.pool_accepted = pool.accepted;
        summary.pool_rejected = pool.rejected;
        summary.lost = relay.map_or(0, |relay| relay.stats.view().lost_total());
        summary.splits_paid = match &self.node {
            DemoNode::Embedded(node) => {
                let blocks = node.blocks();
                let outputs = blocks.iter().flat_map(|block| &block.coinbase_outputs);
                let paid = |script: &[u8]| splits.iter().any(|split| split.script == script);
                outputs.filter(|(_, script)| paid(script)).count()
            }
            DemoNode::Real(_) => pool.splits_max,
        };
        summary
    }
}

/// The results.
#[derive(Debug, Default)]
struct Summary {
    /// By protocol.
    miners: Vec<(MinerProtocol, MinerStats)>,
    gateway_accepted: u64,
    pool_accepted: u64,
    pool_rejected: u64,
    lost: u64,
    blocks: u64,
    blocks_found: u64,
    blocks_refused: u64,
    splits_paid: usize,
}

impl Summary {
    fn is_good(&self) -> bool {
        self.miners.iter().all(|(_, stats)| self.is_good_for(stats))
            && self.pool_rejected == 0
            && self.lost == 0
            && self.blocks > 0
            && self.blocks_refused == 0
            && self.splits_paid > 0
            && self.pool_accepted == self.gateway_accepted
    }

    /// Whether the miners of one protocol did well.
    fn is_good_for(&self, stats: &MinerStats) -> bool {
        let has_luck = stats.blocks_hint > 0 || self.blocks_found < BLOCKS_TELLING;
        stats.rejected == 0 && stats.disconnects == 0 && stats.accepted > 0 && has_luck
    }

    fn tell(&self) {
        say("");
        for (at, (protocol, stats)) in self.miners.iter().enumerate() {
            let head = if at == 0 { "shares" } else { "" };
            let name = match protocol {
                MinerProtocol::Sv1 => "Stratum V1",
                MinerProtocol::Sv2Standard => "V2 standard",
                MinerProtocol::Sv2Extended => "V2 extended",
            };
            say(&format!(
                "{head:10}{name}: {} accepted, {} rejected, {} good for a block",
                stats.accepted, stats.rejected, stats.blocks_hint
            ));
        }
        let late: u64 = self.miners.iter().map(|(_, stats)| stats.late).sum();
        if late > 0 {
            say(&format!(
                "          {late} came too late: sent at the moment when another block was found"
            ));
        }
        say(&format!(
            "pool      {} accepted, {} rejected, {} lost in transit",
            self.pool_accepted, self.pool_rejected, self.lost
        ));
        say(&format!(
            "blocks    {} found, {} accepted by the node",
            self.blocks_found, self.blocks
        ));
        say(&format!("payouts   {} outputs paid the pool's splits", self.splits_paid));
        say(if self.is_good() { "all went well" } else { "something went wrong: see above" });
    }
}

async fn start_node(
    bitcoind: Option<&Path>,
    folder: &Folder,
) -> anyhow::Result<(DemoNode, String)> {
    if let Some(path) = bitcoind {
        let node = RealNode::start(path, &folder.0.join("bitcoind"))
            .with_context(|| format!("starting {}", path.display()))?;
        say(&format!("node      {} on regtest, at {}", path.display(), node.rpc_url()));
        let toml = format!(
            "[[node]]\nrpc_url = {:?}\nrpc_cookie_file = {:?}\n",
            node.rpc_url(),
            node.cookie_file()
        );
        return Ok((DemoNode::Real(node), toml));
    }
    let nbits = Nbits::new(NBITS).context("the demo's own nbits")?;
    let options = NodeOptions { nbits, ..NodeOptions::default() };
    let node = Node::start(options, any_port()).await.context("starting the node")?;
    say(&format!("node      a Bitcoin node on a network of its own, at {}", node.rpc_url()));
    let toml = format!(
        "[[node]]\nrpc_url = {:?}\nrpc_user = {:?}\nrpc_password = {:?}\n",
        node.rpc_url(),
        node.user(),
        node.password()
    );
    Ok((DemoNode::Embedded(node), toml))
}

fn config(node: &str, pool: &PoolHandle, folder: &Path, args: &DemoArgs) -> String {
    let api = args.api.unwrap_or_else(free_port);
    let password_file = password_file(folder);
    // On a real node's regtest every share is a block.
    let difficulty = if args.bitcoind.is_some() { DIFFICULTY_REGTEST } else { DIFFICULTY };
    format!(
        r#"
        {node}
        [template]
        refresh = "5s"
        [mining]
        address = "{ADDRESS}"
        [[pool]]
        host = "{}"
        port = {}
        public_key = "{}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = {difficulty}
        difficulty_start = {difficulty}
        shares_per_minute = 30
        [api]
        listen = "{api}"
        admin_password_file = {password_file:?}
        [ledger]
        data_dir = {folder:?}
        "#,
        pool.addr.ip(),
        pool.addr.port(),
        pool.public_key_hex(),
    )
}

fn protocol_of(n: u16) -> MinerProtocol {
    match n % 3 {
        0 => MinerProtocol::Sv1,
        1 => MinerProtocol::Sv2Standard,
        _ => MinerProtocol::Sv2Extended,
    }
}

/// User agents of real miners, so that all coinbase classes are used.
fn start_miner(
    n: u16,
    of: u16,
    connect: SocketAddr,
    authority: AuthorityPublicKey,
) -> std::io::Result<MinerHandle> {
    let agents: &[_] = match protocol_of(n) {
        MinerProtocol::Sv1 => {
            &["cpuminer/2.5", "Antminer S21/demo", "NiceHash/1.0", "xminer-1.2", "whatsminer/v1.1"]
        }
        MinerProtocol::Sv2Standard | MinerProtocol::Sv2Extended => {
            &["bitaxe/v2.15.0", "translator/0.6"]
        }
    };
    Miner::start(MinerOptions {
        connect: connect.to_string(),
        protocol: protocol_of(n),
        authority: Some(authority),
        username: format!("{ADDRESS}.miner{n}"),
        user_agent: agents[usize::from(n / 3) % agents.len()].to_owned(),
        hashrate_max: Some(HASHRATE / f64::from(of)),
        ..MinerOptions::default()
    })
}

/// A temporary folder, removed with the demo.
struct Folder(PathBuf);

impl Folder {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("gatewayd-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing in it is needed any more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn password_file(folder: &Path) -> PathBuf {
    folder.join("password")
}

fn write_password(path: &Path) -> std::io::Result<()> {
    std::fs::write(path, PASSWORD)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// The dashboard's usual address, or another if that is taken.
fn free_port() -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, API_PORT));
    if std::net::TcpListener::bind(usual).is_ok() { usual } else { any_port() }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Standard output is for the demo's report; logs go to standard error.
fn say(line: &str) {
    // A closed pipe is not a reason to stop mining.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What a pool has by default.
const SPLITS: u8 = 20;
/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
/// Hashes per second of all miners together: leaves room for everything else on two cores.
const HASHRATE: f64 = 4_000_000.0;
/// A share every three seconds for each of six miners.
const DIFFICULTY: f64 = 0.000_488_281_25;
/// One share in four is a block: one every two seconds.
const NBITS: u32 = 0x1e01_fffe;
/// After this many blocks, a third of the hashes without one is no longer bad luck (1 in 16,000).
const BLOCKS_TELLING: u64 = 24;
/// On a real node's regtest every share is a block.
const DIFFICULTY_REGTEST: f64 = 0.001_953_125;
const API_PORT: u16 = 7152;
/// The dashboard's password: not a secret, since nothing here has any value.
const PASSWORD: &str = "demo-password";
/// Binding is instant, but a thread has to start.
const API_WAIT: Duration = Duration::from_secs(2);
const TELL_EACH: Duration = Duration::from_secs(10);
