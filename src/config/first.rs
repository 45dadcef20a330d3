//! What gatewayd.toml begins as for somebody who has none: just what the defaults would be wrong about.

use std::path::Path;

use super::raw;

/// A text with a folder for what is kept, if the usual one is not for this user.
pub(super) fn draft(path: &Path) -> String {
    let usual = raw::Ledger::default().data_dir;
    if can_be_used(Path::new(&usual)) {
        return String::new();
    }
    let beside =
        path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = std::path::absolute(beside).unwrap_or_else(|_| beside.to_owned());
    let folder = toml_edit::Value::from(beside.join(FOLDER).display().to_string());
    format!("[ledger]\ndata_dir = {folder} # {usual} is not for this user\n")
}

/// It can be written to, or made.
fn can_be_used(folder: &Path) -> bool {
    let there = folder.ancestors().find(|it| it.exists());
    there.is_some_and(|it| rustix::fs::access(it, rustix::fs::Access::WRITE_OK).is_ok())
}

/// Beside the file.
const FOLDER: &str = "gatewayd-data";
