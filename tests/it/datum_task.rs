//! The pool's task over real sockets: order of pools, returning after a loss, stopping.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::common::until;
use crate::datum_support::{
    Jobs, SCRIPT, ScriptedPool, TAG, configuration, pool_key, share, template,
};
use gatewayd::{
    datum::{
        Backoff, DatumConfig, Inputs, Lost, Pool, PoolConfig, PoolState, PoolStatus,
        message::{ShareReason, ShareResponse, ShareStatus, ToGateway, ToPool},
        spawn,
    },
    work::{Payout, PoolHealth, Template, Work},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A scripted pool behind a socket.
struct Peer {
    stream: TcpStream,
    pool: ScriptedPool,
}

impl Peer {
    /// Waits for a gateway, and welcomes and configures it.
    async fn accept(listener: &TcpListener) -> Self {
        Self::accept_as(listener, TAG).await
    }

    /// The same, with a tag of its own.
    async fn accept_as(listener: &TcpListener, tag: &[u8]) -> Self {
        let (mut stream, _) = patiently(listener.accept()).await.unwrap();
        let mut hello = Vec::with_capacity(4096);
        // HELLO has no length in the clear; it arrives in one piece on loopback.
        patiently(stream.read_buf(&mut hello)).await.unwrap();
        let mut pool = ScriptedPool::meet(&hello);
        let configuration = configuration(&SCRIPT, tag, 0);
        let bytes = [pool.response("hello"), pool.say(&configuration)].concat();
        stream.write_all(&bytes).await.unwrap();
        Self { stream, pool }
    }

    /// Reads until `count` shares have arrived, and returns their answers.
    async fn shares(&mut self, count: usize) -> Vec<ShareResponse> {
        let mut shares = Vec::new();
        while shares.len() < count {
            let mut bytes = Vec::with_capacity(65_536);
            let len = patiently(self.stream.read_buf(&mut bytes)).await.unwrap();
            assert_ne!(len, 0, "the gateway hung up");
            for plain in self.pool.receive(&bytes) {
                if let ToPool::Share(share) = ToPool::decode(&plain).unwrap() {
                    shares.push(ShareResponse {
                        status: ShareStatus::Accepted,
                        reason: ShareReason::NONE,
                        nonce: share.nonce,
                        target_byte: share.target_byte,
                        slot: share.slot,
                    });
                }
            }
        }
        shares
    }

    /// Reads one share and accepts it; returns its nonce.
    async fn accept_share(&mut self) -> u32 {
        let answers = self.shares(1).await;
        self.say(&ToGateway::ShareResponse(answers[0])).await;
        answers[0].nonce
    }

    async fn say(&mut self, message: &ToGateway<'_>) {
        let bytes = self.pool.say(message);
        self.stream.write_all(&bytes).await.unwrap();
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it took too long")
}

const PATIENCE: Duration = Duration::from_secs(20);

struct Gateway {
    configs: watch::Sender<Arc<DatumConfig>>,
    pool: Pool,
    task: JoinHandle<()>,
    templates: watch::Sender<Option<Arc<Template>>>,
    work: watch::Sender<Option<Arc<Work>>>,
    shutdown: CancellationToken,
    new_blocks: Arc<AtomicU32>,
}

impl Gateway {
    fn start(ports: &[u16]) -> Self {
        let pools = ports.iter().map(|port| PoolConfig {
            host: "127.0.0.1".into(),
            port: *port,
            public_key: pool_key(),
        });
        let config = DatumConfig {
            backoff: Backoff {
                quick: Duration::from_millis(10),
                least: Duration::from_millis(10),
                most: Duration::from_millis(50),
                lasted: Duration::ZERO,
                ..Backoff::default()
            },
            ..DatumConfig::new(pools.collect(), "addr".into())
        };
        let (templates, templates_watch) = watch::channel(None);
        let (work, work_watch) = watch::channel(None);
        let (shutdown, new_blocks) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let count = Arc::clone(&new_blocks);
        let inputs = Inputs {
            templates: templates_watch,
            work: work_watch,
            new_block: Arc::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
            shutdown: shutdown.clone(),
        };
        let (configs, configs_watch) = watch::channel(Arc::new(config));
        let (pool, task) = spawn(configs_watch, inputs);
        Self { configs, pool, task, templates, work, shutdown, new_blocks }
    }

    /// Configures these pools, in this order, holding no shares.
    fn want(&self, ports: &[u16]) {
        let old = DatumConfig::clone(&self.configs.borrow());
        let to = |port: &u16| PoolConfig { port: *port, ..old.pools[0].clone() };
        let pools = ports.iter().map(to).collect();
        let config = DatumConfig { pools, hold_shares: Duration::ZERO, ..old };
        self.configs.send_replace(Arc::new(config));
    }

    async fn status(&mut self, good: impl FnMut(&PoolStatus) -> bool) -> PoolStatus {
        patiently(self.pool.status.wait_for(good)).await.unwrap().clone()
    }

    async fn payout(&mut self) -> Arc<Payout> {
        let payout = patiently(self.pool.payout.wait_for(Option::is_some)).await.unwrap();
        payout.clone().unwrap()
    }

    async fn stats(&self, good: impl Fn(&gatewayd::datum::PoolStatsView) -> bool) {
        until("these figures", PATIENCE, || good(&self.pool.stats.view())).await;
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn shares_cross_a_connection_that_breaks_and_returns() {
    let (listener, port) = listener().await;
    let mut gateway = Gateway::start(&[port]);
    let mut peer = Peer::accept(&listener).await;
    let payout = gateway.payout().await;
    assert_eq!(&payout.tag_primary[..], TAG);
    let mut jobs = Jobs::new();
    let template = template(1, 10_000);
    let job = jobs.add(&template, &payout);
    gateway.templates.send_replace(Some(template));
    gateway.work.send_replace(Some(jobs.work()));
    peer.say(&ToGateway::NewBlock).await;

    gateway.pool.shares.send(vec![share(&job, 1), share(&job, 2)].into()).await.unwrap();
    let answers = peer.shares(2).await;
    peer.say(&ToGateway::ShareResponse(answers[0])).await;
    gateway.stats(|stats| stats.accepted == 1).await;
    assert_eq!(gateway.new_blocks.load(Ordering::Relaxed), 1);
    drop(peer);
    gateway.status(|status| matches!(status.state, PoolState::Down { .. })).await;
    gateway.pool.shares.send(vec![share(&job, 3)].into()).await.unwrap();

    let mut peer = Peer::accept(&listener).await;
    let answers = peer.shares(2).await;
    assert_eq!((answers[0].nonce, answers[1].nonce), (2, 3));
    for answer in answers {
        peer.say(&ToGateway::ShareResponse(answer)).await;
    }
    gateway.stats(|stats| stats.accepted == 3).await;
    let view = gateway.pool.stats.view();
    assert_eq!((view.received, view.lost_total(), view.held, view.awaiting), (3, 0, 0, 0));
    assert_eq!(view.connections, 2);
}

#[tokio::test]
async fn a_pool_that_never_stops_talking_holds_nothing_up() {
    let (listener, port) = listener().await;
    let mut gateway = Gateway::start(&[port]);
    let peer = Peer::accept(&listener).await;
    let job = Jobs::new().add(&template(1, 10_000), &gateway.payout().await);
    let Peer { stream, mut pool } = peer;
    let (_reader, mut writer) = stream.into_split();
    let flood = tokio::spawn(async move {
        loop {
            let hints: Vec<_> = (0..1000).flat_map(|_| pool.say(&ToGateway::NewBlock)).collect();
            if writer.write_all(&hints).await.is_err() {
                break;
            }
        }
    });
    gateway.pool.shares.send(vec![share(&job, 1)].into()).await.unwrap();
    gateway.stats(|stats| stats.received == 1).await;
    let began = tokio::time::Instant::now();
    let hints = || gateway.new_blocks.load(Ordering::Relaxed);
    until("hints go on", PATIENCE, || hints() >= 3).await;
    // At most one every 250 ms.
    let hints = hints();
    assert!(hints as u128 <= began.elapsed().as_millis() / 250 + 2, "{hints}");
    flood.abort();
}

#[tokio::test]
async fn the_next_pool_takes_over_and_the_first_is_preferred_again() {
    let (first, first_port) = listener().await;
    let (second, second_port) = listener().await;
    drop(first);
    let mut gateway = Gateway::start(&[first_port, second_port]);
    let peer = Peer::accept(&second).await;
    let up = gateway.status(|status| status.state == PoolState::Up).await;
    assert_eq!(*up.pool, *format!("127.0.0.1:{second_port}"));
    assert_eq!((&*up.motd, up.last_error), ("hello", None));

    let first = TcpListener::bind(("127.0.0.1", first_port)).await.unwrap();
    drop(peer);
    let _peer = Peer::accept(&first).await;
    gateway
        .status(|status| {
            status.state == PoolState::Up && *status.pool == *format!("127.0.0.1:{first_port}")
        })
        .await;
    let payout = gateway.payout().await;
    assert_eq!(*payout.pooled.as_ref().unwrap().pool, *format!("127.0.0.1:{first_port}"));
}

#[tokio::test]
async fn without_any_pool_the_status_says_so_and_there_is_no_payout() {
    let (gone, port) = listener().await;
    drop(gone);
    let mut gateway = Gateway::start(&[port]);
    let down = gateway.status(|status| matches!(status.state, PoolState::Down { .. })).await;
    assert!(down.last_error.unwrap().starts_with("no connection: "));
    assert!(gateway.pool.payout.borrow().is_none());
}

#[tokio::test]
async fn a_stopping_gateway_waits_for_answers_and_counts_the_rest_as_lost() {
    let (listener, port) = listener().await;
    let mut gateway = Gateway::start(&[port]);
    let mut peer = Peer::accept(&listener).await;
    let job = Jobs::new().add(&template(1, 10_000), &gateway.payout().await);
    gateway.pool.shares.send(vec![share(&job, 1), share(&job, 2)].into()).await.unwrap();
    gateway.shutdown.cancel();
    let answers = peer.shares(2).await;
    peer.say(&ToGateway::ShareResponse(answers[0])).await;
    patiently(gateway.task).await.unwrap();
    let view = gateway.pool.stats.view();
    assert_eq!((view.received, view.accepted), (2, 1));
    assert_eq!(view.lost, [(Lost::Shutdown, 1)]);
}

#[tokio::test]
async fn a_newly_configured_pool_takes_over_after_the_last_answers() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let mut gateway = Gateway::start(&[first_port]);
    let mut peer = Peer::accept(&first).await;
    let job = Jobs::new().add(&template(1, 10_000), &gateway.payout().await);
    gateway.pool.shares.send(vec![share(&job, 1), share(&job, 2)].into()).await.unwrap();
    let answers = peer.shares(2).await;
    let old = DatumConfig::clone(&gateway.configs.borrow());
    let to = |port| PoolConfig { port, ..old.pools[0].clone() };
    // One more after it: the one in use stays.
    let config = DatumConfig { pools: vec![to(first_port), to(second_port)], ..old.clone() };
    gateway.configs.send_replace(Arc::new(config));
    peer.say(&ToGateway::ShareResponse(answers[0])).await;
    gateway.stats(|view| view.accepted == 1).await;
    // Another one before it: the outstanding answer is awaited.
    let config = DatumConfig { pools: vec![to(second_port)], ..old.clone() };
    gateway.configs.send_replace(Arc::new(config));
    peer.say(&ToGateway::ShareResponse(answers[1])).await;
    gateway.stats(|view| view.accepted == 2).await;
    let mut peer = Peer::accept(&second).await;
    let name = format!("127.0.0.1:{second_port}");
    gateway.status(|status| status.state == PoolState::Up && *status.pool == *name).await;
    // Another tag: new terms, on the same connection.
    let now = DatumConfig::clone(&gateway.configs.borrow());
    let config = DatumConfig { tag_secondary: b"mine".as_slice().into(), ..now };
    gateway.configs.send_replace(Arc::new(config));
    let is_tagged = |payout: &Option<Arc<Payout>>| {
        payout.as_ref().is_some_and(|payout| &payout.tag_secondary[..] == b"mine")
    };
    let payout = patiently(gateway.pool.payout.wait_for(is_tagged)).await.unwrap().clone().unwrap();
    let job = Jobs::new().add(&template(1, 10_000), &payout);
    gateway.pool.shares.send(vec![share(&job, 3)].into()).await.unwrap();
    let answers = peer.shares(1).await;
    peer.say(&ToGateway::ShareResponse(answers[0])).await;
    gateway.stats(|view| view.accepted == 3).await;
    // None at all: idle, and there is no payout.
    gateway.configs.send_replace(Arc::new(DatumConfig { pools: Vec::new(), ..old }));
    patiently(gateway.pool.payout.wait_for(Option::is_none)).await.unwrap();
    let view = gateway.pool.stats.view();
    assert_eq!((view.received, view.lost_total()), (3, 0), "{view:?}");
}

/// Accepts connections and hangs up.
async fn hang_up(listener: &TcpListener) {
    let (mut stream, _) = patiently(listener.accept()).await.unwrap();
    let mut hello = Vec::with_capacity(4096);
    patiently(stream.read_buf(&mut hello)).await.unwrap();
}

#[tokio::test]
async fn a_pool_is_kept_until_the_next_one_has_proven_itself() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let mut gateway = Gateway::start(&[first_port]);
    let mut old = Peer::accept(&first).await;
    let old_payout = gateway.payout().await;
    let old_job = Jobs::new().add(&template(1, 10_000), &old_payout);
    gateway.status(|status| status.state == PoolState::Up).await;
    gateway.pool.health.mark_unchanged();

    // As with a mistyped key: it accepts the connection and then hangs up, again and again.
    gateway.want(&[second_port]);
    for nonce in 1..4 {
        hang_up(&second).await;
        gateway.pool.shares.send(vec![share(&old_job, nonce)].into()).await.unwrap();
        assert_eq!(old.accept_share().await, nonce);
    }
    let status = gateway.status(|status| status.next.iter().any(|it| it.failing.is_some())).await;
    assert_eq!(*status.pool, *format!("127.0.0.1:{first_port}"));
    assert_eq!(*status.next[0].pool, *format!("127.0.0.1:{second_port}"));
    assert_eq!(&*status.next[0].failing.as_ref().unwrap().1, "it closed the connection");

    // The old one is returned to if it was away in between.
    drop(old);
    let mut old = Peer::accept(&first).await;
    gateway.status(|status| status.state == PoolState::Up).await;
    assert_eq!(*gateway.pool.health.borrow_and_update(), PoolHealth::Up);
    let is_new = |payout: &Option<Arc<Payout>>| *payout.as_ref().unwrap() != old_payout;
    let old_payout = patiently(gateway.pool.payout.wait_for(is_new)).await.unwrap().clone();
    let mut jobs = Jobs::new();
    let old_job = jobs.add(&template(1, 10_000), old_payout.as_ref().unwrap());
    gateway.pool.shares.send(vec![share(&old_job, 4)].into()).await.unwrap();
    assert_eq!(old.shares(1).await[0].nonce, 4);

    let mut new = Peer::accept_as(&second, b"next").await;
    gateway.status(|status| *status.pool == *format!("127.0.0.1:{second_port}")).await;
    let status = gateway.pool.status.borrow().clone();
    assert_eq!((status.state, status.next, status.last_error), (PoolState::Up, vec![], None));
    let payout = gateway.payout().await;
    assert_eq!(&payout.tag_primary[..], b"next");
    let new_job = jobs.add(&template(1, 10_000), &payout);
    // Each gets the shares of its own work, and answers late ones.
    let shares = vec![share(&new_job, 5), share(&old_job, 6), share(&new_job, 7)];
    gateway.pool.shares.send(shares.into()).await.unwrap();
    assert_eq!(old.accept_share().await, 6);
    for answer in new.shares(2).await {
        assert!([5, 7].contains(&answer.nonce));
        new.say(&ToGateway::ShareResponse(answer)).await;
    }
    gateway.stats(|view| view.accepted == 6).await;
    let view = gateway.pool.stats.view();
    // Number 4 is still awaiting its answer.
    assert_eq!((view.received, view.lost_total(), view.held, view.awaiting), (7, 0, 0, 1));
    assert!(!gateway.pool.health.has_changed().unwrap());
}

#[tokio::test]
async fn a_pool_that_stays_configured_is_left_for_a_better_one_only_once_that_works() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let mut gateway = Gateway::start(&[first_port]);
    let mut old = Peer::accept(&first).await;
    let job = Jobs::new().add(&template(1, 10_000), &gateway.payout().await);
    gateway.want(&[second_port, first_port]);
    hang_up(&second).await;
    gateway.status(|status| status.next.iter().any(|it| it.failing.is_some())).await;
    // The same pools again: nothing restarts.
    gateway.want(&[second_port, first_port]);
    hang_up(&second).await;
    gateway.pool.shares.send(vec![share(&job, 1)].into()).await.unwrap();
    assert_eq!(old.accept_share().await, 1);
    gateway.status(|status| status.state == PoolState::Up && status.next.len() == 1).await;
    // From here on they are simply tried in order.
    drop((old, second));
    let _old = Peer::accept(&first).await;
    gateway.status(|status| status.state == PoolState::Up && status.next.is_empty()).await;
}

#[tokio::test]
async fn a_pool_that_is_left_answers_before_the_gateway_stops() {
    let ((first, first_port), (second, second_port)) = (listener().await, listener().await);
    let mut gateway = Gateway::start(&[first_port]);
    let mut old = Peer::accept(&first).await;
    let job = Jobs::new().add(&template(1, 10_000), &gateway.payout().await);
    gateway.pool.shares.send(vec![share(&job, 1), share(&job, 2)].into()).await.unwrap();
    let answers = old.shares(2).await;
    gateway.want(&[second_port]);
    let _new = Peer::accept_as(&second, b"next").await;
    gateway.status(|status| *status.pool == *format!("127.0.0.1:{second_port}")).await;
    gateway.shutdown.cancel();
    old.say(&ToGateway::ShareResponse(answers[1])).await;
    old.say(&ToGateway::ShareResponse(answers[0])).await;
    patiently(gateway.task).await.unwrap();
    let view = gateway.pool.stats.view();
    assert_eq!((view.received, view.accepted, view.lost_total()), (2, 2, 0));
}
