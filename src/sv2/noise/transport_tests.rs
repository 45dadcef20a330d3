use super::*;

const KEY: [u8; 32] = [7; 32];

fn frame(payload_len: usize) -> Vec<u8> {
    let len = u32::try_from(payload_len).unwrap().to_le_bytes();
    let payload = (0..payload_len).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]);
    [0, 0, 0x1f, len[0], len[1], len[2]].into_iter().chain(payload).collect()
}

fn seal(sealer: &mut Sealer, payload_len: usize) -> Vec<u8> {
    let mut sealed = Vec::new();
    sealer.seal_frame(&frame(payload_len), &mut sealed).unwrap();
    sealed
}

fn open(opener: &mut Opener, mut sealed: Vec<u8>) -> Result<Vec<u8>, NoiseError> {
    let (block, payload) = sealed.split_first_chunk_mut().unwrap();
    let mut plain = opener.open_header(block)?.to_vec();
    plain.extend_from_slice(opener.open_payload(payload)?);
    Ok(plain)
}

#[test]
fn frames_of_every_length_come_back_whole() {
    let (mut sealer, mut opener) = (Sealer::new(&KEY), Opener::new(&KEY));
    for len in [0, 1, 16, 50, 65_518, 65_519, 65_520, 131_037, 131_038, 131_039, 200_000] {
        let sealed = seal(&mut sealer, len);
        let chunks = len.div_ceil(65_519);
        assert_eq!(sealed.len(), 22 + len + 16 * chunks, "payload of {len}");
        assert_eq!(sealed.len(), HEADER_BLOCK_LEN + Opener::sealed_len(len));
        assert!(open(&mut opener, sealed).unwrap() == frame(len), "payload of {len}");
    }
}

#[test]
fn a_payload_must_be_as_long_as_its_header_said() {
    let mut sealer = Sealer::new(&KEY);
    let mut opener = Opener::new(&KEY);
    // One chunk more or less would be whole, and would open.
    for len in [1, 16, 65_519, 65_520, 131_038, 131_039] {
        let mut sealed = seal(&mut sealer, len);
        let (block, payload) = sealed.split_first_chunk_mut().unwrap();
        opener.open_header(block).unwrap();
        for cut in [1, 15, 16, 17, payload.len()] {
            let Some(left) = payload.len().checked_sub(cut) else { continue };
            let error = opener.open_payload(&mut payload[..left]).unwrap_err();
            assert!(matches!(error, NoiseError::SealedLength(at) if at == left), "{error}");
        }
        assert!(opener.open_payload(payload).unwrap() == &frame(len)[6..]);
        let again = opener.open_payload(payload).unwrap_err();
        assert!(matches!(again, NoiseError::SealedLength(_)), "{again}");
    }
    assert_eq!(opener.open_payload(&mut []).unwrap(), b"");
}

#[test]
fn a_frame_must_be_as_long_as_its_header_says() {
    let mut sealer = Sealer::new(&KEY);
    let mut out = b"before".to_vec();
    let whole = frame(300);
    for wrong in [&[][..], &whole[..5], &whole[..6], &whole[..305], &[&whole[..], &[0]].concat()] {
        let error = sealer.seal_frame(wrong, &mut out).unwrap_err();
        assert!(matches!(error, NoiseError::FrameLength(len) if len == wrong.len()), "{error}");
        assert_eq!(out, b"before");
    }
    // Nothing was sealed, so no nonce was used.
    assert!(open(&mut Opener::new(&KEY), seal(&mut sealer, 300)).unwrap() == whole);
}

#[test]
fn any_change_ends_the_connection() {
    let sealed = seal(&mut Sealer::new(&KEY), 20);
    for bit in 0..sealed.len() * 8 {
        let mut opener = Opener::new(&KEY);
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = open(&mut opener, changed).unwrap_err();
        assert!(matches!(error, NoiseError::Forged), "bit {bit}: {error}");
        let error = open(&mut opener, sealed.clone()).unwrap_err();
        assert!(matches!(error, NoiseError::Ended), "bit {bit}: {error}");
        opener.open_payload(&mut sealed[22..].to_vec()).unwrap_err();
    }
}

#[test]
fn frames_open_once_and_in_order() {
    let mut sealer = Sealer::new(&KEY);
    let (first, second) = (seal(&mut sealer, 9), seal(&mut sealer, 9));
    let mut opener = Opener::new(&KEY);
    assert!(matches!(open(&mut opener, second), Err(NoiseError::Forged)));
    let mut opener = Opener::new(&KEY);
    open(&mut opener, first.clone()).unwrap();
    assert!(matches!(open(&mut opener, first), Err(NoiseError::Forged)));
}

#[test]
fn swapped_chunks_end_the_connection() {
    let sealed = seal(&mut Sealer::new(&KEY), 2 * CHUNK_LEN);
    let (block, chunks) = sealed.split_first_chunk().unwrap();
    let (a, b) = chunks.split_at(SEALED_CHUNK_LEN);
    let mut opener = Opener::new(&KEY);
    opener.open_header(block).unwrap();
    assert!(matches!(opener.open_payload(&mut [b, a].concat()), Err(NoiseError::Forged)));
    assert!(matches!(opener.open_header(block), Err(NoiseError::Ended)));
}

#[test]
fn the_last_nonce_is_never_used() {
    let last = u64::MAX - 1;
    let mut sealer = Sealer(Cipher { key: Some(cipher_key(&KEY)), nonce: last });
    let mut opener =
        Opener { cipher: Cipher { key: Some(cipher_key(&KEY)), nonce: last }, payload_len: 0 };
    let sealed = seal(&mut sealer, 0);
    assert_eq!(open(&mut opener, sealed.clone()).unwrap(), frame(0));

    let mut out = b"before".to_vec();
    for _ in 0..2 {
        let error = sealer.seal_frame(&frame(0), &mut out).unwrap_err();
        assert!(matches!(error, NoiseError::Ended), "{error}");
        let error = open(&mut opener, sealed.clone()).unwrap_err();
        assert!(matches!(error, NoiseError::Ended), "{error}");
    }
    // A frame whose payload has no nonce left leaves no header behind either.
    let mut sealer = Sealer(Cipher { key: Some(cipher_key(&KEY)), nonce: last });
    sealer.seal_frame(&frame(1), &mut out).unwrap_err();
    assert_eq!(out, b"before");
}
