//! Who mines here.

use std::{collections::HashMap, sync::Arc};

use super::{class, protocol, rejects};
use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{self, Miners, Workers},
    },
    books::roster,
    ledger::WorkerRecord,
};

/// Up to `limit` miners with ids above `after`, by id.
pub(crate) fn miners(handles: &Handles, after: u64, limit: usize, moment: &Moment) -> Miners {
    let mut all = handles.roster.miners();
    let total = all.len() as u64;
    all.retain(|miner| miner.id > after);
    all.sort_unstable_by_key(|miner| miner.id);
    let (mut miners, mut bytes) = (Vec::new(), 0);
    for it in all.iter().take(limit) {
        let miner = miner(handles, it, moment);
        bytes += size(&miner);
        if bytes > BYTES_MAX && !miners.is_empty() {
            break;
        }
        miners.push(miner);
    }
    let is_cut = miners.len() < all.len();
    let next_after = miners.last().filter(|_| is_cut).map(|miner| miner.id);
    Miners { total, miners, next_after }
}

/// Its approximate size as JSON: a miner may have 64 names of hundreds of letters.
fn size(miner: &shapes::Miner) -> usize {
    let names: usize = miner.workers.iter().map(|name| name.len() + 3).sum();
    MINER_LEN + miner.user_agent.len() + names
}

fn miner(handles: &Handles, miner: &Arc<roster::Miner>, moment: &Moment) -> shapes::Miner {
    let (about, score) = (miner.about(), miner.score.view());
    let last_share = score.last_share.map(|since| handles.roster.began() + since);
    shapes::Miner {
        id: miner.id,
        peer: miner.peer.to_string(),
        protocol: protocol(miner.protocol),
        user_agent: about.user_agent.into(),
        workers: about.workers.iter().map(|name| name.0.to_string()).collect(),
        unpayable_name: miner.unpayable().map(|name| name.0.to_string()),
        class: class(about.class),
        difficulty: miner.difficulty(),
        hashrate_h_per_s: handles.ledger.miner_hashrate(miner.id).unwrap_or_default().m5,
        accepted: score.accepted,
        accepted_difficulty: score.difficulty,
        rejected: score.rejected_total(),
        rejected_by_reason: rejects(score.rejected),
        best_share_difficulty: (score.best > 0.0).then_some(score.best),
        last_share_age_s: last_share.map(|at| moment.age_s(at)),
        connected_at_unix_s: moment.unix_s_of(miner.connected),
        connected_s: moment.age_s(miner.connected),
        blocks: score.blocks,
    }
}

/// How many live miners use each name.
fn names_in_use(handles: &Handles) -> HashMap<Arc<str>, u64> {
    let mut names: HashMap<Arc<str>, u64> = HashMap::new();
    for miner in handles.roster.miners() {
        for name in miner.about().workers {
            *names.entry(name.0).or_default() += 1;
        }
    }
    names
}

pub(crate) fn workers(handles: &Handles, records: Vec<WorkerRecord>, moment: &Moment) -> Workers {
    let names = names_in_use(handles);
    let live = |name: &str| names.get(name).copied().unwrap_or(0);
    let mut workers: Vec<_> =
        records.into_iter().map(|record| worker(live(&record.name), record, moment)).collect();
    workers.sort_by(|a, b| b.hashrate_1h_h_per_s.total_cmp(&a.hashrate_1h_h_per_s));
    Workers { total: workers.len() as u64, workers }
}

fn worker(miners: u64, record: WorkerRecord, moment: &Moment) -> shapes::Worker {
    let known = |unix_s: u64| (unix_s > 0).then_some(unix_s);
    let last_seen = known(record.last_seen);
    shapes::Worker {
        miners,
        hashrate_1m_h_per_s: record.hashrate.m1,
        hashrate_5m_h_per_s: record.hashrate.m5,
        hashrate_1h_h_per_s: record.hashrate.h1,
        accepted: record.accepted,
        accepted_difficulty: record.difficulty,
        rejected: record.rejected.iter().sum(),
        rejected_by_reason: rejects(record.rejected),
        best_share_difficulty: (record.best_difficulty > 0.0).then_some(record.best_difficulty),
        best_share_at_unix_s: known(record.best_at),
        first_seen_at_unix_s: known(record.first_seen),
        last_share_at_unix_s: last_seen,
        last_share_age_s: last_seen.map(|at| moment.unix_s.saturating_sub(at) as f64),
        blocks: record.blocks,
        name: record.name,
    }
}

/// Per answer: some thousands of miners.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The size of a miner without its names.
const MINER_LEN: usize = 500;
