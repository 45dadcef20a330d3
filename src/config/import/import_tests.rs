use super::*;

/// Every key of datum_gateway 0.4.1, each with a value of its own.
const ALL: &str = include_str!("../../../tests/vectors/datum_gateway/all-keys.json");
/// As most people have it: the keys that `datum_gateway --example-conf` names.
const TYPICAL: &str = include_str!("../../../tests/vectors/datum_gateway/typical.json");

/// As in src/datum_conf.c of datum_gateway 0.4.1.
const KEYS: [&str; 49] = [
    "bitcoind.rpccookiefile",
    "bitcoind.rpcuser",
    "bitcoind.rpcpassword",
    "bitcoind.rpcurl",
    "bitcoind.work_update_seconds",
    "bitcoind.notify_fallback",
    "stratum.listen_addr",
    "stratum.listen_port",
    "stratum.max_clients_per_thread",
    "stratum.max_threads",
    "stratum.max_clients",
    "stratum.trust_proxy",
    "stratum.vardiff_min",
    "stratum.vardiff_target_shares_min",
    "stratum.vardiff_quickdiff_count",
    "stratum.vardiff_quickdiff_delta",
    "stratum.share_stale_seconds",
    "stratum.fingerprint_miners",
    "stratum.idle_timeout_no_subscribe",
    "stratum.idle_timeout_no_shares",
    "stratum.idle_timeout_max_last_work",
    "stratum.username_modifiers",
    "mining.pool_address",
    "mining.coinbase_tag_primary",
    "mining.coinbase_tag_secondary",
    "mining.coinbase_unique_id",
    "mining.save_submitblocks_dir",
    "api.admin_password",
    "api.allow_insecure_auth",
    "api.listen_addr",
    "api.listen_port",
    "api.modify_conf",
    "extra_block_submissions.urls",
    "logger.log_to_console",
    "logger.log_to_stderr",
    "logger.log_to_file",
    "logger.log_file",
    "logger.log_rotate_daily",
    "logger.log_calling_function",
    "logger.log_level_console",
    "logger.log_level_file",
    "datum.pool_host",
    "datum.pool_port",
    "datum.pool_pubkey",
    "datum.pool_pass_workers",
    "datum.pool_pass_full_users",
    "datum.always_pay_self",
    "datum.pooled_mining_only",
    "datum.protocol_global_timeout",
];

const MINIMAL: &str = r#"{
    "bitcoind": { "rpcurl": "http://localhost:8332", "rpcuser": "me", "rpcpassword": "hunter2" },
    "mining": { "pool_address": "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4" },
    "EXTRA": {}
}"#;

/// `MINIMAL` with another section.
fn with(section: &str) -> String {
    MINIMAL.replace("\"EXTRA\": {}", section)
}

#[track_caller]
fn imported(section: &str) -> Imported {
    import_datum(&with(section)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Imports `section` and looks at what gatewayd makes of the outcome.
#[track_caller]
fn config(section: &str) -> Config {
    let toml = imported(section).toml;
    Config::parse(&toml).unwrap_or_else(|error| panic!("{error}\n{toml}"))
}

#[track_caller]
fn problem(section: &str) -> String {
    import_datum(&with(section)).unwrap_err().join("\n")
}

#[test]
fn every_key_is_accounted_for() {
    let imported = import_datum(ALL).unwrap();
    assert_eq!(imported.problems, Vec::<String>::new(), "{}", imported.toml);
    for key in KEYS {
        assert!(ALL.contains(&format!("\"{}\"", key.split_once('.').unwrap().1)), "{key} not set");
        let is_said = imported.toml.lines().any(|line| {
            line.split_once('#')
                .is_some_and(|(_, said)| said.split_whitespace().any(|it| it == key))
        });
        assert!(is_said, "nothing about {key} in\n{}", imported.toml);
    }
    assert!(
        !imported.notes.iter().any(|note| note.contains("is not a key")),
        "{:#?}",
        imported.notes
    );
}

#[test]
fn all_values_arrive() {
    use std::time::Duration;

    use crate::{datum::UsernameMode, logging::LogFormat, node::Auth};
    let toml = import_datum(ALL).unwrap().toml;
    let config = Config::parse(&toml).unwrap();
    assert_eq!(config.template.nodes.len(), 3);
    assert_eq!(config.template.nodes[0].rpc_url.to_string(), "http://node.lan:8331");
    let login = |at: usize| match &config.template.nodes[at].auth {
        Auth::UserPass(user, password) => (user.as_str(), password.as_str()),
        _ => panic!("no login"),
    };
    assert_eq!(login(0), ("datum", "some \"thing\" only you know"));
    assert_eq!(config.template.nodes[1].rpc_url.to_string(), "http://10.0.0.7:8332");
    assert_eq!(login(1), ("a", "b@c"));
    assert!(!config.template.nodes[0].submit_only && config.template.nodes[1].submit_only);
    assert_eq!(config.template.refresh, Duration::from_secs(55));
    assert_eq!(config.address.unwrap().text, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4");
    let (work, datum) = (config.work.unwrap(), config.datum);
    assert_eq!(&*work.solo.tag_primary, b"first tag");
    assert_eq!(&*work.solo.tag_secondary, b"second # tag");
    assert_eq!(&*datum.tag_secondary, b"second # tag");
    assert_eq!((work.solo.unique_id, datum.unique_id), (77, 77));
    assert_eq!((datum.pools[0].host.as_str(), datum.pools[0].port), ("pool.example", 28_916));
    assert_eq!(datum.pools[0].public_key.ed25519[0], 0x0f);
    assert_eq!(work.when_down, crate::work::WhenDown::Solo);
    assert_eq!(datum.usernames, UsernameMode::Worker);
    assert_eq!(datum.own_script, None);
    assert_eq!(datum.timeout, Duration::from_secs(75));
    assert_eq!(datum.modifiers[0].name, "half");
    assert_eq!(datum.modifiers[0].parts, [(String::new(), 0.5), ("bc1qx".into(), 0.5)]);
    let stratum = &config.stratum;
    assert_eq!(stratum.listen, ["192.168.1.9:3333".parse().unwrap()]);
    let limits = &stratum.limits;
    assert_eq!((limits.connections, limits.connections_per_ip), (6000, 6000));
    let rules = &stratum.rules;
    assert_eq!(rules.difficulty_min, crate::work::Difficulty::new(32_768.0).unwrap());
    assert_eq!(rules.difficulty_start, rules.difficulty_min);
    assert_eq!(rules.shares_per_minute, 12);
    assert_eq!(rules.stale_after, Duration::from_secs(90));
    assert_eq!(rules.login_timeout, Duration::from_secs(20));
    assert_eq!(rules.idle_timeout, Duration::from_secs(9000));
    assert_eq!(format!("{:?}", rules.classes), "Classes([])", "no fingerprint");
    assert_eq!(config.api.listen, Some("[::1]:7153".parse().unwrap()));
    assert_eq!(config.log.level, "info,gatewayd=debug");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.file, Some("/var/log/datum.log".into()));
}

#[test]
fn a_typical_file_is_accepted() {
    let imported = import_datum(TYPICAL).unwrap();
    assert_eq!(imported.problems, Vec::<String>::new(), "{}", imported.toml);
    let config = Config::parse(&imported.toml).unwrap();
    assert_eq!(config.datum.pools.len(), 1, "the C gateway's default is to mine with OCEAN");
    assert_eq!(config.api.listen, Some("0.0.0.0:7152".parse().unwrap()));
    assert_eq!(config.log.file, None);
}

#[test]
fn secrets_stay_out_of_notes_and_problems() {
    let imported = import_datum(ALL).unwrap();
    let said = format!("{:?}{:?}", imported.notes, imported.problems);
    for secret in ["only you know", "b@c", "b%40c", "dashboard password"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert!(!imported.toml.contains("dashboard password"), "{}", imported.toml);
    let error = problem(r#""api": { "admin_password": 4711123 }"#);
    assert!(error.contains("api.admin_password") && !error.contains("4711123"), "{error}");
}

#[test]
fn unknown_keys_are_named() {
    let notes = imported(
        r#""stratum": { "listen_prot": 1, "listen_port": 2 }, "statum": { "x": [1] }, "alone": 5"#,
    )
    .notes;
    for key in ["stratum.listen_prot", "statum.x", "alone"] {
        let said =
            notes.iter().filter(|note| note.starts_with(&format!("{key} is not a key"))).count();
        assert_eq!(said, 1, "{key}: {notes:#?}");
    }
}

#[test]
fn wrong_types_and_ranges_are_all_told() {
    let error = problem(
        r#""stratum": { "listen_port": "23334", "max_clients": 1.5, "fingerprint_miners": 1,
                       "share_stale_seconds": 151, "username_modifiers": { "x": { "y": "z" } } },
           "datum": 7, "extra_block_submissions": { "urls": "http://x" },
           "logger": { "log_level_console": 6, "log_file": false }"#,
    );
    for (key, said) in [
        ("stratum.listen_port", "a whole number"),
        ("stratum.max_clients", "a whole number"),
        ("stratum.fingerprint_miners", "true or false"),
        ("stratum.share_stale_seconds", "60 to 150"),
        ("stratum.username_modifiers.x.y", "a fraction"),
        ("datum", "a section"),
        ("extra_block_submissions.urls", "a list"),
        ("logger.log_level_console", "0 to 5"),
        ("logger.log_file", "text"),
    ] {
        let line = error.lines().find(|line| line.starts_with(&format!("{key} ")));
        assert!(line.is_some_and(|line| line.contains(said)), "{key}: {error}");
    }
    for json in ["", "[]", "{", "{} x", "// no\n{}"] {
        assert!(import_datum(json).unwrap_err()[0].contains("JSON"), "{json:?}");
    }
}

#[test]
fn no_key_takes_just_anything() {
    for key in KEYS {
        let (section, name) = key.split_once('.').unwrap();
        let json = format!(r#"{{ "{section}": {{ "{name}": [[4711123]] }} }}"#);
        let problems = import_datum(&json).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(&format!("{key} should be ")), "{problems:?}");
        assert!(!problems[0].contains("4711123"), "{problems:?}");
    }
}

#[test]
fn tags_that_were_not_set_are_those_of_datum_gateway() {
    let mining = config("\"api\": {}").written.mining.clone();
    assert_eq!(mining.coinbase_tag, "DATUM Gateway");
    assert_eq!(mining.coinbase_tag_secondary, "DATUM User");
    let empty = MINIMAL.replace("\"mining\": {", "\"mining\": { \"coinbase_tag_secondary\": \"\",");
    let config = Config::parse(&import_datum(&empty).unwrap().toml).unwrap();
    assert_eq!(config.datum.tag_secondary.len(), 0, "none, if that is what was said");
}

#[test]
fn null_is_as_good_as_absent() {
    let config =
        config(r#""stratum": { "listen_port": null, "username_modifiers": { "x": null } }"#);
    assert_eq!(config.stratum.listen.len(), 2);
    assert!(config.datum.modifiers.is_empty());
}

#[test]
fn what_is_missing_is_said() {
    let imported = import_datum("{}").unwrap();
    let notes = imported.notes.join("\n");
    for key in ["bitcoind.rpcurl", "bitcoind.rpccookiefile", "mining.pool_address"] {
        assert!(notes.contains(&format!("{key} is missing")), "{notes}");
    }
    assert_eq!(imported.problems.len(), 1, "{:?}", imported.problems);
    assert!(imported.problems[0].starts_with("mining.address"), "{:?}", imported.problems);
    let error = import_datum(r#"{ "bitcoind": { "rpcuser": "me" } }"#).unwrap_err();
    assert!(error[0].starts_with("bitcoind.rpcpassword is missing"), "{error:?}");
}

#[test]
fn solo_stays_solo_and_a_missing_key_is_asked_for() {
    assert!(
        config(r#""datum": { "pool_host": "", "pooled_mining_only": false }"#)
            .datum
            .pools
            .is_empty()
    );
    assert_eq!(
        config("\"datum\": { \"pool_pubkey\": \"\" }").datum.pools[0].public_key.ed25519[0],
        0xf2
    );
    let imported = imported(r#""datum": { "pool_host": "pool.example", "pool_pubkey": "" }"#);
    assert!(imported.problems[0].starts_with("pool.public_key"), "{:?}", imported.problems);
}

#[test]
fn times_fit_together_whatever_was_asked_for() {
    for refresh in [1, 5, 6, 7, 40, 59, 60, 61, 119, 120, 500] {
        for stale in 60..=150 {
            config(&format!(
                r#""stratum": {{ "share_stale_seconds": {stale} }},
                   "bitcoind": {{ "rpcurl": "http://x:1", "rpccookiefile": "/c",
                                 "work_update_seconds": {refresh} }}"#
            ));
        }
    }
}

#[test]
fn usernames_are_as_before() {
    use crate::datum::UsernameMode::{Address, Full, Worker};
    for (full, workers, expected) in [
        ("true", "true", Full),
        ("true", "false", Full),
        ("false", "true", Worker),
        ("false", "false", Address),
        ("null", "false", Full),
        ("false", "null", Worker),
    ] {
        let section = format!(
            r#""datum": {{ "pool_pass_full_users": {full}, "pool_pass_workers": {workers} }}"#
        );
        assert_eq!(config(&section).datum.usernames, expected, "{section}");
    }
}

#[test]
fn modifiers_never_come_to_more_than_one() {
    let modifiers = |parts: &str| {
        config(&format!(r#""stratum": {{ "username_modifiers": {{ "a b": {{ {parts} }} }} }}"#))
            .datum
            .modifiers
            .remove(0)
            .parts
    };
    let part = |name: &str, part: f64| (name.to_owned(), part);
    assert_eq!(modifiers(r#""z": 0.75, "a": 0.75"#), [part("a", 0.25), part("z", 0.75)]);
    assert_eq!(modifiers(r#""x": 1, "y": 1"#), [part("x", 1.0)]);
    assert_eq!(modifiers(r#""x": 0.1, "": 0.2, "y": 0.7"#).len(), 3);
    assert!(
        problem(r#""stratum": { "username_modifiers": { "m": { "x": -1 } } }"#).contains("below")
    );
}

/// Names and values of the old file are data, whatever they hold.
#[test]
fn nothing_breaks_out_of_its_line() {
    let imported = imported(
        r#""mining": { "pool_address": "x", "evil\naddress = \"y\"\n#": 1 },
           "stratum": { "username_modifiers": { "a\n[log]\nlevel=\"b\"": { "]\n": 0.5 } } }"#,
    );
    assert!(!imported.toml.lines().any(|line| line.starts_with("address = \"y\"")));
    assert!(!imported.toml.lines().any(|line| line.starts_with("level=")));
    let raw = crate::config::tests::parse_raw(&imported.toml).unwrap();
    assert_eq!(raw.mining.address, "x");
    assert_eq!(raw.stratum.username_modifiers.len(), 1);
}
