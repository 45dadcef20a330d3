//! The pool's memory: accounts, shares, and each gateway's splits and tip.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use super::habits::Habits;
use crate::{
    datum::message::{ShareFlags, ShareReason, Wanted},
    work::{CoinbaserRequest, Hash256, PayoutOutput},
};

/// When something happens, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct PoolTime {
    pub instant: Instant,
    /// Seconds since 1970.
    pub unix: u64,
}

/// A pool's public figures.
#[derive(Clone, Debug, Default)]
pub struct PoolStatsView {
    pub accepted: u64,
    pub rejected: u64,
    pub rejected_by: BTreeMap<ShareReason, u64>,
    /// At most `USERS_MAX`; the rest is counted under "(others)".
    pub accepted_by_user: BTreeMap<String, u64>,
    /// By coinbase id; 0xFF is subsidy-only work.
    pub accepted_by_class: BTreeMap<u8, u64>,
    /// Σ claimed difficulty of accepted shares.
    pub(crate) difficulty: f64,
    /// Shares that meet the block target, including refused ones.
    pub blocks: u64,
    /// Shares flagged as blocks, and shares flagged wrongly.
    pub blocks_flagged: u64,
    pub blocks_misflagged: u64,
    /// Shares received, whatever the verdict, by their flags.
    pub shares_by_flags: BTreeMap<u8, u64>,
    /// Shares that were deliberately never answered.
    pub unanswered: u64,
    /// Shares whose coinbase contains another prime id than their connection's.
    pub foreign_prime_ids: u64,
    /// Coinbasers sent, and job contexts that misuse one.
    pub coinbasers: u64,
    pub splits_misused: MisusedSplits,
    /// Accepted first, and taken back when a check failed.
    pub(crate) voided: Unchecked,
    /// In the coinbase of the last accepted share: all outputs, and how many of the pool's splits.
    pub(crate) last_outputs: usize,
    pub(crate) last_splits: usize,
    /// The most splits that an accepted share's coinbase has paid.
    pub splits_max: usize,
    /// Answers to job validations that are consistent with the job; of these, by form.
    pub validations_ok: u64,
    pub validations_by_form: [u64; 3],
    pub validations_failed: u64,
    /// Answers with an error code.
    pub validations_refused: u64,
    /// Answers without a question, including those to probes.
    pub(crate) validations_unasked: u64,
    pub last_validation_failure: Option<String>,
    pub(crate) last_validation_refusal: Option<String>,
    /// Current connections, and all that were ever configured.
    pub connections: usize,
    pub connected: u64,
    /// How the last failed connection ended.
    pub(crate) last_close: Option<String>,
}

/// How a job differs from what its coinbaser was given for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Misuse {
    Connection,
    Tip,
    Value,
}

impl Misuse {
    /// The reason given for a share, where it matters.
    pub(super) fn reason(self) -> ShareReason {
        match self {
            // No coinbaser on this connection has the id.
            Self::Connection => ShareReason::BAD_COINBASER_ID,
            Self::Tip | Self::Value => ShareReason::COINBASE_ID_MISMATCH,
        }
    }
}

/// How often coinbasers were misused.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MisusedSplits {
    pub(crate) of_other_connection: u64,
    pub of_other_tip: u64,
    pub of_other_value: u64,
}

impl MisusedSplits {
    pub fn total(&self) -> u64 {
        self.of_other_connection + self.of_other_tip + self.of_other_value
    }

    pub(super) fn count(&mut self, misuse: Misuse) {
        *match misuse {
            Misuse::Connection => &mut self.of_other_connection,
            Misuse::Tip => &mut self.of_other_tip,
            Misuse::Value => &mut self.of_other_value,
        } += 1;
    }
}

/// Shares that were accepted before their template was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Unchecked {
    pub(crate) shares: u64,
    /// Σ of their claimed difficulty.
    pub(crate) difficulty: f64,
}

impl Unchecked {
    pub(super) fn add(&mut self, difficulty: f64) {
        self.merge(Self { shares: 1, difficulty });
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.shares += other.shares;
        self.difficulty += other.difficulty;
    }

    /// Removes what was confirmed; another check may already have removed a part of it.
    pub(super) fn remove(&mut self, vouched: Self) {
        self.shares = self.shares.saturating_sub(vouched.shares);
        self.difficulty = (self.difficulty - vouched.difficulty).max(0.0);
    }
}

impl PoolStatsView {
    /// True if the share just booked is one that gets no answer.
    pub(super) fn leaves_out_an_answer(&mut self, habits: Habits) -> bool {
        let every = u64::from(habits.unanswered_every);
        let left_out = every != 0 && (self.accepted + self.rejected).is_multiple_of(every);
        self.unanswered += u64::from(left_out);
        left_out
    }

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
    pub(crate) username: Arc<str>,
    pub(crate) slot: u8,
    pub(crate) coinbase_id: u8,
    pub(crate) flags: ShareFlags,
    pub(crate) target_byte: u8,
    pub height: u32,
    pub(crate) hash: Hash256,
    pub is_block: bool,
    pub verdict: Result<(), ShareReason>,
    pub unix: u64,
}

/// A gateway's message, decrypted and without its signature, before decoding.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Heard {
    /// The number of the connection among the pool's, from 1.
    pub(crate) connection: u64,
    pub is_hello: bool,
    pub plain: Box<[u8]>,
}

/// A split that was sent, and what for.
#[derive(Clone, Debug)]
struct Issued {
    id: u8,
    connection: u64,
    request: CoinbaserRequest,
    outputs: Arc<[PayoutOutput]>,
}

/// What a coinbaser id means in a job.
#[derive(Debug)]
pub(super) enum Split {
    Right(Arc<[PayoutOutput]>),
    /// It was given for something else.
    Misused(Misuse, Arc<[PayoutOutput]>),
    Unknown,
}

/// All of the pool's memory.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(super) stats: PoolStatsView,
    recent: VecDeque<ShareRecord>,
    blocks: VecDeque<ShareRecord>,
    gateways: HashMap<[u8; 32], Gateway>,
    /// All gateways, longest known first.
    known: VecDeque<[u8; 32]>,
    seen: Seen,
    heard: VecDeque<Heard>,
    heard_max: usize,
}

impl Ledger {
    /// Keeps the last `heard_max` messages from gateways unchanged.
    pub(super) fn listening(heard_max: usize) -> Self {
        Self { heard_max, ..Self::default() }
    }

    pub(super) fn listens(&self) -> bool {
        self.heard_max > 0
    }

    pub(super) fn hear(&mut self, connection: u64, is_hello: bool, plain: &[u8]) {
        if self.listens() {
            let heard = Heard { connection, is_hello, plain: plain.into() };
            push_bounded(&mut self.heard, heard, self.heard_max);
        }
    }

    /// The gateways' last messages, oldest first.
    pub(crate) fn heard(&self) -> impl Iterator<Item = &Heard> {
        self.heard.iter()
    }

    pub fn stats(&self) -> &PoolStatsView {
        &self.stats
    }

    /// The last `RECENT_MAX` shares, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &ShareRecord> {
        self.recent.iter()
    }

    /// The latest shares that were blocks, oldest first.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = &ShareRecord> {
        self.blocks.iter()
    }

    /// What is remembered about the gateway with this long-term key, across reconnections.
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

    /// Remembers the hash of a valid share; false if it was already known.
    pub(super) fn insert(&mut self, hash: &Hash256) -> bool {
        self.seen.insert(hash)
    }

    /// Records one share.
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
                // These are the pool's own reasons, so there are few.
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

/// What the pool knows about one gateway.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    /// The last id given to a coinbaser; 0 is never given.
    last_id: u8,
    issued: VecDeque<Issued>,
    /// Accepted since the last successful check of a template.
    pub(super) unchecked: Unchecked,
    tip: Option<Tip>,
    /// Earlier tips, and since when they are outdated. Newest last.
    former: VecDeque<(Hash256, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Tip {
    prevhash: Hash256,
    height: Option<u32>,
}

impl Gateway {
    /// Assigns an id to a split.
    pub(super) fn issue(
        &mut self,
        connection: u64,
        request: CoinbaserRequest,
        outputs: Arc<[PayoutOutput]>,
    ) -> u8 {
        let id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id = id;
        push_bounded(&mut self.issued, Issued { id, connection, request, outputs }, ISSUED_MAX);
        id
    }

    /// The split with this id: that of the same connection and request if there is one, or else the
    /// newest. No split has id 0.
    pub(super) fn issued(&self, id: u8, connection: u64, request: CoinbaserRequest) -> Split {
        if id == 0 {
            return Split::Right(Arc::default());
        }
        let mut known = self.issued.iter().rev().filter(|issued| issued.id == id);
        let Some(newest) = known.clone().next() else {
            return Split::Unknown;
        };
        let same = |i: &&Issued| i.connection == connection && i.request == request;
        if let Some(issued) = known.find(same) {
            return Split::Right(Arc::clone(&issued.outputs));
        }
        let misuse = if newest.connection != connection {
            Misuse::Connection
        } else if newest.request.prevhash != request.prevhash {
            Misuse::Tip
        } else {
            Misuse::Value
        };
        Split::Misused(misuse, Arc::clone(&newest.outputs))
    }

    /// The gateway requests a split for a block on `prevhash`, so that is its tip.
    pub(super) fn on_request(&mut self, prevhash: Hash256, now: Instant) {
        if self.tip.is_none_or(|tip| tip.prevhash != prevhash) {
            self.set_tip(Tip { prevhash, height: None }, now);
        }
    }

    /// The gateway has a job on `prevhash` at `height`, perhaps an old one sent again.
    pub(super) fn on_job(&mut self, prevhash: Hash256, height: u32, now: Instant) {
        match &mut self.tip {
            None => self.set_tip(Tip { prevhash, height: Some(height) }, now),
            Some(tip) if tip.prevhash == prevhash => tip.height = Some(height),
            Some(_) if self.former.iter().any(|(former, _)| *former == prevhash) => {}
            Some(tip) if tip.height.is_some_and(|known| height >= known) => {
                self.set_tip(Tip { prevhash, height: Some(height) }, now);
            }
            // It may be older or newer than the tip, so it is accepted for a while.
            Some(_) => push_bounded(&mut self.former, (prevhash, now), FORMER_MAX),
        }
    }

    fn set_tip(&mut self, tip: Tip, now: Instant) {
        self.former.retain(|(former, _)| *former != tip.prevhash);
        if let Some(old) = self.tip.replace(tip) {
            push_bounded(&mut self.former, (old.prevhash, now), FORMER_MAX);
        }
    }

    /// True if work on `prevhash` has been stale for longer than `STALE_GRACE`.
    pub(super) fn is_stale(&self, prevhash: &Hash256, now: Instant) -> bool {
        if self.tip.is_none_or(|tip| tip.prevhash == *prevhash) {
            return false;
        }
        let former = self.former.iter().find(|(former, _)| former == prevhash);
        former.is_none_or(|(_, since)| now.saturating_duration_since(*since) > STALE_GRACE)
    }
}

/// Hashes of valid shares, whoever sent them: at least the last `SEEN_MAX`.
#[derive(Debug, Default)]
struct Seen {
    newer: FxHashSet<u64>,
    older: FxHashSet<u64>,
}

impl Seen {
    fn insert(&mut self, hash: &Hash256) -> bool {
        // 64 bits of the hash, from a part that no difficulty forces to zero.
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

pub(super) fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
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
/// All ids that fit into a byte, except 0.
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
        // A reorganisation to a lower height becomes the tip when the gateway asks for a split
        // there.
        gateway.on_job(tip, 200, later);
        gateway.on_request(old, later);
        assert!(!gateway.is_stale(&old, later + 2 * STALE_GRACE));
        assert!(gateway.is_stale(&tip, later + 2 * STALE_GRACE));
    }

    #[test]
    fn ids_of_splits_wrap_around_zero() {
        let mut gateway = Gateway::default();
        let request = CoinbaserRequest { prevhash: Hash256::ZERO, value: 1 };
        let ids: Vec<u8> = (0..256).map(|_| gateway.issue(1, request, Arc::default())).collect();
        assert_eq!((ids[0], ids[254], ids[255]), (1, 255, 1));
        assert!(!ids.contains(&0));
        assert!(matches!(gateway.issued(0, 1, request), Split::Right(_)));
    }
}
