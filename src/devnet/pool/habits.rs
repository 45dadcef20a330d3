//! What pools do differently from each other without being wrong. The default is as kind as a pool
//! can be; `like_ocean` is what the protocol's author says of the pool that he runs.

use std::time::Duration;

/// How a pool treats its gateways. Unlike faults, all of these work side by side.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Habits {
    pub prime_ids: PrimeIds,
    /// A split is good for the connection, the tip and the value that it was asked for, and for
    /// nothing else. Without this, for whatever a gateway makes of its id.
    pub bound_splits: bool,
    /// A spot check that fails takes back what was accepted since the last good one.
    pub voids_unchecked: bool,
    /// One share in so many is never answered, though it counts. 0: all are answered.
    pub unanswered_every: u32,
    /// Rejections do not repeat the target byte: it is 0xFF.
    pub blank_rejections: bool,
    /// Every answer to a share has this status, whatever became of the share.
    pub status: Option<u8>,
    pub coinbasers: Coinbasers,
}

/// Where a gateway's prime id comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PrimeIds {
    /// From the configuration, the same for all and for ever.
    #[default]
    Kept,
    /// Each new connection has one of its own, and work with another's is refused. What is
    /// connected when a pool takes this up keeps the one that it has.
    PerConnection,
}

/// When a gateway gets the split that it asked for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Coinbasers {
    #[default]
    AtOnce,
    After(Duration),
    Never,
}

impl Habits {
    /// As OCEAN's pool is said to be.
    pub fn like_ocean() -> Self {
        Self {
            prime_ids: PrimeIds::PerConnection,
            bound_splits: true,
            voids_unchecked: true,
            blank_rejections: true,
            ..Self::default()
        }
    }
}

impl PrimeIds {
    /// The prime id of the pool's `nth` connection, counted from 1.
    pub(super) fn of_connection(self, kept: u32, nth: u64) -> u32 {
        match self {
            Self::Kept => kept,
            // An odd step meets every number once before any twice. The rest does not matter.
            Self::PerConnection => {
                let nth = u32::try_from(nth & u64::from(u32::MAX)).unwrap_or_default();
                kept.wrapping_add(nth.wrapping_mul(PRIME_ID_STEP))
            }
        }
    }
}

/// 2^32 divided by the golden ratio: changes all four bytes from one connection to the next.
const PRIME_ID_STEP: u32 = 0x9E37_79B1;
