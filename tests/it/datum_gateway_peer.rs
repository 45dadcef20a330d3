//! The gateway that gatewayd replaces, as a real peer: Debian's datum_gateway mines on the devnet
//! pool, then gatewayd does, on the same template, and what the two say to the pool is compared
//! field by field. `tests/peers/datum-gateway` runs it.
//!
//! It accepts no hash below difficulty 1, so this takes one to three minutes of CPU time.

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::common::{eventually, gateway::Gateway};
use bitcoin::{Transaction, consensus::encode::deserialize, script::Instruction};
use gatewayd::{
    datum::message::{
        CoinbaseContext, Hello, JobContext, ShareFlags, ShareMessage, ToPool, Validation, Wanted,
    },
    devnet::{
        miner::{Miner, MinerHandle, MinerOptions},
        node::{Node, NodeHandle, NodeOptions},
        pool::{Heard, Pool, PoolConfig, PoolHandle, PoolOptions, Probe},
    },
    work::{CoinbaseClass, Hash256, Nbits},
};

/// In base58, because the C gateway knows only mainnet's and testnet's addresses.
const ADDRESS: &str = "mubjhfBwzd3UBjRSepb14wLDT2bKPeWmen";
/// Both choose the respectable class for it.
const AGENT: &str = "bitaxe/BM1368/v2.9.0";
const TAG_SECONDARY: &str = "same template";
const UNIQUE_ID: u16 = 4711;

/// What may differ, and why. Any other difference fails the test.
const ALLOWED: &[(&str, &str)] = &[
    ("hello.user agent", "each says its own name and version"),
    ("share.job id", "counts the jobs of a connection, which were made at other times"),
    ("job.coinbaser id", "the pool numbers its splits"),
    ("coinbase.extranonce prefix", "keeps a connection's equal jobs apart: counts them, too"),
    ("validation.short ids", "keyed with the gateway's own long-term key; the pool checks them"),
    ("padding's content", "sealed, and skipped by its reader: only its length has to be random"),
];

/// Field -> value, as text.
type Fields = BTreeMap<String, String>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/peers/datum-gateway runs it: difficulty 1 takes minutes of the processor"]
async fn the_c_gateway_mines_here_and_says_what_gatewayd_says() {
    let options = NodeOptions {
        // A share of difficulty 1 is a block once in 65,536 times: one would end the template.
        nbits: Nbits::new(0x1b00_ffff).unwrap(),
        // Below 17 the C gateway makes no valid block; from 150 on it gets the subsidy wrong.
        initial_height: 120,
        transactions_per_second: 0,
        ..NodeOptions::default()
    };
    let any = "127.0.0.1:0".parse().unwrap();
    let node = Node::start(options, any).await.unwrap();
    let options = PoolOptions { messages_kept: 4096, ..PoolOptions::default() };
    let pool = Pool::start(options, any).await.unwrap();

    let tip = node.best_hash();
    // First, because it is less particular: a share of difficulty 1 is enough to wait for.
    let ours = with_gatewayd(&node, &pool).await;
    // The C gateway reads 0 as 2.
    pool.set_config(PoolConfig { min_difficulty: 1, ..pool.config() });
    let theirs = with_the_c_gateway(&node, &pool).await;
    assert_eq!(node.best_hash(), tip, "both have worked on the same template");
    assert_no_difference_but_those_allowed(&theirs, &ours);
}

/// Configured, with a split, with shares that are accepted and templates that pass the checks.
async fn with_the_c_gateway(node: &NodeHandle, pool: &PoolHandle) -> Fields {
    let (before, coinbasers) = (pool.heard().len(), pool.stats().coinbasers);
    let folder = tempfile::TempDir::with_prefix("datum-gateway-").unwrap();
    let stratum = free_port();
    let config = folder.path().join("config.json");
    fs::write(&config, c_config(node, pool, stratum)).unwrap();
    let mut command = Command::new(datum_gateway());
    command.arg("-c").arg(&config).current_dir(folder.path());
    let gateway = Gateway::start_command(command);
    eventually("the C gateway to ask for a split", Duration::from_secs(60), || {
        (pool.stats().coinbasers > coinbasers).then_some(())
    });
    let connect = format!("127.0.0.1:{stratum}");
    // One per core.
    let miners = [miner(&connect, None), miner(&connect, None)];
    let fields = said(pool, before, &gateway);
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.rejects, stats.disconnects), (BTreeMap::new(), 0));
    }
    fields
}

async fn with_gatewayd(node: &NodeHandle, pool: &PoolHandle) -> Fields {
    let before = pool.heard().len();
    let gateway = Gateway::start(&our_config(node, pool));
    let miner = miner(&gateway.addr("stratum").to_string(), Some(4_000_000.0));
    let fields = said(pool, before, &gateway);
    let stats = miner.stop().await;
    assert_eq!((stats.rejects, stats.disconnects), (BTreeMap::new(), 0));
    fields
}

fn miner(connect: &str, hashrate_max: Option<f64>) -> MinerHandle {
    let options = MinerOptions {
        connect: connect.to_owned(),
        username: format!("{ADDRESS}.peer"),
        user_agent: AGENT.to_owned(),
        hashrate_max,
        ..MinerOptions::default()
    };
    Miner::start(options).unwrap()
}

/// Waits for a whole conversation, after the first `skip` messages, and splits it into fields.
fn said(pool: &PoolHandle, skip: usize, gateway: &Gateway) -> Fields {
    let before = pool.stats();
    let mut fields = Fields::new();
    let has_fetched =
        |heard: &Heard| matches!(ToPool::decode(&heard.plain), Ok(ToPool::FetchCoinbaser { .. }));
    eventually("a split to be asked for", Duration::from_secs(60), || {
        pool.heard().iter().skip(skip).any(has_fetched).then_some(())
    });
    probe_all(pool, gateway, &unused_slots(), &mut fields);
    let whole = || {
        let heard = pool.heard().split_off(skip);
        let asked = pool.stats().validations_by_form;
        let checked = (0..3).all(|form| asked[form] > before.validations_by_form[form]);
        (checked && full_share(&heard).is_some()).then_some(heard)
    };
    let heard = eventually("an accepted share and three checks", SHARE_WAIT, whole);
    let slot = full_share(&heard).unwrap().slot;
    hello_fields(&heard, &mut fields);
    let fetch = heard.iter().find_map(|heard| match ToPool::decode(&heard.plain) {
        Ok(ToPool::FetchCoinbaser { request, padding }) => Some((request, padding)),
        _ => None,
    });
    let (request, fetch_padding) = fetch.unwrap();
    put(&mut fields, "fetch.value", request.value);
    put(&mut fields, "fetch.previous hash", hex(&request.prevhash.0));
    put(&mut fields, "fetch.padding", padding(fetch_padding));
    share_fields(&full_share(&heard).unwrap(), &mut fields);
    for heard in &heard {
        if let Ok(ToPool::Validation { slot: said, answer, padding: bytes }) =
            ToPool::decode(&heard.plain)
            && said == slot
        {
            validation_fields(&answer, bytes, &mut fields);
        }
    }
    probe_all(pool, gateway, &indexes(slot), &mut fields);
    let stats = pool.stats();
    let refused = (stats.rejected, stats.validations_failed, stats.blocks_misflagged);
    assert_eq!(refused, (0, 0, 0), "{stats:?}");
    fields
}

/// The first accepted share of full work that includes everything about its job.
fn full_share(heard: &[Heard]) -> Option<ShareMessage<'_>> {
    heard.iter().find_map(|heard| match ToPool::decode(&heard.plain) {
        Ok(ToPool::Share(share)) => {
            let whole = share.job.is_some() && share.coinbase.is_some();
            let full = share.coinbase_id == CoinbaseClass::Respectable.wire();
            (whole && full).then_some(share)
        }
        _ => None,
    })
}

/// Questions that cannot be answered. Asked at once, because the C gateway makes a job every two
/// minutes, and would reach the last slot during the wait for a share of difficulty 1.
fn unused_slots() -> [(&'static str, Probe); 3] {
    let ask = |slot, wanted| Probe { slot, wanted, indexes: Vec::new() };
    [
        ("slot out of range", ask(200, Wanted::ShortIds)),
        ("slot never used", ask(7, Wanted::ShortIds)),
        ("block of a slot never used", ask(7, Wanted::Block)),
    ]
}

/// Questions that can only just be answered.
fn indexes(slot: u8) -> [(&'static str, Probe); 2] {
    let ask =
        |indexes: &[u16]| Probe { slot, wanted: Wanted::Transactions, indexes: indexes.to_vec() };
    [("index out of range", ask(&[0, 9999])), ("no index", ask(&[]))]
}

fn probe_all(pool: &PoolHandle, gateway: &Gateway, probes: &[(&str, Probe)], fields: &mut Fields) {
    for (what, probe) in probes {
        put(fields, &format!("probe.{what}"), answer_to(pool, probe.clone(), gateway));
    }
}

fn answer_to(pool: &PoolHandle, probe: Probe, gateway: &Gateway) -> String {
    let count = |pool: &PoolHandle| {
        pool.heard().iter().filter(|heard| heard.plain.first() == Some(&0x50)).count()
    };
    let (before, asked) = (count(pool), probe.slot);
    pool.probe(probe);
    let answer = eventually("an answer to a probe", Duration::from_secs(20), || {
        let heard = pool.heard();
        let answers = heard.iter().filter(|heard| heard.plain.first() == Some(&0x50));
        answers.skip(before).map(|heard| heard.plain.to_vec()).next()
    });
    let Ok(ToPool::Validation { slot, answer, padding: bytes }) = ToPool::decode(&answer) else {
        panic!("{answer:02x?}\n{}", gateway.lines().join("\n"));
    };
    let slot = if slot == asked { "the same slot".to_owned() } else { format!("slot {slot}") };
    format!("{answer:?} for {slot}, {}", padding(bytes))
}

fn hello_fields(heard: &[Heard], fields: &mut Fields) {
    let plain = &heard.iter().find(|heard| heard.is_hello).unwrap().plain;
    let hello = Hello::decode(plain).unwrap();
    put(fields, "hello.user agent", String::from_utf8_lossy(hello.user_agent));
    put(fields, "hello.padding", padding(hello.padding));
    let zeros = hello.padding.iter().all(|byte| *byte == 0);
    put(fields, "padding's content", if zeros { "zeros" } else { "other bytes" });
}

fn share_fields(share: &ShareMessage<'_>, fields: &mut Fields) {
    put(fields, "share.job id", share.slot);
    put(fields, "share.coinbase id", share.coinbase_id);
    put(fields, "share.flags", share.flags.0 & !ShareFlags::QUICKDIFF);
    put(fields, "share.target byte", share.target_byte);
    // The rest of the version is rolled.
    put(fields, "share.version", format!("{:08x}", share.version & !0x1fff_e000));
    put(fields, "share.extranonce length", share.extranonce.len());
    put(fields, "share.username", String::from_utf8_lossy(share.username));
    put(fields, "share.reserved", hex(&share.reserved));
    put(fields, "share.padding", padding(share.padding));
    let (job, coinbase) = (share.job.as_ref().unwrap(), share.coinbase.as_ref().unwrap());
    job_fields(job, fields);
    coinbase_fields(job, coinbase, fields);
}

fn job_fields(job: &JobContext<'_>, fields: &mut Fields) {
    put(fields, "job.previous hash", hex(&job.prevhash.0));
    put(fields, "job.target byte index", job.target_byte_index);
    put(fields, "job.nbits", format!("{:08x}", job.nbits));
    put(fields, "job.coinbaser id", job.coinbaser_id);
    put(fields, "job.height", job.height);
    put(fields, "job.coinbase value", job.coinbase_value);
    put(fields, "job.transaction count", job.tx_count);
    put(fields, "job.total weight", job.total_weight);
    put(fields, "job.total size", job.total_size);
    put(fields, "job.total sigops", job.total_sigops);
    let branches = job.branches.iter().map(|branch| hex(&branch.0));
    put(fields, "job.branches", branches.collect::<Vec<_>>().join(" "));
}

fn coinbase_fields(job: &JobContext<'_>, coinbase: &CoinbaseContext<'_>, fields: &mut Fields) {
    put(fields, "coinbase.id", coinbase.coinbase_id);
    put(fields, "coinbase.coinb1 length", coinbase.coinb1.len());
    put(fields, "coinbase.coinb2 length", coinbase.coinb2.len());
    let blank = coinbase.coinb1.get(usize::from(job.target_byte_index));
    put(fields, "coinbase.target byte", format!("{blank:02x?}"));
    let bytes = [coinbase.coinb1, &[0; 12], coinbase.coinb2].concat();
    let coinbase: Transaction = deserialize(&bytes).unwrap();
    put(fields, "coinbase.version", coinbase.version);
    put(fields, "coinbase.locktime", coinbase.lock_time);
    let input = &coinbase.input[0];
    put(fields, "coinbase.sequence", input.sequence);
    let mut pushes: Vec<String> = input.script_sig.instructions().map(push).collect();
    // The extranonce, which is blank here, and before it the bytes that keep jobs apart.
    if let Some(last) = pushes.pop() {
        let (prefix, extranonce) = last.split_at(4.min(last.len()));
        put(fields, "coinbase.extranonce prefix", prefix);
        put(fields, "coinbase.extranonce", extranonce);
    }
    put(fields, "coinbase.script", pushes.join(" | "));
    put(fields, "coinbase.outputs", coinbase.output.len());
    for (at, output) in coinbase.output.iter().enumerate() {
        let (sats, script) = (output.value.to_sat(), hex(output.script_pubkey.as_bytes()));
        put(fields, &format!("coinbase.output {at:02}"), format!("{sats} sats to {script}"));
    }
}

fn push(instruction: Result<Instruction<'_>, bitcoin::script::Error>) -> String {
    match instruction {
        Ok(Instruction::PushBytes(bytes)) => hex(bytes.as_bytes()),
        other => format!("{other:?}"),
    }
}

fn validation_fields(answer: &Validation<'_>, bytes: &[u8], fields: &mut Fields) {
    let all = |raw: &[&[u8]]| {
        let hash = Hash256::sha256d(&raw.concat());
        format!("{} transactions, {hash}, {}", raw.len(), padding(bytes))
    };
    match answer {
        Validation::ShortIds { ids, crosscheck } => {
            put(fields, "validation.short ids", ids.iter().map(|id| hex(id)).collect::<String>());
            put(fields, "validation.short id count", ids.len());
            put(fields, "validation.crosscheck", crosscheck.map_or("none".into(), |sum| hex(&sum)));
            put(fields, "validation.short ids' padding", padding(bytes));
        }
        Validation::Transactions(raw) => put(fields, "validation.transactions", all(raw)),
        Validation::Block(raw) => put(fields, "validation.block", all(raw)),
        Validation::Error { .. } => put(fields, "validation.error", format!("{answer:?}")),
    }
}

/// What is left of padding without its random length and content.
fn padding(bytes: &[u8]) -> &'static str {
    if bytes.is_empty() { "no padding" } else { "padding" }
}

fn assert_no_difference_but_those_allowed(theirs: &Fields, ours: &Fields) {
    let none = "(nothing)".to_owned();
    let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let (mut same, mut unlisted) = (0, Vec::new());
    for name in names {
        let (their, our) = (theirs.get(name).unwrap_or(&none), ours.get(name).unwrap_or(&none));
        if their == our {
            same += 1;
            continue;
        }
        let reason = ALLOWED.iter().find(|(allowed, _)| allowed == name);
        let reason = reason.map_or("NOT EXPECTED", |(_, reason)| *reason);
        let line = format!("{name}: {reason}\n  datum_gateway {their}\n  gatewayd      {our}");
        say(&line);
        if reason == "NOT EXPECTED" {
            unlisted.push(line);
        }
    }
    say(&format!("{same} fields are the same"));
    assert!(
        unlisted.is_empty(),
        "gatewayd and the C gateway say different things:\n{}",
        unlisted.join("\n")
    );
}

#[allow(clippy::print_stdout, reason = "the list is for people who read the output")]
fn say(line: &str) {
    println!("{line}");
}

#[allow(clippy::needless_pass_by_value, reason = "values are made where they are put")]
fn put(fields: &mut Fields, name: &str, value: impl ToString) {
    fields.insert(name.to_owned(), value.to_string());
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn c_config(node: &NodeHandle, pool: &PoolHandle, stratum: u16) -> String {
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    format!(
        r#"{{
        "bitcoind": {{"rpcurl": "{url}", "rpcuser": "{user}", "rpcpassword": "{password}",
            "notify_fallback": true, "work_update_seconds": 120}},
        "stratum": {{"listen_addr": "127.0.0.1", "listen_port": {stratum}, "vardiff_min": 1,
            "max_threads": 1, "max_clients_per_thread": 16, "max_clients": 16}},
        "mining": {{"pool_address": "{ADDRESS}", "coinbase_tag_primary": "not used",
            "coinbase_tag_secondary": "{TAG_SECONDARY}", "coinbase_unique_id": {UNIQUE_ID}}},
        "api": {{"listen_port": 0}},
        "logger": {{"log_to_console": true, "log_to_file": false, "log_level_console": 1}},
        "datum": {{"pool_host": "127.0.0.1", "pool_port": {port}, "pool_pubkey": "{key}",
            "pooled_mining_only": true, "protocol_global_timeout": 130}}
        }}"#
    )
}

fn our_config(node: &NodeHandle, pool: &PoolHandle) -> String {
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    format!(
        r#"
        [[node]]
        rpc_url = "{url}"
        rpc_user = "{user}"
        rpc_password = "{password}"
        [template]
        refresh = "60s"
        stale_after = "150s"
        [mining]
        address = "{ADDRESS}"
        coinbase_tag_secondary = "{TAG_SECONDARY}"
        unique_id = {UNIQUE_ID}
        [[pool]]
        host = "127.0.0.1"
        port = {port}
        public_key = "{key}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.001
        difficulty_start = 0.001
        [ledger]
        data_dir = "{{dir}}"
        "#
    )
}

/// `DATUM_GATEWAY`, otherwise the one that `.ci/datum-gateway` has fetched.
pub fn datum_gateway() -> PathBuf {
    if let Some(path) = env::var_os("DATUM_GATEWAY").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cache = env::var_os("GATEWAYD_CI_CACHE").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/gatewayd-ci"),
        PathBuf::from,
    );
    let fetched = cache.join("datum-gateway/datum_gateway");
    assert!(
        fetched.exists(),
        "no datum_gateway here: run `tests/peers/datum-gateway`, which fetches it"
    );
    fetched
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Two cores with SHA-NI find difficulty 1 in five minutes on average, and one time in two hundred
/// take longer than this.
const SHARE_WAIT: Duration = Duration::from_secs(1560);
