//! Reads settings from text and environment, and lists everything that is wrong and where.

use figment::{
    Figment, Profile, Provider,
    error::{Actual, Error, Kind},
    value::{Dict, Value},
};

use super::{
    Config, Module, Raw, Written, check, environment, merged,
    problem::{KeyLocations, KeyProblem, Problem, is_at_or_below},
    without_secrets,
};

/// What `text` means, overridden by the environment. `mining.address` may be missing.
pub(super) fn with_environment(text: &str) -> Result<Config, Vec<Problem>> {
    let ours = environment();
    let variable = |key: &str, prefix: &str, between: &str| {
        let name = key.replace('.', between).to_ascii_uppercase();
        (key.to_ascii_lowercase(), format!("{prefix}{name}"))
    };
    let mut keys: Vec<_> =
        ours.iter().map(|(key, _)| variable(key.as_str(), "GATEWAYD_", "__")).collect();
    if Module::of_environment().is_some() {
        let node = Module::keys();
        keys.extend(node.iter().map(|(key, _)| variable(key.as_str(), "MODULE_CONFIG_", ".")));
    }
    settings(&merged(text), &KeyLocations::new(text, keys), false)
}

/// What `text` means on its own.
pub(super) fn alone(text: &str) -> Result<Config, Vec<Problem>> {
    let places = KeyLocations::new(text, Vec::new());
    settings(&Figment::new().merge(Written(text)), &places, true)
}

fn settings(
    figment: &Figment,
    places: &KeyLocations<'_>,
    complete: bool,
) -> Result<Config, Vec<Problem>> {
    let data = figment.data().map_err(|error| {
        let fault = |error: Error| {
            let text = without_secrets(&error.to_string());
            KeyProblem { path: String::new(), text }
        };
        let syntax = places.syntax().map(|problem| vec![problem]);
        syntax.unwrap_or_else(|| places.locate(error.into_iter().map(fault).collect()))
    })?;
    let (raw, mut faults) = raw(data.get(&Profile::Default).cloned().unwrap_or_default());
    let Some(raw) = raw else { return Err(places.locate(faults)) };
    match check::config(raw, complete) {
        Ok(config) if faults.is_empty() => Ok(config),
        Ok(_) => Err(places.locate(faults)),
        Err(more) => {
            // What could not be read was left out, so that the rest can be checked; that it is
            // missing now is not another problem.
            let known = faults.clone();
            let is_new = |fault: &KeyProblem| {
                let path = &fault.path;
                let is_same = |it: &KeyProblem| {
                    is_at_or_below(path, &it.path) || is_at_or_below(&it.path, path)
                };
                !known.iter().any(is_same)
            };
            faults.extend(more.into_iter().filter(is_new));
            Err(places.locate(faults))
        }
    }
}

/// Reads everything that can be read. None: nothing can.
///
/// Reading ends at the first error; so what is wrong is removed, and the rest read again.
fn raw(mut settings: Dict) -> (Option<Raw>, Vec<KeyProblem>) {
    let mut faults: Vec<KeyProblem> = Vec::new();
    while faults.len() < FAULTS_MAX {
        let error = match Value::from(settings.clone()).deserialize::<Raw>() {
            Ok(raw) => return (Some(raw), faults),
            Err(error) => error,
        };
        let mut path = error.path.clone();
        let fault = fault(&error);
        // A list entry that cannot be replaced by a section: the whole list is removed.
        if faults.iter().any(|known| known.path == fault.path) {
            path.pop();
        } else {
            faults.push(fault);
        }
        if !take_out(&mut settings, &path) {
            return (None, faults);
        }
    }
    (None, faults)
}

/// Removes a key. A list entry becomes an empty section, so that the others keep their indices.
fn take_out(settings: &mut Dict, path: &[String]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    if rest.is_empty() {
        return settings.remove(first).is_some();
    }
    settings.get_mut(first).is_some_and(|value| take_out_below(value, rest))
}

fn take_out_below(value: &mut Value, path: &[String]) -> bool {
    match value {
        Value::Dict(_, table) => take_out(table, path),
        Value::Array(_, entries) => {
            let Some((first, rest)) = path.split_first() else { return false };
            let at: Option<usize> = first.parse().ok();
            let Some(entry) = at.and_then(|at| entries.get_mut(at)) else { return false };
            if !rest.is_empty() {
                return take_out_below(entry, rest);
            }
            *entry = Value::from(Dict::new());
            true
        }
        _ => false,
    }
}

/// In our own words: serde's are for programmers.
fn fault(error: &Error) -> KeyProblem {
    let path = error.path.join(".");
    let named = error.path.iter().filter(|part| part.parse::<usize>().is_err());
    let key = named.map(String::as_str).collect::<Vec<_>>().join(".");
    let text = match &error.kind {
        Kind::UnknownField(field, known) => format!("{key} {}", unknown(field, known)),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("{key} is {}, but should be {}", found(actual), wanted(expected))
        }
        Kind::MissingField(field) => format!("{key}.{field} is missing"),
        Kind::Message(message) => format!("{key}: {}", without_secrets(message)),
        other => format!("{key}: {}", without_secrets(&other.to_string())),
    };
    KeyProblem { path, text }
}

fn unknown(field: &str, known: &[&str]) -> String {
    let near = known.iter().map(|name| (strsim::damerau_levenshtein(field, name), name)).min();
    let near = near.filter(|(distance, _)| *distance <= TYPING_ERRORS_MAX);
    let advice = near.map_or_else(String::new, |(_, name)| format!("did you mean {name}? "));
    format!("is not known: {advice}Known keys here: {}", known.join(", "))
}

fn found(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        // A whole [[node]] may be in it.
        Actual::Str(text) => format!("{:?}", without_secrets(text)),
        Actual::Seq => "a list".into(),
        Actual::Map => "a section".into(),
        other => other.to_string(),
    }
}

fn wanted(expected: &str) -> String {
    match expected {
        "u16" => format!("a whole number up to {}", u16::MAX),
        "u32" | "usize" => "a whole number, 0 or more".into(),
        "f64" => "a number".into(),
        "a boolean" => "true or false, without quotes".into(),
        "a string" => "text in quotes".into(),
        "a sequence" => "a list in square brackets".into(),
        "a map" => "a section".into(),
        section if section.starts_with("struct ") => "a section".into(),
        other => other.into(),
    }
}

/// A file with more problems is probably not a gatewayd.toml.
const FAULTS_MAX: usize = 50;
/// How many letters may be wrong, missing, surplus or swapped for a suggestion to be made.
const TYPING_ERRORS_MAX: usize = 3;
