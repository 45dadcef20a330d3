//! What has happened since the start, for logs and the demo. Sessions add once per read, not per share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::{Heartbeat, Histogram, MinerProtocol, TipClock};
use crate::work::{Refused, Reject};

/// Totals over all miners.
#[derive(Debug, Default)]
pub struct Counters {
    shares: [ShareCounters; MinerProtocol::ALL.len()],
    blocks: AtomicU64,
    connections: AtomicU64,
    /// Shares that a miner saw accepted and that never reached a pool, through this side's fault.
    relay_dropped: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    nameless: AtomicU64,
    /// In the order of [`PlacesView`].
    places: [AtomicUsize; 3],
    /// Beats as long as the threads that serve miners run.
    pub(crate) pulse: Heartbeat,
    /// From a read with submits to the answers written: one for each such read.
    pub(crate) submits: Histogram,
    pub(crate) tip: TipClock,
}

/// Places for connections of miners.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct PlacesView {
    pub(crate) taken: usize,
    pub(crate) most: usize,
    /// How many of those taken are held by miners without a share.
    pub(crate) unproven: usize,
}

impl PlacesView {
    /// True when fewer than one in ten are left.
    pub(crate) fn is_short(&self) -> bool {
        self.taken > 0 && self.taken * 10 >= self.most * 9
    }
}

/// Shares of one protocol.
#[derive(Debug, Default)]
struct ShareCounters {
    accepted: AtomicU64,
    /// Σ credited difficulty, an `f64`'s bits.
    difficulty: AtomicU64,
    rejected: [AtomicU64; Reject::ALL.len()],
    /// Σ difficulty of rejected shares, where it is known; an `f64`'s bits.
    rejected_difficulty: AtomicU64,
}

/// A snapshot of [`Counters`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CountersView {
    pub accepted: u64,
    pub(crate) accepted_difficulty: f64,
    pub(crate) rejected_difficulty: f64,
    pub(crate) rejected: [u64; Reject::ALL.len()],
    /// The same shares by protocol, in the order of `MinerProtocol::ALL`.
    pub(crate) by_protocol: [SharesView; MinerProtocol::ALL.len()],
    pub(crate) blocks: u64,
    /// Miners connected now.
    pub connections: u64,
    pub(crate) relay_dropped: u64,
    /// In the order of `Refused::ALL`.
    pub(crate) refused: [u64; Refused::ALL.len()],
    /// Shares whose worker's name could not be read; they count for the channel's own name.
    pub(crate) nameless: u64,
    pub(crate) places: PlacesView,
}

/// A snapshot of one protocol's shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SharesView {
    pub(crate) accepted: u64,
    pub(crate) difficulty: f64,
    pub(crate) rejected: [u64; Reject::ALL.len()],
    pub(crate) rejected_difficulty: f64,
}

impl Counters {
    pub fn add_accepted(&self, protocol: MinerProtocol, shares: u64, difficulty: f64) {
        let counters = &self.shares[protocol as usize];
        counters.accepted.fetch_add(shares, Relaxed);
        add(&counters.difficulty, difficulty);
    }

    pub fn add_rejected(&self, protocol: MinerProtocol, reject: Reject, shares: u64) {
        self.shares[protocol as usize].rejected[reject as usize].fetch_add(shares, Relaxed);
    }

    pub(crate) fn add_rejected_difficulty(&self, protocol: MinerProtocol, difficulty: f64) {
        add(&self.shares[protocol as usize].rejected_difficulty, difficulty);
    }

    pub(crate) fn add_refused(&self, refused: Refused) {
        self.refused[refused as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn add_nameless(&self, shares: u64) {
        self.nameless.fetch_add(shares, Relaxed);
    }

    pub(crate) fn set_places(&self, view: PlacesView) {
        for (place, count) in self.places.iter().zip([view.taken, view.most, view.unproven]) {
            place.store(count, Relaxed);
        }
    }

    pub(crate) fn add_block(&self) {
        self.blocks.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_relay_dropped(&self, shares: u64) {
        self.relay_dropped.fetch_add(shares, Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn disconnected(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub fn view(&self) -> CountersView {
        let load = |counter: &AtomicU64| counter.load(Relaxed);
        let by_protocol = std::array::from_fn(|at| {
            let ShareCounters { accepted, difficulty, rejected, rejected_difficulty } =
                &self.shares[at];
            SharesView {
                accepted: load(accepted),
                difficulty: f64::from_bits(load(difficulty)),
                rejected: std::array::from_fn(|at| load(&rejected[at])),
                rejected_difficulty: f64::from_bits(load(rejected_difficulty)),
            }
        });
        let all = by_protocol.iter();
        CountersView {
            accepted: all.clone().map(|shares| shares.accepted).sum(),
            accepted_difficulty: all.clone().map(|shares| shares.difficulty).sum(),
            rejected_difficulty: all.clone().map(|shares| shares.rejected_difficulty).sum(),
            rejected: std::array::from_fn(|at| all.clone().map(|it| it.rejected[at]).sum()),
            by_protocol,
            blocks: load(&self.blocks),
            connections: load(&self.connections),
            relay_dropped: load(&self.relay_dropped),
            refused: std::array::from_fn(|at| load(&self.refused[at])),
            nameless: load(&self.nameless),
            places: {
                let [taken, most, unproven] =
                    std::array::from_fn(|at| self.places[at].load(Relaxed));
                PlacesView { taken, most, unproven }
            },
        }
    }
}

/// Adds to an `f64` that is kept as bits.
fn add(sum: &AtomicU64, more: f64) {
    let add = |bits| Some((f64::from_bits(bits) + more).to_bits());
    // Never fails: `add` always returns a value.
    let _ = sum.fetch_update(Relaxed, Relaxed, add);
}

impl CountersView {
    pub(crate) fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }
}
