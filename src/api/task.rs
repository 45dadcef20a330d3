//! What the API does besides answering: watches for changes, reads the password file, checks
//! passwords.

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{error, warn};

use super::{
    auth::{Denied, Guest, Password, PasswordError},
    clock::moment,
    error::ApiError,
    news::{ChangeTracker, LOOK_EACH_MS},
    state::State,
};

/// Sends changes to listeners, and rereads the password file when the settings are reloaded. Runs
/// until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    let mut configs = state.handles.configs.clone();
    let mut newsroom = ChangeTracker::default();
    let mut tick = interval(Duration::from_millis(LOOK_EACH_MS));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut password = None;
    read_password(&state, &mut password).await;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            // Even if the settings are unchanged: the password may have changed.
            Ok(()) = configs.changed() => {
                read_password(&state, &mut password).await;
                continue;
            }
        }
        if !state.hub.has_listeners() {
            newsroom = ChangeTracker::default();
            continue;
        }
        let blocks = if newsroom.wants_blocks() {
            Some(state.handles.ledger.blocks(BLOCKS_MAX).await)
        } else {
            None
        };
        for news in newsroom.collect(&state, blocks) {
            state.hub.tell(&news);
        }
    }
}

/// Checks a password on another thread than the one that answers.
pub(super) async fn check(
    state: &Arc<State>,
    guest: Guest,
    password: String,
) -> Result<(), Denied> {
    let keeper = Arc::clone(state);
    let run = move || match keeper.keeper.begin(guest, &password, moment().now)? {
        Some(check) => check.run(),
        None => Ok(()),
    };
    let result = spawn_blocking(run).await.unwrap_or(Err(Denied::Busy));
    result.inspect_err(|denied| state.log_denied(guest.client, *denied))
}

/// What the file of a new admin password is to hold.
pub(super) async fn first_password(password: String) -> Result<String, ApiError> {
    let is_line = !password.contains(['\n', '\r']) && !password.starts_with("$argon2");
    if !is_line || password.len() > PASSWORD_LEN_MAX {
        return Err(ApiError::bad_password("is too long, or no line of text"));
    }
    // Hashing takes a while.
    let hashed = spawn_blocking(move || Password::parse(&password).map(|it| it.hash())).await;
    let hashed = hashed.map_err(|_| ApiError::bad_password("cannot be kept: try again"))?;
    hashed.map_err(|error| match error {
        PasswordError::Empty => ApiError::bad_password("is empty"),
        PasswordError::Short(len) => {
            ApiError::bad_password(&format!("has {len} characters: use at least 8"))
        }
        PasswordError::Hash(error) => ApiError::bad_password(&error),
    })
}

/// Waits until a password that was just set lets in.
pub(super) async fn wait_for_password(state: &State) {
    for _ in 0..PASSWORD_LOOKS_MAX {
        if state.keeper.has_password() {
            return;
        }
        sleep(PASSWORD_LOOK_EACH).await;
    }
}

/// Reads the password file, if there is one. An unchanged password (`known`) signs nobody out.
async fn read_password(state: &State, known: &mut Option<[u8; 32]>) {
    let path = state.handles.configs.borrow().api.admin_password_file.clone();
    let Some(path) = path else {
        *known = None;
        return state.set_password(Ok(None));
    };
    let was = *known;
    // Hashing takes a while.
    let read = spawn_blocking(move || {
        let now = read_some(&path).ok().map(|bytes| Sha256::digest(&bytes).into());
        let same = now.is_some() && now == was;
        (now, if same { None } else { Some(read_file(&path)) })
    });
    let (now, read) =
        read.await.unwrap_or_else(|_| (None, Some(Err("reading it was interrupted".into()))));
    *known = now;
    let Some(read) = read else { return };
    if let Err(problem) = &read {
        error!("nothing can be changed through the API: {problem}");
    }
    state.set_password(read.map(Some));
}

/// Checks a file for `api.admin_password_file`.
pub(crate) fn try_password_file(path: &Path) -> Result<(), String> {
    read_file(path).map(drop)
}

fn read_file(path: &Path) -> Result<Password, String> {
    let name = path.display();
    let about = |what: &dyn std::fmt::Display| format!("api.admin_password_file {name}: {what}");
    let bytes = read_some(path).map_err(|error| about(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| about(&"it is not text"))?;
    let mode = std::fs::metadata(path).map(|it| it.permissions().mode()).unwrap_or_default();
    if mode & 0o004 != 0 && !text.starts_with("$argon2") {
        warn!(
            "api.admin_password_file {name} can be read by every user of this machine: run chmod \
               600 {name}"
        );
    }
    Password::parse(&text).map_err(|error| about(&error))
}

/// As much as a password can need, whatever the path points to.
fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(
        &mut io::Read::take(std::fs::File::open(path)?, FILE_LEN_MAX),
        &mut bytes,
    )?;
    Ok(bytes)
}

/// A hash is read in some tens of milliseconds.
const PASSWORD_LOOK_EACH: Duration = Duration::from_millis(20);
const PASSWORD_LOOKS_MAX: u32 = 250;
/// What the door takes.
const PASSWORD_LEN_MAX: usize = 1024;
/// A password may have 1,024 bytes.
const FILE_LEN_MAX: u64 = 4096;
/// Only the latest blocks are checked for changes.
const BLOCKS_MAX: usize = 20;
