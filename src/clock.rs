//! The two clocks, for adapters: everything else gets the time as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tokio's clock, so that tests can hold it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The wall clock, which may jump: the time since 1970.
#[expect(clippy::disallowed_methods, reason = "time enters here")]
pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same in whole seconds, as block headers and certificates have it.
pub(crate) fn unix_seconds() -> u32 {
    u32::try_from(unix_now().as_secs()).unwrap_or(u32::MAX)
}
