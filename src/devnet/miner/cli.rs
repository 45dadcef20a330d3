//! `gatewayd devnet miner`.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};

use tokio::time::{Instant, interval_at, sleep};

use super::{Miner, MinerHandle, MinerOptions, MinerProtocol, MinerStats};
use crate::{config::parse_duration, sv2::noise::AuthorityPublicKey};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct MinerArgs {
    /// Where to mine, as HOST:PORT.
    #[arg(long, value_name = "ADDR")]
    pub(crate) connect: String,
    /// Which protocol to use.
    #[arg(long, value_enum, default_value_t = MinerProtocol::Sv1)]
    pub(crate) protocol: MinerProtocol,
    /// With Stratum V2: the authority key that the server must have, which it prints when it
    /// starts. Without it, any server is trusted.
    #[arg(long, value_name = "KEY")]
    pub(crate) authority: Option<AuthorityPublicKey>,
    /// The username; with several miners, each adds .1, .2, ...
    #[arg(long, value_name = "NAME", default_value = "miner")]
    pub(crate) user: String,
    #[arg(long, default_value = "x")]
    pub(crate) password: String,
    /// The user agent to send.
    #[arg(long)]
    pub(crate) user_agent: Option<String>,
    /// How many miners, each with its own connection and thread.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) miners: u16,
    /// Stop after this long, like 60s. Default: until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = cli_duration)]
    pub(crate) run_for: Option<Duration>,
    /// Hashes per second of each miner, at most.
    #[arg(long, value_name = "RATE")]
    pub(crate) hashrate_max: Option<f64>,
    #[arg(long, value_name = "DIFFICULTY")]
    pub(crate) suggest_difficulty: Option<f64>,
    /// Do not roll the version.
    #[arg(long)]
    pub(crate) no_version_rolling: bool,
}

/// Mines, and reports every few seconds. Fails if a share was rejected that was not merely late.
pub(crate) async fn run_cli(args: MinerArgs) -> ExitCode {
    let miners = match start(&args) {
        Ok(miners) => miners,
        Err(error) => {
            say(&format!("cannot start miners: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let began = Instant::now();
    watch(&miners, args.run_for, began).await;
    let mut total = MinerStats::default();
    // All at once, as each may wait for its last answers.
    let stopping: Vec<_> = miners.into_iter().map(|miner| tokio::spawn(miner.stop())).collect();
    for stopping in stopping {
        total.add(&stopping.await.unwrap_or_default());
    }
    say(&format!("total: {}", line(&total, total.hashes, began.elapsed())));
    if total.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(args: &MinerArgs) -> io::Result<Vec<MinerHandle>> {
    let miner = |number: u16| {
        let several = args.miners > 1;
        let username = if several { format!("{}.{number}", args.user) } else { args.user.clone() };
        let defaults = MinerOptions::default();
        Miner::start(MinerOptions {
            connect: args.connect.clone(),
            protocol: args.protocol,
            authority: args.authority,
            username,
            password: args.password.clone(),
            user_agent: args.user_agent.clone().unwrap_or(defaults.user_agent),
            version_rolling: !args.no_version_rolling,
            suggest_difficulty: args.suggest_difficulty,
            hashrate_max: args.hashrate_max,
            ..MinerOptions::default()
        })
    };
    (1..=args.miners).map(miner).collect()
}

/// Reports until time is up or the user presses Ctrl-C.
async fn watch(miners: &[MinerHandle], run_for: Option<Duration>, began: Instant) {
    let mut report = interval_at(began + REPORT_INTERVAL, REPORT_INTERVAL);
    let end = sleep(run_for.unwrap_or(FOR_EVER));
    tokio::pin!(end);
    let mut hashes_before = 0;
    loop {
        tokio::select! {
            () = &mut end => return,
            // Without the signal there is no Ctrl-C to wait for.
            Ok(()) = tokio::signal::ctrl_c() => return,
            _ = report.tick() => {
                let mut total = MinerStats::default();
                miners.iter().for_each(|miner| total.add(&miner.stats()));
                say(&line(&total, total.hashes - hashes_before, REPORT_INTERVAL));
                hashes_before = total.hashes;
            }
        }
    }
}

fn line(total: &MinerStats, hashes: u64, time: Duration) -> String {
    let megahashes = hashes as f64 / time.as_secs_f64().max(0.001) / 1e6;
    format!("{megahashes:.2} MH/s, {total}")
}

fn say(line: &str) {
    // If our stdout was closed, nobody wants to read this.
    let _ = writeln!(io::stdout(), "{line}");
}

/// `60s`, `5m`, `1h`: written as in gatewayd.toml.
pub(in crate::devnet) fn cli_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a number and s, m or h, like 60s".into())
}

const REPORT_INTERVAL: Duration = Duration::from_secs(5);
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);
