//! Found blocks and what became of them.

use std::{
    collections::{HashSet, VecDeque},
    mem,
};

use super::{BlockEvent, BlockNews, BlockRecord, NodeAnswer};

/// All that are remembered, oldest first.
#[derive(Debug, Default)]
pub(super) struct Found {
    blocks: VecDeque<BlockRecord>,
    /// Hashes of those whose current state is not on disk yet.
    changed: HashSet<String>,
}

impl Found {
    pub(super) fn hear(&mut self, news: BlockNews) {
        let BlockNews { height, hash, at, what } = news;
        // Events are about one of the latest blocks.
        let known = self.blocks.iter().rposition(|block| block.hash == hash);
        let at_index = known.unwrap_or_else(|| {
            let (worker, submissions) = (String::new(), Vec::new());
            self.add(BlockRecord { height, hash: hash.clone(), at, worker, submissions });
            self.blocks.len() - 1
        });
        let Some(block) = self.blocks.get_mut(at_index) else { return };
        match what {
            BlockEvent::Found(worker) => {
                block.at = at;
                block.worker = worker.unwrap_or_default();
            }
            BlockEvent::Answered { node, mut outcome } => {
                if let Some(reason) = outcome.reason_mut() {
                    let whole = |end: &usize| reason.is_char_boundary(*end);
                    let end = (0..=reason.len().min(REASON_MAX)).rfind(whole).unwrap_or(0);
                    reason.truncate(end);
                }
                let others = block.submissions.len();
                let known = block.submissions.iter_mut().find(|it| it.node == node);
                let answer = NodeAnswer { node, outcome, at };
                match known {
                    Some(known) => *known = answer,
                    None if others < NODES_MAX => block.submissions.push(answer),
                    None => return,
                }
            }
        }
        self.changed.insert(hash);
    }

    /// Loads what an earlier run wrote, oldest first.
    pub(super) fn load(&mut self, earlier: Vec<BlockRecord>) {
        let now = mem::take(&mut self.blocks);
        for block in earlier {
            self.add(block);
        }
        // Already known: a restart has resumed submitting the same block.
        for mut block in now {
            let known = self.blocks.iter().rposition(|it| it.hash == block.hash);
            if let Some(known) = known.and_then(|index| self.blocks.remove(index)) {
                block.at = known.at;
                block.worker = if block.worker.is_empty() { known.worker } else { block.worker };
                let said = |node: &str| block.submissions.iter().any(|it| it.node == node);
                let older: Vec<_> =
                    known.submissions.into_iter().filter(|it| !said(&it.node)).collect();
                block.submissions.extend(older);
            }
            self.add(block);
        }
    }

    /// The latest first.
    pub(super) fn latest(&self, limit: usize) -> Vec<BlockRecord> {
        self.blocks.iter().rev().take(limit).cloned().collect()
    }

    /// What is not on disk yet.
    pub(super) fn take_changed(&mut self) -> Vec<BlockRecord> {
        let changed = mem::take(&mut self.changed);
        self.blocks.iter().filter(|block| changed.contains(&block.hash)).cloned().collect()
    }

    pub(super) fn put_back(&mut self, blocks: Vec<BlockRecord>) {
        self.changed.extend(blocks.into_iter().map(|block| block.hash));
    }

    /// The disk has lost everything.
    pub(super) fn change_all(&mut self) {
        self.changed = self.blocks.iter().map(|block| block.hash.clone()).collect();
    }

    fn add(&mut self, block: BlockRecord) {
        if self.blocks.len() == BLOCKS_MAX
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.changed.remove(&oldest.hash);
        }
        self.blocks.push_back(block);
    }
}

/// More than the largest farms find in ten years; the last hours on a test network.
pub(super) const BLOCKS_MAX: usize = 10_000;
/// Bytes of a node's answer; BIP 22 has single words, but connection errors may be long.
const REASON_MAX: usize = 400;
/// No configuration has more.
const NODES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::BlockOutcome;

    fn news(height: u32, at: u64, what: BlockEvent) -> BlockNews {
        BlockNews { height, hash: format!("{height:064}"), at, what }
    }

    fn answered(node: &str, outcome: BlockOutcome) -> BlockEvent {
        BlockEvent::Answered { node: node.into(), outcome }
    }

    #[test]
    fn each_node_has_its_last_word() {
        let mut found = Found::default();
        found.hear(news(7, 100, BlockEvent::Found(Some("a.b".into()))));
        found.hear(news(7, 101, answered("x", BlockOutcome::Unanswered(String::new()))));
        found.hear(news(7, 102, answered("y", BlockOutcome::Accepted)));
        found.hear(news(7, 103, answered("x", BlockOutcome::Stale)));
        let blocks = found.latest(5);
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].at, blocks[0].worker.as_str()), (100, "a.b"));
        let words: Vec<_> = blocks[0]
            .submissions
            .iter()
            .map(|it| (it.node.as_str(), it.outcome.name(), it.at))
            .collect();
        assert_eq!(words, [("x", "stale", 103), ("y", "accepted", 102)]);
        assert_eq!(found.take_changed(), blocks);
        assert!(found.take_changed().is_empty());
        found.put_back(blocks.clone());
        assert_eq!(found.take_changed(), blocks);
    }

    #[test]
    fn a_block_that_a_restart_resumed_keeps_its_story() {
        let mut before = Found::default();
        before.hear(news(7, 100, BlockEvent::Found(Some("a.b".into()))));
        before.hear(news(7, 101, answered("x", BlockOutcome::Unanswered(String::new()))));
        before.hear(news(7, 101, answered("y", BlockOutcome::Unanswered(String::new()))));
        let mut found = Found::default();
        found.hear(news(7, 900, answered("x", BlockOutcome::Accepted)));
        found.load(before.latest(10));
        let blocks = found.latest(5);
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].at, blocks[0].worker.as_str()), (100, "a.b"));
        let words: Vec<_> = blocks[0]
            .submissions
            .iter()
            .map(|it| (it.node.as_str(), it.outcome.name(), it.at))
            .collect();
        assert_eq!(words, [("x", "accepted", 900), ("y", "unanswered", 101)]);
    }

    #[test]
    fn blocks_are_bounded() {
        let mut found = Found::default();
        let last = u32::try_from(BLOCKS_MAX).unwrap() + 4;
        for height in 0..=last {
            found.hear(news(height, 1, BlockEvent::Found(None)));
        }
        found.hear(news(last, 2, answered("x", BlockOutcome::Rejected("ü".repeat(1_000)))));
        let cut = BlockOutcome::Rejected("ü".repeat(REASON_MAX / 2));
        assert_eq!(found.latest(1)[0].submissions[0].outcome, cut);
        assert_eq!(found.blocks.len(), BLOCKS_MAX);
        assert_eq!(found.take_changed().len(), BLOCKS_MAX);
        assert_eq!(found.latest(1)[0].height, last);
    }
}
