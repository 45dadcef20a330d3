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
