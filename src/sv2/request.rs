//! What a client says and asks for, and how that is answered.

use super::{
    channel::ChannelKind,
    codec::{
        Extensions, Message, RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess,
        Seq64K, SetupConnection, Str255, codes, id, protocol, setup_flags,
    },
};
use crate::{
    stratum::Config,
    work::{CoinbaseClass, Difficulty, Reject, Target, printable_bytes},
};

/// What the client said about itself.
pub(super) struct ClientSetup {
    /// `vendor/hardware/firmware`.
    pub(super) user_agent: Box<str>,
    pub(super) requires_standard_jobs: bool,
}

/// A request for a channel.
pub(super) struct ChannelRequest<'a> {
    pub(super) request_id: u32,
    pub(super) kind: ChannelKind,
    /// None: not UTF-8.
    pub(super) identity: Option<&'a str>,
    pub(super) hashrate: f32,
    pub(super) max_target: Target,
    pub(super) extranonce_size: u16,
}

/// Why a setup is refused: for the client, and for the log.
pub(super) struct SetupRefusal {
    pub(super) flags: u32,
    pub(super) error_code: Str255<'static>,
    /// Reads on after "the miner".
    pub(super) why: &'static str,
}

impl Extensions {
    /// Answers what was asked for, and notes what that grants.
    pub(super) fn grant(&mut self, request: &RequestExtensions<'_>, out: &mut Vec<u8>) {
        let RequestExtensions { request_id, requested_extensions } = request;
        let known = [id::WORKER_HASHRATE];
        if requested_extensions.iter().any(|wanted| known.contains(&wanted)) {
            self.worker_hashrate = true;
            let supported_extensions = Seq64K::new(&known).unwrap_or_default();
            RequestExtensionsSuccess { request_id: *request_id, supported_extensions }.append(out);
        } else {
            RequestExtensionsError {
                request_id: *request_id,
                unsupported_extensions: *requested_extensions,
                required_extensions: Seq64K::default(),
            }
            .append(out);
        }
    }
}

/// Why this client cannot be served, if so.
pub(super) fn refusal(setup: &SetupConnection<'_>) -> Option<SetupRefusal> {
    let refuse = |flags, error_code, why| Some(SetupRefusal { flags, error_code, why });
    if setup.protocol != protocol::MINING {
        let code = codes::UNSUPPORTED_PROTOCOL;
        return refuse(0, code, "wants a protocol that is not mining: only that is served");
    }
    if !(setup.min_version..=setup.max_version).contains(&protocol::VERSION) {
        let code = codes::PROTOCOL_VERSION_MISMATCH;
        return refuse(0, code, "does not speak version 2 of the mining protocol");
    }
    // Unknown flags are requirements too: for something not supported here.
    let served = setup_flags::REQUIRES_STANDARD_JOBS | setup_flags::REQUIRES_VERSION_ROLLING;
    let unsupported = setup.flags & !served;
    if unsupported != 0 {
        let code = codes::UNSUPPORTED_FEATURE_FLAGS;
        let why = "requires work selection or another feature that is not served: switch it off";
        return refuse(unsupported, code, why);
    }
    None
}

pub(super) fn class_of(
    config: &Config,
    setup: &ClientSetup,
    kind: ChannelKind,
) -> (CoinbaseClass, Option<Difficulty>) {
    match kind {
        // The miner only sees the merkle root.
        ChannelKind::Standard => (CoinbaseClass::Huge, config.class_of(&setup.user_agent).1),
        ChannelKind::Extended => config.class_of_extended(&setup.user_agent),
    }
}

pub(super) fn user_agent(setup: &SetupConnection<'_>) -> Box<str> {
    let parts = [
        printable_bytes(setup.vendor.as_bytes(), PART_LEN_MAX),
        printable_bytes(setup.hardware_version.as_bytes(), PART_LEN_MAX),
        printable_bytes(setup.firmware.as_bytes(), PART_LEN_MAX),
    ];
    parts.join("/").trim_end_matches('/').into()
}

/// Hashes per second, or `Some(None)` if the miner does not say; none when it is not a hashrate.
#[expect(clippy::option_option, reason = "absent is not wrong")]
pub(super) fn hashrate(nominal: f32) -> Option<Option<f64>> {
    let valid = nominal.is_finite() && nominal >= 0.0;
    valid.then(|| (nominal > 0.0).then_some(f64::from(nominal)))
}

/// The difficulty that a miner asks never to go below; none when nobody could meet it.
#[expect(clippy::option_option, reason = "absent is not wrong")]
pub(super) fn floor_of(max_target: &Target) -> Option<Option<Difficulty>> {
    let wanted = max_target.difficulty();
    if wanted > DIFFICULTY_MOST {
        return None;
    }
    let Some(mut floor) = Difficulty::new(wanted) else { return Some(None) };
    // Rounding must not make the target easier than was asked for.
    for _ in 0..ROUNDINGS {
        if Target::from_difficulty(floor) <= *max_target {
            break;
        }
        floor = Difficulty::new(floor.get() * (1.0 + f64::EPSILON)).unwrap_or(floor);
    }
    Some(Some(floor))
}

/// SRI's current codes.
pub(super) fn code_of(reject: Reject) -> Str255<'static> {
    match reject {
        Reject::UnknownJob => codes::INVALID_JOB_ID,
        Reject::StaleWork | Reject::StalePrevblk => codes::STALE_SHARE,
        Reject::Duplicate => codes::DUPLICATE_SHARE,
        Reject::TooMany => codes::TOO_MANY_SHARES,
        Reject::HighHash | Reject::HashNotZero => codes::DIFFICULTY_TOO_LOW,
        Reject::BadVersion => codes::INVALID_NON_ROLLABLE_VERSION_BIT,
        Reject::BadExtranonce => codes::BAD_EXTRANONCE_SIZE,
        Reject::NotSubscribed => codes::INVALID_CHANNEL_ID,
        Reject::NtimeTooOld | Reject::NtimeTooNew | Reject::Unauthorized | Reject::Malformed => {
            codes::INVALID_SHARE
        }
    }
}

/// The whole network's difficulty is below 2^48; a target beyond this is a mistake.
const DIFFICULTY_MOST: f64 = 1e18;
/// An `f64` quotient is off by one bit at most, the long division by less.
const ROUNDINGS: u32 = 4;
/// Of a vendor's or a firmware's name.
const PART_LEN_MAX: usize = 64;
