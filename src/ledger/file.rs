//! The database file: who has it locked, whether it is still there, where damaged ones go.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::trouble::StoreError;

pub(super) const FILE: &str = "gatewayd.db";

/// Distinguishes a file from another of the same name.
pub(super) type FileId = (u64, u64);

pub(super) fn identity(path: &Path) -> Option<FileId> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Moves a damaged file out of the way, with its companions; returns its new path.
pub(super) fn set_aside(dir: &Path, unix: u64) -> std::io::Result<PathBuf> {
    let aside = dir.join(format!("{FILE}.corrupt-{unix}"));
    fs::rename(dir.join(FILE), &aside)?;
    for ending in ["-wal", "-shm"] {
        // They only exist if it was open.
        let mut to = aside.clone().into_os_string();
        to.push(ending);
        let _ = fs::rename(dir.join(format!("{FILE}{ending}")), to);
    }
    drop_oldest_aside(dir);
    Ok(aside)
}

/// A disk that damages files again and again must not be filled with them.
fn drop_oldest_aside(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let prefix = format!("{FILE}.corrupt-");
    let of = |name: &str| name.strip_prefix(&prefix)?.split('-').next()?.parse::<u64>().ok();
    let mut aside: Vec<_> = names.filter_map(|name| Some((of(&name)?, name))).collect();
    let mut times: Vec<_> = aside.iter().map(|(time, _)| *time).collect();
    times.sort_unstable();
    times.dedup();
    let spare = times.len().saturating_sub(ASIDE_MAX);
    aside.retain(|(time, _)| times[..spare].contains(time));
    for (_, name) in aside {
        let _ = fs::remove_file(dir.join(name));
    }
}

/// Removes other users' permissions on these files, which earlier versions or another umask may
/// have given: to read names and shares, and to hold the lock. Best effort: a file system may not
/// support owners.
pub(super) fn keep_private(dir: &Path) {
    for ending in ["", "-wal", "-shm", ".lock"] {
        let path = dir.join(format!("{FILE}{ending}"));
        let is_open = fs::symlink_metadata(&path)
            .is_ok_and(|it| it.is_file() && it.permissions().mode() & FOR_OTHERS != 0);
        if is_open {
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(OWNER_ONLY));
        }
    }
}

/// Two processes writing one file would overwrite each other's counts.
pub(super) fn lock(path: &Path) -> Result<Option<File>, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    // If it cannot be created, opening the database will say why.
    let Ok(file) = File::create(&name) else { return Ok(None) };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
        // Some network drives cannot lock.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Some(file)),
    }
}

const OWNER_ONLY: u32 = 0o600;
const FOR_OTHERS: u32 = 0o077;
/// How many damaged files are kept next to the good one.
const ASIDE_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_do_not_pile_up() {
        let dir = tempfile::tempdir().unwrap();
        for unix in 5..12 {
            for ending in ["", "-wal", "-shm"] {
                fs::write(dir.path().join(format!("{FILE}{ending}")), "junk").unwrap();
            }
            set_aside(dir.path(), unix).unwrap();
        }
        let names = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.map(|it| it.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names.len(), 9);
        assert_eq!(names[0], "gatewayd.db.corrupt-10");
        assert!(names.iter().all(|it| !it.contains("-5") && !it.contains("-8")), "{names:?}");
    }
}
