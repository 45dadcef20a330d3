//! Stands for the devnet in builds without the feature `devnet`: packages, which carry no CPU miner
//! and no load generator. Its commands say where to get it.

use std::{ffi::OsString, process::ExitCode};

/// Not in this build.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// What it was to do, which this build does not ask.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

pub type DevnetArgs = DemoArgs;

pub async fn run_demo(_: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no demo: {WHERE}");
}

pub async fn run_devnet(_: DevnetArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("this build has no devnet: {WHERE}");
}

const WHERE: &str = "packages leave out its CPU miner and its load generator. `cargo build --release` in \
                     gatewayd's source tree builds target/release/gatewayd with it";
