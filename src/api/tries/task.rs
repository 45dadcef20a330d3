//! Runs tries, one at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};
use tracing::info;

use super::TryAllowance;
use crate::{
    api::{clock::moment, error::ApiError, handles::Tried, state::State},
    config::Outlook,
};

/// Who may try now.
#[derive(Debug)]
pub(in crate::api) struct TryGate {
    one: Semaphore,
    left: Mutex<TryAllowance>,
}

impl Default for TryGate {
    fn default() -> Self {
        Self { one: Semaphore::new(1), left: Mutex::default() }
    }
}

/// Tries what would change, or everything while nothing has worked yet. Gives a line for each that
/// works; the error has one for each that does not.
pub(in crate::api) async fn run(
    state: &Arc<State>,
    outlook: Outlook,
) -> Result<Vec<String>, ApiError> {
    let gate = &state.tries;
    let Ok(Ok(_one)) = timeout(WAIT_MAX, gate.one.acquire()).await else {
        return Err(ApiError::too_many_tries(WAIT_MAX));
    };
    gate.take(moment().now).map_err(ApiError::too_many_tries)?;
    let all = !state.is_set_up();
    let done = (state.handles.tries)(outlook, all).await;
    let (mut works, mut problems) = (Vec::new(), Vec::new());
    for Tried { key, what, result } in done {
        match result {
            Ok(how) => works.push(format!("{what}: {how}")),
            Err(why) => problems.push(format!("{key}: {what}: {why}")),
        }
    }
    info!(works = works.len(), fails = problems.len(), "API: new settings were tried");
    if problems.is_empty() { Ok(works) } else { Err(ApiError::try_failed(problems)) }
}

impl TryGate {
    /// Counts a try, or says how long to wait for the next.
    fn take(&self, now: Instant) -> Result<(), Duration> {
        // Nothing under the lock can leave it half done.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = left.pause(now) {
            return Err(until.saturating_duration_since(now));
        }
        left.spend(1, now);
        Ok(())
    }
}

/// For another's try to end; one takes milliseconds, or some seconds where something is silent.
const WAIT_MAX: Duration = Duration::from_secs(3);
