//! What a devnet pool is told to be: its terms, its habits, and the faults it is to show.

use std::time::Duration;

use super::habits::Habits;
use crate::{
    datum::{Identity, message::Wanted},
    work::Difficulty,
};

/// How a pool is started.
#[derive(Clone, Debug, Default)]
pub struct PoolOptions {
    /// Long-term keys; made anew when there are none.
    pub identity: Option<Identity>,
    pub config: PoolConfig,
    pub habits: Habits,
    /// How many of the gateways' last messages are kept as they are, for tests that take them to
    /// pieces.
    pub messages_kept: usize,
}

/// The terms of a pool. They can change while it runs, and then every gateway is told.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Primary tag of coinbases; at most `TAG_MAX` bytes count.
    pub tag: Vec<u8>,
    /// scriptPubKey that gets what no split claims.
    pub script: Vec<u8>,
    pub prime_id: u32,
    /// As it is sent. 0 for none: then shares below difficulty 1 come with target byte 0.
    pub min_difficulty: u64,
    /// What target byte 0 must be worth when `min_difficulty` is 0. None: nothing.
    pub share_floor: Option<Difficulty>,
    /// A share that meets the block target needs no other work: for gateways that know nothing
    /// below difficulty 1, on regtest, where every second hash is a block.
    pub blocks_suffice: bool,
    pub motd: String,
    pub splits: Vec<Split>,
    /// The pool's own weight, alongside those of `splits`.
    pub own_weight: u64,
    pub validation: ValidationPlan,
    /// Between texts that tell a gateway that the pool is alive. Zero: none.
    pub keepalive: Duration,
}

/// One of those whom a coinbase pays, and how much in proportion.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Split {
    pub script: Vec<u8>,
    pub(crate) weight: u64,
}

/// Which templates a pool looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ValidationPlan {
    /// One in so many job slots, 0 for none.
    pub every: u32,
    /// Transactions asked for by index, when a template has as many.
    pub sample: u16,
    /// Ask for all transactions, too.
    pub full: bool,
}

/// What a pool does wrong, on purpose, until told otherwise.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The response bears another key's signature.
    BadResponseSignature,
    /// The response repeats keys that are not the gateway's.
    WrongEcho,
    /// Encrypted messages are forged.
    BadMac,
    TruncatedConfiguration,
    UnsignedConfiguration,
    /// The first output pays more than there is.
    OverpayingCoinbaser,
    /// The length says more than there is.
    LyingCoinbaser,
    /// Scripts of one byte.
    ImpossibleScripts,
    /// Coinbasers are never answered.
    SilentCoinbaser,
    /// Coinbasers of a value that nobody asked for.
    UnaskedCoinbaser,
    /// Nothing at all is said from now on, on new connections not even a response.
    Silence,
    /// Shares are counted, never answered.
    SilentShares,
    /// The connection ends when a share comes, which counts, but is not answered.
    DisconnectOnShare,
    /// Every share is refused.
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

/// What the pool's owner wants, as connections see it. Counters tell that something was asked anew.
#[derive(Clone, Debug)]
pub struct Control {
    pub config: std::sync::Arc<PoolConfig>,
    pub habits: Habits,
    pub fault: Option<Fault>,
    /// Times that gateways were told to look for a block.
    pub new_blocks: u64,
    /// Times that all connections were cut.
    pub cuts: u64,
    /// Numbered, so that the same one can be asked twice.
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
    /// `count` splits to made-up scripts of the kinds that real pools pay.
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

    /// The least target byte of a share.
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
            motd: "a pool that pays in coins of no value".to_owned(),
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

/// What a coinbase has room for after the secondary tag's end.
pub(super) const TAG_MAX: usize = 85;
