//! Decides what to send to listeners: whatever differs from what was sent before.

use super::{
    clock::moment,
    events::ApiEvent,
    shapes::{Nodes, Pools, Template, Warnings},
    state::State,
    view,
};
use crate::{ledger::BlockRecord, work::JobId};

/// Remembers what was sent. What exists at the start is not sent.
#[derive(Debug, Default)]
pub(super) struct ChangeTracker {
    turns: u64,
    /// None: not checked yet.
    job: Option<Option<JobId>>,
    pool: Option<String>,
    nodes: Option<String>,
    warnings: Option<String>,
    /// None: not checked yet. Hashes, and what nodes said.
    blocks: Option<Vec<(String, String)>>,
    /// Unix seconds when blocks were first checked.
    blocks_since: u64,
}

impl ChangeTracker {
    /// Whether it is time to check for new blocks.
    pub(super) fn wants_blocks(&self) -> bool {
        self.turns.is_multiple_of(BLOCKS_EACH)
    }

    /// Everything that is new. `blocks`, if checked: the latest, newest first.
    pub(super) fn collect(
        &mut self,
        state: &State,
        blocks: Option<Vec<BlockRecord>>,
    ) -> Vec<ApiEvent> {
        let (handles, moment) = (&state.handles, moment());
        let mut all = Vec::new();
        let job = handles.work.borrow().as_ref().map(|work| work.latest().id);
        if self.job.replace(job).is_some_and(|known| known != job) {
            all.extend(template(state));
        }
        let pools = view::pools(handles, &moment);
        if is_new(&mut self.pool, pool_key(&pools)) {
            all.extend(ApiEvent::new("pool", &pools));
        }
        let nodes = view::nodes(handles, &moment);
        if is_new(&mut self.nodes, node_key(&nodes)) {
            all.extend(ApiEvent::new("nodes", &nodes));
        }
        let warnings = Warnings { warnings: state.warnings() };
        if is_new(&mut self.warnings, warning_key(&warnings)) {
            all.extend(ApiEvent::new("warnings", &warnings));
        }
        all.extend(blocks.into_iter().flat_map(|blocks| self.new_blocks(blocks, moment.unix_s)));
        self.turns += 1;
        if self.turns.is_multiple_of(STATUS_EACH) {
            all.extend(ApiEvent::new("status", &state.status()));
        }
        all
    }

    /// Having no blocks yet is a starting point, too.
    fn new_blocks(&mut self, records: Vec<BlockRecord>, unix_s: u64) -> Vec<ApiEvent> {
        let key = |record: &BlockRecord| (record.hash.clone(), format!("{:?}", record.submissions));
        let keys: Vec<_> = records.iter().map(key).collect();
        let known = self.blocks.replace(keys);
        let Some(known) = known else {
            self.blocks_since = unix_s;
            return Vec::new();
        };
        let is_told = |record: &BlockRecord| known.contains(&key(record));
        // The ledger loads the blocks of earlier runs a while after it has started.
        let is_of_now = |record: &BlockRecord| {
            record.at.saturating_add(HEARD_LATE_S) >= self.blocks_since
                || known.iter().any(|(hash, _)| *hash == record.hash)
        };
        let new = records.into_iter().filter(|record| !is_told(record) && is_of_now(record));
        // Oldest first, as they happened.
        let new: Vec<_> = new.map(view::block).collect();
        new.iter().rev().filter_map(|block| ApiEvent::new("block", block)).collect()
    }
}

/// A listener's first events: the current state of everything.
pub(super) fn greeting(state: &State) -> Vec<ApiEvent> {
    let (handles, moment) = (&state.handles, moment());
    let all = [
        ApiEvent::new("status", &state.status()),
        template(state),
        ApiEvent::new("pool", &view::pools(handles, &moment)),
        ApiEvent::new("nodes", &view::nodes(handles, &moment)),
        ApiEvent::new("warnings", &Warnings { warnings: state.warnings() }),
    ];
    all.into_iter().flatten().collect()
}

fn template(state: &State) -> Option<ApiEvent> {
    let template: Template = view::template(&state.handles, &moment())?;
    ApiEvent::new("template", &template)
}

fn is_new(known: &mut Option<String>, key: String) -> bool {
    let is_new = known.as_ref().is_some_and(|known| *known != key);
    *known = Some(key);
    is_new
}

/// Everything except what changes with each share or each second.
fn pool_key(pools: &Pools) -> String {
    let one = |pool: &super::shapes::Pool| {
        let motd = (&pool.motd, &pool.last_error, &pool.tag, pool.prime_id, pool.difficulty_min);
        format!("{} {:?} {motd:?}", pool.name, pool.state)
    };
    pools.pools.iter().map(one).collect()
}

fn node_key(nodes: &Nodes) -> String {
    let one = |node: &super::shapes::Node| {
        format!("{} {:?} {} {:?}", node.name, node.state, node.is_active, node.last_error)
    };
    nodes.nodes.iter().map(one).collect()
}

/// Without the figures, which change constantly.
fn warning_key(warnings: &Warnings) -> String {
    let texts = warnings.warnings.iter().map(|warning| (warning.code, &warning.text));
    let key: String = texts.map(|(code, text)| format!("{code} {text}\n")).collect();
    key.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// How late the ledger may hear of a block, and how far clocks may be turned back.
const HEARD_LATE_S: u64 = 60;
/// In units of [`LOOK_EACH_MS`]: two seconds, and one.
const STATUS_EACH: u64 = 8;
const BLOCKS_EACH: u64 = 4;
/// How soon changes are sent.
pub(super) const LOOK_EACH_MS: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::NodeAnswer, work::BlockOutcome};

    const NOW: u64 = 1_800_000_000;

    fn block(height: u32, at: u64, answers: usize) -> BlockRecord {
        let answer = NodeAnswer { node: "one".into(), outcome: BlockOutcome::Accepted, at: at + 1 };
        BlockRecord {
            height,
            hash: format!("{height:064}"),
            at,
            worker: "a.b".into(),
            submissions: vec![answer; answers],
        }
    }

    #[test]
    fn the_first_block_ever_is_news_and_so_is_what_nodes_say() {
        let mut newsroom = ChangeTracker::default();
        assert_eq!(newsroom.new_blocks(Vec::new(), NOW).len(), 0);
        assert_eq!(newsroom.new_blocks(Vec::new(), NOW + 1).len(), 0);
        assert_eq!(newsroom.new_blocks(vec![block(1, NOW + 2, 0)], NOW + 2).len(), 1);
        assert_eq!(newsroom.new_blocks(vec![block(1, NOW + 2, 0)], NOW + 3).len(), 0);
        assert_eq!(newsroom.new_blocks(vec![block(1, NOW + 2, 1)], NOW + 4).len(), 1);
        let two = vec![block(2, NOW + 9, 1), block(1, NOW + 2, 1)];
        assert_eq!(newsroom.new_blocks(two, NOW + 9).len(), 1);
    }

    #[test]
    fn blocks_of_before_are_no_news_however_late_they_are_read() {
        let mut newsroom = ChangeTracker::default();
        let old = block(1, NOW - 1000, 0);
        assert_eq!(newsroom.new_blocks(vec![old.clone()], NOW).len(), 0);
        assert_eq!(newsroom.new_blocks(vec![block(1, NOW - 1000, 1)], NOW + 1).len(), 1);
        let mut early = ChangeTracker::default();
        assert_eq!(early.new_blocks(Vec::new(), NOW).len(), 0);
        assert_eq!(early.new_blocks(vec![old.clone()], NOW + 1).len(), 0);
        let new = block(2, NOW + 2, 0);
        assert_eq!(early.new_blocks(vec![new, old], NOW + 2).len(), 1);
    }
}
