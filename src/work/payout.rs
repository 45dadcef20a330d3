//! Whom a coinbase pays, and with which tags.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Hash256, Template};

/// The payout side of a job. Immutable; a new pool configuration or coinbaser makes a new one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Payout {
    /// Gets what no split claims: the pool's script, or the operator's when solo.
    pub script: Box<[u8]>,
    /// The pool's tag when pooled.
    pub tag_primary: Box<[u8]>,
    pub tag_secondary: Box<[u8]>,
    /// `mining.unique_id`.
    pub unique_id: u16,
    /// The operator's own script: if the pool gives it a split, that one goes before others where a
    /// class has no room for all (`pooling.always_pay_self`). None: in the pool's order.
    pub own_script: Option<Box<[u8]>>,
    /// Present when pooled.
    pub pooled: Option<PoolTerms>,
}

/// What only a pooled job has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PoolTerms {
    /// The pool as it is named in logs, `host:port`.
    pub pool: Arc<str>,
    pub prime_id: u32,
    /// A power of two; 0 when the pool sets none, and then difficulties below 1 are allowed.
    pub min_difficulty: u64,
    /// The last good split that the pool sent on this connection: see [`Payout::split`].
    pub coinbaser: Option<Arc<Coinbaser>>,
    /// The last coinbaser request that ended, successfully or not: there is nothing more to wait
    /// for.
    pub settled: Option<CoinbaserRequest>,
    /// Counts the connections that the pool has configured; contexts are sent again on each.
    pub epoch: u64,
    /// Counts up, from 1, whenever shares of earlier work stop being worth anything to the pool.
    pub series: u64,
    /// The last series that has become worthless. If it is this one's own, the pool has gone and
    /// will accept none of its shares when it is back.
    pub void_series: u64,
    /// The same, as of this moment.
    pub void_now: VoidNow,
}

impl PoolTerms {
    /// True when nobody pays for shares of this work any more, whether or not new work has gone out
    /// since.
    pub fn is_void(&self) -> bool {
        self.series <= self.void_now.get()
    }
}

/// The last series that has become worthless, shared by all terms of a pool client, which alone
/// changes it. New work takes milliseconds to reach miners; whoever judges their shares knows at
/// once.
#[derive(Clone, Debug, Default)]
pub struct VoidNow(Arc<AtomicU64>);

impl VoidNow {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, series: u64) {
        self.0.store(series, Ordering::Relaxed);
    }
}

/// Terms are compared by what they said when they were given.
impl PartialEq for VoidNow {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for VoidNow {}

/// What a coinbaser was asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CoinbaserRequest {
    pub prevhash: Hash256,
    /// Satoshis that the template can pay.
    pub value: u64,
}

impl CoinbaserRequest {
    /// For `template`.
    pub(crate) fn of(template: &Template) -> Self {
        Self { prevhash: template.prevhash, value: template.coinbase_value }
    }
}

/// The pool's split of a coinbase. Checked: outputs do not overrun the value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coinbaser {
    pub id: u8,
    pub request: CoinbaserRequest,
    pub outputs: Box<[PayoutOutput]>,
}

/// One output of a coinbase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PayoutOutput {
    /// Sats.
    pub value: u64,
    pub script: Box<[u8]>,
}

impl Payout {
    /// The split to pay in a block of `template`, if there is one: the pool derives it again from
    /// its number and the value, so a split for any other value would be refused.
    pub fn split(&self, template: &Template) -> Option<&Coinbaser> {
        let split = self.pooled.as_ref()?.coinbaser.as_deref()?;
        (split.request == CoinbaserRequest::of(template)).then_some(split)
    }

    /// True when shares of jobs with `self` may be sent to a pool that now says `other`.
    pub(crate) fn same_terms(&self, other: &Self) -> bool {
        let prime = |payout: &Self| payout.pooled.as_ref().map(|terms| terms.prime_id);
        self.script == other.script
            && self.tag_primary == other.tag_primary
            && prime(self) == prime(other)
    }
}
