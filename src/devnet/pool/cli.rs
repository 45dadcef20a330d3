//! `gatewayd devnet pool`: the pool as a program of its own.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{RngCore, rngs::OsRng};

use super::{Coinbasers, Habits, Pool, PoolConfig, PoolHandle, PoolOptions, PrimeIds};
use crate::{datum::Identity, devnet::miner::cli_duration};

/// Runs a DATUM pool that pays in worthless coins.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PoolArgs {
    /// Where gateways connect.
    #[arg(long, default_value = "127.0.0.1:28915")]
    pub(crate) listen: SocketAddr,
    /// The pool's tag in coinbases.
    #[arg(long, default_value = "devnet pool")]
    pub(crate) tag: String,
    /// Minimum share difficulty, a power of two. 0: none, and shares below 1 count too.
    #[arg(long, default_value_t = 0)]
    pub(crate) min_difficulty: u64,
    /// The file for the long-term keys, created if missing. Without it, each run has new keys.
    #[arg(long)]
    pub(crate) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) habits: HabitArgs,
    /// Drop all connections this long after the start and after each return, like 60s, and stay
    /// away for --away-for. Nothing that was counted is forgotten.
    #[arg(long, value_name = "TIME", value_parser = cli_duration, requires = "away_for")]
    pub(crate) away_every: Option<Duration>,
    /// How long the pool stays away, like 4s.
    #[arg(long, value_name = "TIME", value_parser = cli_duration, requires = "away_every")]
    pub(crate) away_for: Option<Duration>,
}

/// How the pool treats gateways. Without any of these options, it is as lenient as a pool can be.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "What real pools do")]
pub(crate) struct HabitArgs {
    /// Behave like OCEAN's pool, as far as known: --prime-id-per-connection, --bound-splits,
    /// --void-unchecked and --blank-rejections together.
    #[arg(long)]
    pub(crate) like_ocean: bool,
    /// Give each connection its own prime id, and refuse work made with another.
    #[arg(long)]
    pub(crate) prime_id_per_connection: bool,
    /// Refuse work that pays a split on another connection, tip or value than the split was given
    /// for. Such work is counted at the end in any case.
    #[arg(long)]
    pub(crate) bound_splits: bool,
    /// When a check of a template fails, take back the shares accepted since the last successful
    /// one.
    #[arg(long)]
    pub(crate) void_unchecked: bool,
    /// Send target byte 0xFF with every rejection, instead of the share's own.
    #[arg(long)]
    pub(crate) blank_rejections: bool,
    /// Do not answer every Nth share, although it counts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) unanswered_every: u32,
    /// Answer every share with this status, like 0x77, regardless of the verdict. Gateways know
    /// 0x50 (accepted), 0x55 (accepted tentatively) and 0x66 (rejected).
    #[arg(long, value_name = "BYTE", value_parser = byte)]
    pub(crate) status: Option<u8>,
    /// Delay splits by this long, like 3s. Gateways wait up to 5 s.
    #[arg(long, value_name = "TIME", value_parser = cli_duration)]
    pub(crate) coinbaser_delay: Option<Duration>,
    /// Never send a split.
    #[arg(long, conflicts_with = "coinbaser_delay")]
    pub(crate) no_coinbaser: bool,
}

impl HabitArgs {
    fn habits(self) -> Habits {
        let ocean = if self.like_ocean { Habits::like_ocean() } else { Habits::default() };
        Habits {
            prime_ids: if self.prime_id_per_connection {
                PrimeIds::PerConnection
            } else {
                ocean.prime_ids
            },
            bound_splits: self.bound_splits || ocean.bound_splits,
            voids_unchecked: self.void_unchecked || ocean.voids_unchecked,
            unanswered_every: self.unanswered_every,
            blank_rejections: self.blank_rejections || ocean.blank_rejections,
            status: self.status,
            coinbasers: match self.coinbaser_delay {
                _ if self.no_coinbaser => Coinbasers::Never,
                Some(delay) => Coinbasers::After(delay),
                None => Coinbasers::AtOnce,
            },
        }
    }
}

/// A byte in decimal or, after 0x, in hex.
fn byte(text: &str) -> Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write one byte, like 0x77 or 119".into())
}

/// Runs until Ctrl-C or SIGTERM.
pub(crate) async fn run_cli(args: PoolArgs) -> io::Result<()> {
    let identity = args.key_file.as_deref().map(read_or_make_keys).transpose()?;
    let config = PoolConfig {
        tag: args.tag.into_bytes(),
        min_difficulty: args.min_difficulty,
        ..PoolConfig::default()
    };
    let habits = args.habits.habits();
    let pool = Pool::start(
        PoolOptions { identity, config, habits, ..PoolOptions::default() },
        args.listen,
    )
    .await?;
    say(&pool.public_key_hex());
    say(&format!("listening protocol=datum addr={}", pool.addr));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        end = tokio::signal::ctrl_c() => end?,
        _ = terminate.recv() => {}
        () = report(&pool) => {}
        end = come_and_go(&pool, args.away_every.zip(args.away_for)) => end?,
    }
    say(&summary(&pool));
    for line in account(&pool) {
        say(&line);
    }
    pool.stop().await;
    Ok(())
}

/// Goes away now and then, forever, if configured.
async fn come_and_go(pool: &PoolHandle, away: Option<(Duration, Duration)>) -> io::Result<()> {
    let Some((every, absence)) = away else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(every).await;
        say(&format!("away for={}s", absence.as_secs_f64()));
        pool.leave_for(absence).await?;
        say("back");
    }
}

/// Prints a line every `SHARES_PER_LINE` shares and at each block, forever.
async fn report(pool: &PoolHandle) {
    let (mut shares_said, mut blocks_said) = (0, 0);
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let stats = pool.stats();
        let new = usize::try_from(stats.blocks - blocks_said).unwrap_or(usize::MAX);
        blocks_said = stats.blocks;
        let blocks = pool.recent_blocks();
        for block in blocks.iter().skip(blocks.len().saturating_sub(new)) {
            let (height, hash, user) = (block.height, block.hash, &block.username);
            say(&format!("block height={height} hash={hash} user={user}"));
        }
        let shares = (stats.accepted + stats.rejected) / SHARES_PER_LINE;
        if shares != shares_said {
            shares_said = shares;
            say(&summary(pool));
        }
    }
}

fn summary(pool: &PoolHandle) -> String {
    let stats = pool.stats();
    let reasons = stats.rejected_by.iter().map(|(why, n)| format!(" ({n} {})", why.name()));
    format!(
        "shares accepted={} rejected={}{} blocks={} gateways={} validated={} of {}",
        stats.accepted,
        stats.rejected,
        reasons.collect::<String>(),
        stats.blocks,
        stats.connections,
        stats.validations_ok,
        stats.validations_ok + stats.validations_failed,
    )
}

/// What is printed only at the end.
fn account(pool: &PoolHandle) -> Vec<String> {
    let stats = pool.stats();
    let splits = stats.splits_misused;
    let mut lines = vec![
        format!(
            "received blocks-flagged={} blocks-misflagged={} other-prime-id={} unanswered={}",
            stats.blocks_flagged,
            stats.blocks_misflagged,
            stats.foreign_prime_ids,
            stats.unanswered
        ),
        format!(
            "splits given={} misused={} (other connection={} tip={} value={})",
            stats.coinbasers,
            splits.total(),
            splits.of_other_connection,
            splits.of_other_tip,
            splits.of_other_value
        ),
        format!("voided shares={} difficulty={}", stats.voided.shares, stats.voided.difficulty),
    ];
    let flags = stats.shares_by_flags.iter();
    lines.extend(flags.map(|(flags, count)| format!("flags={flags} shares={count}")));
    let users = stats.accepted_by_user.iter();
    lines.extend(users.map(|(user, accepted)| format!("user={user} accepted={accepted}")));
    lines
}

/// Both secrets in 128 hex digits: Ed25519, then X25519.
fn read_or_make_keys(path: &Path) -> io::Result<Identity> {
    let mut secrets = [0; 64];
    match fs::read_to_string(path) {
        Ok(text) => {
            let digits = text.trim().as_bytes();
            let whole = digits.len() == 2 * secrets.len();
            if !whole || faster_hex::hex_decode(digits, &mut secrets).is_err() {
                let what = format!("{} does not contain a key of 128 hex digits", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OsRng.fill_bytes(&mut secrets);
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            writeln!(file, "{}", faster_hex::hex_string(&secrets))?;
        }
        Err(error) => return Err(error),
    }
    let (mut ed25519, mut x25519) = ([0; 32], [0; 32]);
    ed25519.copy_from_slice(&secrets[..32]);
    x25519.copy_from_slice(&secrets[32..]);
    Ok(Identity::from_secrets(&ed25519, x25519))
}

/// Prints a line on stdout. Nobody may be reading, which is not a reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

const REPORT_EVERY: Duration = Duration::from_millis(200);
const SHARES_PER_LINE: u64 = 100;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: PoolArgs,
    }

    fn habits(arguments: &str) -> Result<Habits, String> {
        let arguments = std::iter::once("pool").chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Ok(cli.args.habits.habits())
    }

    #[test]
    fn habits_are_as_the_arguments_say() {
        let kind = Habits::default();
        let after = Coinbasers::After(Duration::from_secs(3));
        let prime_ids = PrimeIds::PerConnection;
        for (arguments, expected) in [
            ("", kind),
            ("--like-ocean", Habits::like_ocean()),
            ("--prime-id-per-connection", Habits { prime_ids, ..kind }),
            ("--bound-splits", Habits { bound_splits: true, ..kind }),
            ("--void-unchecked", Habits { voids_unchecked: true, ..kind }),
            ("--blank-rejections", Habits { blank_rejections: true, ..kind }),
            ("--unanswered-every 3", Habits { unanswered_every: 3, ..kind }),
            ("--status 0x77", Habits { status: Some(0x77), ..kind }),
            ("--status 119", Habits { status: Some(0x77), ..kind }),
            ("--coinbaser-delay 3s", Habits { coinbasers: after, ..kind }),
            ("--no-coinbaser", Habits { coinbasers: Coinbasers::Never, ..kind }),
            ("--like-ocean --status 1", Habits { status: Some(1), ..Habits::like_ocean() }),
        ] {
            assert_eq!(habits(arguments), Ok(expected), "{arguments}");
        }
        for arguments in [
            "--status 256",
            "--status 0x",
            "--coinbaser-delay 3",
            "--no-coinbaser --coinbaser-delay 3s",
            "--away-every 60s",
            "--away-for 4s",
        ] {
            assert!(habits(arguments).is_err(), "{arguments}");
        }
    }

    #[test]
    fn a_key_file_is_created_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.key");
        let made = read_or_make_keys(&path).unwrap();
        assert_eq!(read_or_make_keys(&path).unwrap().public(), made.public());
        fs::write(&path, "abcd").unwrap();
        assert!(read_or_make_keys(&path).unwrap_err().to_string().contains("128 hex digits"));
    }
}
