//! The NodeAPI's socket: connects, listens, and reconnects. Nothing depends on it: while it is
//! down, tips come over RPC.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    message::{Event, Expected, NodeApiRequest},
    session::{NodeApiError, NodeApiMessage, NodeApiSession},
};
use crate::{
    clock::now,
    node::{BlvmConfig, TipHint, TipHintSource, tip_hint::send_hint},
};

/// The NodeAPI and its listeners.
pub(crate) struct NodeApi {
    pub(crate) node: Arc<str>,
    pub(crate) config: BlvmConfig,
    pub(crate) hints: mpsc::Sender<TipHint>,
    /// The latest template that came over RPC.
    pub(crate) templates: watch::Receiver<Option<Arc<Expected>>>,
    /// True while tips come over the NodeAPI.
    pub(crate) is_connected: Arc<AtomicBool>,
}

/// Why there is no conversation.
#[derive(Debug, thiserror::Error)]
enum ApiError {
    #[error("cannot connect ({0})")]
    Connect(std::io::Error),
    #[error("the connection was lost ({0})")]
    Io(#[from] std::io::Error),
    #[error("the node closed the connection")]
    Closed,
    #[error(
        "no answer within {0:?}: another module may be connected, and the node accepts only \
             one"
    )]
    Handshake(Duration),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error(transparent)]
    Session(#[from] NodeApiError),
}

impl NodeApi {
    /// Listens until it is dropped.
    pub(crate) async fn run(mut self) {
        let Some(socket) = self.config.nodeapi_socket.clone() else { return };
        let mut is_said = false;
        while !self.hints.is_closed() {
            let Err(error) = self.talk(&socket).await;
            let was_connected = self.is_connected.swap(false, Relaxed);
            let (node, socket) = (&self.node, socket.display());
            if was_connected || !is_said {
                warn!(%node, %socket, %error, "the NodeAPI is unavailable: using RPC only, and retrying");
            } else {
                debug!(%node, %socket, %error, "the NodeAPI is still unavailable");
            }
            is_said = true;
            // The template task is told of a lost connection, and may notice that the node has
            // stopped.
            send_hint(&self.hints, TipHintSource::NodeApi);
            sleep(RETRY).await;
        }
    }

    async fn talk(&mut self, socket: &Path) -> Result<std::convert::Infallible, ApiError> {
        let stream = timeout(CONNECT_MAX, UnixStream::connect(socket)).await;
        let stream = stream.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let (mut reader, mut writer) = stream.map_err(ApiError::Connect)?.into_split();
        let mut out = Vec::new();
        let mut client = NodeApiSession::new(&self.config.module_id, MODULE_NAME, &mut out);
        let (mut said, mut buffer) = (Vec::new(), vec![0; READ_LEN]);
        let (mut poll, mut heard_at) = (interval(POLL), Instant::now());
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut talk = Conversation::default();
        loop {
            if !out.is_empty() {
                timeout(SILENCE_MAX, writer.write_all(&out))
                    .await
                    .map_err(|_| ApiError::Silent(SILENCE_MAX))??;
                out.clear();
            }
            tokio::select! {
                read = reader.read(&mut buffer) => {
                    let length = read?;
                    if length == 0 {
                        return Err(ApiError::Closed);
                    }
                    heard_at = Instant::now();
                    let bytes = buffer.get(..length).unwrap_or_default();
                    client.on_bytes(bytes, &mut said, &mut out)?;
                    for news in said.drain(..) {
                        self.on_news(news, &mut talk);
                    }
                }
                Ok(()) = self.templates.changed(), if talk.checks => {
                    self.templates.mark_unchanged();
                    if self.is_new_tip(&mut talk) {
                        client.ask(NodeApiRequest::BlockTemplate, &mut out);
                    }
                }
                _ = poll.tick() => {
                    if client.is_waiting() && heard_at.elapsed() > SILENCE_MAX {
                        return Err(if talk.is_welcome {
                            ApiError::Silent(SILENCE_MAX)
                        } else {
                            ApiError::Handshake(SILENCE_MAX)
                        });
                    }
                    if talk.is_welcome {
                        client.ask(NodeApiRequest::ChainTip, &mut out);
                    }
                }
            }
        }
    }

    /// One template per tip is enough for a check, and it costs the node as much as one for mining.
    fn is_new_tip(&self, talk: &mut Conversation) -> bool {
        let prevhash = self.templates.borrow().as_ref().map(|template| template.prevhash);
        let is_new = prevhash.is_some() && prevhash != talk.checked;
        talk.checked = prevhash;
        is_new
    }

    fn on_news(&self, news: NodeApiMessage, talk: &mut Conversation) {
        let node = &self.node;
        match news {
            NodeApiMessage::Welcome { version, layout } => {
                info!(%node, %version, ?layout, "connected to the NodeAPI");
                (talk.is_welcome, talk.checks) = (true, true);
                self.is_connected.store(true, Relaxed);
            }
            NodeApiMessage::Subscribed => debug!(%node, "NodeAPI: subscribed to events"),
            NodeApiMessage::Tip(tip) if talk.tip != Some(tip) => {
                talk.tip = Some(tip);
                self.hint(Some(tip));
            }
            NodeApiMessage::Tip(_) => {}
            NodeApiMessage::Info(info) => {
                let (tip, height, is_synced) = (info.tip, info.height, info.is_synced);
                debug!(%node, %tip, height, is_synced, "NodeAPI: chain");
            }
            NodeApiMessage::Event(event) => {
                debug!(%node, ?event, "NodeAPI: event");
                match event {
                    // Disconnected blocks are reported before those that replace them, so the tip
                    // is requested.
                    Event::BlockDisconnected { .. } => self.hint(None),
                    Event::NewBlock { hash, .. }
                    | Event::BlockMined { hash, .. }
                    | Event::ChainReorg { new_tip: hash, .. } => self.hint(Some(hash)),
                    Event::BlockTemplateUpdated { .. } => {}
                }
            }
            NodeApiMessage::Template(template) => {
                let expected = self.templates.borrow().clone();
                let Some(expected) = expected else { return };
                match template.contradicts(&expected) {
                    None => debug!(%node, height = template.height, "NodeAPI: its template agrees"),
                    Some(what) if !talk.contradicted => {
                        talk.contradicted = true;
                        warn!(
                            %node, what,
                            "the node's NodeAPI and RPC contradict each other about the next \
                             block; RPC is used for mining: see the node's log, and report it to \
                             its developers"
                        );
                    }
                    Some(what) => debug!(%node, what, "NodeAPI: its template contradicts RPC's"),
                }
            }
            NodeApiMessage::Refused { ask, reason } => {
                debug!(%node, ?ask, reason, "NodeAPI: refused")
            }
            NodeApiMessage::Unreadable { ask, error } => {
                // Another version's layout: whatever is understood is still used.
                talk.checks &= ask != NodeApiRequest::BlockTemplate;
                warn!(%node, ?ask, %error, "NodeAPI: unreadable answer; carrying on without it");
            }
        }
    }

    fn hint(&self, tip: Option<crate::work::Hash256>) {
        let hint = TipHint { from: TipHintSource::NodeApi, tip, at: now() };
        // A full queue makes whoever reads it look as well.
        let _ = self.hints.try_send(hint);
    }
}

/// What is known in one session.
#[derive(Default)]
struct Conversation {
    is_welcome: bool,
    /// Templates are compared with those from RPC.
    checks: bool,
    tip: Option<crate::work::Hash256>,
    checked: Option<crate::work::Hash256>,
    contradicted: bool,
}

const MODULE_NAME: &str = "gatewayd";
/// The node answers within microseconds, and allows 100 calls a second. Its own wait over RPC
/// checks every 500 ms.
const POLL: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(5);
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A template from a large mempool may take this long, with all other answers behind it.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const READ_LEN: usize = 64 * 1024;
