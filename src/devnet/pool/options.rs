//! A devnet pool's options: its terms, its habits, and the faults it should have.

use std::time::Duration;

use super::habits::Habits;
use crate::{
    datum::{Identity, message::Wanted},
    work::Difficulty,
};

/// The options that a pool is started with.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// Long-term keys; generated if there are none.
    pub identity: Option<Identity>,
    pub config: PoolConfig,
    pub habits: Habits,
    /// How many of the gateways' last messages are kept unchanged, for tests that inspect them.
    pub messages_kept: usize,
}

/// A pool's terms. They can change while it runs, and then every gateway is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Primary tag of coinbases; at most `TAG_MAX` bytes count.
    pub tag: Vec<u8>,
    /// scriptPubKey that gets what no split claims.
    pub script: Vec<u8>,
    pub prime_id: u32,
    /// As sent. 0 for none: then shares below difficulty 1 come with target byte 0.
    pub min_difficulty: u64,
    /// The difficulty that target byte 0 stands for when `min_difficulty` is 0. None: any.
    pub share_floor: Option<Difficulty>,
    /// A share that meets the block target needs no other difficulty: for gateways without
    /// difficulties below 1, on regtest, where every second hash is a block.
    pub blocks_suffice: bool,
    pub motd: String,
    pub splits: Vec<Split>,
    /// The pool's own weight, alongside those of `splits`.
    pub own_weight: u64,
    pub validation: ValidationPlan,
    /// The interval of keep-alive texts. Zero: none.
    pub keepalive: Duration,
}

/// One recipient of a coinbase, and its proportion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Split {
    pub script: Vec<u8>,
    pub(crate) weight: u64,
}

/// Which templates a pool checks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValidationPlan {
    /// One in this many job slots; 0: none.
    pub every: u32,
    /// How many transactions to request by index, if a template has as many.
    pub sample: u16,
    /// Also request all transactions.
    pub full: bool,
}

/// What a pool does wrong on purpose, until told otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The response is signed with another key.
    BadResponseSignature,
    /// The response repeats keys that are not the gateway's.
    WrongEcho,
    /// Encrypted messages are forged.
    BadMac,
    TruncatedConfiguration,
    UnsignedConfiguration,
    /// The first output pays more than the block's value.
    OverpayingCoinbaser,
    /// The length is larger than the message.
    LyingCoinbaser,
    /// Scripts of one byte.
    ImpossibleScripts,
    /// Coinbasers are never answered.
    SilentCoinbaser,
    /// Coinbasers for a value that was not requested.
    UnaskedCoinbaser,
    /// Nothing is sent any more, on new connections not even a response.
    Silence,
    /// Shares are counted, but never answered.
    SilentShares,
    /// The connection ends when a share arrives, which is counted but not answered.
    DisconnectOnShare,
    /// Every share is rejected.
    RejectShares,
    /// Shares are accepted "tentatively".
    Tentative,
    /// New connections are closed at once.
    RefuseConnections,
}

/// A job validation on demand, sent to every gateway.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    pub slot: u8,
    pub wanted: Wanted,
    pub indexes: Vec<u16>,
}

/// The owner's commands, as connections see them. Counters show that something was requested again.
#[derive(Clone, Debug)]
pub struct Control {
    pub config: std::sync::Arc<PoolConfig>,
    pub habits: Habits,
    pub fault: Option<Fault>,
    /// How often gateways were told to check for a block.
    pub new_blocks: u64,
    /// How often all connections were dropped.
    pub cuts: u64,
    /// Numbered, so that the same one can be requested twice.
    pub(crate) probe: Option<(u64, Probe)>,
}

impl Control {
    pub fn new(config: PoolConfig) -> Self {
        let habits = Habits::default();
        Self { config: config.into(), habits, fault: None, new_blocks: 0, cuts: 0, probe: None }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}

impl PoolConfig {
    /// `count` splits to made-up scripts of the types that real pools pay.
    pub fn sample_splits(count: u8) -> Vec<Split> {
        let split = |n: u8| {
            let script = match n % 3 {
                0 => [&[0x76, 0xa9, 20][..], &[n; 20], &[0x88, 0xac]].concat(),
                1 => [&[0x51, 32][..], &[n; 32]].concat(),
                _ => [&[0x00, 20][..], &[n; 20]].concat(),
            };
            Split { script, weight: u64::from(count - n) + 1 }
        };
        (0..count).map(split).collect()
    }

    /// The smallest target byte of a share.
    pub(super) fn target_byte_min(&self) -> u8 {
        let power = self.min_difficulty.checked_next_power_of_two();
        let exponent = power.map_or(64, u64::trailing_zeros);
        // 0 has 1 as its next power of two.
        u8::try_from(exponent).unwrap_or(u8::MAX)
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            tag: b"devnet pool".to_vec(),
            script: [&[0x00, 20][..], &[0xDA; 20]].concat(),
            prime_id: 0x0DE7_2E70,
            min_difficulty: 0,
            share_floor: None,
            blocks_suffice: false,
            motd: "a pool that pays in worthless coins".to_owned(),
            splits: Self::sample_splits(20),
            own_weight: 10,
            validation: ValidationPlan::default(),
            keepalive: Duration::from_secs(5),
        }
    }
}

impl Default for ValidationPlan {
    fn default() -> Self {
        Self { every: 1, sample: 3, full: true }
    }
}

/// How much room a coinbase has for the tag.
pub(super) const TAG_MAX: usize = 85;
