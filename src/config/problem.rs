//! Problems with the settings, and where they are written. Pure.

use std::fmt;

use toml_edit::{Document, Item, TableLike, TomlError};

/// A problem, for the person who wrote the settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Problem {
    place: ProblemLocation,
    /// Begins with the key, then says what is wrong and what to do about it.
    text: String,
}

/// Where a setting is written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum ProblemLocation {
    /// Not on any line: it is missing, or a default does not go with something else.
    File,
    Line(usize),
    /// An environment variable.
    Variable(String),
}

/// A problem whose line is not known yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KeyProblem {
    /// The key, with the index of each list entry: `node.0.rpc_url`.
    pub(super) path: String,
    pub(super) text: String,
}

impl Problem {
    /// A problem with the file as a whole.
    pub(super) fn of_file(text: impl Into<String>) -> Self {
        Self { place: ProblemLocation::File, text: text.into() }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// In the format of compilers, so that editors find the line: `gatewayd.toml:12: …`.
    pub(super) fn in_file(&self, path: &str) -> String {
        match &self.place {
            ProblemLocation::File => format!("{path}: {}", self.text),
            ProblemLocation::Line(line) => format!("{path}:{line}: {}", self.text),
            ProblemLocation::Variable(_) => self.to_string(),
        }
    }
}

/// As the dashboard shows it, next to the text that it is about.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            ProblemLocation::File => f.write_str(&self.text),
            ProblemLocation::Line(line) => write!(f, "line {line}: {}", self.text),
            ProblemLocation::Variable(name) => write!(f, "{name}: {}", self.text),
        }
    }
}

/// Finds where each key is written.
pub(super) struct KeyLocations<'a> {
    text: &'a str,
    document: Result<Document<&'a str>, TomlError>,
    /// The keys that the environment sets, with the names of the variables.
    environment: Vec<(String, String)>,
}

impl<'a> KeyLocations<'a> {
    pub(super) fn new(text: &'a str, environment: Vec<(String, String)>) -> Self {
        Self { text, document: Document::parse(text), environment }
    }

    /// The problem of a text that is not valid TOML. Shows nothing of it but the key: it may be a
    /// password whose quotes are not closed.
    pub(super) fn syntax(&self) -> Option<Problem> {
        let error = self.document.as_ref().err()?;
        let line = error.span().map(|span| self.line(span.start));
        let key = line.and_then(|line| key_of(self.text.lines().nth(line - 1)?));
        let key = key.map_or_else(String::new, |key| format!("{key}: "));
        let text = format!("{key}invalid TOML: {}", error.message().trim());
        Some(Problem { place: line.map_or(ProblemLocation::File, ProblemLocation::Line), text })
    }

    /// Sorts problems in the order of the file.
    pub(super) fn locate(&self, faults: Vec<KeyProblem>) -> Vec<Problem> {
        let place =
            |fault: KeyProblem| Problem { place: self.place(&fault.path), text: fault.text };
        let mut problems: Vec<_> = faults.into_iter().map(place).collect();
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems
    }

    fn place(&self, path: &str) -> ProblemLocation {
        let mut variables = self.environment.iter().filter(|(key, _)| is_at_or_below(path, key));
        if let Some((_, name)) = variables.next() {
            return ProblemLocation::Variable(name.clone());
        }
        let parts: Vec<_> = path.split('.').collect();
        let document = self.document.as_ref().ok();
        let offset = document.and_then(|document| in_table(document.as_table(), &parts));
        offset.map_or(ProblemLocation::File, |offset| ProblemLocation::Line(self.line(offset)))
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }
}

/// True for `node.0.rpc_url` at or below `node`.
pub(super) fn is_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Where the key begins, or else the deepest section above it that exists.
fn in_table(table: &dyn TableLike, path: &[&str]) -> Option<usize> {
    let (first, rest) = path.split_first()?;
    let (key, item) = table.get_key_value(first)?;
    in_item(item, rest).or_else(|| Some(key.span().or_else(|| item.span())?.start))
}

fn in_item(item: &Item, path: &[&str]) -> Option<usize> {
    if let Some(table) = item.as_table_like() {
        return in_table(table, path);
    }
    let (first, rest) = path.split_first()?;
    let at: usize = first.parse().ok()?;
    if let Some(tables) = item.as_array_of_tables() {
        let table = tables.get(at)?;
        return in_table(table, rest).or_else(|| Some(table.span()?.start));
    }
    let value = item.as_array()?.get(at)?;
    let inside = value.as_inline_table().and_then(|table| in_table(table, rest));
    inside.or_else(|| Some(value.span()?.start))
}

/// The key that a line sets.
fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim().trim_matches(['"', '\'']);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!key.is_empty() && key.chars().all(is_plain)).then_some(key)
}
