//! Turns the running parts' state into the API's answers. Pure: handles and a moment in, shapes
//! out.

mod bans;
mod blocks;
mod coinbase;
pub(super) mod datum_gateway;
mod history;
mod miners;
mod nodes;
mod pool;
mod status;
mod warnings;
mod work;

pub(super) use self::{
    bans::bans,
    blocks::{block, blocks},
    history::{HistoryRequest, history},
    miners::{miners, workers},
    nodes::nodes,
    pool::pools,
    status::{mode, readiness, status},
    warnings::warnings,
    work::{template, work},
};
use super::shapes::{Class, Protocol, Reasons};
use crate::{
    books::MinerProtocol as Spoken,
    work::{CoinbaseClass, Reject},
};

/// Counts by reason, without those that did not occur.
fn reasons(counts: impl IntoIterator<Item = (&'static str, u64)>) -> Reasons {
    let mut reasons = Reasons::new();
    for (reason, count) in counts {
        if count > 0 {
            *reasons.entry(reason).or_default() += count;
        }
    }
    reasons
}

fn rejects(counts: [u64; Reject::ALL.len()]) -> Reasons {
    reasons(Reject::ALL.map(Reject::name).into_iter().zip(counts))
}

fn protocol(protocol: Spoken) -> Protocol {
    match protocol {
        Spoken::Sv1 => Protocol::Sv1,
        Spoken::Sv1Tls => Protocol::Sv1Tls,
        Spoken::Sv2Standard => Protocol::Sv2Standard,
        Spoken::Sv2Extended => Protocol::Sv2Extended,
    }
}

fn class(id: CoinbaseClass) -> Class {
    match id {
        CoinbaseClass::Tiny => Class::Tiny,
        CoinbaseClass::Small => Class::Small,
        CoinbaseClass::Respectable => Class::Respectable,
        CoinbaseClass::Huge => Class::Huge,
        CoinbaseClass::S21 => Class::S21,
        CoinbaseClass::Empty => Class::Empty,
        CoinbaseClass::Default => Class::Default,
    }
}

/// JSON has no infinity.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
