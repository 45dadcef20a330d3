//! The client's task against the devnet pool, which checks every byte, with mined shares.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{common::until, datum_support::template};
use gatewayd::{
    datum::{
        self, Backoff, DatumConfig, Inputs, PoolState, PoolStatsView, PublicIdentity,
        message::ShareReason,
    },
    devnet::pool::{Fault, Habits, Pool, PoolConfig, PoolHandle, PoolOptions},
    validate::{self, Assignment, SeenShares, ShareContext},
    work::{
        Admission, Announce, BuildJob, CoinbaseClass, Difficulty, Hash256, Job, JobBuilder, Payout,
        Share, Submission, SubmittedVersion, Template, TemplateKind, TemplateTx, Username, Work,
    },
};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

struct Rig {
    pool: PoolHandle,
    gateway: datum::Pool,
    templates: watch::Sender<Option<Arc<Template>>>,
    work: watch::Sender<Option<Arc<Work>>>,
    builder: JobBuilder,
    jobs: Vec<Arc<Job>>,
    seen: SeenShares,
    nonce: u32,
    mined: u64,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Rig {
    async fn start(config: PoolConfig) -> Self {
        let options = PoolOptions { config, ..PoolOptions::default() };
        let pool = Pool::start(options, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let config = DatumConfig {
            backoff: Backoff {
                quick: Duration::from_millis(20),
                least: Duration::from_millis(20),
                most: Duration::from_millis(100),
                lasted: Duration::ZERO,
                ..Backoff::default()
            },
            ..DatumConfig::new(
                vec![datum::PoolConfig {
                    host: "127.0.0.1".into(),
                    port: pool.addr.port(),
                    public_key: PublicIdentity::from_hex(&pool.public_key_hex()).unwrap(),
                }],
                "addr".into(),
            )
        };
        let (templates, templates_watch) = watch::channel(None);
        let (work, work_watch) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let (gateway, _task) = datum::spawn(
            watch::channel(Arc::new(config)).1,
            Inputs {
                templates: templates_watch,
                work: work_watch,
                new_block: Arc::new(|| ()),
                shutdown: shutdown.clone(),
            },
        );
        Self {
            pool,
            gateway,
            templates,
            work,
            builder: JobBuilder::new(1),
            jobs: Vec::new(),
            seen: SeenShares::default(),
            nonce: 0,
            mined: 0,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Publishes a template and waits for the payout with its split.
    async fn template(&mut self, tip: u8) -> (Arc<Template>, Arc<Payout>) {
        let template = live_template(tip);
        self.templates.send_replace(Some(Arc::clone(&template)));
        let settled = |payout: &Option<Arc<Payout>>| {
            let terms = payout.as_ref().and_then(|payout| payout.pooled.as_ref());
            terms.and_then(|terms| terms.settled).is_some_and(|settled| {
                settled.prevhash == template.prevhash && settled.value == template.coinbase_value
            })
        };
        let payout = patiently(self.gateway.payout.wait_for(settled)).await.unwrap().clone();
        (template, payout.unwrap())
    }

    fn job(&mut self, what: BuildJob, template: &Arc<Template>, payout: &Arc<Payout>) -> Arc<Job> {
        let job = self.builder.build(what, template, payout);
        self.publish(&job);
        job
    }

    fn publish(&mut self, job: &Arc<Job>) {
        self.jobs.insert(0, Arc::clone(job));
        self.work.send_replace(Some(Arc::new(Work {
            jobs: self.jobs.clone().into(),
            announce: Announce::Now,
            upcoming: None,
            sequence: self.jobs.len() as u64,
            admission: Admission::Open,
            void_series: 0,
        })));
    }

    /// Mines shares as a miner of this class would.
    fn mine(
        &mut self,
        job: &Arc<Job>,
        class: CoinbaseClass,
        quickdiff: bool,
        count: usize,
    ) -> Vec<Share> {
        let assignment = Assignment::new(class, difficulty(), quickdiff);
        let username = Username("addr.rig".into());
        let (mut shares, mut scratch) = (Vec::new(), Vec::new());
        // From a new miner each time: a single one may send only a limited number for a job.
        self.seen = SeenShares::default();
        while shares.len() < count {
            self.nonce += 1;
            let submission = Submission {
                extranonce: [7; 12],
                ntime: now(),
                nonce: self.nonce,
                version: SubmittedVersion::Rolled(self.nonce << 13 & 0x1fff_e000),
                version_mask: 0x1fff_e000,
            };
            let moment =
                ShareContext { tip: job.prevhash(), expired: false, ntime_max: submission.ntime };
            let verdict = validate::check(
                job,
                &assignment,
                validate::RootSource::Coinbase,
                &submission,
                &moment,
                &username,
                &mut self.seen,
                &mut scratch,
            );
            shares.extend(verdict.share.ok());
        }
        self.mined += count as u64;
        shares
    }

    async fn send(&self, shares: Vec<Share>) {
        self.gateway.shares.send(shares.into()).await.unwrap();
    }

    /// Waits until the outcome of every share is known.
    async fn settled(&self) -> PoolStatsView {
        let all = async {
            loop {
                let view = self.gateway.stats.view();
                let answered = view.accepted + view.rejected_total() + view.unanswered;
                let ended = answered + view.lost_total();
                // The counters are read one by one: the last answers may arrive in between.
                if (view.received, ended, view.held + view.awaiting) == (self.mined, self.mined, 0)
                {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        patiently(all).await
    }

    async fn state(&mut self, good: impl Fn(&PoolState) -> bool) {
        patiently(self.gateway.status.wait_for(|status| good(&status.state))).await.unwrap();
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it took too long")
}

const PATIENCE: Duration = Duration::from_secs(30);

fn now() -> u32 {
    u32::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// So easy that a share takes only a few hashes, at target byte 0.
fn difficulty() -> Difficulty {
    Difficulty::pow2(-28)
}

/// With totals that agree with its transactions, as the pool checks them.
fn live_template(tip: u8) -> Arc<Template> {
    let model = template(tip, 5_000_003_000);
    let transactions: Vec<TemplateTx> = model.transactions.to_vec();
    Arc::new(Template {
        source: Arc::clone(&model.source),
        curtime: now(),
        height: 200 + u32::from(tip),
        total_size: transactions.iter().map(|tx| u32::try_from(tx.raw.len()).unwrap()).sum(),
        transactions: transactions.into(),
        merkle_branches: model.merkle_branches.clone(),
        witness_commitment: model.witness_commitment.clone(),
        prevhash: Hash256([tip; 32]),
        ..*model
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pool_accepts_shares_of_every_class_and_sees_the_template() {
    let mut rig = Rig::start(PoolConfig::default()).await;
    let (template, payout) = rig.template(1).await;
    assert!(payout.pooled.as_ref().unwrap().coinbaser.is_some());
    let job = rig.job(BuildJob::Classes, &template, &payout);
    let empty = rig.job(BuildJob::SubsidyOnly, &template, &payout);
    let blank = rig.job(BuildJob::Blank, &template, &payout);
    for class in CoinbaseClass::CLASSES {
        for quickdiff in [false, true] {
            let shares = rig.mine(&job, class, quickdiff, 5);
            rig.send(shares).await;
        }
    }
    for (job, quickdiff) in [(&empty, false), (&empty, true), (&blank, false)] {
        let shares = rig.mine(job, CoinbaseClass::S21, quickdiff, 5);
        rig.send(shares).await;
    }
    let view = rig.settled().await;
    assert_eq!((view.accepted, view.rejected, view.lost), (75, vec![], vec![]));
    let pool = rig.pool.stats();
    let classes = BTreeMap::from([(0, 15), (1, 10), (2, 10), (3, 10), (4, 10), (5, 10), (255, 10)]);
    assert_eq!((pool.accepted, &pool.accepted_by_class), (75, &classes));
    assert_eq!(pool.accepted_by_user["addr.rig"], 75);
    assert!(pool.splits_max == 20 && pool.blocks > 10 && pool.blocks_misflagged == 0, "{pool:?}");
    until("templates are checked", PATIENCE, || rig.pool.stats().validations_ok >= 6).await;
    let pool = rig.pool.stats();
    assert_eq!((pool.validations_failed, pool.validations_refused), (0, 0), "{pool:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_goes_away_and_returns_gets_every_share_once() {
    let mut rig = Rig::start(PoolConfig::default()).await;
    let (template, payout) = rig.template(1).await;
    let job = rig.job(BuildJob::Classes, &template, &payout);
    let shares = rig.mine(&job, CoinbaseClass::Default, false, 20);
    rig.send(shares).await;
    rig.settled().await;

    // The pool counts these, but its answers never come.
    rig.pool.set_fault(Some(Fault::SilentShares));
    let shares = rig.mine(&job, CoinbaseClass::S21, false, 10);
    rig.send(shares).await;
    until("the pool counts them", PATIENCE, || rig.pool.stats().accepted >= 30).await;
    rig.pool.stop().await;
    rig.state(|state| matches!(state, PoolState::Down { .. })).await;
    rig.pool.set_fault(None);

    // There is no pool for these.
    let shares = rig.mine(&job, CoinbaseClass::Small, false, 30);
    rig.send(shares).await;
    until("they are held", PATIENCE, || rig.gateway.stats.view().held >= 40).await;
    rig.pool.restart().await.unwrap();
    rig.state(|state| *state == PoolState::Up).await;

    let view = rig.settled().await;
    assert_eq!((view.accepted, view.rejected_total(), view.lost_total()), (60, 0, 0));
    assert_eq!((view.replayed, view.connections), (10, 2));
    let pool = rig.pool.stats();
    assert_eq!(pool.accepted, view.accepted, "the pool's count is the gateway's");
    assert_eq!(pool.rejected_by, BTreeMap::from([(ShareReason::DUPLICATE, 10)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_terms_reach_the_work_and_its_shares_are_accepted() {
    let mut rig = Rig::start(PoolConfig::default()).await;
    let (template, payout) = rig.template(1).await;
    let old = rig.job(BuildJob::Classes, &template, &payout);
    let terms = PoolConfig { tag: b"another tag".to_vec(), ..rig.pool.config() };
    rig.pool.set_config(terms);
    let changed = |payout: &Option<Arc<Payout>>| {
        payout.as_ref().is_some_and(|payout| {
            let terms = payout.pooled.as_ref().unwrap();
            *payout.tag_primary == *b"another tag" && terms.coinbaser.is_some()
        })
    };
    let payout = patiently(rig.gateway.payout.wait_for(changed)).await.unwrap().clone().unwrap();
    let new = rig.job(BuildJob::Classes, &template, &payout);
    for job in [&old, &new] {
        let shares = rig.mine(job, CoinbaseClass::Default, false, 5);
        rig.send(shares).await;
    }
    let view = rig.settled().await;
    assert_eq!((view.accepted, view.rejected), (10, vec![]));
}

/// `benches/outages` runs it: it takes a minute and a half, because it waits for timeouts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute and a half long: benches/outages"]
async fn a_hundred_thousand_shares_of_which_every_third_is_unanswered() {
    const SHARES: usize = 100_000;
    let mut rig = Rig::start(PoolConfig::default()).await;
    rig.pool.set_habits(Habits {
        unanswered_every: 3,
        blank_rejections: true,
        ..rig.pool.habits()
    });
    let (template, payout) = rig.template(1).await;
    let job = rig.job(BuildJob::Classes, &template, &payout);
    let mut resident = Vec::new();
    for at in 0..SHARES / 500 {
        let mut shares = rig.mine(&job, CoinbaseClass::Default, false, 500);
        // One in ten is refused: it has the wrong hash.
        shares.iter_mut().step_by(10).for_each(|share| share.extranonce = [9; 12]);
        rig.send(shares).await;
        if at % 40 == 39 {
            resident.push(resident_kib());
        }
    }
    let heard = |stats: &gatewayd::devnet::pool::PoolStatsView| stats.accepted + stats.rejected;
    until("all are heard", PATIENCE, || heard(&rig.pool.stats()) >= SHARES as u64).await;
    let last = std::time::Instant::now();
    // Those without an answer are given up after a minute.
    let none_awaits = || rig.gateway.stats.view().awaiting == 0;
    until("no share awaits its answer", Duration::from_secs(70), none_awaits).await;
    let view = rig.gateway.stats.view();
    let ended = view.accepted + view.rejected_total() + view.lost_total() + view.unanswered;
    assert_eq!((ended, view.held, view.lost_total()), (SHARES as u64, 0, 0), "{view:?}");
    assert!(view.unanswered >= SHARES as u64 / 3 - 1 && view.rejected_total() > 0, "{view:?}");
    resident.push(resident_kib());
    println!(
        "{} accepted, {} rejected, {} unanswered, awaiting 0 after {:.1?}; resident KiB {resident:?}",
        view.accepted,
        view.rejected_total(),
        view.unanswered,
        last.elapsed()
    );
    assert!(resident[4] < resident[0] + 64 * 1024, "{resident:?}");
}

/// Memory of this process.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Its number was assigned with the first job on the last tip, long before the later jobs on that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_and_blocks_on_a_tips_first_job_reach_the_pool_however_often_the_last_was_refreshed()
{
    let mut rig = Rig::start(PoolConfig::default()).await;
    let (template, payout) = rig.template(1).await;
    let first = rig.job(BuildJob::Classes, &template, &payout);
    let upcoming = rig.builder.build_upcoming(&first, 1000, None).unwrap();
    for _ in 0..12 {
        let job = rig.job(BuildJob::Classes, &template, &payout);
        let shares = rig.mine(&job, CoinbaseClass::Default, false, 1);
        rig.send(shares).await;
    }
    let last = Arc::clone(&rig.jobs[0]);
    let mut tip = Arc::into_inner(live_template(2)).unwrap();
    (tip.kind, tip.height) = (TemplateKind::Tip, template.height + 1);
    (tip.coinbase_value, tip.fees) = (template.subsidy(), 0);
    (tip.transactions, tip.merkle_branches) = (Box::default(), Box::default());
    (tip.total_size, tip.total_weight, tip.total_sigops) = (0, 0, 0);
    let tip = Arc::new(tip);
    let empty = rig.builder.build_with(BuildJob::SubsidyOnly, &tip, &payout, Some(&upcoming));
    assert!(empty.id == upcoming.id && empty.is_empty());
    rig.publish(&empty);
    // All of them are blocks as well: on regtest a share is harder to find.
    let shares = rig.mine(&empty, CoinbaseClass::Default, false, 12);
    assert!(shares.iter().all(|share| share.is_block));
    rig.send(shares).await;
    // One on the old tip arrives late.
    let late = rig.mine(&last, CoinbaseClass::Default, false, 1);
    let flagged = rig.pool.stats().blocks_flagged;
    rig.send(late).await;
    let view = rig.settled().await;
    assert_eq!((view.accepted, view.lost_total()), (25, 0), "{view:?} {:?}", rig.pool.stats());
    let stats = rig.pool.stats();
    assert!(stats.blocks_flagged > flagged && stats.blocks_misflagged == 0, "{stats:?}");
    assert_eq!(stats.accepted_by_class.get(&0xFF), Some(&12), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_survives_any_fault_of_the_pool_and_recovers() {
    for fault in [
        Fault::BadResponseSignature,
        Fault::WrongEcho,
        Fault::BadMac,
        Fault::TruncatedConfiguration,
        Fault::UnsignedConfiguration,
        Fault::OverpayingCoinbaser,
        Fault::LyingCoinbaser,
        Fault::ImpossibleScripts,
        Fault::UnaskedCoinbaser,
        Fault::DisconnectOnShare,
        Fault::RefuseConnections,
    ] {
        let mut rig = Rig::start(PoolConfig::default()).await;
        let (template, payout) = rig.template(1).await;
        let job = rig.job(BuildJob::Classes, &template, &payout);
        rig.pool.set_fault(Some(fault));
        let coinbaser = matches!(
            fault,
            Fault::OverpayingCoinbaser
                | Fault::LyingCoinbaser
                | Fault::ImpossibleScripts
                | Fault::UnaskedCoinbaser
        );
        if coinbaser {
            // The last good split was for the same value, and is valid again.
            let (_, payout) = rig.template(1).await;
            assert!(payout.pooled.as_ref().unwrap().coinbaser.is_some(), "{fault:?}");
        } else {
            rig.pool.disconnect_all();
            let down = rig.gateway.status.wait_for(|status| status.last_error.is_some());
            patiently(down).await.unwrap();
        }
        let shares = rig.mine(&job, CoinbaseClass::Default, false, 5);
        let sent = rig.mined;
        rig.send(shares).await;
        let taken = || rig.gateway.stats.view().received >= sent;
        until("the shares are sent or held", PATIENCE, taken).await;
        rig.pool.set_fault(None);
        let view = rig.settled().await;
        assert_eq!((view.accepted, view.lost_total()), (5, 0), "{fault:?}: {view:?}");
    }
}
