//! Tries of new settings, as many as a person needs: whoever may try could else make gatewayd knock at
//! doors all day, and so could a page that is open in sixty tabs.

pub(super) mod task;

use crate::work::Allowance;

/// Twelve at once, for whoever makes settings and tries a few times in a row; then one each five
/// seconds, the pace of somebody who reads what is wrong.
type TryAllowance = Allowance<EACH_US, OWED_MAX>;

const EACH_US: u64 = 5_000_000;
const OWED_MAX: u32 = 11;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_day_of_tries_is_one_each_five_seconds() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let mut left = TryAllowance::default();
        let at_once = (0..64).filter(|_| left.take(start)).count();
        assert_eq!(at_once, 12, "sixty-four tabs");
        let of_an_hour = (1..=3600).map(|second| start + Duration::from_secs(second));
        assert_eq!(of_an_hour.filter(|now| left.take(*now)).count(), 720);
    }
}
