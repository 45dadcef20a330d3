//! The file that keeps the Stratum V2 authority key from one start to the next.
//!
//! Miners are configured with the key's public half, so an existing key is never replaced: one that
//! cannot be read is an error for the user to resolve.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use crate::sv2::noise::{AuthorityKey, KeyTextError};

/// The key in the file at `path`; if there is no such file, a new key, which is stored there.
pub(super) fn load_or_create(path: &Path) -> Result<AuthorityKey, AuthorityError> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        opened => load(path, opened),
    }
}

/// The key in the file at `path`, if there is one. Only the running gateway creates it: one that
/// another user created, with `sudo gatewayd check`, it could not read.
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
            "other users of this machine can read or change {path}, and could impersonate this \
             gateway with the key in it. Run: chmod 600 '{path}'",
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
        // Another gateway was faster, and its key is the one that stays; or it is a dangling link,
        // which cannot be opened this time either.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return load(path, File::open(path));
        }
        Err(error) => return Err(AuthorityError::Write { path: path.to_owned(), error }),
    }
    info!(
        "created a Stratum V2 authority key in {}; keep a copy of it: with another key, every \
         miner that checks it has to be reconfigured. Its public half, for miners: {}",
        path.display(),
        key.public()
    );
    Ok(key)
}

/// Writes all or nothing, readable by its owner only, and never over an existing file.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    // One left by a crash was never anybody's key.
    let _ = fs::remove_file(&unfinished);
    let written = write_synced(&unfinished, text).and_then(|()| link(&unfinished, path));
    let removed = fs::remove_file(&unfinished);
    written?;
    // Already gone if it was renamed.
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    // The directory entry must survive a crash too.
    File::open(folder)?.sync_all()
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Unlike a rename, a link never replaces a file. Some file systems (exFAT, network shares) have no
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
         name a file in another one"
    )]
    Write { path: PathBuf, error: io::Error },
    #[error(
        "{path} (stratum.sv2.authority_key_file) holds no Stratum V2 authority key: {error}. \
         Restore the file from a copy. Without a copy, move it away: the next start creates a new \
         key, whose public half every miner then needs"
    )]
    Broken { path: PathBuf, error: KeyTextError },
}

const OWNER_ONLY: u32 = 0o600;
/// Any permission for the file's group or for others.
const OTHERS: u32 = 0o077;
/// The file that we write has some 250 bytes; this leaves room for a user's comments.
const FILE_LEN_MAX: u64 = 16_384;

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
