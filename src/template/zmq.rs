//! A node's `hashblock` messages: the fastest news of a new tip.
//!
//! ZeroMQ's silence means nothing: a subscriber hears of neither a wrong address nor a dead node.
//! So these are hints, beside long and slow polls.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};
use zeromq::{Socket, SocketRecv, SubSocket};

use super::{Hint, HintFrom, NodeConfig};
use crate::{net, work::Hash256};

/// What was said last of a node's ZeroMQ: how it is now is news only if that is something else.
#[derive(Clone, Debug, Default)]
pub(super) struct Said(Arc<AtomicU8>);

impl Said {
    fn is_news(&self, now: u8) -> bool {
        self.0.swap(now, Relaxed) != now
    }
}

/// Subscribes to what the node publishes, if it does, for as long as the receiver of `hints` lives.
/// `is_telling` is no longer true when the socket fails.
pub(super) async fn listen(
    node: NodeConfig,
    hints: mpsc::Sender<Hint>,
    is_telling: watch::Sender<bool>,
    said: Said,
) {
    let (node, Some(endpoint)) = (node.name, node.zmq_hashblock) else { return };
    let mut wait = WAIT_MIN;
    loop {
        let error = match subscribe(&endpoint).await {
            Ok(socket) => {
                if said.is_news(LISTENS) {
                    info!(%node, %endpoint, "listening for new blocks over ZeroMQ");
                }
                wait = WAIT_MIN;
                receive(socket, &hints).await
            }
            Err(error) => error,
        };
        is_telling.send_replace(false);
        if hints.is_closed() {
            return;
        }
        if said.is_news(FAILED) {
            warn!(%node, %endpoint, %error, "ZeroMQ failed; polling goes on, and so do tries");
        } else {
            debug!(%node, %endpoint, %error, "ZeroMQ failed again");
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// Whether ZeroMQ tells of tips: then nothing else has to.
pub(super) struct ZmqWatch {
    pub(super) is_telling: watch::Sender<bool>,
    /// When it should have told of a tip that came another way.
    pub(super) due: Option<Instant>,
    /// The last tip that it told of.
    last: Option<Hash256>,
}

impl ZmqWatch {
    pub(super) fn new() -> Self {
        Self { is_telling: watch::Sender::new(false), due: None, last: None }
    }

    pub(super) fn on_hint(&mut self, tip: Option<Hash256>) {
        (self.last, self.due) = (tip, None);
        self.tell(tip.is_some());
    }

    /// There is a new tip, whoever told of it.
    pub(super) fn on_tip(&mut self, tip: Hash256) {
        if self.last != Some(tip) && *self.is_telling.borrow() {
            self.due.get_or_insert_with(|| Instant::now() + GRACE);
        }
    }

    pub(super) fn on_silence(&mut self) {
        self.due = None;
        self.tell(false);
    }

    fn tell(&self, is_telling: bool) {
        self.is_telling.send_if_modified(|old| std::mem::replace(old, is_telling) != is_telling);
    }
}

async fn subscribe(endpoint: &str) -> Result<SubSocket, String> {
    let mut socket = SubSocket::new();
    let connect = async {
        let endpoint = at_an_address(endpoint).await.map_err(|e| e.to_string())?;
        socket.connect(&endpoint).await.map_err(|e| e.to_string())
    };
    // Left alone it would try for ever without a word.
    timeout(CONNECT_MAX, connect).await.map_err(|_| "nothing answers".to_owned())??;
    socket.subscribe("hashblock").await.map_err(|e| e.to_string())?;
    Ok(socket)
}

/// The endpoint with an address for its name: of several the library would try one after another,
/// and wait for each.
async fn at_an_address(endpoint: &str) -> io::Result<String> {
    match endpoint.strip_prefix("tcp://") {
        Some(host) => Ok(format!("tcp://{}", net::reachable(host).await?)),
        None => Ok(endpoint.to_owned()),
    }
}

/// Passes hashes on until the socket fails.
async fn receive(mut socket: SubSocket, hints: &mpsc::Sender<Hint>) -> String {
    loop {
        let message = match socket.recv().await {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        let hash = message.get(1).and_then(|frame| hash(frame));
        let hint = Hint { from: HintFrom::Zmq, tip: hash, at: Instant::now().into_std() };
        // A full queue has a hint in it already, and one is enough.
        if let Err(mpsc::error::TrySendError::Closed(_)) = hints.try_send(hint) {
            return "nobody listens".to_owned();
        }
    }
}

/// The message holds the hash as RPC shows it: reversed.
fn hash(frame: &[u8]) -> Option<Hash256> {
    let mut bytes: [u8; 32] = frame.try_into().ok()?;
    bytes.reverse();
    Some(Hash256(bytes))
}

const CONNECT_MAX: Duration = Duration::from_secs(5);
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(2);
const LISTENS: u8 = 1;
const FAILED: u8 = 2;
/// Other news of a tip may be this much quicker.
const GRACE: Duration = Duration::from_secs(2);
