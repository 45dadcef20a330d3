//! Why a connection or a channel is not let in.

/// Why a connection or a channel was not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Refused {
    /// `stratum.max_connections`.
    Full,
    /// `stratum.max_connections_per_ip`.
    FullForIp,
    /// There is no work to give out.
    NoWork,
    /// The connection has as many channels as one may.
    FullForConnection,
    /// `limits.unproven_places`.
    FullOfUnproven,
    /// `limits.connections_per_minute`.
    TooOften,
    /// It is banned for crossing limits again and again.
    Banned,
    /// `limits.deny`.
    Denied,
}

impl Refused {
    pub(crate) const ALL: [Self; 8] = [
        Self::Full,
        Self::FullForIp,
        Self::NoWork,
        Self::FullForConnection,
        Self::FullOfUnproven,
        Self::TooOften,
        Self::Banned,
        Self::Denied,
    ];

    /// The name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Full => "max-connections",
            Self::FullForIp => "max-connections-per-ip",
            Self::NoWork => "no-work",
            Self::FullForConnection => "max-channels-per-connection",
            Self::FullOfUnproven => "unproven-places",
            Self::TooOften => "connections-per-minute",
            Self::Banned => "banned",
            Self::Denied => "denied",
        }
    }
}
