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

use super::{Pool, PoolConfig, PoolHandle, PoolOptions};
use crate::datum::Identity;

/// Runs a DATUM pool that pays in coins of no value.
#[derive(Clone, Debug, clap::Args)]
pub struct PoolArgs {
    /// Where gateways connect.
    #[arg(long, default_value = "127.0.0.1:28915")]
    pub listen: SocketAddr,
    /// The pool's tag in coinbases.
    #[arg(long, default_value = "devnet pool")]
    pub tag: String,
    /// Least difficulty of a share, a power of two. 0: none, and shares below 1 count.
    #[arg(long, default_value_t = 0)]
    pub min_difficulty: u64,
    /// Where the long-term keys are kept; made there when there are none. Without it, each run
    /// has its own.
    #[arg(long)]
    pub key_file: Option<PathBuf>,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run_cli(args: PoolArgs) -> io::Result<()> {
    let identity = args.key_file.as_deref().map(read_or_make_keys).transpose()?;
    let config = PoolConfig {
        tag: args.tag.into_bytes(),
        min_difficulty: args.min_difficulty,
        ..PoolConfig::default()
    };
    let pool = Pool::start(PoolOptions { identity, config }, args.listen).await?;
    say(&pool.public_key_hex());
    say(&format!("listening protocol=datum addr={}", pool.addr));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        end = tokio::signal::ctrl_c() => end?,
        _ = terminate.recv() => {}
        () = report(&pool) => {}
    }
    say(&summary(&pool));
    for (user, accepted) in &pool.stats().accepted_by_user {
        say(&format!("user={user} accepted={accepted}"));
    }
    pool.stop().await;
    Ok(())
}

/// Says something each `SHARES_PER_LINE` shares and at each block, for ever.
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

/// Both secrets in 128 hex digits: Ed25519, then X25519.
fn read_or_make_keys(path: &Path) -> io::Result<Identity> {
    let mut secrets = [0; 64];
    match fs::read_to_string(path) {
        Ok(text) => {
            let digits = text.trim().as_bytes();
            let whole = digits.len() == 2 * secrets.len();
            if !whole || faster_hex::hex_decode(digits, &mut secrets).is_err() {
                let what = format!("{} has no key of 128 hex digits", path.display());
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

/// A line on stdout. Nobody may be reading; that is no reason to stop.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

const REPORT_EVERY: Duration = Duration::from_millis(200);
const SHARES_PER_LINE: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pool.key");
        let made = read_or_make_keys(&path).unwrap();
        assert_eq!(read_or_make_keys(&path).unwrap().public(), made.public());
        fs::write(&path, "abcd").unwrap();
        assert!(read_or_make_keys(&path).unwrap_err().to_string().contains("128 hex digits"));
    }
}
