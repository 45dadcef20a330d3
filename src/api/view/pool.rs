//! The DATUM pools.

use std::sync::Arc;

use super::{coinbase::address, reasons, work::text};
use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{Pool, PoolShares, PoolState, Pools, Relay},
    },
    datum::{self, PoolStatsView, PoolTally},
};

pub(crate) fn pools(handles: &Handles, moment: &Moment) -> Pools {
    let pool = handles.pool.borrow().clone();
    let dropped = handles.counters.view().relay_dropped;
    let stats = pool.as_ref().map(|pool| pool.stats.view()).unwrap_or_default();
    let facts = handles.facts.borrow().clone();
    let one = |name: &Arc<str>| one(name, handles, pool.as_ref(), &stats, moment);
    Pools { pools: facts.pools.iter().map(one).collect(), relay: relay(&stats, dropped) }
}

fn one(
    name: &Arc<str>,
    handles: &Handles,
    pool: Option<&datum::Pool>,
    stats: &PoolStatsView,
    moment: &Moment,
) -> Pool {
    let tally = stats.pools.iter().find(|(known, _)| known == name).map(|(_, tally)| tally);
    let status = pool.map(|pool| pool.status.borrow().clone());
    let status = status.filter(|status| status.pool == *name);
    let payout = pool.and_then(|pool| pool.payout.borrow().clone());
    let terms = payout.as_ref().and_then(|payout| payout.pooled.as_ref());
    // The last pool's terms stay while it is away.
    let terms = terms.filter(|terms| terms.pool == *name);
    let script = payout.as_ref().filter(|_| terms.is_some()).map(|payout| &*payout.script);
    let network = handles.templates.network();
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Pool {
        name: name.to_string(),
        state: state(status.as_ref(), pool.is_some()),
        is_active: status.is_some(),
        down_for_s: status.as_ref().and_then(|status| match status.state {
            datum::PoolState::Down { since } => Some(moment.age_s(since)),
            _ => None,
        }),
        motd: status.as_ref().and_then(|status| filled(&status.motd)),
        last_error: status.as_ref().and_then(|status| filled(status.last_error.as_deref()?)),
        prime_id: terms.map(|terms| terms.prime_id),
        tag: terms.and(payout.as_ref()).map(|payout| text(&payout.tag_primary)),
        difficulty_min: terms.map(|terms| terms.min_difficulty),
        script_hex: script.map(faster_hex::hex_string),
        address: script.zip(network).and_then(|(script, network)| address(script, network)),
        shares: tally.map(shares).unwrap_or_default(),
        round_trip_ms: tally.map(|tally| tally.round_trip.as_secs_f64() * 1000.0),
    }
}

fn state(status: Option<&datum::PoolStatus>, started: bool) -> PoolState {
    match status.map(|status| status.state) {
        Some(datum::PoolState::Connecting) => PoolState::Connecting,
        Some(datum::PoolState::Up) => PoolState::Up,
        Some(datum::PoolState::Down { .. }) => PoolState::Down,
        None if started => PoolState::Standby,
        // Pools are not asked before there is a node.
        None => PoolState::Connecting,
    }
}

fn shares(tally: &PoolTally) -> PoolShares {
    let rejected = tally.rejected.iter().map(|(reason, count)| (reason.name(), *count));
    PoolShares {
        accepted: tally.accepted,
        tentative: tally.tentative,
        accepted_difficulty: tally.accepted_difficulty,
        rejected: tally.rejected.values().sum(),
        rejected_by_reason: reasons(rejected),
    }
}

fn relay(stats: &PoolStatsView, dropped: u64) -> Relay {
    Relay {
        received: stats.received,
        accepted: stats.accepted,
        rejected: stats.rejected_total(),
        held: stats.held,
        awaiting: stats.awaiting,
        lost: stats.lost_total(),
        lost_by_reason: reasons(stats.lost.iter().map(|(why, count)| (why.name(), *count))),
        replayed: stats.replayed,
        dropped,
        splits: stats.coinbasers,
        splits_refused: stats.coinbasers_refused,
        splits_cut: stats.coinbasers_cut,
        connections: stats.connections,
    }
}
