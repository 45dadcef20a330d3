//! Bytes written by hand from the specification's tables, so that not everything rests on the
//! reference implementation (see tests/it/sv2_codec.rs).

use super::{bytes::Seq, extension::id, wire::FieldProblem, *};
use crate::work::{Hash256, Target};

fn frame<'a>(message: &impl Message<'a>) -> Vec<u8> {
    let mut out = Vec::new();
    message.append(&mut out);
    out
}

/// Header and payload of one whole frame.
#[track_caller]
fn split(frame: &[u8]) -> (Header, &[u8]) {
    let (header, payload) = frame.split_first_chunk().unwrap();
    let header = Header::decode(*header);
    assert_eq!(payload.len(), header.len as usize);
    (header, payload)
}

#[track_caller]
fn from_client(frame: &[u8]) -> ClientMessage<'_> {
    let (header, payload) = split(frame);
    ClientMessage::decode(header, payload, Extensions::default()).unwrap()
}

#[track_caller]
fn from_server(frame: &[u8]) -> ServerMessage<'_> {
    let (header, payload) = split(frame);
    ServerMessage::decode(header, payload, Extensions::default()).unwrap()
}

#[test]
fn the_setup_of_a_connection_byte_by_byte() {
    let bytes = b"\x00\x00\x00\x2e\x00\x00\
        \x00\x02\x00\x02\x00\x05\x00\x00\x00\
        \x0910.0.0.42\x48\xd7\
        \x06bitaxe\x06BM1370\x06v2.15.\x03\xff\xfe7";
    let message = SetupConnection {
        protocol: protocol::MINING,
        min_version: 2,
        max_version: 2,
        flags: setup_flags::REQUIRES_STANDARD_JOBS | setup_flags::REQUIRES_VERSION_ROLLING,
        endpoint_host: Str255::new("10.0.0.42").unwrap(),
        endpoint_port: 55112,
        vendor: Str255::new("bitaxe").unwrap(),
        hardware_version: Str255::new("BM1370").unwrap(),
        firmware: Str255::new("v2.15.").unwrap(),
        device_id: Str255::default(),
    };
    let ClientMessage::SetupConnection(found) = from_client(bytes) else { panic!() };
    assert_eq!(SetupConnection { device_id: Str255::default(), ..found }, message);
    assert_eq!(
        found.device_id.to_str_lossy(),
        "\u{fffd}\u{fffd}7",
        "a serial number need not be UTF-8"
    );
    assert_eq!(frame(&found), bytes);
}

#[test]
fn a_job_byte_by_byte() {
    let mut bytes = b"\x00\x80\x15\x31\x00\x00\
        \x04\x03\x02\x01\x02\x00\x00\x00\x01\x78\x56\x34\x12\x00\x00\x00\x20"
        .to_vec();
    bytes.extend_from_slice(&[0xab; 32]);
    let job = NewMiningJob {
        channel_id: 0x0102_0304,
        job_id: 2,
        min_ntime: Some(0x1234_5678),
        version: 0x2000_0000,
        merkle_root: Hash256([0xab; 32]),
    };
    assert_eq!(frame(&job), bytes);
    assert_eq!(from_server(&bytes), ServerMessage::NewMiningJob(job));

    let future = NewMiningJob { min_ntime: None, ..job };
    let bytes = frame(&future);
    assert_eq!(bytes[3..6], [45, 0, 0]);
    assert_eq!(bytes[14..19], [0, 0, 0, 0, 0x20], "no min_ntime, then the version");
    assert_eq!(from_server(&bytes), ServerMessage::NewMiningJob(future));
}

#[test]
fn a_target_byte_by_byte() {
    let mut bytes = b"\x00\x80\x21\x24\x00\x00\x01\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&[0; 26]);
    bytes.extend_from_slice(&[0xff, 0xff, 0, 0, 0, 0]);
    let message = SetTarget { channel_id: 1, maximum_target: Target::DIFFICULTY_1 };
    assert_eq!(frame(&message), bytes);
    assert_eq!(from_server(&bytes), ServerMessage::SetTarget(message));
}

const SHARE: &[u8] = b"\x01\x00\x00\x00\x02\x00\x00\x00\x03\x00\x00\x00\
    \xef\xbe\xad\xde\x78\x56\x34\x12\x00\xe0\xff\x3f\x04\x0a\x0b\x0c\x0d";

fn share(worker: Option<&str>) -> SubmitSharesExtended<'_> {
    SubmitSharesExtended {
        share: SubmitSharesStandard {
            channel_id: 1,
            sequence_number: 2,
            job_id: 3,
            nonce: 0xdead_beef,
            ntime: 0x1234_5678,
            version: 0x3fff_e000,
        },
        extranonce: Bytes32::new(&[10, 11, 12, 13]).unwrap(),
        worker: worker.map(|name| WorkerName::new(name).unwrap()),
    }
}

/// Reads a share followed by `fields`, with and without extension 0x0002.
#[track_caller]
fn worker(fields: &[u8], expected: Result<Option<&str>, FieldProblem>) {
    let payload = [SHARE, fields].concat();
    let decode = |worker_hashrate| {
        SubmitSharesExtended::decode(&payload, Extensions { worker_hashrate })
            .map_err(|DecodeError { field, problem, .. }| (field, problem))
    };
    assert_eq!(decode(false), Ok(share(None)));
    assert_eq!(decode(true), expected.map(share).map_err(|problem| ("user_identity", problem)));
}

#[test]
fn a_worker_is_named_in_either_byte_order() {
    worker(b"", Ok(None));
    worker(b"\x02\x00\x01\x0a\x00Worker_001", Ok(Some("Worker_001")));
    worker(b"\x00\x02\x01\x00\x0aWorker_001", Ok(Some("Worker_001")));
    worker(b"\x00\x02\x01\x00\x00", Ok(Some("")));
    worker(b"\x02\x00\x01\x00\x00", Ok(Some("")));

    let mut out = Vec::new();
    share(Some("Worker_001")).encode(&mut out);
    assert_eq!(out, [SHARE, b"\x02\x00\x01\x0a\x00Worker_001"].concat());
}

#[test]
fn fields_of_other_extensions_are_skipped() {
    worker(b"\x01\x00\x01\x02\x00ab\x02\x00\x01\x01\x00w\x34\x12\x07\x00\x00", Ok(Some("w")));
    worker(b"\x00\x01\x01\x00\x02ab\x00\x02\x01\x00\x01w\x12\x34\x07\x00\x00", Ok(Some("w")));
    worker(b"\x02\x00\x02\x01\x00w", Ok(None));
    worker(b"\x34\x12\x01\x01\x00w", Ok(None));
}

#[test]
fn broken_fields_are_refused() {
    worker(b"\x02", Err(FieldProblem::Truncated));
    worker(b"\x02\x00\x01\x02\x00w", Err(FieldProblem::Truncated));
    worker(b"\x00\x02\x01\x00\x02w", Err(FieldProblem::Truncated));
    worker(b"\x02\x00\x01\x01\x00\xff", Err(FieldProblem::NotUtf8));
    worker(b"\x00\x02\x01\x00\x01\xff", Err(FieldProblem::NotUtf8));
    let name = [b'w'; 33];
    let long = FieldProblem::TooLong { len: 33, max: 32 };
    worker(&[b"\x02\x00\x01\x21\x00".as_slice(), &name].concat(), Err(long));
    worker(&[b"\x00\x02\x01\x00\x21".as_slice(), &name].concat(), Err(long));
    worker(&[b"\x02\x00\x01\x20\x00".as_slice(), &name[..32]].concat(), Ok(share_name(&name)));
}

fn share_name(name: &[u8; 33]) -> Option<&str> {
    Some(std::str::from_utf8(&name[..32]).unwrap())
}

#[test]
fn the_channel_bit_decides_nothing() {
    for bit in [0, frame::CHANNEL_BIT] {
        let message = CloseChannel { channel_id: 7, reason_code: codes::UNKNOWN_USER };
        let mut bytes = frame(&message);
        bytes[..2].copy_from_slice(&bit.to_le_bytes());
        assert_eq!(from_client(&bytes), ClientMessage::CloseChannel(message));

        let ids = [2, 0x4001];
        let request =
            RequestExtensions { request_id: 9, requested_extensions: Seq::new(&ids).unwrap() };
        let mut bytes = frame(&request);
        assert_eq!(bytes, b"\x01\x00\x00\x08\x00\x00\x09\x00\x02\x00\x02\x00\x01\x40");
        bytes[..2].copy_from_slice(&(id::NEGOTIATION | bit).to_le_bytes());
        assert_eq!(from_client(&bytes), ClientMessage::RequestExtensions(request));
    }
}

#[test]
fn foreign_messages_are_named_and_not_read() {
    // A later message of the core specification; a template provider's; a server's own.
    for (extension, msg_type) in [(0, 0x26), (0, 0x71), (0, 0x15), (2, 0x10), (0x4001, 0x00)] {
        let header = Header { extension, channel: false, msg_type, len: 0 };
        let found = ClientMessage::decode(header, &[], Extensions::default()).unwrap();
        assert_eq!(found, ClientMessage::Unknown { extension, msg_type });
    }
}

#[test]
fn an_error_says_what_and_where() {
    let open = OpenStandardMiningChannel {
        request_id: 1,
        user_identity: Str255::new("bob").unwrap(),
        nominal_hash_rate: 1e12,
        max_target: Target::MAX,
    };
    let bytes = frame(&open);
    let (header, payload) = split(&bytes);
    let error = ClientMessage::decode(header, &payload[..20], Extensions::default()).unwrap_err();
    assert_eq!(error.to_string(), "OpenStandardMiningChannel: max_target is cut short");

    let mut prefix = vec![0; 4 + 1 + 33];
    prefix[4] = 33;
    let error = SetExtranoncePrefix::decode(&prefix, Extensions::default()).unwrap_err();
    let expected = "SetExtranoncePrefix: extranonce_prefix has 33 elements where at most 32 are \
                    allowed";
    assert_eq!(error.to_string(), expected);
    let long = [SHARE, b"\x02\x00\x01\x01\x00\xff"].concat();
    let error = SubmitSharesExtended::decode(&long, Extensions { worker_hashrate: true });
    let expected = "SubmitSharesExtended: user_identity is not UTF-8";
    assert_eq!(error.unwrap_err().to_string(), expected);
}

#[test]
fn what_is_too_long_cannot_be_built() {
    assert!(Str255::new(&"x".repeat(255)).is_some() && Str255::new(&"x".repeat(256)).is_none());
    assert!(Bytes32::new(&[0; 32]).is_some() && Bytes32::new(&[0; 33]).is_none());
    assert!(Seq255::new(&[0_u32; 255]).is_some() && Seq255::new(&[0_u32; 256]).is_none());
    let (fits, too_long) = ("x".repeat(32), "x".repeat(33));
    assert!(WorkerName::new(&fits).is_some() && WorkerName::new(&too_long).is_none());
}

#[test]
fn clients_may_send_the_longest_payload_they_need() {
    for (name, len) in [
        (SetupConnection::NAME, SetupConnection::LEN_MAX),
        (OpenExtendedMiningChannel::NAME, OpenExtendedMiningChannel::LEN_MAX),
        (SubmitSharesExtended::NAME, SubmitSharesExtended::LEN_MAX),
        (CloseChannel::NAME, CloseChannel::LEN_MAX),
        (UpdateChannel::NAME, UpdateChannel::LEN_MAX),
    ] {
        assert!(len <= frame::FRAME_LEN_MAX / 2, "{name}: {len}");
    }
    assert_eq!(SetupConnection::LEN_MAX, 1291);
    assert_eq!(OpenExtendedMiningChannel::LEN_MAX, 298);
    assert_eq!(SubmitSharesExtended::LEN_MAX, 94);
}
