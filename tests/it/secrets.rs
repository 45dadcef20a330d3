//! Secrets are never printed: not in a log at any level, not by a command, not by the API, whether
//! things go well or not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{ask, get},
};
use bitcoincore_rpc::jsonrpc::base64;
use gatewayd::{
    datum,
    devnet::{
        miner::{Miner, MinerOptions},
        node::{Node, NodeHandle, NodeOptions},
        pool::{Pool, PoolHandle, PoolOptions},
    },
    sv2::noise::AuthorityKey,
};

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SOON: Duration = Duration::from_secs(120);
const USER: &str = "__cookie__";
const RPC: &str = "RpcPassw0rd9f3a";
const WRONG_RPC: &str = "WrongPassw0rd7b1c";
const IN_URL: &str = "UrlPassw0rd5d2e";
const ADMIN: &str = "AdminPassw0rd1a8b";
const WRONG_ADMIN: &str = "NotTheAdminPassw0rd4c";
/// As a miner sends it; some pools require a real one.
const MINER: &str = "MinersPassw0rd6e";

/// Searches texts for everything that must not be in them.
struct Search {
    secrets: Vec<(&'static str, String)>,
}

impl Search {
    fn new() -> Self {
        let mut search = Self { secrets: Vec::new() };
        for (what, secret) in [
            ("the RPC password", RPC),
            ("a wrong RPC password", WRONG_RPC),
            ("the password in a URL", IN_URL),
            ("the admin password", ADMIN),
            ("a wrong admin password", WRONG_ADMIN),
            ("a miner's password", MINER),
        ] {
            search.add(what, secret);
            search.add(what, &base64::encode(secret));
        }
        for password in [RPC, WRONG_RPC] {
            search.add("the RPC login", &base64::encode(format!("{USER}:{password}")));
        }
        search
    }

    fn add(&mut self, what: &'static str, secret: &str) {
        assert!(secret.len() > 12, "{secret} may be in a text by chance");
        self.secrets.push((what, secret.to_owned()));
    }

    #[track_caller]
    fn through(&self, place: &str, text: &str) {
        for (what, secret) in &self.secrets {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{what} is in {place}: {}", line.unwrap_or_default());
        }
    }
}

struct Parts {
    node: NodeHandle,
    pool: PoolHandle,
    dir: tempfile::TempDir,
}

impl Parts {
    async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options =
            NodeOptions { user: USER.into(), password: RPC.into(), ..NodeOptions::default() };
        let parts = Self {
            node: Node::start(options, any).await.unwrap(),
            pool: Pool::start(PoolOptions::default(), any).await.unwrap(),
            dir: tempfile::tempdir().unwrap(),
        };
        parts.write("cookie", &format!("{USER}:{RPC}"));
        parts.write("wrong-cookie", &format!("{USER}:{WRONG_RPC}"));
        parts.write("broken-cookie", WRONG_RPC);
        parts.write("admin", &format!("{ADMIN}\n"));
        // Neither a password nor a hash.
        parts.write("broken-admin", &format!("$argon2id${ADMIN}\n"));
        parts
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// `auth` is the lines of `[[node]]` that say how to log in.
    fn toml(&self, auth: &str, admin: &str, key: &str, format: &str) -> String {
        let (node, pool) = (self.node.rpc_url(), self.pool.addr);
        let admin = self.path(admin);
        format!(
            r#"
[[node]]
rpc_url = "{node}"
{auth}
[mining]
address = "{ADDRESS}"
[[pool]]
host = "{}"
port = {}
public_key = "{key}"
[stratum]
listen = ["127.0.0.1:0"]
difficulty_min = 0.000244140625
difficulty_start = 0.000244140625
[api]
listen = "127.0.0.1:0"
admin_password_file = "{admin}"
[ledger]
data_dir = "{{dir}}"
[log]
level = "trace"
format = "{format}"
file = "{{dir}}/log"
"#,
            pool.ip(),
            pool.port()
        )
    }
}

/// Where it listens, from its log in either format.
fn addr(gateway: &Gateway, protocol: &str, format: &str) -> SocketAddr {
    if format == "text" {
        return gateway.addr(protocol);
    }
    let line = gateway.wait_for_line(&format!("\"protocol\":\"{protocol}\""), SOON);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    line["fields"]["addr"].as_str().unwrap().parse().unwrap()
}

/// Everything that a gateway has written, anywhere.
fn said(gateway: &Gateway) -> String {
    let mut said = gateway.lines().join("\n");
    for file in fs::read_dir(gateway.dir()).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("log") {
            said += &fs::read_to_string(path).unwrap();
        }
    }
    said
}

fn authority_key(dir: &Path) -> String {
    let is_key = |text: &String| AuthorityKey::parse(text).is_ok();
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let text = files.filter_map(|path| fs::read_to_string(path).ok()).find(is_key).unwrap();
    text.lines().last().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_at_work_keeps_its_secrets() {
    let parts = Parts::start().await;
    let mut search = Search::new();
    let key = parts.pool.public_key_hex();
    let password = format!("rpc_user = \"{USER}\"\nrpc_password = \"{RPC}\"");
    let cookie = format!("rpc_cookie_file = \"{}\"", parts.path("cookie"));
    for (auth, format) in [(password, "text"), (cookie, "json")] {
        let mut gateway = Gateway::start(&parts.toml(&auth, "admin", &key, format));
        let api = addr(&gateway, "http", format);
        let miner = Miner::start(MinerOptions {
            connect: addr(&gateway, "stratum", format).to_string(),
            username: format!("{ADDRESS}.a"),
            password: MINER.into(),
            hashrate_max: Some(2_000_000.0),
            ..MinerOptions::default()
        })
        .unwrap();
        search.add("the authority key", &authority_key(gateway.dir()));
        let shares = || get(api, "/api/v1/pool").json()["relay"]["accepted"].as_u64() > Some(2);
        eventually("the pool has shares", SOON, || shares().then_some(()));

        let login = |password: &str| {
            let body = format!(r#"{{"password":"{password}"}}"#);
            ask(api, "POST", "/api/v1/session", &[], Some(&body))
        };
        assert_eq!(login(WRONG_ADMIN).status, 401);
        eventually("the password is read", SOON, || (login(ADMIN).status == 200).then_some(()));
        let session = login(ADMIN);
        let cookie = session.header("set-cookie").unwrap().split(';').next().unwrap();
        search.add("a session's cookie", cookie.split_once('=').unwrap().1);
        search.add("a session's token", session.json()["csrf_token"].as_str().unwrap());
        let bearer = format!("Bearer {ADMIN}");
        let wrong = format!("Bearer {WRONG_ADMIN}");
        let admin = [("Authorization", &*bearer)];
        assert_eq!(
            ask(api, "GET", "/api/v1/config", &[("Authorization", &wrong)], None).status,
            401
        );
        let bad_url = format!("http://me:{IN_URL}@127.0.0.1:1");
        let changes = [
            format!(r#"{{"changes":{{"node.0.rpc_url":"{bad_url}"}}}}"#),
            format!(r#"{{"text":"[[node]]\nrpc_password = {WRONG_RPC}\n"}}"#),
            r#"{"changes":{"mining.coinbase_tag":"x"}}"#.to_owned(),
        ];
        for body in &changes {
            let answer = ask(api, "PUT", "/api/v1/config", &admin, Some(body));
            search.through("the settings in the API", answer.text());
        }
        for path in ["config", "status", "miners", "workers", "work", "pool", "nodes", "blocks"] {
            let answer = ask(api, "GET", &format!("/api/v1/{path}"), &admin, None);
            assert_eq!(answer.status, 200, "{path}");
            search.through(path, answer.text());
        }
        for path in ["/metrics", "/readyz", "/umbrel-api", "/api/v1/openapi.json"] {
            search.through(path, get(api, path).text());
        }
        ask(api, "POST", "/api/v1/reload", &admin, None);
        gateway.signal("HUP");
        gateway.signal("USR1");
        miner.stop().await;
        gateway.signal("TERM");
        assert!(gateway.wait_exit(SOON).success());
        let said = said(&gateway);
        assert!(said.contains("DEBUG"), "this is as much as it ever logs");
        search.through("its log", &said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_in_trouble_keeps_its_secrets_too() {
    let parts = Parts::start().await;
    let search = Search::new();
    let other = Pool::start(PoolOptions::default(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let wrong_key = other.await.unwrap().public_key_hex();
    let file = |name: &str| format!("rpc_cookie_file = \"{}\"", parts.path(name));
    for auth in [
        format!("rpc_user = \"{USER}\"\nrpc_password = \"{WRONG_RPC}\""),
        file("wrong-cookie"),
        file("broken-cookie"),
        file("none"),
    ] {
        let gateway = Gateway::start(&parts.toml(&auth, "broken-admin", &wrong_key, "text"));
        let api = gateway.addr("http");
        eventually("the node refuses", SOON, || {
            let reasons = get(api, "/readyz").text().to_owned();
            search.through("/readyz", &reasons);
            (reasons.contains("refuses") || reasons.contains("cookie")).then_some(())
        });
        gateway.wait_for_line("admin_password_file", SOON);
        search.through("/api/v1/status", get(api, "/api/v1/status").text());
        search.through("its log", &said(&gateway));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keep_secrets() {
    let parts = Parts::start().await;
    let mut search = Search::new();
    let key = parts.pool.public_key_hex();
    let login = |password: &str| format!("rpc_user = \"{USER}\"\nrpc_password = \"{password}\"");
    let good = parts.toml(&login(RPC), "admin", &key, "text");
    let in_url = good.replace("http://", &format!("http://me:{IN_URL}@"));
    let files = [
        good.clone(),
        parts.toml(&login(WRONG_RPC), "broken-admin", &"ab".repeat(64), "text"),
        in_url.clone(),
        in_url.replace("rpc_url", "rpc_ur"),
        good.replace("[mining]", "[mining"),
        good.replace(&format!("\"{RPC}\""), RPC),
        good.replace(&format!("\"{RPC}\""), &format!("\"{RPC}")),
        good.replace(&format!("\"{RPC}\""), &format!("[\"{RPC}\"]")),
        good.replace(&format!("\"{RPC}\""), &format!("\"\"\"{RPC}\n{RPC}")),
        good.replace(&format!("\"{RPC}\""), &format!("\"\"\"\n{RPC}\\q\"\"\"")),
        good.replace("[[node]]", "[node]"),
        format!("node = '[{{rpc_password = \"{RPC}\"'\n"),
    ];
    let authority = AuthorityKey::generate().to_file_text();
    search.add("the authority key", authority.lines().last().unwrap());
    for (number, toml) in files.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gatewayd.toml");
        fs::write(&file, toml.replace("{dir}", dir.path().to_str().unwrap())).unwrap();
        fs::write(dir.path().join("sv2-authority.key"), &authority).unwrap();
        for command in ["check", "healthcheck"].iter().chain((number > 1).then_some(&"run")) {
            let told = run(&["--config", file.to_str().unwrap(), command], &[]);
            search.through(&format!("{command} of\n{toml}"), &told);
        }
    }
    for list in [
        format!("[{{rpc_url=\"http://127.0.0.1:1\", rpc_user=\"me\", rpc_password=\"{RPC}\"}}]"),
        format!("[{{rpc_url=\"http://me:{IN_URL}@127.0.0.1:1\"}}]"),
        format!("[{{rpc_url=\"http://127.0.0.1:1\", rpc_password=\"{RPC}\""),
        format!("[{{rpc_url=\"http://127.0.0.1:1\", rpc_passwort=\"{RPC}\"}}]"),
    ] {
        let told = run(&["--config", "/nowhere/x.toml", "check"], &[("GATEWAYD_NODE", &list)]);
        search.through(&format!("check of {list}"), &told);
    }
    for args in [["--help"], ["example-config"], ["--version"]] {
        let told = run(&args, &[("GATEWAYD_NODE", &format!("[{{rpc_password=\"{RPC}\"}}]"))]);
        assert!(!told.is_empty());
        search.through(args[0], &told);
    }
}

/// What is imported goes to the new file, and nowhere else.
#[test]
fn notes_on_an_import_keep_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let search = Search::new();
    for json in [
        format!(
            r#"{{"bitcoind":{{"rpcuser":"me","rpcpassword":"{RPC}","rpcurl":"http://a:1"}},"api":{{"admin_password":"{ADMIN}"}}}}"#
        ),
        format!(r#"{{"bitcoind":{{"rpcpassword":"{RPC}","rpcurl":"http://me:{IN_URL}@a:1"}}}}"#),
        format!(
            r#"{{"bitcoind":{{"rpcpassword":["{RPC}"]}},"api":{{"admin_password":{{"x":"{ADMIN}"}}}}}}"#
        ),
    ] {
        fs::write(&file, &json).unwrap();
        let output = Gateway::command().arg("import-datum").arg(&file).output().unwrap();
        search.through(&json, &String::from_utf8(output.stderr).unwrap());
    }
}

/// Keys that live for one connection are in no file, so this is the only way for them to leak.
#[test]
fn keys_do_not_print_themselves() {
    let (ed25519, x25519) = ([0xA7; 32], [0x5B; 32]);
    let identity = datum::Identity::from_secrets(&ed25519, x25519);
    let printed = format!("{identity:?} {identity:#?}").to_lowercase();
    for byte in [0xA7_u8, 0x5B] {
        let hex = format!("{byte:02x}").repeat(4);
        let list = format!("{byte}, {byte}");
        assert!(!printed.contains(&hex) && !printed.contains(&list), "{printed}");
    }
    let key = AuthorityKey::from_secret([0x5B; 32]).unwrap();
    let printed = format!("{key:?} {key:#?}").to_lowercase();
    assert!(!printed.contains("5b5b5b5b") && !printed.contains("91, 91"), "{printed}");
    assert!(!printed.contains(&key.to_file_text().lines().last().unwrap().to_lowercase()));
}

/// Both streams of a command.
fn run(args: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Gateway::command();
    command.args(args).envs(environment.iter().copied()).env("RUST_LOG", "trace");
    let output = command.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}
