use std::time::Duration;

use sha2::{Digest, Sha256};

use super::*;
use crate::sv2::noise::AuthorityKey;

const NOW: u32 = 1_800_000_000;

fn identity(authority: &AuthorityKey) -> Arc<Identity> {
    Arc::new(Identity::issue(authority, NOW, Duration::from_secs(3600)))
}

#[test]
fn the_protocol_has_the_name_that_the_specification_hashes() {
    let hash = faster_hex::hex_string(&Sha256::digest(PROTOCOL));
    assert_eq!(hash, "2eb47881208e9eee1f669f67c66ee70ea9ea88090d503fe830dc4bc83e29bf10");
}

#[test]
fn both_sides_agree_on_two_keys() {
    let authority = AuthorityKey::generate();
    let (mut act1, mut act2) = (Vec::new(), Vec::new());
    let initiator = Initiator::start(Some(authority.public()), &mut act1).unwrap();
    let act1 = act1.try_into().unwrap();
    let mut server = Responder::new(identity(&authority)).on_act1(&act1, &mut act2).unwrap();
    let mut client = initiator.on_act2(&act2.try_into().unwrap(), NOW).unwrap();

    let frame = [0, 0, 0x1a, 3, 0, 0, 7, 8, 9];
    for (from, to) in
        [(&mut client.writer, &mut server.reader), (&mut server.writer, &mut client.reader)]
    {
        let mut sealed = Vec::new();
        from.seal_frame(&frame, &mut sealed).unwrap();
        let (header, payload) = sealed.split_first_chunk_mut().unwrap();
        assert_eq!(to.open_header(header).unwrap(), frame[..6]);
        assert_eq!(to.open_payload(payload).unwrap(), &frame[6..]);
    }
}

#[test]
fn any_64_bytes_are_a_key_and_none_is_a_panic() {
    let identity = identity(&AuthorityKey::generate());
    let mut act1s = vec![[0; ACT1_LEN], [0xff; ACT1_LEN], [b'{'; ACT1_LEN]];
    // The curve's field prime, by which an encoding's halves are reduced.
    let prime: [u8; 32] = std::array::from_fn(|i| match i {
        27 => 0xfe,
        30 => 0xfc,
        31 => 0x2f,
        _ => 0xff,
    });
    act1s.push([prime, prime].concat().try_into().unwrap());
    for start in [
        br#"{"id":1,"method":"mining.subscribe","params":[]}"#.as_slice(),
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        b"GET / HTTP/1.1\r\nHost: gateway\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n",
    ] {
        let mut act1 = [b'\n'; ACT1_LEN];
        act1[..start.len()].copy_from_slice(start);
        act1s.push(act1);
    }
    for act1 in act1s {
        let mut act2 = b"before".to_vec();
        Responder::new(Arc::clone(&identity)).on_act1(&act1, &mut act2).unwrap();
        assert_eq!(act2.len(), 6 + ACT2_LEN, "{act1:?}");
        assert!(act2.starts_with(b"before"));
    }
}

#[test]
fn no_two_handshakes_share_a_key() {
    let authority = AuthorityKey::generate();
    let identity = identity(&authority);
    let (mut act1, mut other) = (Vec::new(), Vec::new());
    Initiator::start(None, &mut act1).unwrap();
    Initiator::start(None, &mut other).unwrap();
    assert_ne!(act1, other);

    // The same client twice: act 2 has nothing in common, and neither have the frames.
    let act1 = act1.try_into().unwrap();
    let [(first, a), (second, b)] = [(); 2].map(|()| {
        let mut act2 = Vec::new();
        let mut server = Responder::new(Arc::clone(&identity)).on_act1(&act1, &mut act2).unwrap();
        let mut sealed = Vec::new();
        server.writer.seal_frame(&[0; 6], &mut sealed).unwrap();
        (act2, sealed)
    });
    assert_ne!(a, b);
    let alike = first.iter().zip(&second).filter(|(a, b)| a == b).count();
    assert!(alike < 20, "{alike} of {ACT2_LEN} bytes are the same");
}

#[test]
fn handshakes_cross_threads() {
    fn assert_send<T: Send>() {}
    fn assert_sync<T: Sync>() {}
    assert_send::<Initiator>();
    assert_send::<Transport>();
    assert_send::<Responder>();
    assert_sync::<Identity>();
}

#[test]
fn nothing_secret_is_printed() {
    let authority = AuthorityKey::from_secret([0x5a; 32]).unwrap();
    let identity = identity(&authority);
    let secrets = [
        faster_hex::hex_string(&[0x5a; 32]),
        format!("{:?}", [0x5a_u8; 32]),
        faster_hex::hex_string(&identity.key.as_bytes()[..32]),
        format!("{:?}", &identity.key.as_bytes()[..32]),
    ];
    let (mut act1, mut act2) = (Vec::new(), Vec::new());
    let initiator = Initiator::start(None, &mut act1).unwrap();
    let mut printed = format!("{authority:?} {identity:?} {initiator:?} ");
    let responder = Responder::new(identity);
    printed += &format!("{responder:?} ");
    let transport = responder.on_act1(&act1.try_into().unwrap(), &mut act2).unwrap();
    printed += &format!("{transport:?}");
    for secret in secrets {
        let inner = secret.trim_matches(['[', ']']);
        assert!(!printed.contains(inner), "{printed}");
    }
    assert!(printed.contains(&authority.public().to_string()), "{printed}");
}
