//! What a pool, or whoever poses as one, may send; and what a gateway may send to our pool.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use gatewayd::{
    datum::{
        BODY_MAX, FrameBuffer, FrameHeader, HELLO_MAX, HeaderKey, Identity, Link, PoolStats, Relay,
        RelayOptions, UsernameMode, Usernames, Visitor, check_coinbaser, command,
        message::{Hello, Response, ToGateway, ToPool},
    },
    work::{CoinbaserRequest, Hash256, Share, Username, Work},
};
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    pieces,
    work::{Desk, start, template},
};

/// Frames: scrambled headers, lying lengths, forged seals and signatures.
pub fn datum_frames(data: &[u8]) {
    let mut inbox = FrameBuffer::new(HELLO_MAX);
    let mut key = HeaderKey::HELLO.clone();
    for piece in pieces(data) {
        inbox.push(piece);
        while let Ok(Some((header, body))) = inbox.next(&mut key) {
            assert_eq!(header.len as usize, body.len());
            assert_eq!(FrameHeader::decode(header.encode()), header);
            assert!(Visitor::read(&header, &body, &POOL).is_err(), "a signature that nobody made");
        }
    }
    let mut link = Link::new(HeaderKey::to_pool(1), HeaderKey::to_gateway(1), BODY_MAX);
    for piece in pieces(data) {
        link.push(piece);
        while let Ok(Some(frame)) = link.next(&POOL) {
            assert!(frame.verified(POOL.public()).is_err() || !frame.header.signed);
        }
    }
}

/// Messages of both sides: what can be read can be written again, and is the same.
pub fn datum_messages(data: &[u8]) {
    if let Ok(message) = ToGateway::decode(data) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        if let ToGateway::Coinbaser(answer) = &message {
            let request = CoinbaserRequest { prevhash: Hash256([1; 32]), value: answer.value };
            if let Ok(checked) = check_coinbaser(answer, request) {
                let sum: u64 = checked.coinbaser.outputs.iter().map(|output| output.value).sum();
                assert!(sum <= answer.value, "{sum} of {}", answer.value);
            }
        }
    }
    if let Ok(message) = ToPool::decode(data) {
        let _ = format!("{message:?}");
    }
    let _ = Hello::decode(data).map(|hello| format!("{hello:?}"));
    let _ = Response::decode(data).map(|response| format!("{response:?}"));
}

/// A pool that sends arbitrary messages after the handshake: the input is its messages, each with a
/// length and whether it is signed. Every share is accounted for.
pub fn datum_relay(data: &[u8]) {
    let stats = Arc::new(PoolStats::default());
    let mut relay = Relay::new(options(), GATEWAY.clone(), Arc::clone(&stats));
    let mut now = start();
    let mut out = Vec::new();
    let _ = relay.on_template(&template(1), now, &mut out);
    let pool: Arc<str> = "pool:1".into();
    relay.connect(&pool, *POOL.public(), [9; 32], now, &mut out).expect("HELLO");
    let Some(mut link) = welcome(&mut out, &mut relay) else { return };
    let mut desk = Desk::new(true);
    let mut nonce = 0;
    let mut rest = data;
    while let Some(([kind, low, high], behind)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (body, behind) = behind.split_at(len);
        rest = behind;
        let is_over = match kind % 8 {
            0..4 => {
                let (mut bytes, signer) = (Vec::new(), (kind % 2 == 1).then_some(&*SESSION));
                if link.write_channel(signer, &mut bytes, |it| it.extend_from_slice(body)).is_err()
                {
                    return;
                }
                relay.on_bytes(&bytes, now, &mut out).is_err()
            }
            4 => {
                let mut bytes = Vec::new();
                link.write_plain(command::INFO, body, &mut bytes);
                relay.on_bytes(&bytes, now, &mut out).is_err()
            }
            5 => {
                for byte in body.iter().take(8) {
                    nonce += 1;
                    let share = share(&desk.work, u32::from(*byte), nonce, relay.payout());
                    relay.on_shares(vec![share], now, &mut out);
                }
                false
            }
            6 => {
                now += Duration::from_secs(u64::from(body.first().copied().unwrap_or(60)));
                relay.on_deadline(now).is_err()
            }
            _ => {
                desk.publish(body.first().copied().unwrap_or(0));
                relay.on_work(&Arc::new(desk.work.clone()));
                relay.on_template(&desk.work.latest().template, now, &mut out).is_err()
            }
        };
        check(&stats);
        out.clear();
        if is_over {
            break;
        }
    }
    relay.disconnected("over", "never", now);
    check(&stats);
    relay.shut_down();
    check(&stats);
    assert_eq!((stats.view().held, stats.view().awaiting), (0, 0));
}

fn check(stats: &PoolStats) {
    let view = stats.view();
    let answered = view.accepted + view.rejected_total() + view.unanswered;
    let sum = answered + view.lost_total() + view.held + view.awaiting;
    assert_eq!(view.received, sum, "{view:?}");
}

/// The pool's answer to HELLO.
fn welcome(out: &mut Vec<u8>, relay: &mut Relay) -> Option<Link> {
    let mut inbox = FrameBuffer::new(BODY_MAX);
    inbox.push(&std::mem::take(out));
    let (header, body) = inbox.next(&mut HeaderKey::HELLO.clone()).ok()??;
    let visitor = Visitor::read(&header, &body, &POOL).ok()?;
    let mut link = visitor.link(&SESSION);
    let (mut message, mut bytes) = (Vec::new(), Vec::new());
    let session = *SESSION.public();
    Response { echo: visitor.keys, session, motd: b"fuzz", padding: &[] }.encode(&mut message);
    let (to, mut rng) = (visitor.keys.session, StdRng::seed_from_u64(7));
    link.write_sealed(command::RESPONSE, message, &POOL, &to, &mut rng, &mut bytes).ok()?;
    relay.on_bytes(&bytes, start(), out).expect("a valid response");
    Some(link)
}

fn share(
    work: &Work,
    which: u32,
    nonce: u32,
    payout: Option<&Arc<gatewayd::work::Payout>>,
) -> Share {
    let job = match payout {
        // On the pool's own terms.
        Some(payout) if which % 2 == 0 => gatewayd::work::JobBuilder::new(which).build(
            gatewayd::work::BuildJob::Classes,
            &work.latest().template,
            payout,
        ),
        _ => Arc::clone(&work.jobs[which as usize % work.jobs.len()]),
    };
    Share {
        coinbase_id: job.coinbases()[which as usize % job.coinbases().len()].id,
        job,
        quickdiff: which & 64 != 0,
        target_byte: 0,
        difficulty: 1.0,
        extranonce: [5; 12],
        ntime: 1_700_000_001,
        nonce,
        version: 0x2000_0000,
        hash: Hash256::sha256d(&nonce.to_le_bytes()),
        is_block: which & 128 != 0,
        username: Username::heard("addr.rig"),
        miner: u64::from(which & 3),
    }
}

fn options() -> RelayOptions {
    RelayOptions {
        usernames: Usernames::new(UsernameMode::Full, "addr".into(), &[]),
        tag_secondary: b"me".as_slice().into(),
        unique_id: 5,
        own_script: None,
        user_agent: "fuzz".into(),
        timeout: Duration::from_secs(60),
        hold_shares: Duration::from_secs(120),
    }
}

static POOL: LazyLock<Identity> = LazyLock::new(|| Identity::from_secrets(&[1; 32], [2; 32]));
static SESSION: LazyLock<Identity> = LazyLock::new(|| Identity::from_secrets(&[3; 32], [4; 32]));
static GATEWAY: LazyLock<Identity> = LazyLock::new(|| Identity::from_secrets(&[5; 32], [6; 32]));
