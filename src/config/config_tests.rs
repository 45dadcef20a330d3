use figment::Figment;

use super::*;
use crate::{
    node::{Auth, BlvmConfig, NodeKind},
    work::Difficulty,
};

/// The file as written, with defaults where it is silent.
pub(in crate::config) fn parse_raw(toml: &str) -> Result<Raw, Box<figment::Error>> {
    Figment::new().merge(Written(toml)).extract().map_err(Box::new)
}

/// As `example-config` prints it, with the one thing that has no default.
fn example() -> Raw {
    parse_raw(EXAMPLE).unwrap()
}

fn defaults() -> Raw {
    Raw { node: vec![Default::default()], pool: vec![Default::default()], ..Raw::default() }
}

const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const MINIMAL: &str = r#"
    [[node]]
    [mining]
    address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
"#;

#[test]
fn example_lists_every_default() {
    // `[[node]]` and `[[pool]]` are lists, empty by default; their entries' keys have defaults.
    assert_eq!(example(), defaults());
}

#[test]
fn example_names_every_key() {
    // Equality alone would pass for a key that the file leaves out.
    let defaults =
        Raw { node: vec![Default::default()], pool: vec![Default::default()], ..Raw::default() };
    let as_written = figment::value::Value::serialize(defaults).unwrap();
    let figment::value::Value::Dict(_, sections) = as_written else { panic!("not a table") };
    for (section, value) in sections {
        let table = match value {
            figment::value::Value::Dict(_, table) => table,
            figment::value::Value::Array(_, entries) => entries[0].as_dict().cloned().unwrap(),
            other => panic!("{section} is {other:?}"),
        };
        for key in table.keys() {
            let listed = EXAMPLE.lines().any(|line| {
                line.split_once('=').is_some_and(|(name, _)| name.trim() == key)
                    || line.starts_with(&format!("[{section}.{key}]"))
            });
            assert!(listed, "{section}.{key} is not in gatewayd.toml");
        }
    }
}

#[test]
fn minimal_file_is_enough() {
    let config = Config::parse(MINIMAL).unwrap();
    assert_eq!(&*config.template.nodes[0].name, "127.0.0.1:8332");
    assert!(config.datum.pools.is_empty());
    assert_eq!(config.template.refresh, Duration::from_secs(40));
}

#[test]
fn defaults_are_what_a_minimal_file_says() {
    let (defaults, minimal) = (Config::defaults(), Config::parse(MINIMAL).unwrap());
    assert_eq!((defaults.address, defaults.template.nodes.len()), (None, 0));
    assert_eq!(defaults.template.refresh, minimal.template.refresh);
    assert_eq!(defaults.limits, minimal.limits);
}

#[test]
fn a_typing_error_is_named() {
    let error = Config::parse("[stratum]\nvardif = 1").unwrap_err().to_string();
    assert!(error.contains("vardif") && error.contains("difficulty_min"), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let error = Config::parse(
        r#"
        [[node]]
        rpc_url = "https://x"
        [template]
        refresh = "soon"
        [mining]
        address = "bc1nonsense"
        [[pool]]
        public_key = "00"
        [pooling]
        when_down = "panic"
        [stratum]
        listen = ["everywhere"]
        difficulty_min = -1.0
        [log]
        format = "xml"
        "#,
    )
    .unwrap_err();
    for key in [
        "node.rpc_url",
        "template.refresh",
        "mining.address",
        "pool.public_key",
        "pooling.when_down",
        "stratum.listen",
        "stratum.difficulty_min",
        "log.format",
    ] {
        let told = error.problems.iter().filter(|problem| problem.text().starts_with(key)).count();
        assert_eq!(told, 1, "{key}: {:#?}", error.problems);
    }
}

#[test]
fn a_login_has_a_second_at_least() {
    let case = |time| Config::parse(&format!("{MINIMAL}\n[stratum]\nlogin_timeout = \"{time}\""));
    for time in ["0s", "0m", "999ms"] {
        let error = case(time).unwrap_err().to_string();
        assert!(error.contains("stratum.login_timeout must be at least 1s"), "{error}");
    }
    assert_eq!(case("1s").unwrap().stratum.rules.login_timeout, Duration::from_secs(1));
}

/// What `gatewayd check` prints of a file, in order.
#[track_caller]
fn told(toml: &str) -> Vec<String> {
    Config::parse(toml).unwrap_err().to_string().lines().map(str::to_owned).collect()
}

#[test]
fn every_problem_has_its_line() {
    let told = told(
        r#"
[[node]]
rpc_url = "http://127.0.0.1:8332"
[[node]]
zmq_hashblock = "here"
[[node]]
rpc_user = "me"
[mining]
coinbase_tag = "x"
[[pool]]
host = "a"
public_key = "00"
[stratum]
listen = ["127.0.0.1:1", "everywhere"]
difficulty_min = "low"
dificulty_start = 1.0
[stratum.sv2]
certificate_lifetime = "1s"
[[stratum.class]]
match = ""
max_coinbase = 1
[log]
format = "xml"
[stratun]
"#,
    );
    let expected = [
        (5, "node.zmq_hashblock \"here\""),
        (6, "node rpc_user and rpc_password go together"),
        (8, "mining.address is missing"),
        (12, "pool.public_key of a"),
        (14, "stratum.listen \"everywhere\""),
        (15, "stratum.difficulty_min is \"low\", but should be a number"),
        (16, "stratum.dificulty_start is not known: did you mean difficulty_start?"),
        (18, "stratum.sv2.certificate_lifetime is too short"),
        (20, "stratum.class.match is empty"),
        (23, "log.format \"xml\""),
        (24, "stratun is not known: did you mean stratum?"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    for (told, (line, text)) in told.iter().zip(expected) {
        let start = format!("configuration:{line}: {text}");
        assert!(told.starts_with(&start), "{told:?} is not {start:?}");
    }
}

#[test]
fn inline_lists_have_lines_too() {
    let told = told(
        "node = [\n  { rpc_url = \"http://a:1\" },\n  { rpc_url = \"b\" },\n]\nmining.address = 7\n",
    );
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0].starts_with("configuration:3: node.rpc_url \"b\""), "{told:#?}");
    assert!(told[1].starts_with("configuration:5: mining.address is 7, but should be text"));
}

/// What cannot be read is left out to check the rest, and must not be called missing as well.
#[test]
fn one_fault_is_one_problem() {
    for (toml, text) in [
        ("node = \"http://a:1\"", "node is \"http://a:1\", but should be a list"),
        ("[[node]]\nrpc_user = \"me\"\nrpc_password = 5", "node.rpc_password: a password is text"),
        ("node = [1]", "node is 1, but should be a section"),
        ("[[node]]\n[stratum]\nlisten = [1, \"x\"]", "stratum.listen is 1, but should be text"),
        ("[[node]]\n[pool]\nhost = \"x\"", "pool is a section, but should be a list"),
        ("[[node]]\n[[stratum.class]]\nmax_coinbase = 1", "stratum.class.match is missing"),
        ("[[node]]\n[[pool]]\nport = 99999", "pool.port is 99999, but should be a whole number up"),
        ("[[node]]\nmining = 1", "node.mining is not known"),
    ] {
        let toml = format!("{toml}\n[mining]\naddress = \"{ADDRESS}\"");
        let told = told(&toml);
        assert!(told.len() == 1 && told[0].contains(text), "{toml}\n{told:#?}");
    }
}

#[test]
fn what_is_no_toml_has_its_line_and_no_more() {
    let told = told("[mining]\naddress = bc1q\n");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("configuration:2: address: invalid TOML: "));
    assert!(!told[0].contains("bc1q"), "{told:#?}");
}

#[test]
fn secrets_are_not_printed() {
    let toml = format!("{MINIMAL}\n[[node]]\nrpc_user = \"me\"\nrpc_password = \"hunter2\"");
    let raw = parse_raw(&toml).unwrap();
    let config = Config::parse(&toml).unwrap();
    assert!(!format!("{raw:?} {config:?}").contains("hunter2"));
    let Auth::UserPass(_, password) = &config.template.nodes[1].auth else { panic!("cookie") };
    assert_eq!(password, "hunter2");
}

/// The problems of `MINIMAL` with `more` after it.
#[track_caller]
fn problems(more: &str) -> String {
    Config::parse(&format!("{MINIMAL}{more}")).unwrap_err().to_string()
}

#[test]
fn a_password_of_another_type_is_refused_unseen() {
    for value in
        ["4711123", "-4711123", "4711123.5", "true", "0x4711123", "[4711123]", "{ a = 4711123 }"]
    {
        let error = problems(&format!("[[node]]\nrpc_user = \"me\"\nrpc_password = {value}"));
        assert!(!error.contains("4711123") && !error.contains("true"), "{error}");
        assert!(error.contains("rpc_password") && error.contains("in quotes"), "{error}");
    }
}

#[test]
fn a_line_that_does_not_parse_is_shown_without_its_password() {
    for (line, key) in [
        ("rpc_password = hunter2", "rpc_password"),
        ("rpc_password=\"hunter2", "rpc_password"),
        ("\"rpc_password\" = 'hunter2", "rpc_password"),
        ("rpc_url = http://me:hunter2@host:8332", "rpc_url"),
    ] {
        let error = problems(&format!("[[node]]\n{line}"));
        assert!(error.contains(key) && !error.contains("hunter2"), "{error}");
    }
    let error = problems("node = '[{rpc_password=hunter2']");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_password_in_the_url_is_refused_unseen() {
    for url in ["http://me:hunter2@host:8332", "https://me:hunter2@host", "me:hunter2@host:1/x"] {
        let error = problems(&format!("[[node]]\nrpc_url = \"{url}\""));
        assert!(error.contains("rpc_user and rpc_password instead"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn the_api_may_be_elsewhere_or_nowhere() {
    let api = |more: &str| Config::parse(&format!("{MINIMAL}{more}")).map(|config| config.api);
    assert_eq!(api("").unwrap().listen, Some("127.0.0.1:7152".parse().unwrap()));
    assert_eq!(api("").unwrap().admin_password_file, None);
    assert_eq!(api("[api]\nlisten = \"\"").unwrap().listen, None);
    let admin = api("[api]\nadmin_password_file = \"/etc/x\"").unwrap().admin_password_file;
    assert_eq!(admin, Some("/etc/x".into()));
    assert_eq!(&*api("[api]\nbase_path = \"/a/b/\"").unwrap().base_path, "/a/b");
    let hosts = api("[api]\nallowed_hosts = [\"Mine.example.org\", \"*.x.org\"]").unwrap();
    assert_eq!(*hosts.allowed_hosts, ["mine.example.org".into(), "*.x.org".into()]);
    for bad in ["http://x.org", "x.org:80", "*", "", "*.", "a..b", "x/y"] {
        let error = problems(&format!("[api]\nallowed_hosts = [\"{bad}\"]"));
        assert!(error.contains("api.allowed_hosts") && error.contains("*.example.org"), "{error}");
    }
    let error = problems("[api]\nlisten = \"localhost\"");
    assert!(error.contains("api.listen") && error.contains("127.0.0.1:7152"), "{error}");
}

/// One that is no path, or that would hide something, is refused with what to write.
#[test]
fn a_base_path_is_a_path_and_hides_nothing() {
    let long = format!("/{}", "x".repeat(128));
    for bad in [
        "gatewayd",
        "/a//b",
        "/../x",
        "/./x",
        "/x y",
        "/x?y",
        "/x\\\"",
        "/api",
        "/metrics/x",
        &long,
    ] {
        let error = problems(&format!("[api]\nbase_path = \"{bad}\""));
        assert!(
            error.contains("api.base_path") && error.contains("\"/gatewayd\""),
            "{bad}: {error}"
        );
    }
    for none in ["", "/", "//"] {
        let config = Config::parse(&format!("{MINIMAL}[api]\nbase_path = \"{none}\"")).unwrap();
        assert_eq!(&*config.api.base_path, "");
    }
}

#[test]
fn history_is_kept_for_a_day_at_least() {
    let keep = |text: &str| {
        let toml = format!("{MINIMAL}[ledger]\nkeep_history = \"{text}\"");
        Config::parse(&toml).map(|config| config.ledger.keep_history)
    };
    assert_eq!(keep("1d").unwrap(), Duration::from_secs(86_400));
    assert!(keep("23h").unwrap_err().to_string().contains("ledger.keep_history"));
}

#[test]
fn a_url_has_a_host_and_a_port() {
    for url in [
        "http://host",
        "http://",
        "http://:8332",
        "http://host:0",
        "http://host:x/y",
        "http://[::1]",
        "http://a b:1",
    ] {
        let error = problems(&format!("[[node]]\nrpc_url = \"{url}\""));
        assert!(error.contains("should read http://host:port"), "{url}: {error}");
    }
    for (url, name) in [("http://localhost:8332/", "localhost:8332"), ("http://[::1]:1", "[::1]:1")]
    {
        let toml = format!("{MINIMAL}[[node]]\nrpc_url = \"{url}\"");
        assert_eq!(&*Config::parse(&toml).unwrap().template.nodes[1].name, name);
    }
}

#[test]
fn jobs_live_as_long_as_their_miners_stay() {
    let case = |refresh: &str, template: &str, stratum: &str| {
        let toml = format!(
            "{MINIMAL}[template]\nrefresh = \"{refresh}\"\nstale_after = \"{template}\"\n\
             [stratum]\nstale_after = \"{stratum}\""
        );
        Config::parse(&toml).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(case("40s", "160s", "120s"), Ok(()));
    let error = case("40s", "161s", "120s").unwrap_err();
    assert!(error.contains("template.stale_after") && error.contains("160s"), "{error}");
    assert_eq!(case("5s", "30s", "120s"), Ok(()));
    assert_eq!(case("5s", "30s", "135s"), Ok(()));
    let error = case("5s", "30s", "136s").unwrap_err();
    assert!(error.contains("stratum.stale_after") && error.contains("135s"), "{error}");
}

#[test]
fn durations_have_units() {
    for (text, expected) in [
        ("40s", Some(40_000)),
        ("1500ms", Some(1500)),
        ("2m", Some(120_000)),
        ("1h", Some(3_600_000)),
        ("90d", Some(7_776_000_000)),
        ("40", None),
        ("s", None),
        ("-1s", None),
        ("1.5s", None),
        ("99999999999999999999s", None),
        ("9999999999d", None),
    ] {
        assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text}");
    }
}

#[test]
fn a_blvm_node_has_its_own_cookie_and_socket() {
    let node =
        |keys: &str| Config::parse(&MINIMAL.replace("[[node]]", &format!("[[node]]\n{keys}")));
    let cookie = r#"rpc_cookie_file = "/blvm/.cookie""#;
    let kind = |keys: &str| node(keys).unwrap().template.nodes.remove(0).kind;
    assert_eq!(kind(""), NodeKind::Bitcoind);
    let blvm = kind(&format!("kind = \"blvm\"\n{cookie}\nnodeapi_socket = \"/blvm/node.sock\""));
    let (nodeapi_socket, module_id) = (Some("/blvm/node.sock".into()), "gatewayd".into());
    assert_eq!(blvm, NodeKind::Blvm(BlvmConfig { nodeapi_socket, module_id }));
    let problem = |keys: &str| node(keys).unwrap_err().problems.remove(0);
    for (keys, expected) in [
        ("kind = \"btcd\"", "node.kind \"btcd\" is not one of \"bitcoind\", \"blvm\""),
        (
            "kind = \"blvm\"",
            "node.rpc_cookie_file is the default for bitcoind: set it to .cookie in your",
        ),
        ("nodeapi_socket = \"/s\"", "node.nodeapi_socket is only for kind = \"blvm\": remove it"),
        ("kind = \"blvm\"\nzmq_hashblock = \"tcp://a:1\"", "node.zmq_hashblock is only for kind"),
    ] {
        assert!(problem(keys).text().starts_with(expected), "{}", problem(keys));
    }
}

#[test]
fn a_version_mask_is_hex_between_two_bips() {
    let mask = |text: &str| {
        let toml = format!("{MINIMAL}[pooling]\nversion_mask = \"{text}\"");
        Config::parse(&toml).map(|config| config.stratum.rules.pooled_version_mask)
    };
    assert_eq!(mask("1fffe000").unwrap(), 0x1fff_e000);
    assert_eq!(mask("0x1fffffe0").unwrap(), 0x1fff_ffe0);
    for wrong in ["", "+1fffe000", "1fff8000", "ffffffff", "00", "1fffe0000", "BIP 320"] {
        let error = mask(wrong).unwrap_err().to_string();
        assert!(error.contains("pooling.version_mask") && error.contains("1fffe000"), "{error}");
    }
}

/// p2pool/p2pool#378, oliverw/miningcore#805, pooler/cpuminer#174, golden-guy/ckpool-solo#8: software
/// that knows some kinds of addresses refuses the others, or pays somebody else.
#[test]
fn addresses_of_every_kind_are_taken_and_pay_what_they_say() {
    let of = |address: &str| {
        let toml = format!("[[node]]\n[mining]\naddress = \"{address}\"");
        let payout = Config::parse(&toml)?.address.unwrap();
        let script = payout.address.assume_checked_ref().script_pubkey().to_hex_string();
        Ok::<_, ConfigError>((payout.text, script))
    };
    for (address, script) in [
        (
            "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
            "76a91477bff20c60e522dfaa3350c39b030a5d004e839a88ac",
        ),
        ("3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy", "a914b472a266d0bd89c13706a4132ccfb16f7c3b9fcb87"),
        (
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        (
            "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
    ] {
        for pasted in [address.to_owned(), format!(" {address}\\n"), format!("{address}\\t ")] {
            assert_eq!(of(&pasted).unwrap(), (address.to_owned(), script.to_owned()));
        }
    }
    for wrong in [
        "litecoin:bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3T4",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig",
        "bc1q w508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3",
        "you@example.org",
    ] {
        let told = of(wrong).unwrap_err().to_string();
        assert!(told.contains("mining.address") && told.contains("bitcoin address"), "{told}");
    }
}

#[test]
fn rules_are_allowed_by_name() {
    let rules = |list: &str| {
        let toml = format!("{MINIMAL}[template]\nallow_rules = {list}");
        Config::parse(&toml).map(|config| config.template.allow_rules)
    };
    assert_eq!(Config::parse(MINIMAL).unwrap().template.allow_rules.len(), 0);
    assert_eq!(*rules("[\"!future\", \"other\"]").unwrap(), ["future".into(), "other".into()]);
    for (wrong, advice) in [("[\"!\"]", "an empty name"), ("[\"!blake2b\"]", "Bitcoin Core")] {
        let error = rules(wrong).unwrap_err().to_string();
        assert!(error.contains("template.allow_rules") && error.contains(advice), "{error}");
    }
}

#[test]
fn proxies_are_trusted_by_address_or_network() {
    let proxies = |list: &str| {
        let toml = format!("{MINIMAL}[stratum]\ntrusted_proxies = {list}");
        Config::parse(&toml).map(|config| config.stratum.trusted_proxies)
    };
    assert!(Config::parse(MINIMAL).unwrap().stratum.trusted_proxies.is_empty());
    let both = proxies("[\"10.0.0.5\", \"2001:db8::/32\"]").unwrap();
    assert!(both[0].contains("10.0.0.5".parse().unwrap()));
    assert!(both[1].contains("2001:db8::5".parse().unwrap()));
    for (wrong, advice) in [
        ("[\"haproxy\"]", "not a name"),
        ("[\"10.0.0.5/24\"]", "10.0.0.0/24"),
        ("[\"10.0.0.5:80\"]", "is not an address"),
        ("\"10.0.0.5\"", "a list in square brackets"),
    ] {
        let error = proxies(wrong).unwrap_err().to_string();
        assert!(error.contains("stratum.trusted_proxies") && error.contains(advice), "{error}");
    }
}

#[test]
fn tls_is_off_by_files_or_by_an_authority_of_its_own() {
    let tls = |keys: &str| {
        let toml = format!("{MINIMAL}[stratum.tls]\n{keys}");
        Config::parse(&toml).map(|config| config.stratum.tls)
    };
    let files = "certificate_file = \"/a.crt\"\nkey_file = \"/a.key\"\n";
    assert_eq!(tls("").unwrap(), Tls::Off);
    assert_eq!(tls(files).unwrap(), Tls::Off);
    let names = vec!["*.example.org".to_owned(), "203.0.113.5".to_owned()];
    let own = "enabled = true\nnames = [\"*.example.org\", \"203.0.113.5\"]";
    assert_eq!(tls(own).unwrap(), Tls::Own { names });
    let (certificate, key) = ("/a.crt".into(), "/a.key".into());
    assert_eq!(tls(&format!("{files}enabled = true")).unwrap(), Tls::Files { certificate, key });
    for (wrong, key) in [
        ("certificate_file = \"/a.crt\"", "stratum.tls.key_file"),
        ("key_file = \"/a.key\"", "stratum.tls.certificate_file"),
        ("names = [\"https://example.org\"]", "stratum.tls.names"),
        ("names = [\"example.org:23334\"]", "stratum.tls.names"),
        ("enabled = \"yes\"", "stratum.tls.enabled"),
    ] {
        let error = tls(wrong).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn ports_have_rules_of_their_own() {
    let parse = |stratum: &str| Config::parse(&format!("{MINIMAL}[stratum]\n{stratum}"));
    let config = parse(
        "difficulty_max = 1e6\n[[stratum.port]]\nlisten = [\"0.0.0.0:1\"]\ndifficulty_min = 0.5\n\
         [stratum.worker_difficulty]\n\"bc1q.a\" = 7.5",
    );
    let stratum = config.unwrap().stratum;
    assert_eq!(stratum.rules.difficulty_max, Difficulty::new(1e6));
    assert_eq!(stratum.rules.worker_difficulty.get("bc1q.a").copied(), Difficulty::new(7.5));
    let port = &stratum.ports[0];
    let rules = &port.rules;
    assert_eq!((port.listen.len(), Some(rules.difficulty_min)), (1, Difficulty::new(0.5)));
    assert_eq!(Some(rules.difficulty_start), Difficulty::new(0.5), "small miners begin small");
    assert_eq!(
        (rules.difficulty_max, rules.class_most),
        (Difficulty::new(1e6), None),
        "as for all"
    );
    for (wrong, told) in [
        ("difficulty_max = 1.0", "stratum.difficulty_max is below stratum.difficulty_min"),
        ("difficulty_max = -1.0", "stratum.difficulty_max -1 is not a difficulty"),
        ("[[stratum.port]]\ndifficulty_min = 1.0", "stratum.port.listen is missing"),
        ("[[stratum.port]]\nlisten = [\"here\"]", "stratum.port.listen \"here\" should read like"),
        ("[[stratum.port]]\nlisten = \"0.0.0.0:1\"", "stratum.port.listen is"),
        ("[[stratum.port]]\nlisten = [\"0.0.0.0:23334\"]", "stratum.port has 0.0.0.0:23334, which"),
        (
            "[[stratum.port]]\nlisten = [\"0.0.0.0:1\"]\n[[stratum.port]]\nlisten = [\"0.0.0.0:1\"]",
            "stratum.port has 0.0.0.0:1, which",
        ),
        (
            "[[stratum.port]]\nlisten = [\"[::]:1\"]\ndifficulty_min = 0.0",
            "stratum.port.difficulty_min 0 is not a difficulty",
        ),
        (
            "[[stratum.port]]\nlisten = [\"[::]:1\"]\ndifficulty_min = 2.0\ndifficulty_max = 1.0",
            "stratum.port.difficulty_max is below its difficulty_min",
        ),
        (
            "[[stratum.port]]\nlisten = [\"[::]:1\"]\nmode = \"solo\"",
            "stratum.port.mode is not known",
        ),
        (
            "[stratum.worker_difficulty]\na = 0.0",
            "stratum.worker_difficulty.a 0 is not a difficulty",
        ),
    ] {
        let error = parse(wrong).unwrap_err();
        let all: Vec<_> = error.problems.iter().map(Problem::text).collect();
        assert!(all.len() == 1 && all[0].starts_with(told), "{wrong}: {all:#?}");
    }
}

#[test]
fn limits_are_read_and_what_cannot_be_is_explained() {
    let parse = |limits: &str| Config::parse(&format!("{MINIMAL}[limits]\n{limits}"));
    let limits = Config::parse(MINIMAL).unwrap().limits;
    assert_eq!(limits, LimitRules::default(), "the defaults are one");
    let list = "allow = [\"198.51.100.0/24\", \"2001:db8::1\"]\nconnections_per_minute = 0";
    let rules = parse(list).unwrap().limits;
    assert!(rules.allow.contains("198.51.100.9".parse().unwrap()));
    assert!(!rules.allow.contains("198.51.101.9".parse().unwrap()));
    assert_eq!(rules.connections_per_minute, 0);
    for (wrong, told) in [
        ("deny = [\"10.0.0.0/33\"]", "limits.deny"),
        ("allow = [\"myfarm.example\"]", "limits.allow"),
        ("ban_first = \"2h\"\nban_longest = \"1h\"", "limits.ban_longest is shorter"),
        ("ban_first = \"60\"", "limits.ban_first"),
        ("bad_shares_per_minute = -1", "limits.bad_shares_per_minute"),
        ("bad_shares = 1", "limits.bad_shares"),
    ] {
        let error = parse(wrong).unwrap_err().to_string();
        assert!(error.contains(told), "{wrong}: {error}");
    }
}
