//! Takes secrets out of a text, and puts them back when it comes back without them.

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Stands for a secret.
pub(crate) const MASK: &str = "<secret>";

/// `text` with `MASK` in place of each secret. A file that is not valid TOML loses whole lines
/// instead.
pub fn hide(text: &str) -> String {
    let Ok(mut document) = text.parse::<DocumentMut>() else {
        return crate::config::without_secrets(text);
    };
    for_each_node(&mut document, |_, node| {
        if let Some(Item::Value(value)) = node.get_mut(PASSWORD)
            && value.as_str().is_some_and(|secret| !secret.is_empty())
        {
            replace(value, MASK);
        }
        if let Some(Item::Value(value)) = node.get_mut(URL)
            && let Some(url) = value.as_str().and_then(|url| with_password(url, MASK))
        {
            replace(value, &url);
        }
    });
    document.to_string()
}

/// `text` with the secrets of `old` where it has `MASK`. The error lists those for which there is
/// none.
pub fn reveal(text: &str, old: &str) -> Result<String, Vec<String>> {
    if !text.contains(MASK) {
        return Ok(text.to_owned());
    }
    // Invalid TOML is refused by whoever reads it next.
    let Ok(mut document) = text.parse::<DocumentMut>() else { return Ok(text.to_owned()) };
    let mut known = Vec::new();
    if let Ok(mut old) = old.parse::<DocumentMut>() {
        for_each_node(&mut old, |_, node| known.push(Secrets::of(node)));
    }
    let mut problems = Vec::new();
    for_each_node(&mut document, |at, node| {
        let new = Secrets::of(node);
        // The node with the same address, or else the one at the same index.
        let same = |old: &&Secrets| old.address == new.address && new.address.is_some();
        let old = known.iter().find(same).or_else(|| known.get(at));
        let missing = |key: &str| {
            format!(
                "node.{key} is {MASK}, but there was none before: enter \
                                           the password itself"
            )
        };
        if new.password.as_deref() == Some(MASK) {
            match old.and_then(|old| old.password.as_deref()) {
                Some(secret) => set(node, PASSWORD, secret),
                None => problems.push(missing(PASSWORD)),
            }
        }
        if new.in_url.as_deref() == Some(MASK) {
            let url = node.get(URL).and_then(Item::as_str).unwrap_or_default();
            let secret = old.and_then(|old| old.in_url.as_deref());
            match secret.and_then(|secret| with_password(url, secret)) {
                Some(url) => set(node, URL, &url),
                None => problems.push(missing(URL)),
            }
        }
    });
    if problems.is_empty() { Ok(document.to_string()) } else { Err(problems) }
}

/// A node's secrets, and the address by which it is recognised.
#[derive(Debug)]
struct Secrets {
    address: Option<String>,
    password: Option<String>,
    in_url: Option<String>,
}

impl Secrets {
    fn of(node: &dyn TableLike) -> Self {
        let text = |key| node.get(key).and_then(Item::as_str);
        let url = text(URL);
        Self {
            address: url.map(|url| url.rsplit('@').next().unwrap_or(url).to_owned()),
            password: text(PASSWORD).filter(|it| !it.is_empty()).map(str::to_owned),
            in_url: url.and_then(password).map(str::to_owned),
        }
    }
}

/// The password in `scheme://user:password@host`.
fn password(url: &str) -> Option<&str> {
    let (start, end) = password_at(url)?;
    url.get(start..end)
}

/// `url` with this password, if it has one.
pub(crate) fn with_password(url: &str, password: &str) -> Option<String> {
    let (start, end) = password_at(url)?;
    Some(format!("{}{password}{}", url.get(..start)?, url.get(end..)?))
}

fn password_at(url: &str) -> Option<(usize, usize)> {
    let begin = url.find("://")? + 3;
    let end = url.rfind('@').filter(|end| *end >= begin)?;
    let colon = url.get(begin..end)?.find(':')?;
    let start = begin + colon + 1;
    (start < end).then_some((start, end))
}

fn set(node: &mut dyn TableLike, key: &str, secret: &str) {
    if let Some(Item::Value(value)) = node.get_mut(key) {
        replace(value, secret);
    }
}

/// Replaces a text, but not the comment after it.
fn replace(value: &mut Value, text: &str) {
    let decor = value.decor().clone();
    *value = text.into();
    *value.decor_mut() = decor;
}

/// Each `[[node]]`, or entry of `node = […]`.
fn for_each_node(document: &mut DocumentMut, mut each: impl FnMut(usize, &mut dyn TableLike)) {
    match document.get_mut("node") {
        Some(Item::ArrayOfTables(tables)) => {
            tables.iter_mut().enumerate().for_each(|(at, table)| each(at, table));
        }
        Some(Item::Value(Value::Array(list))) => {
            let tables = list.iter_mut().filter_map(Value::as_inline_table_mut);
            tables.enumerate().for_each(|(at, table)| each(at, table));
        }
        _ => {}
    }
}

const PASSWORD: &str = "rpc_password";
const URL: &str = "rpc_url";
