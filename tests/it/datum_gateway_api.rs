//! datum_gateway 0.5.1's JSON, which people have scripts for: the same paths, keys and types. The last
//! test asks Debian's package itself; `tests/peers/datum-gateway` runs it.

use std::{collections::BTreeSet, fs, net::SocketAddr, process::Command, time::Duration};

use gatewayd::{
    devnet::{
        miner::{Miner, MinerOptions},
        node::{Node, NodeHandle, NodeOptions},
        pool::{Pool, PoolHandle, PoolOptions},
    },
    work::Nbits,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    common::{
        eventually,
        gateway::Gateway,
        http::{Answer, ask, get},
        openapi::conforms,
    },
    datum_gateway_peer::{datum_gateway, free_port},
};

const ADDRESS: &str = "mubjhfBwzd3UBjRSepb14wLDT2bKPeWmen";
const PASSWORD: &str = "correct horse";
/// `admin:correct horse`, `admin:wrong horse`, `root:correct horse`.
const BASIC: &str = "Basic YWRtaW46Y29ycmVjdCBob3JzZQ==";
const WRONG_PASSWORD: &str = "Basic YWRtaW46d3JvbmcgaG9yc2U=";
const OTHER_USER: &str = "Basic cm9vdDpjb3JyZWN0IGhvcnNl";
const SOON: Duration = Duration::from_secs(120);
const OPEN: &[&str] =
    &["/v1/stratum_server_info", "/v1/current_stratum_job", "/v1/coinbaser", "/v1/thread_stats"];
const ADMINS: &[&str] = &["/v1/stratum_client_list", "/v1/configuration"];

#[tokio::test(flavor = "multi_thread")]
async fn what_scripts_read_of_the_c_gateway_is_here_too() {
    let (node, pool) = network().await;
    let gateway = ours(&node, &pool);
    let api = gateway.addr("http");
    let miner = Miner::start(miner_at(gateway.addr("stratum"))).unwrap();
    let described = get(api, "/api/v1/openapi.json").json();
    let figure = |path: &str| {
        let answer = ask(api, "GET", path, &[("Authorization", BASIC)], None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        conforms(&described, "get", path, 200, &answer.json());
        answer.json()
    };
    let clients = eventually("a client with a name", SOON, || {
        let clients = figure("/v1/stratum_client_list");
        let name = &clients["0"].as_object()?.values().next()?["auth_username"];
        (name == &format!("{ADDRESS}.peer")).then_some(clients)
    });
    let client = clients["0"].as_object().unwrap().values().next().unwrap();
    assert_eq!(client["remote_host"], "127.0.0.1");
    assert_eq!(client["coinbase"], "Respect", "what a Bitaxe is given");
    assert_eq!(client["vdiff"], 1, "less than 1, but whole");
    assert_eq!(figure("/v1/stratum_server_info")["totalConnections"], 1);
    assert_eq!(figure("/v1/thread_stats")["0"]["subscription_count"], 1);

    let job = eventually("full work", SOON, || {
        Some(figure("/v1/current_stratum_job")).filter(|job| job["tx_count"].as_u64() > Some(0))
    });
    assert_eq!(job["bits"], "1c00ffff");
    assert_eq!(job["block_target"], format!("{:0>10}ffff{:0<50}", "", ""));
    assert_eq!(job["previous_block"], node.best_hash().to_string());
    let paid = eventually("a split of the pool", SOON, || {
        let paid = figure("/v1/coinbaser");
        (paid.as_object()?.len() > 2).then_some(paid)
    });
    let sum: u64 = paid.as_object().unwrap().values().map(|sats| sats.as_u64().unwrap()).sum();
    assert!(sum >= 50_0000_0000, "all of it: {paid}");

    let configuration = figure("/v1/configuration");
    assert_eq!(configuration["pool_address"], ADDRESS);
    assert_eq!(configuration["reward_sharing"], "require");
    assert_eq!(configuration["pool"]["pubkey"], pool.public_key_hex());
    assert_eq!(configuration["rpcpassword_set"], true);
    assert!(configuration.get("rpcpassword").is_none(), "{configuration}");
    miner.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_configuration_are_for_admins() {
    let (node, pool) = network().await;
    let gateway = ours(&node, &pool);
    let api = gateway.addr("http");
    for path in ADMINS {
        let asked = |headers: &[(&str, &str)]| ask(api, "GET", path, headers, None);
        let stranger = asked(&[]);
        assert_eq!(stranger.status, 401, "{}", stranger.text());
        assert!(stranger.header("www-authenticate").unwrap().starts_with("Basic "));
        for wrong in [OTHER_USER, "Basic", "Basic ?", "Basic YWRtaW4=", "Digest username=admin"] {
            assert_eq!(asked(&[("Authorization", wrong)]).status, 401, "{wrong}");
        }
        assert_eq!(asked(&[("Authorization", BASIC)]).status, 200);
        assert_eq!(asked(&[("Authorization", "Bearer correct horse")]).status, 200);
    }
    // What changes things takes no Basic: browsers send it with every request.
    let change = ask(api, "POST", "/api/v1/reload", &[("Authorization", BASIC)], None);
    assert_eq!(change.status, 401, "{}", change.text());
    let tries =
        (0..20).map(|_| ask(api, "GET", ADMINS[0], &[("Authorization", WRONG_PASSWORD)], None));
    assert!(tries.into_iter().any(|answer| answer.status == 429), "guessing has to wait");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/peers/datum-gateway runs it: it needs Debian's package"]
async fn the_c_gateway_answers_the_same_keys_and_types() {
    let (node, pool) = network().await;
    let gateway = ours(&node, &pool);
    let (stratum, api) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    let folder = tempfile::TempDir::with_prefix("datum-gateway-").unwrap();
    let config = folder.path().join("config.json");
    fs::write(&config, c_config(&node, &pool, stratum, api.port())).unwrap();
    let mut command = Command::new(datum_gateway());
    command.arg("-c").arg(&config).current_dir(folder.path());
    let _theirs = Gateway::start_command(command);
    eventually("the C gateway's API", SOON, || std::net::TcpStream::connect(api).ok());
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let miners = [gateway.addr("stratum"), at(stratum)].map(miner_at);
    let miners = miners.map(|options| Miner::start(options).unwrap());
    for path in OPEN.iter().chain(ADMINS) {
        let whole = |answer: &Value| {
            answer.as_object().is_some_and(|it| it.len() > 1 || it.contains_key("0"))
        };
        let ask_us =
            || ask(gateway.addr("http"), "GET", path, &[("Authorization", BASIC)], None).json();
        let ours = eventually(path, SOON, || shape(&ask_us(), whole));
        let theirs = eventually(path, SOON, || shape(&digest(api, path).json(), whole));
        assert_eq!(ours, theirs, "{path}");
    }
    for miner in miners {
        miner.stop().await;
    }
}

/// Each key with its type; what is named by an address or a number is `*`. None while it is not whole.
fn shape(answer: &Value, whole: impl Fn(&Value) -> bool) -> Option<BTreeSet<String>> {
    let mut shape = BTreeSet::new();
    walk(answer, "", &mut shape);
    (whole(answer) && !shape.contains(".error: string")).then_some(shape)
}

fn walk(value: &Value, at: &str, shape: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_name = key.len() > 25 || key.bytes().all(|byte| byte.is_ascii_digit());
                walk(value, &format!("{at}.{}", if is_name { "*" } else { key }), shape);
            }
            return;
        }
        // A number once it is known.
        Value::String(text) if text == "N/A" => "float",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        Value::Null => "null",
        Value::Array(_) => "array",
    };
    shape.insert(format!("{at}: {kind}"));
}

/// RFC 7616, as the C gateway wants it of its admin.
fn digest(api: SocketAddr, path: &str) -> Answer {
    let first = get(api, path);
    if first.status != 401 {
        return first;
    }
    let challenge = first.header("www-authenticate").unwrap().to_owned();
    let part = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let (realm, nonce, opaque) = (part("realm"), part("nonce"), part("opaque"));
    let hash = |text: String| format!("{:x}", Sha256::digest(text));
    let (a1, a2) = (hash(format!("admin:{realm}:{PASSWORD}")), hash(format!("GET:{path}")));
    let response = hash(format!("{a1}:{nonce}:00000001:c0ffee:auth:{a2}"));
    let authorization = format!(
        "Digest username=\"admin\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{path}\", qop=auth, \
         nc=00000001, cnonce=\"c0ffee\", algorithm=SHA-256, response=\"{response}\", opaque=\"{opaque}\""
    );
    ask(api, "GET", path, &[("Authorization", &authorization)], None)
}

async fn network() -> (NodeHandle, PoolHandle) {
    let any = "127.0.0.1:0".parse().unwrap();
    // The C gateway makes no valid block below height 17.
    let nbits = Nbits::new(0x1c00_ffff).unwrap();
    let options = NodeOptions { nbits, initial_height: 120, ..NodeOptions::default() };
    let node = Node::start(options, any).await.unwrap();
    (node, Pool::start(PoolOptions::default(), any).await.unwrap())
}

fn miner_at(gateway: SocketAddr) -> MinerOptions {
    MinerOptions {
        connect: gateway.to_string(),
        username: format!("{ADDRESS}.peer"),
        user_agent: "bitaxe/BM1368/v2.9.0".to_owned(),
        hashrate_max: Some(2_000_000.0),
        ..MinerOptions::default()
    }
}

fn ours(node: &NodeHandle, pool: &PoolHandle) -> Gateway {
    let password = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&password, PASSWORD).unwrap();
    let toml = format!(
        r#"
        [[node]]
        rpc_url = "{}"
        rpc_user = "{}"
        rpc_password = "{}"
        [mining]
        address = "{ADDRESS}"
        [[pool]]
        host = "127.0.0.1"
        port = {}
        public_key = "{}"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 0.0001
        difficulty_start = 0.0001
        [api]
        listen = "127.0.0.1:0"
        admin_password_file = "{}"
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.rpc_url(),
        node.user(),
        node.password(),
        pool.addr.port(),
        pool.public_key_hex(),
        password.display(),
    );
    let gateway = Gateway::start(&toml);
    let api = gateway.addr("http");
    gateway.addr("stratum");
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
    gateway
}

fn c_config(node: &NodeHandle, pool: &PoolHandle, stratum: u16, api: u16) -> String {
    let (url, user, password) = (node.rpc_url(), node.user(), node.password());
    let (port, key) = (pool.addr.port(), pool.public_key_hex());
    format!(
        r#"{{
        "bitcoind": {{"rpcurl": "{url}", "rpcuser": "{user}", "rpcpassword": "{password}",
            "notify_fallback": true, "work_update_seconds": 40}},
        "stratum": {{"listen_addr": "127.0.0.1", "listen_port": {stratum}, "vardiff_min": 1,
            "max_threads": 1, "max_clients_per_thread": 16, "max_clients": 16}},
        "mining": {{"pool_address": "{ADDRESS}", "coinbase_tag_primary": "not used",
            "coinbase_tag_secondary": "", "coinbase_unique_id": 4242}},
        "api": {{"listen_port": {api}, "admin_password": "{PASSWORD}"}},
        "logger": {{"log_to_console": true, "log_to_file": false, "log_level_console": 1}},
        "datum": {{"pool_host": "127.0.0.1", "pool_port": {port}, "pool_pubkey": "{key}",
            "pooled_mining_only": true, "protocol_global_timeout": 130}}
        }}"#
    )
}
