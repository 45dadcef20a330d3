//! The admin password: kept as an argon2id hash, even if the file contains the password itself.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a password is checked against.
pub(crate) struct Password(pub(super) PasswordHash);

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum PasswordError {
    #[error("it is empty: its first line must be a password, or an argon2 hash of one")]
    Empty,
    #[error("its password has only {0} characters: use at least {LEN_MIN}")]
    Short(usize),
    #[error("it begins like an argon2 hash, but is not a valid one ({0})")]
    Hash(String),
}

impl Password {
    /// From the file's text: its first line is the password, or an argon2 hash as `argon2 -e` and
    /// others write it (`$argon2id$v=19$…`).
    pub(crate) fn parse(text: &str) -> Result<Self, PasswordError> {
        let line = text.lines().next().unwrap_or_default().trim_end_matches('\r');
        if line.is_empty() {
            return Err(PasswordError::Empty);
        }
        if line.starts_with("$argon2") {
            let bad = |what: &dyn fmt::Display| PasswordError::Hash(what.to_string());
            let hash = PasswordHash::new(line.trim_end()).map_err(|error| bad(&error))?;
            Params::try_from(&hash).map_err(|error| bad(&error))?;
            return Ok(Self(hash));
        }
        if line.chars().count() < LEN_MIN {
            return Err(PasswordError::Short(line.chars().count()));
        }
        let salt: [u8; 16] = rand::thread_rng().r#gen();
        let hash = Argon2::default().hash_password_with_salt(line.as_bytes(), &salt);
        hash.map(Self).map_err(|error| PasswordError::Hash(error.to_string()))
    }

    /// As a file has it.
    pub(crate) fn hash(&self) -> String {
        self.0.to_string()
    }

    /// Slow by design, and equally slow for each wrong one.
    pub(super) fn is(&self, given: &str) -> bool {
        verify(&self.0, given).unwrap_or(false)
    }
}

/// Whether the hash matches this password; none if it cannot match any. Checks run one after the
/// other and share their memory: if it were freed each time, the allocator would keep several
/// copies.
fn verify(hash: &PasswordHash, given: &str) -> Option<bool> {
    static MEMORY: Mutex<Vec<Block>> = Mutex::new(Vec::new());
    let (salt, expected) = (hash.salt.as_ref()?, hash.hash.as_ref()?.as_bytes());
    let params = Params::try_from(hash).ok()?;
    let blocks = params.block_count();
    let algorithm = hash.algorithm.as_str().parse::<Algorithm>().ok()?;
    let version = hash.version.map_or_else(|| Ok(Version::default()), Version::try_from).ok()?;
    let mut out = vec![0; expected.len()];
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    if memory.len() < blocks {
        memory.resize_with(blocks, Block::default);
    }
    let argon2 = Argon2::new(algorithm, version, params);
    let room = memory.get_mut(..blocks)?;
    let done = argon2.hash_password_into_with_memory(given.as_bytes(), salt, &mut out, room);
    if blocks > BLOCKS_KEPT_MAX {
        *memory = Vec::new();
    }
    drop(memory);
    Some(done.is_ok() && bool::from(out.ct_eq(expected)))
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// A password that was right a moment ago, as a digest under a key of its own.
pub(super) struct Recent {
    key: [u8; 32],
    digest: [u8; 32],
}

impl Recent {
    pub(super) fn new(password: &str) -> Self {
        let key: [u8; 32] = rand::thread_rng().r#gen();
        Self { digest: digest(&key, password), key }
    }

    pub(super) fn is(&self, given: &str) -> bool {
        digest(&self.key, given).ct_eq(&self.digest).into()
    }
}

impl fmt::Debug for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

fn digest(key: &[u8; 32], password: &str) -> [u8; 32] {
    Sha256::new().chain_update(key).chain_update(password).finalize().into()
}

/// 64 MiB: if a user's own hash needs more, the rest is not kept for the next password.
const BLOCKS_KEPT_MAX: usize = 64 * 1024;
/// Shorter ones can be guessed; node appliances generate longer ones.
const LEN_MIN: usize = 8;
