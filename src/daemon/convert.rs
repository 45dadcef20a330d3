//! From the configuration to what each part wants to know.

use std::sync::Arc;

use bitcoin::Network;

use crate::{
    config::{self, Config},
    datum, node, stratum, template,
    work::{AssemblerConfig, CoinbaseClass, Payout, Username},
};

pub(super) fn node_config(node: &config::Node) -> node::NodeConfig {
    node::NodeConfig {
        name: node.name.as_str().into(),
        rpc_url: node.rpc_url.clone(),
        auth: match &node.auth {
            config::NodeAuth::Cookie(path) => node::Auth::CookieFile(path.clone()),
            config::NodeAuth::Password { user, password } => {
                node::Auth::UserPass(user.clone(), password.expose().to_owned())
            }
        },
        zmq_hashblock: node.zmq_hashblock.clone(),
        submit_only: node.submit_only,
        kind: match &node.kind {
            config::NodeKind::Bitcoind => node::NodeKind::Bitcoind,
            config::NodeKind::Blvm { nodeapi_socket } => node::NodeKind::Blvm(node::BlvmConfig {
                nodeapi_socket: nodeapi_socket.clone(),
                module_id: config::Module::of_environment()
                    .map_or_else(|| "gatewayd".into(), |module| module.id.into()),
            }),
        },
    }
}

pub(super) fn template_config(config: &Config) -> template::TemplateConfig {
    template::TemplateConfig {
        nodes: config.nodes.iter().map(node_config).collect(),
        refresh: config.template.refresh,
        allow_rules: config.template.allow_rules.iter().map(|it| it.as_str().into()).collect(),
        chains: CHAINS.into_iter().filter(|chain| fits_network(config, *chain)).collect(),
    }
}

/// The scriptPubKey of `mining.address`; none: it is not set yet.
pub(super) fn own_script(config: &Config) -> Option<Box<[u8]>> {
    let payout = config.mining.address.as_ref()?;
    let script = payout.address.clone().assume_checked().script_pubkey();
    Some(script.into_bytes().into())
}

/// Whether blocks on this network can pay `mining.address`.
pub(super) fn fits_network(config: &Config, network: Network) -> bool {
    let payout = config.mining.address.as_ref();
    payout.is_none_or(|payout| payout.address.is_valid_for_network(network))
}

/// As names are told to the pool, and whose shares without one are.
fn own_name(config: &Config) -> &str {
    config.mining.address.as_ref().map_or("", |payout| &payout.text)
}

/// None: there is no `mining.address` yet.
pub(super) fn solo_payout(config: &Config) -> Option<Payout> {
    Some(Payout {
        script: own_script(config)?,
        tag_primary: config.mining.coinbase_tag.as_bytes().into(),
        tag_secondary: config.mining.coinbase_tag_secondary.as_bytes().into(),
        unique_id: config.mining.unique_id,
        own_script: None,
        pooled: None,
    })
}

pub(super) fn assembler_config(
    config: &Config,
    network: Option<Network>,
) -> Option<AssemblerConfig> {
    Some(AssemblerConfig {
        solo: Arc::new(solo_payout(config)?),
        pooled: !config.pools.is_empty(),
        when_down: config.pooling.when_down,
        grace: config.pooling.hold_shares,
        reconnect_grace: config.pooling.reconnect_grace,
        refresh: config.template.refresh,
        stale_after: config.template.stale_after,
        halving_interval: network.and_then(node::empty_blocks),
        job_life: config.stratum.stale_after + config.template.refresh,
        propose: config.template.propose,
    })
}

pub(super) fn datum_config(config: &Config) -> datum::DatumConfig {
    let pooling = &config.pooling;
    let pools = config.pools.iter().map(|pool| datum::PoolConfig {
        host: pool.host.clone(),
        port: pool.port,
        public_key: datum::PublicIdentity::from_bytes(&pool.public_key),
    });
    let modifiers = pooling.modifiers.iter();
    datum::DatumConfig {
        usernames: match pooling.usernames {
            config::Usernames::Full => datum::UsernameMode::Full,
            config::Usernames::Worker => datum::UsernameMode::Worker,
            config::Usernames::Address => datum::UsernameMode::Address,
        },
        modifiers: modifiers
            .map(|(name, parts)| datum::Modifier { name: name.clone(), parts: parts.clone() })
            .collect(),
        own_script: own_script(config).filter(|_| pooling.always_pay_self),
        hold_shares: pooling.hold_shares,
        memory_file: Some(config.data_dir.join(POOL_MEMORY)),
        timeout: pooling.timeout,
        user_agent: pooling.user_agent.clone(),
        tag_secondary: config.mining.coinbase_tag_secondary.as_bytes().into(),
        unique_id: config.mining.unique_id,
        ..datum::DatumConfig::new(pools.collect(), own_name(config).into())
    }
}

/// The rules of the `at`th [[stratum.port]]; none: it is gone.
pub(super) fn port_config(config: &Config, at: usize) -> Option<stratum::Config> {
    let port = config.stratum.ports.get(at)?;
    let all = stratum_config(config);
    let difficulty_min = port.difficulty_min.unwrap_or(all.difficulty_min);
    Some(stratum::Config {
        difficulty_min,
        // Where small miners have a port, they begin small.
        difficulty_start: port
            .difficulty_start
            .or(port.difficulty_min)
            .unwrap_or(all.difficulty_start),
        difficulty_max: port.difficulty_max.or(all.difficulty_max),
        class_most: port.max_coinbase.map(CoinbaseClass::within),
        ..all
    })
}

pub(super) fn stratum_config(config: &Config) -> stratum::Config {
    let stratum = &config.stratum;
    let rules = stratum.classes.iter().map(|class| {
        stratum::ClassRule::within(&class.pattern, class.max_coinbase, class.difficulty_min)
    });
    stratum::Config {
        difficulty_min: stratum.difficulty_min,
        difficulty_start: stratum.difficulty_start,
        difficulty_max: stratum.difficulty_max,
        worker_difficulty: stratum
            .worker_difficulty
            .iter()
            .map(|(worker, difficulty)| (worker.as_str().into(), *difficulty))
            .collect(),
        shares_per_minute: stratum.shares_per_minute,
        stale_after: stratum.stale_after,
        refresh: config.template.refresh,
        login_timeout: stratum.login_timeout,
        idle_timeout: stratum.idle_timeout,
        classes: stratum::Classes::new(stratum.fingerprint, rules.collect()),
        pooled_version_mask: config.pooling.version_mask,
        class_most: None,
        dashboard: config.api.listen.filter(|addr| addr.port() != 0),
        default_username: Username(own_name(config).into()),
    }
}

/// In `ledger.data_dir`: what was learnt of pools.
const POOL_MEMORY: &str = "pools.txt";
/// All that a node may be on.
const CHAINS: [Network; 5] =
    [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
