//! Checks answers against the description that the gateway serves.

use serde_json::Value;

/// Complains about everything in `answer` that the description of `method path` does not have, and
/// about everything missing.
#[track_caller]
pub fn conforms(api: &Value, method: &str, path: &str, status: u16, answer: &Value) {
    let responses = &api["paths"][path][method]["responses"];
    let content = &responses[status.to_string()]["content"]["application/json"]["schema"];
    assert!(!content.is_null(), "{method} {path}: {status} is not described: {responses}");
    let mut complaints = Vec::new();
    check(api, content, answer, "$", &mut complaints);
    assert!(complaints.is_empty(), "{method} {path}: {complaints:#?}");
}

fn check(api: &Value, schema: &Value, value: &Value, at: &str, complaints: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = api.pointer(reference.trim_start_matches('#')).expect(reference);
        return check(api, schema, value, at, complaints);
    }
    if let Some(choices) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
        let fits = |choice: &&Value| {
            let mut none = Vec::new();
            check(api, choice, value, at, &mut none);
            none.is_empty()
        };
        if choices.iter().filter(fits).count() != 1 {
            complaints.push(format!("{at}: {value} does not match exactly one of {choices:?}"));
        }
        return;
    }
    if let Some(known) = schema["enum"].as_array() {
        if !known.contains(value) {
            complaints.push(format!("{at}: {value} is none of {known:?}"));
        }
        return;
    }
    let types: Vec<_> = match &schema["type"] {
        Value::String(one) => vec![one.as_str()],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    if !types.iter().any(|kind| is_a(kind, value)) {
        complaints.push(format!("{at}: {value} is not of type {types:?}"));
    }
    if let Some(items) = value.as_array() {
        for (n, item) in items.iter().enumerate() {
            check(api, &schema["items"], item, &format!("{at}[{n}]"), complaints);
        }
    }
    if let Some(fields) = value.as_object() {
        for (name, field) in fields {
            let below = format!("{at}.{name}");
            let property = &schema["properties"][name];
            let other = &schema["additionalProperties"];
            match (property.is_null(), other.is_null()) {
                (false, _) => check(api, property, field, &below, complaints),
                (true, false) => check(api, other, field, &below, complaints),
                // An object with any members.
                (true, true) if schema["properties"].is_null() => {}
                (true, true) => complaints.push(format!("{below} is not described")),
            }
        }
        let known = schema["properties"].as_object().into_iter().flatten();
        // Even what is not required: an answer says null instead of leaving a field out.
        for (name, _) in known.filter(|(name, _)| !fields.contains_key(*name)) {
            complaints.push(format!("{at}.{name} is missing"));
        }
    }
}

fn is_a(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}
