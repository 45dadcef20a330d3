//! Tries a pool up to its terms: that it answers, and that it has the configured key.

use std::time::Duration;

use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    clock::now,
    datum::{Client, ClientError, Configured, HandshakeError, Identity, PoolConfig, PoolEvent},
    net,
};

/// What is wrong with a pool, and which of its keys most likely is.
#[derive(Debug)]
pub(in crate::daemon) struct PoolFault {
    pub(in crate::daemon) key: &'static str,
    pub(in crate::daemon) text: String,
}

fn fault(key: &'static str, text: String) -> PoolFault {
    PoolFault { key, text }
}

/// The pool's terms, or what is wrong.
pub(in crate::daemon) async fn try_pool(
    pool: &PoolConfig,
    user_agent: &str,
) -> Result<Configured, PoolFault> {
    let of_host = |text| fault("host", text);
    let until = Instant::now() + LIMIT;
    let target = (pool.host.as_str(), pool.port);
    let socket = timeout_at(until, net::connect(target)).await;
    let late = |_| of_host(format!("no connection within {LIMIT:?}: {ADDRESS}"));
    let socket = socket.map_err(late)?;
    let socket = socket.map_err(|error| of_host(format!("no connection ({error}): {ADDRESS}")))?;
    let greeting = Greeting::new(pool, user_agent);
    let mut greeting = greeting.map_err(|error| fault(PUBLIC_KEY, error.to_string()))?;
    match timeout_at(until, greeting.run(socket)).await {
        Ok(result) => result,
        Err(_) if greeting.welcome => {
            Err(of_host(format!("has this key, but sent no terms in {LIMIT:?}")))
        }
        Err(_) => Err(of_host(format!("no answer within {LIMIT:?}: {ADDRESS}"))),
    }
}

/// The beginning of a conversation with a pool.
struct Greeting {
    client: Client,
    out: Vec<u8>,
    /// The pool has proved that it has the key.
    welcome: bool,
}

impl Greeting {
    fn new(pool: &PoolConfig, user_agent: &str) -> Result<Self, ClientError> {
        let mut rng = StdRng::from_entropy();
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let mut out = Vec::new();
        let keys = Identity::generate(&mut rng);
        let now = now();
        let client = Client::new(&keys, pool.public_key, user_agent, LIMIT, seed, now, &mut out)?;
        Ok(Self { client, out, welcome: false })
    }

    async fn run(&mut self, mut socket: TcpStream) -> Result<Configured, PoolFault> {
        let mut buffer = [0; 4096];
        let mut events = Vec::new();
        loop {
            let broke =
                |error: std::io::Error| fault("host", format!("the connection was lost ({error})"));
            socket.write_all(&self.out).await.map_err(broke)?;
            self.out.clear();
            let len = match socket.read(&mut buffer).await {
                Ok(len) if len > 0 => len,
                // Closing with unread data makes this an error on some systems.
                _ if self.welcome => {
                    return Err(fault("host", "has this key, but closed the connection".into()));
                }
                _ => {
                    let text = format!("closed the connection during the handshake: {KEY}");
                    return Err(fault(PUBLIC_KEY, text));
                }
            };
            let now = now();
            let read = self.client.on_bytes(&buffer[..len], now, &mut self.out, &mut events);
            for event in events.drain(..) {
                match event {
                    PoolEvent::Welcome { .. } => self.welcome = true,
                    PoolEvent::Configured(terms) => return Ok(terms),
                    _ => {}
                }
            }
            read.map_err(|error| match error {
                ClientError::Handshake(HandshakeError::Cipher(_)) => {
                    fault(PUBLIC_KEY, format!("answers with another key ({error}): {KEY}"))
                }
                ClientError::Link(_) if !self.welcome => {
                    let text = format!("is not a DATUM pool, or has another key ({error}): {KEY}");
                    fault(PUBLIC_KEY, text)
                }
                error => fault("host", error.to_string()),
            })?;
        }
    }
}

/// The lowest share difficulty that it accepts.
pub(super) fn floor(terms: &Configured) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "no pool asks for 2^53")]
    let floor = terms.min_difficulty.max(1) as f64;
    floor
}

pub(in crate::daemon) fn describe(terms: &Configured) -> String {
    let tag = String::from_utf8_lossy(&terms.tag).escape_debug().to_string();
    let least = terms.min_difficulty.max(1);
    format!("has this key; accepts shares of difficulty {least} or more, tag \"{tag}\"")
}

/// Two round trips; a pool answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
const ADDRESS: &str = "check pool.host and pool.port, and that this machine can reach it";
const PUBLIC_KEY: &str = "public_key";
const KEY: &str = "pool.public_key is most likely not its key: copy the key from the pool's own \
                   page";
