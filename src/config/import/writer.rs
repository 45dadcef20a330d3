//! Writes gatewayd.toml line by line: keys with their origin, and comments.

use toml_edit::{Key, Value};

/// The new file so far.
#[derive(Default)]
pub(super) struct Writer {
    toml: String,
    notes: Vec<String>,
}

impl Writer {
    /// A separate comment, which may have several lines.
    pub(super) fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
    }

    pub(super) fn section(&mut self, header: &str) {
        self.toml.push('\n');
        self.line(header);
    }

    /// `key = value   # origin`.
    pub(super) fn key(&mut self, key: &str, value: impl Into<Value>, origin: &str) {
        let setting = format!("{} = {}", Key::new(key), value.into());
        let comment = if origin.is_empty() { "" } else { "# " };
        self.line(&format!("{setting:<COMMENT_COLUMN$} {comment}{origin}"));
    }

    /// What became of an old key that does not exist any more, or not quite in the same form.
    pub(super) fn note(&mut self, old: &str, what: &str) {
        let note = format!("{old} {what}");
        self.line(&format!("# {note}"));
        self.notes.push(printable(&note));
    }

    /// True if the file says what became of `old`.
    pub(super) fn mentions(&self, old: &str) -> bool {
        let is_end = |c: char| !c.is_alphanumeric() && c != '_';
        let mut found = self.toml.match_indices(old);
        found.any(|(at, _)| self.toml[at + old.len()..].starts_with(is_end))
    }

    pub(super) fn finish(self) -> (String, Vec<String>) {
        (self.toml, self.notes)
    }

    /// One line, whatever a name or a value of the old file contains.
    fn line(&mut self, line: &str) {
        self.toml.push_str(printable(line).trim_end());
        self.toml.push('\n');
    }
}

/// Without anything that could end a line or a comment early.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

const COMMENT_COLUMN: usize = 46;
