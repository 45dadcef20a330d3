//! Work for tests, here and in the protocols.

use std::sync::Arc;

use crate::work::{
    Admission, Announce, BlockLimits, BuildJob, Hash256, Job, JobBuilder, Nbits, Payout, PoolTerms,
    Template, TemplateKind, TemplateTx, TipHeader, VoidNow, Work,
};

pub(crate) const CURTIME: u32 = 1_700_000_000;
pub(crate) const MINTIME: u32 = CURTIME - 3000;
/// A block is out of reach.
pub(crate) const HARD: u32 = 0x1d00_ffff;
/// Every second hash is a block.
pub(crate) const EASY: u32 = 0x207f_ffff;

/// What a node's first announcement of the same tip contains.
pub(crate) fn tip(tip: u8, nbits: u32) -> Arc<Template> {
    let full = template(tip, nbits, 0);
    let header = TipHeader {
        height: full.height,
        version: full.version,
        prevhash: full.prevhash,
        nbits: full.nbits,
        curtime: CURTIME,
        mintime: MINTIME,
        subsidy: full.subsidy(),
    };
    Arc::new(Template::tip("test".into(), &header))
}

/// A full template on tip `tip`, with `transactions` of made-up content.
pub(crate) fn template(tip: u8, nbits: u32, transactions: u32) -> Arc<Template> {
    let transactions: Box<[TemplateTx]> = (1..=transactions)
        .map(|i| {
            let raw = i.to_le_bytes().to_vec();
            let txid = Hash256::sha256d(&raw);
            TemplateTx { txid, wtxid: txid, raw: raw.into(), fee: 10, weight: 16, sigops: 0 }
        })
        .collect();
    let fees = 10 * transactions.len() as u64;
    Arc::new(Template {
        source: "test".into(),
        kind: TemplateKind::Full,
        height: 840_000 + u32::from(tip),
        version: 0x2000_0000,
        prevhash: Hash256([tip; 32]),
        nbits: Nbits::new(nbits).unwrap(),
        curtime: CURTIME,
        mintime: MINTIME,
        coinbase_value: 312_500_000 + fees,
        fees,
        witness_commitment: Some([0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed].into()),
        merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
        transactions,
        total_size: 0,
        total_weight: 0,
        total_sigops: 0,
        limits: BlockLimits::CONSENSUS,
    })
}

pub(crate) fn solo() -> Arc<Payout> {
    Arc::new(Payout {
        script: [0x51].into(),
        tag_primary: b"gatewayd".as_slice().into(),
        tag_secondary: [].into(),
        unique_id: 4242,
        own_script: None,
        pooled: None,
    })
}

pub(crate) fn pooled(min_difficulty: u64) -> Arc<Payout> {
    let mut payout = Payout::clone(&solo());
    payout.pooled = Some(PoolTerms {
        pool: "pool:1".into(),
        prime_id: 7,
        min_difficulty,
        coinbaser: None,
        settled: None,
        epoch: 1,
        series: 1,
        void_series: 0,
        void_now: VoidNow::default(),
    });
    Arc::new(payout)
}

/// Publishes work as the assembler would.
pub(crate) struct WorkFeed {
    builder: JobBuilder,
    pub(crate) work: Work,
}

impl WorkFeed {
    pub(crate) fn new(nbits: u32, payout: &Arc<Payout>) -> Self {
        let mut builder = JobBuilder::new(0x1f);
        let job = builder.build(BuildJob::Classes, &template(1, nbits, 5), payout);
        let work = Work {
            jobs: [job].into(),
            announce: Announce::Now,
            upcoming: None,
            sequence: 1,
            admission: Admission::Open,
            void_series: 0,
        };
        Self { builder, work }
    }

    pub(crate) fn publish(
        &mut self,
        what: BuildJob,
        template: &Arc<Template>,
        payout: &Arc<Payout>,
        announce: Announce,
    ) -> Arc<Job> {
        let before = self.work.upcoming.take();
        let job = self.builder.build_with(what, template, payout, before.as_deref());
        self.work.upcoming = self.builder.build_upcoming(&job, 210_000, before);
        let older = self.work.jobs.iter().take(15).cloned();
        let jobs = std::iter::once(Arc::clone(&job)).chain(older).collect();
        self.work.announce = announce;
        self.work.jobs = jobs;
        self.work.sequence += 1;
        job
    }
}
