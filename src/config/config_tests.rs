use super::*;

/// As `example-config` prints it, with the one thing that has no default.
fn example() -> Raw {
    parse_raw(EXAMPLE).unwrap()
}

fn defaults() -> Raw {
    Raw { node: vec![Default::default()], pool: vec![Default::default()], ..Raw::default() }
}

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
    assert_eq!(config.nodes[0].name, "127.0.0.1:8332");
    assert!(config.pools.is_empty());
    assert_eq!(config.template.refresh, Duration::from_secs(40));
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
        let told = error.problems.iter().filter(|problem| problem.starts_with(key)).count();
        assert_eq!(told, 1, "{key}: {:#?}", error.problems);
    }
}

#[test]
fn secrets_are_not_printed() {
    let toml = format!("{MINIMAL}\n[[node]]\nrpc_user = \"me\"\nrpc_password = \"hunter2\"");
    let raw = parse_raw(&toml).unwrap();
    let config = Config::parse(&toml).unwrap();
    assert!(!format!("{raw:?} {config:?}").contains("hunter2"));
    let NodeAuth::Password { password, .. } = &config.nodes[1].auth else { panic!("cookie") };
    assert_eq!(password.expose(), "hunter2");
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
