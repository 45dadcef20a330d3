//! What an operator, or a page in the operator's browser, may send.

use std::collections::BTreeMap;

use gatewayd::{
    api::shapes::{Login, SettingsChange},
    config::{Config, edit, import_datum},
    datum::PoolMemory,
    sv2::noise::{AuthorityKey, AuthorityPublicKey},
};

/// gatewayd.toml, or a file that is to become one.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.starts_with('{') {
        if let Ok(imported) = import_datum(text) {
            let text = format!("{imported:?}");
            assert!(!text.is_empty());
        }
        return;
    }
    // What cannot be read is explained line by line.
    match Config::parse(text) {
        Ok(config) => assert!(!format!("{config:?}").is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let _ = PoolMemory::parse(text).render();
    let _ = AuthorityKey::parse(text);
    let _ = text.parse::<AuthorityPublicKey>();
}

/// Bodies of the API, and what they do to a file: a secret never leaves, and what is masked comes
/// back unchanged.
pub fn settings(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (body, file) = data.split_at(at);
    let Ok(file) = std::str::from_utf8(file.get(1..).unwrap_or_default()) else { return };
    let _ = serde_json::from_slice::<Login>(body);
    if let Ok(change) = serde_json::from_slice::<SettingsChange>(body) {
        let text = change.text.as_deref().unwrap_or(file);
        let _ = edit::reveal(text, file);
        if let Some(changes) = change.changes
            && let Ok(changes) = serde_json::from_str::<BTreeMap<String, edit::Json>>(changes.get())
            && let Ok(text) = edit::set_keys(text, &changes)
        {
            let _ = Config::parse(&text);
        }
    }
    // What is not TOML loses whole lines.
    if edit::set_keys(file, &BTreeMap::new()).is_ok() {
        let hidden = edit::hide(file);
        if let Ok(shown) = edit::reveal(&hidden, file) {
            assert_eq!(edit::hide(&shown), hidden);
        }
    }
}
