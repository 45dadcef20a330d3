//! datum_gateway 0.5.1's figures, as its own JSON has them: hashrates in Th/s, ages in seconds with -1
//! for "never", one thread. Not here: what gatewayd says in its own words.

use std::collections::BTreeMap;

use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::datum_gateway::{
            BlockLimits, BlockTime, BlockVersion, ClientHashrate, Configuration, CurrentJob,
            ServerInfo, StratumClient, ThreadStats, UpstreamPool, UsernameBehavior,
        },
    },
    books::roster::Miner,
    config::Raw,
    work::{CoinbaseClass, Template},
};

pub(crate) fn server_info(handles: &Handles) -> ServerInfo {
    ServerInfo {
        active_thread: 1,
        total_connections: handles.counters.view().connections,
        total_work_subscriptions: handles.roster.len() as u64,
        estimated_hashrate: handles.ledger.hashrate().m5 / TERA,
    }
}

/// None before there is work.
pub(crate) fn current_job(handles: &Handles) -> Option<CurrentJob> {
    let work = handles.work.borrow().clone()?;
    Some(describe(&work.latest().template))
}

fn describe(template: &Template) -> CurrentJob {
    let target = template.nbits.target();
    let commitment = template.witness_commitment.as_deref().unwrap_or_default();
    CurrentJob {
        block_height: template.height,
        block_value: template.coinbase_value,
        previous_block: template.prevhash.to_string(),
        block_target: format!("{target:?}"),
        witness_commitment: faster_hex::hex_string(commitment),
        block_difficulty: super::finite(target.difficulty()).unwrap_or(f64::MAX),
        block_version: BlockVersion {
            int: template.version,
            hex: format!("{:08x}", template.version),
        },
        bits: format!("{:08x}", template.nbits.get()),
        time: BlockTime { current: template.curtime, minimum: template.mintime },
        limits: BlockLimits {
            size: template.limits.size,
            weight: template.limits.weight,
            sigops: template.limits.sigops,
        },
        size: template.total_size,
        weight: template.total_weight,
        sigops: template.total_sigops,
        tx_count: template.transactions.len() as u64,
    }
}

/// Address -> sats in the largest coinbase of the latest work; empty before there is any.
pub(crate) fn coinbaser(handles: &Handles, moment: &Moment) -> BTreeMap<String, u64> {
    let mut paid = BTreeMap::new();
    let coinbases = super::work(handles, moment).job.map(|job| job.coinbases).unwrap_or_default();
    let largest = coinbases.into_iter().max_by_key(|coinbase| coinbase.outputs.len());
    for output in largest.map(|coinbase| coinbase.outputs).unwrap_or_default() {
        if let Some(address) = output.address {
            *paid.entry(address).or_default() += output.value_sats;
        }
    }
    paid
}

/// All in one thread: gatewayd's serve whichever miner is ready. Empty without miners.
pub(crate) fn thread_stats(handles: &Handles) -> BTreeMap<u32, ThreadStats> {
    let info = server_info(handles);
    if info.total_connections == 0 {
        return BTreeMap::new();
    }
    let stats = ThreadStats {
        connection_count: info.total_connections,
        subscription_count: info.total_work_subscriptions,
        approx_hashrate: info.estimated_hashrate,
    };
    BTreeMap::from([(THREAD, stats)])
}

/// By the roster's number: at most [`CLIENTS_MAX`] and some [`BYTES_MAX`], the oldest first.
pub(crate) fn clients(
    handles: &Handles,
    moment: &Moment,
) -> BTreeMap<u32, BTreeMap<u64, StratumClient>> {
    let mut all = handles.roster.miners();
    all.sort_unstable_by_key(|miner| miner.id);
    let (mut clients, mut bytes) = (BTreeMap::new(), 0);
    for miner in all.iter().take(CLIENTS_MAX) {
        let client = client(handles, miner, moment);
        bytes += CLIENT_LEN + client.auth_username.len() + client.useragent.len();
        if bytes > BYTES_MAX {
            break;
        }
        clients.insert(miner.id, client);
    }
    if clients.is_empty() { BTreeMap::new() } else { BTreeMap::from([(THREAD, clients)]) }
}

fn client(handles: &Handles, miner: &Miner, moment: &Moment) -> StratumClient {
    let (about, score) = (miner.about(), miner.score.view());
    let rejected = score.rejected_total();
    let submitted = score.accepted + rejected;
    let share_of =
        |part: u64| if submitted == 0 { 0.0 } else { 100.0 * part as f64 / submitted as f64 };
    let last_share = score.last_share.map(|since| handles.roster.began() + since);
    let hashrate = handles.ledger.miner_hashrate(miner.id).filter(|rates| rates.m5 > 0.0);
    let difficulty = whole(miner.difficulty()).max(1);
    StratumClient {
        remote_host: miner.peer.ip().to_canonical().to_string(),
        auth_username: about.workers.last().map(|name| name.0.to_string()).unwrap_or_default(),
        subscribed: true,
        sid: format!("{:08x}", miner.id),
        sid_time: moment.age_s(miner.connected),
        last_share: last_share.map_or(NEVER, |at| moment.age_s(at)),
        vdiff: difficulty,
        accepted_diff: whole(score.difficulty),
        accepted_count: score.accepted,
        rejected_diff: rejected.saturating_mul(difficulty),
        rejected_count: rejected,
        rejected_percentage: share_of(rejected),
        hash_rate_age: if hashrate.is_some() { 0.0 } else { NEVER },
        hash_rate: hashrate
            .map_or(ClientHashrate::Unknown("N/A"), |rates| ClientHashrate::Known(rates.m5 / TERA)),
        coinbase: coinbase_name(about.class),
        useragent: about.user_agent.into(),
    }
}

pub(crate) fn configuration(handles: &Handles) -> Configuration {
    let config = handles.config();
    let raw: &Raw = &config.written;
    let pool = config.datum.pools.first();
    let node = config.template.nodes.first();
    let (rpcuser, rpcpassword_set) = match node.map(|node| &node.auth) {
        Some(crate::node::Auth::UserPass(user, password)) => (user.clone(), !password.is_empty()),
        _ => (String::new(), false),
    };
    let reward_sharing = match (pool, raw.pooling.when_down.as_str()) {
        (None, _) => "never",
        (Some(_), "solo") => "prefer",
        (Some(_), _) => "require",
    };
    Configuration {
        pool_address: raw.mining.address.clone(),
        miner_username_behavior: UsernameBehavior {
            pool_pass_workers: raw.pooling.usernames != "address",
            pool_pass_full_users: raw.pooling.usernames == "full",
        },
        coinbase_tag_secondary: raw.mining.coinbase_tag_secondary.clone(),
        coinbase_unique_id: raw.mining.unique_id,
        reward_sharing,
        pool: UpstreamPool {
            host: pool.map(|pool| pool.host.clone()).unwrap_or_default(),
            port: pool.map_or(0, |pool| pool.port),
            pubkey: pool.map(|pool| pool.public_key.to_hex()).unwrap_or_default(),
        },
        fingerprint_miners: raw.stratum.fingerprint,
        always_pay_self: raw.pooling.always_pay_self,
        work_update_seconds: config.template.refresh.as_secs(),
        rpcurl: node.map(|node| node.rpc_url.to_string()).unwrap_or_default(),
        rpcuser,
        rpcpassword_set,
        csrf_token: "",
    }
}

/// What the C gateway calls its classes.
const fn coinbase_name(class: CoinbaseClass) -> &'static str {
    match class {
        CoinbaseClass::Tiny | CoinbaseClass::Empty => "Blank",
        CoinbaseClass::Small => "Tiny",
        CoinbaseClass::Default => "Default",
        CoinbaseClass::Respectable => "Respect",
        CoinbaseClass::Huge => "Yuge",
        CoinbaseClass::S21 => "Antmain2",
    }
}

/// Its figures are whole.
fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    {
        value.round() as u64
    }
}

const TERA: f64 = 1e12;
/// Its only one.
const THREAD: u32 = 0;
/// It has seconds, and this where there is nothing to count from.
const NEVER: f64 = -1.0;
/// As one answer of /api/v1/miners, four times over: it has no pages.
const CLIENTS_MAX: usize = 20_000;
const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of a client without its names.
const CLIENT_LEN: usize = 400;
