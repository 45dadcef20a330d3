//! The messages that a server may receive, and those that a client may.

use super::{
    ChannelEndpointChanged, CloseChannel, DecodeError, Extensions, Header, Message,
    NewExtendedMiningJob, NewMiningJob, OpenExtendedMiningChannel,
    OpenExtendedMiningChannelSuccess, OpenMiningChannelError, OpenStandardMiningChannel,
    OpenStandardMiningChannelSuccess, Reconnect, RequestExtensions, RequestExtensionsError,
    RequestExtensionsSuccess, SetCustomMiningJob, SetCustomMiningJobError,
    SetCustomMiningJobSuccess, SetExtranoncePrefix, SetGroupChannel, SetNewPrevHash, SetTarget,
    SetupConnection, SetupConnectionError, SetupConnectionSuccess, SubmitSharesError,
    SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess, UpdateChannel,
    UpdateChannelError,
};

/// An enum of messages, told apart by extension and type alone: peers that follow an older
/// specification set other channel bits.
macro_rules! messages {
    ($(#[$doc:meta])* $enum:ident { $($name:ident $(<$life:lifetime>)?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum $enum<'a> {
            $($name($name $(<$life>)?),)*
            /// From another extension, another protocol, the other side or a later version.
            Unknown { extension: u16, msg_type: u8 },
        }

        impl<'a> $enum<'a> {
            /// Reads the payload that follows `header`. Only `extensions` append fields.
            pub fn decode(
                header: Header,
                payload: &'a [u8],
                extensions: Extensions,
            ) -> Result<Self, DecodeError> {
                let Header { extension, msg_type, .. } = header;
                match (extension, msg_type) {
                    $(($name::EXTENSION, $name::TYPE) => {
                        $name::decode(payload, extensions).map(Self::$name)
                    })*
                    _ => Ok(Self::Unknown { extension, msg_type }),
                }
            }

            /// The specification's name, for logs.
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => $name::NAME,)*
                    Self::Unknown { .. } => "Unknown",
                }
            }
        }
    };
}

messages! {
    /// What a server receives.
    ClientMessage {
        SubmitSharesStandard,
        SubmitSharesExtended<'a>,
        SetupConnection<'a>,
        RequestExtensions<'a>,
        OpenStandardMiningChannel<'a>,
        OpenExtendedMiningChannel<'a>,
        UpdateChannel,
        CloseChannel<'a>,
        SetCustomMiningJob<'a>,
        ChannelEndpointChanged,
    }
}

messages! {
    /// What a client receives.
    ServerMessage {
        SetupConnectionSuccess,
        SetupConnectionError<'a>,
        ChannelEndpointChanged,
        Reconnect<'a>,
        RequestExtensionsSuccess<'a>,
        RequestExtensionsError<'a>,
        OpenStandardMiningChannelSuccess<'a>,
        OpenExtendedMiningChannelSuccess<'a>,
        OpenMiningChannelError<'a>,
        NewMiningJob,
        NewExtendedMiningJob<'a>,
        SetNewPrevHash,
        SetTarget,
        UpdateChannelError<'a>,
        CloseChannel<'a>,
        SetExtranoncePrefix<'a>,
        SetGroupChannel<'a>,
        SubmitSharesSuccess,
        SubmitSharesError<'a>,
        SetCustomMiningJobSuccess,
        SetCustomMiningJobError<'a>,
    }
}
