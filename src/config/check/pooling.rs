//! [[pool]], [pooling], and [stratum.username_modifiers].

use std::{collections::BTreeMap, time::Duration};

use super::Check;
use crate::{
    config::{PayoutAddress, raw},
    datum::{
        Backoff, DatumConfig, Modifier, PoolConfig, PublicIdentity, UsernameMode,
        default_user_agent,
    },
    ledger::LedgerConfig,
    work::VERSION_ROLLING_MASK,
};

impl Check {
    /// The configuration of the pool's task.
    pub(super) fn datum(
        &mut self,
        raw: &raw::Raw,
        address: Option<&PayoutAddress>,
        modifiers: Option<Vec<Modifier>>,
        ledger: Option<&LedgerConfig>,
    ) -> Option<DatumConfig> {
        let pools = self.each("pool", &raw.pool, Self::pool);
        let pooling = &raw.pooling;
        let usernames = self.choice(
            "pooling.usernames",
            &pooling.usernames,
            &[
                ("full", UsernameMode::Full),
                ("worker", UsernameMode::Worker),
                ("address", UsernameMode::Address),
            ],
        );
        let hold_shares = self.duration("pooling.hold_shares", &pooling.hold_shares);
        let timeout = self.duration("pooling.timeout", &pooling.timeout);
        if timeout.is_some_and(|timeout| timeout < Duration::from_secs(5)) {
            self.note::<()>("pooling.timeout", "must be at least 5s, or no connection would last");
        }
        let user_agent = match pooling.user_agent.as_str() {
            "" => default_user_agent(),
            own => own.to_owned(),
        };
        if user_agent.len() > USER_AGENT_LEN_MAX || user_agent.contains('\0') {
            return self.note("pooling.user_agent", "is too long or contains a NUL");
        }
        Some(DatumConfig {
            pools,
            usernames: usernames?,
            address: address.map_or_else(String::new, |address| address.text.clone()),
            modifiers: modifiers?,
            own_script: address.filter(|_| pooling.always_pay_self).map(PayoutAddress::script),
            hold_shares: hold_shares?,
            memory_file: Some(ledger?.data_dir.join(POOL_MEMORY)),
            timeout: timeout?,
            user_agent,
            tag_secondary: raw.mining.coinbase_tag_secondary.as_bytes().into(),
            unique_id: raw.mining.unique_id,
            backoff: Backoff::default(),
        })
    }

    fn pool(&mut self, raw: &raw::Pool) -> Option<PoolConfig> {
        let Some(public_key) = PublicIdentity::from_hex(&raw.public_key) else {
            return self.note(
                "pool.public_key",
                &format!("of {} should be 128 hex digits, as the pool publishes them", raw.host),
            );
        };
        let (host, port) = self.pool_place(raw)?;
        Some(PoolConfig { host, port, public_key })
    }

    pub(super) fn version_mask(&mut self, raw: &str) -> Option<u32> {
        let digits = raw.trim_start_matches("0x");
        let mask = (digits.len() <= 8).then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        match mask {
            // A sign is not a hex digit, but `from_str_radix` accepts one.
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

    pub(super) fn modifiers(&mut self, raw: &raw::Stratum) -> Option<Vec<Modifier>> {
        let before = self.problems.len();
        for (name, shares) in &raw.username_modifiers {
            let sum: f64 = shares.values().sum();
            if shares.values().any(|part| !(0.0..=1.0).contains(part)) || sum > 1.0 + 1e-9 {
                self.note::<()>(
                    &format!("stratum.username_modifiers.{name}"),
                    &format!("fractions must be from 0 to 1 and add up to at most 1, not {sum}"),
                );
            }
        }
        let modifier = |(name, parts): (&String, &BTreeMap<String, f64>)| Modifier {
            name: name.clone(),
            parts: parts.iter().map(|(address, part)| (address.clone(), *part)).collect(),
        };
        (self.problems.len() == before)
            .then(|| raw.username_modifiers.iter().map(modifier).collect())
    }
}

/// What the Stratum V2 specification lets a miner roll; the other bits are the node's.
const VERSION_MASK_WIDEST: u32 = 0x1fff_ffe0;
/// It has to fit into one frame with the rest of HELLO, and pools log it.
const USER_AGENT_LEN_MAX: usize = 128;
/// In `ledger.data_dir`: what was learnt about pools.
const POOL_MEMORY: &str = "pools.txt";
