//! How pools differ from each other without being wrong. The default is as lenient as a pool can
//! be; `like_ocean` is what the protocol's author says about his own pool.

use std::time::Duration;

/// How a pool treats its gateways. Unlike faults, all of these can be combined.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Habits {
    pub prime_ids: PrimeIds,
    /// A split is valid only for the connection, tip and value that it was requested for. Without
    /// this, for anything that uses its id.
    pub bound_splits: bool,
    /// A failed spot check takes back what was accepted since the last successful one.
    pub voids_unchecked: bool,
    /// One share in this many is never answered, although it counts. 0: all are answered.
    pub unanswered_every: u32,
    /// Rejections do not repeat the target byte: it is 0xFF.
    pub blank_rejections: bool,
    /// Every answer to a share has this status, regardless of the verdict.
    pub status: Option<u8>,
    pub coinbasers: Coinbasers,
}

/// Where a gateway's prime id comes from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PrimeIds {
    /// From the configuration, the same for everybody, forever.
    #[default]
    Kept,
    /// Each new connection gets its own, and work with another is refused. Connections that exist
    /// when this is switched on keep theirs.
    PerConnection,
}

/// When a gateway gets the split that it requested.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Coinbasers {
    #[default]
    AtOnce,
    After(Duration),
    Never,
}

impl Habits {
    /// Like OCEAN's pool, as far as known.
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
            // An odd step visits every number once before repeating. Nothing else matters.
            Self::PerConnection => {
                let nth = u32::try_from(nth & u64::from(u32::MAX)).unwrap_or_default();
                kept.wrapping_add(nth.wrapping_mul(PRIME_ID_STEP))
            }
        }
    }
}

/// 2^32 divided by the golden ratio: changes all four bytes from one connection to the next.
const PRIME_ID_STEP: u32 = 0x9E37_79B1;
