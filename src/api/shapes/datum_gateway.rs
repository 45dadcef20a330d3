//! datum_gateway 0.5.1's JSON, with its own names: people have scripts for it. Seen at Debian's
//! package, which `tests/it/datum_gateway_peer.rs` asks the same.

use serde::Serialize;
use utoipa::ToSchema;

#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerInfo {
    /// Always 1.
    pub(crate) active_thread: u32,
    pub(crate) total_connections: u64,
    /// Connections and Stratum V2 channels that get work.
    pub(crate) total_work_subscriptions: u64,
    /// Th/s.
    pub(crate) estimated_hashrate: f64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CurrentJob {
    pub(crate) block_height: u32,
    /// Sats that the coinbase pays.
    pub(crate) block_value: u64,
    pub(crate) previous_block: String,
    pub(crate) block_target: String,
    /// The script of the coinbase's output; "" before segwit and while only the header is known.
    pub(crate) witness_commitment: String,
    pub(crate) block_difficulty: f64,
    pub(crate) block_version: BlockVersion,
    pub(crate) bits: String,
    pub(crate) time: BlockTime,
    pub(crate) limits: BlockLimits,
    pub(crate) size: u32,
    pub(crate) weight: u32,
    pub(crate) sigops: u32,
    pub(crate) tx_count: u64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BlockVersion {
    pub(crate) int: u32,
    pub(crate) hex: String,
}

/// Unix seconds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BlockTime {
    pub(crate) current: u32,
    pub(crate) minimum: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BlockLimits {
    pub(crate) size: u32,
    pub(crate) weight: u32,
    pub(crate) sigops: u32,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ThreadStats {
    pub(crate) connection_count: u64,
    pub(crate) subscription_count: u64,
    /// Th/s.
    pub(crate) approx_hashrate: f64,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StratumClient {
    /// Without the port.
    pub(crate) remote_host: String,
    /// The name that it last sent a share with; "" before its first.
    pub(crate) auth_username: String,
    pub(crate) subscribed: bool,
    /// gatewayd's number of it, in hex.
    pub(crate) sid: String,
    /// Seconds since it came.
    pub(crate) sid_time: f64,
    /// Seconds since its last share; -1: none yet.
    pub(crate) last_share: f64,
    /// Rounded, and 1 at least.
    pub(crate) vdiff: u64,
    pub(crate) accepted_diff: u64,
    pub(crate) accepted_count: u64,
    /// `rejected_count` at the present difficulty.
    pub(crate) rejected_diff: u64,
    pub(crate) rejected_count: u64,
    pub(crate) rejected_percentage: f64,
    pub(crate) hash_rate: ClientHashrate,
    /// Seconds that `hash_rate` is old: 0, or -1 without one.
    pub(crate) hash_rate_age: f64,
    /// The C gateway's name of the class.
    pub(crate) coinbase: &'static str,
    pub(crate) useragent: String,
}

/// Th/s, or "N/A".
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ClientHashrate {
    Known(f64),
    Unknown(&'static str),
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Configuration {
    pub(crate) pool_address: String,
    pub(crate) miner_username_behavior: UsernameBehavior,
    pub(crate) coinbase_tag_secondary: String,
    pub(crate) coinbase_unique_id: u16,
    /// "require": only with a pool; "prefer": solo while it is away; "never": no pool.
    pub(crate) reward_sharing: &'static str,
    pub(crate) pool: UpstreamPool,
    pub(crate) fingerprint_miners: bool,
    pub(crate) always_pay_self: bool,
    pub(crate) work_update_seconds: u64,
    /// Of the first node.
    pub(crate) rpcurl: String,
    pub(crate) rpcuser: String,
    pub(crate) rpcpassword_set: bool,
    /// Always "": nothing is changed here.
    pub(crate) csrf_token: &'static str,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct UsernameBehavior {
    pub(crate) pool_pass_workers: bool,
    pub(crate) pool_pass_full_users: bool,
}

/// The first pool; "" and 0 without one.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct UpstreamPool {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) pubkey: String,
}

/// What stands there instead.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    pub(crate) error: &'static str,
}

/// Work, or why there is none: the C gateway answers 200 either way.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum CurrentJobAnswer {
    Job(Box<CurrentJob>),
    None(Problem),
}
