//! What is news to those who listen: what differs from what was told before.

use super::{
    clock::moment,
    events::News,
    shapes::{Nodes, Pools, Template, Warnings},
    state::State,
    view,
};
use crate::{ledger::BlockRecord, work::JobId};

/// Remembers what was told. It starts from what there is: that is no news.
#[derive(Debug, Default)]
pub(super) struct Newsroom {
    turns: u64,
    /// None: nothing was looked at yet.
    job: Option<Option<JobId>>,
    pool: Option<String>,
    nodes: Option<String>,
    warnings: Option<String>,
    blocks: Option<Vec<(String, String)>>,
}

impl Newsroom {
    /// Whether it is time to look for new blocks.
    pub(super) fn wants_blocks(&self) -> bool {
        self.turns.is_multiple_of(BLOCKS_EACH)
    }

    /// Everything that is new. `blocks`, if looked for: the latest, newest first.
    pub(super) fn collect(&mut self, state: &State, blocks: Option<Vec<BlockRecord>>) -> Vec<News> {
        let (handles, moment) = (&state.handles, moment());
        let mut all = Vec::new();
        let job = handles.work.borrow().as_ref().map(|work| work.latest().id);
        if self.job.replace(job).is_some_and(|known| known != job) {
            all.extend(template(state));
        }
        let pools = view::pools(handles, &moment);
        if is_new(&mut self.pool, pool_key(&pools)) {
            all.extend(News::new("pool", &pools));
        }
        let nodes = view::nodes(handles, &moment);
        if is_new(&mut self.nodes, node_key(&nodes)) {
            all.extend(News::new("nodes", &nodes));
        }
        let warnings = Warnings { warnings: state.warnings() };
        if is_new(&mut self.warnings, warning_key(&warnings)) {
            all.extend(News::new("warnings", &warnings));
        }
        all.extend(self.new_blocks(blocks.unwrap_or_default()));
        self.turns += 1;
        if self.turns.is_multiple_of(STATUS_EACH) {
            all.extend(News::new("status", &state.status()));
        }
        all
    }

    fn new_blocks(&mut self, records: Vec<BlockRecord>) -> Vec<News> {
        if records.is_empty() {
            return Vec::new();
        }
        let key = |record: &BlockRecord| (record.hash.clone(), format!("{:?}", record.submissions));
        let keys: Vec<_> = records.iter().map(key).collect();
        let known = self.blocks.replace(keys);
        let Some(known) = known else { return Vec::new() };
        let is_known = |record: &BlockRecord| known.contains(&key(record));
        let new = records.into_iter().filter(|record| !is_known(record));
        // Oldest first, as they happened.
        let new: Vec<_> = new.map(view::block).collect();
        new.iter().rev().filter_map(|block| News::new("block", block)).collect()
    }
}

/// What a listener begins with: how everything is.
pub(super) fn greeting(state: &State) -> Vec<News> {
    let (handles, moment) = (&state.handles, moment());
    let all = [
        News::new("status", &state.status()),
        template(state),
        News::new("pool", &view::pools(handles, &moment)),
        News::new("nodes", &view::nodes(handles, &moment)),
        News::new("warnings", &Warnings { warnings: state.warnings() }),
    ];
    all.into_iter().flatten().collect()
}

fn template(state: &State) -> Option<News> {
    let template: Template = view::template(&state.handles, &moment())?;
    News::new("template", &template)
}

fn is_new(known: &mut Option<String>, key: String) -> bool {
    let is_new = known.as_ref().is_some_and(|known| *known != key);
    *known = Some(key);
    is_new
}

/// All but what changes with each share and each second.
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

/// Without the figures, which count on by themselves.
fn warning_key(warnings: &Warnings) -> String {
    let texts = warnings.warnings.iter().map(|warning| (warning.code, &warning.text));
    let key: String = texts.map(|(code, text)| format!("{code} {text}\n")).collect();
    key.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// In turns of [`LOOK_EACH_MS`]: two seconds, and one.
const STATUS_EACH: u64 = 8;
const BLOCKS_EACH: u64 = 4;
/// How soon news gets out.
pub(super) const LOOK_EACH_MS: u64 = 250;
