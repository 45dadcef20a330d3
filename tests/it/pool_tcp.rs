//! The devnet pool over real sockets: welcomes, changes its terms, stops and comes back.

use std::{net::SocketAddr, time::Duration};

use gatewayd::{
    datum::{
        Handshake, Identity, Link, PublicIdentity, check_coinbaser, command,
        message::{ToGateway, ToPool},
    },
    devnet::pool::{Fault, Habits, Pool, PoolConfig, PoolHandle, PoolOptions, PrimeIds},
    work::{CoinbaserRequest, Hash256},
};
use rand::rngs::OsRng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

struct Gateway {
    stream: TcpStream,
    handshake: Handshake,
    link: Link,
}

impl Gateway {
    async fn connect(pool: &PoolHandle) -> Option<Self> {
        let public = PublicIdentity::from_hex(&pool.public_key_hex()).unwrap();
        let long_term = Identity::generate(&mut OsRng);
        let mut out = Vec::new();
        let (handshake, link) =
            Handshake::start(&long_term, public, "test", &mut OsRng, &mut out).unwrap();
        let mut stream = TcpStream::connect(pool.addr).await.ok()?;
        stream.write_all(&out).await.ok()?;
        let mut gateway = Self { stream, handshake, link };
        let response = gateway.frame().await?;
        gateway.handshake.finish(&response, &mut gateway.link).ok()?;
        Some(gateway)
    }

    /// The next frame; none when the pool hangs up.
    async fn frame(&mut self) -> Option<gatewayd::datum::Frame> {
        loop {
            if let Some(frame) = self.link.next(self.handshake.session()).unwrap() {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            let read = timeout(Duration::from_secs(10), self.stream.read(&mut bytes)).await;
            match read.expect("the pool says something or hangs up") {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.link.push(&bytes[..len]),
            }
        }
    }

    /// The next mining message for which `pick` returns something.
    async fn next<T>(&mut self, pick: impl Fn(ToGateway<'_>) -> Option<T>) -> Option<T> {
        loop {
            let frame = self.frame().await?;
            if frame.header.command == command::MINING
                && let Some(found) = pick(ToGateway::decode(frame.unchecked()).unwrap())
            {
                return Some(found);
            }
        }
    }

    async fn tag(&mut self) -> Vec<u8> {
        let pick = |message: ToGateway<'_>| match message {
            ToGateway::Configuration(configuration) => Some(configuration.tag.to_vec()),
            _ => None,
        };
        self.next(pick).await.unwrap()
    }

    async fn say(&mut self, message: &ToPool<'_>) {
        let mut out = Vec::new();
        self.link.write_channel(None, &mut out, |plain| message.encode(plain)).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }
}

async fn start() -> PoolHandle {
    let keepalive = Duration::from_millis(50);
    let config = PoolConfig { tag: b"first".to_vec(), keepalive, ..PoolConfig::default() };
    let options = PoolOptions { config, ..PoolOptions::default() };
    Pool::start(options, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

#[tokio::test]
async fn terms_change_live_and_splits_are_sent() {
    let pool = start().await;
    let mut gateway = Gateway::connect(&pool).await.unwrap();
    assert_eq!(gateway.tag().await, b"first");
    pool.set_config(PoolConfig { tag: b"second".to_vec(), ..pool.config() });
    assert_eq!(gateway.tag().await, b"second");
    let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: 5_000_000_000 };
    gateway.say(&ToPool::FetchCoinbaser { request, padding: &[1; 4] }).await;
    let pick = |message: ToGateway<'_>| match message {
        ToGateway::Coinbaser(message) => Some(check_coinbaser(&message, request).unwrap()),
        _ => None,
    };
    let checked = gateway.next(pick).await.unwrap();
    assert_eq!((checked.coinbaser.outputs.len(), checked.cut_at), (20, None));
    pool.notify_new_block();
    let pick = |message: ToGateway<'_>| matches!(message, ToGateway::NewBlock).then_some(());
    gateway.next(pick).await.unwrap();
    assert_eq!(gateway.frame().await.unwrap().header.command, command::INFO);
}

#[tokio::test]
async fn a_pool_stays_away_as_long_as_told_and_forgets_nothing() {
    let pool = start().await;
    let mut gateway = Gateway::connect(&pool).await.unwrap();
    gateway.tag().await;
    let absence = Duration::from_millis(300);
    let (left, ()) = tokio::join!(pool.leave_for(absence), async {
        assert_eq!(gateway.next(|_| None::<()>).await, None, "the connection ends");
        let refused = TcpStream::connect(pool.addr).await.unwrap_err().kind();
        assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    });
    left.unwrap();
    let mut gateway = Gateway::connect(&pool).await.unwrap();
    gateway.tag().await;
    let ((), ()) = tokio::join!(pool.hang_up_for(absence), async {
        assert_eq!(gateway.next(|_| None::<()>).await, None, "the connection ends");
        assert!(TcpStream::connect(pool.addr).await.is_ok(), "it still listens");
        assert!(Gateway::connect(&pool).await.is_none(), "and hangs up");
    });
    Gateway::connect(&pool).await.unwrap().tag().await;
    assert_eq!(pool.stats().connected, 3);
}

#[tokio::test]
async fn habits_change_while_a_pool_runs() {
    let pool = start().await;
    let mut ids = Vec::new();
    let pick = |message: ToGateway<'_>| match message {
        ToGateway::Configuration(configuration) => Some(configuration.prime_id),
        _ => None,
    };
    for prime_ids in
        [PrimeIds::Kept, PrimeIds::Kept, PrimeIds::PerConnection, PrimeIds::PerConnection]
    {
        pool.set_habits(Habits { prime_ids, ..pool.habits() });
        let mut gateway = Gateway::connect(&pool).await.unwrap();
        ids.push(gateway.next(pick).await.unwrap());
    }
    assert_eq!(ids[0], ids[1]);
    ids.remove(0);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[tokio::test]
async fn a_pool_stops_and_comes_back_with_the_same_port_and_keys() {
    let pool = start().await;
    let key = pool.public_key_hex();
    let mut gateway = Gateway::connect(&pool).await.unwrap();
    gateway.tag().await;
    assert_eq!(pool.stats().connections, 1);
    pool.stop().await;
    assert_eq!(gateway.next(|_| None::<()>).await, None, "the connection ends");
    assert!(Gateway::connect(&pool).await.is_none(), "nobody listens");
    pool.restart().await.unwrap();
    assert_eq!(pool.public_key_hex(), key);
    let mut gateway = Gateway::connect(&pool).await.unwrap();
    assert_eq!(gateway.tag().await, b"first");
    pool.disconnect_all();
    assert_eq!(gateway.next(|_| None::<()>).await, None);
    pool.set_fault(Some(Fault::RefuseConnections));
    assert!(Gateway::connect(&pool).await.is_none());
    pool.set_fault(None);
    assert!(Gateway::connect(&pool).await.is_some());
    assert_eq!(pool.stats().connected, 3);
}
