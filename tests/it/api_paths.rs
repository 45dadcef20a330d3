//! The API as proxies, scripts and scanners use it: below a path, with pipelined requests, in old
//! and odd forms of HTTP. There is no node: it answers all the same.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    process::Stdio,
    time::Duration,
};

use crate::common::{
    eventually,
    gateway::Gateway,
    http::{Events, ask, get},
};
use serde_json::json;

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const PASSWORD: &str = "correct horse";
const SOON: Duration = Duration::from_secs(120);

fn start(api: &str) -> (Gateway, SocketAddr) {
    let gateway = Gateway::start(&format!(
        r#"[[node]]
rpc_url = "http://127.0.0.1:1"
rpc_user = "nobody"
rpc_password = "nothing"
[mining]
address = "{ADDRESS}"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:0"
{api}
[ledger]
data_dir = "{{dir}}"
"#
    ));
    let api = gateway.addr("http");
    (gateway, api)
}

/// Sends exactly these bytes, and returns all that comes back until the other end closes.
fn say(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    // It may have hung up before all of it was sent.
    let _ = socket.write_all(bytes);
    let mut all = Vec::new();
    let _ = socket.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
}

#[test]
fn everything_is_served_below_a_proxys_path_and_without_it() {
    let (gateway, api) = start("base_path = \"/gatewayd/\"");
    for base in ["", "/gatewayd"] {
        for path in ["/", "/healthz", "/metrics", "/api/v1/status", "/js/main.js", "/icon.svg"] {
            assert_eq!(get(api, &format!("{base}{path}")).status, 200, "{base}{path}");
        }
        assert_eq!(get(api, &format!("{base}/readyz")).status, 503, "{base}");
        assert_eq!(get(api, &format!("{base}/api/v1/nothing")).status, 404, "{base}");
        let page = get(api, &format!("{base}/"));
        assert!(page.text().contains("src=\"/gatewayd/js/main.js\""), "{}", page.text());
        assert!(!page.text().contains("=\"./"), "{}", page.text());
        let described = get(api, &format!("{base}/api/v1/openapi.json")).json();
        assert_eq!(described["servers"], json!([{ "url": "/gatewayd" }]));
        Events::open(api, &format!("{base}/api/v1/events")).next("status");
    }
    for wrong in ["/gatewayd2/healthz", "/GATEWAYD/healthz", "/gatewayd/gatewayd/healthz"] {
        assert_eq!(get(api, wrong).status, 404, "{wrong}");
    }
    for (asked, location) in [("/gatewayd", "/gatewayd/"), ("/gatewayd?x=//y", "/gatewayd/?x=//y")]
    {
        let answer = get(api, asked);
        assert_eq!((answer.status, answer.header("location")), (308, Some(location)));
    }
    // Another path, or none, without a restart; browsers that have the old page load the new one.
    let etag = get(api, "/").header("etag").unwrap().to_owned();
    let file = gateway.dir().join("gatewayd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"/gatewayd/\"", "\"\"")).unwrap();
    gateway.signal("HUP");
    let page = eventually("links without a path", SOON, || {
        let page = ask(api, "GET", "/", &[("If-None-Match", &etag)], None);
        (page.status == 200).then_some(page)
    });
    assert!(page.text().contains("src=\"./js/main.js\""), "{}", page.text());
    assert_eq!(get(api, "/gatewayd/").status, 404);
    assert!(get(api, "/api/v1/openapi.json").json().get("servers").is_none());
}

#[test]
fn a_session_is_for_the_path_of_the_page() {
    let (gateway, api) =
        start("base_path = \"/gatewayd\"\nadmin_password_file = \"{dir}/password\"");
    fs::write(gateway.dir().join("password"), PASSWORD).unwrap();
    gateway.signal("HUP");
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
    let login = json!({ "password": PASSWORD }).to_string();
    let sign_in = |path: &str, headers: &[(&str, &str)]| {
        let answer = ask(api, "POST", path, headers, Some(&login));
        assert_eq!(answer.status, 200, "{}", answer.text());
        let cookie = answer.header("set-cookie").unwrap().to_owned();
        (cookie, answer.json()["csrf_token"].as_str().unwrap().to_owned())
    };
    let (plain, below) = ("/api/v1/session", "/gatewayd/api/v1/session");
    for (path, headers, expected) in [
        (plain, vec![], "; Path=/;"),
        (below, vec![], "; Path=/gatewayd;"),
        (plain, vec![("X-Gatewayd-Path", "/gatewayd")], "; Path=/gatewayd;"),
        (plain, vec![("X-Forwarded-Prefix", "/gatewayd/")], "; Path=/gatewayd;"),
        (plain, vec![("X-Forwarded-Prefix", "/elsewhere")], "; Path=/;"),
    ] {
        let (cookie, _) = sign_in(path, &headers);
        assert!(cookie.contains(expected), "{path} {headers:?}: {cookie}");
    }
    // Browsers send the cookie with the longer path first; that session may have ended.
    let (cookie, token) = sign_in(plain, &[]);
    let cookie = format!("gatewayd_session=ended; {}", cookie.split(';').next().unwrap());
    let headers = [("Cookie", cookie.as_str()), ("X-CSRF-Token", token.as_str())];
    assert_eq!(ask(api, "POST", "/gatewayd/api/v1/notify", &headers, None).status, 200);
    let gone = ask(api, "DELETE", plain, &headers, None);
    let taken: Vec<_> = gone.headers.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!((gone.status, taken.len()), (200, 2), "{taken:?}");
    assert!(taken.iter().all(|(_, it)| it.contains("Max-Age=0")), "{taken:?}");
    assert_eq!(ask(api, "POST", "/api/v1/notify", &headers, None).status, 401);
}

#[test]
fn head_gets_the_answer_without_its_body() {
    let (_gateway, api) = start("");
    for path in ["/", "/js/main.js", "/healthz", "/metrics", "/api/v1/status", "/readyz", "/no"] {
        let answer = say(
            api,
            format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        assert_eq!(status_of(&answer), Some(get(api, path).status), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{path}: {answer}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_gateway, api) = start("");
    let line = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let all = [
        line("/healthz", ""),
        line("/nothing", ""),
        line("/api/v1/session", ""),
        line("/readyz", "Connection: close\r\n"),
    ]
    .concat();
    let answers = say(api, all.as_bytes());
    let statuses: Vec<_> = answers.match_indices("HTTP/1.1 ").collect();
    let statuses: Vec<_> =
        statuses.iter().map(|(at, _)| answers[at + 9..at + 12].to_owned()).collect();
    assert_eq!(statuses, ["200", "404", "200", "503"], "{answers}");
    let places = ["\"alive\"", "There is no /nothing", "\"csrf_token\"", "\"reasons\""];
    let places: Vec<_> = places.iter().map(|it| answers.find(it)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?} {answers}");
}

/// nginx does so by default, and some scripts still do.
#[test]
fn http_1_0_clients_are_answered_and_disconnected() {
    let (_gateway, api) = start("");
    for request in ["GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n"] {
        let answer = say(api, request.as_bytes());
        assert_eq!(status_of(&answer), Some(200), "{answer}");
        assert!(answer.contains("\"alive\":true"), "{answer}");
    }
    let mut socket = TcpStream::connect(api).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(b"GET /api/v1/events HTTP/1.0\r\n\r\n").unwrap();
    let mut all = String::new();
    while !all.contains("event: status\n") {
        let mut some = [0; 4096];
        let len = socket.read(&mut some).unwrap();
        assert!(len > 0, "events go on: {all}");
        all += &String::from_utf8_lossy(&some[..len]);
    }
    // Such a client does not know chunks.
    assert!(!all.to_ascii_lowercase().contains("chunked"), "{all}");
}

#[test]
fn a_range_request_gets_the_whole_file() {
    let (_gateway, api) = start("");
    let whole = get(api, "/js/main.js");
    let part = ask(api, "GET", "/js/main.js", &[("Range", "bytes=0-9")], None);
    assert_eq!((part.status, part.body), (200, whole.body));
}

#[test]
fn a_body_may_come_in_chunks_or_wait_for_100_continue() {
    let (_gateway, api) = start("");
    let head = "PUT /api/v1/config HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                Content-Type: application/json\r\n";
    for rest in [
        "Transfer-Encoding: chunked\r\n\r\n9\r\n{\"changes\r\n6\r\n\": {}}\r\n0\r\n\r\n",
        "Expect: 100-continue\r\nContent-Length: 15\r\n\r\n{\"changes\": {}}",
    ] {
        let answer = say(api, format!("{head}{rest}").as_bytes());
        // There is no password, so nobody may do it.
        assert!(answer.contains("HTTP/1.1 403"), "{answer}");
    }
}

/// Every request gets a proper answer or a closed connection, and others are served as before.
#[test]
fn odd_requests_harm_nobody() {
    let (_gateway, api) = start("base_path = \"/gatewayd\"");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let odd = [
        get("/../../etc/passwd"),
        get("/gatewayd/../../etc/passwd"),
        get("/%2e%2e/%2e%2e/etc/passwd"),
        get("/gatewayd/%2e%2e%2fetc%2fpasswd"),
        get("//evil.example/"),
        get("/gatewayd//evil.example"),
        get("/js/../index.html"),
        get("/api/v1/status/"),
        get("/api/v1/%73tatus"),
        get("/api/v1/miners?limit=%ff"),
        get("/api/v1/miners/1/disconnect"),
        get("*"),
        get("no-slash"),
        get(&format!("/{}", "x".repeat(60_000))),
        get(&format!("/api/v1/history?worker={}", "%41".repeat(9_000))),
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .into(),
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
        "CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
        "TRACE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".into(),
        "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n".into(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}".into(),
    ];
    for request in odd {
        let asked: String = request.chars().take(80).collect();
        let mut socket = TcpStream::connect(api).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        let _ = socket.write_all(request.as_bytes());
        let _ = socket.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let is_answer = status_of(&answer).is_some_and(|it| (200..500).contains(&it));
        // A miner is told where it belongs, in its own protocol.
        let is_directions = asked.contains("mining.") && answer.contains("the dashboard's port");
        assert!(answer.is_empty() || is_answer || is_directions, "{asked:?}: {answer}");
        assert!(!answer.contains("root:"), "{asked:?}: {answer}");
        assert_eq!(crate::common::http::get(api, "/healthz").status, 200, "{asked:?}");
    }
}

/// A pipe holds 64 kB; whoever started gatewayd may have stopped reading it.
#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let config = dir.path().join("gatewayd.toml");
    let text = format!(
        r#"[[node]]
rpc_url = "http://127.0.0.1:1"
[mining]
address = "{ADDRESS}"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:0"
[ledger]
data_dir = "{}"
[log]
level = "debug"
file = "{}"
"#,
        dir.path().display(),
        log.display()
    );
    fs::write(&config, text).unwrap();
    let mut command = Gateway::command();
    command.arg("--config").arg(&config).arg("run").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let unread = child.stderr.take();
    let addr: SocketAddr = eventually("it listens", SOON, || {
        let log = fs::read_to_string(&log).ok()?;
        let line = log.lines().find(|line| line.contains("protocol=http"))?;
        line.split("addr=").nth(1)?.trim().parse().ok()
    });
    // Each of these is a line in the log.
    for n in 0..1500 {
        let answer = say(addr, b"no HTTP\r\n\r\n");
        assert_eq!(status_of(&answer), Some(400), "after {n} lines");
    }
    assert_eq!(get(addr, "/healthz").status, 200);
    let metrics = get(addr, "/metrics");
    let count = metrics.text().lines().filter(|it| it.contains("log_lines_dropped_total{")).count();
    assert_eq!(count, 3, "{}", metrics.text());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(unread);
}

/// Somebody keeps guessing passwords, from many addresses.
#[test]
fn refused_logins_do_not_fill_the_log() {
    let (gateway, api) = start("admin_password_file = \"{dir}/password\"");
    fs::write(gateway.dir().join("password"), PASSWORD).unwrap();
    gateway.signal("HUP");
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
    let login = json!({ "password": "wrong horse" }).to_string();
    for _ in 0..200 {
        let refused = ask(api, "POST", "/api/v1/session", &[], Some(&login)).status;
        assert!([401, 429].contains(&refused), "{refused}");
    }
    gateway.wait_for_line("API: a wrong admin password", SOON);
    let lines = gateway.lines();
    let said = lines.iter().filter(|line| line.contains("API: ")).count();
    // Two kinds of line, each once in five seconds.
    assert!(said < 50, "{said} lines");
}

/// A stranger's page whose name suddenly resolves to this address (DNS rebinding), and one that
/// only sends.
#[test]
fn pages_of_strangers_get_nothing_under_any_name() {
    let (gateway, api) =
        start("admin_password_file = \"{dir}/password\"\nallowed_hosts = [\"mine.example.org\"]");
    fs::write(gateway.dir().join("password"), PASSWORD).unwrap();
    gateway.signal("HUP");
    for path in [
        "/",
        "/api/v1/status",
        "/api/v1/miners",
        "/api/v1/events",
        "/metrics",
        "/NOTIFY",
        "/js/main.js",
    ] {
        for name in ["evil.example", "evil.example:7152", "127.0.0.1.evil.example"] {
            let answer = ask(api, "GET", path, &[("Host", name)], None);
            assert_eq!(answer.status, 403, "{path} {name}");
            assert_eq!(answer.json()["error"], "foreign-host");
            let told = answer.json()["message"].to_string();
            assert!(told.contains("allowed_hosts") && told.contains("evil.example"), "{told}");
        }
    }
    for (path, status) in [("/healthz", 200), ("/readyz", 503)] {
        assert_eq!(ask(api, "GET", path, &[("Host", "evil.example")], None).status, status);
    }
    for name in [
        "mine.example.org",
        "MINE.example.org:80",
        "umbrel.local",
        "abc.onion",
        "[::1]:1",
        "gatewayd",
    ] {
        assert_eq!(
            ask(api, "GET", "/api/v1/status", &[("Host", name)], None).status,
            200,
            "{name}"
        );
    }
    let login = json!({ "password": PASSWORD }).to_string();
    let is_read = || (get(api, "/api/v1/session").json()["admin_enabled"] == true).then_some(());
    eventually("the password is read", SOON, is_read);
    for foreign in [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "same-site")] {
        let answer = ask(api, "POST", "/api/v1/session", &[foreign], Some(&login));
        assert_eq!((answer.status, &answer.json()["error"]), (403, &json!("foreign-page")));
    }
    // With a session at one port, a page at another gains nothing from both cookie and token.
    let own = ("Origin", "http://umbrel.local:7152");
    let answer = ask(api, "POST", "/api/v1/session", &[own], Some(&login));
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap();
    let session = answer.json();
    let both = [("Cookie", cookie), ("X-CSRF-Token", session["csrf_token"].as_str().unwrap())];
    let notify = |origin| {
        let headers = [&both[..], &[("Origin", origin)]].concat();
        ask(api, "POST", "/api/v1/notify", &headers, None).status
    };
    assert_eq!(notify("http://umbrel.local:8080"), 401);
    assert_eq!(notify("http://umbrel.local:7152"), 200);
    let tls = [("X-Forwarded-Proto", "https")];
    let answer = ask(api, "POST", "/api/v1/session", &tls, Some(&login));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-gatewayd_session=") && cookie.contains("; Secure"),
        "{cookie}"
    );
}

/// Other users of this machine can neither read who mines here nor hold the ledger's lock, even
/// where an earlier version let them.
#[test]
fn stored_files_are_for_the_owner_alone() {
    let (mut gateway, api) = start("");
    let data = gateway.dir().to_owned();
    let modes = || -> Vec<(String, u32)> {
        let entries = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap());
        let named =
            entries.map(|it| (it.file_name().into_string().unwrap(), it.metadata().unwrap()));
        let ours = named.filter(|(name, _)| name != "gatewayd.toml");
        ours.map(|(name, about)| (name, about.permissions().mode() & 0o777)).collect()
    };
    let is_kept = || modes().iter().any(|(name, _)| name.ends_with(".db-wal")).then_some(());
    eventually("the ledger is open", SOON, is_kept);
    for (name, mode) in modes() {
        assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
    }
    gateway.kill9();
    for (name, _) in modes().iter().filter(|(name, _)| name.starts_with("gatewayd.db")) {
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(data.join("blocks"), fs::Permissions::from_mode(0o755)).unwrap();
    let gateway = gateway.restart();
    assert_ne!(gateway.addr("http"), api);
    let is_closed = || modes().iter().all(|(_, mode)| mode & 0o077 == 0).then_some(());
    eventually("they are closed again", SOON, is_closed);
}

/// Half requests, from one machine for as long as it likes, and streams that nobody reads.
#[test]
fn a_client_that_takes_all_places_of_the_api_keeps_nobody_out() {
    let (_gateway, api) = start("");
    let from = |last: u8| {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
        socket.connect(&api.into()).unwrap();
        TcpStream::from(socket)
    };
    let open = |n: usize, what: &[u8]| -> Vec<TcpStream> {
        let one = |_| {
            let mut socket = from(2);
            let _ = socket.write_all(what);
            socket
        };
        (0..n).map(one).collect()
    };
    let ask_as = |last: u8, path: &str| {
        let mut socket = from(last);
        socket.set_read_timeout(Some(SOON)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        status_of(&answer)
    };
    for what in [&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], b"G", b""] {
        let half = open(300, what);
        for path in ["/healthz", "/api/v1/status", "/"] {
            assert_eq!(ask_as(1, path), Some(200), "{path}");
            assert_eq!(ask_as(2, path), Some(200), "{path}, from the same machine");
        }
        drop(half);
    }
    let stream = b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n";
    let unread = open(100, stream);
    Events::open(api, "/api/v1/events").next("status");
    assert_eq!(ask_as(3, "/healthz"), Some(200));
    drop(unread);
}
