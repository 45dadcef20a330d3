use super::*;

const TIP: Hash256 = Hash256([7; 32]);

/// The node's side: frames around messages, each a list of bytes.
fn frame(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

fn response(id: u64, payload: &[u8]) -> Vec<u8> {
    frame(&[&1_u32.to_le_bytes()[..], &id.to_le_bytes(), &[1, 1], payload, &[0]].concat())
}

fn refusal(id: u64, reason: &str) -> Vec<u8> {
    let text = [&(reason.len() as u64).to_le_bytes()[..], reason.as_bytes()].concat();
    frame(&[&1_u32.to_le_bytes()[..], &id.to_le_bytes(), &[0, 0, 1], &text].concat())
}

fn welcome(version: &str) -> Vec<u8> {
    let length = (version.len() as u64).to_le_bytes();
    response(1, &[&0_u32.to_le_bytes()[..], &length, version.as_bytes()].concat())
}

/// The correlation ids and message types of what was asked.
fn asked(out: &mut Vec<u8>) -> Vec<(u64, u32)> {
    let mut frames = Frames::default();
    frames.push(&std::mem::take(out));
    let mut asked = Vec::new();
    while let Some(frame) = frames.next().unwrap() {
        let mut reader = Reader::new(frame);
        assert_eq!(reader.u32(), Ok(0));
        asked.push((reader.u64().unwrap(), reader.u32().unwrap()));
    }
    asked
}

struct Conversation {
    client: NodeApiSession,
    out: Vec<u8>,
}

impl Conversation {
    fn new() -> Self {
        let mut out = Vec::new();
        let client = NodeApiSession::new("gw_1", "gatewayd", &mut out);
        assert_eq!(asked(&mut out), [(1, 8)]);
        Self { client, out }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<Vec<NodeApiMessage>, NodeApiError> {
        let mut said = Vec::new();
        self.client.on_bytes(bytes, &mut said, &mut self.out).map(|()| said)
    }
}

#[test]
fn a_conversation_from_the_handshake_on() {
    let mut talk = Conversation::new();
    let said = NodeApiMessage::Welcome { version: "0.1.83".into(), layout: Layout::B };
    assert_eq!(talk.hear(&welcome("0.1.83")), Ok(vec![said]));
    assert_eq!(asked(&mut talk.out), [(2, 7), (3, 14), (4, 4)]);
    let info = |widths: usize| {
        let fields = [&14_u32.to_le_bytes()[..], &TIP.0, &10_u64.to_le_bytes()].concat();
        [&fields[..], &vec![9; widths], &[1]].concat()
    };
    let bytes = [
        response(2, &8_u32.to_le_bytes()),
        response(3, &info(16)),
        response(4, &[&5_u32.to_le_bytes()[..], &TIP.0].concat()),
    ];
    let expected = [
        NodeApiMessage::Subscribed,
        NodeApiMessage::Info(ChainInfo { tip: TIP, height: 10, is_synced: true }),
        NodeApiMessage::Tip(TIP),
    ];
    // Byte by byte, as a slow socket would.
    let mut said = Vec::new();
    for byte in bytes.concat() {
        said.extend(talk.hear(&[byte]).unwrap());
    }
    assert_eq!(said, expected);
    assert!(!talk.client.is_waiting());
    // Other widths of the same fields.
    for widths in [12, 24, 20] {
        talk.client.ask(NodeApiRequest::ChainInfo, &mut talk.out);
        let (id, _) = asked(&mut talk.out)[0];
        assert_eq!(talk.hear(&response(id, &info(widths))).unwrap(), expected[1..2]);
    }
}

#[test]
fn the_layout_is_that_of_the_version() {
    for (version, layout, tag) in [("0.1.55", Layout::A, 49), ("0.1.56", Layout::B, 50)] {
        let mut talk = Conversation::new();
        let said = talk.hear(&welcome(version)).unwrap();
        assert_eq!(said, [NodeApiMessage::Welcome { version: version.into(), layout }]);
        asked(&mut talk.out);
        talk.client.ask(NodeApiRequest::BlockTemplate, &mut talk.out);
        assert_eq!(asked(&mut talk.out), [(5, tag)]);
    }
}

#[test]
fn the_same_is_not_asked_twice_at_once() {
    let mut talk = Conversation::new();
    talk.hear(&welcome("0.1.83")).unwrap();
    assert_eq!(asked(&mut talk.out).len(), 3);
    talk.client.ask(NodeApiRequest::ChainTip, &mut talk.out);
    assert!(talk.out.is_empty());
    talk.hear(&response(4, &[&5_u32.to_le_bytes()[..], &TIP.0].concat())).unwrap();
    talk.client.ask(NodeApiRequest::ChainTip, &mut talk.out);
    assert_eq!(asked(&mut talk.out), [(5, 4)]);
}

#[test]
fn what_cannot_be_read_is_said_and_the_rest_goes_on() {
    let mut talk = Conversation::new();
    talk.hear(&welcome("0.1.83")).unwrap();
    talk.client.ask(NodeApiRequest::BlockTemplate, &mut talk.out);
    let nonsense = response(5, &[&46_u32.to_le_bytes()[..], &[1; 100]].concat());
    let said = talk.hear(&nonsense).unwrap();
    assert!(
        matches!(said[..], [NodeApiMessage::Unreadable { ask: NodeApiRequest::BlockTemplate, .. }]),
        "{said:?}"
    );
    let said = talk.hear(&refusal(3, "not allowed")).unwrap();
    assert_eq!(
        said,
        [NodeApiMessage::Refused { ask: NodeApiRequest::ChainInfo, reason: "not allowed".into() }]
    );
    let said = talk.hear(&response(4, &[&5_u32.to_le_bytes()[..], &TIP.0].concat())).unwrap();
    assert_eq!(said, [NodeApiMessage::Tip(TIP)]);
}

#[test]
fn a_broken_conversation_ends() {
    assert_eq!(
        Conversation::new().hear(&refusal(1, "no more modules")),
        Err(NodeApiError::Refused("no more modules".into()))
    );
    assert_eq!(Conversation::new().hear(&response(9, &[])), Err(NodeApiError::Unasked));
    let long = [0xFF; 4];
    let error = NodeApiError::Wire(WireError::Frame(0xFFFF_FFFF));
    assert_eq!(Conversation::new().hear(&long), Err(error));
    assert_eq!(
        Conversation::new().hear(&frame(&[1, 0])),
        Err(NodeApiError::Wire(WireError::Short))
    );
    assert!(Conversation::new().hear(&response(1, &[0; 5])).is_err());
    // Calls of other modules are none of ours.
    assert_eq!(Conversation::new().hear(&frame(&4_u32.to_le_bytes())), Ok(vec![]));
}
