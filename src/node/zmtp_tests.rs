use super::*;

#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn start() -> Instant {
    Instant::now()
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// As libzmq 4.3.5 sends it.
fn greeting(minor: u8, mechanism: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3, minor];
    greeting.extend_from_slice(mechanism);
    greeting.resize(64, 0);
    greeting
}

/// Of a publisher, with an identity.
fn ready(kind: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY\x08Identity\0\0\0\0\x0bSocket-Type\0\0\0".to_vec();
    body.push(u8::try_from(kind.len()).unwrap());
    body.extend_from_slice(kind);
    frame(4, &body)
}

fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![flags, u8::try_from(body.len()).unwrap()];
    frame.extend_from_slice(body);
    frame
}

fn block(hash: u8, sequence: u32) -> Vec<u8> {
    let parts = [frame(1, b"hashblock"), frame(1, &[hash; 32]), frame(0, &sequence.to_le_bytes())];
    parts.concat()
}

/// A talk, and what it said.
struct Talk {
    subscriber: Subscriber,
    now: Instant,
    out: Vec<u8>,
}

impl Talk {
    fn new() -> Self {
        let (now, mut out) = (start(), Vec::new());
        let subscriber = Subscriber::new(now, &mut out);
        assert_eq!((out.len(), &out[10..16]), (64, &b"\x03\x01NULL"[..]));
        out.clear();
        Self { subscriber, now, out }
    }

    fn open(minor: u8) -> Self {
        let mut talk = Self::new();
        talk.hear(&greeting(minor, b"NULL")).unwrap();
        talk.hear(&ready(b"XPUB")).unwrap();
        assert!(talk.subscriber.is_open());
        talk.out.clear();
        talk
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), ZmtpError> {
        let heard = self.subscriber.on_bytes(bytes, self.now, &mut self.out);
        // Whatever comes, what is kept of it is less than a command.
        assert!(heard.is_err() || self.subscriber.inbox.len() < COMMAND_LEN_MAX + 9);
        heard
    }

    fn later(&mut self, by: Duration) -> Result<(), ZmtpError> {
        self.now += by;
        self.subscriber.on_deadline(self.now, &mut self.out)
    }

    fn hash(&mut self) -> Option<u8> {
        self.subscriber.take_block().map(|block| block.hash.0[0])
    }
}

#[test]
fn blocks_are_heard_in_whatever_pieces_they_come() {
    for minor in [0, 1] {
        let bytes = [greeting(minor, b"NULL"), ready(b"PUB"), block(7, 0), block(8, 1)].concat();
        for size in [1, 2, 3, 7, 64, bytes.len()] {
            let (mut talk, mut heard) = (Talk::new(), Vec::new());
            for piece in bytes.chunks(size) {
                talk.hear(piece).unwrap();
                heard.extend(talk.hash());
            }
            // Of several at once, the last one counts.
            let wanted: &[u8] = if size == bytes.len() { &[8] } else { &[7, 8] };
            assert_eq!(heard, wanted, "in pieces of {size}");
            assert!(talk.subscriber.inbox.is_empty(), "in pieces of {size}");
        }
    }
}

#[test]
fn a_hash_is_turned_as_rpc_shows_it() {
    let mut talk = Talk::open(1);
    let hash: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let parts = [frame(1, b"hashblock"), frame(1, &hash), frame(0, &[0; 4])];
    talk.hear(&parts.concat()).unwrap();
    let heard = talk.subscriber.take_block().unwrap();
    assert_eq!((heard.hash.0[0], heard.hash.0[31]), (31, 0));
    assert_eq!(talk.subscriber.take_block(), None);
}

#[test]
fn what_is_wanted_is_said_as_the_peers_version_has_it() {
    for (minor, wanted) in [
        (0, &b"\x00\x0a\x01hashblock"[..]),
        (1, b"\x04\x13\x09SUBSCRIBEhashblock"),
        (7, b"\x04\x13\x09SUBSCRIBEhashblock"),
    ] {
        let mut talk = Talk::new();
        talk.hear(&greeting(minor, b"NULL")).unwrap();
        assert_eq!(talk.out, b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB");
        talk.out.clear();
        talk.hear(&ready(b"PUB")).unwrap();
        assert_eq!(talk.out, wanted, "3.{minor}");
    }
}

#[test]
fn lost_messages_are_counted() {
    let mut talk = Talk::open(1);
    let mut missed = |sequence| {
        talk.hear(&block(1, sequence)).unwrap();
        talk.subscriber.take_block().unwrap().missed
    };
    assert_eq!([missed(5), missed(6), missed(9), missed(9), missed(0)], [0, 0, 2, 0, 0]);
    talk.hear(&[block(1, 3), block(2, 4), block(3, 6)].concat()).unwrap();
    let heard = talk.subscriber.take_block().unwrap();
    assert_eq!((heard.hash.0[0], heard.missed), (3, 3));
}

/// What is heard after these bytes of an open talk.
#[track_caller]
fn case(bytes: &[u8], expected: &ZmtpError) {
    for size in [1, bytes.len()] {
        let mut talk = Talk::open(1);
        let heard = bytes.chunks(size).try_for_each(|piece| talk.hear(piece));
        assert_eq!(heard.as_ref(), Err(expected), "in pieces of {size}");
        assert!(expected.is_fault() && !expected.advice().is_empty());
        assert_eq!(talk.hash(), None);
    }
}

/// The nine bytes that once ended the process, and their like.
#[test]
fn a_length_is_not_believed() {
    let long = |flags: u8, length: u64| [&[flags][..], &length.to_be_bytes()].concat();
    let too_long = |what, length, max| ZmtpError::TooLong { what, length, max };
    for length in [33, 1 << 20, 1 << 40, u64::MAX] {
        case(&long(2, length), &too_long("frame", length, 32));
        case(&long(3, length), &too_long("frame", length, 32));
    }
    for length in [513, 1 << 40, u64::MAX] {
        case(&long(6, length), &too_long("command", length, 512));
    }
    case(&[1, 255], &too_long("frame", 255, 32));
    let topic = frame(1, b"hashblock");
    case(&[&topic[..], &long(3, 1 << 40)].concat(), &too_long("frame", 1 << 40, 32));
    // A long form with a length that is due is as good as a short one.
    let mut talk = Talk::open(1);
    let long_topic = [&long(3, 9)[..], b"hashblock"].concat();
    talk.hear(&[&long_topic[..], &block(3, 0)[11..]].concat()).unwrap();
    assert_eq!(talk.hash(), Some(3));
}

#[test]
fn only_what_a_node_publishes_is_taken() {
    let [topic, hash] = [frame(1, b"hashblock"), frame(1, &[1; 32])];
    let shape = ZmtpError::Shape;
    // Parts without end.
    let endless = [&topic[..], &hash, &frame(1, &[0; 4])].concat();
    case(&endless, &shape("it has more than three parts"));
    case(&frame(0, b"hashblock"), &shape("it has fewer than three parts"));
    case(&[&topic[..], &frame(0, &[1; 32])].concat(), &shape("it has fewer than three parts"));
    // Empty frames without end.
    case(&frame(1, b""), &shape("its topic is not \"hashblock\""));
    case(&frame(1, b"rawblock"), &shape("its topic is not \"hashblock\""));
    case(&frame(1, b"hashtx..."), &shape("its topic is not \"hashblock\""));
    let short = [&topic[..], &frame(1, &[1; 31])].concat();
    case(&short, &shape("its second part is not a hash of 32 bytes"));
    let odd = [&topic[..], &hash, &frame(0, &[0; 5])].concat();
    case(&odd, &shape("its third part is not a count of 4 bytes"));
}

#[test]
fn frames_that_the_protocol_does_not_have_end_the_talk() {
    for flags in [0x08, 0x10, 0x80, 0xFF] {
        let reserved = ZmtpError::Malformed("a frame with reserved flags");
        case(&[flags, 0], &reserved);
    }
    case(&[5, 1, 0], &ZmtpError::Malformed("a command in several frames"));
    let nameless = ZmtpError::Malformed("a command without a name, or a shorter one");
    for wrong in [&b""[..], b"\0", b"\0PING", b"\x05PING"] {
        case(&frame(4, wrong), &nameless);
    }
    case(&frame(4, b"\x04PING\0"), &ZmtpError::Malformed("an invalid PING"));
    let long_ping = frame(4, &[&b"\x04PING\0\0"[..], &[7; 17]].concat());
    case(&long_ping, &ZmtpError::Malformed("an invalid PING"));
    case(&frame(4, b"\x05ERROR\x02no"), &ZmtpError::Refused("no".into()));
}

#[test]
fn commands_without_end_end_the_talk() {
    let mut talk = Talk::open(1);
    let ping = frame(4, b"\x04PING\0\0ab");
    let mut answered = 0;
    let error = loop {
        match talk.hear(&ping) {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
        assert_eq!(std::mem::take(&mut talk.out), frame(4, b"\x04PONGab"));
    };
    // One was READY.
    assert_eq!((error, answered), (ZmtpError::Flood, COMMANDS_MAX - 1));
    // One each second is none too many, and what is not known is passed over.
    let mut talk = Talk::open(1);
    for _ in 0..500 {
        talk.now += secs(1);
        talk.hear(&frame(4, b"\x04PING\0\0")).unwrap();
        talk.hear(&frame(4, b"\x06FUTURE...")).unwrap();
    }
}

/// What is heard of a peer's first bytes.
#[track_caller]
fn first(bytes: &[u8], expected: &ZmtpError) {
    for size in [1, bytes.len()] {
        let mut talk = Talk::new();
        let heard = bytes.chunks(size).try_for_each(|piece| talk.hear(piece));
        assert_eq!(heard.as_ref(), Err(expected), "in pieces of {size}");
        assert!(expected.is_fault() && !expected.advice().is_empty());
    }
}

#[test]
fn a_peer_that_is_no_publisher_of_zeromq_is_told_by_its_first_bytes() {
    let begins = |text: &str| ZmtpError::NotZmtp(text.into());
    let mut talk = Talk::new();
    // The RPC's port.
    let refused = talk.hear(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n");
    assert_eq!(refused, Err(begins("HTTP/1.1 400 Bad Request\u{FFFD}\u{FFFD}Content-Type: ")));
    let mut talk = Talk::new();
    assert_eq!(talk.hear(b"S"), Err(begins("S")));
    first(&[0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 1], &ZmtpError::Old(1));
    let mechanism = |name: &str| ZmtpError::Mechanism(name.into());
    first(&greeting(1, b"CURVE")[..33], &mechanism("CURVE"));
    first(&greeting(0, b"PLAIN")[..33], &mechanism("PLAIN"));
    first(&greeting(0, b"NULLNULL")[..33], &mechanism("NULLNULL"));
    let with = |after: &[u8]| [&greeting(1, b"NULL")[..], after].concat();
    first(&with(&ready(b"PUSH")), &ZmtpError::Socket("PUSH".into()));
    let early = ZmtpError::Malformed("a message before it is ready");
    first(&with(&block(1, 0)), &early);
    let other = ZmtpError::Malformed("another command than READY first");
    first(&with(&frame(4, b"\x04PING\0\0")), &other);
    first(&with(&frame(4, b"\x05ERROR\x07go away")), &ZmtpError::Refused("go away".into()));
    let unparsed = ZmtpError::Malformed("a READY that cannot be parsed");
    first(&with(&frame(4, b"\x05READY\x0bSocket-Type\xff\xff\xff\xffPUB")), &unparsed);
    let nameless = ZmtpError::Malformed("a READY without its Socket-Type");
    first(&with(&frame(4, b"\x05READY")), &nameless);
}

#[test]
fn a_greeting_may_not_last() {
    let mut talk = Talk::new();
    let slow = ZmtpError::Slow { what: HANDSHAKE, limit: HANDSHAKE_MAX };
    assert_eq!(talk.subscriber.deadline(), Some(talk.now + HANDSHAKE_MAX));
    assert_eq!(talk.later(Duration::ZERO), Ok(()));
    // Drop by drop: each is life, and none more time.
    for byte in &greeting(1, b"NULL")[..49] {
        talk.now += Duration::from_millis(100);
        talk.hear(&[*byte]).unwrap();
    }
    assert_eq!(talk.later(Duration::from_millis(100)), Err(slow.clone()));
    // A node that hangs does the same.
    assert!(!slow.is_fault());
    let mut talk = Talk::new();
    talk.hear(&greeting(1, b"NULL")).unwrap();
    assert_eq!(talk.later(HANDSHAKE_MAX), Err(slow));
}

#[test]
fn a_message_may_not_last() {
    let mut talk = Talk::open(1);
    let parts = block(1, 0);
    for byte in &parts[..5] {
        talk.hear(&[*byte]).unwrap();
        talk.now += secs(1);
    }
    let slow = ZmtpError::Slow { what: "message's end", limit: MESSAGE_MAX };
    assert_eq!(talk.later(Duration::ZERO), Err(slow));
    // Many in a row, each with a part of the next behind it, are no long one.
    let mut talk = Talk::open(1);
    let stream: Vec<u8> = (0..100).flat_map(|at| block(1, at)).collect();
    for piece in stream.chunks(40) {
        talk.hear(piece).unwrap();
        assert_eq!(talk.later(secs(1)), Ok(()));
    }
}

#[test]
fn a_peer_that_vanished_is_noticed() {
    let mut talk = Talk::open(1);
    let quiet = |talk: &Talk| talk.subscriber.deadline().map(|at| at - talk.now);
    assert_eq!(quiet(&talk), Some(PING_AFTER));
    talk.later(PING_AFTER).unwrap();
    assert_eq!(talk.out, frame(4, b"\x04PING\0\0"));
    // It lives.
    talk.hear(&frame(4, b"\x04PONG")).unwrap();
    assert_eq!(quiet(&talk), Some(PING_AFTER));
    talk.out.clear();
    talk.later(PING_AFTER).unwrap();
    assert_eq!((talk.out.len(), quiet(&talk)), (9, Some(PONG_MAX)));
    assert_eq!(talk.later(PONG_MAX), Err(ZmtpError::Silent));
    // Before 3.1 nobody answers one.
    assert_eq!(quiet(&Talk::open(0)), None);
}

/// No bytes make it panic, or keep more than a command.
#[test]
fn random_bytes_do_no_harm() {
    let mut seed = 1_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..20_000 {
        let mut talk = if random() % 8 == 0 { Talk::new() } else { Talk::open(1) };
        let mut bytes: Vec<u8> = [block(1, 0), ready(b"PUB"), block(2, 1)].concat();
        for _ in 0..=random() % 4 {
            let at = usize::try_from(random()).unwrap() % bytes.len();
            bytes[at] = random().to_le_bytes()[0];
        }
        let size = usize::try_from(random() % 90).unwrap() + 1;
        let _ = bytes.chunks(size).try_for_each(|piece| talk.hear(piece));
        assert!(talk.out.len() < 200, "{:?}", talk.out);
        let _ = talk.later(secs(random() % 100));
    }
}
