//! What a session needs to know of the configuration.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use bitcoin::{Address, Network, address::NetworkUnchecked};

use super::Classes;
use crate::work::{CoinbaseClass, Difficulty, Username};

/// The `[stratum]` section as sessions use it, including the settings of a `[[stratum.port]]`.
#[derive(Clone, Debug)]
pub struct Config {
    /// `stratum.difficulty_min`: floor of vardiff.
    pub difficulty_min: Difficulty,
    pub difficulty_start: Difficulty,
    /// `stratum.difficulty_max`; none: up to a block's.
    pub(crate) difficulty_max: Option<Difficulty>,
    /// `stratum.worker_difficulty`.
    pub(crate) worker_difficulty: HashMap<Box<str>, Difficulty>,
    pub shares_per_minute: u32,
    /// `stratum.stale_after`: a job lives this long after its successor is due.
    pub(crate) stale_after: Duration,
    /// `template.refresh`: how long after a job its successor is due.
    pub(crate) refresh: Duration,
    /// Until the subscribe.
    pub(crate) login_timeout: Duration,
    /// Until the next share; zero: for ever. The wait for the first one is shorter: see
    /// [`Self::patience`].
    pub(crate) idle_timeout: Duration,
    pub(crate) classes: Classes,
    /// `pooling.version_mask`: bits of the version that may be rolled on pooled work, as far as the
    /// protocol allows that.
    pub(crate) pooled_version_mask: u32,
    /// The roomiest class that miners of this port may have.
    pub(crate) class_most: Option<CoinbaseClass>,
    /// The dashboard, if there is one, for browsers that connect here.
    pub(crate) dashboard: Option<SocketAddr>,
    /// Whom shares without a username belong to: `mining.address`.
    pub(crate) default_username: Username,
    /// None: nobody is paid by the names of miners.
    pub(crate) names: Option<NameRule>,
}

/// What names must be that a pool pays by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NameRule {
    /// Chains that addresses are to be of.
    pub(crate) chains: Arc<[Network]>,
    /// `pooling.without_address`: others may not mine.
    pub(crate) refuses: bool,
}

impl NameRule {
    /// Whether the pool finds an address in it: its beginning, to the miner's own part.
    pub(crate) fn pays(&self, name: &str) -> bool {
        // What has none of its own gets the operator's, and a modifier brings others.
        if name.is_empty() || name.starts_with('.') || name.contains('~') {
            return true;
        }
        let start = name.split(['.', '_', '/', '+']).next().unwrap_or_default();
        let address = start.parse::<Address<NetworkUnchecked>>();
        address.is_ok_and(|it| self.chains.iter().any(|chain| it.is_valid_for_network(*chain)))
    }
}

impl Config {
    /// The rule that a name breaks, if it does.
    pub(crate) fn broken_by(&self, name: &str) -> Option<&NameRule> {
        self.names.as_ref().filter(|rule| !rule.pays(name))
    }

    /// How long a miner may be silent; none: for ever. `is_proven`: it has had a share accepted.
    pub(crate) fn patience(&self, is_proven: bool) -> Option<Duration> {
        let patience = if is_proven { Duration::MAX } else { FIRST_SHARE };
        (!self.idle_timeout.is_zero()).then(|| self.idle_timeout.min(patience))
    }

    /// The number of shares that a miner should send in the life of its jobs.
    pub(crate) fn shares_expected(&self) -> usize {
        let life_s = (self.stale_after + self.refresh).as_secs();
        let shares = u64::from(self.shares_per_minute).saturating_mul(life_s) / 60;
        usize::try_from(shares).unwrap_or(usize::MAX)
    }

    /// A user agent's class and the least difficulty that comes with it, limited to what this port
    /// has room for.
    pub(crate) fn class_of(&self, user_agent: &str) -> (CoinbaseClass, Option<Difficulty>) {
        let (class, floor) = self.classes.of(user_agent);
        (self.held_class(class), floor)
    }

    /// The same for an SV2 extended channel.
    pub(crate) fn class_of_extended(
        &self,
        user_agent: &str,
    ) -> (CoinbaseClass, Option<Difficulty>) {
        let (class, floor) = self.classes.of_extended(user_agent);
        (self.held_class(class), floor)
    }

    fn held_class(&self, class: CoinbaseClass) -> CoinbaseClass {
        self.class_most.filter(|most| most.limit() < class.limit()).unwrap_or(class)
    }
}

/// Where a pool's minimum difficulty is 65,536, 500 GH/s need ten minutes for a share, and much
/// firmware goes to its backup when it is cut off. Where places are short, they are taken sooner
/// than this.
const FIRST_SHARE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_payable_if_it_begins_with_an_address_of_the_network() {
        let rule = NameRule { chains: [Network::Bitcoin].into(), refuses: false };
        let own = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        for name in ["", ".rig", own, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2.s19", "half~split"] {
            assert!(rule.pays(name), "{name}");
        }
        assert!(rule.pays(&format!("{own}.garage.left")) && rule.pays(&format!("{own}_garage")));
        assert!(rule.pays(&format!("{}.rig", own.to_uppercase())));
        for name in
            ["garage", "x", "bc1q", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.rig", "рудник"]
        {
            assert!(!rule.pays(name), "{name}");
        }
        assert!(!rule.pays(&format!("{}.rig", own.replace("w508", "w50s"))));
    }
}
