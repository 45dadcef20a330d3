//! Messages that open, change and close channels.

use crate::work::Target;

use super::{
    bytes::{Bytes32, Seq64K, Str255},
    wire::message,
};

message! {
    /// A client asks for a channel on which only nonce, ntime and version roll.
    OpenStandardMiningChannel<'a> = 0, 0x10, false {
        request_id: u32,
        user_identity: Str255<'a>,
        /// Hashes per second. Can be any `f32`.
        nominal_hash_rate: f32,
        max_target: Target,
    }
}

message! {
    OpenStandardMiningChannelSuccess<'a> = 0, 0x11, false {
        request_id: u32,
        channel_id: u32,
        target: Target,
        extranonce_prefix: Bytes32<'a>,
        group_channel_id: u32,
    }
}

message! {
    /// Answers either kind of open.
    OpenMiningChannelError<'a> = 0, 0x12, false {
        request_id: u32,
        error_code: Str255<'a>,
    }
}

message! {
    /// A client asks for a channel on which it rolls a part of the extranonce.
    OpenExtendedMiningChannel<'a> = 0, 0x13, false {
        request_id: u32,
        user_identity: Str255<'a>,
        /// Hashes per second. Can be any `f32`.
        nominal_hash_rate: f32,
        max_target: Target,
        min_extranonce_size: u16,
    }
}

message! {
    OpenExtendedMiningChannelSuccess<'a> = 0, 0x14, false {
        request_id: u32,
        channel_id: u32,
        target: Target,
        /// Bytes that the client rolls.
        extranonce_size: u16,
        extranonce_prefix: Bytes32<'a>,
        group_channel_id: u32,
    }
}

message! {
    /// The client's hashrate or its maximum target has changed.
    UpdateChannel = 0, 0x16, true {
        channel_id: u32,
        /// Hashes per second. Can be any `f32`.
        nominal_hash_rate: f32,
        maximum_target: Target,
    }
}

message! {
    UpdateChannelError<'a> = 0, 0x17, true {
        channel_id: u32,
        error_code: Str255<'a>,
    }
}

message! {
    /// From either side; with a group's id it closes all of its channels.
    CloseChannel<'a> = 0, 0x18, true {
        channel_id: u32,
        reason_code: Str255<'a>,
    }
}

message! {
    /// Applies to later jobs.
    SetExtranoncePrefix<'a> = 0, 0x19, true {
        channel_id: u32,
        extranonce_prefix: Bytes32<'a>,
    }
}

message! {
    /// Applies to later jobs and to future jobs already sent.
    SetTarget = 0, 0x21, true {
        channel_id: u32,
        maximum_target: Target,
    }
}

message! {
    /// All the channels of a group, replacing its previous members.
    SetGroupChannel<'a> = 0, 0x25, false {
        group_channel_id: u32,
        channel_ids: Seq64K<'a, u32>,
    }
}
