//! The one place of the API that reads the clock.

use super::handles::Moment;
use crate::clock::{now, unix_now};

pub(super) fn moment() -> Moment {
    Moment { now: now(), unix_s: unix_now().as_secs() }
}
