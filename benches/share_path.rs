//! What a share, a job and a notify cost.
//!
//! `cargo bench --bench share_path`. Every fourth V1 submit meets its target and is accepted;
//! refused ones take the same path except for the duplicate check. All V2 submits are accepted.
#![allow(clippy::unwrap_used, reason = "a bench may end")]

use std::{
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gatewayd::{
    stratum::{Config, Effects, Origin, Protocol as _},
    sv1::{Sv1Session, notify},
    sv2::{
        Sv2Link,
        codec::{
            Bytes32, Extensions, HEADER_LEN, Header, Message, OpenExtendedMiningChannel,
            OpenStandardMiningChannel, ServerMessage, SetupConnection, Str255,
            SubmitSharesExtended, SubmitSharesStandard, protocol,
        },
        noise::{
            ACT2_LEN, AuthorityKey, HEADER_BLOCK_LEN, Identity, Initiator, Opener, Sealer,
            Transport,
        },
    },
    validate::{self, Assignment, SeenShares, ShareContext},
    work::{
        Admission, Announce, BlockLimits, BuildJob, CoinbaseClass, Coinbaser, CoinbaserRequest,
        Difficulty, Hash256, Job, JobBuilder, Nbits, Payout, PayoutOutput, PoolTerms, Submission,
        SubmittedVersion, Target, Template, TemplateKind, Username, VoidNow, Work, merkle,
    },
};

const PREVHASH: Hash256 = Hash256([7; 32]);
const VALUE: u64 = 312_500_000;
const AGENTS: [(&str, CoinbaseClass); 5] = [
    ("NiceHash/1", CoinbaseClass::Small),
    ("cgminer/4", CoinbaseClass::Default),
    ("Antminer S21/1", CoinbaseClass::S21),
    ("bitaxe/1", CoinbaseClass::Respectable),
    ("xminer-1.0", CoinbaseClass::Huge),
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
            series: 1,
            void_series: 0,
            void_now: VoidNow::default(),
        }),
    })
}

fn job(branches: usize) -> Arc<Job> {
    job_of(FIRST_JOB, branches)
}

fn job_of(id: u32, branches: usize) -> Arc<Job> {
    JobBuilder::new(id).build(BuildJob::Classes, &template(branches), &payout())
}

#[expect(clippy::disallowed_methods, reason = "any origin will do")]
fn now() -> Instant {
    Instant::now()
}

/// Lines in, answers and shares out: all of a submit except the socket.
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

fn work(id: u32, branches: usize) -> Work {
    Work {
        jobs: [job_of(id, branches)].into(),
        announce: Announce::Now,
        upcoming: None,
        sequence: 1,
        admission: Admission::Open,
        void_series: 0,
    }
}

/// Rules that let a miner stay at a tiny difficulty.
fn unhurried() -> Config {
    let mut config = Config::with_address("bc1q");
    config.difficulty_min = Difficulty::new(1e-9).unwrap();
    config.difficulty_start = config.difficulty_min;
    config.shares_per_minute = u32::MAX;
    config
}

fn bench_session(b: &mut criterion::Bencher<'_>, agent: &str, branches: usize) {
    // The session forgets shares of a job that is gone: otherwise this would measure how large the
    // set gets after millions of them.
    let works = [FIRST_JOB, FIRST_JOB + 1].map(|id| work(id, branches));
    let mut now = now();
    let (mut out, mut effects) = (Vec::new(), Effects::default());
    let origin = Origin::standalone([0, 0, 0, 1], now);
    let mut session = Sv1Session::new(Arc::new(unhurried()), origin, &works[0], now);
    let subscribe = format!(r#"{{"id":1,"method":"mining.subscribe","params":["{agent}"]}}"#);
    session.on_line(subscribe.as_bytes(), &works[0], now, &mut out, &mut effects).unwrap();
    let mut line = Vec::new();
    let (mut nonce, mut job) = (0u32, FIRST_JOB);
    b.iter(|| {
        nonce = nonce.wrapping_add(1);
        now += EACH;
        let work = &works[(nonce / SUBMITS_A_JOB % 2) as usize];
        out.clear();
        if work.latest().id.0 != job {
            job = work.latest().id.0;
            session.on_work(work, now, &mut out).unwrap();
        }
        line.clear();
        write!(
            line,
            r#"{{"id":{nonce},"method":"mining.submit","params":["bc1qaddress.worker","{job:x}","00000000000{0:05x}","6553f100","{nonce:08x}","1fffe000"]}}"#,
            nonce >> 12
        )
        .unwrap();
        effects.shares.clear();
        session.on_line(&line, work, now, &mut out, &mut effects).unwrap();
    });
    assert!(nonce < 100 || agent.starts_with("Nice") || effects.tally.accepted() > 0);
}

/// Sealed frames in, sealed answers and shares out; the client's own work is not counted.
fn link(c: &mut Criterion) {
    let mut group = c.benchmark_group("link");
    group.throughput(Throughput::Elements(1));
    for (kind, agent) in [("standard", None), ("extended", Some("bench"))] {
        for at_once in [1, 16] {
            let id = BenchmarkId::new(kind, at_once);
            group.bench_function(id, |b| {
                let (identity, work) = (identity(), work(FIRST_JOB, 12));
                b.iter_custom(|iters| {
                    let of = |left| Peer::connect(agent, &identity, &work).submit(left, at_once);
                    let whole = iters / SUBMITS_A_PEER;
                    let parts = (0..whole).map(|_| of(SUBMITS_A_PEER));
                    parts.sum::<Duration>() + of(iters % SUBMITS_A_PEER)
                });
            });
        }
    }
    group.finish();
}

/// A server's link with one channel, and the client at its other end.
struct Peer {
    link: Sv2Link,
    work: Work,
    now: Instant,
    effects: Effects,
    sealer: Sealer,
    extended: bool,
    given: Given,
    sequence: u32,
    /// What to try next: the nonce in the low bits, the extranonce in the high ones.
    place: u64,
    /// The shares that the server's side has accepted.
    time: Duration,
}

fn identity() -> Arc<Identity> {
    Arc::new(Identity::issue(&AuthorityKey::generate(), 1_700_000_000, DAY))
}

impl Peer {
    /// With an extended channel for an `agent`, otherwise a standard one.
    fn connect(agent: Option<&str>, identity: &Arc<Identity>, work: &Work) -> Self {
        let now = now();
        let config = unhurried();
        let origin = Origin::standalone(EXTRANONCE1, now);
        let (mut effects, mut hello, mut answer) = (Effects::default(), Vec::new(), Vec::new());
        let initiator = Initiator::start(None, &mut hello).unwrap();
        let began = self::now();
        let mut link = Sv2Link::new(Arc::new(config), Arc::clone(identity), origin, work, now);
        link.on_bytes(&mut hello, work, now, &mut answer, &mut effects).unwrap();
        let time = self::now().duration_since(began);
        let act2: [u8; ACT2_LEN] = answer[..].try_into().unwrap();
        let Transport { mut reader, writer } = initiator.on_act2(&act2, 1_700_000_000).unwrap();
        let mut peer = Self {
            link,
            work: work.clone(),
            now,
            effects,
            sealer: writer,
            extended: agent.is_some(),
            given: Given::default(),
            sequence: 0,
            place: 0,
            time,
        };
        let mut answers = peer.open(agent.unwrap_or("bench"));
        peer.given = Given::read(&mut reader, &mut answers);
        peer
    }

    /// Sets up and opens; returns the sealed answers.
    fn open(&mut self, agent: &str) -> Vec<u8> {
        let mut plain = Vec::new();
        SetupConnection {
            protocol: protocol::MINING,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: Str255::default(),
            endpoint_port: 0,
            vendor: Str255::new(agent).unwrap(),
            hardware_version: Str255::default(),
            firmware: Str255::default(),
            device_id: Str255::default(),
        }
        .append(&mut plain);
        let mut frames = Vec::new();
        self.sealer.seal_frame(&plain, &mut frames).unwrap();
        plain.clear();
        let (request_id, user_identity) = (0, Str255::new("bc1qaddress.worker").unwrap());
        let (nominal_hash_rate, max_target) = (1.0, Target::MAX);
        if self.extended {
            let min_extranonce_size = 8;
            OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size,
            }
            .append(&mut plain);
        } else {
            OpenStandardMiningChannel { request_id, user_identity, nominal_hash_rate, max_target }
                .append(&mut plain);
        }
        self.sealer.seal_frame(&plain, &mut frames).unwrap();
        let mut out = Vec::new();
        self.feed(&mut frames, &mut out);
        out
    }

    fn feed(&mut self, frames: &mut [u8], out: &mut Vec<u8>) {
        self.now += EACH;
        let began = now();
        let read = self.link.on_bytes(frames, &self.work, self.now, out, &mut self.effects);
        self.time += now().duration_since(began);
        assert_eq!(read.unwrap(), frames.len());
    }

    /// How long the server takes for `count` shares, which arrive `at_once` per read.
    fn submit(&mut self, count: u64, at_once: u64) -> Duration {
        let (mut out, mut frames, mut left) = (Vec::new(), Vec::new(), count);
        let (before, accepted) = (self.time, self.effects.tally.accepted());
        while left > 0 {
            let fresh = left.min(at_once);
            frames.clear();
            (0..fresh).for_each(|_| self.seal_share(&mut frames));
            out.clear();
            self.effects.shares.clear();
            self.feed(&mut frames, &mut out);
            left -= fresh;
        }
        assert_eq!(self.effects.tally.accepted() - accepted, count);
        self.time - before
    }

    fn seal_share(&mut self, frames: &mut Vec<u8>) {
        let (rolled, nonce) = self.solve();
        self.sequence += 1;
        let share = SubmitSharesStandard {
            channel_id: CHANNEL,
            sequence_number: self.sequence,
            job_id: self.given.job_id,
            nonce,
            ntime: NTIME,
            version: VERSION,
        };
        let mut plain = Vec::new();
        if self.extended {
            let extranonce = Bytes32::new(&rolled).unwrap();
            SubmitSharesExtended { share, extranonce, worker: None }.append(&mut plain);
        } else {
            share.append(&mut plain);
        }
        self.sealer.seal_frame(&plain, frames).unwrap();
    }

    /// The next share's part of the extranonce, and its nonce.
    fn solve(&mut self) -> ([u8; 8], u32) {
        loop {
            let (rolls, nonce) = (self.place >> 16, self.place & 0xFFFF);
            let rolled = rolls.to_be_bytes();
            let nonce = u32::try_from(nonce).unwrap();
            if nonce == 0 {
                self.given.roll(&rolled);
            }
            self.place += 1;
            // A standard channel's root stays the same: its nonces continue.
            let nonce = if self.extended { nonce } else { u32::try_from(self.place).unwrap() };
            let header = self.work.latest().header(VERSION, &self.given.root, NTIME, nonce);
            if self.given.target.is_met_by(&Hash256::of_header(&header)) {
                return (rolled, nonce);
            }
        }
    }
}

/// The job that the client got.
struct Given {
    target: Target,
    job_id: u32,
    root: Hash256,
    /// Of an extended channel: what precedes the extranonce, what follows it, and the path to the
    /// root.
    coinbase: Option<(Vec<u8>, Vec<u8>, Vec<Hash256>)>,
}

impl Default for Given {
    fn default() -> Self {
        Self { target: Target::ZERO, job_id: 0, root: Hash256::ZERO, coinbase: None }
    }
}

impl Given {
    /// The last job among sealed frames.
    fn read(reader: &mut Opener, mut sealed: &mut [u8]) -> Self {
        let mut given = Self::default();
        while !sealed.is_empty() {
            let (block, rest) = sealed.split_at_mut(HEADER_BLOCK_LEN);
            let header: [u8; HEADER_LEN] =
                reader.open_header((&*block).try_into().unwrap()).unwrap();
            let header = Header::decode(header);
            let (payload, rest) = rest.split_at_mut(Opener::sealed_len(header.len as usize));
            let payload = reader.open_payload(payload).unwrap();
            match ServerMessage::decode(header, payload, Extensions::default()).unwrap() {
                ServerMessage::OpenStandardMiningChannelSuccess(open) => given.target = open.target,
                ServerMessage::OpenExtendedMiningChannelSuccess(open) => given.target = open.target,
                ServerMessage::NewMiningJob(job) => {
                    (given.job_id, given.root) = (job.job_id, job.merkle_root);
                }
                ServerMessage::NewExtendedMiningJob(job) => {
                    let prefix = [job.coinbase_tx_prefix.get(), &EXTRANONCE1].concat();
                    let suffix = job.coinbase_tx_suffix.get().to_vec();
                    given.job_id = job.job_id;
                    given.coinbase = Some((prefix, suffix, job.merkle_path.iter().collect()));
                }
                _ => {}
            }
            sealed = rest;
        }
        given
    }

    fn roll(&mut self, rolled: &[u8; 8]) {
        if let Some((prefix, suffix, path)) = &self.coinbase {
            let txid = Hash256::sha256d_parts(&[prefix, rolled, suffix]);
            self.root = merkle::root(txid, path);
        }
    }
}

/// A connection, up to its first job: handshake, setup, channel.
fn login(c: &mut Criterion) {
    let (identity, work) = (identity(), work(FIRST_JOB, 12));
    let mut group = c.benchmark_group("login");
    for (kind, agent) in [("standard", None), ("extended", Some("bench"))] {
        group.bench_function(kind, |b| {
            b.iter_custom(|iters| {
                (0..iters).map(|_| Peer::connect(agent, &identity, &work).time).sum()
            });
        });
    }
    group.finish();
}

const FIRST_JOB: u32 = 0x1000;
/// Between two reads: longer than the target time between shares, so that vardiff does not react.
const EACH: Duration = Duration::from_micros(1);
/// Fewer shares than a miner may send for one job.
const SUBMITS_A_JOB: u32 = 16_384;
const SUBMITS_A_PEER: u64 = 8192;
/// The first one that a connection opens.
const CHANNEL: u32 = 1;
const EXTRANONCE1: [u8; 4] = [0, 0, 0, 1];
const NTIME: u32 = 1_700_000_000;
const VERSION: u32 = 0x2000_0000;
const DAY: Duration = Duration::from_secs(86_400);

/// The hashing and the checks on its result.
fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    for (_, class) in AGENTS {
        let job = job(12);
        let assignment = Assignment::new(class, Difficulty::pow2(14), false);
        let moment = ShareContext { tip: &PREVHASH, expired: false, ntime_max: u32::MAX };
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
                    version: SubmittedVersion::Rolled(0x1000_0000),
                    version_mask: 0x1fff_e000,
                };
                validate::check(
                    &job,
                    &assignment,
                    validate::RootSource::Coinbase,
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
        let rendering = notify::NotifyVariant { class, quickdiff: false, clean: true };
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

criterion_group!(benches, session, link, login, check, announce);
criterion_main!(benches);
