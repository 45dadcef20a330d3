//! Messages of every protocol of the family: the setup of a connection and its end.

use super::{bytes::Str255, wire::message};

message! {
    /// The first message of a connection, from the client.
    SetupConnection<'a> = 0, 0x00, false {
        /// One of [`protocol`].
        protocol: u8,
        min_version: u16,
        max_version: u16,
        /// [`setup_flags`].
        flags: u32,
        endpoint_host: Str255<'a>,
        endpoint_port: u16,
        vendor: Str255<'a>,
        hardware_version: Str255<'a>,
        firmware: Str255<'a>,
        device_id: Str255<'a>,
    }
}

message! {
    SetupConnectionSuccess = 0, 0x01, false {
        used_version: u16,
        /// [`setup_flags`] of a server.
        flags: u32,
    }
}

message! {
    SetupConnectionError<'a> = 0, 0x02, false {
        /// All of the client's flags that are not supported.
        flags: u32,
        error_code: Str255<'a>,
    }
}

message! {
    /// A proxy has put another device behind a channel: extensions must be negotiated again.
    ChannelEndpointChanged = 0, 0x03, true {
        channel_id: u32,
    }
}

message! {
    /// The server sends its client elsewhere; the authority key stays the same.
    Reconnect<'a> = 0, 0x04, false {
        /// Empty for the current one.
        new_host: Str255<'a>,
        /// 0 for the current one.
        new_port: u16,
    }
}

/// What `SetupConnection::protocol` may ask for.
pub mod protocol {
    pub const MINING: u8 = 0;
    /// The only one there is.
    pub const VERSION: u16 = 2;
}

/// Flags of the mining protocol.
pub mod setup_flags {
    /// Client: only standard channels, each addressed by its own id, not its group's.
    pub const REQUIRES_STANDARD_JOBS: u32 = 1;
    /// Client: wants to send its own jobs.
    pub const REQUIRES_WORK_SELECTION: u32 = 1 << 1;
    /// Client: needs a server that allows version rolling.
    pub const REQUIRES_VERSION_ROLLING: u32 = 1 << 2;
    /// Server: no version rolling.
    pub(crate) const REQUIRES_FIXED_VERSION: u32 = 1;
}
