//! Error codes, as in the reference implementation, since the specification no longer lists any.
//! Only logs and people read them.

use super::bytes::Str255;

/// A code that is longer than a STR0_255 does not compile.
const fn code(text: &'static str) -> Str255<'static> {
    match Str255::new(text) {
        Some(code) => code,
        None => panic!("longer than 255 bytes"),
    }
}

// SetupConnection.Error
pub const UNSUPPORTED_FEATURE_FLAGS: Str255<'_> = code("unsupported-feature-flags");
pub const UNSUPPORTED_PROTOCOL: Str255<'_> = code("unsupported-protocol");
pub const PROTOCOL_VERSION_MISMATCH: Str255<'_> = code("protocol-version-mismatch");

// OpenMiningChannel.Error
pub const UNKNOWN_USER: Str255<'_> = code("unknown-user");
pub const INVALID_USER_IDENTITY: Str255<'_> = code("invalid-user-identity");
/// Also UpdateChannel.Error.
pub const INVALID_NOMINAL_HASHRATE: Str255<'_> = code("invalid-nominal-hashrate");
/// Also UpdateChannel.Error.
pub const MAX_TARGET_OUT_OF_RANGE: Str255<'_> = code("max-target-out-of-range");
pub const MIN_EXTRANONCE_SIZE_TOO_LARGE: Str255<'_> = code("min-extranonce-size-too-large");
pub const UNSUPPORTED_MIN_EXTRANONCE_SIZE: Str255<'_> = code("unsupported-min-extranonce-size");
pub const CHANNEL_CAPACITY_EXHAUSTED: Str255<'_> = code("channel-capacity-exhausted");
pub const EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS: Str255<'_> =
    code("extended-channels-not-supported-for-standard-jobs");
pub const STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK: Str255<'_> =
    code("standard-channels-not-supported-for-custom-work");

/// Ours.
pub(crate) const TOO_MANY_LOGINS: Str255<'_> = code("too-many-logins");

// CloseChannel
/// Ours.
pub(crate) const LIMIT_CROSSED: Str255<'_> = code("limit-crossed");

// SubmitShares.Error
/// Also UpdateChannel.Error and SetCustomMiningJob.Error.
pub const INVALID_CHANNEL_ID: Str255<'_> = code("invalid-channel-id");
pub const INVALID_JOB_ID: Str255<'_> = code("invalid-job-id");
pub const INVALID_SHARE: Str255<'_> = code("invalid-share");
pub const STALE_SHARE: Str255<'_> = code("stale-share");
pub const DIFFICULTY_TOO_LOW: Str255<'_> = code("difficulty-too-low");
pub const DUPLICATE_SHARE: Str255<'_> = code("duplicate-share");
/// Ours: the reference implementation has no code for it.
pub(crate) const TOO_MANY_SHARES: Str255<'_> = code("too-many-shares");
pub const BAD_EXTRANONCE_SIZE: Str255<'_> = code("bad-extranonce-size");
pub const VERSION_ROLLING_NOT_ALLOWED: Str255<'_> = code("version-rolling-not-allowed");
pub const INVALID_NON_ROLLABLE_VERSION_BIT: Str255<'_> = code("invalid-non-rollable-version-bit");

// SetCustomMiningJob.Error
pub const JD_NOT_SUPPORTED: Str255<'_> = code("jd-not-supported");
