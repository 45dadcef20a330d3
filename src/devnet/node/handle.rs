//! Controls the node from inside the process: starts and stops it, inspects it, injects faults.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    BlockSummary, NodeOptions, Seen,
    server::{Shared, grow, serve},
};
use crate::{clock::unix_seconds, work::Hash256};

/// Faults that can be switched on while the node runs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Knobs {
    /// Submitted blocks are checked and answered only after this delay.
    pub(crate) submit_delay: Duration,
    /// Every submitted block gets this answer.
    pub(crate) reject_blocks: Option<String>,
    /// Every proposal whose coinbase pays more outputs than this gets this answer.
    pub(crate) refuse_outputs: Option<(usize, String)>,
    /// Connections are accepted and dropped.
    pub(crate) unavailable: bool,
    /// Every password is refused.
    pub(crate) unauthorized: bool,
    pub(crate) initial_block_download: bool,
}

/// An embedded node.
#[derive(Debug)]
pub struct Node;

impl Node {
    /// Starts a node that listens on `listen`; port 0 picks a free one.
    pub async fn start(options: NodeOptions, listen: SocketAddr) -> io::Result<NodeHandle> {
        let listener = TcpListener::bind(listen).await?;
        let handle = NodeHandle {
            addr: listener.local_addr()?,
            shared: Arc::new(Shared::new(options)),
            running: Mutex::new(None),
        };
        handle.run(listener);
        Ok(handle)
    }
}

/// Owns a node: dropping it stops the node.
pub struct NodeHandle {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    /// None while stopped.
    running: Mutex<Option<Running>>,
}

/// A running node's tasks.
struct Running {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl NodeHandle {
    /// For `[[node]] rpc_url`.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn user(&self) -> &str {
        &self.shared.options.user
    }

    pub fn password(&self) -> &str {
        &self.shared.options.password
    }

    pub fn height(&self) -> u32 {
        self.shared.with(|state| state.seen().height)
    }

    pub fn best_hash(&self) -> Hash256 {
        self.shared.with(|state| state.seen().tip)
    }

    /// The latest blocks of the chain, oldest first; no more than 100.
    pub fn blocks(&self) -> Vec<BlockSummary> {
        self.shared.with(|state| state.blocks())
    }

    /// How many blocks were refused, by reason. `duplicate` counts too.
    pub fn rejected(&self) -> BTreeMap<String, u64> {
        self.shared.with(|state| state.rejected().clone())
    }

    /// Reports every new tip and arriving transactions.
    pub fn subscribe(&self) -> watch::Receiver<Seen> {
        self.shared.seen.subscribe()
    }

    /// Makes a block of everything in the mempool, without work, as if it came from the network.
    pub fn mine_one(&self) -> Hash256 {
        self.shared.with(|state| state.mine_one(unix_seconds()))
    }

    /// A reorganisation: the tip is invalid from now on. False if only genesis is left.
    pub fn forget_tip(&self) -> bool {
        self.shared.with(|state| state.forget_tip())
    }

    pub fn set_submit_delay(&self, delay: Duration) {
        self.shared.knobs.send_modify(|knobs| knobs.submit_delay = delay);
    }

    /// None ends it.
    pub fn set_reject_blocks(&self, reason: Option<&str>) {
        self.shared.knobs.send_modify(|knobs| knobs.reject_blocks = reason.map(str::to_owned));
    }

    /// Refuses proposals whose coinbase pays more than `most` outputs; None ends that.
    pub fn set_refuse_outputs(&self, most: Option<(usize, &str)>) {
        let most = most.map(|(most, reason)| (most, reason.to_owned()));
        self.shared.knobs.send_modify(|knobs| knobs.refuse_outputs = most);
    }

    /// Drops all connections, including new ones. See `stop` for a node that is gone.
    pub fn set_unavailable(&self, is_unavailable: bool) {
        self.shared.knobs.send_modify(|knobs| knobs.unavailable = is_unavailable);
    }

    pub fn set_unauthorized(&self, is_unauthorized: bool) {
        self.shared.knobs.send_modify(|knobs| knobs.unauthorized = is_unauthorized);
    }

    pub fn set_initial_block_download(&self, is_downloading: bool) {
        self.shared.knobs.send_modify(|knobs| knobs.initial_block_download = is_downloading);
    }

    /// Closes the port and all connections; chain, mempool and knobs stay.
    pub async fn stop(&self) {
        let running = self.running().take();
        if let Some(Running { stop, tracker }) = running {
            stop.cancel();
            tracker.wait().await;
        }
    }

    /// Stops the node if necessary, and starts it on the same port again.
    pub async fn restart(&self) -> io::Result<()> {
        self.stop().await;
        let mut tries = 0;
        let listener = loop {
            match TcpListener::bind(self.addr).await {
                Err(_) if tries < BIND_TRIES => sleep(BIND_PAUSE).await,
                done => break done?,
            }
            tries += 1;
        };
        self.run(listener);
        Ok(())
    }

    fn run(&self, listener: TcpListener) {
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let shared = || Arc::clone(&self.shared);
        tracker.spawn(serve(shared(), listener, stop.clone(), tracker.clone()));
        tracker.spawn(grow(shared(), stop.clone()));
        tracker.close();
        *self.running() = Some(Running { stop, tracker });
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if let Some(running) = &*self.running() {
            running.stop.cancel();
        }
    }
}

/// Another process may briefly use the port for an outgoing connection.
const BIND_TRIES: u32 = 20;
const BIND_PAUSE: Duration = Duration::from_millis(100);
