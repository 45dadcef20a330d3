//! The house rules a machine can check. Each failure names the file, the line and the rule.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Module -> the other modules it may name. Arrows point one way: towards `work`. What is not in
/// the table (`devnet`, `daemon.rs`, `main.rs`, ...) stands above it, and may name all that is.
const ALLOWED: &[(&str, &[&str])] = &[
    ("work", &[]),
    ("net", &[]),
    ("reply", &[]),
    ("config", &["work"]),
    ("validate", &["work"]),
    ("template", &["net", "reply", "work"]),
    ("datum", &["net", "work"]),
    ("blocks", &["net", "reply", "work"]),
    ("stratum", &["validate", "work"]),
    ("sv1", &["stratum", "validate", "work"]),
    ("sv2", &["stratum", "validate", "work"]),
    ("ledger", &["work"]),
    ("logging", &["config", "work"]),
    ("api", &["blocks", "config", "datum", "ledger", "logging", "template", "work"]),
];
/// Files, and one folder, that may touch tokio, sockets, threads or the clock.
const ADAPTERS: &[&str] = &[
    "main.rs",
    "lib.rs",
    "daemon.rs",
    "listener.rs",
    "logging/daily.rs",
    "logging/queue.rs",
    "listener/gate.rs",
    "listener/proxy.rs",
    "listener/tls.rs",
    "net.rs",
    "api/clock.rs",
    "api/events.rs",
    "api/handles.rs",
    "api/paced.rs",
    "conn.rs",
    "task.rs",
    "template/bitcoind/fetch.rs",
    "template/bitcoind/look.rs",
    "template/bitcoind/meet.rs",
    "template/bitcoind/speaker.rs",
    "template/bitcoind/wait.rs",
    "template/probe.rs",
    "template/relay.rs",
    "template/rpc.rs",
    "template/walk.rs",
    "template/blvm/look.rs",
    "template/blvm/rpc.rs",
    "template/zmq.rs",
    "work/share_queue.rs",
    "blocks/bring.rs",
    "blocks/http.rs",
    "blocks/rpc.rs",
    "blocks/store.rs",
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
];
const FILE_LINES_MAX: usize = 500;
/// What listens to strangers: their words are made printable where they enter (`work::printable`),
/// so that none of them begins a line of the log or commands a terminal.
const HEARS_STRANGERS: &[&str] =
    &["api", "blocks", "datum", "listener", "net", "reply", "stratum", "sv1", "sv2", "template"];
/// Ways to make text of bytes, and a name of text, that leave everything in it.
const RAW_TEXT: &[&str] =
    &["from_utf8_lossy", "utf8_chunks", "to_str_lossy", "String::from_utf8(", " Username("];
/// Where that is done with words that are nobody's, or are made printable later.
const RAW_TEXT_FINE: &[(&str, &str)] = &[
    ("api/prefix.rs", "from_utf8_lossy"),
    ("api/task.rs", "String::from_utf8("),
    ("sv1/message.rs", "utf8_chunks"),
    ("sv2/codec/bytes.rs", "from_utf8_lossy"),
    ("sv2/codec/bytes.rs", "to_str_lossy"),
    ("stratum/config.rs", " Username("),
];
/// What strangers say, by the names that the protocols give it: in a log it is `printable` first.
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

#[test]
fn tidy() {
    let mut errors = Vec::new();
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let mut complain = |at, what: &str| errors.push(format!("{}:{at}: {what}", path.display()));
        check_layers(&path, &text, &mut complain);
        check_sans_io(&path, &text, &mut complain);
        check_words(&path, &text, &mut complain);
        check_length(&text, &mut complain);
    }
    assert!(errors.is_empty(), "untidy:\n{}", errors.join("\n"));
}

fn check_layers(path: &Path, text: &str, complain: &mut impl FnMut(usize, &str)) {
    let module = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
    let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
        return;
    };
    for (at, used) in names_of_the_crate(path, text) {
        let is_module = used.starts_with(|c: char| c.is_ascii_lowercase());
        if is_module && used != module && !allowed.contains(&used.as_str()) {
            let is_layer = ALLOWED.iter().any(|(name, _)| *name == used);
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

/// The calls of the log's macros, each whole and with its line.
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

/// Whether a call shows a variable of this name, or a field: as itself, by `%`, or in braces. What
/// is shown by `?` has its escapes.
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
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    if lines > FILE_LINES_MAX {
        complain(lines, &format!("file exceeds {FILE_LINES_MAX} lines before its tests"));
    }
}

/// The modules named after `crate::` (or after as many `super::` as lead there), with the line:
/// one in `crate::work::Job`, several in `crate::{datum, work::{Job, Work}}`.
fn names_of_the_crate(path: &Path, text: &str) -> Vec<(usize, String)> {
    let supers = path.iter().count() - if path.ends_with("mod.rs") { 2 } else { 1 };
    let roots = ["crate::".to_owned(), "super::".repeat(supers)];
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

/// Lines before the test module, numbered from 1, without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..)
        .zip(text.lines())
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    let is_source = |path: &PathBuf| {
        let name = path.to_str().unwrap();
        // A module's tests, when they fill a file of their own, may use what they like.
        name.ends_with(".rs") && !name.ends_with("tests.rs")
    };
    files.filter(is_source).collect()
}

/// What `check_layers` and `check_sans_io` say about a text, each as `line: complaint`.
fn complaints(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut complain = |at, what: &str| found.push(format!("{at}: {what}"));
    check_layers(Path::new(path), text, &mut complain);
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
fn io_stays_in_adapters() {
    let text = "use tokio::sync::watch;\nfn f(now: std::time::Instant) {}\n";
    assert_eq!(
        complaints("src/sv1/session.rs", text),
        ["1: `tokio` belongs in conn.rs or task.rs"]
    );
    for adapter in ["src/sv1/conn.rs", "src/devnet/node.rs", "src/template/rpc.rs", "src/main.rs"] {
        assert_eq!(complaints(adapter, text), Vec::<String>::new(), "{adapter}");
    }
    assert_eq!(complaints("src/datum/rpc.rs", text).len(), 1);
    assert_eq!(complaints("src/validate/mod.rs", "let now = Instant::now();").len(), 1);
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
