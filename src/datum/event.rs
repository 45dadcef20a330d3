//! What a connection to a pool reports.

use std::{sync::Arc, time::Duration};

use super::{
    awaiting::Sent,
    coinbaser::CoinbaserFault,
    protocol::{
        codec::DecodeError,
        message::{Configuration, ShareResponse, Wanted},
    },
};
use crate::work::{Coinbaser, CoinbaserRequest};

/// Something that the pool said, checked.
#[derive(Clone, Debug)]
pub enum PoolEvent {
    /// The handshake is complete.
    Welcome {
        motd: String,
    },
    /// Work may be made; may come again at any time.
    Configured(Configured),
    /// A valid split, cut off at `cut_at` if it would have overpaid.
    Coinbaser {
        coinbaser: Arc<Coinbaser>,
        cut_at: Option<usize>,
    },
    CoinbaserRefused {
        request: Option<CoinbaserRequest>,
        fault: CoinbaserFault,
    },
    CoinbaserLate {
        request: CoinbaserRequest,
    },
    Answered {
        sent: Sent,
        response: ShareResponse,
        round_trip: Duration,
    },
    /// "Look for a new block template now."
    NewBlock,
    /// A text for the log.
    Info {
        text: String,
    },
    /// A request for a job's transactions was answered.
    Validated {
        slot: u8,
        wanted: Wanted,
    },
    /// The pool did something wrong that is harmless.
    Fault(PoolFault),
}

/// Why a share cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unsent {
    /// Its job does not pay a pool.
    Solo,
    NotReady,
}

/// A configuration that has been checked and may be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configured {
    pub script: Box<[u8]>,
    pub(crate) prime_id: u32,
    pub tag: Box<[u8]>,
    /// A power of two, or 0.
    pub min_difficulty: u64,
    /// Whether the pool's own figure had to be rounded up.
    pub rounded: bool,
}

impl Configured {
    pub(super) fn check(
        configuration: &Configuration<'_>,
        signed: bool,
    ) -> Result<Self, PoolFault> {
        if !signed {
            return Err(PoolFault::UnsignedConfiguration);
        }
        // With an empty one, whoever mines next could spend the pool's part.
        if configuration.script.len() < SCRIPT_MIN {
            return Err(PoolFault::PayoutScript(configuration.script.len()));
        }
        let asked = configuration.min_difficulty;
        let min_difficulty = match asked {
            0 => 0,
            _ => asked.checked_next_power_of_two().unwrap_or(1 << 63),
        };
        Ok(Self {
            script: configuration.script.into(),
            prime_id: configuration.prime_id,
            tag: configuration.tag.into(),
            min_difficulty,
            rounded: min_difficulty != asked,
        })
    }
}

/// Something wrong that a pool did.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PoolFault {
    #[error("an unsigned configuration")]
    UnsignedConfiguration,
    #[error("a configuration that {0}")]
    Configuration(DecodeError),
    #[error("a configuration with a payout script of {0} bytes")]
    PayoutScript(usize),
    #[error("a message that {0}")]
    Decode(DecodeError),
    #[error("command {0:#04x}, which is unknown")]
    UnknownCommand(u8),
    #[error("mining message {0:#04x}, which is unknown")]
    UnknownKind(u8),
    #[error("an answer to a share that is not waiting for one (nonce {:08x}, job {})", .0.nonce, .0.slot)]
    UnaskedResponse(ShareResponse),
}

/// The shortest meaningful output script.
const SCRIPT_MIN: usize = 2;
