//! `gatewayd check`: tries what the configuration names.

use std::{io::Write as _, path::Path, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::convert::{fits_network, template_config};
use crate::{config::Config, listener, template};

/// Tries what the configuration names, and says what it found. Returns the number of problems.
pub async fn check(config: &Config) -> usize {
    let mut problems = 0;
    let mut tell = |what: &str, result: Result<String, String>| {
        problems += usize::from(result.is_err());
        let (mark, text) = match &result {
            Ok(text) => ("ok     ", text),
            Err(text) => ("PROBLEM", text),
        };
        // The terminal may be gone; the exit code still tells.
        let _ = writeln!(std::io::stdout(), "{mark} {what}: {text}");
    };
    tell("configuration", Ok("every key is understood".into()));
    if config.mining.address.is_none() {
        let missing = "is missing: set it to your bitcoin address, here or on the dashboard";
        tell("mining.address", Err(missing.into()));
    }
    for addr in &config.stratum.listen {
        let bound = listener::bind(*addr);
        tell(
            &format!("stratum.listen {addr}"),
            bound.map(|_| "free".into()).map_err(|error| {
                format!("{error}: stop what uses it (a running gatewayd?) or set another address")
            }),
        );
    }
    tell("ledger.data_dir", try_folder(&config.data_dir, "found blocks could not be kept"));
    tell("stratum.sv2", authority(config));
    if let Some(file) = &config.log.file {
        let folder = file.parent().unwrap_or(file);
        tell("log.file", try_folder(folder, "the log could not be written"));
    }
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let templates = template::spawn(template_config(config), &stop, &tasks);
    let _ = tokio::time::timeout(CHECK_NODES, async {
        let mut status = templates.status.clone();
        let all = |nodes: &Vec<template::NodeStatus>| nodes.iter().all(is_ready);
        let _ = status.wait_for(all).await;
    })
    .await;
    for node in templates.status.borrow().iter() {
        let result = match (node.network, &node.last_error) {
            (Some(network), _) if !fits_network(config, network) => {
                Err(format!("is on \"{network}\", mining.address is of another network"))
            }
            (Some(network), _) if is_ready(node) => Ok(format!("gives work, on \"{network}\"")),
            (Some(_), None) => Err(format!("answers, but gave no work within {CHECK_NODES:?}")),
            (_, Some(error)) => Err(error.to_string()),
            (None, None) => Err(format!("no answer within {CHECK_NODES:?}")),
        };
        tell(&format!("node {}", node.name), result);
    }
    stop.cancel();
    if config.pools.is_empty() {
        tell("pool", Ok("none: solo mining to mining.address".into()));
    }
    for pool in &config.pools {
        let addr = format!("{}:{}", pool.host, pool.port);
        let connected =
            tokio::time::timeout(CHECK_POOL, tokio::net::TcpStream::connect(&addr)).await;
        tell(
            &format!("pool {addr}"),
            match connected {
                Ok(Ok(_)) => Ok("accepts connections".into()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {CHECK_POOL:?}")),
            },
        );
    }
    problems
}

fn authority(config: &Config) -> Result<String, String> {
    super::authority::load_or_create(&super::identity::authority_file(config))
        .map(|key| format!("miners may check the authority key {}", key.public()))
        .map_err(|error| error.to_string())
}

fn is_ready(node: &template::NodeStatus) -> bool {
    node.network.is_some() && node.state == template::NodeState::Ready
}

fn try_folder(folder: &Path, or_else: &str) -> Result<String, String> {
    let probe = folder.join(".gatewayd-check");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("{} can be written to", folder.display()))
        .map_err(|error| format!("{}: {error}: {or_else}", folder.display()))
}

const CHECK_NODES: Duration = Duration::from_secs(5);
const CHECK_POOL: Duration = Duration::from_secs(5);
