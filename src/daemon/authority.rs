//! The file that keeps the Stratum V2 authority key from one start to the next.
//!
//! Miners are configured with the key's public half. So a key that is there is never replaced: one
//! that cannot be read is an error for the user to settle.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use crate::sv2::noise::{AuthorityKey, KeyTextError};

/// The key in the file at `path`; without such a file a fresh key, which is kept there.
pub(super) fn load_or_create(path: &Path) -> Result<AuthorityKey, AuthorityError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        opened => load(path, opened),
    }
}

/// The key in the file at `path`, if there is one: it is for the gateway to make it. One that
/// another user made for it, with `sudo gatewayd check`, it could not read.
pub(super) fn look(path: &Path) -> Result<Option<AuthorityKey>, AuthorityError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => load(path, opened).map(Some),
    }
}

fn load(path: &Path, opened: io::Result<File>) -> Result<AuthorityKey, AuthorityError> {
    let failed = |error| AuthorityError::Read { path: path.to_owned(), error };
    let file = opened.map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & OTHERS != 0 {
        warn!(
            "others on this machine can read or change {path}, and with what is in it pose as this \
             gateway. Run: chmod 600 '{path}'",
            path = path.display()
        );
    }
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX).read_to_end(&mut bytes).map_err(failed)?;
    let broken = |error| AuthorityError::Broken { path: path.to_owned(), error };
    let text = std::str::from_utf8(&bytes).map_err(|_| broken(KeyTextError::Garbled))?;
    AuthorityKey::parse(text).map_err(broken)
}

fn create(path: &Path) -> Result<AuthorityKey, AuthorityError> {
    let key = AuthorityKey::generate();
    match write(path, &key.to_file_text()) {
        Ok(()) => {}
        // Another gateway was quicker, and its key is the one that stays; or it is a link to
        // nowhere, which does not open this time either.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return load(path, File::open(path));
        }
        Err(error) => return Err(AuthorityError::Write { path: path.to_owned(), error }),
    }
    info!(
        "made a Stratum V2 authority key in {}; keep a copy of it: with another key every miner \
         that checks it must be configured anew. Its public half, for miners: {}",
        path.display(),
        key.public()
    );
    Ok(key)
}

/// Whole or not at all, for its owner only, and never over a file that is there.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    // One that is left from a crash was never anybody's key.
    let _ = fs::remove_file(&unfinished);
    let written = write_synced(&unfinished, text).and_then(|()| link(&unfinished, path));
    let removed = fs::remove_file(&unfinished);
    written?;
    // A rename has taken it away already.
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    // The name is part of what must survive.
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Unlike a rename a link never replaces a file. Some file systems (exFAT, network shares) know no
/// links.
fn link(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => {
            fs::rename(unfinished, path)
        }
        linked => linked,
    }
}

/// Why there is no authority key.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(
        "the Stratum V2 authority key in {path} (stratum.sv2.authority_key_file) cannot be read: \
         {error}. Let gatewayd's user read that file"
    )]
    Read { path: PathBuf, error: io::Error },
    #[error(
        "the Stratum V2 authority key cannot be written to {path} \
         (stratum.sv2.authority_key_file): {error}. Let gatewayd's user write to that folder, or \
         name a file elsewhere"
    )]
    Write { path: PathBuf, error: io::Error },
    #[error(
        "{path} (stratum.sv2.authority_key_file) holds no Stratum V2 authority key: {error}. \
         Restore the file from a copy. Without one, move it away: the next start makes a new key, \
         whose public half every miner then needs"
    )]
    Broken { path: PathBuf, error: KeyTextError },
}

const OWNER_ONLY: u32 = 0o600;
/// Any right of the file's group or of everybody.
const OTHERS: u32 = 0o077;
/// The file that we write has some 250 bytes; there is room for a user's remarks.
const FILE_LEN_MAX: u64 = 16_384;

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
