//! Arguments, logging, exit codes.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use gatewayd::{
    config::{self, Config, ConfigError, Module},
    daemon, devnet,
    healthcheck::healthcheck,
    logging::{self, LogConfig},
};

/// A Bitcoin mining gateway: your node's templates, your miners, a DATUM pool.
#[derive(Parser)]
#[command(version, about, after_long_help = MORE, max_term_width = 100)]
struct Args {
    /// Where the configuration is [default: gatewayd.toml; where there is none, `run` starts set-up].
    #[arg(long, short, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the gateway (the default).
    Run,
    /// Reports all that is wrong with the configuration, then tries nodes, pools, paths and ports.
    Check(CheckArgs),
    /// Prints a configuration with every key, its default and its meaning.
    ExampleConfig,
    /// Converts a datum_gateway configuration into gatewayd.toml and prints it.
    ImportDatum {
        /// datum_gateway's configuration.
        file: PathBuf,
    },
    /// Runs a whole network in this process and mines on it: nothing else is needed.
    #[cfg_attr(not(feature = "devnet"), command(hide = true))]
    Demo(devnet::DemoArgs),
    /// Parts of a test network, one at a time.
    #[cfg_attr(not(feature = "devnet"), command(hide = true))]
    Devnet(devnet::DevnetArgs),
    /// Asks a running gateway whether miners get work: exits with 0, or says why they do not (for
    /// Docker).
    Healthcheck,
    /// Writes man pages and shell completions into a folder, for packages.
    #[command(hide = true)]
    Generate { folder: PathBuf },
}

#[derive(clap::Args)]
struct CheckArgs {
    /// One miner's hashrate, like 1.2T or 500GH/s: says where it would find less than a share an
    /// hour.
    #[arg(long, value_parser = daemon::parse_hashrate)]
    hashrate: Option<f64>,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let help = !error.use_stderr();
            // Printing can only fail if nobody reads it.
            let _ = error.print();
            return if help { ExitCode::SUCCESS } else { ExitCode::from(EXIT_USAGE) };
        }
    };
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gatewayd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: Args) -> anyhow::Result<ExitCode> {
    let file = ConfigFile {
        is_named: args.config.is_some(),
        path: args.config.unwrap_or_else(default_config),
    };
    match args.command.unwrap_or(Command::Run) {
        Command::Run => with_config(file.or_first(), |config| {
            let logging = Arc::new(logging::init(&config.log)?);
            keep_files_private();
            match runtime()?.block_on(daemon::run(config, Arc::clone(&logging))) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) if error.is_configuration() => {
                    tracing::error!("{error}");
                    Ok(ExitCode::from(EXIT_CONFIG))
                }
                Err(error) => {
                    tracing::error!("{error}");
                    Ok(ExitCode::FAILURE)
                }
            }
        }),
        Command::Check(CheckArgs { hashrate }) => with_config(file.load(), |config| {
            let _logging = logging::init(&LogConfig::text("warn"))?;
            Ok(match runtime()?.block_on(daemon::check(&config, hashrate)) {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::from(EXIT_CONFIG),
            })
        }),
        Command::ExampleConfig => {
            say(config::EXAMPLE);
            Ok(ExitCode::SUCCESS)
        }
        Command::ImportDatum { file } => import_datum(&file),
        Command::Generate { folder } => generate(&folder),
        Command::Demo(demo) => {
            let _logging = logging::init(&LogConfig::text("warn"))?;
            runtime()?.block_on(devnet::run_demo(demo))
        }
        Command::Devnet(args) => {
            let _logging = logging::init(&LogConfig::text("info"))?;
            runtime()?.block_on(devnet::run_devnet(args))
        }
        Command::Healthcheck => with_config(file.or_first(), |config| {
            Ok(match healthcheck(&config, HEALTHCHECK_TIMEOUT) {
                Ok(well) => {
                    say(&format!("{well}\n"));
                    ExitCode::SUCCESS
                }
                Err(unwell) => {
                    eprintln!("gatewayd: {unwell}");
                    ExitCode::FAILURE
                }
            })
        }),
    }
}

/// What is created in data_dir is private: shares, names and found blocks, and whoever can read a
/// file can lock it.
fn keep_files_private() {
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

fn generate(folder: &Path) -> anyhow::Result<ExitCode> {
    let mut command = Args::command();
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command.clone(), folder)?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "gatewayd", folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the new configuration to standard output, and notes about it to standard error.
fn import_datum(file: &Path) -> anyhow::Result<ExitCode> {
    let name = file.display();
    let json = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    match config::import_datum(&json) {
        Ok(imported) => {
            say(&imported.toml);
            for note in imported.notes {
                eprintln!("{name}: {note}");
            }
            for problem in imported.problems {
                eprintln!("fix this before running gatewayd with it: {problem}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            for problem in problems {
                eprintln!("{name}: {problem}");
            }
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// Where the configuration is, or would be.
struct ConfigFile {
    path: PathBuf,
    /// By whoever started this: then it has to be there.
    is_named: bool,
}

impl ConfigFile {
    fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.path)
    }

    /// Whoever just starts gatewayd sets it up in a browser.
    fn or_first(&self) -> Result<Config, ConfigError> {
        if self.is_named { self.load() } else { Config::load_or_first(&self.path) }
    }
}

fn with_config(
    config: Result<Config, ConfigError>,
    then: impl FnOnce(Config) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    match config {
        Ok(config) => then(config),
        Err(error) => {
            eprintln!("{error}");
            Ok(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// In the current folder, or where blvm-node keeps its modules' data.
fn default_config() -> PathBuf {
    Module::of_environment()
        .and_then(|module| module.config())
        .unwrap_or_else(|| "gatewayd.toml".into())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn say(text: &str) {
    print!("{text}");
}

/// sysexits.h: the command was used incorrectly.
const EXIT_USAGE: u8 = 64;
/// sysexits.h: something was found in an unconfigured or misconfigured state.
const EXIT_CONFIG: u8 = 78;
/// Docker's own default limit is 30 s; a healthy gateway answers in milliseconds.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// What the man page says besides the options.
const MORE: &str = "\
Settings come from the configuration file, then from the environment: GATEWAYD_MINING__ADDRESS is \
mining.address. `gatewayd example-config` explains every key.

Signals: SIGTERM and SIGINT disconnect miners, deliver found blocks and shares, and exit. SIGHUP reads \
the configuration again. SIGUSR1 says that there is a new block (blocknotify).

Exit codes: 0 clean, 64 bad arguments, 78 bad configuration, 1 otherwise.";
