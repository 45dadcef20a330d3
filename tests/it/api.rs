//! The API of the real binary, on a whole network of devnet parts.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{Answer, Events, ask, get},
    openapi::conforms,
};
use gatewayd::devnet::{
    miner::{Miner, MinerHandle, MinerOptions},
    node::{Node, NodeHandle, NodeOptions},
    pool::{Pool, PoolHandle, PoolOptions},
};
use gatewayd::work::Nbits;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// A regtest address; nobody has its key.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const PASSWORD: &str = "correct horse";
const BEARER: (&str, &str) = ("Authorization", "Bearer correct horse");
const SOON: Duration = Duration::from_secs(120);

/// A node, a pool, a gateway, and as many miners as a test wants.
struct Rig {
    gateway: Gateway,
    api: SocketAddr,
    node: NodeHandle,
    _pool: PoolHandle,
    _password: tempfile::NamedTempFile,
}

impl Rig {
    async fn open() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        // A block every few seconds, even on a busy machine.
        let nbits = Nbits::new(0x1e03_ffff).unwrap();
        let node = Node::start(NodeOptions { nbits, ..NodeOptions::default() }, any).await.unwrap();
        let pool = Pool::start(PoolOptions::default(), any).await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), format!("{PASSWORD}\n")).unwrap();
        let toml = format!(
            r#"# a comment
[[node]]
rpc_url = "{}"
rpc_user = "{}"
rpc_password = "{}" # the node's
[mining]
address = "{ADDRESS}" # mine
[[pool]]
host = "{}"
port = {}
public_key = "{}"
[stratum]
listen = ["127.0.0.1:0"]
difficulty_min = 0.000244140625
difficulty_start = 0.000244140625
[api]
listen = "127.0.0.1:0"
admin_password_file = "{}"
[ledger]
data_dir = "{{dir}}"
"#,
            node.rpc_url(),
            node.user(),
            node.password(),
            pool.addr.ip(),
            pool.addr.port(),
            pool.public_key_hex(),
            file.path().display(),
        );
        let gateway = Gateway::start(&toml);
        let api = gateway.addr("http");
        gateway.addr("stratum");
        let signs_in =
            || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
        eventually("the password is read", SOON, signs_in);
        Self { gateway, api, node, _pool: pool, _password: file }
    }

    fn miner(&self, name: &str) -> MinerHandle {
        Miner::start(MinerOptions {
            connect: self.gateway.addr("stratum").to_string(),
            username: format!("{ADDRESS}.{name}"),
            user_agent: "bitaxe/test/v1".into(),
            hashrate_max: Some(2_000_000.0),
            ..MinerOptions::default()
        })
        .unwrap()
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let answer = get(self.api, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    #[track_caller]
    fn eventually(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(path, SOON, || Some(self.get(path)).filter(&fits))
    }

    /// Sends the password along.
    #[track_caller]
    fn admin(&self, method: &str, path: &str, json: Option<&str>) -> Answer {
        ask(self.api, method, path, &[BEARER], json)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_answers_as_described() {
    let rig = Rig::open().await;
    let miner = rig.miner("a");
    rig.eventually("/api/v1/pool", |pool| pool["relay"]["accepted"].as_u64() > Some(3));
    rig.eventually("/api/v1/work", |work| work["job"]["is_empty"] == false);
    let api = rig.get("/api/v1/openapi.json");
    assert_eq!(api["info"]["title"], "gatewayd");
    for path in [
        "/healthz",
        "/readyz",
        "/umbrel-api",
        "/api/v1/status",
        "/api/v1/miners",
        "/api/v1/workers",
        "/api/v1/history",
        "/api/v1/rejects",
        "/api/v1/work",
        "/api/v1/pool",
        "/api/v1/nodes",
        "/api/v1/blocks",
        "/api/v1/session",
    ] {
        let answer = get(rig.api, path);
        conforms(&api, "get", path, answer.status, &answer.json());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let config = rig.admin("GET", "/api/v1/config", None);
    conforms(&api, "get", "/api/v1/config", config.status, &config.json());
    for (path, status) in [
        ("/api/v1/miners?limit=0", 400),
        ("/api/v1/history?window=1y", 400),
        ("/api/v1/rejects?window=1y", 400),
        ("/api/v1/config", 401),
    ] {
        let answer = get(rig.api, path);
        let plain = path.split('?').next().unwrap();
        conforms(&api, "get", plain, status, &answer.json());
        assert_eq!(answer.status, status, "{path}");
    }
    let stats = miner.stop().await;
    let status = rig.get("/api/v1/status");
    assert_eq!(status["shares"]["accepted"].as_u64(), Some(stats.accepted));
    assert_eq!((&status["mode"], &status["network"]), (&json!("pooled"), &json!("regtest")));
    assert!(status["warnings"].as_array().unwrap().is_empty(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_shows_who_gets_what() {
    let rig = Rig::open().await;
    let miner = rig.miner("a");
    // With all classes, with the miner connected, and on the tip: the miner finds blocks in the
    // meantime.
    let is_split = |work: &Value| {
        let coinbases = work["job"]["coinbases"].as_array();
        let height = work["job"]["template"]["height"].as_u64();
        height == Some(u64::from(rig.node.height()) + 1)
            && coinbases.is_some_and(|all| all.len() == 6 && all.iter().any(|it| it["miners"] == 1))
    };
    let work = rig.eventually("/api/v1/work", is_split);
    let template = &work["job"]["template"];
    for coinbase in work["job"]["coinbases"].as_array().unwrap() {
        let outputs = coinbase["outputs"].as_array().unwrap();
        let sum: u64 = outputs.iter().map(|output| output["value_sats"].as_u64().unwrap()).sum();
        assert_eq!(Some(sum), template["coinbase_value_sats"].as_u64());
        let kinds: Vec<_> = outputs.iter().map(|output| output["kind"].as_str().unwrap()).collect();
        let is_tiny = coinbase["class"] == "tiny";
        assert_eq!(kinds.contains(&"split"), !is_tiny, "{kinds:?}");
        let paid = outputs.iter().filter(|output| output["value_sats"].as_u64() > Some(0));
        assert!(paid.clone().all(|output| output["address"].is_string()), "{outputs:?}");
    }
    let respectable = |it: &&Value| it["class"] == "respectable";
    let coinbases = work["job"]["coinbases"].as_array().unwrap();
    assert_eq!(coinbases.iter().find(respectable).unwrap()["miners"], 1);
    miner.stop().await;
}

/// `name{labels}` -> value.
fn metrics(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with("# EOF\n"));
    let series = text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn sum(metrics: &BTreeMap<String, f64>, name: &str, label: &str) -> f64 {
    let fits = |key: &str| key.starts_with(&format!("{name}{{")) && key.contains(label);
    metrics.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value).sum()
}

/// Names in backticks, with their labels, as listed in `tests/vectors/api/metrics.md`.
fn agreed_metrics() -> Vec<(String, Vec<String>, String)> {
    let list = fs::read_to_string("tests/vectors/api/metrics.md").unwrap();
    let mut pieces = list.split('`');
    let mut found = Vec::new();
    pieces.next();
    while let (Some(name), Some(after)) = (pieces.next(), pieces.next()) {
        let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
        let labels = labels.trim_end_matches('}').split(',').filter(|it| !it.is_empty());
        found.push((name.to_owned(), labels.map(str::to_owned).collect(), after.to_owned()));
    }
    assert_eq!(found.remove(0).0, "gatewayd_");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_agreed_metric_is_present_with_its_labels() {
    let rig = Rig::open().await;
    let miner = rig.miner("a");
    rig.eventually("/api/v1/blocks", |blocks| blocks["accepted_session"].as_u64() > Some(0));
    rig.eventually("/api/v1/pool", |pool| pool["relay"]["accepted"].as_u64() > Some(3));
    let page = get(rig.api, "/metrics");
    let (text, metrics) = (page.text(), metrics(page.text()));
    let agreed = agreed_metrics();
    assert!(agreed.len() > 20, "{agreed:?}");
    for (name, labels, after) in agreed {
        let (family, kind) = match &*name {
            _ if after.starts_with(" (histogram)") || name == "notify_seconds" => {
                (&*name, "histogram")
            }
            "build_info" => ("build", "info"),
            name => name.strip_suffix("_total").map_or((name, "gauge"), |it| (it, "counter")),
        };
        let declared = format!("# TYPE gatewayd_{family} {kind}\n");
        assert!(text.contains(&declared), "no {declared:?} in\n{text}");
        let start = format!("gatewayd_{name}");
        let series: Vec<_> = metrics.keys().filter(|key| name_of(key, kind) == start).collect();
        // Every metric has a series from the start: at 0 where nothing has happened.
        assert!(!series.is_empty(), "no series of {name}");
        for key in series.iter().filter(|_| name != "build_info") {
            let mut known: Vec<_> = labels_of(key).filter(|label| *label != "le").collect();
            known.sort_unstable();
            let mut labels = labels.clone();
            labels.sort_unstable();
            assert_eq!(known, labels, "{key}");
        }
    }
    assert!(!text.contains(ADDRESS), "no miner's name is a label");
    miner.stop().await;
}

fn name_of(key: &str, kind: &str) -> String {
    let name = key.split('{').next().unwrap();
    let ends = if kind == "histogram" { ["_bucket", "_sum", "_count"].as_slice() } else { &[] };
    ends.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
}

fn labels_of(key: &str) -> impl Iterator<Item = &str> {
    let labels = key.split_once('{').map_or("", |(_, labels)| labels);
    labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0))
}

/// Every figure that both have, by the name of its series.
fn figures(rig: &Rig) -> BTreeMap<String, f64> {
    let (status, work) = (rig.get("/api/v1/status"), rig.get("/api/v1/work"));
    let (blocks, pool) = (rig.get("/api/v1/blocks"), rig.get("/api/v1/pool"));
    let nodes = rig.get("/api/v1/nodes");
    let node = &nodes["nodes"][0];
    let name = node["name"].as_str().unwrap();
    let (one, relay, shares) = (&pool["pools"][0], &pool["relay"], &status["shares"]);
    let pool_name = one["name"].as_str().unwrap();
    let number =
        |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"));
    let mut figures = BTreeMap::from([
        (
            "share_difficulty_total{result=\"accepted\"}".into(),
            number(&shares["accepted_difficulty"]),
        ),
        ("tip_height".into(), number(&status["tip_height"])),
        ("start_time_seconds".into(), number(&status["started_at_unix_s"])),
        ("blocks_found_total".into(), number(&blocks["found_session"])),
        (
            format!("block_submissions_total{{node=\"{name}\",result=\"accepted\"}}"),
            number(&blocks["accepted_session"]),
        ),
        (format!("node_up{{source=\"{name}\"}}"), 1.0),
        (
            format!("template_fetch_seconds{{source=\"{name}\"}}"),
            number(&node["template_fetch_ms"]) / 1000.0,
        ),
        (format!("pool_up{{pool=\"{pool_name}\"}}"), 1.0),
        ("pool_round_trip_seconds".into(), number(&one["round_trip_ms"]) / 1000.0),
        (
            format!("pool_shares_total{{pool=\"{pool_name}\",result=\"tentative\",reason=\"\"}}"),
            number(&one["shares"]["tentative"]),
        ),
        (
            format!("pool_shares_total{{pool=\"{pool_name}\",result=\"accepted\",reason=\"\"}}"),
            number(&one["shares"]["accepted"]) - number(&one["shares"]["tentative"]),
        ),
        ("shares_held".into(), number(&relay["held"])),
        ("shares_lost_total{reason=\"queue-full\"}".into(), number(&relay["dropped"])),
        (format!("build_info{{version={}}}", status["version"]), 1.0),
        ("ready".into(), 1.0),
    ]);
    for it in status["miners_by_protocol"].as_array().unwrap() {
        figures
            .insert(format!("connections{{protocol={}}}", it["protocol"]), number(&it["miners"]));
    }
    for (reason, count) in relay["lost_by_reason"].as_object().unwrap() {
        figures.insert(format!("shares_lost_total{{reason=\"{reason}\"}}"), number(count));
    }
    for coinbase in work["job"]["coinbases"].as_array().unwrap() {
        let outputs = coinbase["outputs"].as_array().unwrap();
        let unpaid = [json!("commitment"), json!("extranonce")];
        let paid = outputs.iter().filter(|output| !unpaid.contains(&output["kind"])).count();
        let class = &coinbase["class"];
        let paid = u32::try_from(paid).unwrap().into();
        figures.insert(format!("coinbase_outputs{{class={class}}}"), paid);
    }
    figures
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_and_api_agree() {
    let rig = Rig::open().await;
    let miner = rig.miner("a");
    rig.eventually("/api/v1/blocks", |blocks| blocks["accepted_session"].as_u64() > Some(0));
    rig.eventually("/api/v1/status", |it| it["hashrate_5m_h_per_s"].as_f64() > Some(0.0));
    // While it mines, figures change between two requests.
    miner.stop().await;
    let answered = |pool: &Value| pool["relay"]["awaiting"] == 0 && pool["relay"]["held"] == 0;
    rig.eventually("/api/v1/pool", answered);
    rig.eventually("/api/v1/status", |status| status["miners"] == 0);
    rig.eventually("/api/v1/work", |work| work["job"]["is_empty"] == false);
    let (text, expected) = eventually("nothing changes between two requests", SOON, || {
        let before = figures(&rig);
        let page = get(rig.api, "/metrics");
        let content_type = page.header("content-type").unwrap();
        assert!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
        (figures(&rig) == before).then(|| (page.text().to_owned(), before))
    });
    let metrics = metrics(&text);
    for (series, expected) in &expected {
        let value = metrics.get(&format!("gatewayd_{series}"));
        let is_it = value.is_some_and(|value| (value - expected).abs() <= 1e-9 * expected.abs());
        assert!(is_it, "{series}: {value:?}, not {expected}, in\n{text}");
    }
    let status = rig.get("/api/v1/status");
    for result in ["accepted", "rejected"] {
        let told = sum(&metrics, "gatewayd_shares_total", &format!("result=\"{result}\""));
        assert_eq!(Some(told), status["shares"][result].as_f64(), "{result}");
    }
    // These depend on the moment of the request.
    let age = metrics["gatewayd_template_age_seconds"];
    let told = status["template_age_s"].as_f64().unwrap();
    assert!(age <= told && told < age + 20.0, "{age} {told}");
    let rate = metrics["gatewayd_hashrate_hashes_per_second"];
    assert!(rate > 0.0 && rate < 1e9, "{rate}");

    let submits = metrics["gatewayd_submit_seconds_count"];
    let accepted = status["shares"]["accepted"].as_f64().unwrap();
    assert!(submits > 0.0 && submits <= accepted, "{submits} {accepted}");
    assert_eq!(metrics["gatewayd_submit_seconds_bucket{le=\"+Inf\"}"], submits);
    // A miner was connected at each tip but the first; the last miner of the latest may not be
    // counted yet.
    let of =
        |kind, what: &str| metrics[&format!("gatewayd_notify_seconds_{what}{{kind=\"{kind}\"}}")];
    let (first, last) = (of("first", "count"), of("last", "count"));
    assert!(first >= 1.0 && (last == first || last == first - 1.0), "{first} {last}");
    assert!(of("first", "sum") / first < 5.0, "{text}");
    let all = metrics["gatewayd_notify_seconds_bucket{le=\"+Inf\",kind=\"first\"}"];
    assert_eq!(all, first, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_takes_the_password_and_changes_take_a_token() {
    let rig = Rig::open().await;
    let login = |password: &str| {
        let body = json!({ "password": password }).to_string();
        ask(rig.api, "POST", "/api/v1/session", &[], Some(&body))
    };
    let answer = login(PASSWORD);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let set = answer.header("set-cookie").unwrap();
    assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
    assert!(!set.contains("Secure"), "plain HTTP would lose it: {set}");
    let cookie = set.split(';').next().unwrap();
    let token = answer.json()["csrf_token"].as_str().unwrap().to_owned();
    let with = |headers: &[(&str, &str)]| {
        let headers = [&[("Cookie", cookie)], headers].concat();
        ask(rig.api, "POST", "/api/v1/notify", &headers, None)
    };
    assert_eq!(with(&[]).json()["error"], "csrf");
    assert_eq!(with(&[("X-CSRF-Token", "0")]).status, 403);
    assert_eq!(with(&[("X-CSRF-Token", &token)]).status, 200);
    // Programs on other ports of this host get the cookie too: on its own it yields no token and
    // reads no settings.
    let session = |headers: &[(&str, &str)]| {
        let headers = [&[("Cookie", cookie)], headers].concat();
        ask(rig.api, "GET", "/api/v1/session", &headers, None).json()
    };
    let seen = session(&[]);
    assert_eq!((&seen["signed_in"], &seen["csrf_token"]), (&json!(false), &Value::Null), "{seen}");
    let seen = session(&[("X-CSRF-Token", &token)]);
    assert_eq!((&seen["signed_in"], &seen["csrf_token"]), (&json!(true), &Value::Null), "{seen}");
    let config = ask(rig.api, "GET", "/api/v1/config", &[("Cookie", cookie)], None);
    assert_eq!((config.status, &config.json()["error"]), (403, &json!("csrf")));
    assert_eq!(rig.admin("POST", "/api/v1/notify", None).status, 200, "a bearer needs no token");
    let both = [("Cookie", cookie), ("X-CSRF-Token", &*token)];
    assert_eq!(ask(rig.api, "DELETE", "/api/v1/session", &both, None).status, 200);
    assert_eq!(with(&[("X-CSRF-Token", &token)]).status, 401, "signed out");
    // The right one is cached by now; wrong ones are counted.
    let tries: Vec<_> = (0..5).map(|_| login("wrong").status).collect();
    assert_eq!(tries, [401; 5]);
    // A wait of one second, of which a busy machine may notice little.
    let answer = (0..100).map(|_| login("wrong")).find(|answer| answer.status != 401).unwrap();
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    let form = [("Content-Type", "text/plain")];
    assert_eq!(ask(rig.api, "POST", "/api/v1/session", &form, None).status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnected_miner_is_really_gone() {
    let rig = Rig::open().await;
    let miner = rig.miner("a");
    let is_there = |miners: &Value| miners["total"] == 1;
    let miners = rig.eventually("/api/v1/miners", is_there);
    let id = miners["miners"][0]["id"].as_u64().unwrap();
    let path = format!("/api/v1/miners/{id}/disconnect");
    assert_eq!(ask(rig.api, "POST", &path, &[], None).status, 401);
    assert_eq!(rig.admin("POST", &path, None).status, 200);
    let is_another = |miners: &Value| {
        miners["miners"].as_array().unwrap().iter().all(|it| it["id"].as_u64() != Some(id))
    };
    rig.eventually("/api/v1/miners", is_another);
    assert_eq!(rig.admin("POST", &path, None).status, 404);
    // It reconnects by itself, as miners do.
    rig.eventually("/api/v1/miners", is_there);
    miner.stop().await;
}

/// Connects from another address than the rest of the test; true if it got an answer.
fn connects(stratum: SocketAddr) -> bool {
    connects_with(stratum, "")
}

/// `more` follows the first request.
fn connects_with(stratum: SocketAddr, more: &str) -> bool {
    let say = || -> std::io::Result<usize> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(([127, 0, 1, 1], 0)).into())?;
        socket.connect(&stratum.into())?;
        let mut stream = TcpStream::from(socket);
        let subscribe = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
        stream.write_all(format!("{subscribe}{more}").as_bytes())?;
        stream.read(&mut [0])
    };
    say().is_ok_and(|said| said > 0)
}

/// Exceeding the limit three times, ten seconds apart, leads to a ban.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_logs_in_too_often_is_banned_listed_and_let_in_again() {
    let rig = Rig::open().await;
    let stratum = rig.gateway.addr("stratum");
    let set = |change: &str| {
        let body = format!("{{\"changes\": {{{change}}}}}");
        assert_eq!(rig.admin("PUT", "/api/v1/config", Some(&body)).status, 200, "{change}");
    };
    set("\"limits.logins_per_minute\": 1");
    assert_eq!(rig.get("/api/v1/bans")["total"], 0);
    let login = "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"a\",\"x\"]}\n".repeat(2);
    let bans = eventually("a ban", 4 * SOON, || {
        connects_with(stratum, &login);
        Some(rig.get("/api/v1/bans")).filter(|bans| bans["total"] == 1)
    });
    let api = rig.get("/api/v1/openapi.json");
    conforms(&api, "get", "/api/v1/bans", 200, &bans);
    assert_eq!(bans["bans"][0]["address"], "127.0.1.1");
    assert_eq!(bans["bans"][0]["limit"], "logins");
    // The ban does not depend on the settings.
    set("\"limits.logins_per_minute\": 1000");
    assert_eq!(rig.get("/api/v1/bans")["total"], 1);
    assert!(!connects(stratum));
    let path = "/api/v1/bans/127.0.1.1";
    assert_eq!(ask(rig.api, "DELETE", path, &[], None).status, 401);
    assert_eq!(rig.admin("DELETE", "/api/v1/bans/nobody", None).status, 404);
    assert_eq!(rig.admin("DELETE", "/api/v1/bans/127.0.1.0%2F24", None).status, 404);
    assert_eq!(rig.admin("DELETE", path, None).status, 200);
    assert_eq!(rig.admin("DELETE", path, None).status, 404);
    eventually("it is let in again", SOON, || connects(stratum).then_some(()));
    set("\"limits.deny\": [\"127.0.1.0/24\"]");
    eventually("it is denied", SOON, || (!connects(stratum)).then_some(()));
    let metrics = get(rig.api, "/metrics");
    for line in ["gatewayd_bans_total 1", "gatewayd_connections_refused_total{reason=\"denied\"} 1"]
    {
        assert!(metrics.text().contains(line), "{line}: {}", metrics.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_things_happen() {
    let rig = Rig::open().await;
    let mut events = Events::open(rig.api, "/api/v1/events");
    let api = rig.get("/api/v1/openapi.json");
    conforms(&api, "get", "/api/v1/status", 200, &events.next("status"));
    conforms(&api, "get", "/api/v1/nodes", 200, &events.next("nodes"));
    assert_eq!(events.next("warnings")["warnings"], json!([]));
    let miner = rig.miner("a");
    let block = events.next("block");
    assert_eq!(block["worker"], format!("{ADDRESS}.a"));
    let height = block["height"].as_u64().unwrap();
    while events.next("template")["height"].as_u64().unwrap() <= height {}
    miner.stop().await;
    assert!(rig.get("/api/v1/status")["blocks_found"].as_u64() > Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_with_their_comments() {
    let rig = Rig::open().await;
    let file = rig.gateway.dir().join("gatewayd.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let config = rig.admin("GET", "/api/v1/config", None).json();
    let text = config["text"].as_str().unwrap();
    assert!(text.contains("rpc_password = \"<secret>\" # the node's"), "{text}");
    assert_eq!(config["values"]["node"][0]["rpc_password"], "<secret>");
    assert_eq!(config["values"]["template"]["refresh"], "40s", "defaults are included");
    let put = |body: &Value| rig.admin("PUT", "/api/v1/config", Some(&body.to_string()));
    let bad = put(&json!({ "changes": { "mining.address": "bc1x", "api.listen": "here" } }));
    assert_eq!((bad.status, bad.json()["problems"].as_array().unwrap().len()), (422, 2));
    let before = fs::read_to_string(&file).unwrap();
    let changes = json!({ "mining.coinbase_tag": "hello", "stratum.shares_per_minute": 12 });
    let checked = put(&json!({ "changes": &changes, "check_only": true }));
    assert_eq!((checked.status, &checked.json()["revision"]), (200, &Value::Null));
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    let done = put(&json!({ "changes": &changes, "revision": &config["revision"] }));
    assert_eq!(done.status, 200, "{}", done.text());
    let late = put(&json!({ "text": text, "revision": &config["revision"] }));
    assert_eq!(late.status, 409, "{}", late.text());
    let after = fs::read_to_string(&file).unwrap();
    assert!(after.starts_with("# a comment\n") && after.contains("\" # mine\n"), "{after}");
    assert!(after.contains("coinbase_tag = \"hello\"\n"), "{after}");
    assert!(after.contains(rig.node.password()), "the secret is kept");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    let whole = put(&json!({ "text": text }));
    assert_eq!(whole.status, 200, "{}", whole.text());
    assert_eq!(fs::read_to_string(&file).unwrap(), before, "the same text, secrets in place");
    assert_eq!(rig.admin("POST", "/api/v1/reload", None).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_networks_are_let_in_and_the_world_is_not() {
    let rig = Rig::open().await;
    assert_eq!(get(rig.api, "/NOTIFY").text(), "OK");
    assert_eq!(ask(rig.api, "POST", "/NOTIFY", &[], None).text(), "OK");
    let world = [("X-Forwarded-For", "8.8.8.8")];
    for path in ["/NOTIFY", "/umbrel-api"] {
        let answer = ask(rig.api, "GET", path, &world, None);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.json()["message"].as_str().unwrap().contains("private networks"));
    }
    let height = rig.node.height();
    rig.node.mine_one();
    assert_eq!(get(rig.api, "/NOTIFY").status, 200);
    rig.eventually("/api/v1/status", |it| it["tip_height"].as_u64() == Some(u64::from(height) + 1));
    let widget = rig.get("/umbrel-api");
    assert_eq!(widget["type"], "four-stats");
    assert_eq!(widget["items"][0]["title"], "Connections");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_safe_in_a_browser() {
    let rig = Rig::open().await;
    for path in ["/", "/api/v1/status", "/nothing", "/api/v1/nothing"] {
        let answer = get(rig.api, path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let page = get(rig.api, "/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let etag = page.header("etag").unwrap();
    assert_eq!(ask(rig.api, "GET", "/", &[("If-None-Match", etag)], None).status, 304);
    assert_eq!(get(rig.api, "/../Cargo.toml").status, 404);
    assert_eq!(get(rig.api, "/api/v1/nothing").json()["error"], "not-found");
    let answer = ask(rig.api, "PATCH", "/api/v1/status", &[], None);
    assert_eq!((answer.status, &answer.json()["error"]), (405, &json!("method-not-allowed")));
    assert!(answer.header("allow").unwrap().contains("GET"));
    let large = "x".repeat(300_000);
    let answer = rig.admin("PUT", "/api/v1/config", Some(&large));
    assert_eq!(answer.status, 413, "{}", answer.text());
    let long = "x".repeat(400_000);
    let answer = ask(rig.api, "GET", "/healthz", &[("X-Long", &long)], None);
    assert_eq!(answer.status, 431);
}

/// Without a node there is no work; the API says so, and that nothing can be changed.
#[test]
fn a_waiting_gateway_says_what_for() {
    let gateway = Gateway::start(
        r#"
        [[node]]
        rpc_url = "http://127.0.0.1:1"
        rpc_user = "me"
        rpc_password = "secret"
        [mining]
        address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
        [stratum]
        listen = ["127.0.0.1:0"]
        [api]
        listen = "127.0.0.1:0"
        [ledger]
        data_dir = "{dir}"
        "#,
    );
    let api = gateway.addr("http");
    // Until it has been tried, the reason is that it has given nothing yet.
    eventually("the node is tried", SOON, || {
        let answer = get(api, "/readyz");
        assert_eq!(answer.status, 503);
        let reasons = answer.json()["reasons"].to_string();
        assert!(reasons.contains("127.0.0.1:1"), "{reasons}");
        reasons.contains("efused").then_some(())
    });
    assert_eq!(get(api, "/healthz").status, 200);
    let status = get(api, "/api/v1/status").json();
    assert_eq!((&status["mode"], &status["tip_height"]), (&json!("waiting"), &Value::Null));
    let codes: Vec<_> =
        status["warnings"].as_array().unwrap().iter().map(|it| &it["code"]).collect();
    assert!(
        codes.contains(&&json!("no-work")) && codes.contains(&&json!("node-down")),
        "{codes:?}"
    );
    let login = ask(api, "POST", "/api/v1/session", &[], Some(r#"{"password":"x"}"#));
    assert_eq!((login.status, &login.json()["error"]), (403, &json!("read-only")));
    assert_eq!(ask(api, "POST", "/api/v1/notify", &[BEARER], None).status, 403);
    assert_eq!(get(api, "/metrics").status, 200);
}

/// A port in use does not stop mining.
#[test]
fn a_taken_port_is_reported_and_retried() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let gateway = Gateway::start(&format!(
        r#"
        [[node]]
        rpc_url = "http://127.0.0.1:1"
        rpc_user = "me"
        rpc_password = "secret"
        [mining]
        address = "{ADDRESS}"
        [stratum]
        listen = ["127.0.0.1:0"]
        [api]
        listen = "{addr}"
        [ledger]
        data_dir = "{{dir}}"
        "#
    ));
    let line = gateway.wait_for_line("api.listen", SOON);
    assert!(line.contains("Mining goes on"), "{line}");
    drop(taken);
    assert_eq!(gateway.addr("http"), addr);
}

/// Four thousand miners make neither pages nor scrapes slow, nor do slow readers hold anybody up.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_reader_holds_nobody_up() {
    let rig = Rig::open().await;
    // Opened, and never read.
    let _idle: Vec<_> = (0..8).map(|_| Events::open(rig.api, "/api/v1/events")).collect();
    #[expect(clippy::disallowed_methods, reason = "a test's clock")]
    let began = Instant::now();
    for _ in 0..20 {
        rig.get("/api/v1/status");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
