//! The house rules a machine can check. Each failure names the file, the line and the rule.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The file whose table says what each module may name: arrows point one way, towards `work`.
const TABLE: &str = "ARCHITECTURE.md";
/// Files that may touch tokio, sockets, threads or the clock.
const ADAPTERS: &[&str] = &[
    "main.rs",
    "lib.rs",
    "daemon.rs",
    "listener.rs",
    "logging/daily.rs",
    "logging/queue.rs",
    "listener/proxy.rs",
    "listener/tls.rs",
    "net.rs",
    "clock.rs",
    "api/events.rs",
    "api/handles.rs",
    "api/paced.rs",
    "config/file.rs",
    "conn.rs",
    "task.rs",
    "template/bitcoind/fetch.rs",
    "template/bitcoind/queries.rs",
    "template/bitcoind/meet.rs",
    "template/node_log.rs",
    "template/bitcoind/wait.rs",
    "template/probe.rs",
    "template/supervisor.rs",
    "template/header_walk.rs",
    "template/blvm/queries.rs",
    "template/blvm/feeds.rs",
    "node/blvm/rpc.rs",
    "node/budget.rs",
    "node/tip_hint.rs",
    "node/http.rs",
    "node/rpc.rs",
    "node/zmq.rs",
    "work/share_queue.rs",
    "blocks/submission.rs",
    "blocks/verdict.rs",
    "blocks/store.rs",
    "stratum/gate.rs",
    "ledger/read.rs",
    "ledger/schema.rs",
    "ledger/store.rs",
    "ledger/trouble.rs",
    "healthcheck.rs",
];
const ADAPTER_FOLDERS: &[&str] = &["src/devnet", "src/daemon", "src/datum/task"];
/// Words and paths that only adapters may use.
const IO_WORDS: &[&str] = &["tokio", "tokio_util", "bitcoincore_rpc", "rusqlite", "socket2"];
const IO_PATHS: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "thread::sleep",
    "thread::spawn",
    "Instant::now",
    "SystemTime::now",
    "clock::now",
    "clock::unix",
    "clock::{",
];
const FILE_LINES_MAX: usize = 500;
/// Modules that receive strangers' text: it is made printable where it enters (`work::printable`),
/// so that it can neither start a log line nor control a terminal.
const HEARS_STRANGERS: &[&str] =
    &["api", "blocks", "datum", "listener", "net", "node", "stratum", "sv1", "sv2", "template"];
/// Ways to turn bytes into text, and text into a name, that keep everything in it.
const RAW_TEXT: &[&str] =
    &["from_utf8_lossy", "utf8_chunks", "to_str_lossy", "String::from_utf8(", " Username("];
/// Where that is done with text that is not a stranger's, or is made printable later.
const RAW_TEXT_FINE: &[(&str, &str)] = &[
    ("api/prefix.rs", "from_utf8_lossy"),
    ("api/task.rs", "String::from_utf8("),
    ("sv1/message.rs", "utf8_chunks"),
    ("sv2/codec/bytes.rs", "from_utf8_lossy"),
    ("sv2/codec/bytes.rs", "to_str_lossy"),
];
/// What strangers send, by its names in the protocols: it must be `printable` before it is logged.
const RAW_FIELDS: &[&str] = &[
    "body",
    "device_id",
    "firmware",
    "hardware_version",
    "line",
    "password",
    "payload",
    "user_identity",
    "vendor",
];
const LOG_MACROS: &[&str] = &["trace!(", "debug!(", "info!(", "warn!(", "error!("];

/// A module, and the others that it may name; none if that is all of them.
type Layer = (String, Option<Vec<String>>);

/// The rows of the table that are about source code.
fn layers(table: &str) -> Vec<Layer> {
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.split(" | ").collect();
        let [places, _, uses] = cells[..] else { return None };
        let uses = match uses.trim_end_matches('|').trim() {
            "all" => None,
            "nothing of ours" => Some(Vec::new()),
            uses => Some(in_ticks(uses)),
        };
        let modules = in_ticks(places).into_iter().map(|place| module_of(&place));
        Some(modules.map(move |module| (module, uses.clone())).collect::<Vec<_>>())
    });
    let mut layers = rows.flatten().collect::<Vec<_>>();
    layers.dedup();
    layers
}

fn in_ticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn module_of(place: &str) -> String {
    place.trim_end_matches('/').trim_end_matches(".rs").to_owned()
}

#[test]
fn tidy() {
    let layers = layers(&fs::read_to_string(TABLE).unwrap());
    let mut errors = Vec::new();
    for entry in fs::read_dir("src").unwrap() {
        let place = entry.unwrap().file_name().into_string().unwrap();
        if !layers.iter().any(|(name, _)| *name == module_of(&place))
            && !place.ends_with("tests.rs")
        {
            errors.push(format!("{TABLE}: src/{place} is not in the table"));
        }
    }
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let mut complain = |at, what: &str| errors.push(format!("{}:{at}: {what}", path.display()));
        check_layers(&layers, &path, &text, &mut complain);
        check_sans_io(&path, &text, &mut complain);
        check_words(&path, &text, &mut complain);
        check_length(&text, &mut complain);
    }
    assert!(errors.is_empty(), "untidy:\n{}", errors.join("\n"));
}

fn check_layers(layers: &[Layer], path: &Path, text: &str, complain: &mut impl FnMut(usize, &str)) {
    let module = module_of(path.iter().nth(1).unwrap().to_str().unwrap());
    let Some((_, Some(allowed))) = layers.iter().find(|(name, _)| *name == module) else {
        return;
    };
    for (at, used) in names_of_the_crate(path, text) {
        let is_module = used.starts_with(|c: char| c.is_ascii_lowercase()) && used != "self";
        if is_module && used != module && !allowed.contains(&used) {
            let is_layer = layers.iter().any(|(name, uses)| *name == used && uses.is_some());
            let above = if is_layer { "" } else { ", which stands above it" };
            complain(at, &format!("`{module}` must not use `{used}`{above}"));
        }
    }
}

fn check_sans_io(path: &Path, text: &str, complain: &mut impl FnMut(usize, &str)) {
    let is_adapter = ADAPTERS.iter().any(|adapter| path.ends_with(adapter));
    if is_adapter || ADAPTER_FOLDERS.iter().any(|folder| path.starts_with(folder)) {
        return;
    }
    for (at, line) in code(text) {
        if let Some(word) = IO_WORDS.iter().find(|word| has_word(line, word)) {
            complain(at, &format!("`{word}` belongs in conn.rs or task.rs"));
        }
        if let Some(path) = IO_PATHS.iter().find(|path| line.contains(*path)) {
            complain(at, &format!("`{path}` belongs in conn.rs or task.rs"));
        }
    }
}

fn check_words(path: &Path, text: &str, complain: &mut impl FnMut(usize, &str)) {
    let module = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
    if !HEARS_STRANGERS.contains(&module) {
        return;
    }
    let is_fine =
        |word: &str| RAW_TEXT_FINE.iter().any(|(file, it)| path.ends_with(file) && *it == word);
    for (at, line) in code(text) {
        let is_raw = |word: &&&str| line.contains(**word) && !is_fine(word);
        if let Some(word) = RAW_TEXT.iter().find(is_raw) {
            let word = word.trim_matches([' ', '(']);
            complain(at, &format!("`{word}`: a stranger's words are `work::printable` first"));
        }
    }
    for (at, call) in log_calls(text) {
        let named = |word: &&&str| names_raw(&call, word);
        if let Some(word) = RAW_FIELDS.iter().find(named) {
            complain(at, &format!("`{word}` goes into the log as a stranger wrote it"));
        }
    }
}

/// The calls of the log macros, each complete and with its line.
fn log_calls(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<_> = code(text).collect();
    let mut calls = Vec::new();
    for (index, (at, line)) in lines.iter().enumerate() {
        let Some(start) = LOG_MACROS.iter().find_map(|name| line.find(name)) else { continue };
        let mut call = line[start..].to_owned();
        for (_, next) in &lines[index + 1..] {
            if call.matches('(').count() <= call.matches(')').count() {
                break;
            }
            call.push_str(next);
        }
        calls.push((*at, call));
    }
    calls
}

/// Whether a call logs a variable or a field of this name: by itself, with `%`, or in braces. What
/// is logged with `?` is escaped.
fn names_raw(call: &str, name: &str) -> bool {
    call.match_indices(name).any(|(at, _)| {
        let before =
            call[..at].trim_end_matches(|c: char| c.is_alphanumeric() || "_.&".contains(c));
        let begins = !call[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let ends = !call[at + name.len()..]
            .starts_with(|c: char| c.is_alphanumeric() || "_(.!".contains(c));
        let shown = before.ends_with(['%', '{', '(']) || before.trim_end().ends_with([',', '=']);
        begins && ends && shown && !before.ends_with('?')
    })
}

fn check_length(text: &str, complain: &mut impl FnMut(usize, &str)) {
    let lines = without_tests(text).count();
    if lines > FILE_LINES_MAX {
        complain(lines, &format!("file exceeds {FILE_LINES_MAX} lines without its tests"));
    }
}

/// The modules named after `crate::` (or after as many `super::` as lead there), with the line:
/// one in `crate::work::Job`, several in `crate::{datum, work::{Job, Work}}`.
fn names_of_the_crate(path: &Path, text: &str) -> Vec<(usize, String)> {
    let supers = path.iter().count() - if path.ends_with("mod.rs") { 2 } else { 1 };
    let roots = match path.ends_with("src/main.rs") {
        true => vec!["gatewayd::".to_owned()],
        false => vec!["crate::".to_owned(), "super::".repeat(supers)],
    };
    let mut source = String::new();
    let mut starts = Vec::new();
    for (at, line) in code(text) {
        starts.push((source.len(), at));
        source.push_str(line);
        source.push('\n');
    }
    let line_of =
        |offset: usize| starts[starts.partition_point(|(start, _)| *start <= offset) - 1].1;

    let mut names = Vec::new();
    for root in &roots {
        for (offset, _) in source.match_indices(root.as_str()) {
            let begin = offset + root.len();
            for (at, name) in first_segments(&source[begin..]) {
                names.push((line_of(begin + at), name.to_owned()));
            }
        }
    }
    names
}

/// The first identifier of a path, or those of each path in a braced list, with their offsets.
fn first_segments(tail: &str) -> Vec<(usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let ident_at = |at: usize| {
        let rest = &tail[at..];
        let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        (len > 0).then(|| (at, &rest[..len]))
    };
    if !tail.starts_with('{') {
        return ident_at(0).into_iter().collect();
    }
    let mut depth = 0;
    let mut found = Vec::new();
    for (at, c) in tail.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (c == '{' || c == ',') {
            let blank = tail[at + 1..].len() - tail[at + 1..].trim_start().len();
            found.extend(ident_at(at + 1 + blank));
        }
    }
    found
}

/// Lines that are neither comments nor tests, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    without_tests(text).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Lines outside the items that are only compiled for tests, numbered from 1. Assumes rustfmt's
/// layout: an item begins at the depth of its attribute and ends there, with a brace or, if it is
/// one line, a semicolon.
fn without_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut skipped: Option<(usize, bool)> = None;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let (depth, line) = (line.len() - line.trim_start().len(), line.trim());
        let Some((of_item, has_begun)) = &mut skipped else {
            if line == "#[cfg(test)]" {
                skipped = Some((depth, false));
            }
            return skipped.is_none();
        };
        let is_attribute = !*has_begun && (line.starts_with("#[") || line.starts_with("//"));
        let ends = match has_begun {
            false => !is_attribute && (line.ends_with(';') || line.ends_with('}')),
            true => depth == *of_item && line.starts_with('}'),
        };
        *has_begun |= !is_attribute;
        if ends {
            skipped = None;
        }
        false
    })
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    let is_source = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        // A module's tests in a file of their own may use what they like.
        name.ends_with(".rs") && !name.ends_with("tests.rs")
    };
    files.filter(is_source).collect()
}

/// What `check_layers` and `check_sans_io` say about a text, each as `line: complaint`.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |at, what: &str| found.push(format!("{at}: {what}"));
    let layers = layers(&fs::read_to_string(TABLE).unwrap());
    check_layers(&layers, Path::new(path), text, &mut complain);
    check_sans_io(Path::new(path), text, &mut complain);
    check_words(Path::new(path), text, &mut complain);
    found
}

#[test]
fn layers_are_told_apart_by_first_segment_only() {
    let fine = "use crate::work::{template::Template, config};\nuse crate::{\n    validate,\n    \
                work::{datum, Job},\n};\nuse super::{conn, datum};\n";
    assert_eq!(complaints("src/sv1/session.rs", fine), Vec::<String>::new());
    let list = "use crate::{\n    work::Job,\n    datum,\n};\n";
    assert_eq!(complaints("src/sv1/session.rs", list), ["3: `sv1` must not use `datum`"]);
    let inline = "fn f() {\n    crate::sv1::g();\n}\n";
    assert_eq!(complaints("src/work/job.rs", inline), ["2: `work` must not use `sv1`"]);
    let by_super = "use super::super::datum;\n";
    assert_eq!(complaints("src/sv1/session.rs", by_super), ["1: `sv1` must not use `datum`"]);
    assert_eq!(
        complaints("src/sv1/mod.rs", "use super::datum;"),
        ["1: `sv1` must not use `datum`"]
    );
    let up = complaints("src/work/job.rs", "use crate::daemon::Daemon;");
    assert_eq!(up, ["1: `work` must not use `daemon`, which stands above it"]);
    assert_eq!(complaints("src/daemon.rs", "use crate::{sv1, work};"), Vec::<String>::new());
}

#[test]
fn every_row_of_the_table_is_checked() {
    for (path, text, what) in [
        ("src/listener.rs", "use crate::datum::Pool;", "`listener` must not use `datum`"),
        ("src/main.rs", "use gatewayd::sv1::Sv1Session;", "`main` must not use `sv1`"),
        ("src/healthcheck.rs", "use crate::api::Api;", "`healthcheck` must not use `api`"),
        ("src/logging/queue.rs", "use crate::api::Api;", "`logging` must not use `api`"),
        ("src/api/mod.rs", "use crate::sv2::Session;", "`api` must not use `sv2`"),
        ("src/net.rs", "use crate::work::Job;", "`net` must not use `work`"),
    ] {
        assert_eq!(complaints(path, text), [format!("1: {what}")], "{path}");
    }
    let above = complaints("src/listener.rs", "use crate::devnet::Node;");
    assert_eq!(above, ["1: `listener` must not use `devnet`, which stands above it"]);
    assert_eq!(complaints("src/devnet/mod.rs", "use crate::datum::Pool;"), Vec::<String>::new());
    let rows =
        "| `a/`, `b.rs` | text | `c`, `d` |\n| `c/` | `x` | nothing of ours |\n| `e/` | x | all |";
    let uses = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let wanted: [(&str, Option<Vec<String>>); 4] =
        [("a", uses(&["c", "d"])), ("b", uses(&["c", "d"])), ("c", uses(&[])), ("e", None)];
    assert_eq!(layers(rows), wanted.map(|(name, uses)| (name.to_owned(), uses)));
}

#[test]
fn what_follows_a_test_item_is_checked_too() {
    let datum = "use crate::datum::Pool;";
    let items = [
        "#[cfg(test)]\nmod tests;\n",
        "#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n",
        "#[cfg(test)]\nuse crate::{\n    datum::Pool,\n};\n",
        "#[cfg(test)]\npub(crate) fn fixture(\n    a: u8,\n) -> u8 {\n    crate::datum::f(a)\n}\n",
        "#[cfg(test)]\n/// Of use.\nmod tests {\n    use crate::datum::Pool;\n    fn f() {}\n}\n",
        "#[cfg(test)]\nstruct Empty {}\n",
    ];
    for item in items {
        let text = format!("{item}{datum}\n");
        let at = text.lines().count();
        let found = complaints("src/sv1/session.rs", &text);
        assert_eq!(found, [format!("{at}: `sv1` must not use `datum`")], "{text}");
    }
    let inside = "impl A {\n    #[cfg(test)]\n    fn f() {\n        Instant::now();\n    }\n\n    fn g() {\n        \
                  Instant::now();\n    }\n}\n";
    let found = complaints("src/sv1/session.rs", inside);
    assert_eq!(found, ["8: `Instant::now` belongs in conn.rs or task.rs"]);
    let long = format!("{}{}", items[0], "x\n".repeat(FILE_LINES_MAX + 1));
    let mut errors = Vec::new();
    check_length(&long, &mut |at, _: &str| errors.push(at));
    assert_eq!(errors.len(), 1);
}

#[test]
fn io_stays_in_adapters() {
    let text = "use tokio::sync::watch;\nfn f(now: std::time::Instant) {}\n";
    assert_eq!(
        complaints("src/sv1/session.rs", text),
        ["1: `tokio` belongs in conn.rs or task.rs"]
    );
    for adapter in ["src/sv1/conn.rs", "src/devnet/node.rs", "src/node/rpc.rs", "src/main.rs"] {
        assert_eq!(complaints(adapter, text), Vec::<String>::new(), "{adapter}");
    }
    assert_eq!(complaints("src/datum/rpc.rs", text).len(), 1);
    for clock in ["let now = Instant::now();", "use crate::{clock::{now, unix_now}, work::Job};"] {
        assert_eq!(complaints("src/stratum/pacing.rs", clock).len(), 1, "{clock}");
    }
    assert_eq!(complaints("src/stratum/pacing.rs", "let at = clock::unix_now();").len(), 1);
    assert_eq!(complaints("src/stratum/conn.rs", "use crate::clock::now;"), Vec::<String>::new());
}

#[test]
fn strangers_words_are_printable_before_they_are_logged() {
    for (path, text) in [
        ("src/sv1/session.rs", "let name = String::from_utf8_lossy(bytes);"),
        ("src/sv2/wish.rs", "setup.vendor.to_str_lossy(),"),
        ("src/stratum/names.rs", "let fresh = Username(name.into());"),
        ("src/sv2/session.rs", "info!(%vendor, \"a miner\");"),
        ("src/sv2/session.rs", "debug!(\n    who = setup.vendor,\n    \"a miner\"\n);"),
        ("src/sv1/session.rs", "warn!(\"odd: {line}\");"),
        ("src/listener.rs", "info!(%peer, line, \"odd\");"),
    ] {
        assert_eq!(complaints(path, text).len(), 1, "{path}: {text}");
    }
    for (path, text) in [
        ("src/sv1/session.rs", "info!(?line, \"odd\"); let line = 1;"),
        ("src/sv1/session.rs", "info!(online, \"the line is cut\");"),
        ("src/sv2/wish.rs", "printable_bytes(setup.vendor.as_bytes(), 64)"),
        ("src/config/raw.rs", "String::from_utf8_lossy(bytes)"),
        ("src/stratum/names.rs", "Username::heard(name)"),
    ] {
        assert_eq!(complaints(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
