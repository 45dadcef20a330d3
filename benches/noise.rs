//! What the encrypted channel costs, compared with the reference implementation's (`noise_sv2`).
//!
//! `cargo bench --bench noise`. Of the handshake, only the server's part is measured. A frame is
//! sealed from plain bytes into a reused buffer, and opened in the buffer it came in; its header
//! and each 65,519 bytes of its payload are sealed separately.
#![allow(clippy::unwrap_used, reason = "a bench may end")]

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gatewayd::sv2::noise::{
    AuthorityKey, HEADER_BLOCK_LEN, HEADER_LEN, Identity, Initiator, Responder, Transport,
};
use noise_sv2::NoiseEngine;

const SECRET: [u8; 32] = [0x42; 32];
const HOUR: Duration = Duration::from_secs(3600);
const NOW: u32 = 1_800_000_000;
/// A share or its answer, and the largest job.
const FRAMES: [usize; 2] = [50, 65_536];
/// Frames ready to be opened: each can be opened only once.
const READY: u64 = 64;

fn authority() -> AuthorityKey {
    AuthorityKey::from_secret(SECRET).unwrap()
}

fn their_responder() -> Box<noise_sv2::Responder> {
    let public = authority().public().to_bytes();
    noise_sv2::Responder::from_authority_kp(&public, &SECRET, HOUR).unwrap()
}

fn ours() -> (Transport, Transport) {
    let (mut act1, mut act2) = (Vec::new(), Vec::new());
    let initiator = Initiator::start(None, &mut act1).unwrap();
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    let server = Responder::new(identity).on_act1(&act1.try_into().unwrap(), &mut act2).unwrap();
    (server, initiator.on_act2(&act2.try_into().unwrap(), NOW).unwrap())
}

fn theirs() -> (NoiseEngine, NoiseEngine) {
    let mut client = noise_sv2::Initiator::without_pk().unwrap();
    let (act2, server) = their_responder().step_1(client.step_0().unwrap()).unwrap();
    (server, client.step_2(act2).unwrap())
}

fn frame(len: usize) -> Vec<u8> {
    let payload = u32::try_from(len - HEADER_LEN).unwrap().to_le_bytes();
    let mut frame = vec![7; len];
    frame[3..HEADER_LEN].copy_from_slice(&payload[..3]);
    frame
}

/// `chunk` is a separate buffer, since their cipher seals a whole `Vec` in place.
fn their_seal(engine: &mut NoiseEngine, frame: &[u8], chunk: &mut Vec<u8>, out: &mut Vec<u8>) {
    let (header, payload) = frame.split_at(HEADER_LEN);
    for plain in std::iter::once(header).chain(payload.chunks(65_519)) {
        chunk.clear();
        chunk.extend_from_slice(plain);
        engine.encrypt(chunk).unwrap();
        out.extend_from_slice(chunk);
    }
}

fn handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    let mut act1 = Vec::new();
    Initiator::start(None, &mut act1).unwrap();
    let act1: [u8; 64] = act1.try_into().unwrap();
    let identity = Arc::new(Identity::issue(&authority(), NOW, HOUR));
    let mut out = Vec::new();
    group.bench_function("ours", |b| {
        b.iter(|| {
            out.clear();
            Responder::new(Arc::clone(&identity)).on_act1(black_box(&act1), &mut out).unwrap()
        });
    });
    group.bench_function("noise_sv2", |b| {
        b.iter(|| their_responder().step_1(black_box(act1)).unwrap());
    });
    group.finish();
}

fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    for len in FRAMES {
        let frame = frame(len);
        let mut out = Vec::new();
        group.throughput(Throughput::Bytes(len as u64));
        let (mut server, _) = ours();
        group.bench_function(BenchmarkId::new("ours", len), |b| {
            b.iter(|| {
                out.clear();
                server.writer.seal_frame(black_box(&frame), &mut out).unwrap();
            });
        });
        let (mut server, _) = theirs();
        let mut chunk = Vec::new();
        group.bench_function(BenchmarkId::new("noise_sv2", len), |b| {
            b.iter(|| {
                out.clear();
                their_seal(&mut server, black_box(&frame), &mut chunk, &mut out);
            });
        });
    }
    group.finish();
}

fn open(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    for len in FRAMES {
        let frame = frame(len);
        group.throughput(Throughput::Bytes(len as u64));
        let (mut server, mut client) = ours();
        group.bench_function(BenchmarkId::new("ours", len), |b| {
            let seal = |out: &mut Vec<u8>| client.writer.seal_frame(&frame, out).unwrap();
            let open = |sealed: &mut [u8]| {
                let (block, payload) = sealed.split_first_chunk_mut().unwrap();
                black_box(server.reader.open_header(block).unwrap());
                black_box(server.reader.open_payload(payload).unwrap());
            };
            b.iter_custom(ready_frames(seal, open));
        });
        let (mut server, mut client) = theirs();
        let (mut sealing, mut opening) = (Vec::new(), Vec::new());
        group.bench_function(BenchmarkId::new("noise_sv2", len), |b| {
            let seal = |out: &mut Vec<u8>| their_seal(&mut client, &frame, &mut sealing, out);
            let open = |sealed: &mut [u8]| {
                let (block, payload) = sealed.split_at(HEADER_BLOCK_LEN);
                for part in std::iter::once(block).chain(payload.chunks(65_535)) {
                    opening.clear();
                    opening.extend_from_slice(part);
                    server.decrypt(&mut opening).unwrap();
                    black_box(&opening);
                }
            };
            b.iter_custom(ready_frames(seal, open));
        });
    }
    group.finish();
}

/// Seals some frames, then measures the time to open them; repeats until all are done.
fn ready_frames(
    mut seal: impl FnMut(&mut Vec<u8>),
    mut open: impl FnMut(&mut [u8]),
) -> impl FnMut(u64) -> Duration {
    let mut ready = vec![Vec::new(); usize::try_from(READY).unwrap()];
    move |rounds| {
        let mut taken = Duration::ZERO;
        let mut left = rounds;
        while left > 0 {
            let batch = &mut ready[..usize::try_from(left.min(READY)).unwrap()];
            left -= batch.len() as u64;
            for sealed in &mut *batch {
                sealed.clear();
                seal(sealed);
            }
            #[expect(clippy::disallowed_methods, reason = "a bench measures")]
            let start = Instant::now();
            batch.iter_mut().for_each(|sealed| open(sealed));
            taken += start.elapsed();
        }
        taken
    }
}

criterion_group!(benches, handshake, seal, open);
criterion_main!(benches);
