//! Our Stratum V2 messages compared with the reference crates': the same values must give the same
//! bytes, the same bytes the same values, and what one side refuses the other must refuse too.
#![allow(elided_lifetimes_in_paths, reason = "one macro names types with a lifetime and without")]

use binary_sv2::{B032, B064K, B0255, Seq064K, Seq0255, Str0255, Sv2Option, U256};
use common_messages_sv2 as common;
use extensions_sv2 as extensions;
use gatewayd::{
    sv2::codec::{
        self, Bytes32, Bytes64K, Bytes255, ClientMessage, DecodeError, Extensions, Header, Message,
        Seq64K, Seq255, ServerMessage, Str255, WorkerName, codes,
    },
    work::{Hash256, Target},
};
use mining_sv2 as mining;
use proptest::{prelude::*, sample::Index};

const PLAIN: Extensions = Extensions { worker_hashrate: false };

/// Our reading of a payload, written again; Debug stands in for `==`, for which NaN differs from
/// NaN.
fn ours<'a, M: Message<'a> + std::fmt::Debug>(
    payload: &'a [u8],
) -> Result<(String, Vec<u8>), DecodeError> {
    let message = M::decode(payload, PLAIN)?;
    let mut out = Vec::new();
    message.encode(&mut out);
    Ok((format!("{message:?}"), out))
}

/// A test that a message of ours and its counterpart agree. Both are built from the same values.
macro_rules! agree {
    (
        $test:ident: $ours:ident, $theirs:path, $type:expr, $bit:expr;
        $($value:ident in $strategy:expr),*;
        { $($our_field:ident $(: $our_value:expr)?),* $(,)? }
        { $($their_field:ident $(: $their_value:expr)?),* $(,)? }
    ) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(128))]
            #[test]
            fn $test($($value in $strategy,)* place: Index, byte: u8) {
                use $theirs as Theirs;
                prop_assert_eq!((codec::$ours::TYPE, codec::$ours::CHANNEL), ($type, $bit));
                let message = codec::$ours { $($our_field $(: $our_value)?),* };
                let mut frame = Vec::new();
                message.append(&mut frame);
                let (header, payload) = frame.split_first_chunk().unwrap();
                let expected = Header {
                    extension: codec::$ours::EXTENSION,
                    channel: $bit,
                    msg_type: $type,
                    len: payload.len().try_into().unwrap(),
                };
                prop_assert_eq!(Header::decode(*header), expected);
                prop_assert!(payload.len() <= codec::$ours::LEN_MAX);

                let written = Theirs { $($their_field $(: $their_value)?),* };
                prop_assert_eq!(payload, binary_sv2::to_bytes(written).unwrap());
                let mut bytes = payload.to_vec();
                let read: Theirs = binary_sv2::from_bytes(&mut bytes).unwrap();
                prop_assert_eq!(payload, binary_sv2::to_bytes(read).unwrap());
                let read = ours::<codec::$ours>(payload).unwrap();
                prop_assert_eq!(read, (format!("{message:?}"), payload.to_vec()));

                for len in 0..payload.len() {
                    prop_assert!(ours::<codec::$ours>(&payload[..len]).is_err(), "{} bytes", len);
                }
                let longer = [payload, &[byte; 5]].concat();
                prop_assert_eq!(ours::<codec::$ours>(&longer).unwrap().1, payload);

                let mut bytes = payload.to_vec();
                *place.get_mut(&mut bytes) = byte;
                prop_assume!(!names_no_protocol(codec::$ours::NAME, &bytes));
                let found = ours::<codec::$ours>(&bytes).ok().map(|(_, bytes)| bytes);
                let mut bytes = bytes.clone();
                let expected = binary_sv2::from_bytes::<Theirs>(&mut bytes)
                    .ok()
                    .map(|read| binary_sv2::to_bytes(read).unwrap());
                prop_assert_eq!(found, expected);
            }
        }
    };
}

/// Any length up to `max`, often the extremes.
fn len(max: usize) -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..=max.min(300), 1 => Just(0), 1 => Just(max), 1 => 0..=max]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    (len(max), any::<[u8; 7]>())
        .prop_map(|(len, pattern)| pattern.iter().copied().cycle().take(len).collect())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{0,255}", "\\PC{0,60}", Just("x".repeat(255))]
}

fn hashes() -> impl Strategy<Value = Vec<Hash256>> {
    (len(255), any::<[[u8; 32]; 3]>())
        .prop_map(|(len, pattern)| pattern.map(Hash256).into_iter().cycle().take(len).collect())
}

fn ids<T: Copy + std::fmt::Debug>(
    ids: impl Strategy<Value = [T; 5]>,
) -> impl Strategy<Value = Vec<T>> {
    (len(65_535), ids).prop_map(|(len, ids)| ids.iter().copied().cycle().take(len).collect())
}

fn float() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

fn str255(text: &str) -> Str255<'_> {
    Str255::new(text).unwrap()
}

fn their_str(text: &str) -> Str0255<'_> {
    text.try_into().unwrap()
}

fn their_hashes(list: &[Hash256]) -> Seq0255<'_, U256<'_>> {
    Seq0255::new(list.iter().map(|hash| U256::from(&hash.0)).collect()).unwrap()
}

fn their_protocol(protocol: u8) -> common::Protocol {
    [
        common::Protocol::MiningProtocol,
        common::Protocol::JobDeclarationProtocol,
        common::Protocol::TemplateDistributionProtocol,
    ][usize::from(protocol)]
}

/// Theirs refuses an unknown protocol; ours leaves that to the session, which answers.
fn names_no_protocol(message: &str, payload: &[u8]) -> bool {
    message == codec::SetupConnection::NAME && payload[0] > 2
}

agree! {
    setup_connection: SetupConnection, common::SetupConnection,
        common::MESSAGE_TYPE_SETUP_CONNECTION, common::CHANNEL_BIT_SETUP_CONNECTION;
    protocol in 0_u8..3, min_version in any::<u16>(), max_version in any::<u16>(),
    flags in any::<u32>(), endpoint_host in text(), endpoint_port in any::<u16>(),
    vendor in text(), hardware_version in text(), firmware in text(), device_id in text();
    {
        protocol, min_version, max_version, flags, endpoint_host: str255(&endpoint_host),
        endpoint_port, vendor: str255(&vendor), hardware_version: str255(&hardware_version),
        firmware: str255(&firmware), device_id: str255(&device_id),
    }
    {
        protocol: their_protocol(protocol), min_version, max_version, flags,
        endpoint_host: their_str(&endpoint_host), endpoint_port, vendor: their_str(&vendor),
        hardware_version: their_str(&hardware_version), firmware: their_str(&firmware),
        device_id: their_str(&device_id),
    }
}

agree! {
    setup_connection_success: SetupConnectionSuccess, common::SetupConnectionSuccess,
        common::MESSAGE_TYPE_SETUP_CONNECTION_SUCCESS, common::CHANNEL_BIT_SETUP_CONNECTION_SUCCESS;
    used_version in any::<u16>(), flags in any::<u32>();
    {
        used_version, flags,
    }
    {
        used_version, flags,
    }
}

agree! {
    setup_connection_error: SetupConnectionError, common::SetupConnectionError,
        common::MESSAGE_TYPE_SETUP_CONNECTION_ERROR, common::CHANNEL_BIT_SETUP_CONNECTION_ERROR;
    flags in any::<u32>(), error_code in text();
    {
        flags, error_code: str255(&error_code),
    }
    {
        flags, error_code: their_str(&error_code),
    }
}

agree! {
    channel_endpoint_changed: ChannelEndpointChanged, common::ChannelEndpointChanged,
        common::MESSAGE_TYPE_CHANNEL_ENDPOINT_CHANGED, common::CHANNEL_BIT_CHANNEL_ENDPOINT_CHANGED;
    channel_id in any::<u32>();
    {
        channel_id,
    }
    {
        channel_id,
    }
}

agree! {
    reconnect: Reconnect, common::Reconnect,
        common::MESSAGE_TYPE_RECONNECT, common::CHANNEL_BIT_RECONNECT;
    new_host in text(), new_port in any::<u16>();
    {
        new_host: str255(&new_host), new_port,
    }
    {
        new_host: their_str(&new_host), new_port,
    }
}

agree! {
    open_standard_mining_channel: OpenStandardMiningChannel, mining::OpenStandardMiningChannel,
        mining::MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL, mining::CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL;
    request_id in any::<u32>(), user_identity in text(), nominal_hash_rate in float(),
    max_target in any::<[u8; 32]>();
    {
        request_id, user_identity: str255(&user_identity), nominal_hash_rate,
        max_target: Target::from_le_bytes(&max_target),
    }
    {
        request_id, user_identity: their_str(&user_identity), nominal_hash_rate,
        max_target: U256::from(&max_target),
    }
}

agree! {
    open_standard_mining_channel_success: OpenStandardMiningChannelSuccess, mining::OpenStandardMiningChannelSuccess,
        mining::MESSAGE_TYPE_OPEN_STANDARD_MINING_CHANNEL_SUCCESS, mining::CHANNEL_BIT_OPEN_STANDARD_MINING_CHANNEL_SUCCESS;
    request_id in any::<u32>(), channel_id in any::<u32>(), target in any::<[u8; 32]>(),
    extranonce_prefix in bytes(32), group_channel_id in any::<u32>();
    {
        request_id, channel_id, target: Target::from_le_bytes(&target),
        extranonce_prefix: Bytes32::new(&extranonce_prefix).unwrap(), group_channel_id,
    }
    {
        request_id, channel_id, target: U256::from(&target),
        extranonce_prefix: B032::new(&extranonce_prefix).unwrap(), group_channel_id,
    }
}

agree! {
    open_mining_channel_error: OpenMiningChannelError, mining::OpenMiningChannelError,
        mining::MESSAGE_TYPE_OPEN_MINING_CHANNEL_ERROR, mining::CHANNEL_BIT_OPEN_MINING_CHANNEL_ERROR;
    request_id in any::<u32>(), error_code in text();
    {
        request_id, error_code: str255(&error_code),
    }
    {
        request_id, error_code: their_str(&error_code),
    }
}

agree! {
    open_extended_mining_channel: OpenExtendedMiningChannel, mining::OpenExtendedMiningChannel,
        mining::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL, mining::CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL;
    request_id in any::<u32>(), user_identity in text(), nominal_hash_rate in float(),
    max_target in any::<[u8; 32]>(), min_extranonce_size in any::<u16>();
    {
        request_id, user_identity: str255(&user_identity), nominal_hash_rate,
        max_target: Target::from_le_bytes(&max_target), min_extranonce_size,
    }
    {
        request_id, user_identity: their_str(&user_identity), nominal_hash_rate,
        max_target: U256::from(&max_target), min_extranonce_size,
    }
}

agree! {
    open_extended_mining_channel_success: OpenExtendedMiningChannelSuccess, mining::OpenExtendedMiningChannelSuccess,
        mining::MESSAGE_TYPE_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS, mining::CHANNEL_BIT_OPEN_EXTENDED_MINING_CHANNEL_SUCCESS;
    request_id in any::<u32>(), channel_id in any::<u32>(), target in any::<[u8; 32]>(),
    extranonce_size in any::<u16>(), extranonce_prefix in bytes(32),
    group_channel_id in any::<u32>();
    {
        request_id, channel_id, target: Target::from_le_bytes(&target), extranonce_size,
        extranonce_prefix: Bytes32::new(&extranonce_prefix).unwrap(), group_channel_id,
    }
    {
        request_id, channel_id, target: U256::from(&target), extranonce_size,
        extranonce_prefix: B032::new(&extranonce_prefix).unwrap(), group_channel_id,
    }
}

agree! {
    new_mining_job: NewMiningJob, mining::NewMiningJob,
        mining::MESSAGE_TYPE_NEW_MINING_JOB, mining::CHANNEL_BIT_NEW_MINING_JOB;
    channel_id in any::<u32>(), job_id in any::<u32>(), min_ntime in any::<Option<u32>>(),
    version in any::<u32>(), merkle_root in any::<[u8; 32]>();
    {
        channel_id, job_id, min_ntime, version, merkle_root: Hash256(merkle_root),
    }
    {
        channel_id, job_id, min_ntime: Sv2Option::new(min_ntime), version,
        merkle_root: U256::from(&merkle_root),
    }
}

agree! {
    update_channel: UpdateChannel, mining::UpdateChannel,
        mining::MESSAGE_TYPE_UPDATE_CHANNEL, mining::CHANNEL_BIT_UPDATE_CHANNEL;
    channel_id in any::<u32>(), nominal_hash_rate in float(),
    maximum_target in any::<[u8; 32]>();
    {
        channel_id, nominal_hash_rate, maximum_target: Target::from_le_bytes(&maximum_target),
    }
    {
        channel_id, nominal_hash_rate, maximum_target: U256::from(&maximum_target),
    }
}

agree! {
    update_channel_error: UpdateChannelError, mining::UpdateChannelError,
        mining::MESSAGE_TYPE_UPDATE_CHANNEL_ERROR, mining::CHANNEL_BIT_UPDATE_CHANNEL_ERROR;
    channel_id in any::<u32>(), error_code in text();
    {
        channel_id, error_code: str255(&error_code),
    }
    {
        channel_id, error_code: their_str(&error_code),
    }
}

agree! {
    close_channel: CloseChannel, mining::CloseChannel,
        mining::MESSAGE_TYPE_CLOSE_CHANNEL, mining::CHANNEL_BIT_CLOSE_CHANNEL;
    channel_id in any::<u32>(), reason_code in text();
    {
        channel_id, reason_code: str255(&reason_code),
    }
    {
        channel_id, reason_code: their_str(&reason_code),
    }
}

agree! {
    set_extranonce_prefix: SetExtranoncePrefix, mining::SetExtranoncePrefix,
        mining::MESSAGE_TYPE_SET_EXTRANONCE_PREFIX, mining::CHANNEL_BIT_SET_EXTRANONCE_PREFIX;
    channel_id in any::<u32>(), extranonce_prefix in bytes(32);
    {
        channel_id, extranonce_prefix: Bytes32::new(&extranonce_prefix).unwrap(),
    }
    {
        channel_id, extranonce_prefix: B032::new(&extranonce_prefix).unwrap(),
    }
}

agree! {
    submit_shares_standard: SubmitSharesStandard, mining::SubmitSharesStandard,
        mining::MESSAGE_TYPE_SUBMIT_SHARES_STANDARD, mining::CHANNEL_BIT_SUBMIT_SHARES_STANDARD;
    channel_id in any::<u32>(), sequence_number in any::<u32>(), job_id in any::<u32>(),
    nonce in any::<u32>(), ntime in any::<u32>(), version in any::<u32>();
    {
        channel_id, sequence_number, job_id, nonce, ntime, version,
    }
    {
        channel_id, sequence_number, job_id, nonce, ntime, version,
    }
}

agree! {
    submit_shares_success: SubmitSharesSuccess, mining::SubmitSharesSuccess,
        mining::MESSAGE_TYPE_SUBMIT_SHARES_SUCCESS, mining::CHANNEL_BIT_SUBMIT_SHARES_SUCCESS;
    channel_id in any::<u32>(), last_sequence_number in any::<u32>(),
    new_submits_accepted_count in any::<u32>(), new_shares_sum in any::<u64>();
    {
        channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum,
    }
    {
        channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum,
    }
}

agree! {
    submit_shares_error: SubmitSharesError, mining::SubmitSharesError,
        mining::MESSAGE_TYPE_SUBMIT_SHARES_ERROR, mining::CHANNEL_BIT_SUBMIT_SHARES_ERROR;
    channel_id in any::<u32>(), sequence_number in any::<u32>(), error_code in text();
    {
        channel_id, sequence_number, error_code: str255(&error_code),
    }
    {
        channel_id, sequence_number, error_code: their_str(&error_code),
    }
}

agree! {
    new_extended_mining_job: NewExtendedMiningJob, mining::NewExtendedMiningJob,
        mining::MESSAGE_TYPE_NEW_EXTENDED_MINING_JOB, mining::CHANNEL_BIT_NEW_EXTENDED_MINING_JOB;
    channel_id in any::<u32>(), job_id in any::<u32>(), min_ntime in any::<Option<u32>>(),
    version in any::<u32>(), version_rolling_allowed in any::<bool>(), merkle_path in hashes(),
    coinbase_tx_prefix in bytes(65_535), coinbase_tx_suffix in bytes(65_535);
    {
        channel_id, job_id, min_ntime, version, version_rolling_allowed,
        merkle_path: Seq255::new(&merkle_path).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(&coinbase_tx_prefix).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(&coinbase_tx_suffix).unwrap(),
    }
    {
        channel_id, job_id, min_ntime: Sv2Option::new(min_ntime), version,
        version_rolling_allowed, merkle_path: their_hashes(&merkle_path),
        coinbase_tx_prefix: B064K::new(&coinbase_tx_prefix).unwrap(),
        coinbase_tx_suffix: B064K::new(&coinbase_tx_suffix).unwrap(),
    }
}

agree! {
    set_new_prev_hash: SetNewPrevHash, mining::SetNewPrevHash,
        mining::MESSAGE_TYPE_MINING_SET_NEW_PREV_HASH, mining::CHANNEL_BIT_MINING_SET_NEW_PREV_HASH;
    channel_id in any::<u32>(), job_id in any::<u32>(), prev_hash in any::<[u8; 32]>(),
    min_ntime in any::<u32>(), nbits in any::<u32>();
    {
        channel_id, job_id, prev_hash: Hash256(prev_hash), min_ntime, nbits,
    }
    {
        channel_id, job_id, prev_hash: U256::from(&prev_hash), min_ntime, nbits,
    }
}

agree! {
    set_target: SetTarget, mining::SetTarget,
        mining::MESSAGE_TYPE_SET_TARGET, mining::CHANNEL_BIT_SET_TARGET;
    channel_id in any::<u32>(), maximum_target in any::<[u8; 32]>();
    {
        channel_id, maximum_target: Target::from_le_bytes(&maximum_target),
    }
    {
        channel_id, maximum_target: U256::from(&maximum_target),
    }
}

agree! {
    set_custom_mining_job: SetCustomMiningJob, mining::SetCustomMiningJob,
        mining::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB, mining::CHANNEL_BIT_SET_CUSTOM_MINING_JOB;
    channel_id in any::<u32>(), request_id in any::<u32>(), mining_job_token in bytes(255),
    version in any::<u32>(), prev_hash in any::<[u8; 32]>(), min_ntime in any::<u32>(),
    nbits in any::<u32>(), coinbase_tx_version in any::<u32>(), coinbase_prefix in bytes(255),
    coinbase_tx_input_n_sequence in any::<u32>(), coinbase_tx_outputs in bytes(65_535),
    coinbase_tx_locktime in any::<u32>(), merkle_path in hashes();
    {
        channel_id, request_id, mining_job_token: Bytes255::new(&mining_job_token).unwrap(),
        version, prev_hash: Hash256(prev_hash), min_ntime, nbits, coinbase_tx_version,
        coinbase_prefix: Bytes255::new(&coinbase_prefix).unwrap(), coinbase_tx_input_n_sequence,
        coinbase_tx_outputs: Bytes64K::new(&coinbase_tx_outputs).unwrap(), coinbase_tx_locktime,
        merkle_path: Seq255::new(&merkle_path).unwrap(),
    }
    {
        channel_id, request_id, token: B0255::new(&mining_job_token).unwrap(), version,
        prev_hash: U256::from(&prev_hash), min_ntime, nbits, coinbase_tx_version,
        coinbase_prefix: B0255::new(&coinbase_prefix).unwrap(), coinbase_tx_input_n_sequence,
        coinbase_tx_outputs: B064K::new(&coinbase_tx_outputs).unwrap(), coinbase_tx_locktime,
        merkle_path: their_hashes(&merkle_path),
    }
}

agree! {
    set_custom_mining_job_success: SetCustomMiningJobSuccess, mining::SetCustomMiningJobSuccess,
        mining::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_SUCCESS, mining::CHANNEL_BIT_SET_CUSTOM_MINING_JOB_SUCCESS;
    channel_id in any::<u32>(), request_id in any::<u32>(), job_id in any::<u32>();
    {
        channel_id, request_id, job_id,
    }
    {
        channel_id, request_id, job_id,
    }
}

agree! {
    set_custom_mining_job_error: SetCustomMiningJobError, mining::SetCustomMiningJobError,
        mining::MESSAGE_TYPE_SET_CUSTOM_MINING_JOB_ERROR, mining::CHANNEL_BIT_SET_CUSTOM_MINING_JOB_ERROR;
    channel_id in any::<u32>(), request_id in any::<u32>(), error_code in text();
    {
        channel_id, request_id, error_code: str255(&error_code),
    }
    {
        channel_id, request_id, error_code: their_str(&error_code),
    }
}

agree! {
    set_group_channel: SetGroupChannel, mining::SetGroupChannel,
        mining::MESSAGE_TYPE_SET_GROUP_CHANNEL, mining::CHANNEL_BIT_SET_GROUP_CHANNEL;
    group_channel_id in any::<u32>(), channel_ids in ids(any::<[u32; 5]>());
    {
        group_channel_id, channel_ids: Seq64K::new(&channel_ids).unwrap(),
    }
    {
        group_channel_id, channel_ids: Seq064K::new(channel_ids.clone()).unwrap(),
    }
}

agree! {
    request_extensions: RequestExtensions, extensions::RequestExtensions,
        extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS, extensions::CHANNEL_BIT_REQUEST_EXTENSIONS;
    request_id in any::<u16>(), requested_extensions in ids(any::<[u16; 5]>());
    {
        request_id, requested_extensions: Seq64K::new(&requested_extensions).unwrap(),
    }
    {
        request_id, requested_extensions: Seq064K::new(requested_extensions.clone()).unwrap(),
    }
}

agree! {
    request_extensions_success: RequestExtensionsSuccess, extensions::RequestExtensionsSuccess,
        extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS_SUCCESS, extensions::CHANNEL_BIT_REQUEST_EXTENSIONS_SUCCESS;
    request_id in any::<u16>(), supported_extensions in ids(any::<[u16; 5]>());
    {
        request_id, supported_extensions: Seq64K::new(&supported_extensions).unwrap(),
    }
    {
        request_id, supported_extensions: Seq064K::new(supported_extensions.clone()).unwrap(),
    }
}

agree! {
    request_extensions_error: RequestExtensionsError, extensions::RequestExtensionsError,
        extensions::MESSAGE_TYPE_REQUEST_EXTENSIONS_ERROR, extensions::CHANNEL_BIT_REQUEST_EXTENSIONS_ERROR;
    request_id in any::<u16>(), unsupported_extensions in ids(any::<[u16; 5]>()),
    required_extensions in ids(any::<[u16; 5]>());
    {
        request_id, unsupported_extensions: Seq64K::new(&unsupported_extensions).unwrap(),
        required_extensions: Seq64K::new(&required_extensions).unwrap(),
    }
    {
        request_id,
        unsupported_extensions: Seq064K::new(unsupported_extensions.clone()).unwrap(),
        required_extensions: Seq064K::new(required_extensions.clone()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// In addition to the reference crate's share, with the name that extension 0x0002 appends.
    #[test]
    fn submit_shares_extended(
        numbers: [u32; 6], extranonce in bytes(32), name in "\\PC{0,8}", place: Index, byte: u8,
    ) {
        let [channel_id, sequence_number, job_id, nonce, ntime, version] = numbers;
        prop_assert_eq!(codec::SubmitSharesExtended::TYPE, mining::MESSAGE_TYPE_SUBMIT_SHARES_EXTENDED);
        prop_assert_eq!(codec::SubmitSharesExtended::CHANNEL, mining::CHANNEL_BIT_SUBMIT_SHARES_EXTENDED);
        let theirs = mining::SubmitSharesExtended {
            channel_id, sequence_number, job_id, nonce, ntime, version,
            extranonce: B032::new(&extranonce).unwrap(),
        };
        let plain = codec::SubmitSharesExtended {
            share: codec::SubmitSharesStandard {
                channel_id, sequence_number, job_id, nonce, ntime, version,
            },
            extranonce: Bytes32::new(&extranonce).unwrap(),
            worker: None,
        };
        let expected = binary_sv2::to_bytes(theirs).unwrap();
        let mut payload = Vec::new();
        plain.encode(&mut payload);
        prop_assert_eq!(&payload, &expected);
        prop_assert_eq!(codec::SubmitSharesExtended::decode(&expected, PLAIN).unwrap(), plain);
        for len in 0..payload.len() {
            prop_assert!(ours::<codec::SubmitSharesExtended>(&payload[..len]).is_err());
        }

        let identity = extensions::UserIdentity::new(&name).unwrap();
        let named = codec::SubmitSharesExtended {
            worker: WorkerName::new(identity.as_str().unwrap()),
            ..plain
        };
        let mut payload = Vec::new();
        named.encode(&mut payload);
        let with_names = Extensions { worker_hashrate: true };
        let decode = |payload| codec::SubmitSharesExtended::decode(payload, with_names);
        prop_assert_eq!(decode(&payload).unwrap(), named);
        prop_assert_eq!(ours::<codec::SubmitSharesExtended>(&payload).unwrap().1, &expected[..]);
        for len in 0..payload.len() {
            let cut = codec::SubmitSharesExtended::decode(&payload[..len], with_names);
            prop_assert_eq!(cut.is_ok(), len == expected.len());
        }

        let mut bytes = expected;
        *place.get_mut(&mut bytes) = byte;
        let found = ours::<codec::SubmitSharesExtended>(&bytes).ok().map(|(_, bytes)| bytes);
        let read = binary_sv2::from_bytes::<mining::SubmitSharesExtended<'_>>(&mut bytes);
        prop_assert_eq!(found, read.ok().map(|read| binary_sv2::to_bytes(read).unwrap()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Whatever is received, the peer is answered or disconnected; nothing is read beyond the end.
    #[test]
    fn arbitrary_bytes_do_no_harm(
        word: [u8; 6],
        core: bool,
        payload in prop::collection::vec(any::<u8>(), 0..200),
        worker_hashrate: bool,
    ) {
        let mut header = Header::decode(word);
        if core {
            header = Header { extension: 0, msg_type: header.msg_type % 0x30, ..header };
        }
        let extensions = Extensions { worker_hashrate };
        let texts = [
            ClientMessage::decode(header, &payload, extensions).map(|found| format!("{found:?}")),
            ServerMessage::decode(header, &payload, extensions).map(|found| format!("{found:?}")),
        ];
        for text in texts {
            prop_assert!(text.unwrap_or_else(|error| error.to_string()).len() < 8_000);
        }
    }

    #[test]
    fn headers_round_trip(word: [u8; 6]) {
        prop_assert_eq!(Header::decode(word).encode(), word);
    }
}

/// The longest of everything fits, and is no longer than declared.
#[test]
fn the_longest_messages_are_as_long_as_their_types_allow() {
    fn full<'a, M: Message<'a>>(message: &M) -> bool {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        payload.len() == M::LEN_MAX
    }
    let (text, bytes) = ("x".repeat(255), [7; 65_535]);
    let text = Str255::new(&text).unwrap();
    let path = [Hash256([9; 32]); 255];
    let ids = [1_u32; 65_535];
    let max = u32::MAX;
    assert!(full(&codec::SetupConnection {
        protocol: 2,
        min_version: 2,
        max_version: 2,
        flags: max,
        endpoint_host: text,
        endpoint_port: u16::MAX,
        vendor: text,
        hardware_version: text,
        firmware: text,
        device_id: text,
    }));
    assert!(full(&codec::NewExtendedMiningJob {
        channel_id: max,
        job_id: max,
        min_ntime: Some(max),
        version: max,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(&path).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(&bytes).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(&bytes).unwrap(),
    }));
    assert!(full(&codec::SetGroupChannel {
        group_channel_id: max,
        channel_ids: Seq64K::new(&ids).unwrap(),
    }));
    let share = codec::SubmitSharesStandard {
        channel_id: max,
        sequence_number: max,
        job_id: max,
        nonce: max,
        ntime: max,
        version: max,
    };
    assert!(full(&share));
    assert!(full(&codec::SubmitSharesExtended {
        share,
        extranonce: Bytes32::new(&bytes[..32]).unwrap(),
        worker: WorkerName::new("exactly thirty-two bytes of name"),
    }));
}

#[test]
fn error_codes_are_the_reference_implementations() {
    let codes = [
        (codes::UNSUPPORTED_FEATURE_FLAGS, common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_FEATURE_FLAGS),
        (codes::UNSUPPORTED_PROTOCOL, common::ERROR_CODE_SETUP_CONNECTION_UNSUPPORTED_PROTOCOL),
        (codes::PROTOCOL_VERSION_MISMATCH, common::ERROR_CODE_SETUP_CONNECTION_PROTOCOL_VERSION_MISMATCH),
        (codes::UNKNOWN_USER, mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNKNOWN_USER),
        (codes::INVALID_USER_IDENTITY, mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_USER_IDENTITY),
        (codes::INVALID_NOMINAL_HASHRATE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_INVALID_NOMINAL_HASHRATE),
        (codes::INVALID_NOMINAL_HASHRATE, mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_NOMINAL_HASHRATE),
        (codes::MAX_TARGET_OUT_OF_RANGE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_MAX_TARGET_OUT_OF_RANGE),
        (codes::MAX_TARGET_OUT_OF_RANGE, mining::ERROR_CODE_UPDATE_CHANNEL_MAX_TARGET_OUT_OF_RANGE),
        (codes::MIN_EXTRANONCE_SIZE_TOO_LARGE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_MIN_EXTRANONCE_SIZE_TOO_LARGE),
        (codes::UNSUPPORTED_MIN_EXTRANONCE_SIZE, mining::ERROR_CODE_OPEN_MINING_CHANNEL_UNSUPPORTED_MIN_EXTRANONCE_SIZE),
        (codes::CHANNEL_CAPACITY_EXHAUSTED, mining::ERROR_CODE_OPEN_MINING_CHANNEL_CHANNEL_CAPACITY_EXHAUSTED),
        (codes::EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS, mining::ERROR_CODE_OPEN_MINING_CHANNEL_EXTENDED_CHANNELS_NOT_SUPPORTED_FOR_STANDARD_JOBS),
        (codes::STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK, mining::ERROR_CODE_OPEN_MINING_CHANNEL_STANDARD_CHANNELS_NOT_SUPPORTED_FOR_CUSTOM_WORK),
        (codes::INVALID_CHANNEL_ID, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_CHANNEL_ID),
        (codes::INVALID_CHANNEL_ID, mining::ERROR_CODE_UPDATE_CHANNEL_INVALID_CHANNEL_ID),
        (codes::INVALID_CHANNEL_ID, mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_INVALID_CHANNEL_ID),
        (codes::INVALID_JOB_ID, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_JOB_ID),
        (codes::INVALID_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_SHARE),
        (codes::STALE_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_STALE_SHARE),
        (codes::DIFFICULTY_TOO_LOW, mining::ERROR_CODE_SUBMIT_SHARES_DIFFICULTY_TOO_LOW),
        (codes::DUPLICATE_SHARE, mining::ERROR_CODE_SUBMIT_SHARES_DUPLICATE_SHARE),
        (codes::BAD_EXTRANONCE_SIZE, mining::ERROR_CODE_SUBMIT_SHARES_BAD_EXTRANONCE_SIZE),
        (codes::VERSION_ROLLING_NOT_ALLOWED, mining::ERROR_CODE_VERSION_ROLLING_NOT_ALLOWED),
        (codes::INVALID_NON_ROLLABLE_VERSION_BIT, mining::ERROR_CODE_SUBMIT_SHARES_INVALID_NON_ROLLABLE_VERSION_BIT),
        (codes::JD_NOT_SUPPORTED, mining::ERROR_CODE_SET_CUSTOM_MINING_JOB_JD_NOT_SUPPORTED),
    ];
    for (ours, theirs) in codes {
        assert_eq!(ours.as_str(), Some(theirs));
    }
}

#[test]
fn flags_are_the_reference_implementations() {
    use codec::setup_flags as flags;
    for bit in 0..32 {
        let flag = 1 << bit;
        assert_eq!(common::has_requires_std_job(flag), flag == flags::REQUIRES_STANDARD_JOBS);
        assert_eq!(common::has_work_selection(flag), flag == flags::REQUIRES_WORK_SELECTION);
        assert_eq!(common::has_version_rolling(flag), flag == flags::REQUIRES_VERSION_ROLLING);
    }
    assert_eq!(codec::protocol::MINING, common::SV2_MINING_PROTOCOL_DISCRIMINANT);
    assert_eq!(codec::id::NEGOTIATION, extensions::EXTENSION_TYPE_EXTENSIONS_NEGOTIATION);
    assert_eq!(codec::id::WORKER_HASHRATE, extensions::EXTENSION_TYPE_WORKER_HASHRATE_TRACKING);
    assert_eq!(WorkerName::LEN_MAX, extensions::MAX_USER_IDENTITY_LENGTH);
}
