//! The C gateway's own bytes: every frame of a recorded session opens, parses and is rewritten to
//! the same bytes, and every share rebuilds to the header that its miner hashed.

use std::collections::HashMap;

use gatewayd::{
    datum::{
        FrameHeader, HeaderKey, Identity, MAC_LEN, Nonces, PublicIdentity, SecureChannel, ShortIds,
        check_coinbaser, crosscheck,
        message::{
            CoinbaseContext, Hello, JobContext, Response, ShareFlags, ShareMessage, ToGateway,
            ToPool, Validation, Wanted,
        },
        rebuild,
    },
    work::{CoinbaserRequest, Hash256, Nbits, Template},
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    dir: Option<String>,
    wire: Option<String>,
    header: Option<RecordedHeader>,
    plain: Option<String>,
    secrets: Option<Secrets>,
}

#[derive(Deserialize)]
struct RecordedHeader {
    len: u32,
    signed: u8,
    sealed: u8,
    channel: u8,
    cmd: u8,
}

#[derive(Clone, Deserialize)]
struct Secrets {
    pool_x25519_sk: String,
    pool_ed25519_pk: String,
    session_x25519_sk: String,
    session_ed25519_pk: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    let mut bytes = vec![0; hex.len() / 2];
    faster_hex::hex_decode(hex.as_bytes(), &mut bytes).unwrap();
    bytes
}

fn key(hex: &str) -> [u8; 32] {
    bytes(hex).try_into().unwrap()
}

fn signer(hex: &str) -> PublicIdentity {
    PublicIdentity { ed25519: key(hex), x25519: [0; 32].into() }
}

fn lines() -> Vec<Line> {
    let text = include_str!("../vectors/datum/reference-session.jsonl");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn secrets() -> Secrets {
    lines().into_iter().find_map(|line| line.secrets).unwrap()
}

/// One direction of the recorded connection.
struct Direction {
    mask: HeaderKey,
    reader: SecureChannel,
    writer: SecureChannel,
}

impl Direction {
    /// Unmasks, opens and rewrites; returns the header.
    fn follow(&mut self, wire: &[u8], plain: &[u8]) -> FrameHeader {
        let word = u32::from_le_bytes(wire[..4].try_into().unwrap());
        let header = FrameHeader::decode(self.mask.apply(word));
        let mut body = wire[4..].to_vec();
        assert_eq!(header.len as usize, body.len());
        if header.channel {
            assert_eq!(self.reader.decrypt(&mut body).unwrap(), plain);
            let mut again = vec![0; MAC_LEN];
            again.extend_from_slice(plain);
            self.writer.encrypt(&mut again, 0).unwrap();
            assert_eq!(again, &wire[4..], "encrypts to the same bytes");
        } else if !header.sealed {
            assert_eq!(body, plain);
        }
        header
    }
}

fn matches(header: &FrameHeader, recorded: &RecordedHeader) {
    let flags = (header.signed.into(), header.sealed.into(), header.channel.into());
    assert_eq!(flags, (recorded.signed, recorded.sealed, recorded.channel));
    assert_eq!((header.len, header.command), (recorded.len, recorded.cmd));
    assert_eq!(header.reserved, 0);
}

/// Calls `visit` with each mining message in order: whether it is from the pool, and its plaintext.
fn each_message(mut visit: impl FnMut(bool, &[u8])) -> (PublicIdentity, PublicIdentity) {
    let secrets = secrets();
    let pool_box = Identity::from_secrets(&[0; 32], key(&secrets.pool_x25519_sk));
    let session_box = Identity::from_secrets(&[0; 32], key(&secrets.session_x25519_sk));
    let (pool, session) = (signer(&secrets.pool_ed25519_pk), signer(&secrets.session_ed25519_pk));
    let mut directions: Option<(Direction, Direction)> = None;
    let mut gateway = None;
    for line in lines() {
        let (Some(dir), Some(wire), Some(plain)) = (line.dir, line.wire, line.plain) else {
            continue;
        };
        let (wire, plain, from_pool) = (bytes(&wire), bytes(&plain), dir == "s2c");
        let Some((to_pool, to_gateway)) = &mut directions else {
            // HELLO: opens with the pool's key, and seeds the rest.
            let word = u32::from_le_bytes(wire[..4].try_into().unwrap());
            matches(
                &FrameHeader::decode(HeaderKey::HELLO.clone().apply(word)),
                &line.header.unwrap(),
            );
            assert_eq!(pool_box.unseal(&wire[4..]).unwrap(), plain);
            let hello = Hello::decode(&plain[..plain.len() - 64]).unwrap();
            hello.keys.long_term.verify(&plain).unwrap();
            let mut again = Vec::new();
            hello.encode(&mut again);
            assert_eq!(again, plain[..plain.len() - 64]);
            gateway = Some(hello.keys);
            let nonces = Nonces::derive(hello.nk, &hello.keys.session.ed25519);
            let theirs = hello.keys.session.x25519;
            let pool_end = || SecureChannel::of_pool(&session_box, &theirs, nonces);
            let gateway_end = || SecureChannel::of_gateway(&session_box, &theirs, nonces);
            directions = Some((
                Direction {
                    mask: HeaderKey::to_pool(hello.nk),
                    reader: pool_end(),
                    writer: gateway_end(),
                },
                Direction {
                    mask: HeaderKey::to_gateway(hello.nk),
                    reader: gateway_end(),
                    writer: pool_end(),
                },
            ));
            continue;
        };
        let direction = if from_pool { to_gateway } else { to_pool };
        let header = direction.follow(&wire, &plain);
        matches(&header, &line.header.unwrap());
        match header.command {
            2 => {
                let message = pool.verify(&plain).unwrap();
                let response = Response::decode(message).unwrap();
                assert_eq!(Some(response.echo), gateway);
                assert_eq!(response.session.ed25519, session.ed25519);
                let mut again = Vec::new();
                response.encode(&mut again);
                assert_eq!(again, message);
            }
            5 if header.signed => visit(from_pool, session.verify(&plain).unwrap()),
            5 => visit(from_pool, &plain),
            7 => assert_eq!(plain.last(), Some(&0)),
            other => panic!("command {other}"),
        }
    }
    (gateway.unwrap().long_term, pool)
}

#[test]
fn every_frame_opens_parses_and_is_rewritten_to_the_same_bytes() {
    let mut counts = HashMap::new();
    each_message(|from_pool, plain| {
        let mut again = Vec::new();
        if from_pool {
            ToGateway::decode(plain).unwrap().encode(&mut again);
        } else {
            ToPool::decode(plain).unwrap().encode(&mut again);
        }
        assert_eq!(again, plain);
        *counts.entry((from_pool, plain[0])).or_insert(0) += 1;
    });
    for kind in [(false, 0x10), (false, 0x27), (false, 0x50), (true, 0x11), (true, 0x8F)] {
        assert!(counts[&kind] > 3, "{kind:?}");
    }
    assert!(counts[&(true, 0x99)] >= 1 && counts[&(true, 0x50)] >= 4);
}

#[test]
fn every_coinbaser_passes_its_check() {
    let mut asked = Vec::new();
    each_message(|from_pool, plain| {
        if from_pool {
            if let ToGateway::Coinbaser(message) = ToGateway::decode(plain).unwrap() {
                let request: CoinbaserRequest = asked.remove(0);
                let checked = check_coinbaser(&message, request).unwrap();
                assert_eq!((checked.coinbaser.outputs.len(), checked.cut_at), (40, None));
            }
        } else if let ToPool::FetchCoinbaser { request, .. } = ToPool::decode(plain).unwrap() {
            asked.push(request);
        }
    });
}

/// A pool's memory of one job slot.
#[derive(Default)]
struct Slot {
    job: Option<JobContext<'static>>,
    coinbases: HashMap<u8, (Vec<u8>, Vec<u8>)>,
}

fn owned(job: &JobContext<'_>) -> JobContext<'static> {
    JobContext { branches: job.branches.to_vec().into(), ..job.clone() }
}

fn check_share(share: &ShareMessage<'_>, slots: &mut [Slot; 8]) {
    let slot = &mut slots[usize::from(share.slot)];
    if let Some(job) = &share.job {
        *slot = Slot { job: Some(owned(job)), ..Slot::default() };
    }
    if let Some(parts) = &share.coinbase {
        assert_eq!(parts.coinbase_id, share.coinbase_id);
        slot.coinbases.insert(share.coinbase_id, (parts.coinb1.to_vec(), parts.coinb2.to_vec()));
    }
    let job = slot.job.as_ref().unwrap();
    let (coinb1, coinb2) = &slot.coinbases[&share.coinbase_id];
    assert_eq!(coinb1[usize::from(job.target_byte_index)], 0xFF);
    let parts = CoinbaseContext { coinbase_id: share.coinbase_id, coinb1, coinb2 };
    let rebuilt = rebuild(share, job, &parts).unwrap();

    let coinbase: bitcoin::Transaction =
        bitcoin::consensus::deserialize(&rebuilt.coinbase).unwrap();
    assert!(coinbase.is_coinbase());
    let block = bitcoin::consensus::deserialize::<bitcoin::block::Header>(&rebuilt.header).unwrap();
    let bits = bitcoin::CompactTarget::from_consensus(job.nbits);
    assert_eq!((block.bits, block.time, block.nonce), (bits, share.ntime, share.nonce));
    // The strongest proof that every byte is right: exactly the shares that the gateway flagged as
    // blocks meet the block target.
    let target = Nbits::new(job.nbits).unwrap().target();
    assert_eq!(target.is_met_by(&rebuilt.hash), share.flags.has(ShareFlags::BLOCK));
    let paid: u64 = coinbase.output.iter().map(|output| output.value.to_sat()).sum();
    if !share.flags.has(ShareFlags::SUBSIDY_ONLY) {
        // Subsidy-only work of the C gateway overpays here: it uses mainnet's halvings.
        assert_eq!(paid, job.coinbase_value);
    }
}

#[test]
fn every_share_rebuilds_to_the_header_that_was_hashed() {
    let mut slots = std::array::from_fn(|_| Slot::default());
    let (mut shares, mut blocks, mut quickdiff) = (0, 0, 0);
    let mut classes = std::collections::BTreeSet::new();
    each_message(|from_pool, plain| {
        if from_pool {
            return;
        }
        if let ToPool::Share(share) = ToPool::decode(plain).unwrap() {
            check_share(&share, &mut slots);
            shares += 1;
            blocks += u32::from(share.flags.has(ShareFlags::BLOCK));
            quickdiff += u32::from(share.flags.has(ShareFlags::QUICKDIFF));
            classes.insert(share.coinbase_id);
        }
    });
    assert!(shares > 50 && blocks > 10 && quickdiff > 5, "{shares} {blocks} {quickdiff}");
    assert_eq!(Vec::from_iter(classes), [0, 1, 2, 3, 4, 5, 0xFF]);
}

#[test]
fn validation_answers_agree_with_each_other_and_with_the_merkle_branches() {
    let (mut short_ids, mut some, mut all, mut branches) = (None, Vec::new(), Vec::new(), None);
    let (gateway, pool) = each_message(|from_pool, plain| {
        if from_pool {
            return;
        }
        match ToPool::decode(plain).unwrap() {
            ToPool::Validation { answer: Validation::ShortIds { ids, crosscheck }, .. } => {
                short_ids = Some((ids, crosscheck.unwrap()));
            }
            ToPool::Validation { answer: Validation::Transactions(raw), .. } => {
                some.extend(raw.iter().map(|raw| raw.to_vec()));
            }
            ToPool::Validation { answer: Validation::Block(raw), .. } => {
                all.extend(raw.iter().map(|raw| raw.to_vec()));
            }
            ToPool::Validation { slot, answer: Validation::Error { wanted, error }, .. } => {
                assert_eq!((slot, wanted, error as u8), (0xFF, Wanted::ShortIds, 0xF3));
            }
            ToPool::Share(ShareMessage { job: Some(job), .. }) if branches.is_none() => {
                branches = Some(job.branches.to_vec());
            }
            _ => {}
        }
    });
    let transactions: Vec<bitcoin::Transaction> =
        all.iter().map(|raw| bitcoin::consensus::deserialize(raw).unwrap()).collect();
    let hash = |hash: &dyn AsRef<[u8; 32]>| Hash256(*hash.as_ref());
    let wtxids: Vec<_> = transactions.iter().map(|tx| hash(&tx.compute_wtxid())).collect();
    let (ids, sum) = short_ids.unwrap();
    let key = ShortIds::new(&gateway, &pool);
    assert_eq!(ids, wtxids.iter().map(|wtxid| key.of(wtxid)).collect::<Vec<_>>());
    assert_eq!(sum, crosscheck(wtxids.iter()));
    assert_eq!((some.len(), &some[..]), (5, &all[..5]));
    let txids = transactions.iter().map(|tx| hash(&tx.compute_txid()));
    assert_eq!(Template::branches(txids).to_vec(), branches.unwrap());
}
