//! The miner's side of the encryption, against the gateway's, over bytes cut at any place.

use super::*;
use crate::{
    devnet::{miner::MinerProtocol, sv2_client::Sv2LinkError},
    sv2::{
        codec::{
            Bytes32, Bytes64K, ClientMessage, Extensions, HEADER_LEN, Header,
            OpenExtendedMiningChannelSuccess, Seq255, SetNewPrevHash, SetupConnectionSuccess,
        },
        noise::{
            ACT1_LEN, AuthorityKey, HEADER_BLOCK_LEN, Identity, NoiseError, Opener, Responder,
            Transport,
        },
    },
    work::{Hash256, Target},
};

const NOW_UNIX: u32 = 1_700_000_000;

#[expect(clippy::disallowed_methods, reason = "some instant to count from")]
fn now() -> Instant {
    Instant::now()
}

/// A link that has sent its key, the server's answer, and the server's end of the channel.
fn connect(
    options: &MinerOptions,
    authority: &AuthorityKey,
) -> (Sv2MinerLink, BytesMut, Transport) {
    let lifetime = std::time::Duration::from_secs(3600);
    let identity = Arc::new(Identity::issue(authority, NOW_UNIX, lifetime));
    let mut out = Vec::new();
    let link = Sv2MinerLink::open(options, 0, now(), &mut out).unwrap();
    let act1: [u8; ACT1_LEN] = out.try_into().unwrap();
    let mut act2 = Vec::new();
    let transport = Responder::new(identity).on_act1(&act1, &mut act2).unwrap();
    (link, BytesMut::from(&*act2), transport)
}

fn seal<'a>(transport: &mut Transport, message: &impl Message<'a>, out: &mut Vec<u8>) {
    let mut frame = Vec::new();
    message.append(&mut frame);
    transport.writer.seal_frame(&frame, out).unwrap();
}

/// Opens what the miner says and names it.
fn names(transport: &mut Transport, mut sealed: &mut [u8]) -> Vec<&'static str> {
    let mut names = Vec::new();
    while let Some(block) = sealed.first_chunk() {
        let header = Header::decode(transport.reader.open_header(block).unwrap());
        let len = Opener::sealed_len(header.len as usize);
        let payload = &mut sealed[HEADER_BLOCK_LEN..][..len];
        let payload = transport.reader.open_payload(payload).unwrap();
        let message = ClientMessage::decode(header, payload, Extensions::default()).unwrap();
        names.push(message.name());
        sealed = &mut sealed[HEADER_BLOCK_LEN + len..];
    }
    names
}

fn options(authority: Option<&AuthorityKey>) -> MinerOptions {
    MinerOptions {
        protocol: MinerProtocol::Sv2Extended,
        authority: authority.map(AuthorityKey::public),
        ..MinerOptions::default()
    }
}

#[test]
fn a_conversation_survives_any_cut() {
    let authority = AuthorityKey::generate();
    let (coinbase, path) = ([7; 60_000], [Hash256([8; 32]); 12]);
    let opened = OpenExtendedMiningChannelSuccess {
        request_id: 1,
        channel_id: 7,
        target: Target::MAX,
        extranonce_size: 8,
        extranonce_prefix: Bytes32::new(&[1; 4]).unwrap(),
        group_channel_id: 1,
    };
    // Longer than one sealed chunk.
    let job = NewExtendedMiningJob {
        channel_id: 1,
        job_id: 2,
        min_ntime: None,
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq255::new(&path).unwrap(),
        coinbase_tx_prefix: Bytes64K::new(&coinbase).unwrap(),
        coinbase_tx_suffix: Bytes64K::new(&coinbase[..9000]).unwrap(),
    };
    let tip = SetNewPrevHash {
        channel_id: 1,
        job_id: 2,
        prev_hash: Hash256([9; 32]),
        min_ntime: NOW_UNIX,
        nbits: 0x1d00_ffff,
    };
    for piece in [1, 7, 22, 4096, usize::MAX] {
        let (mut link, act2, mut transport) = connect(&options(Some(&authority)), &authority);
        let mut wire = act2.to_vec();
        let setup = SetupConnectionSuccess { used_version: 2, flags: 0 };
        seal(&mut transport, &setup, &mut wire);
        seal(&mut transport, &opened, &mut wire);
        seal(&mut transport, &job, &mut wire);
        seal(&mut transport, &tip, &mut wire);
        let (mut input, mut out, mut stats) = (BytesMut::new(), Vec::new(), MinerStats::default());
        for piece in wire.chunks(piece.min(wire.len())) {
            input.extend_from_slice(piece);
            link.on_input(&mut input, now(), NOW_UNIX, &mut stats, &mut out).unwrap();
        }
        assert!(input.is_empty());
        let work = link.work().expect("work");
        assert_eq!((work.job.prevhash, work.job.ntime), (tip.prev_hash, NOW_UNIX));
        assert_eq!(
            names(&mut transport, &mut out),
            ["SetupConnection", "OpenExtendedMiningChannel"]
        );
        let mut found = Vec::new();
        crate::devnet::miner::scan::Cursor::default().scan(work, 1, &mut found);
        out.clear();
        link.on_found(&found[0], now(), &mut stats, &mut out).unwrap();
        assert_eq!(names(&mut transport, &mut out), ["SubmitSharesExtended"]);
    }
}

#[test]
fn only_the_wanted_authority_will_do() {
    let (wanted, other) = (AuthorityKey::generate(), AuthorityKey::generate());
    let connect = |authority: Option<&AuthorityKey>| {
        let (mut link, mut act2, _) = connect(&options(authority), &other);
        link.on_input(&mut act2, now(), NOW_UNIX, &mut MinerStats::default(), &mut Vec::new())
    };
    assert!(matches!(
        connect(Some(&wanted)),
        Err(Sv2ClientClose::Link(Sv2LinkError::Noise(NoiseError::Certificate(_))))
    ));
    connect(Some(&other)).unwrap();
    connect(None).unwrap();
}

#[test]
fn what_is_forged_or_too_long_ends_the_connection() {
    let authority = AuthorityKey::generate();
    let hear = |wire: &[u8], link: &mut Sv2MinerLink| {
        let mut input = BytesMut::from(wire);
        link.on_input(&mut input, now(), NOW_UNIX, &mut MinerStats::default(), &mut Vec::new())
    };
    let (mut link, act2, mut transport) = connect(&options(None), &authority);
    let mut wire = act2.to_vec();
    seal(&mut transport, &SetupConnectionSuccess { used_version: 2, flags: 0 }, &mut wire);
    *wire.last_mut().unwrap() ^= 1;
    assert!(matches!(
        hear(&wire, &mut link),
        Err(Sv2ClientClose::Link(Sv2LinkError::Noise(NoiseError::Forged)))
    ));

    let (mut link, act2, mut transport) = connect(&options(None), &authority);
    let mut wire = act2.to_vec();
    let mut frame = vec![0; HEADER_LEN + PAYLOAD_LEN_MAX + 1];
    let len = u32::try_from(PAYLOAD_LEN_MAX + 1).unwrap();
    frame[..HEADER_LEN]
        .copy_from_slice(&Header { extension: 0, channel: false, msg_type: 0x1F, len }.encode());
    transport.writer.seal_frame(&frame, &mut wire).unwrap();
    wire.truncate(act2.len() + HEADER_BLOCK_LEN);
    assert!(
        matches!(hear(&wire, &mut link), Err(Sv2ClientClose::Link(Sv2LinkError::TooLong(found))) if found == len)
    );
}
