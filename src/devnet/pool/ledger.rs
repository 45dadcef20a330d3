//! What the whole pool remembers: accounts, shares, and of each gateway its splits and its tip.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use crate::{
    datum::message::{ShareReason, Wanted},
    work::{Hash256, PayoutOutput},
};

/// The moment at which something happens.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub instant: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// Figures of a pool, as anybody may see them.
#[derive(Clone, Debug, Default)]
pub struct PoolStatsView {
    pub accepted: u64,
    pub rejected: u64,
    pub rejected_by: BTreeMap<ShareReason, u64>,
    /// At most `USERS_MAX`; what is beyond goes to "(others)".
    pub accepted_by_user: BTreeMap<String, u64>,
    /// By coinbase id; 0xFF is subsidy-only work.
    pub accepted_by_class: BTreeMap<u8, u64>,
    /// Σ of what accepted shares were claimed to be worth.
    pub difficulty: f64,
    /// Shares that meet the block target, refused ones too.
    pub blocks: u64,
    /// Shares flagged as blocks, and not flagged as what they are.
    pub blocks_flagged: u64,
    pub blocks_misflagged: u64,
    pub coinbasers: u64,
    /// In the coinbase of the last accepted share: all outputs, and how many of the pool's splits.
    pub last_outputs: usize,
    pub last_splits: usize,
    /// The most splits that an accepted share's coinbase has paid.
    pub splits_max: usize,
    /// Answers to job validations that agree with the job; of these, by form.
    pub validations_ok: u64,
    pub validations_by_form: [u64; 3],
    pub validations_failed: u64,
    /// Answers with an error code.
    pub validations_refused: u64,
    /// Answers to no question, among them those to probes.
    pub validations_unasked: u64,
    pub last_validation_failure: Option<String>,
    pub last_validation_refusal: Option<String>,
    /// Connections now, and ever configured.
    pub connections: usize,
    pub connected: u64,
    /// How the last connection that ended badly ended.
    pub last_close: Option<String>,
}

impl PoolStatsView {
    pub(super) fn validated(&mut self, form: Wanted) {
        let at = match form {
            Wanted::ShortIds => 0,
            Wanted::Transactions => 1,
            Wanted::Block => 2,
        };
        self.validations_by_form[at] += 1;
    }
}

/// One share, as the pool saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareRecord {
    pub username: Arc<str>,
    pub slot: u8,
    pub coinbase_id: u8,
    pub target_byte: u8,
    pub height: u32,
    pub hash: Hash256,
    pub is_block: bool,
    pub verdict: Result<(), ShareReason>,
    pub unix: u64,
}

/// A split that was sent.
#[derive(Clone, Debug)]
pub(super) struct Issued {
    pub(super) id: u8,
    pub(super) outputs: Arc<[PayoutOutput]>,
}

/// All of the pool's memory.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) stats: PoolStatsView,
    recent: VecDeque<ShareRecord>,
    blocks: VecDeque<ShareRecord>,
    gateways: HashMap<[u8; 32], Gateway>,
    /// Which gateways there are, longest known first.
    known: VecDeque<[u8; 32]>,
    seen: Seen,
}

impl Ledger {
    pub fn stats(&self) -> &PoolStatsView {
        &self.stats
    }

    /// The last `RECENT_MAX` shares, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &ShareRecord> {
        self.recent.iter()
    }

    /// The last shares that were blocks, oldest first.
    pub fn blocks(&self) -> impl Iterator<Item = &ShareRecord> {
        self.blocks.iter()
    }

    /// What is remembered of the gateway with this long-term key, over its reconnections too.
    pub(super) fn gateway(&mut self, key: &[u8; 32]) -> &mut Gateway {
        if !self.gateways.contains_key(key) {
            self.known.push_back(*key);
            if self.known.len() > GATEWAYS_MAX
                && let Some(oldest) = self.known.pop_front()
            {
                self.gateways.remove(&oldest);
            }
        }
        self.gateways.entry(*key).or_default()
    }

    /// Remembers the hash of a good share; false when it was there already.
    pub(super) fn insert(&mut self, hash: &Hash256) -> bool {
        self.seen.insert(hash)
    }

    /// Books one share.
    pub(super) fn record(&mut self, record: ShareRecord, difficulty: f64) {
        let stats = &mut self.stats;
        match record.verdict {
            Ok(()) => {
                stats.accepted += 1;
                stats.difficulty += difficulty;
                *stats.accepted_by_class.entry(record.coinbase_id).or_default() += 1;
                let users = &mut stats.accepted_by_user;
                let known = users.len() < USERS_MAX || users.contains_key(&*record.username);
                let user = if known { &*record.username } else { "(others)" };
                *users.entry(user.to_owned()).or_default() += 1;
            }
            Err(reason) => {
                stats.rejected += 1;
                // The pool's own numbers, so few.
                *stats.rejected_by.entry(reason).or_default() += 1;
            }
        }
        if record.is_block {
            stats.blocks += 1;
            push_bounded(&mut self.blocks, record.clone(), BLOCKS_MAX);
        }
        push_bounded(&mut self.recent, record, RECENT_MAX);
    }
}

/// What the pool knows of one gateway.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// The last id given to a coinbaser; 0 is nobody's.
    last_id: u8,
    issued: VecDeque<Issued>,
    tip: Option<Tip>,
    /// Earlier tips, and since when they are none any more. Newest last.
    former: VecDeque<(Hash256, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Tip {
    prevhash: Hash256,
    height: Option<u32>,
}

impl Gateway {
    /// Gives a split an id of its own.
    pub(super) fn issue(&mut self, outputs: Arc<[PayoutOutput]>) -> u8 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        push_bounded(&mut self.issued, Issued { id: self.last_id, outputs }, ISSUED_MAX);
        self.last_id
    }

    /// The split with this id, the newest if there are several. Id 0 is that of no split.
    pub(super) fn issued(&self, id: u8) -> Option<Arc<[PayoutOutput]>> {
        if id == 0 {
            return Some(Arc::default());
        }
        self.issued.iter().rev().find(|issued| issued.id == id).map(|i| Arc::clone(&i.outputs))
    }

    /// The gateway asks for a split of a block on `prevhash`: that is its tip.
    pub(super) fn on_request(&mut self, prevhash: Hash256, now: Instant) {
        if self.tip.is_none_or(|tip| tip.prevhash != prevhash) {
            self.set_tip(Tip { prevhash, height: None }, now);
        }
    }

    /// The gateway has a job on `prevhash` at `height`; perhaps an old one, sent again.
    pub(super) fn on_job(&mut self, prevhash: Hash256, height: u32, now: Instant) {
        match &mut self.tip {
            None => self.set_tip(Tip { prevhash, height: Some(height) }, now),
            Some(tip) if tip.prevhash == prevhash => tip.height = Some(height),
            Some(_) if self.former.iter().any(|(former, _)| *former == prevhash) => {}
            Some(tip) if tip.height.is_some_and(|known| height >= known) => {
                self.set_tip(Tip { prevhash, height: Some(height) }, now);
            }
            // It may be older or newer than the tip, so nothing speaks against it for a while.
            Some(_) => push_bounded(&mut self.former, (prevhash, now), FORMER_MAX),
        }
    }

    fn set_tip(&mut self, tip: Tip, now: Instant) {
        self.former.retain(|(former, _)| *former != tip.prevhash);
        if let Some(old) = self.tip.replace(tip) {
            push_bounded(&mut self.former, (old.prevhash, now), FORMER_MAX);
        }
    }

    /// True when work on `prevhash` has been pointless for longer than `STALE_GRACE`.
    pub(super) fn is_stale(&self, prevhash: &Hash256, now: Instant) -> bool {
        if self.tip.is_none_or(|tip| tip.prevhash == *prevhash) {
            return false;
        }
        let former = self.former.iter().find(|(former, _)| former == prevhash);
        former.is_none_or(|(_, since)| now.saturating_duration_since(*since) > STALE_GRACE)
    }
}

/// Hashes of good shares, whoever sent them: at least the last `SEEN_MAX`.
#[derive(Debug, Default)]
struct Seen {
    newer: FxHashSet<u64>,
    older: FxHashSet<u64>,
}

impl Seen {
    fn insert(&mut self, hash: &Hash256) -> bool {
        // 64 of the hash's bits, from where no difficulty makes zeros.
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.0[..8]);
        let fingerprint = u64::from_le_bytes(bytes);
        if self.older.contains(&fingerprint) || !self.newer.insert(fingerprint) {
            return false;
        }
        if self.newer.len() >= SEEN_MAX {
            self.older = std::mem::take(&mut self.newer);
        }
        true
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// How long shares on a former tip still count.
pub(super) const STALE_GRACE: Duration = Duration::from_secs(10);
const USERS_MAX: usize = 10_000;
const RECENT_MAX: usize = 4096;
const BLOCKS_MAX: usize = 1024;
const GATEWAYS_MAX: usize = 1024;
/// All ids that a byte can say, but 0.
const ISSUED_MAX: usize = 255;
const FORMER_MAX: usize = 64;
const SEEN_MAX: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_tip_counts_for_ten_seconds() {
        let (mut gateway, start) = (Gateway::default(), super::super::test_now());
        let [a, b] = [Hash256([1; 32]), Hash256([2; 32])];
        gateway.on_request(a, start);
        gateway.on_job(a, 100, start);
        assert!(!gateway.is_stale(&a, start));
        gateway.on_job(b, 101, start);
        assert!(!gateway.is_stale(&b, start));
        assert!(!gateway.is_stale(&a, start + STALE_GRACE));
        assert!(gateway.is_stale(&a, start + STALE_GRACE + Duration::from_millis(1)));
    }

    #[test]
    fn shares_of_an_old_job_do_not_make_it_the_tip() {
        let (mut gateway, start) = (Gateway::default(), super::super::test_now());
        let [old, tip] = [Hash256([1; 32]), Hash256([2; 32])];
        gateway.on_request(tip, start);
        gateway.on_job(old, 99, start);
        let later = start + 2 * STALE_GRACE;
        assert!(gateway.is_stale(&old, later));
        assert!(!gateway.is_stale(&tip, later));
        // A reorganisation to a lower height is one when the gateway asks for a split there.
        gateway.on_job(tip, 200, later);
        gateway.on_request(old, later);
        assert!(!gateway.is_stale(&old, later + 2 * STALE_GRACE));
        assert!(gateway.is_stale(&tip, later + 2 * STALE_GRACE));
    }

    #[test]
    fn ids_of_splits_wrap_around_zero() {
        let mut gateway = Gateway::default();
        let ids: Vec<u8> = (0..256).map(|_| gateway.issue(Arc::default())).collect();
        assert_eq!((ids[0], ids[254], ids[255]), (1, 255, 1));
        assert!(!ids.contains(&0));
        assert!(gateway.issued(0).is_some());
    }
}
