//! The one place of the API that reads the clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::handles::Moment;

#[expect(clippy::disallowed_methods, reason = "time enters here")]
pub(super) fn moment() -> Moment {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment { now: Instant::now(), unix_s: unix.as_secs() }
}
