//! Work to send nonsense about.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use gatewayd::{
    stratum::{Config, ConnectionLimits, Origin},
    work::{
        Admission, Announce, BlockLimits, BuildJob, Difficulty, Hash256, JobBuilder, Nbits, Payout,
        PoolTerms, Template, TemplateKind, TemplateTx, TipHeader, Work,
    },
};

pub const CURTIME: u32 = 1_700_000_000;

/// Time as a target sees it: not from a clock, so that each run is the same.
pub fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// On tip `tip`; every second hash is a block.
pub fn template(tip: u8) -> Arc<Template> {
    let transactions: Box<[TemplateTx]> = (1..=3u8)
        .map(|i| {
            let txid = Hash256::sha256d(&[i]);
            let raw = vec![i; 60].into();
            TemplateTx { txid, wtxid: txid, raw, fee: 10, weight: 240, sigops: 0 }
        })
        .collect();
    Arc::new(Template {
        source: "fuzz".into(),
        kind: TemplateKind::Full,
        height: 840_000 + u32::from(tip),
        version: 0x2000_0000,
        prevhash: Hash256([tip; 32]),
        nbits: Nbits::EASIEST,
        curtime: CURTIME,
        mintime: CURTIME - 3000,
        coinbase_value: 312_500_030,
        fees: 30,
        witness_commitment: Some(
            [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[7; 32]].concat().into(),
        ),
        merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
        transactions,
        total_size: 180,
        total_weight: 720,
        total_sigops: 0,
        limits: BlockLimits::CONSENSUS,
    })
}

fn payout(pooled: bool) -> Arc<Payout> {
    let terms = PoolTerms {
        pool: "pool:1".into(),
        prime_id: 7,
        min_difficulty: 0,
        coinbaser: None,
        settled: None,
        epoch: 1,
        series: 1,
        void_series: 0,
        void_now: Default::default(),
    };
    Arc::new(Payout {
        script: [0x51; 22].into(),
        tag_primary: b"fuzz".as_slice().into(),
        tag_secondary: b"ed".as_slice().into(),
        unique_id: 42,
        own_script: None,
        pooled: pooled.then_some(terms),
    })
}

/// Publishes work.
pub struct Desk {
    builder: JobBuilder,
    payout: Arc<Payout>,
    tip: u8,
    pub work: Work,
}

impl Desk {
    pub fn new(pooled: bool) -> Self {
        let mut builder = JobBuilder::new(1);
        let payout = payout(pooled);
        let job = builder.build(BuildJob::Classes, &template(1), &payout);
        let work = Work {
            jobs: [job].into(),
            announce: Announce::Now,
            upcoming: None,
            sequence: 1,
            admission: Admission::Open,
            void_series: 0,
        };
        Self { builder, payout, tip: 1, work }
    }

    /// Publishes what `how` selects: a tip, its full work, a refresh, or the end of work.
    pub fn publish(&mut self, how: u8) {
        let how = how % 5;
        let template = match how {
            0 => {
                self.tip = self.tip.wrapping_add(1);
                let full = template(self.tip);
                let tip = TipHeader {
                    height: full.height,
                    version: full.version,
                    prevhash: full.prevhash,
                    nbits: full.nbits,
                    curtime: full.curtime,
                    mintime: full.mintime,
                    subsidy: full.subsidy(),
                };
                Arc::new(Template::tip("fuzz".into(), &tip))
            }
            _ => template(self.tip),
        };
        let what = if how == 1 { BuildJob::Blank } else { BuildJob::Classes };
        let before = self.work.upcoming.take();
        let job = self.builder.build_with(what, &template, &self.payout, before.as_deref());
        self.work.upcoming = self.builder.build_upcoming(&job, 210_000, before);
        let older = self.work.jobs.iter().take(7).cloned();
        self.work.jobs = std::iter::once(job).chain(older).collect();
        let paced = Announce::Paced(Duration::from_secs(40));
        self.work.announce = if how == 2 { paced } else { Announce::Now };
        self.work.sequence += 1;
        self.work.admission =
            if how == 4 { Admission::Closed("fuzz".into()) } else { Admission::Open };
    }
}

/// Every fourth hash is a share.
pub fn config() -> Arc<Config> {
    let mut config = Config::with_address("bc1qnobody");
    let least = Difficulty::new(1e-9).expect("positive");
    (config.difficulty_min, config.difficulty_start) = (least, least);
    Arc::new(config)
}

/// An origin with room for some channels.
pub fn origin() -> Origin {
    let limits = ConnectionLimits { connections: CHANNELS, ..ConnectionLimits::NONE };
    Origin::standalone_within(limits, &Arc::default(), [1, 2, 3, 4], start())
}

const CHANNELS: usize = 40;
