//! Sets single keys in a text, and leaves the rest of it as its owner wrote it.

use std::collections::BTreeMap;

use serde::Serialize;
use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::Json;

/// `text` with `changes` applied: key -> value, like `mining.address` or `node.0.rpc_url`; null
/// removes. Everything else stays as written. The error has a line for each problem.
pub fn set_keys(text: &str, changes: &BTreeMap<String, Json>) -> Result<String, Vec<String>> {
    let mut document: DocumentMut = text.parse().map_err(|_| {
        vec!["the file is not valid TOML: correct its text before changing single keys".into()]
    })?;
    let mut problems = Vec::new();
    // List entries are removed last, from the end: until then all indices stay valid.
    let removals = changes.iter().rev().filter(|(_, value)| **value == Json::Null(()));
    let others = changes.iter().filter(|(_, value)| **value != Json::Null(()));
    for (key, value) in others.chain(removals) {
        let parts: Vec<_> = key.split('.').collect();
        if parts.iter().any(|part| part.is_empty()) || parts.len() > DEPTH_MAX {
            problems.push(format!("{key} is not a key"));
        } else if let Err(why) = set(document.as_item_mut(), &parts, value) {
            problems.push(format!("{key} {why}"));
        }
    }
    if problems.is_empty() { Ok(document.to_string()) } else { Err(problems) }
}

fn set(item: &mut Item, path: &[&str], value: &Json) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else { return put(item, value) };
    if let Some(tables) = item.as_array_of_tables_mut() {
        return set_in_tables(tables, first, rest, value);
    }
    if item.as_array().is_some() {
        return set_in_list(item, first, rest, value);
    }
    let Some(table) = item.as_table_like_mut() else {
        return Err("is below something that is not a section".into());
    };
    if rest.is_empty() && matches!(value, Json::Null(())) {
        table.remove(first);
        return Ok(());
    }
    if rest.is_empty() {
        return set_key(table, first, value);
    }
    if table.get(first).is_none() {
        let is_list = rest.first().is_some_and(|next| next.bytes().all(|it| it.is_ascii_digit()));
        let new = match is_list {
            true => Item::ArrayOfTables(ArrayOfTables::new()),
            false => Item::Table(Table::new()),
        };
        table.insert(first, new);
    }
    set(table.entry(first).or_insert(Item::None), rest, value)
}

/// Sets a section's key; whatever surrounds an old value stays.
fn set_key(table: &mut dyn TableLike, key: &str, value: &Json) -> Result<(), String> {
    match table.get_mut(key) {
        Some(old) => put(old, value),
        None => {
            table.insert(key, item(value)?);
            Ok(())
        }
    }
}

/// Replaces a value, but not the comment after it.
fn put(old: &mut Item, value: &Json) -> Result<(), String> {
    let mut new = item(value)?;
    if let (Some(old), Some(new)) = (old.as_value(), new.as_value_mut()) {
        *new.decor_mut() = old.decor().clone();
    }
    *old = new;
    Ok(())
}

fn item(value: &Json) -> Result<Item, String> {
    let is_table = |value: &Json| matches!(value, Json::Map(_));
    match value {
        // `[[node]]`, not `node = [{…}]`.
        Json::List(values) if !values.is_empty() && values.iter().all(is_table) => {
            let tables: Result<ArrayOfTables, String> = values.iter().map(table).collect();
            Ok(Item::ArrayOfTables(tables?))
        }
        Json::Map(_) => Ok(Item::Table(table(value)?)),
        plain => plain.to_toml().map(Item::Value).ok_or_else(|| "contains a null".into()),
    }
}

fn table(value: &Json) -> Result<Table, String> {
    match value.to_toml() {
        Some(Value::InlineTable(table)) => Ok(table.into_table()),
        _ => Err("should be a section".into()),
    }
}

fn set_in_tables(
    tables: &mut ArrayOfTables,
    first: &str,
    rest: &[&str],
    value: &Json,
) -> Result<(), String> {
    let at = index(first, tables.len())?;
    if rest.is_empty() && matches!(value, Json::Null(())) {
        if at < tables.len() {
            tables.remove(at);
        }
        return Ok(());
    }
    if at == tables.len() {
        tables.push(Table::new());
    }
    let Some(old) = tables.get_mut(at) else { return Err(no_place(at)) };
    if rest.is_empty() {
        let new = table(value)?;
        let decor = old.decor().clone();
        *old = new;
        *old.decor_mut() = decor;
        return Ok(());
    }
    let mut item = Item::Table(std::mem::take(old));
    let result = set(&mut item, rest, value);
    if let Item::Table(table) = item {
        *old = table;
    }
    result
}

/// The same for `node = [{…}]`.
fn set_in_list(item: &mut Item, first: &str, rest: &[&str], value: &Json) -> Result<(), String> {
    let Some(list) = item.as_array_mut() else { return Err("is not a list".into()) };
    let at = index(first, list.len())?;
    if rest.is_empty() && matches!(value, Json::Null(())) {
        if at < list.len() {
            list.remove(at);
        }
        return Ok(());
    }
    let mut old = if at < list.len() {
        Item::Value(list.remove(at))
    } else {
        Item::Value(InlineTable::new().into())
    };
    let result = set(&mut old, rest, value);
    let Ok(value) = old.into_value() else { return Err("is not a list of such values".into()) };
    list.insert_formatted(at, value);
    result
}

fn index(part: &str, len: usize) -> Result<usize, String> {
    let at = part.parse().ok().filter(|at| *at <= len);
    at.ok_or_else(|| format!("has no entry {part}: the list has {len}, so the next is {len}"))
}

fn no_place(at: usize) -> String {
    format!("has no entry {at}")
}

/// The keys whose values differ, like `node.0.rpc_url`.
pub(crate) fn changed(old: &impl Serialize, new: &impl Serialize) -> Vec<String> {
    let (old, new) = (leaves(old), leaves(new));
    let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let mut keys: Vec<_> = keys.filter(|key| old.get(*key) != new.get(*key)).cloned().collect();
    keys.sort();
    keys
}

fn leaves(settings: &impl Serialize) -> BTreeMap<String, Json> {
    let mut leaves = BTreeMap::new();
    let text = serde_json::to_string(settings).unwrap_or_default();
    if let Ok(json) = serde_json::from_str::<Json>(&text) {
        json.leaves("", &mut leaves);
    }
    leaves
}

/// No key is nested deeper.
const DEPTH_MAX: usize = 6;
