//! Reads datum_gateway's JSON key by key, with the types that it requires.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The file, and which of its keys were asked for.
pub(super) struct Source {
    values: Vec<(String, Box<RawValue>)>,
    read: BTreeSet<String>,
    /// Values of the wrong type or range for their key.
    pub(super) problems: Vec<String>,
}

impl Source {
    pub(super) fn parse(json: &str) -> Result<Self, Vec<String>> {
        let sections: Members = serde_json::from_str(json)
            .map_err(|error| vec![format!("is not valid JSON for datum_gateway: {error}")])?;
        let mut source = Self { values: Vec::new(), read: BTreeSet::new(), problems: Vec::new() };
        for (section, value) in sections.0 {
            if is_null(&value) {
                continue;
            }
            match serde_json::from_str::<Members>(value.get()) {
                Ok(members) => source.values.extend(
                    members.0.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)),
                ),
                Err(_) if SECTIONS.contains(&section.as_str()) => {
                    source.problem(&section, "should be a section: { ... }");
                }
                Err(_) => source.values.push((section, value)),
            }
        }
        Ok(source)
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.value(key, "text in quotes")
    }

    /// Like `text`, but None when it is empty, which means "none" in datum_gateway.
    pub(super) fn some_text(&mut self, key: &str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    pub(super) fn bool(&mut self, key: &str) -> Option<bool> {
        self.value(key, "true or false")
    }

    pub(super) fn int(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let int: i64 = self.value(key, "a whole number")?;
        if !range.contains(&int) {
            let (least, most) = range.into_inner();
            self.problem(key, &format!("is {int}; it should be {least} to {most}"));
            return None;
        }
        Some(int)
    }

    pub(super) fn texts(&mut self, key: &str) -> Vec<String> {
        self.value(key, "a list of texts: [\"...\", \"...\"]").unwrap_or_default()
    }

    /// {name: {address: fraction}}, in the order of the file. null means none, wherever it is.
    pub(super) fn modifiers(&mut self, key: &str) -> Vec<(String, Vec<(String, f64)>)> {
        const WANTED: &str = "of the form { \"name\": { \"address\": 0.5 } }";
        let names: Option<Members> = self.value(key, WANTED);
        let mut modifiers = Vec::new();
        for (name, value) in names.into_iter().flat_map(|members| members.0) {
            let key = format!("{key}.{name}");
            let parts: Option<Members> = self.parse_value(&key, &value, WANTED);
            let parts = parts.into_iter().flat_map(|members| members.0).filter_map(|it| {
                let part: f64 =
                    self.parse_value(&format!("{key}.{}", it.0), &it.1, "a fraction")?;
                Some((it.0, part))
            });
            let parts: Vec<_> = parts.collect();
            if !is_null(&value) {
                modifiers.push((name, parts));
            }
        }
        modifiers
    }

    /// The file's keys: those that were asked for, and those that are unknown.
    pub(super) fn keys(&self) -> (Vec<String>, Vec<String>) {
        let keys = self.values.iter().map(|(key, _)| key.clone());
        keys.partition(|key| self.read.contains(key))
    }

    pub(super) fn problem(&mut self, key: &str, what: &str) {
        self.problems.push(format!("{key} {what}"));
    }

    fn value<T: for<'de> Deserialize<'de>>(&mut self, key: &str, wanted: &str) -> Option<T> {
        self.read.insert(key.to_owned());
        // The last of several, as in datum_gateway's reader.
        let value = self.values.iter().rfind(|(name, _)| name == key)?.1.clone();
        self.parse_value(key, &value, wanted)
    }

    fn parse_value<T: for<'de> Deserialize<'de>>(
        &mut self,
        key: &str,
        value: &RawValue,
        wanted: &str,
    ) -> Option<T> {
        if is_null(value) {
            return None;
        }
        let parsed = serde_json::from_str(value.get()).ok();
        if parsed.is_none() {
            // The value is not shown: it may be a password.
            self.problem(key, &format!("should be {wanted}"));
        }
        parsed
    }
}

fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The members of an object, in order; values stay as written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

const SECTIONS: [&str; 7] =
    ["bitcoind", "stratum", "mining", "api", "extra_block_submissions", "logger", "datum"];
