//! A file changed as its owner would.

use std::collections::BTreeMap;

use super::*;
use crate::config::tests::parse_raw;

const FILE: &str = r#"# mine
[[node]]
rpc_url = "http://a:1" # the big one
rpc_user = "me"
rpc_password = "hunter2" # do not tell

[[node]]
rpc_url = "http://you:letmein@b:1"

[mining]
address = "bc1q" # cold
"#;

fn changes(json: &str) -> BTreeMap<String, Json> {
    serde_json::from_str(json).unwrap()
}

#[test]
fn secrets_leave_and_come_back() {
    let hidden = hide(FILE);
    assert!(!hidden.contains("hunter2") && !hidden.contains("letmein"), "{hidden}");
    assert!(hidden.contains("rpc_password = \"<secret>\" # do not tell"), "{hidden}");
    assert!(hidden.contains("http://you:<secret>@b:1"), "{hidden}");
    assert_eq!(reveal(&hidden, FILE).unwrap(), FILE);
}

#[test]
fn a_secret_stays_with_its_node_when_nodes_move() {
    let moved = "[[node]]\nrpc_url = \"http://you:<secret>@b:1\"\n[[node]]\nrpc_url = \
                 \"http://a:1\"\nrpc_password = \"<secret>\"\n";
    let revealed = reveal(moved, FILE).unwrap();
    assert!(revealed.contains("http://you:letmein@b:1"), "{revealed}");
    assert!(revealed.contains("rpc_password = \"hunter2\""), "{revealed}");
}

#[test]
fn a_mask_without_a_secret_is_refused() {
    let problems = reveal("[[node]]\nrpc_password = \"<secret>\"", "").unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("enter the password"), "{problems:?}");
}

#[test]
fn a_file_that_is_no_toml_tells_no_secret_either() {
    let broken = FILE.replace("[mining]", "[mining");
    assert!(!hide(&broken).contains("hunter2"));
}

#[test]
fn keys_change_and_comments_stay() {
    let changes = changes(
        r#"{"mining.address": "bc1p", "mining.unique_id": 7, "node.0.rpc_url": "http://c:2",
            "stratum.difficulty_min": 1.5, "node.1": null, "api.metrics": false}"#,
    );
    let text = set_keys(FILE, &changes).unwrap();
    assert!(text.starts_with("# mine\n"), "{text}");
    assert!(text.contains("address = \"bc1p\" # cold\n"), "{text}");
    assert!(text.contains("rpc_url = \"http://c:2\" # the big one\n"), "{text}");
    assert!(text.contains("hunter2") && !text.contains("letmein"), "{text}");
    let raw = parse_raw(&text).unwrap();
    assert_eq!((raw.node.len(), raw.mining.unique_id, raw.api.metrics), (1, 7, false));
    assert_eq!(raw.stratum.difficulty_min, 1.5);
}

#[test]
fn a_first_file_is_written_from_nothing() {
    let changes = changes(
        r#"{"mining.address": "bc1p", "node": [{"rpc_url": "http://c:2", "rpc_user": "u"}],
            "pool": [], "stratum.username_modifiers": {"half": {"bc1q": 0.5, "": 0.5}},
            "stratum.listen": ["127.0.0.1:1", "[::1]:1"]}"#,
    );
    let text = set_keys("", &changes).unwrap();
    assert!(text.contains("[[node]]\n"), "{text}");
    let raw = parse_raw(&text).unwrap();
    assert_eq!(raw.node[0].rpc_user, "u");
    assert!(raw.pool.is_empty());
    assert_eq!(raw.stratum.username_modifiers["half"][""], 0.5);
    assert_eq!(raw.stratum.listen.len(), 2);
}

#[test]
fn lists_in_line_are_lists_too() {
    let text = "node = [{ rpc_url = \"http://a:1\" }, { rpc_url = \"http://b:1\" }] # two\n";
    let changes = changes(r#"{"node.1.rpc_url": "http://c:1", "node.0": null}"#);
    // Removals come last, so that numbers mean what they did.
    let text = set_keys(text, &changes).unwrap();
    let raw = parse_raw(&text).unwrap();
    assert_eq!((raw.node.len(), &*raw.node[0].rpc_url), (1, "http://c:1"));
    assert!(text.ends_with("# two\n"), "{text}");
}

#[test]
fn what_is_no_key_is_named() {
    let changes = changes(
        r#"{"mining..x": 1, "mining.address.deep": 1, "node.7.rpc_url": "x", "node.x": null}"#,
    );
    let problems = set_keys(FILE, &changes).unwrap_err();
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems.iter().any(|it| it.starts_with("node.7.rpc_url has no entry 7")));
}

#[test]
fn a_list_that_is_not_there_begins_with_its_first_entry() {
    let changes =
        r#"{"node.0.rpc_user": "me", "node.0.rpc_url": "http://x:1", "pool.1.host": "x"}"#;
    let changes: BTreeMap<String, Json> = serde_json::from_str(changes).unwrap();
    let problems = set_keys("# mine\n", &changes).unwrap_err();
    assert!(problems.len() == 1 && problems[0].starts_with("pool.1.host"), "{problems:?}");
    let changes = changes.into_iter().filter(|(key, _)| key.starts_with("node")).collect();
    let text = set_keys("# mine\n", &changes).unwrap();
    assert_eq!(text, "[[node]]\nrpc_url = \"http://x:1\"\nrpc_user = \"me\"\n# mine\n");
}

#[test]
fn changed_keys_are_told() {
    let old = parse_raw(FILE).unwrap();
    let new = parse_raw(&FILE.replace("bc1q", "bc1p").replace("hunter2", "hunter3")).unwrap();
    assert_eq!(changed(&old, &new), ["mining.address", "node.0.rpc_password"]);
    assert!(changed(&old, &old).is_empty());
    let fewer = parse_raw("[[node]]\nrpc_url = \"http://a:1\"").unwrap();
    assert!(changed(&old, &fewer).contains(&"node.1.rpc_url".to_owned()));
}
