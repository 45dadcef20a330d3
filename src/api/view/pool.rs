//! The DATUM pools.

use std::{sync::Arc, time::Instant};

use super::{coinbase::address, reasons, work::text};
use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{Pool, PoolShares, PoolState, Pools, Relay},
    },
    datum::{self, NextPool, PoolStatsView, PoolTally},
    work::PoolTerms,
};

pub(crate) fn pools(handles: &Handles, moment: &Moment) -> Pools {
    let pool = handles.pool.borrow().clone();
    let dropped = handles.counters.view().relay_dropped;
    let stats = pool.as_ref().map(|pool| pool.stats.view()).unwrap_or_default();
    let names: Vec<_> = handles.config().datum.pools.iter().map(datum::PoolConfig::name).collect();
    let one = |name: &Arc<str>| one(name, handles, pool.as_ref(), &stats, moment);
    // A pool that is no longer configured, but in use until another proves itself.
    let kept = pool.as_ref().and_then(in_use).filter(|name| !names.contains(name));
    let pools = names.iter().chain(&kept).map(one).collect();
    Pools { pools, relay: relay(&stats, dropped) }
}

/// The pool whose terms are in use, unless it has been left.
fn in_use(pool: &datum::Pool) -> Option<Arc<str>> {
    let payout = pool.payout.borrow().clone();
    let name = Arc::clone(&pool.status.borrow().pool);
    let is_paid = |terms: &PoolTerms| terms.pool == name;
    payout?.pooled.as_ref().is_some_and(is_paid).then_some(name)
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
    let next = status.iter().flat_map(|status| &status.next).find(|next| next.pool == *name);
    let next = next.cloned();
    let status = status.filter(|status| status.pool == *name);
    let (state, down_since, last_error) = standing(status.as_ref(), next, pool.is_some());
    let payout = pool.and_then(|pool| pool.payout.borrow().clone());
    let terms = payout.as_ref().and_then(|payout| payout.pooled.as_ref());
    // The last pool's terms stay in use while it is away.
    let terms = terms.filter(|terms| terms.pool == *name);
    let script = payout.as_ref().filter(|_| terms.is_some()).map(|payout| &*payout.script);
    let network = handles.templates.network();
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Pool {
        name: name.to_string(),
        state,
        is_active: status.is_some(),
        down_for_s: down_since.map(|since| moment.age_s(since)),
        motd: status.as_ref().and_then(|status| filled(&status.motd)),
        last_error: last_error.as_deref().and_then(filled),
        prime_id: terms.map(|terms| terms.prime_id),
        keeps_prime_id: status.as_ref().and_then(|status| status.keeps_prime_id),
        tag: terms.and(payout.as_ref()).map(|payout| text(&payout.tag_primary)),
        difficulty_min: terms.map(|terms| terms.min_difficulty),
        script_hex: script.map(faster_hex::hex_string),
        address: script.zip(network).and_then(|(script, network)| address(script, network)),
        shares: tally.map(shares).unwrap_or_default(),
        round_trip_ms: tally.map(|tally| tally.round_trip.as_secs_f64() * 1000.0),
    }
}

/// A pool's state: the one of `status`, one that should replace it, or another.
fn standing(
    status: Option<&datum::PoolStatus>,
    next: Option<NextPool>,
    started: bool,
) -> (PoolState, Option<Instant>, Option<Arc<str>>) {
    if let Some(status) = status {
        let (state, since) = match status.state {
            datum::PoolState::Connecting => (PoolState::Connecting, None),
            datum::PoolState::Up => (PoolState::Up, None),
            datum::PoolState::Down { since } => (PoolState::Down, Some(since)),
        };
        return (state, since, status.last_error.clone());
    }
    match next.map(|next| next.failing) {
        Some(Some((since, why))) => (PoolState::Down, Some(since), Some(why)),
        Some(None) => (PoolState::Connecting, None, None),
        None if started => (PoolState::Standby, None, None),
        // Pools are not contacted before there is a node.
        None => (PoolState::Connecting, None, None),
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
        unanswered: tally.unanswered,
    }
}

fn relay(stats: &PoolStatsView, dropped: u64) -> Relay {
    Relay {
        received: stats.received,
        accepted: stats.accepted,
        rejected: stats.rejected_total(),
        unanswered: stats.unanswered,
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
