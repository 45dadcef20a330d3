//! Runs submissions: one short-lived task per block and node, none waiting for another.

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{Id, JoinError, JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use super::{
    BlockOutcome, BlockStats, BlockUpdate, BlockUpdateKind, BlocksConfig,
    queue::{BlockQueue, Rank},
    store::Store,
    submission::Outgoing,
    verdict,
};
use crate::{
    clock::unix_now,
    node::{NodeConfig, budget::Purpose, conn::RpcClient, rpc::prefer_block},
    work::{FoundBlock, Hash256, Nbits},
};

/// Accepts found blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlockSender {
    queue: mpsc::Sender<Box<FoundBlock>>,
    pending: watch::Sender<usize>,
    nodes: watch::Sender<Arc<[Destination]>>,
}

impl BlockSender {
    /// Sends blocks to these nodes from now on, including those being submitted already, which
    /// still go to their former nodes too.
    pub fn set_nodes(&self, nodes: Vec<NodeConfig>) {
        self.nodes.send_modify(|all| {
            let kept =
                |node: &NodeConfig| all.iter().find(|old| old.node.has_same_rpc(node)).cloned();
            let each = |node: NodeConfig| kept(&node).unwrap_or_else(|| Destination::new(node));
            *all = nodes.into_iter().map(each).collect();
        });
    }

    /// Hands over a block. Never waits and never drops it.
    pub fn submit(&self, block: Box<FoundBlock>) {
        self.pending.send_modify(|pending| *pending += 1);
        let Err(refused) = self.queue.try_send(block) else { return };
        let block = match refused {
            mpsc::error::TrySendError::Full(block) | mpsc::error::TrySendError::Closed(block) => {
                block
            }
        };
        // Only on a test network are blocks found faster than they are taken from the queue.
        let queue = self.queue.clone();
        tokio::spawn(async move {
            if let Err(lost) = queue.send(block).await {
                let hex = faster_hex::hex_string(&lost.0.serialize());
                error!(hash = %lost.0.hash, "a block was found after shutdown; submit it by hand: \
                                             {hex}");
            }
        });
    }

    /// Waits until each block is accepted by a node or answered by all of them; false if `grace`
    /// was not enough.
    pub async fn drain(&self, grace: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        timeout(grace, pending.wait_for(|pending| *pending == 0)).await.is_ok()
    }
}

/// Starts the task, which first submits blocks that an earlier run left undecided.
pub fn spawn(
    config: BlocksConfig,
    stop: CancellationToken,
    tasks: &TaskTracker,
) -> (BlockSender, Arc<BlockStats>) {
    let (queue, incoming) = mpsc::channel(QUEUE_MAX);
    let pending = watch::Sender::new(0);
    let stats = Arc::new(BlockStats::default());
    let nodes = config.nodes.into_iter().map(Destination::new).collect();
    let nodes = watch::Sender::new(nodes);
    let submitter = Submitter {
        store: Store::new(&config.data_dir),
        nodes: nodes.subscribe(),
        on_accepted: config.on_accepted,
        stats: Arc::clone(&stats),
        pending: pending.clone(),
        flight: stop.clone(),
        stop,
        is_taken: Arc::default(),
    };
    tasks.spawn(run(submitter, incoming));
    (BlockSender { queue, pending, nodes }, stats)
}

/// What every submission needs.
#[derive(Clone)]
pub(super) struct Submitter {
    pub(super) store: Store,
    pub(super) nodes: watch::Receiver<Arc<[Destination]>>,
    pub(super) on_accepted: Arc<dyn Fn(Hash256) + Send + Sync>,
    pub(super) stats: Arc<BlockStats>,
    pub(super) pending: watch::Sender<usize>,
    /// Blocks that are undecided by then are left on disk.
    pub(super) stop: CancellationToken,
    /// Ends this block's submission: at shutdown, or when a better block needs its place.
    pub(super) flight: CancellationToken,
    /// A node has this block.
    pub(super) is_taken: Arc<AtomicBool>,
}

/// A node and its permits: where any share is a block, hundreds at once must not become as many
/// calls.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) node: NodeConfig,
    turns: Arc<Semaphore>,
    /// For a blvm-node, which accepts few connections: the idle one.
    kept: Arc<Mutex<Option<RpcClient>>>,
}

impl Destination {
    pub(super) fn new(node: NodeConfig) -> Self {
        let turns = if node.is_blvm() { 1 } else { TURNS };
        Self { node, turns: Arc::new(Semaphore::new(turns)), kept: Arc::default() }
    }

    /// Dropping the future ends the call.
    pub(super) async fn submit(&self, block: &Outgoing) -> BlockOutcome {
        // Never closed, so never an error.
        let _turn = self.turns.acquire().await;
        if !self.node.is_blvm() {
            // On a new connection: a node with a thread to spare answers at once there, and its
            // cookie is read again.
            return verdict::submit(&mut self.client(), block.hash, &block.params).await;
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut client = kept.unwrap_or_else(|| self.client());
        let answer = verdict::submit_to_blvm(&mut client, block.hash, &block.params).await;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        answer
    }

    /// Asks the node to prefer the block to another of its height. blvm-node cannot do that.
    pub(super) async fn prefer(&self, block: &Outgoing) {
        if self.node.is_blvm() {
            return;
        }
        let hash = block.hash;
        match prefer_block(&mut self.client(), hash).await {
            Ok(()) => debug!(%hash, "asked the node to prefer our block to another of its height"),
            Err(error) => debug!(%hash, "the node was asked to prefer our block: {error}"),
        }
    }

    fn client(&self) -> RpcClient {
        RpcClient::new(&self.node, Purpose::Blocks)
    }
}

/// A block that has not been submitted yet.
enum WaitingBlock {
    Found(Box<FoundBlock>),
    /// From an earlier run.
    Resumed(Box<Outgoing>),
}

/// A block being submitted, as seen by the task.
struct RunningSubmission {
    /// It was displaced, or gatewayd is stopping.
    stop: CancellationToken,
    /// A node has it.
    is_taken: Arc<AtomicBool>,
}

/// Blocks being submitted and blocks that wait.
struct Scheduler {
    submitter: Submitter,
    queue: BlockQueue<WaitingBlock, RunningSubmission>,
    running: JoinSet<()>,
    /// Handles of the running ones.
    ranks: HashMap<Id, Rank>,
    dropped: u64,
}

impl Scheduler {
    fn add(&mut self, bits: Nbits, height: u32, block: WaitingBlock) {
        if self.queue.add(bits, height, block).is_some() {
            self.dropped += 1;
            if self.dropped.is_power_of_two() {
                warn!(
                    dropped = self.dropped,
                    "blocks come faster than nodes accept them, so those with the easiest target \
                     and the lowest height were dropped. If this is not a test network, a node \
                     lies about the target"
                );
            }
            self.submitter.settle();
        }
        self.set_out();
    }

    /// Starts submitting whatever may be.
    fn set_out(&mut self) {
        while let Some((rank, block, displaced)) =
            self.queue.next(|flight| flight.is_taken.load(Relaxed))
        {
            if let Some(flight) = displaced {
                flight.stop.cancel();
            }
            let flight = self.start(rank, block);
            self.queue.set_out(rank, flight);
        }
    }

    fn start(&mut self, rank: Rank, block: WaitingBlock) -> RunningSubmission {
        let (stop, is_taken) = (self.submitter.stop.child_token(), Arc::default());
        let flight = RunningSubmission { stop: stop.clone(), is_taken: Arc::clone(&is_taken) };
        let submitter = Submitter { flight: stop, is_taken, ..self.submitter.clone() };
        let task = self.running.spawn(async move {
            match block {
                WaitingBlock::Found(block) => submitter.begin(block).await,
                WaitingBlock::Resumed(block) => submitter.submit(*block).await,
            }
        });
        self.ranks.insert(task.id(), rank);
        flight
    }

    async fn arrived(&mut self) -> Option<()> {
        let over = self.running.join_next_with_id().await?;
        self.over(over);
        self.set_out();
        Some(())
    }

    /// A block's submission has ended or failed: its place is free again.
    fn over(&mut self, over: Result<(Id, ()), JoinError>) {
        let id = over.map(|(id, ())| id).unwrap_or_else(|error| {
            error!("an internal task crashed while submitting a block: {error}");
            self.submitter.settle();
            error.id()
        });
        if let Some(rank) = self.ranks.remove(&id) {
            self.queue.arrived(&rank);
        }
    }

    /// Undecided blocks are still written to disk.
    async fn end(mut self) {
        while self.arrived().await.is_some() {}
    }
}

async fn run(submitter: Submitter, mut incoming: mpsc::Receiver<Box<FoundBlock>>) {
    let resumed = submitter.resume().await;
    let (queue, running) = (BlockQueue::default(), JoinSet::new());
    let ranks = HashMap::new();
    let mut scheduler = Scheduler { submitter, queue, running, ranks, dropped: 0 };
    for block in resumed {
        scheduler.submitter.pending.send_modify(|pending| *pending += 1);
        let (bits, height) = (block.bits(), block.height);
        scheduler.add(bits, height, WaitingBlock::Resumed(Box::new(block)));
    }
    let stop = scheduler.submitter.stop.clone();
    let mut recent = VecDeque::new();
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            block = incoming.recv() => {
                // Only after shutdown began, when everything sent before has been taken.
                let Some(block) = block else { break };
                if recent.contains(&block.hash) {
                    scheduler.submitter.settle();
                    continue;
                }
                if recent.len() == RECENT_MAX {
                    recent.pop_front();
                }
                recent.push_back(block.hash);
                let template = &block.job.template;
                let (bits, height) = (template.nbits, template.height);
                scheduler.add(bits, height, WaitingBlock::Found(block));
            }
            Some(()) = scheduler.arrived() => {}
            () = stop.cancelled(), if is_open => {
                is_open = false;
                incoming.close();
            }
        }
    }
    stop.cancelled().await;
    scheduler.end().await;
}

impl Submitter {
    /// Blocks that an earlier run left undecided.
    async fn resume(&self) -> Vec<Outgoing> {
        let store = self.store.clone();
        let found = spawn_blocking(move || {
            let prepared = store.prepare();
            // Also read from a folder that is read-only.
            let pending = store.pending().map(|all| all.iter().map(Outgoing::resumed).collect());
            (prepared, pending)
        });
        let Ok((prepared, pending)) = found.await else { return Vec::new() };
        if let Err(error) = &prepared {
            error!(
                "ledger.data_dir cannot be used, so found blocks are not kept on disk: {error}. \
                 They are still submitted to every node at once; make the folder writable"
            );
        }
        let pending: Vec<_> = pending.unwrap_or_else(|error: io::Error| {
            if prepared.is_ok() {
                error!(
                    "blocks that an earlier run left in ledger.data_dir cannot be read: {error}"
                );
            }
            Vec::new()
        });
        if !pending.is_empty() {
            warn!(blocks = pending.len(), "submitting blocks left undecided by an earlier run");
        }
        pending.into_iter().flatten().collect()
    }

    async fn begin(self, block: Box<FoundBlock>) {
        self.stats.add_found();
        let height = block.job.template.height;
        info!(height, hash = %block.hash, worker = %block.username, "block found");
        let hash = block.hash;
        self.tell(height, hash, BlockUpdateKind::Found(block.username.clone()));
        // Off the runtime: a full block is megabytes of hex.
        let outgoing = spawn_blocking(move || {
            Outgoing::found(height, hash, &faster_hex::hex_string(&block.serialize()))
        });
        match outgoing.await {
            Ok(Ok(outgoing)) => self.submit(outgoing).await,
            // Neither happens without a bug.
            Ok(Err(error)) => self.give_up(hash, &error),
            Err(error) => self.give_up(hash, &error),
        }
    }

    fn give_up(&self, hash: Hash256, error: &dyn Error) {
        error!(%hash, "the block is lost to an internal error: {error}");
        self.settle();
    }

    pub(super) fn tell(&self, height: u32, hash: Hash256, event: BlockUpdateKind) {
        self.stats.add_news(BlockUpdate { height, hash, at: UNIX_EPOCH + unix_now(), event });
    }

    pub(super) fn settle(&self) {
        self.pending.send_modify(|pending| *pending = pending.saturating_sub(1));
    }
}

/// Blocks queued between the miner that found one and the task: on a real network there is one a
/// year.
const QUEUE_MAX: usize = 256;
/// Concurrent calls to one node.
const TURNS: usize = 4;
/// A miner may send one solution twice.
const RECENT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const EASY: u32 = 0x207f_ffff;

    fn scheduler(folder: &std::path::Path) -> Scheduler {
        let stop = CancellationToken::new();
        let submitter = Submitter {
            store: Store::new(folder),
            nodes: watch::Sender::new(Arc::default()).subscribe(),
            on_accepted: Arc::new(|_| ()),
            stats: Arc::default(),
            pending: watch::Sender::new(9),
            flight: stop.clone(),
            stop,
            is_taken: Arc::default(),
        };
        let (queue, running, ranks) = (BlockQueue::default(), JoinSet::new(), HashMap::new());
        Scheduler { submitter, queue, running, ranks, dropped: 0 }
    }

    /// Eight such faults would have kept all places for ever.
    #[tokio::test]
    async fn a_flight_that_breaks_off_gives_its_place_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut scheduler = scheduler(folder.path());
        let bits = Nbits::new(EASY).unwrap();
        let block =
            || WaitingBlock::Resumed(Box::new(Outgoing::found(7, Hash256([7; 32]), "c0").unwrap()));
        for _ in 0..8 {
            scheduler.queue.add(bits, 7, block());
            let (rank, _, _) = scheduler.queue.next(|_| false).unwrap();
            let flight =
                RunningSubmission { stop: CancellationToken::new(), is_taken: Arc::default() };
            scheduler.queue.set_out(rank, flight);
            let task = scheduler.running.spawn(async { panic!("a fault of ours") });
            scheduler.ranks.insert(task.id(), rank);
        }
        scheduler.queue.add(bits, 7, block());
        assert!(scheduler.queue.next(|_| false).is_none(), "all places are taken");
        for _ in 0..8 {
            // Not `arrived`, which would let the block set out that waits.
            let error = scheduler.running.join_next_with_id().await.unwrap().unwrap_err();
            scheduler.over(Err(error));
        }
        assert!(scheduler.queue.next(|_| false).is_some(), "none is lost");
        assert_eq!(*scheduler.submitter.pending.borrow(), 1);
        assert!(scheduler.ranks.is_empty());
    }
}
