//! Our Noise channel against the reference implementation's (`noise_sv2`), in both roles.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use gatewayd::sv2::noise::{
    ACT1_LEN, ACT2_LEN, AuthorityKey, AuthorityPublicKey, CertificateError, HEADER_BLOCK_LEN,
    HEADER_LEN, Identity, Initiator, NoiseError, Opener, Responder, Transport,
};
use noise_sv2::NoiseEngine;
use proptest::prelude::*;

const HOUR: Duration = Duration::from_secs(3600);
const NOW: u32 = 1_800_000_000;
const SECRET: [u8; 32] = [0x42; 32];
/// Empty, tiny, within a byte of a chunk's limit, and several chunks.
const PAYLOADS: [usize; 8] = [0, 1, 16, 50, 65_518, 65_519, 65_520, 200_000];

/// The reference implementation reads the clock itself.
#[expect(clippy::disallowed_methods, reason = "a test is no session")]
fn clock() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    now.try_into().unwrap()
}

fn authority() -> AuthorityKey {
    AuthorityKey::from_secret(SECRET).unwrap()
}

fn their_initiator(authority: &AuthorityPublicKey) -> Box<noise_sv2::Initiator> {
    noise_sv2::Initiator::from_raw_k(authority.to_bytes()).unwrap()
}

fn their_responder() -> Box<noise_sv2::Responder> {
    let public = authority().public().to_bytes();
    noise_sv2::Responder::from_authority_kp(&public, &SECRET, HOUR).unwrap()
}

/// A server of ours and a client of ours, connected.
fn ours() -> (Transport, Transport) {
    let (act1, initiator) = start(Some(authority().public()));
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    let mut act2 = Vec::new();
    let server = Responder::new(identity).on_act1(&act1, &mut act2).unwrap();
    (server, initiator.on_act2(&act2.try_into().unwrap(), NOW).unwrap())
}

fn start(authority: Option<AuthorityPublicKey>) -> ([u8; ACT1_LEN], Initiator) {
    let mut act1 = Vec::new();
    let initiator = Initiator::start(authority, &mut act1).unwrap();
    (act1.try_into().unwrap(), initiator)
}

fn respond(identity: &Arc<Identity>, act1: &[u8; ACT1_LEN]) -> ([u8; ACT2_LEN], Transport) {
    let mut act2 = Vec::new();
    let transport = Responder::new(Arc::clone(identity)).on_act1(act1, &mut act2).unwrap();
    (act2.try_into().unwrap(), transport)
}

fn frame(payload_len: usize) -> Vec<u8> {
    let len = u32::try_from(payload_len).unwrap().to_le_bytes();
    let mut frame = vec![0, 0x80, 0x1b, len[0], len[1], len[2]];
    frame.extend((0..payload_len).map(|i| (i * 7 + i / 251).to_le_bytes()[0]));
    frame
}

fn seal(transport: &mut Transport, frame: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    transport.writer.seal_frame(frame, &mut sealed).unwrap();
    sealed
}

fn open(transport: &mut Transport, mut sealed: Vec<u8>) -> Result<Vec<u8>, NoiseError> {
    let (block, payload) = sealed.split_first_chunk_mut::<HEADER_BLOCK_LEN>().unwrap();
    let mut plain = transport.reader.open_header(block)?.to_vec();
    plain.extend_from_slice(transport.reader.open_payload(payload)?);
    Ok(plain)
}

/// Like `codec_sv2`: the header, then the payload in chunks, each sealed separately.
fn their_seal(engine: &mut NoiseEngine, frame: &[u8]) -> Vec<u8> {
    let (header, payload) = frame.split_at(HEADER_LEN);
    let mut sealed = Vec::new();
    for chunk in std::iter::once(header).chain(payload.chunks(65_519)) {
        let mut chunk = chunk.to_vec();
        engine.encrypt(&mut chunk).unwrap();
        sealed.append(&mut chunk);
    }
    sealed
}

fn their_open(engine: &mut NoiseEngine, sealed: &[u8]) -> Vec<u8> {
    let (header, payload) = sealed.split_at(HEADER_BLOCK_LEN);
    let mut plain = Vec::new();
    for chunk in std::iter::once(header).chain(payload.chunks(65_535)) {
        let mut chunk = chunk.to_vec();
        engine.decrypt(&mut chunk).unwrap();
        plain.append(&mut chunk);
    }
    plain
}

fn talk(ours: &mut Transport, theirs: &mut NoiseEngine, payload_len: usize) {
    let frame = frame(payload_len);
    assert!(their_open(theirs, &seal(ours, &frame)) == frame, "to them: {payload_len}");
    assert!(open(ours, their_seal(theirs, &frame)).unwrap() == frame, "to us: {payload_len}");
}

#[test]
fn our_server_and_their_client_understand_each_other() {
    let identity = Arc::new(Identity::issue(&authority(), clock(), HOUR));
    for round in 0..300 {
        let mut client = their_initiator(&authority().public());
        let (act2, mut ours) = respond(&identity, &client.step_0().unwrap());
        let mut theirs = client.step_2(act2).unwrap();
        talk(&mut ours, &mut theirs, round % 64);
        if round % 50 == 0 {
            PAYLOADS.iter().for_each(|&len| talk(&mut ours, &mut theirs, len));
        }
    }
}

#[test]
fn our_client_and_their_server_understand_each_other() {
    for round in 0..200 {
        let (act1, initiator) = start(Some(authority().public()));
        let (act2, mut theirs) = their_responder().step_1(act1).unwrap();
        let mut ours = initiator.on_act2(&act2, clock()).unwrap();
        talk(&mut ours, &mut theirs, round % 64);
        if round % 50 == 0 {
            PAYLOADS.iter().for_each(|&len| talk(&mut ours, &mut theirs, len));
        }
    }
}

#[test]
fn their_client_trusts_our_certificate_as_long_as_it_should() {
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    let connect = |now| {
        let mut client = their_initiator(&authority().public());
        let (act2, _) = respond(&identity, &client.step_0().unwrap());
        client.step_2_with_now(act2, now).is_ok()
    };
    let until = identity.not_valid_after();
    assert_eq!(until, NOW + 3600);
    // A clock half a day behind, as when set to local time, must not matter.
    for now in [NOW - 43_200, NOW, until, until + 10] {
        assert!(connect(now), "{now}");
    }
    assert!(!connect(until + 11));
}

#[test]
fn a_server_of_another_authority_is_refused() {
    let stranger = AuthorityKey::generate();
    let identity = Arc::new(Identity::issue(&stranger, clock(), HOUR));
    let mut client = their_initiator(&authority().public());
    let (act2, _) = respond(&identity, &client.step_0().unwrap());
    assert!(client.step_2(act2).is_err());

    for now in [clock(), 0] {
        let (act1, initiator) = start(Some(stranger.public()));
        let (act2, _) = their_responder().step_1(act1).unwrap();
        let error = initiator.on_act2(&act2, now).unwrap_err();
        let expected = CertificateError::Signature(stranger.public());
        assert!(matches!(error, NoiseError::Certificate(e) if e == expected), "{error}");
        assert!(error.to_string().contains(&stranger.public().to_string()), "{error}");
    }

    // A client that pins no authority accepts any.
    let (act1, initiator) = start(None);
    let (act2, mut theirs) = their_responder().step_1(act1).unwrap();
    talk(&mut initiator.on_act2(&act2, clock()).unwrap(), &mut theirs, 50);
}

#[test]
fn a_certificate_outside_its_validity_is_refused() {
    let issued = clock();
    let connect = |now| {
        let (act1, initiator) = start(Some(authority().public()));
        let (act2, _) = their_responder().step_1(act1).unwrap();
        initiator.on_act2(&act2, now).map(drop)
    };
    // Theirs is valid from when it is issued, some moments after `issued`; our leeway is 10
    // seconds.
    connect(issued).unwrap();
    connect(issued + 3600).unwrap();
    let early = connect(issued - 11).unwrap_err();
    assert!(
        matches!(early, NoiseError::Certificate(CertificateError::NotYetValid { now, .. })
            if now == issued - 11),
        "{early}"
    );
    // A minute more, in case this test is slow.
    let late = connect(issued + 3600 + 11 + 60).unwrap_err();
    assert!(matches!(late, NoiseError::Certificate(CertificateError::Expired { .. })), "{late}");
}

#[test]
fn every_changed_byte_of_act_2_is_detected() {
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    for at in 0..ACT2_LEN {
        let (act1, initiator) = start(Some(authority().public()));
        let (mut act2, _) = respond(&identity, &act1);
        act2[at] ^= 1 << (at % 8);
        let error = initiator.on_act2(&act2, NOW).unwrap_err();
        assert!(matches!(error, NoiseError::Handshake(_)), "byte {at}: {error}");
    }
}

#[test]
fn every_changed_bit_of_act_1_is_detected() {
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    for at in 0..ACT1_LEN {
        let (mut act1, initiator) = start(Some(authority().public()));
        act1[at] ^= 1 << (at % 8);
        let (act2, _) = respond(&identity, &act1);
        assert!(initiator.on_act2(&act2, NOW).is_err(), "byte {at}");
    }
}

#[test]
fn an_answer_meant_for_another_client_is_refused() {
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    let (act1, _) = start(Some(authority().public()));
    let (_, initiator) = start(Some(authority().public()));
    let (act2, _) = respond(&identity, &act1);
    assert!(initiator.on_act2(&act2, NOW).is_err());
}

#[test]
fn a_frame_cut_short_does_not_open() {
    for len in [1, 16, 65_519, 65_520, 65_600] {
        for cut in [1, 2, 15, 16, 17] {
            let (mut server, mut client) = ours();
            let mut sealed = seal(&mut client, &frame(len));
            let Some(left) = sealed.len().checked_sub(cut).filter(|left| *left > HEADER_BLOCK_LEN)
            else {
                continue;
            };
            sealed.truncate(left);
            let error = open(&mut server, sealed).map(drop).unwrap_err();
            assert!(matches!(error, NoiseError::SealedLength(_)), "{len} less {cut}: {error}");
        }
    }
}

#[test]
fn neither_side_can_open_what_it_sealed() {
    let (mut server, mut client) = ours();
    for transport in [&mut server, &mut client] {
        let sealed = seal(transport, &frame(50));
        assert!(matches!(open(transport, sealed), Err(NoiseError::Forged)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_act_1_is_answered(act1 in any::<[u8; ACT1_LEN]>()) {
        let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
        respond(&identity, &act1);
    }

    #[test]
    fn no_act_2_of_a_stranger_is_accepted(bytes in prop::collection::vec(any::<u8>(), ACT2_LEN)) {
        let (_, initiator) = start(None);
        prop_assert!(initiator.on_act2(&bytes.try_into().unwrap(), NOW).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_open(
        block in any::<[u8; HEADER_BLOCK_LEN]>(),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        len in 1_usize..140_000,
    ) {
        let (mut server, mut client) = ours();
        prop_assert!(client.reader.open_header(&block).is_err());
        prop_assert!(matches!(client.reader.open_header(&block), Err(NoiseError::Ended)));

        // A good header, then whatever an attacker in the middle would put in the payload's place.
        let sealed = seal(&mut client, &frame(len));
        server.reader.open_header(sealed.first_chunk().unwrap()).unwrap();
        if payload.len() != Opener::sealed_len(len) {
            prop_assert!(server.reader.open_payload(&mut payload.clone()).is_err());
        }
        let mut noise: Vec<u8> = block.iter().chain(&payload).copied().collect();
        noise = noise.iter().cycle().take(Opener::sealed_len(len)).copied().collect();
        prop_assert!(matches!(server.reader.open_payload(&mut noise), Err(NoiseError::Forged)));
        let mut good = sealed[HEADER_BLOCK_LEN..].to_vec();
        prop_assert!(matches!(server.reader.open_payload(&mut good), Err(NoiseError::Ended)));
    }

    #[test]
    fn any_frames_arrive_as_they_were_sent(
        lens in prop::collection::vec(prop_oneof![0_usize..200, 65_400..65_700_usize, 130_900..131_200_usize], 1..6),
    ) {
        let (mut server, mut client) = ours();
        for len in lens {
            let frame = frame(len);
            let sealed = seal(&mut client, &frame);
            prop_assert_eq!(sealed.len(), HEADER_BLOCK_LEN + Opener::sealed_len(len));
            prop_assert!(open(&mut server, sealed).unwrap() == frame);
        }
    }
}
