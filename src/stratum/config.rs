//! What a session needs to know of the configuration.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

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
}

impl Config {
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
