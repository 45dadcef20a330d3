//! Runs submissions: one short-lived task a block and node, none waiting for another.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info, warn};

use super::{
    Answer, BlockNode, BlockReport, BlockStats, BlocksConfig, Event, News, rpc,
    store::{Pending, Store},
};
use crate::work::{FoundBlock, Hash256};

/// Takes found blocks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BlockSender {
    queue: mpsc::Sender<Box<FoundBlock>>,
    pending: watch::Sender<usize>,
    nodes: watch::Sender<Arc<[Destination]>>,
}

impl BlockSender {
    /// Sends blocks that are found from now on to these nodes. Blocks on their way go on to the
    /// nodes that they were for.
    pub fn set_nodes(&self, nodes: Vec<BlockNode>) {
        self.nodes.send_modify(|all| {
            let kept = |node: &BlockNode| all.iter().find(|old| old.node == *node).cloned();
            let each = |node: BlockNode| kept(&node).unwrap_or_else(|| Destination::new(node));
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
        // Only a test network finds blocks faster than they are taken from the queue.
        let queue = self.queue.clone();
        tokio::spawn(async move {
            if let Err(lost) = queue.send(block).await {
                let hex = faster_hex::hex_string(&lost.0.serialize());
                error!(hash = %lost.0.hash, "a block was found after the end; submit it by hand: {hex}");
            }
        });
    }

    /// Waits until each block is accepted by a node, or all have answered for it; false when
    /// `grace` was not enough.
    pub async fn drain(&self, grace: Duration) -> bool {
        let mut pending = self.pending.subscribe();
        timeout(grace, pending.wait_for(|pending| *pending == 0)).await.is_ok()
    }
}

/// Starts the task, and first of all submits what an earlier run left undecided.
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
    };
    tasks.spawn(run(submitter, incoming, stop));
    (BlockSender { queue, pending, nodes }, stats)
}

/// What every submission needs.
#[derive(Clone)]
struct Submitter {
    store: Store,
    nodes: watch::Receiver<Arc<[Destination]>>,
    on_accepted: Arc<dyn Fn(Hash256) + Send + Sync>,
    stats: Arc<BlockStats>,
    pending: watch::Sender<usize>,
}

/// A node and its turns: where any share is a block, hundreds at once must not become as many
/// threads and calls.
#[derive(Clone, Debug)]
struct Destination {
    node: BlockNode,
    turns: Arc<Semaphore>,
    line: Arc<rpc::Line>,
}

impl Destination {
    fn new(node: BlockNode) -> Self {
        Self { node, turns: Arc::new(Semaphore::new(TURNS)), line: Arc::default() }
    }

    async fn submit(&self, hash: Hash256, params: Arc<RawValue>) -> Answer {
        // Never closed, so never an error.
        let _turn = self.turns.acquire().await;
        let (node, line) = (self.node.clone(), Arc::clone(&self.line));
        let submit = move || {
            if node.is_blvm {
                rpc::submit_to_blvm(&node, &line, &hash, &params)
            } else {
                rpc::submit(&node, &hash, &params)
            }
        };
        let answer = on_a_thread(submit).await;
        answer.unwrap_or_else(|| Answer::Unanswered("the submission broke off".into()))
    }
}

/// Runs `work` on a thread of its own: the runtime would wait for its own threads at the end, and
/// a node can hang for long.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    // When nobody waits for the answer any more, it does not matter.
    let run = move || drop(sender.send(work()));
    thread::Builder::new().name("submitblock".into()).spawn(run).ok()?;
    receiver.await.ok()
}

/// A block on its way, in the form that goes to disk and nodes.
struct Outgoing {
    height: u32,
    hash: Hash256,
    hex: String,
    saved: bool,
}

async fn run(
    submitter: Submitter,
    mut incoming: mpsc::Receiver<Box<FoundBlock>>,
    stop: CancellationToken,
) {
    let mut running = JoinSet::new();
    for block in submitter.resume().await {
        submitter.pending.send_modify(|pending| *pending += 1);
        running.spawn(submitter.clone().bring(block));
    }
    let mut recent = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            Some(block) = incoming.recv() => {
                if recent.contains(&block.hash) {
                    submitter.settle();
                    continue;
                }
                if recent.len() == RECENT_MAX {
                    recent.pop_front();
                }
                recent.push_back(block.hash);
                running.spawn(submitter.clone().begin(block));
            }
            Some(_) = running.join_next() => {}
            // Dropping `running` ends what is left: it is on disk.
            () = stop.cancelled() => return,
        }
    }
}

impl Submitter {
    /// Blocks that an earlier run did not see through.
    async fn resume(&self) -> Vec<Outgoing> {
        let store = self.store.clone();
        let found = spawn_blocking(move || store.prepare().and_then(|()| store.pending())).await;
        let pending = match found {
            Ok(Ok(pending)) => pending,
            Ok(Err(error)) => {
                error!(
                    "ledger.data_dir cannot be used, so found blocks are not kept on disk: {error}. \
                     They still go to every node at once; make the folder writable and restart"
                );
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        if !pending.is_empty() {
            warn!(blocks = pending.len(), "submitting blocks that an earlier run left undecided");
        }
        let outgoing = |Pending { height, hash, hex }| Outgoing { height, hash, hex, saved: true };
        pending.into_iter().map(outgoing).collect()
    }

    async fn begin(self, block: Box<FoundBlock>) {
        self.stats.add_found();
        let height = block.job.template.height;
        info!(height, hash = %block.hash, worker = %block.username, "block found");
        let hash = block.hash;
        self.tell(height, hash, Event::Found(block.username.clone()));
        // Off the runtime: a full block is megabytes of hex.
        let hex = spawn_blocking(move || faster_hex::hex_string(&block.serialize())).await;
        let Ok(hex) = hex else { return self.settle() };
        self.bring(Outgoing { height, hash, hex, saved: false }).await;
    }

    /// Saves the block and submits it everywhere at the same moment; ends when its fate is known.
    async fn bring(self, block: Outgoing) {
        let Outgoing { height, hash, hex, saved } = block;
        let Ok(params) = to_raw_value(&[&hex]) else { return self.settle() };
        let params: Arc<RawValue> = params.into();
        let mut nodes = JoinSet::new();
        let destinations = self.nodes.borrow().clone();
        for node in destinations.iter().cloned() {
            nodes.spawn(self.clone().bring_to(node, height, hash, Arc::clone(&params)));
        }
        let store = self.store.clone();
        let saving =
            spawn_blocking(move || if saved { Ok(()) } else { store.save(height, &hash, &hex) });
        if let Ok(Err(error)) = saving.await {
            error!(height, %hash, "the block could not be written to ledger.data_dir: {error}");
        }
        let mut report = BlockReport { height, hash, answers: Vec::new() };
        let mut is_settled = false;
        while let Some(answer) = nodes.join_next().await {
            let was_accepted = report.is_accepted();
            report.answers.extend(answer.ok());
            if !was_accepted && report.is_accepted() {
                self.stats.add_accepted();
                // A node that is down is tried on, but nobody needs to wait for it any more.
                if !nodes.is_empty() {
                    self.settle();
                    is_settled = true;
                }
            }
        }
        self.end(report).await;
        if !is_settled {
            self.settle();
        }
    }

    /// Submits to one node until it gives a verdict or the patience ends.
    async fn bring_to(
        self,
        to: Destination,
        height: u32,
        hash: Hash256,
        params: Arc<RawValue>,
    ) -> (Arc<str>, Answer) {
        let mut pause = RETRY_FIRST;
        let mut waited = Duration::ZERO;
        let name = Arc::clone(&to.node.name);
        let mut told = None;
        loop {
            let answer = to.submit(hash, Arc::clone(&params)).await;
            if told.as_ref() != Some(&answer) {
                self.tell(height, hash, Event::Answered(Arc::clone(&name), answer.clone()));
                told = Some(answer.clone());
            }
            match &answer {
                Answer::Accepted => {
                    info!(height, %hash, node = %name, "block accepted");
                    (self.on_accepted)(hash);
                }
                Answer::Stale => {
                    warn!(height, %hash, node = %name, "block is valid, but another one won");
                }
                Answer::Rejected(reason) => {
                    error!(height, %hash, node = %name, "block REJECTED by the node: {reason}");
                }
                Answer::Unanswered(reason) if waited.is_zero() => {
                    warn!(height, %hash, node = %name, "no verdict on the block yet, trying again: {reason}");
                }
                Answer::Unanswered(reason) => {
                    debug!(%hash, node = %name, "still no verdict: {reason}")
                }
            }
            if answer.is_final() || waited >= PATIENCE {
                self.stats.add_answer(&name, &answer);
                return (name, answer);
            }
            sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }

    async fn end(&self, report: BlockReport) {
        let accepted = report.is_accepted();
        let undecided = report.answers.iter().any(|(_, answer)| !answer.is_final());
        if !accepted && undecided {
            error!(height = report.height, hash = %report.hash,
                "no node took the block in {PATIENCE:?}: it stays in ledger.data_dir and goes out at the next start");
        } else {
            let (store, height, hash) = (self.store.clone(), report.height, report.hash);
            let finished = spawn_blocking(move || store.finish(height, &hash, accepted)).await;
            if let Ok(Err(error)) = finished {
                debug!("the block's file could not be renamed: {error}");
            }
        }
        self.stats.add_report(report);
    }

    fn tell(&self, height: u32, hash: Hash256, event: Event) {
        self.stats.add_news(News { height, hash, at: unix_now(), event });
    }

    fn settle(&self) {
        self.pending.send_modify(|pending| *pending = pending.saturating_sub(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "for people, who read calendars")]
fn unix_now() -> SystemTime {
    SystemTime::now()
}

/// Blocks between the miner that found one and the task: on a real network one a year.
const QUEUE_MAX: usize = 256;
/// Calls at once to one node.
const TURNS: usize = 4;
/// A miner may send one solution twice.
const RECENT_MAX: usize = 64;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A block is worth nothing once others are built beside it, but a node may take long to start.
const PATIENCE: Duration = Duration::from_secs(3600);
