//! What a share, a job and a notify cost.
//!
//! `cargo bench --bench share_path`. Every fourth submit meets its target and is accepted; refused
//! ones take the same way but for the duplicate check.
#![allow(clippy::unwrap_used, reason = "a bench may end")]

use std::{hint::black_box, io::Write, sync::Arc, time::Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gatewayd::{
    stratum::{Config, Effects, Seat},
    sv1::{Session, notify},
    validate::{self, Assignment, Moment, SeenShares},
    work::{
        Announce, BlockLimits, BuildJob, CoinbaseId, Coinbaser, CoinbaserRequest, Difficulty, Door,
        Hash256, Job, JobBuilder, Nbits, Payout, PayoutOutput, PoolTerms, Submission, Template,
        TemplateKind, Username, Work,
    },
};

const PREVHASH: Hash256 = Hash256([7; 32]);
const VALUE: u64 = 312_500_000;
const AGENTS: [(&str, CoinbaseId); 5] = [
    ("NiceHash/1", CoinbaseId::SMALL),
    ("cgminer/4", CoinbaseId::DEFAULT),
    ("Antminer S21/1", CoinbaseId::S21),
    ("bitaxe/1", CoinbaseId::RESPECTABLE),
    ("xminer-1.0", CoinbaseId::HUGE),
];

fn template(branches: usize) -> Arc<Template> {
    Arc::new(Template {
        source: "bench".into(),
        kind: TemplateKind::Full,
        height: 900_000,
        version: 0x2000_0000,
        prevhash: PREVHASH,
        nbits: Nbits::new(0x1702_0000).unwrap(),
        curtime: 1_700_000_000,
        mintime: 1_600_000_000,
        coinbase_value: VALUE,
        fees: 0,
        witness_commitment: Some([0x6a; 38].into()),
        transactions: Box::default(),
        merkle_branches: (0..branches).map(|i| Hash256::sha256d(&i.to_le_bytes())).collect(),
        total_size: 0,
        total_weight: 0,
        total_sigops: 0,
        limits: BlockLimits::CONSENSUS,
    })
}

/// A pool that splits among 512, so that every class is full.
fn payout() -> Arc<Payout> {
    let request = CoinbaserRequest { prevhash: PREVHASH, value: VALUE };
    let output = |i: u8| PayoutOutput { value: 1000, script: [i; 22].into() };
    let outputs = (0..512).map(|i: u16| output(i.to_le_bytes()[0])).collect();
    Arc::new(Payout {
        script: [0x52; 22].into(),
        tag_primary: b"bench".as_slice().into(),
        tag_secondary: b"gatewayd".as_slice().into(),
        unique_id: 4242,
        own_script: None,
        pooled: Some(PoolTerms {
            pool: "pool:1".into(),
            prime_id: 1,
            min_difficulty: 0,
            coinbaser: Some(Arc::new(Coinbaser { id: 1, request, outputs })),
            settled: Some(request),
            epoch: 1,
        }),
    })
}

fn job(branches: usize) -> Arc<Job> {
    JobBuilder::new(0x1000).build(BuildJob::Classes, &template(branches), &payout())
}

#[expect(clippy::disallowed_methods, reason = "any origin will do")]
fn now() -> Instant {
    Instant::now()
}

/// Lines in, answers and shares out: all of a submit but the socket.
fn session(c: &mut Criterion) {
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(1));
    for (agent, class) in AGENTS {
        for branches in [0, 12] {
            let id = BenchmarkId::new(format!("class {}", class.wire()), branches);
            group.bench_function(id, |b| bench_session(b, agent, branches));
        }
    }
    group.finish();
}

fn bench_session(b: &mut criterion::Bencher<'_>, agent: &str, branches: usize) {
    let job = job(branches);
    let work = Work {
        jobs: [Arc::clone(&job)].into(),
        announce: Announce::Now,
        upcoming: None,
        sequence: 1,
        door: Door::Open,
    };
    let mut config = Config::with_address("bc1q");
    config.difficulty_min = Difficulty::new(1e-9).unwrap();
    config.difficulty_start = config.difficulty_min;
    let now = now();
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let mut session = Session::new(Arc::new(config), Seat::alone([0, 0, 0, 1], now), &work, now);
    let subscribe = format!(r#"{{"id":1,"method":"mining.subscribe","params":["{agent}"]}}"#);
    session.on_line(subscribe.as_bytes(), &work, now, &mut out, &mut effects).unwrap();
    let mut line = Vec::new();
    let mut nonce = 0u32;
    b.iter(|| {
        nonce = nonce.wrapping_add(1);
        line.clear();
        write!(
            line,
            r#"{{"id":{nonce},"method":"mining.submit","params":["bc1qaddress.worker","1000","00000000000{0:05x}","6553f100","{nonce:08x}","1fffe000"]}}"#,
            nonce >> 12
        )
        .unwrap();
        out.clear();
        effects.shares.clear();
        session.on_line(&line, &work, now, &mut out, &mut effects).unwrap();
    });
    assert!(nonce < 100 || agent.starts_with("Nice") || effects.tally.accepted() > 0);
}

/// The hashing, and what decides on it.
fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    for (_, class) in AGENTS {
        let job = job(12);
        let assignment = Assignment::new(class, Difficulty::pow2(14), false);
        let moment = Moment { tip: &PREVHASH, expired: false, ntime_max: u32::MAX };
        let (name, mut seen, mut scratch) =
            (Username("bench".into()), SeenShares::default(), Vec::new());
        let mut nonce = 0;
        group.bench_function(BenchmarkId::new("class", class.wire()), |b| {
            b.iter(|| {
                nonce += 1;
                let submission = Submission {
                    extranonce: [9; 12],
                    ntime: 1_700_000_000,
                    nonce,
                    version_bits: Some(0x1000_0000),
                    version_mask: 0x1fff_e000,
                };
                validate::check(
                    &job,
                    &assignment,
                    validate::Source::Coinbase,
                    black_box(&submission),
                    &moment,
                    &name,
                    &mut seen,
                    &mut scratch,
                )
            });
        });
    }
    group.finish();
}

/// A new job, and its lines for all the miners of a class.
fn announce(c: &mut Criterion) {
    let (template, payout) = (template(12), payout());
    let mut builder = JobBuilder::new(1);
    c.bench_function("job build", |b| {
        b.iter(|| builder.build(BuildJob::Classes, &template, &payout));
    });
    let mut group = c.benchmark_group("notify");
    for (_, class) in AGENTS {
        let rendering = notify::Rendering { class, quickdiff: false, clean: true };
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("first", class.wire()), |b| {
            b.iter_batched(
                || job(12),
                |job| {
                    out.clear();
                    notify::write(&job, rendering, 14, &mut out);
                    job
                },
                criterion::BatchSize::SmallInput,
            );
        });
        let job = job(12);
        group.bench_function(BenchmarkId::new("next", class.wire()), |b| {
            b.iter(|| {
                out.clear();
                notify::write(&job, rendering, 14, &mut out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, session, check, announce);
criterion_main!(benches);
