//! Replaces the devnet in builds without the feature `devnet`, such as packages, which contain no
//! CPU miner and no load generator. Its commands say where to get it.

use std::{ffi::OsString, process::ExitCode};

/// Not in this build.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// The arguments, which this build ignores.
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

const WHERE: &str = "packages leave out the CPU miner and the load generator. `cargo build \
                     --release` in gatewayd's source tree builds target/release/gatewayd with them";
