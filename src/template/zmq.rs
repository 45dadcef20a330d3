//! A node's `hashblock` messages: the fastest news of a new tip.
//!
//! ZeroMQ's silence means nothing: a subscriber hears of neither a wrong address nor a dead node.
//! So these are hints, beside long and slow polls.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};
use zeromq::{Socket, SocketRecv, SubSocket};

use super::{Hint, HintFrom};
use crate::{net, work::Hash256};

/// Subscribes for as long as the receiver of `hints` lives.
pub(super) async fn listen(node: Arc<str>, endpoint: Arc<str>, hints: mpsc::Sender<Hint>) {
    let mut wait = WAIT_MIN;
    let mut is_said = false;
    loop {
        let error = match subscribe(&endpoint).await {
            Ok(socket) => {
                info!(%node, %endpoint, "listening for new blocks over ZeroMQ");
                (wait, is_said) = (WAIT_MIN, false);
                receive(socket, &hints).await
            }
            Err(error) => error,
        };
        if hints.is_closed() {
            return;
        }
        if is_said {
            debug!(%node, %endpoint, %error, "ZeroMQ failed again");
        } else {
            warn!(%node, %endpoint, %error, "ZeroMQ failed; polling goes on, and so do tries");
            is_said = true;
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
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
