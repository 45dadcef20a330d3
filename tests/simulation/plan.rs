//! What a run consists of, all of it chosen by its seed.

use std::{sync::Arc, time::Duration};

use gatewayd::{
    datum::{RelayOptions, UsernameMode, Usernames},
    stratum::Config,
    work::{AssemblerConfig, Difficulty, Payout, WhenDown},
};

use crate::chance::Chance;

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub pools: usize,
    pub is_like_ocean: bool,
    pub hold_shares: Duration,
    pub when_down: WhenDown,
    pub propose: bool,
    pub hardness: u32,
    pub rigs: usize,
    /// Base hashrate in hashes per second; a miner has a fraction or a multiple of it.
    pub hashrate: f64,
    pub shares_per_minute: u32,
    /// Milliseconds between blocks, and between mishaps, on average.
    pub block_each: f64,
    pub trouble_each: f64,
    pub reconnect_grace: Duration,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let chance = &mut Chance::new(seed);
        Self {
            seed,
            pools: [0, 1, 1, 2, 2][chance.index(5)],
            is_like_ocean: chance.one_in(2),
            hold_shares: Duration::from_secs([0, 60, 120, 600][chance.index(4)]),
            when_down: [WhenDown::Disconnect, WhenDown::Solo][chance.index(2)],
            propose: chance.one_in(2),
            hardness: [3, 6, 9][chance.index(3)],
            rigs: 2 + chance.index(6),
            hashrate: 1.0,
            shares_per_minute: [1, 4, 8][chance.index(3)],
            block_each: [30_000.0, 200_000.0, 600_000.0][chance.index(3)],
            trouble_each: [60_000.0, 400_000.0, 3_600_000.0][chance.index(3)],
            reconnect_grace: Duration::from_secs([0, 10, 60][chance.index(3)]),
        }
    }

    /// The same with realistic rates instead of everything at once: a block of its own every half
    /// hour or less often, and a mishap every ten to forty minutes. For whole days.
    pub fn of_days(seed: u64) -> Self {
        let chance = &mut Chance::new(!seed);
        Self {
            hardness: [10, 12, 14][chance.index(3)],
            rigs: 1 + chance.index(4),
            hashrate: 0.25,
            shares_per_minute: [1, 2, 4][chance.index(3)],
            block_each: [300_000.0, 600_000.0, 600_000.0][chance.index(3)],
            trouble_each: [600_000.0, 1_200_000.0, 2_400_000.0][chance.index(3)],
            ..Self::of(seed)
        }
    }

    pub fn stratum(&self) -> Config {
        let mut config = Config::with_address(ADDRESS);
        let least = Difficulty::new(1e-9).unwrap();
        (config.difficulty_min, config.difficulty_start) = (least, least);
        config.shares_per_minute = self.shares_per_minute;
        config
    }

    pub fn assembler(&self) -> AssemblerConfig {
        AssemblerConfig {
            solo: Arc::new(Payout {
                script: [0x52; 22].into(),
                tag_primary: b"solo".as_slice().into(),
                tag_secondary: b"me".as_slice().into(),
                unique_id: 5,
                own_script: None,
                pooled: None,
            }),
            pooled: self.pools > 0,
            when_down: self.when_down,
            grace: self.hold_shares.max(Duration::from_secs(1)),
            reconnect_grace: self.reconnect_grace,
            refresh: Duration::from_secs(40),
            stale_after: Duration::from_secs(600),
            halving_interval: Some(210_000),
            job_life: Duration::from_secs(160),
            propose: self.propose,
        }
    }

    pub fn relay(&self) -> RelayOptions {
        RelayOptions {
            usernames: Usernames::new(UsernameMode::Full, ADDRESS.into(), &[]),
            tag_secondary: b"me".as_slice().into(),
            unique_id: 5,
            own_script: None,
            user_agent: "simulation".into(),
            timeout: Duration::from_secs(60),
            hold_shares: self.hold_shares,
        }
    }
}

const ADDRESS: &str = "bcrt1qsimulated";
