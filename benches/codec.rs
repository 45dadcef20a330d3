//! What Stratum V2's encoding costs, compared with the reference implementation's codec.
//!
//! `cargo bench --bench codec`. The reference decodes from a mutable buffer, so it gets one; it
//! does not have to copy.
#![allow(clippy::unwrap_used, reason = "a bench may end")]

use std::hint::black_box;

use binary_sv2::{B064K, GetSize, Seq0255, Sv2Option, U256};
use criterion::{Criterion, criterion_group, criterion_main};
use gatewayd::{
    sv2::codec::{
        Bytes32, Bytes64K, ClientMessage, Extensions, HEADER_LEN, Header, Message,
        NewExtendedMiningJob, Seq255, SubmitSharesExtended, SubmitSharesStandard,
        SubmitSharesSuccess, WorkerName,
    },
    work::Hash256,
};

const SHARE: SubmitSharesStandard = SubmitSharesStandard {
    channel_id: 7,
    sequence_number: 1000,
    job_id: 42,
    nonce: 0xdead_beef,
    ntime: 1_700_000_000,
    version: 0x2abc_e000,
};
/// A coinbase with a few outputs.
const COINBASE_LEN: usize = 250;

fn frame<'a>(message: &impl Message<'a>) -> (Header, Vec<u8>) {
    let mut out = Vec::new();
    message.append(&mut out);
    let header = Header::decode(*out.first_chunk().unwrap());
    (header, out.split_off(HEADER_LEN))
}

fn decode(c: &mut Criterion) {
    let extensions = Extensions { worker_hashrate: true };
    let extended = SubmitSharesExtended {
        share: SHARE,
        extranonce: Bytes32::new(&[9; 8]).unwrap(),
        worker: None,
    };
    let named = SubmitSharesExtended { worker: WorkerName::new("rig-17"), ..extended };

    let mut group = c.benchmark_group("decode SubmitSharesStandard");
    let (header, mut payload) = frame(&SHARE);
    group.bench_function("ours", |b| {
        b.iter(|| ClientMessage::decode(black_box(header), black_box(&payload), extensions));
    });
    group.bench_function("binary_sv2", |b| {
        b.iter(|| {
            let payload = black_box(&mut payload);
            let read: mining_sv2::SubmitSharesStandard = binary_sv2::from_bytes(payload).unwrap();
            black_box(read.nonce)
        });
    });
    group.finish();

    let mut group = c.benchmark_group("decode SubmitSharesExtended");
    let (header, mut payload) = frame(&extended);
    group.bench_function("ours", |b| {
        b.iter(|| ClientMessage::decode(black_box(header), black_box(&payload), extensions));
    });
    group.bench_function("binary_sv2", |b| {
        b.iter(|| {
            let payload = black_box(&mut payload);
            let read: mining_sv2::SubmitSharesExtended<'_> =
                binary_sv2::from_bytes(payload).unwrap();
            black_box(read.nonce)
        });
    });
    let (header, payload) = frame(&named);
    group.bench_function("ours, with the worker's name", |b| {
        b.iter(|| ClientMessage::decode(black_box(header), black_box(&payload), extensions));
    });
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut out = Vec::with_capacity(4096);
    let mut place = vec![0; 4096];

    let mut group = c.benchmark_group("encode SubmitSharesSuccess");
    let (channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum) =
        (7, 1000, 1, 65_536);
    group.bench_function("ours, with its header", |b| {
        b.iter(|| {
            out.clear();
            let message = SubmitSharesSuccess {
                channel_id: black_box(channel_id),
                last_sequence_number,
                new_submits_accepted_count,
                new_shares_sum,
            };
            message.append(&mut out);
            black_box(out.len())
        });
    });
    group.bench_function("binary_sv2, without", |b| {
        b.iter(|| {
            let message = mining_sv2::SubmitSharesSuccess {
                channel_id: black_box(channel_id),
                last_sequence_number,
                new_submits_accepted_count,
                new_shares_sum,
            };
            black_box(binary_sv2::to_writer(message, &mut place).unwrap())
        });
    });
    group.finish();

    let coinbase = [0x51; COINBASE_LEN];
    let (prefix, suffix) = coinbase.split_at(100);
    let path: Vec<Hash256> = (0..12_u8).map(|i| Hash256([i; 32])).collect();
    let mut group = c.benchmark_group("encode NewExtendedMiningJob, 12 branches");
    group.bench_function("ours, with its header", |b| {
        b.iter(|| {
            out.clear();
            let message = NewExtendedMiningJob {
                channel_id: black_box(channel_id),
                job_id: 42,
                min_ntime: Some(1_700_000_000),
                version: 0x2000_0000,
                version_rolling_allowed: true,
                merkle_path: Seq255::new(&path).unwrap(),
                coinbase_tx_prefix: Bytes64K::new(prefix).unwrap(),
                coinbase_tx_suffix: Bytes64K::new(suffix).unwrap(),
            };
            message.append(&mut out);
            black_box(out.len())
        });
    });
    group.bench_function("binary_sv2, without", |b| {
        b.iter(|| {
            let message = mining_sv2::NewExtendedMiningJob {
                channel_id: black_box(channel_id),
                job_id: 42,
                min_ntime: Sv2Option::new(Some(1_700_000_000)),
                version: 0x2000_0000,
                version_rolling_allowed: true,
                merkle_path: Seq0255::new(path.iter().map(|hash| U256::from(&hash.0)).collect())
                    .unwrap(),
                coinbase_tx_prefix: B064K::new(prefix).unwrap(),
                coinbase_tx_suffix: B064K::new(suffix).unwrap(),
            };
            assert!(message.get_size() < place.len());
            black_box(binary_sv2::to_writer(message, &mut place).unwrap())
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
