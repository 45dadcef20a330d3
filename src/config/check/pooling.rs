//! The section `[pooling]`, and how names are split.

use std::{collections::BTreeMap, time::Duration};

use super::Check;
use crate::{
    config::{Pooling, Usernames, raw},
    work::{VERSION_ROLLING_MASK, WhenDown},
};

impl Check {
    pub(super) fn pooling(
        &mut self,
        raw: raw::Pooling,
        modifiers: Option<BTreeMap<String, Vec<(String, f64)>>>,
    ) -> Option<Pooling> {
        let when_down = self.choice(
            "pooling.when_down",
            &raw.when_down,
            &[("disconnect", WhenDown::Disconnect), ("solo", WhenDown::Solo)],
        );
        let usernames = self.choice(
            "pooling.usernames",
            &raw.usernames,
            &[
                ("full", Usernames::Full),
                ("worker", Usernames::Worker),
                ("address", Usernames::Address),
            ],
        );
        let hold_shares = self.duration("pooling.hold_shares", &raw.hold_shares);
        let reconnect_grace = self.duration("pooling.reconnect_grace", &raw.reconnect_grace);
        let version_mask = self.version_mask(&raw.version_mask);
        let timeout = self.duration("pooling.timeout", &raw.timeout);
        if timeout.is_some_and(|timeout| timeout < Duration::from_secs(5)) {
            self.note::<()>("pooling.timeout", "must be at least 5s, or no connection would last");
        }
        let user_agent = if raw.user_agent.is_empty() {
            format!("v0.4.1-beta/gatewayd-{}", env!("CARGO_PKG_VERSION"))
        } else {
            raw.user_agent
        };
        if user_agent.len() > USER_AGENT_LEN_MAX || user_agent.contains('\0') {
            return self.note("pooling.user_agent", "is too long or holds a NUL");
        }
        Some(Pooling {
            when_down: when_down?,
            usernames: usernames?,
            always_pay_self: raw.always_pay_self,
            hold_shares: hold_shares?,
            reconnect_grace: reconnect_grace?,
            version_mask: version_mask?,
            timeout: timeout?,
            user_agent,
            modifiers: modifiers?,
        })
    }

    fn version_mask(&mut self, raw: &str) -> Option<u32> {
        let digits = raw.trim_start_matches("0x");
        let mask = (digits.len() <= 8).then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        match mask {
            // A sign is no hex digit, but `from_str_radix` takes one.
            Some(mask)
                if !digits.starts_with('+')
                    && mask & !VERSION_MASK_WIDEST == 0
                    && mask & VERSION_ROLLING_MASK == VERSION_ROLLING_MASK =>
            {
                Some(mask)
            }
            _ => self.note(
                "pooling.version_mask",
                &format!(
                    "must be hex digits from \"{VERSION_ROLLING_MASK:08x}\" (BIP 320, which \
                     Stratum V1 always grants) to \"{VERSION_MASK_WIDEST:08x}\" (BIP 323), \
                     not {raw:?}"
                ),
            ),
        }
    }

    pub(super) fn modifiers(
        &mut self,
        raw: &raw::Stratum,
    ) -> Option<BTreeMap<String, Vec<(String, f64)>>> {
        let before = self.problems.len();
        for (name, shares) in &raw.username_modifiers {
            let sum: f64 = shares.values().sum();
            if shares.values().any(|part| !(0.0..=1.0).contains(part)) || sum > 1.0 + 1e-9 {
                self.note::<()>(
                    &format!("stratum.username_modifiers.{name}"),
                    &format!("fractions must be 0 to 1 and come to at most 1, not {sum}"),
                );
            }
        }
        let parts = |shares: &BTreeMap<String, f64>| {
            shares.iter().map(|(address, part)| (address.clone(), *part)).collect()
        };
        (self.problems.len() == before).then(|| {
            raw.username_modifiers.iter().map(|(name, it)| (name.clone(), parts(it))).collect()
        })
    }
}

/// What the specification of Stratum V2 lets a miner roll; the other bits are the node's.
const VERSION_MASK_WIDEST: u32 = 0x1fff_ffe0;
/// HELLO has room for it in one frame, and pools log it.
const USER_AGENT_LEN_MAX: usize = 128;
