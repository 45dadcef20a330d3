//! What the API does besides answering: watches for changes, reads the password file, checks
//! passwords.

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, warn};

use super::{
    auth::{Denied, Guest, Password},
    clock::moment,
    news::{LOOK_EACH_MS, Newsroom},
    state::State,
};

/// Sends changes to listeners, and rereads the password file when the settings are reloaded. Runs
/// until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    let mut configs = state.handles.configs.clone();
    let mut newsroom = Newsroom::default();
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
            newsroom = Newsroom::default();
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
    result.inspect_err(|denied| state.tell_denied(guest.client, *denied))
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

/// A password may have 1,024 bytes.
const FILE_LEN_MAX: u64 = 4096;
/// Only the latest blocks are checked for changes.
const BLOCKS_MAX: usize = 20;
