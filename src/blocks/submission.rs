//! One block being written to disk and submitted to every node, again until it is decided.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use serde_json::value::{RawValue, to_raw_value};
use tokio::{
    task::{AbortHandle, JoinError, JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    BlockOutcome, BlockReport, BlockUpdateKind,
    store::{Pending, Store},
    task::{Destination, Submitter},
};
use crate::{
    node::NodeConfig,
    work::{Hash256, Nbits},
};

/// A block in the form in which it is written to disk and sent to nodes.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) height: u32,
    pub(super) hash: Hash256,
    /// Its hex in a list.
    pub(super) params: Box<RawValue>,
    is_saved: bool,
}

impl Outgoing {
    pub(super) fn found(height: u32, hash: Hash256, hex: &str) -> Result<Self, serde_json::Error> {
        Ok(Self { height, hash, params: to_raw_value(&[hex])?, is_saved: false })
    }

    pub(super) fn resumed(block: &Pending) -> Result<Self, serde_json::Error> {
        let found = Self::found(block.height, block.hash, &block.hex)?;
        Ok(Self { is_saved: true, ..found })
    }

    /// The bits of its header; if they are invalid, the easiest possible.
    pub(super) fn bits(&self) -> Nbits {
        let mut bits = [0; 4];
        let hex = self.hex().as_bytes().get(BITS_AT);
        let is_read = hex.is_some_and(|hex| faster_hex::hex_decode(hex, &mut bits).is_ok());
        let bits = Nbits::new(u32::from_le_bytes(bits)).filter(|_| is_read);
        bits.unwrap_or(Nbits::EASIEST)
    }

    fn hex(&self) -> &str {
        self.params.get().trim_start_matches("[\"").trim_end_matches("\"]")
    }

    /// True if it has the work that it claims, as every valid block must.
    fn has_its_work(&self) -> bool {
        let mut header = [0; 80];
        let digits = self.hex().as_bytes().get(..2 * header.len());
        let is_read = digits.is_some_and(|it| faster_hex::hex_decode(it, &mut header).is_ok());
        let [.., a, b, c, d, _, _, _, _] = header;
        let nbits = Nbits::new(u32::from_le_bytes([a, b, c, d])).filter(|_| is_read);
        nbits.is_some_and(|nbits| nbits.target().is_met_by(&Hash256::of_header(&header)))
    }
}

impl Submitter {
    /// Saves the block and submits it everywhere at the same time, including nodes that are
    /// configured meanwhile; ends when it is decided.
    pub(super) async fn submit(self, block: Outgoing) {
        let (mut nodes, stop) = (self.nodes.clone(), self.flight.clone());
        let mut submission = Submission::new(self, block);
        submission.follow(&nodes.borrow_and_update());
        let last = CancellationToken::new();
        let mut saving = pin!(save(
            submission.submitter.store.clone(),
            Arc::clone(&submission.block),
            last.clone()
        ));
        let mut saved = submission.block.is_saved.then_some(Ok(()));
        let is_over = loop {
            tokio::select! {
                // A node that was configured in time counts.
                biased;
                Ok(()) = nodes.changed() => submission.follow(&nodes.borrow_and_update()),
                answer = submission.running.join_next() => match answer {
                    Some(answer) => submission.note(answer),
                    None => break true,
                },
                result = &mut saving, if saved.is_none() => saved = Some(result),
                () = stop.cancelled() => break false,
            }
        };
        last.cancel();
        let late = async {
            stop.cancelled().await;
            sleep(LAST_SAVE).await;
        };
        let saved = match saved {
            Some(saved) => saved,
            None => tokio::select! {
                saved = saving => saved,
                () = late => Err(io::ErrorKind::TimedOut.into()),
            },
        };
        submission.end(saved, is_over).await;
    }

    /// Submits to one node until it gives a verdict or the time is up.
    async fn submit_to(self, to: Destination, block: Arc<Outgoing>) -> (NodeConfig, BlockOutcome) {
        let (mut pause, mut waited) = (RETRY_FIRST, Duration::ZERO);
        let (mut told, mut asked) = (None, false);
        loop {
            let mut answer = to.submit(&block).await;
            // A tie, unless the rival is a block of ours as well, which was already submitted.
            if answer == BlockOutcome::Stale
                && !asked
                && !self.stats.has_rival(block.height, &block.hash)
            {
                asked = true;
                to.prefer(&block).await;
                answer = to.submit(&block).await;
            }
            if told.as_ref() != Some(&answer) {
                let event = BlockUpdateKind::Answered(Arc::clone(&to.node.name), answer.clone());
                self.tell(block.height, block.hash, event);
                log_answer(&block, &to.node.name, &answer);
                told = Some(answer.clone());
            }
            if answer == BlockOutcome::Accepted {
                (self.on_accepted)(block.hash);
            }
            if answer.is_final() || waited >= PATIENCE {
                self.stats.add_answer(&to.node.name, &answer);
                return (to.node, answer);
            }
            sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(RETRY_LAST);
        }
    }
}

fn log_answer(block: &Outgoing, node: &str, answer: &BlockOutcome) {
    let Outgoing { height, hash, .. } = block;
    match answer {
        BlockOutcome::Accepted => info!(height, %hash, node, "block accepted"),
        BlockOutcome::Stale => warn!(height, %hash, node, "block is valid, but another one won"),
        BlockOutcome::Rejected(reason) if reason == OTHER_CHAIN => {
            info!(
                height, %hash, node,
                "this node cannot accept the block, because it follows the BLAKE2b chain ({reason})"
            );
        }
        BlockOutcome::Rejected(reason) if reason == TOO_EASY && block.has_its_work() => {
            warn!(
                height, %hash, node,
                "this node cannot accept the block, because it was mined for an easier network \
                 than the node is on now ({reason}). The node was moved to another network, or the \
                 file is from before that; on the old network the block was valid, on this one it \
                 is worth nothing"
            );
        }
        BlockOutcome::Rejected(reason) => {
            error!(height, %hash, node, "block REJECTED by the node: {reason}");
        }
        BlockOutcome::Unanswered(reason) => {
            warn!(height, %hash, node, "no verdict on the block yet, retrying: {reason}");
        }
    }
}

/// Writes the block to disk, and retries until that succeeds; after `last`, only once more.
async fn save(store: Store, block: Arc<Outgoing>, last: CancellationToken) -> io::Result<()> {
    let (height, hash) = (block.height, block.hash);
    let mut has_failed = false;
    loop {
        let is_last = last.is_cancelled();
        let (store, block) = (store.clone(), Arc::clone(&block));
        let saving = spawn_blocking(move || store.save(height, &hash, block.hex()));
        match saving.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) if has_failed => {
                info!(height, %hash, "the block is now in ledger.data_dir");
                return Ok(());
            }
            Ok(()) => return Ok(()),
            Err(error) if is_last => return Err(error),
            Err(error) if !has_failed => error!(
                height, %hash,
                "the block could not be written to ledger.data_dir: {error}. Retrying every \
                 {SAVE_AGAIN:?}; until then only this process has it, so keep it running until a \
                 node has accepted the block"
            ),
            Err(_) => {}
        }
        has_failed = true;
        // Either way it is time to retry.
        let _ = timeout(SAVE_AGAIN, last.cancelled()).await;
    }
}

/// A block's submissions to all nodes.
struct Submission {
    submitter: Submitter,
    block: Arc<Outgoing>,
    bound: Vec<NodeSubmission>,
    running: JoinSet<(NodeConfig, BlockOutcome)>,
}

/// A node that the block is, or was, submitted to.
struct NodeSubmission {
    node: NodeConfig,
    task: AbortHandle,
    /// When it gave its final answer, or its time was up.
    answer: Option<BlockOutcome>,
}

impl NodeSubmission {
    fn is_final(&self) -> bool {
        self.answer.as_ref().is_some_and(BlockOutcome::is_final)
    }
}

impl Submission {
    fn new(submitter: Submitter, block: Outgoing) -> Self {
        Self { submitter, block: Arc::new(block), bound: Vec::new(), running: JoinSet::new() }
    }

    /// Submits to the new ones among `nodes`, and again to those whose settings changed. Removed
    /// nodes are still tried.
    fn follow(&mut self, nodes: &[Destination]) {
        let is_listed = |node: &NodeConfig| nodes.iter().any(|to| to.node.has_same_rpc(node));
        self.bound.retain(|old| {
            let is_corrected = !is_listed(&old.node)
                && nodes.iter().any(|to| to.node.rpc_url == old.node.rpc_url)
                && !old.is_final()
                // Otherwise its answer is on its way.
                && !old.task.is_finished();
            if is_corrected {
                debug!(hash = %self.block.hash, node = %old.node.name, "the node's settings \
                                                                        changed: submitting again");
                old.task.abort();
            }
            !is_corrected
        });
        for to in nodes {
            let is_same = |old: &NodeSubmission| {
                old.node.has_same_rpc(&to.node)
                    || old.is_final() && old.node.rpc_url == to.node.rpc_url
            };
            if !self.bound.iter().any(is_same) {
                let submitting =
                    self.submitter.clone().submit_to(to.clone(), Arc::clone(&self.block));
                let task = self.running.spawn(submitting);
                self.bound.push(NodeSubmission { node: to.node.clone(), task, answer: None });
            }
        }
    }

    fn note(&mut self, answer: Result<(NodeConfig, BlockOutcome), JoinError>) {
        // One that was replaced gives no answer.
        let Ok((node, answer)) = answer else { return };
        let is_first = answer == BlockOutcome::Accepted && !self.is_accepted();
        if let Some(bound) = self.bound.iter_mut().find(|bound| bound.node.has_same_rpc(&node)) {
            bound.answer = Some(answer);
        }
        if is_first {
            self.submitter.is_taken.store(true, Relaxed);
            self.submitter.stats.add_accepted(self.block.height, self.block.hash);
            // A node that is down is still tried, but nobody needs to wait for it any more.
            self.submitter.settle();
        }
    }

    fn is_accepted(&self) -> bool {
        self.bound.iter().any(|bound| bound.answer == Some(BlockOutcome::Accepted))
    }

    /// Accepted, or refused by all.
    fn is_decided(&self) -> bool {
        self.is_accepted()
            || !self.bound.is_empty() && self.bound.iter().all(NodeSubmission::is_final)
    }

    /// Records what became of the block, or where it is if it is undecided.
    async fn end(self, saved: io::Result<()>, is_over: bool) {
        let (is_accepted, is_decided) = (self.is_accepted(), self.is_decided());
        let Self { submitter, block, bound, .. } = self;
        let is_displaced = !is_over && !submitter.stop.is_cancelled();
        let is_saved = saved.is_ok();
        if is_displaced && !is_accepted {
            let (height, hash) = (block.height, block.hash);
            warn!(height, %hash, "gave up on this block: better ones were found before a node \
                                  accepted it");
        } else if !is_decided {
            log_open(&block, saved, is_over);
        }
        if (is_displaced || is_over && is_decided) && is_saved {
            let (store, height, hash) = (submitter.store.clone(), block.height, block.hash);
            let finished = spawn_blocking(move || store.finish(height, &hash, is_accepted)).await;
            if let Ok(Err(error)) = finished {
                debug!("the block's file could not be renamed: {error}");
            }
        }
        if is_over {
            let answer = |it: NodeSubmission| Some((it.node.name, it.answer?));
            let answers = bound.into_iter().filter_map(answer).collect();
            let (height, hash) = (block.height, block.hash);
            submitter.stats.add_report(BlockReport { height, hash, answers });
        }
        if !is_accepted {
            submitter.settle();
        }
    }
}

/// Logs where a block is that no node has judged.
fn log_open(block: &Outgoing, saved: io::Result<()>, is_over: bool) {
    let (height, hash) = (block.height, block.hash);
    let when = if is_over {
        format!("within {PATIENCE:?}")
    } else {
        "before gatewayd \
                                     stopped"
            .into()
    };
    match saved {
        Ok(()) => error!(
            height, %hash,
            "no node accepted the block {when}: it is in ledger.data_dir and will be submitted at \
             the next start"
        ),
        Err(error) => error!(
            height, %hash,
            "no node accepted the block {when}, and it could not be written to ledger.data_dir \
             ({error}): submit it by hand, or it is lost: {}",
            block.hex()
        ),
    }
}

/// Positions in a block's hex.
const BITS_AT: std::ops::Range<usize> = 144..152;
/// What Bitcoin Knots answers to a SHA-256 block when its own chain uses BLAKE2b.
const OTHER_CHAIN: &str = "bad-version-blake2b";
/// What a node answers to a block with less work than its network's minimum, or than the block
/// claims.
const TOO_EASY: &str = "high-hash";
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// A block is worth nothing once others are built on another branch, but a node may take long to
/// start.
const PATIENCE: Duration = Duration::from_secs(3600);
/// A full disk fails at once, so this costs little.
const SAVE_AGAIN: Duration = Duration::from_secs(2);
/// For a disk that hangs at shutdown. Service managers do not wait for long.
const LAST_SAVE: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "submission_tests.rs"]
mod tests;
