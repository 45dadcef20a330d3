//! One connection to a pool that breaks every rule: each fault leads to an error or an event
//! that says what the pool did, and none to a panic.

use std::{collections::HashMap, sync::Arc, time::Instant};

use crate::datum_support::{
    Jobs, SCRIPT, SECOND, ScriptedPool, TAG, configuration, encoded, output, pool_key, share,
    start, template,
};
use gatewayd::{
    datum::{
        BODY_MAX, Client, ClientError, CoinbaserFault, HandshakeError, Identity, PoolEvent,
        PoolFault,
        message::{
            CoinbaseContext, CoinbaserMessage, JobContext, Response, ShareFlags, ShareMessage,
            ShareReason, ShareStatus, ToGateway, ToPool, Validation, ValidationError, Wanted,
        },
    },
    work::{BuildJob, Hash256, JobBuilder, Payout, PoolTerms, TemplateKind, VoidNow},
};
use proptest::prelude::*;

/// A client and its pool.
struct Rig {
    client: Client,
    pool: ScriptedPool,
    now: Instant,
    out: Vec<u8>,
    events: Vec<PoolEvent>,
}

impl Rig {
    /// HELLO has been sent and read.
    fn new() -> Self {
        let (now, mut out) = (start(), Vec::new());
        let keys = Identity::from_secrets(&[5; 32], [6; 32]);
        let client =
            Client::new(&keys, pool_key(), "v0.4.1-beta/test", 60 * SECOND, [9; 32], now, &mut out)
                .unwrap();
        let pool = ScriptedPool::meet(&out);
        assert_eq!(pool.visitor.user_agent, "v0.4.1-beta/test");
        Self { client, pool, now, out: Vec::new(), events: Vec::new() }
    }

    /// The handshake is done.
    fn welcomed() -> Self {
        let mut rig = Self::new();
        let response = rig.pool.response("welcome");
        rig.receive(&response).unwrap();
        assert!(matches!(&rig.events[..], [PoolEvent::Welcome { motd }] if motd == "welcome"));
        rig.events.clear();
        rig
    }

    /// The pool has configured us.
    fn configured() -> Self {
        let mut rig = Self::welcomed();
        let configuration = rig.pool.configuration();
        rig.receive(&configuration).unwrap();
        let [PoolEvent::Configured(configured)] = &rig.events[..] else { panic!() };
        assert_eq!((&configured.script[..], &configured.tag[..]), (&SCRIPT[..], TAG));
        rig.events.clear();
        rig
    }

    /// A coinbaser of 10,000 sats has been requested.
    fn asking() -> Self {
        let mut rig = Self::configured();
        let template = template(1, 10_000);
        rig.client.on_template(&template, rig.now, &mut rig.out).unwrap();
        let asked = rig.sent();
        let Ok(ToPool::FetchCoinbaser { request, .. }) = ToPool::decode(&asked[0]) else {
            panic!()
        };
        assert_eq!((request.value, request.prevhash), (10_000, Hash256([1; 32])));
        rig
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.client.on_bytes(bytes, self.now, &mut self.out, &mut self.events)
    }

    /// What the pool receives, in plaintext.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let out = std::mem::take(&mut self.out);
        self.pool.receive(&out)
    }

    fn refused(&mut self, message: &CoinbaserMessage<'_>) -> CoinbaserFault {
        let bytes = self.pool.say(&ToGateway::Coinbaser(*message));
        self.receive(&bytes).unwrap();
        match self.events.remove(0) {
            PoolEvent::CoinbaserRefused { fault, .. } => fault,
            other => panic!("{other:?}"),
        }
    }
}

fn payout() -> Arc<Payout> {
    Arc::new(Payout {
        script: SCRIPT.into(),
        tag_primary: TAG.into(),
        tag_secondary: Box::default(),
        unique_id: 1,
        own_script: None,
        pooled: Some(PoolTerms {
            pool: "pool:1".into(),
            prime_id: crate::datum_support::PRIME_ID,
            min_difficulty: 0,
            coinbaser: None,
            settled: None,
            epoch: 1,
            series: 1,
            void_series: 0,
            void_now: VoidNow::default(),
        }),
    })
}

#[test]
fn a_response_with_another_echo_ends_the_connection() {
    let mut rig = Rig::new();
    let mut echo = rig.pool.visitor.keys;
    let mut key = echo.session.x25519.to_bytes();
    key[0] ^= 1;
    echo.session.x25519 = key.into();
    let signer = rig.pool.identity.clone();
    let response = rig.pool.odd_response("", echo, &signer);
    let error = rig.receive(&response).unwrap_err();
    assert_eq!(error, ClientError::Handshake(HandshakeError::Echo));
    assert_eq!(error.to_string(), "it sent a handshake that echoes keys other than ours");
}

#[test]
fn a_response_signed_by_somebody_else_ends_the_connection() {
    let mut rig = Rig::new();
    let (echo, stranger) = (rig.pool.visitor.keys, Identity::from_secrets(&[8; 32], [8; 32]));
    let response = rig.pool.odd_response("", echo, &stranger);
    assert!(matches!(
        rig.receive(&response),
        Err(ClientError::Handshake(HandshakeError::Cipher(_)))
    ));
}

#[test]
fn an_unsigned_or_truncated_response_ends_the_connection() {
    let mut rig = Rig::new();
    let plain = rig.pool.plain(2, &[0; 300]);
    let error = rig.receive(&plain).unwrap_err();
    assert_eq!(error, ClientError::Handshake(HandshakeError::Unsigned));

    let mut rig = Rig::new();
    let to = rig.pool.visitor.keys.session;
    let (signer, mut out) = (rig.pool.identity.clone(), Vec::new());
    let mut rng = rand::thread_rng();
    rig.pool.link.write_sealed(2, vec![1; 40], &signer, &to, &mut rng, &mut out).unwrap();
    assert!(matches!(rig.receive(&out), Err(ClientError::Handshake(HandshakeError::Decode(_)))));
}

#[test]
fn a_second_response_ends_the_connection() {
    let mut rig = Rig::welcomed();
    let response = rig.pool.response("again");
    assert_eq!(rig.receive(&response), Err(ClientError::SecondResponse));
}

#[test]
fn a_garbled_mining_message_ends_the_connection() {
    let mut rig = Rig::configured();
    let mut message = rig.pool.mining(&[0xF9], false);
    *message.last_mut().unwrap() ^= 1;
    let error = rig.receive(&message).unwrap_err();
    let expected =
        "it sent an encrypted message that was forged or garbled: its authentication code is wrong";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn mining_messages_before_the_handshake_or_in_the_clear_end_the_connection() {
    let mut rig = Rig::new();
    let early = rig.pool.mining(&[0xF9], false);
    assert!(matches!(rig.receive(&early), Err(ClientError::Link(_))));
    let mut rig = Rig::new();
    let early = rig.pool.plain(5, &[0xF9]);
    assert_eq!(rig.receive(&early), Err(ClientError::TooEarly));
    let mut rig = Rig::configured();
    let clear = rig.pool.plain(5, &encoded(&configuration(&SCRIPT, b"evil", 0)));
    assert_eq!(rig.receive(&clear), Err(ClientError::Unencrypted));
}

#[test]
fn an_unsigned_configuration_is_ignored() {
    let plain = encoded(&configuration(&SCRIPT, TAG, 0));
    let mut rig = Rig::welcomed();
    let unsigned = rig.pool.mining(&plain, false);
    let error = rig.receive(&unsigned).unwrap_err();
    assert_eq!(error, ClientError::Configuration(PoolFault::UnsignedConfiguration));

    // Once there is a good one, it stays in force.
    let mut rig = Rig::configured();
    let unsigned = rig.pool.mining(&plain, false);
    rig.receive(&unsigned).unwrap();
    assert!(matches!(rig.events[..], [PoolEvent::Fault(PoolFault::UnsignedConfiguration)]));
}

#[test]
fn a_configuration_with_a_forged_signature_ends_the_connection() {
    let mut rig = Rig::configured();
    rig.pool.session = Identity::from_secrets(&[8; 32], [8; 32]);
    let forged = rig.pool.configuration();
    assert!(matches!(rig.receive(&forged), Err(ClientError::Signature(_))));
}

#[test]
fn a_configuration_truncated_anywhere_is_ignored() {
    let plain = encoded(&configuration(&SCRIPT, TAG, 0));
    for len in 1..plain.len() {
        let mut rig = Rig::welcomed();
        let cut = rig.pool.mining(&plain[..len], true);
        let error = rig.receive(&cut).unwrap_err();
        assert!(
            matches!(error, ClientError::Configuration(PoolFault::Configuration(_))),
            "{len}: {error}"
        );
        let mut rig = Rig::configured();
        let cut = rig.pool.mining(&plain[..len], true);
        rig.receive(&cut).unwrap();
        assert!(matches!(rig.events[..], [PoolEvent::Fault(PoolFault::Configuration(_))]), "{len}");
    }
}

#[test]
fn a_configuration_that_pays_nobody_is_refused() {
    let mut rig = Rig::welcomed();
    let empty = rig.pool.say(&configuration(&[], TAG, 0));
    let error = rig.receive(&empty).unwrap_err();
    assert_eq!(error, ClientError::Configuration(PoolFault::PayoutScript(0)));
}

#[test]
fn minimum_difficulties_are_rounded_up_to_powers_of_two() {
    for (sent, used) in
        [(0, 0), (1, 1), (3, 4), (65536, 65536), (65537, 131_072), (u64::MAX, 1 << 63)]
    {
        let mut rig = Rig::welcomed();
        let bytes = rig.pool.say(&configuration(&SCRIPT, TAG, sent));
        rig.receive(&bytes).unwrap();
        let [PoolEvent::Configured(configured)] = &rig.events[..] else { panic!() };
        assert_eq!((configured.min_difficulty, configured.rounded), (used, used != sent));
    }
}

#[test]
fn a_good_coinbaser_is_used() {
    let mut rig = Rig::asking();
    let outputs = [output(6000, 1), output(3000, 2)];
    let bytes = rig.pool.coinbaser(10_000, 3, &outputs);
    rig.receive(&bytes).unwrap();
    let [PoolEvent::Coinbaser { coinbaser, cut_at: None }] = &rig.events[..] else { panic!() };
    assert_eq!((coinbaser.id, &coinbaser.outputs[..]), (3, &outputs[..]));
}

#[test]
fn coinbasers_that_overpay_are_cut_or_refused() {
    let mut rig = Rig::asking();
    let bytes = rig.pool.coinbaser(10_000, 3, &[output(6000, 1), output(4001, 2)]);
    rig.receive(&bytes).unwrap();
    let [PoolEvent::Coinbaser { coinbaser, cut_at: Some(1) }] = &rig.events[..] else { panic!() };
    assert_eq!(coinbaser.outputs.len(), 1);

    let mut rig = Rig::asking();
    let body = CoinbaserMessage::encode_body(3, &[output(10_001, 1)]);
    let len = u32::try_from(body.len()).unwrap();
    let fault = rig.refused(&CoinbaserMessage { value: 10_000, len, body: &body, padding: &[] });
    assert_eq!(fault, CoinbaserFault::Overpays { value: 10_000 });
}

#[test]
fn coinbasers_with_a_wrong_echo_lying_lengths_or_impossible_scripts_are_refused() {
    let body = CoinbaserMessage::encode_body(3, &[output(1, 1)]);
    let len = u32::try_from(body.len()).unwrap();
    let good = CoinbaserMessage { value: 10_000, len, body: &body, padding: &[] };
    let echo = Rig::asking().refused(&CoinbaserMessage { value: 9_999, ..good });
    assert_eq!(echo, CoinbaserFault::Value { asked: 10_000, got: 9_999 });
    for lie in [0, len - 1, len + 1, u32::MAX] {
        let fault = Rig::asking().refused(&CoinbaserMessage { len: lie, ..good });
        assert!(
            matches!(fault, CoinbaserFault::Length { .. } | CoinbaserFault::Truncated { .. }),
            "{lie}: {fault}"
        );
    }
    let mut odd = body.clone();
    odd[9] = 1;
    let fault = Rig::asking().refused(&CoinbaserMessage { body: &odd, ..good });
    assert_eq!(fault, CoinbaserFault::Script { output: 0, len: 1 });
    let unasked = Rig::configured().refused(&good);
    assert_eq!(unasked, CoinbaserFault::Unasked { got: 10_000 });
}

#[test]
fn a_coinbaser_for_another_value_leaves_the_request_outstanding() {
    let mut rig = Rig::asking();
    let stray = rig.pool.coinbaser(9_999, 2, &[output(9_999, 1)]);
    rig.receive(&stray).unwrap();
    let fault = CoinbaserFault::Value { asked: 10_000, got: 9_999 };
    let refused = rig.events.remove(0);
    let PoolEvent::CoinbaserRefused { request: None, fault: found } = refused else { panic!() };
    assert_eq!(found, fault);
    let bytes = rig.pool.coinbaser(10_000, 3, &[output(10_000, 1)]);
    rig.receive(&bytes).unwrap();
    let [PoolEvent::Coinbaser { coinbaser, .. }] = &rig.events[..] else { panic!() };
    assert_eq!(coinbaser.id, 3);
}

#[test]
fn a_coinbaser_that_does_not_arrive_is_given_up_after_five_seconds() {
    let mut rig = Rig::asking();
    assert_eq!(rig.client.deadline(), rig.now + 5 * SECOND);
    rig.now += 5 * SECOND;
    rig.client.on_deadline(rig.now, &mut rig.events).unwrap();
    let [PoolEvent::CoinbaserLate { request }] = rig.events[..] else { panic!() };
    assert_eq!(request.value, 10_000);
}

/// Two blocks without fees have the same value, and the value is all that an answer names.
#[test]
fn a_late_coinbaser_is_not_taken_for_the_next_tip_of_the_same_value() {
    let mut rig = Rig::asking();
    rig.now += 5 * SECOND;
    rig.client.on_deadline(rig.now, &mut rig.events).unwrap();
    assert!(matches!(rig.events[..], [PoolEvent::CoinbaserLate { .. }]));
    rig.client.on_template(&template(2, 10_000), rig.now, &mut rig.out).unwrap();
    for (id, tip) in [(3, 1), (4, 2)] {
        rig.events.clear();
        let bytes = rig.pool.coinbaser(10_000, id, &[output(10_000, 1)]);
        rig.receive(&bytes).unwrap();
        let [PoolEvent::Coinbaser { coinbaser, .. }] = &rig.events[..] else { panic!() };
        assert_eq!((coinbaser.id, coinbaser.request.prevhash), (id, Hash256([tip; 32])));
    }
    // One that never comes is awaited for no longer than a minute.
    rig.client.on_template(&template(3, 10_000), rig.now, &mut rig.out).unwrap();
    rig.now += 5 * SECOND;
    rig.client.on_deadline(rig.now, &mut rig.events).unwrap();
    rig.now += 60 * SECOND;
    rig.client.on_template(&template(4, 10_000), rig.now, &mut rig.out).unwrap();
    rig.events.clear();
    let bytes = rig.pool.coinbaser(10_000, 5, &[output(10_000, 1)]);
    rig.receive(&bytes).unwrap();
    let [PoolEvent::Coinbaser { coinbaser, .. }] = &rig.events[..] else { panic!() };
    assert_eq!(coinbaser.request.prevhash, Hash256([4; 32]));
}

#[test]
fn silence_ends_the_connection_and_keep_alives_keep_it() {
    let mut rig = Rig::configured();
    rig.now += 59 * SECOND;
    let info = rig.pool.info("still here\x1b[31m");
    rig.receive(&info).unwrap();
    assert!(
        matches!(&rig.events[..], [PoolEvent::Info { text }] if text == "still here\u{fffd}[31m")
    );
    rig.now += 59 * SECOND;
    rig.client.on_deadline(rig.now, &mut rig.events).unwrap();
    rig.now += SECOND;
    let error = rig.client.on_deadline(rig.now, &mut rig.events).unwrap_err();
    assert_eq!(error, ClientError::Silent(60 * SECOND));
}

#[test]
fn a_pool_that_never_configures_is_abandoned() {
    let mut rig = Rig::welcomed();
    rig.now += 30 * SECOND;
    let info = rig.pool.info("soon");
    rig.receive(&info).unwrap();
    // As long as it sends something, it has more time, but not for ever.
    for _ in 0..8 {
        rig.now += 30 * SECOND;
        rig.client.on_deadline(rig.now, &mut rig.events).unwrap();
        let info = rig.pool.info("soon");
        rig.receive(&info).unwrap();
    }
    rig.now += 30 * SECOND;
    let error = rig.client.on_deadline(rig.now, &mut rig.events).unwrap_err();
    assert_eq!(error, ClientError::Unready(300 * SECOND));
}

/// The bits of a frame's flags; the mask over a header is an XOR, so they can be set on the wire.
const SIGNED: u8 = 1;
const SEALED: u8 = 2;

/// A frame in the clear with these `flags`.
fn flagged(pool: &mut ScriptedPool, command: u8, message: &[u8], flags: u8) -> Vec<u8> {
    let mut bytes = pool.plain(command, message);
    bytes[3] ^= flags;
    bytes
}

/// A response with this raw message of the day, signed and not sealed.
fn clear_response(rig: &mut Rig, motd: &[u8]) -> Vec<u8> {
    let (echo, session) = (rig.pool.visitor.keys, *rig.pool.session.public());
    let mut message = Vec::new();
    Response { echo, session, motd: &[], padding: &[] }.encode(&mut message);
    message.pop();
    message.extend_from_slice(motd);
    rig.pool.identity.sign(&mut message);
    flagged(&mut rig.pool, 2, &message, SIGNED)
}

#[test]
fn a_response_may_be_only_signed_and_of_any_length() {
    for (motd, len) in [(vec![b'm'; 10_000], 511), (b"hello".to_vec(), 5), (vec![], 0)] {
        let mut rig = Rig::new();
        let response = clear_response(&mut rig, &motd);
        rig.receive(&response).unwrap();
        let PoolEvent::Welcome { motd } = rig.events.remove(0) else { panic!() };
        assert_eq!(motd.len(), len);
        let configuration = rig.pool.configuration();
        rig.receive(&configuration).unwrap();
        assert!(matches!(&rig.events[..], [PoolEvent::Configured(_)]));
    }
    // Signed by somebody else, it is worthless.
    let mut rig = Rig::new();
    rig.pool.identity = Identity::from_secrets(&[8; 32], [8; 32]);
    let response = clear_response(&mut rig, b"hello\0");
    assert!(matches!(rig.receive(&response), Err(ClientError::Handshake(_))));
}

#[test]
fn a_mining_message_may_be_sealed_to_the_session_key_or_signed_in_the_clear() {
    let sealed = |rig: &mut Rig, message: &[u8]| {
        let to = rig.pool.visitor.keys.session;
        let body = to.seal(message, &mut rand::rngs::OsRng).unwrap();
        flagged(&mut rig.pool, 5, &body, SEALED)
    };
    let configuration = encoded(&configuration(&SCRIPT, TAG, 0));
    // A configuration must be signed in any case.
    let mut rig = Rig::welcomed();
    let bytes = sealed(&mut rig, &configuration);
    let refused = Err(ClientError::Configuration(PoolFault::UnsignedConfiguration));
    assert_eq!(rig.receive(&bytes), refused);

    let mut rig = Rig::welcomed();
    let mut signed = configuration;
    rig.pool.session.sign(&mut signed);
    let to = rig.pool.visitor.keys.session;
    let body = to.seal(&signed, &mut rand::rngs::OsRng).unwrap();
    let bytes = flagged(&mut rig.pool, 5, &body, SEALED | SIGNED);
    rig.receive(&bytes).unwrap();
    let bytes = sealed(&mut rig, &[0xF9]);
    rig.receive(&bytes).unwrap();
    let mut news = vec![0xF9];
    rig.pool.session.sign(&mut news);
    let bytes = flagged(&mut rig.pool, 5, &news, SIGNED);
    rig.receive(&bytes).unwrap();
    let [PoolEvent::Configured(_), PoolEvent::NewBlock, PoolEvent::NewBlock] = &rig.events[..]
    else {
        panic!("{:?}", rig.events)
    };

    // If the response was not sealed, anybody may know our session key.
    let mut rig = Rig::new();
    let response = clear_response(&mut rig, b"hello");
    rig.receive(&response).unwrap();
    let bytes = sealed(&mut rig, &[0xF9]);
    assert_eq!(rig.receive(&bytes), Err(ClientError::Unencrypted));
}

#[test]
fn frames_may_be_as_long_as_their_header_allows() {
    let mut rig = Rig::configured();
    let mut message = encoded(&ToGateway::Validate {
        slot: 0,
        wanted: Wanted::Transactions,
        indexes: vec![0; 65_535],
    });
    message.resize(BODY_MAX - 16, 0);
    let bytes = rig.pool.mining(&message, false);
    assert_eq!(bytes.len(), 4 + BODY_MAX);
    for piece in bytes.chunks(100_000) {
        rig.receive(piece).unwrap();
    }
    assert!(matches!(rig.events[..], [PoolEvent::Validated { .. }]), "{:?}", rig.events);
}

#[test]
fn unknown_commands_and_kinds_are_reported_once() {
    let mut rig = Rig::configured();
    for _ in 0..3 {
        let bytes = [rig.pool.plain(9, b"what"), rig.pool.mining(&[0x42, 1], false)].concat();
        rig.receive(&bytes).unwrap();
        let ping = rig.pool.plain(1, b"");
        rig.receive(&ping).unwrap();
    }
    let faults = (PoolFault::UnknownCommand(9), PoolFault::UnknownKind(0x42));
    let [PoolEvent::Fault(command), PoolEvent::Fault(kind)] = rig.events[..] else {
        panic!("{:?}", rig.events)
    };
    assert_eq!((command, kind), faults);
}

#[test]
fn contexts_go_out_once_for_each_slot_and_class_on_a_connection() {
    let mut rig = Rig::configured();
    let mut jobs = Jobs::new();
    let job = jobs.add(&template(1, 10_000), &payout());
    let small = gatewayd::work::CoinbaseClass::Small;
    let mut sections = Vec::new();
    for nonce in 0..4 {
        let mut share = share(&job, nonce);
        if nonce >= 2 {
            share.coinbase_id = small;
        }
        rig.client.submit(share, "me", false, rig.now, &mut rig.out).unwrap();
    }
    for message in rig.sent() {
        let Ok(ToPool::Share(share)) = ToPool::decode(&message) else { panic!() };
        sections.push((share.job.is_some(), share.coinbase.is_some(), share.coinbase_id));
    }
    assert_eq!(sections, [(true, true, 2), (false, false, 2), (false, true, 1), (false, false, 1)]);
}

#[test]
fn jobs_with_shares_take_slots_and_a_late_share_takes_one_again() {
    let mut rig = Rig::configured();
    let mut jobs = Jobs::new();
    let all: Vec<_> = (0..30).map(|_| jobs.add(&template(1, 10_000), &payout())).collect();
    // Shares on every third job only; then a late one, and the latest job again.
    let mined: Vec<_> = all.iter().step_by(3).chain([&all[0], &all[27], &all[27]]).collect();
    for (nonce, job) in (0..).zip(&mined) {
        rig.client.submit(share(job, nonce), "me", false, rig.now, &mut rig.out).unwrap();
    }
    let told: Vec<_> = rig
        .sent()
        .iter()
        .map(|message| {
            let Ok(ToPool::Share(share)) = ToPool::decode(message) else { panic!() };
            (share.slot, share.job.is_some(), share.coinbase.is_some())
        })
        .collect();
    let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2].map(|slot| (slot, true, true));
    assert_eq!(told, [&firsts[..], &[(1, false, false); 2]].concat());
    // A spot check is about the job that the pool was last sent for a slot.
    let (_, ids) = validate(&mut rig, &[0x50, 0x10, 2]);
    assert!(matches!(
        ToPool::decode(&ids),
        Ok(ToPool::Validation { slot: 2, answer: Validation::ShortIds { .. }, .. })
    ));
}

#[test]
fn the_subsidy_only_and_the_blank_job_of_a_tip_share_a_slot() {
    let mut rig = Rig::configured();
    let mut builder = JobBuilder::new(1);
    let full = template(1, 10_000);
    let mut tip = Arc::into_inner(template(1, 7000)).unwrap();
    (tip.kind, tip.fees) = (TemplateKind::Tip, 0);
    (tip.transactions, tip.merkle_branches) = (Box::default(), Box::default());
    let tip = Arc::new(tip);
    let empty = builder.build(BuildJob::SubsidyOnly, &tip, &payout());
    let blank = builder.build(BuildJob::Blank, &full, &payout());
    let split = builder.build(BuildJob::Classes, &full, &payout());
    for (nonce, job) in (0..).zip([&empty, &empty, &blank, &empty, &blank, &split, &empty]) {
        rig.client.submit(share(job, nonce), "me", false, rig.now, &mut rig.out).unwrap();
    }
    let mut told = Vec::new();
    for message in rig.sent() {
        let Ok(ToPool::Share(share)) = ToPool::decode(&message) else { panic!() };
        let branches = share.job.map(|job| job.branches.len());
        let id = share.coinbase.map(|coinbase| coinbase.coinbase_id);
        told.push((share.slot, share.coinbase_id, branches, id));
    }
    assert_eq!(
        told,
        [
            (0, 0xFF, Some(0), Some(0xFF)),
            (0, 0xFF, None, None),
            // What the pool is told about the blank job is more, and replaces what it knew.
            (0, 0, Some(2), Some(0)),
            (0, 0xFF, None, Some(0xFF)),
            (0, 0, None, None),
            (1, 2, Some(2), Some(2)),
            (0, 0xFF, None, None),
        ]
    );
}

/// A reorganisation that returns to a tip makes a second job of the same kind on it, with a
/// coinbase of its own; the pool rebuilt its shares with that of the first, and rejected them.
#[test]
fn each_subsidy_only_job_of_a_tip_is_sent_with_its_own_coinbase() {
    let mut rig = Rig::configured();
    let mut builder = JobBuilder::new(1);
    let full = template(1, 10_000);
    let mut tip = Arc::into_inner(template(1, 7000)).unwrap();
    (tip.kind, tip.fees) = (TemplateKind::Tip, 0);
    (tip.transactions, tip.merkle_branches) = (Box::default(), Box::default());
    let tip = Arc::new(tip);
    let first = builder.build(BuildJob::SubsidyOnly, &tip, &payout());
    let blank = builder.build(BuildJob::Blank, &full, &payout());
    let second = builder.build(BuildJob::SubsidyOnly, &tip, &payout());
    for order in [[&first, &blank, &first, &second], [&blank, &first, &second, &first]] {
        let mut rig = std::mem::replace(&mut rig, Rig::configured());
        for (nonce, job) in (0..).zip(order) {
            rig.client.submit(share(job, nonce), "me", false, rig.now, &mut rig.out).unwrap();
        }
        let mut known = HashMap::new();
        for (message, job) in rig.sent().iter().zip(order) {
            let Ok(ToPool::Share(share)) = ToPool::decode(message) else { panic!() };
            if share.job.is_some() {
                known.retain(|(slot, _), _| *slot != share.slot);
            }
            let place = (share.slot, share.coinbase_id);
            if let Some(coinbase) = share.coinbase {
                known.insert(place, coinbase.coinb1.to_vec());
            }
            assert_eq!(known[&place], &job.coinbases()[0].coinb1[..], "{}", job.id);
        }
    }
}

#[test]
fn answers_are_matched_oldest_first_and_stray_ones_reported() {
    let mut rig = Rig::configured();
    let job = Jobs::new().add(&template(1, 10_000), &payout());
    let shares: Vec<_> = [7, 8, 7].map(|nonce| share(&job, nonce)).into();
    for (at, share) in shares.iter().enumerate() {
        let mut share = share.clone();
        share.ntime += u32::try_from(at).unwrap();
        rig.client.submit(share, "me", false, rig.now, &mut rig.out).unwrap();
    }
    for (nonce, ntime) in [(7, Some(0)), (7, Some(2)), (7, None), (8, Some(1))] {
        let answer = rig.pool.answer(&share(&job, nonce), ShareStatus::Accepted, ShareReason::NONE);
        rig.receive(&answer).unwrap();
        match (rig.events.remove(0), ntime) {
            (PoolEvent::Answered { sent, .. }, Some(at)) => {
                assert_eq!(sent.share.ntime, share(&job, 0).ntime + at);
            }
            (PoolEvent::Fault(PoolFault::UnaskedResponse(_)), None) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.client.awaiting(), 0);
}

/// The pool asks; returns the answer and its job id.
fn validate(rig: &mut Rig, plain: &[u8]) -> (u8, Vec<u8>) {
    let bytes = rig.pool.mining(plain, false);
    rig.receive(&bytes).unwrap();
    let sent = rig.sent();
    let Ok(ToPool::Validation { slot, .. }) = ToPool::decode(&sent[0]) else { panic!() };
    (slot, sent[0].clone())
}

#[test]
fn job_validation_answers_every_question() {
    let mut rig = Rig::configured();
    let mut jobs = Jobs::new();
    let job = jobs.add(&template(1, 10_000), &payout());
    rig.client.submit(share(&job, 1), "me", false, rig.now, &mut rig.out).unwrap();
    rig.sent();
    let raw: Vec<_> = job.template.transactions.iter().map(|tx| tx.raw.to_vec()).collect();
    let error = |plain: &[u8]| match ToPool::decode(plain).unwrap() {
        ToPool::Validation { answer: Validation::Error { wanted, error }, .. } => (wanted, error),
        other => panic!("{other:?}"),
    };
    let (_, ids) = validate(&mut rig, &[0x50, 0x10, 0]);
    let Ok(ToPool::Validation { answer: Validation::ShortIds { ids, .. }, .. }) =
        ToPool::decode(&ids)
    else {
        panic!()
    };
    assert_eq!(ids.len(), 3);
    let (_, some) = validate(&mut rig, &[0x50, 0x11, 0, 2, 0, 2, 0, 0, 0]);
    let Ok(ToPool::Validation { answer: Validation::Transactions(some), .. }) =
        ToPool::decode(&some)
    else {
        panic!()
    };
    assert_eq!(some, [&raw[2][..], &raw[0][..]]);
    let (_, all) = validate(&mut rig, &[0x50, 0x12, 0]);
    let Ok(ToPool::Validation { answer: Validation::Block(all), .. }) = ToPool::decode(&all) else {
        panic!()
    };
    assert_eq!(all, raw);

    for (plain, slot, expected) in [
        (&[0x50, 0x10, 1][..], 1, (Wanted::ShortIds, ValidationError::NoJob)),
        (&[0x50, 0x12, 200], 0xFF, (Wanted::Block, ValidationError::OutOfRange)),
        (&[0x50, 0x11, 0, 0, 0], 0, (Wanted::Transactions, ValidationError::BadIndex)),
        (&[0x50, 0x11, 0, 1, 0, 3, 0], 0, (Wanted::Transactions, ValidationError::BadIndex)),
    ] {
        let (found, answer) = validate(&mut rig, plain);
        assert_eq!((found, error(&answer)), (slot, expected));
        // Like the C gateway, in which only whole blocks go without padding.
        let Ok(ToPool::Validation { padding, .. }) = ToPool::decode(&answer) else { panic!() };
        assert!(!padding.is_empty(), "{expected:?}");
    }
}

#[test]
fn one_read_full_of_validation_requests_ends_the_connection() {
    let mut rig = Rig::configured();
    let mut jobs = Jobs::new();
    let mut template = Arc::into_inner(template(1, 10_000)).unwrap();
    let mut transactions = template.transactions.to_vec();
    transactions[0].raw = vec![0; 3_900_000].into();
    template.transactions = transactions.into();
    let job = jobs.add(&Arc::new(template), &payout());
    rig.client.submit(share(&job, 1), "me", false, rig.now, &mut rig.out).unwrap();
    rig.sent();
    let requests: Vec<_> =
        (0..700).flat_map(|_| rig.pool.mining(&[0x50, 0x12, 0], false)).collect();
    assert_eq!(rig.receive(&requests), Err(ClientError::Unread));
    assert!(rig.out.len() < 21 << 20, "{}", rig.out.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_never_panic(chunks in prop::collection::vec(any::<Vec<u8>>(), 0..8)) {
        for mut rig in [Rig::new(), Rig::configured()] {
            for chunk in &chunks {
                if rig.receive(chunk).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn random_mining_messages_never_panic(
        messages in prop::collection::vec((any::<u8>(), any::<Vec<u8>>(), any::<bool>()), 0..12),
    ) {
        let mut rig = Rig::asking();
        for (kind, mut plain, signed) in messages {
            let kinds = [0x99, 0x11, 0x50, 0x8F, 0xF9, kind];
            plain.insert(0, kinds[usize::from(kind) % kinds.len()]);
            let bytes = rig.pool.mining(&plain, signed);
            if rig.receive(&bytes).is_err() {
                break;
            }
        }
    }

    #[test]
    fn shares_round_trip(
        bytes: [u8; 5],
        words: [u32; 3],
        extranonce: Vec<u8>,
        username in "[^\0]{0,90}",
        job: Option<([u8; 32], u16, [u32; 6], u64, Vec<[u8; 32]>)>,
        coinbase: Option<(u8, Vec<u8>, Vec<u8>)>,
        padding: Vec<u8>,
    ) {
        let job = job.map(|(prevhash, target_byte_index, words, coinbase_value, branches)| {
            JobContext {
                prevhash: Hash256(prevhash),
                target_byte_index,
                nbits: words[0],
                coinbaser_id: bytes[4],
                height: words[1],
                coinbase_value,
                tx_count: words[2],
                total_weight: words[3],
                total_size: words[4],
                total_sigops: words[5],
                branches: branches.into_iter().map(Hash256).collect::<Vec<_>>().into(),
            }
        });
        let coinbase = coinbase.as_ref().map(|(coinbase_id, coinb1, coinb2)| CoinbaseContext {
            coinbase_id: *coinbase_id,
            coinb1,
            coinb2,
        });
        let share = ToPool::Share(ShareMessage {
            slot: bytes[0],
            coinbase_id: bytes[1],
            flags: ShareFlags(bytes[2]),
            target_byte: bytes[3],
            ntime: words[0],
            nonce: words[1],
            version: words[2],
            extranonce: &extranonce,
            username: username.as_bytes(),
            reserved: [0; 4],
            job,
            coinbase,
            padding: &padding,
        });
        let mut plain = Vec::new();
        share.encode(&mut plain);
        prop_assert_eq!(ToPool::decode(&plain).unwrap(), share);
    }

    #[test]
    fn what_a_pool_sends_round_trips(
        script in prop::collection::vec(any::<u8>(), 0..256),
        tag in prop::collection::vec(any::<u8>(), 0..256),
        body: Vec<u8>,
        indexes: Vec<u16>,
        value: u64,
        slot: u8,
    ) {
        let len = u32::try_from(body.len()).unwrap();
        let coinbaser = CoinbaserMessage { value, len, body: &body, padding: &[] };
        for message in [
            configuration(&script, &tag, value),
            ToGateway::Coinbaser(coinbaser),
            ToGateway::NewBlock,
            ToGateway::Validate { slot, wanted: Wanted::Transactions, indexes },
            ToGateway::Validate { slot, wanted: Wanted::Block, indexes: Vec::new() },
        ] {
            let plain = encoded(&message);
            prop_assert_eq!(ToGateway::decode(&plain).unwrap(), message);
        }
    }
}
