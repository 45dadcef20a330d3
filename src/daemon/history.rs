//! Gives the ledger what it records.

use std::{sync::Arc, time::SystemTime};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    blocks::{BlockStats, BlockUpdate, BlockUpdateKind},
    books::{Counters, Roster},
    config::Config,
    ledger::{self, BlockEvent, BlockNews, Ledger},
    template::Templates,
};

pub(super) fn start_ledger(
    config: &Config,
    roster: &Arc<Roster>,
    counters: &Arc<Counters>,
    blocks: &Arc<BlockStats>,
) -> Ledger {
    let blocks = Arc::clone(blocks);
    let inputs = ledger::Inputs {
        roster: Arc::clone(roster),
        counters: Arc::clone(counters),
        blocks: Box::new(move || blocks.take_news().into_iter().map(block_news).collect()),
    };
    ledger::spawn(config.ledger.clone(), inputs)
}

/// Records when each node heard of each tip.
pub(super) fn note_tips(
    templates: &Templates,
    counters: &Arc<Counters>,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    let (mut nodes, counters) = (templates.status.clone(), Arc::clone(counters));
    tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
        while nodes.changed().await.is_ok() {
            for (tip, at) in nodes.borrow_and_update().iter().filter_map(|node| node.tip) {
                counters.tip.heard(tip, at);
            }
        }
    }));
}

fn block_news(news: BlockUpdate) -> BlockNews {
    let BlockUpdate { height, hash, at, event } = news;
    let what = match event {
        BlockUpdateKind::Found(worker) => BlockEvent::Found(Some(worker.0.as_ref().into())),
        BlockUpdateKind::Answered(node, outcome) => {
            BlockEvent::Answered { node: node.as_ref().into(), outcome }
        }
    };
    let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    BlockNews { height, hash: hash.to_string(), at, what }
}
