use super::*;
use crate::node::blvm::wire::Frames;

const TIP: Hash256 = Hash256([7; 32]);
const NOBODY: Identity<'_> = Identity { module_id: "gw_1", module_name: "gatewayd" };

/// What the node would write.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.u64(text.len() as u64).raw(text.as_bytes())
    }

    /// One input without witness, one output.
    fn transaction(self, script: &[u8], value: u64) -> Self {
        let input = self.u64(1).u64(1).raw(&[0; 32]).u32(u32::MAX).u64(0xFFFF_FFFE);
        let input = input.u64(script.len() as u64).raw(script);
        input.u64(1).u64(value).u64(1).raw(&[0x51]).u64(9)
    }
}

fn template_body(target: Target, tag: u32) -> Vec<u8> {
    let header = Bytes::default().u8(1).u8(1).u32(tag).u64(0x2000_0000).raw(&TIP.0);
    let header = header.raw(&[0; 32]).u64(1_700_000_000).u64(0x207F_FFFF).u64(0);
    let all = header.transaction(&[1, 2], 50).u64(1).transaction(&[3; 300], 7);
    let all = match target {
        Target::Text => all.text(&"f".repeat(64)),
        Target::Number => all.raw(&[0xFF; 16]),
    };
    all.u64(10).u64(1_700_000_001).u8(0).0
}

fn read_template(
    bytes: &[u8],
    layout: Layout,
    target: Target,
) -> Result<Result<ApiTemplate, String>, WireError> {
    answer(Reader::new(bytes), template(layout, target))
}

#[test]
fn layouts_follow_versions() {
    for (version, layout) in [
        ("0.1.5", Layout::A),
        ("0.1.55", Layout::A),
        ("0.1.56", Layout::B),
        ("0.1.83", Layout::B),
        ("0.1.56-rc1", Layout::B),
        ("0.2.0", Layout::B),
        ("1.0", Layout::B),
        ("next", Layout::B),
        ("", Layout::B),
    ] {
        assert_eq!(Layout::of(version), layout, "{version:?}");
    }
}

#[test]
fn requests_are_written_as_the_node_reads_them() {
    let written = |ask, layout| {
        let mut out = Vec::new();
        append(ask, 3, layout, NOBODY, &mut out);
        let mut frames = Frames::default();
        frames.push(&out);
        let frame = frames.next().unwrap().unwrap().to_vec();
        assert_eq!(frames.next(), Ok(None));
        frame
    };
    let head = |kind: u32, payload: u32| Bytes::default().u32(0).u64(3).u32(kind).u32(payload);
    for layout in [Layout::A, Layout::B] {
        let version = env!("CARGO_PKG_VERSION");
        let handshake = head(8, 0).text("gw_1").text("gatewayd").text(version).0;
        assert_eq!(written(NodeApiRequest::Handshake, layout), handshake);
        assert_eq!(written(NodeApiRequest::ChainTip, layout), head(4, 5).0);
        assert_eq!(written(NodeApiRequest::ChainInfo, layout), head(14, 14).0);
        let events = head(7, 8).u64(5).u32(0).u32(2).u32(3).u32(12).u32(13).0;
        assert_eq!(written(NodeApiRequest::SubscribeEvents, layout), events);
    }
    let rest = |head: Bytes| head.u64(1).text("segwit").u8(0).u8(1).text("hex:51").0;
    assert_eq!(written(NodeApiRequest::BlockTemplate, Layout::A), rest(head(49, 49)));
    assert_eq!(written(NodeApiRequest::BlockTemplate, Layout::B), rest(head(50, 50)));
}

#[test]
fn templates_of_every_layout_are_read_by_the_right_one_only() {
    let all = [
        (Layout::A, Target::Text),
        (Layout::A, Target::Number),
        (Layout::B, Target::Text),
        (Layout::B, Target::Number),
    ];
    for (at, (layout, target)) in all.into_iter().enumerate() {
        let bytes = template_body(target, layout.template_answer());
        for (other_at, (other, target)) in all.into_iter().enumerate() {
            let read = read_template(&bytes, other, target);
            if at == other_at {
                let template = read.unwrap().unwrap();
                assert_eq!((template.prevhash, template.height), (TIP, 10));
                assert_eq!((template.bits, template.value), (0x207F_FFFF, 50));
                assert_eq!(template.txids.len(), 1);
            } else {
                assert!(read.is_err(), "{at} read as {other_at}");
            }
        }
    }
}

/// The genesis block's coinbase: its id is known to everybody.
#[test]
fn transactions_have_their_ids() {
    let script = b"\x04\xff\xff\x00\x1d\x01\x04EThe Times 03/Jan/2009 Chancellor on brink of second bailout for banks";
    let mut key = vec![0; 65];
    let hex = b"04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f";
    faster_hex::hex_decode(hex, &mut key).unwrap();
    let output = [&[0x41][..], &key, &[0xAC]].concat();
    let bytes = Bytes::default().u64(1).u64(1).raw(&[0; 32]).u32(u32::MAX).u64(0xFFFF_FFFF);
    let bytes = bytes.u64(script.len() as u64).raw(script).u64(1).u64(50_0000_0000);
    let bytes = bytes.u64(output.len() as u64).raw(&output).u64(0).0;
    let (txid, value) = transaction(&mut Reader::new(&bytes)).unwrap();
    assert_eq!(value, 50_0000_0000);
    let expected = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
    assert_eq!(txid.to_string(), expected);
}

#[test]
fn sizes_have_every_width() {
    for (size, expected) in [
        (0xFC, vec![0xFC]),
        (0xFD, vec![0xFD, 0xFD, 0]),
        (0xFFFF, vec![0xFD, 0xFF, 0xFF]),
        (0x1_0000, vec![0xFE, 0, 0, 1, 0]),
    ] {
        let mut raw = Vec::new();
        put_size(&mut raw, size);
        assert_eq!(raw, expected);
    }
}

#[test]
fn events_are_read_and_others_are_let_pass() {
    let read = |payload: u32, rest: Bytes| {
        let bytes = Bytes::default().u32(2).u32(99).u32(payload).raw(&rest.0).0;
        incoming(&bytes).map(|it| match it {
            Incoming::Event(event) => Some(event),
            _ => None,
        })
    };
    let block = || Bytes::default().raw(&TIP.0).u64(10);
    assert_eq!(read(0, block()), Ok(Some(Event::NewBlock { hash: TIP, height: 10 })));
    assert_eq!(read(2, block()), Ok(Some(Event::BlockDisconnected { hash: TIP, height: 10 })));
    let reorg = Bytes::default().raw(&[1; 32]).raw(&TIP.0);
    let event = Event::ChainReorg { old_tip: Hash256([1; 32]), new_tip: TIP };
    assert_eq!(read(3, reorg), Ok(Some(event)));
    let mined = Event::BlockMined { hash: TIP, height: 10 };
    assert_eq!(read(12, block().u8(0)), Ok(Some(mined)));
    assert_eq!(read(12, block().u8(1).text("me")), Ok(Some(mined)));
    assert_eq!(read(12, block().u8(2)), Err(WireError::Flag));
    let updated = Event::BlockTemplateUpdated { prevhash: TIP, height: 10 };
    assert_eq!(read(13, block().u64(3)), Ok(Some(updated)));
    assert_eq!(read(0, block().u8(0)), Err(WireError::Left(1)));
    assert_eq!(read(0, Bytes::default().raw(&TIP.0)), Err(WireError::Short));
    assert_eq!(read(76, block()), Ok(None));
}

#[test]
fn refusals_have_words() {
    let read = |bytes: Bytes| answer(Reader::new(&bytes.0), chain_tip);
    let refused = Bytes::default().u8(0).u8(0).u8(1).text("permission denied");
    assert_eq!(read(refused), Ok(Err("permission denied".into())));
    assert_eq!(read(Bytes::default().u8(0)), Ok(Err("no reason given".into())));
    // Success with nothing in it, and the answer to something else.
    assert_eq!(read(Bytes::default().u8(1).u8(0).u8(0)), Err(WireError::Other));
    assert_eq!(read(Bytes::default().u8(1).u8(1).u32(6).u64(0).u8(0)), Err(WireError::Other));
}

#[test]
fn no_damage_is_believed_and_none_does_harm() {
    let good = template_body(Target::Text, 46);
    for length in 0..good.len() {
        assert!(read_template(&good[..length], Layout::B, Target::Text).is_err(), "{length}");
    }
    // Each length in turn says that there are 2^60 elements.
    for at in 0..good.len() - 8 {
        let mut bad = good.clone();
        bad[at..at + 8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        let _ = read_template(&bad, Layout::B, Target::Text);
    }
}

#[test]
fn templates_are_held_against_each_other() {
    let bytes = template_body(Target::Text, 46);
    let api = read_template(&bytes, Layout::B, Target::Text).unwrap().unwrap();
    let same = Expected {
        prevhash: TIP,
        height: 10,
        nbits: 0x207F_FFFF,
        coinbase_value: 50,
        txids: api.txids.clone(),
    };
    assert_eq!(api.contradicts(&same), None);
    let other = |change: fn(&mut Expected)| {
        let mut expected = same.clone();
        change(&mut expected);
        api.contradicts(&expected)
    };
    assert_eq!(other(|it| it.height = 11).unwrap(), "height 10 against 11");
    assert_eq!(other(|it| it.nbits = 0x1D00_FFFF).unwrap(), "bits 207fffff against 1d00ffff");
    assert_eq!(other(|it| it.coinbase_value = 51).unwrap(), "a coinbase of 50 against 51");
    // Of another moment, or of another tip: nothing to compare.
    let moved = |it: &mut Expected| (it.coinbase_value, it.txids) = (51, Vec::new());
    assert_eq!(other(moved), None);
    assert_eq!(other(|it| (it.prevhash, it.height) = (Hash256::ZERO, 3)), None);
}
