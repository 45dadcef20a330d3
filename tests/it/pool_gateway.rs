//! gatewayd's own DATUM client against the devnet pool, over real sockets: shares of every class,
//! splits, validations, and a pool that dies and comes back.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::common::until;
use crate::datum_support::{Jobs, template};
use gatewayd::{
    datum::{
        Backoff, DatumConfig, Inputs, Pool as Client, PoolConfig as Upstream, PublicIdentity, spawn,
    },
    devnet::pool::{Fault, Pool, PoolHandle, PoolOptions},
    work::{
        Coinbase, CoinbaseClass, Hash256, Job, Payout, Share, Template, Username, Variant, Work,
        merkle,
    },
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

struct Gateway {
    client: Client,
    _task: JoinHandle<()>,
    templates: watch::Sender<Option<Arc<Template>>>,
    work: watch::Sender<Option<Arc<Work>>>,
    shutdown: CancellationToken,
    next_nonce: u32,
}

impl Gateway {
    fn start(pool: &PoolHandle) -> Self {
        let public_key = PublicIdentity::from_hex(&pool.public_key_hex()).unwrap();
        let upstream = Upstream { host: "127.0.0.1".into(), port: pool.addr.port(), public_key };
        let (quick, least) = (Duration::from_millis(10), Duration::from_millis(10));
        let most = Duration::from_millis(50);
        let backoff = Backoff { quick, least, most, lasted: Duration::ZERO, ..Backoff::default() };
        let config = DatumConfig { backoff, ..DatumConfig::new(vec![upstream], "addr".to_owned()) };
        let (templates, templates_watch) = watch::channel(None);
        let (work, work_watch) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let inputs = Inputs {
            templates: templates_watch,
            work: work_watch,
            new_block: Arc::new(|| {}),
            shutdown: shutdown.clone(),
        };
        let (client, task) = spawn(watch::channel(Arc::new(config)).1, inputs);
        Self { client, _task: task, templates, work, shutdown, next_nonce: 0 }
    }

    async fn payout(&mut self, good: impl Fn(&Payout) -> bool) -> Arc<Payout> {
        let good = |payout: &Option<Arc<Payout>>| payout.as_deref().is_some_and(&good);
        patiently(self.client.payout.wait_for(good)).await.unwrap().clone().unwrap()
    }

    /// A template's work once the pool has sent its split.
    async fn job(&mut self, jobs: &mut Jobs, template: &Arc<Template>) -> Arc<Job> {
        self.payout(|_| true).await;
        self.templates.send_replace(Some(Arc::clone(template)));
        let has_split = |payout: &Payout| {
            let split = payout.pooled.as_ref().and_then(|terms| terms.coinbaser.as_ref());
            split.is_some_and(|split| split.request.prevhash == template.prevhash)
        };
        let payout = self.payout(has_split).await;
        let job = jobs.add(template, &payout);
        self.work.send_replace(Some(jobs.work()));
        job
    }

    /// A share that meets the block target.
    fn mine(&mut self, job: &Arc<Job>, coinbase: &Coinbase) -> Share {
        let extranonce = [5; 12];
        let mut bytes = Vec::new();
        coinbase.write(Variant { target_byte: 0, quickdiff: false }, &extranonce, &mut bytes);
        let root = merkle::root(Hash256::sha256d(&bytes), job.branches());
        let ntime = job.template.curtime;
        let hash_of = |nonce| Hash256::sha256d(&job.header(job.version, &root, ntime, nonce));
        let solves = |nonce: &u32| job.block_target.is_met_by(&hash_of(*nonce));
        let nonce = (self.next_nonce..).find(solves).unwrap();
        self.next_nonce = nonce + 1;
        Share {
            job: Arc::clone(job),
            coinbase_id: coinbase.id,
            quickdiff: false,
            target_byte: 0,
            difficulty: 1e-9,
            extranonce,
            ntime,
            nonce,
            version: job.version,
            hash: hash_of(nonce),
            is_block: true,
            username: Username("addr.rig".into()),
            miner: 0,
        }
    }

    async fn submit(&mut self, job: &Arc<Job>, class: CoinbaseClass) {
        let share = self.mine(job, job.coinbase(class));
        self.client.shares.send(vec![share].into()).await.unwrap();
    }

    /// Waits until `count` shares were accepted.
    async fn accepted(&self, count: u64) {
        until("shares are accepted", PATIENCE, || self.client.stats.view().accepted >= count).await;
        let view = self.client.stats.view();
        assert_eq!((view.accepted, view.rejected.as_slice()), (count, [].as_slice()));
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it took too long")
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn pool() -> PoolHandle {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Pool::start(PoolOptions::default(), listen).await.unwrap()
}

#[allow(clippy::disallowed_methods, reason = "the pool reads the clock too")]
fn now_template(tip: u8) -> Arc<Template> {
    let mut template = template(tip, 2_500_003_000);
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let inner = Arc::get_mut(&mut template).unwrap();
    inner.curtime = u32::try_from(unix).unwrap();
    inner.total_size =
        inner.transactions.iter().map(|tx| u32::try_from(tx.raw.len()).unwrap()).sum();
    template
}

#[tokio::test]
async fn every_class_is_accepted_and_the_template_validated() {
    let pool = pool().await;
    let (mut gateway, mut jobs) = (Gateway::start(&pool), Jobs::new());
    for tip in 1..=3 {
        let job = gateway.job(&mut jobs, &now_template(tip)).await;
        for class in CoinbaseClass::CLASSES {
            gateway.submit(&job, class).await;
        }
    }
    gateway.accepted(18).await;
    until("all forms are checked", PATIENCE, || {
        assert_eq!(pool.stats().last_validation_failure, None);
        pool.stats().validations_by_form == [3, 3, 3]
    })
    .await;
    let stats = pool.stats();
    assert_eq!((stats.accepted, stats.rejected, stats.blocks), (18, 0, 18));
    assert_eq!((stats.splits_max, stats.accepted_by_class.len()), (20, 6));
    assert_eq!((stats.validations_failed, stats.validations_refused), (0, 0));
    gateway.shutdown.cancel();
}

#[tokio::test]
async fn shares_survive_a_pool_that_dies_and_one_that_hangs_up() {
    let pool = pool().await;
    let (mut gateway, mut jobs) = (Gateway::start(&pool), Jobs::new());
    let job = gateway.job(&mut jobs, &now_template(1)).await;
    gateway.submit(&job, CoinbaseClass::Huge).await;
    gateway.accepted(1).await;
    pool.stop().await;
    gateway.submit(&job, CoinbaseClass::Huge).await;
    gateway.submit(&job, CoinbaseClass::Small).await;
    pool.restart().await.unwrap();
    gateway.accepted(3).await;
    // Counted, but not answered: sent again, it is a duplicate, which means accepted.
    pool.set_fault(Some(Fault::DisconnectOnShare));
    gateway.submit(&job, CoinbaseClass::Huge).await;
    until("the pool counts it", PATIENCE, || pool.stats().accepted >= 4).await;
    pool.set_fault(None);
    gateway.accepted(4).await;
    assert_eq!(pool.stats().accepted, 4);
    gateway.shutdown.cancel();
}
