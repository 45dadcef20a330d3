//! Stratum V2 with somebody else's miner: `mining_device` of the Stratum Reference Implementation,
//! which `.ci/mining_device` builds. It mines one standard channel.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::common::{bitcoind::Bitcoind, eventually, gateway::Gateway};
use bitcoincore_rpc::RpcApi;
use gatewayd::devnet::{
    node::{Node, NodeOptions},
    pool::{Pool, PoolConfig, PoolHandle, PoolOptions},
};

/// Blocks pay it, and the pool is sent it.
const ADDRESS: &str = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
/// A valid authority key, but not of any gateway here.
const OTHER_KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";

/// A signet on which the last blocks have proper times: the device uses a minute from now, whatever
/// its job's time, so otherwise it could not build on its own block at once.
fn node() -> Bitcoind {
    let node = Bitcoind::signet();
    node.generate(3);
    node
}

fn config(node: &str, address: &str, difficulty: f64) -> String {
    format!(
        r#"
        {node}
        [mining]
        address = "{address}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = {difficulty:?}
        difficulty_start = {difficulty:?}
        shares_per_minute = 120
        [ledger]
        data_dir = "{{dir}}"
        "#
    )
}

fn pool_toml(pool: &PoolHandle) -> String {
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    format!("[[pool]]\nhost = \"127.0.0.1\"\nport = {port}\npublic_key = \"{key}\"\n")
}

/// The key that the gateway logs, which miners need to trust it.
fn authority_key(gateway: &Gateway) -> String {
    let pattern = "Stratum V2 authority key public_key=";
    let line = gateway.wait_for_line(pattern, Duration::from_secs(30));
    let (_, rest) = line.split_once(pattern).unwrap();
    rest.split_whitespace().next().unwrap().trim_matches('"').to_owned()
}

/// A device on one core that trusts `key`. It reports a thousandth of its speed, so that it starts
/// at the gateway's minimum difficulty.
fn device(gateway: &Gateway, key: &str, user: &str, handicap_micros: u32) -> Gateway {
    let mut command = Command::new(program());
    command
        .args(["--address-pool", &gateway.addr("stratum").to_string()])
        .args(["--pubkey-pool", key])
        .args(["--id-device", "bench", "--id-user", user])
        .args(["--cores", "1", "--nominal-hashrate-multiplier", "0.001"])
        .args(["--handicap", &handicap_micros.to_string()])
        .env("NO_COLOR", "1");
    // The harness can follow any program.
    Gateway::start_command(command)
}

/// `MINING_DEVICE`, otherwise the one that `.ci/mining_device` has built.
fn program() -> PathBuf {
    if let Some(path) = env::var_os("MINING_DEVICE").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cache = env::var_os("GATEWAYD_CI_CACHE").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/gatewayd-ci"),
        PathBuf::from,
    );
    let built = cache.join("mining_device/mining_device-0.6.0");
    assert!(built.exists(), "no mining_device here: run `bash tests/run`, which builds one");
    built
}

fn count(process: &Gateway, pattern: &str) -> u64 {
    process.lines().iter().filter(|line| line.contains(pattern)).count() as u64
}

/// The device's rejected shares by code.
///
/// It restarts its header at nonce 0 with each message about jobs or targets, and learns about a
/// tip only when told, so it repeats itself and is late now and then. Anything else is a fault.
fn refusals(device: &Gateway) -> BTreeMap<String, u64> {
    let mut codes = BTreeMap::new();
    for line in device.lines() {
        if let Some((_, code)) = line.split_once("SubmitSharesError with error code ") {
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    codes
}

#[track_caller]
fn assert_only_its_own_faults(device: &Gateway) {
    let refusals = refusals(device);
    let mut faults = refusals.clone();
    faults.retain(|code, _| !["stale-share", "duplicate-share"].contains(&code.as_str()));
    let (refused, found) = (refusals.values().sum::<u64>(), count(device, "Found share"));
    assert!(faults.is_empty() && refused * 5 <= found, "of {found} shares: {refusals:?}");
}

/// The figure `name=…` of a line.
#[track_caller]
fn figure(line: &str, name: &str) -> u64 {
    let (_, rest) = line.split_once(&format!(" {name}=")).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}

#[track_caller]
fn end(gateway: &mut Gateway) {
    gateway.signal("TERM");
    assert!(gateway.wait_exit(Duration::from_secs(15)).success());
}

/// Solo: the node accepts its blocks, the second of which builds on the first, and they pay the
/// operator.
#[test]
fn a_standard_channel_finds_blocks() {
    let node = node();
    let start = node.height();
    let mut gateway = Gateway::start(&config(&node.node_toml(), ADDRESS, 0.000_1));
    let mut device = device(&gateway, &authority_key(&gateway), "solo.device", 0);
    eventually("two blocks", Duration::from_secs(120), || {
        (node.height() >= start + 2).then_some(())
    });
    device.kill9();
    end(&mut gateway);
    let own: bitcoin::Address<_> = ADDRESS.parse().unwrap();
    let own = bitcoin::Address::assume_checked(own).script_pubkey();
    let rpc = node.rpc();
    for height in start + 1..=node.height() {
        let block = rpc.get_block(&rpc.get_block_hash(height).unwrap()).unwrap();
        let coinbase = &block.txdata[0];
        assert_eq!(coinbase.output[0].script_pubkey, own, "block {height}");
        let tag = b"gatewayd";
        let script = coinbase.input[0].script_sig.as_bytes();
        assert!(script.windows(tag.len()).any(|bytes| bytes == tag), "block {height}");
    }
    let found = node.height() - start;
    assert_eq!(count(&gateway, "block accepted"), found);
    let line = gateway.wait_for_line("stopped accepted=", Duration::from_secs(1));
    assert!(figure(&line, "accepted") >= 2, "{line}");
    assert!(figure(&line, "blocks") >= found, "{line}");
    assert_only_its_own_faults(&device);
}

/// Pooled: the pool knows the device by its name, pays all its splits with its work, and counts
/// what the gateway counts, through a change of difficulty.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_credits_the_devices_user() {
    let node = node();
    let config_of_pool =
        PoolConfig { splits: PoolConfig::sample_splits(SPLITS), ..PoolConfig::default() };
    let options = PoolOptions { config: config_of_pool, ..PoolOptions::default() };
    let pool = Pool::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let toml = config(&(node.node_toml() + &pool_toml(&pool)), ADDRESS, 0.000_000_2);
    let mut gateway = Gateway::start(&toml);
    let user = format!("{ADDRESS}.device");
    let mut device = device(&gateway, &authority_key(&gateway), &user, HANDICAP_MICROS);
    eventually("fifty shares at the pool", Duration::from_secs(180), || {
        (pool.stats().accepted >= 50).then_some(())
    });
    device.wait_for_line("Received SetTarget", Duration::from_secs(60));
    node.generate(1);
    let height = node.height();
    eventually("the device to work on the new tip", Duration::from_secs(30), || {
        let shares = pool.recent_shares();
        shares.iter().any(|share| u64::from(share.height) > height).then_some(())
    });
    device.kill9();
    end(&mut gateway);

    let line = gateway.wait_for_line("shares accounted for", Duration::from_secs(1));
    let stats = pool.stats();
    assert_eq!(stats.accepted_by_user, BTreeMap::from([(user, stats.accepted)]));
    assert_eq!(figure(&line, "pool_accepted"), stats.accepted, "{line} {stats:?}");
    assert_eq!(figure(&line, "received"), stats.accepted + stats.rejected, "{line} {stats:?}");
    assert_eq!((figure(&line, "lost"), figure(&line, "dropped")), (0, 0), "{line}");
    // What the node's block overtook may be stale, as with any miner.
    assert_eq!(figure(&line, "pool_rejected"), stats.rejected, "{line} {stats:?}");
    assert!(stats.rejected * 10 <= stats.accepted, "{stats:?}");
    // The device never sees a coinbase, so it gets the largest.
    assert_eq!(stats.splits_max, usize::from(SPLITS), "{stats:?}");
    assert_only_its_own_faults(&device);
}

/// A key that is not the gateway's: the device leaves, and the gateway does not mind. Its own key
/// stays the same over restarts, and `check` prints it.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_authority_key_is_the_clients_to_refuse() {
    let node = Node::start(NodeOptions::default(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let section = format!(
        "[[node]]\nrpc_url = \"{}\"\nrpc_user = \"{}\"\nrpc_password = \"{}\"\n",
        node.rpc_url(),
        node.user(),
        node.password()
    );
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let gateway = Gateway::start(&config(&section, address, 0.000_01));
    let key = authority_key(&gateway);
    let mut stranger = device(&gateway, OTHER_KEY, "stranger", HANDICAP_MICROS);
    assert!(!stranger.wait_exit(Duration::from_secs(20)).success());
    assert_eq!(count(&stranger, "Setup connection sent"), 0, "it left before it sent anything");
    let friend = device(&gateway, &key, "friend", HANDICAP_MICROS);
    friend.wait_for_line("Received SubmitSharesSuccess", Duration::from_secs(60));

    let mut gateway = gateway.restart();
    assert_eq!(authority_key(&gateway), key);
    end(&mut gateway);
    let file = gateway.dir().join("gatewayd.toml");
    let check = Gateway::command().arg("--config").arg(file).arg("check").output().unwrap();
    let told = String::from_utf8(check.stdout).unwrap();
    assert!(told.contains(&key), "{told}");
}

/// After every 32 hashes: some two hundred thousand hashes a second.
const HANDICAP_MICROS: u32 = 100;
const SPLITS: u8 = 200;
