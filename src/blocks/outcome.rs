//! What became of a block.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

pub use crate::work::BlockOutcome;
use crate::{
    node::error::{DESERIALIZATION, INVALID_PARAMS, VERIFY_REJECTED},
    work::{Hash256, Username, printable},
};

impl BlockOutcome {
    /// The answer of `submitblock` (BIP 22): null means accepted. A block that the node already
    /// has, or has not connected yet, is not refused; nor is one whose parent has not reached this
    /// node yet, or that is ahead of its clock.
    pub(super) fn of_submitblock(answer: Option<&str>) -> Self {
        match answer {
            None | Some("duplicate") => Self::Accepted,
            Some(
                later @ ("inconclusive"
                | "duplicate-inconclusive"
                | "prev-blk-not-found"
                | "time-too-new"),
            ) => Self::Unanswered(later.to_owned()),
            Some(reason) => Self::Rejected(shown(reason)),
        }
    }

    /// A node's error instead of an answer: only two codes judge the block. The others are about
    /// the node itself, like -25 for a full disk while connecting.
    pub(super) fn of_error(code: i32, message: &str) -> Self {
        match code {
            VERIFY_REJECTED | DESERIALIZATION => Self::Rejected(shown(message)),
            _ => Self::Unanswered(shown(message)),
        }
    }

    /// The answer of blvm-node's `submitblock`: every refusal is an error -32602, and so are its
    /// own problems while connecting a block; only the words differ. It does not tell yet whether
    /// the block is in its chain: null may also mean a block on another branch.
    pub(super) fn of_blvm_error(code: i32, message: &str) -> Self {
        if code != INVALID_PARAMS {
            return Self::Unanswered(shown(message));
        }
        if message.contains("already stored") {
            return Self::Accepted;
        }
        if BLVM_VERDICTS.iter().any(|words| message.contains(words)) {
            return Self::Rejected(shown(message));
        }
        Self::Unanswered(shown(message))
    }
}

/// What finally became of a block.
#[derive(Clone, Debug)]
pub struct BlockReport {
    pub(crate) height: u32,
    pub(crate) hash: Hash256,
    /// Node names and their final answers.
    pub answers: Vec<(Arc<str>, BlockOutcome)>,
}

/// A node's words, made safe for the log and the dashboard.
fn shown(words: &str) -> String {
    printable(words, WORDS_LEN_MAX).into_owned()
}

impl BlockReport {
    pub(crate) fn is_accepted(&self) -> bool {
        self.answers.iter().any(|(_, answer)| *answer == BlockOutcome::Accepted)
    }
}

/// Something that happened to a block.
#[derive(Clone, Debug)]
pub struct BlockUpdate {
    pub height: u32,
    pub hash: Hash256,
    pub(crate) at: SystemTime,
    pub event: BlockUpdateKind,
}

#[derive(Clone, Debug)]
pub enum BlockUpdateKind {
    Found(Username),
    /// By the node of this name.
    Answered(Arc<str>, BlockOutcome),
}

/// Counts and recent reports, for logs and dashboards.
#[derive(Debug, Default)]
pub struct BlockStats {
    found: AtomicU64,
    accepted: AtomicU64,
    /// The highest of those, the first at its height.
    accepted_at: Mutex<Option<(u32, Hash256)>>,
    refused: AtomicU64,
    recent: Mutex<VecDeque<BlockReport>>,
    answers: Mutex<BTreeMap<(Arc<str>, &'static str), u64>>,
    news: Mutex<VecDeque<BlockUpdate>>,
}

impl BlockStats {
    pub fn found(&self) -> u64 {
        self.found.load(Relaxed)
    }

    /// Blocks that are in the best chain of at least one node.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Blocks that every node refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Newest last.
    pub fn recent(&self) -> Vec<BlockReport> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How often each node gave which final answer.
    pub(crate) fn answers(&self) -> BTreeMap<(Arc<str>, &'static str), u64> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a node's final answer to a block.
    pub(super) fn add_answer(&self, node: &Arc<str>, answer: &BlockOutcome) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((Arc::clone(node), answer.name())).or_default() += 1;
    }

    /// What has happened since the last call; for a single caller who records it.
    pub fn take_news(&self) -> Vec<BlockUpdate> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect()
    }

    pub(super) fn add_news(&self, news: BlockUpdate) {
        let mut all = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == NEWS_MAX {
            all.pop_front();
        }
        all.push_back(news);
    }

    pub(super) fn add_found(&self) {
        self.found.fetch_add(1, Relaxed);
    }

    /// True if a node has accepted another block of ours at this height or above.
    pub(super) fn has_rival(&self, height: u32, hash: &Hash256) -> bool {
        let at = *self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|(at, other)| at > height || at == height && other != *hash)
    }

    pub(super) fn add_accepted(&self, height: u32, hash: Hash256) {
        let mut at = self.accepted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if at.is_none_or(|(at, _)| at < height) {
            *at = Some((height, hash));
        }
        drop(at);
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn add_report(&self, report: BlockReport) {
        if !report.is_accepted() {
            self.refused.fetch_add(1, Relaxed);
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(report);
    }
}

/// The words with which blvm-node 0.1 judges a block; anything else may be about its storage, its
/// undo log, or a coin that it lost.
const BLVM_VERDICTS: [&str; 6] = [
    "block was not connected",
    "Protocol validation failed",
    "Failed to deserialize block",
    "Failed to parse block",
    "Block size mismatch",
    "Invalid hex data",
];
/// A lifetime's blocks for most; the last minutes on a test network.
const RECENT_MAX: usize = 100;
/// The length of a node's own words.
const WORDS_LEN_MAX: usize = 300;
/// They are fetched every few seconds; there are only this many on a test network, or if nobody
/// fetches them.
const NEWS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blvm_says_in_words_what_others_say_in_codes() {
        let of = |message| BlockOutcome::of_blvm_error(-32602, message);
        assert_eq!(of("submitblock: block header is already stored"), BlockOutcome::Accepted);
        assert!(!of("submitblock: prev_block_hash is not a stored header").is_final());
        let refused = "submitblock: block was not connected";
        assert_eq!(of(refused), BlockOutcome::Rejected(refused.to_owned()));
        let heavy =
            "submitblock: Protocol validation failed: Block weight exceeds maximum: 4000004 WU";
        assert_eq!(of(heavy), BlockOutcome::Rejected(heavy.to_owned()));
        assert!(!BlockOutcome::of_blvm_error(-32603, refused).is_final());
    }

    #[test]
    fn a_node_in_trouble_has_not_judged_the_block() {
        for trouble in [
            "submitblock: connect refused: IBD UTXO snapshot is empty",
            "submitblock: IO error: No space left on device (os error 28)",
            "submitblock: chain not initialized (no tip)",
        ] {
            let answer = BlockOutcome::of_blvm_error(-32602, trouble);
            assert_eq!(answer, BlockOutcome::Unanswered(trouble.to_owned()));
        }
        // As Bitcoin Core ends when it cannot write; then what it says of a block.
        assert!(!BlockOutcome::of_error(-25, "System error while saving block to disk").is_final());
        assert!(!BlockOutcome::of_error(-28, "Loading block index").is_final());
        assert!(BlockOutcome::of_error(-22, "Block decode failed").is_final());
        assert!(BlockOutcome::of_error(-26, "bad-txns").is_final());
    }

    #[test]
    fn duplicates_are_success_and_inconclusive_is_no_refusal() {
        assert_eq!(BlockOutcome::of_submitblock(None), BlockOutcome::Accepted);
        assert_eq!(BlockOutcome::of_submitblock(Some("duplicate")), BlockOutcome::Accepted);
        for later in ["inconclusive", "duplicate-inconclusive", "prev-blk-not-found"] {
            assert!(!BlockOutcome::of_submitblock(Some(later)).is_final());
        }
        for refused in ["high-hash", "duplicate-invalid", "bad-cb-amount", "rejected"] {
            assert_eq!(
                BlockOutcome::of_submitblock(Some(refused)),
                BlockOutcome::Rejected(refused.to_owned())
            );
        }
    }
}
