//! Shares that were sent but not answered yet.
//!
//! The protocol does not number shares, so an answer is matched by job slot and nonce, oldest
//! first. There is no guarantee that every share is answered: one that waits for too long is given
//! up, and a waiting share keeps no template in memory.

use std::{
    collections::{VecDeque, hash_map::Entry},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::work::{Job, Share};

/// A share on its way. Its job may be dropped meanwhile: a share for a job that nobody mines any
/// more is not sent again.
#[derive(Clone, Debug)]
pub struct Sent {
    pub share: Share<Weak<Job>>,
    pub(crate) slot: u8,
    pub(crate) at: Instant,
    /// It was already sent on an earlier connection, so the pool may know it.
    pub(crate) replay: bool,
}

/// What an answer identifies a share by.
type Key = (u8, u32);

/// A bounded queue, oldest first, indexed by what the answers will name.
#[derive(Debug, Default)]
pub(super) struct Awaiting {
    /// Answered ones leave a gap, which is removed when it reaches the front.
    queue: VecDeque<Option<AwaitingShare>>,
    /// The number of the front; the next ones count up from it.
    first: u64,
    len: usize,
    /// The oldest and the newest share waiting under a key.
    by_key: FxHashMap<Key, (u64, u64)>,
}

#[derive(Debug)]
struct AwaitingShare {
    sent: Sent,
    /// The next younger one with the same key.
    next: Option<u64>,
}

impl Awaiting {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a share; returns how many older ones had to be given up for it.
    pub(super) fn push(&mut self, sent: Sent) -> usize {
        let mut given_up = 0;
        // Gaps count too: they are bounded like everything else.
        while self.queue.len() >= AWAITING_MAX {
            given_up += usize::from(self.pop_front().is_some());
        }
        let number = self.first + self.queue.len() as u64;
        match self.by_key.entry(key(&sent)) {
            Entry::Vacant(place) => {
                place.insert((number, number));
            }
            Entry::Occupied(mut place) => {
                let newest = std::mem::replace(&mut place.get_mut().1, number);
                if let Some(waiting) = slot_of(&mut self.queue, self.first, newest) {
                    waiting.next = Some(number);
                }
            }
        }
        self.queue.push_back(Some(AwaitingShare { sent, next: None }));
        self.len += 1;
        given_up
    }

    /// The oldest share of this slot and nonce.
    pub(super) fn take(&mut self, slot: u8, nonce: u32) -> Option<Sent> {
        let (oldest, _) = *self.by_key.get(&(slot, nonce))?;
        let at = usize::try_from(oldest.checked_sub(self.first)?).ok()?;
        let waiting = self.queue.get_mut(at)?.take()?;
        self.len -= 1;
        self.unlink(&waiting);
        while self.queue.front().is_some_and(Option::is_none) {
            self.queue.pop_front();
            self.first += 1;
        }
        Some(waiting.sent)
    }

    /// Gives up shares that have waited for too long; returns their number.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        while self.deadline().is_some_and(|deadline| now >= deadline) {
            expired += usize::from(self.pop_front().is_some());
        }
        expired
    }

    /// When the oldest share will have waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        // The front is never a gap.
        self.queue.front()?.as_ref().map(|waiting| waiting.sent.at + ANSWER_LIMIT)
    }

    /// All of them, oldest first.
    pub(super) fn into_all(self) -> impl DoubleEndedIterator<Item = Sent> {
        self.queue.into_iter().flatten().map(|waiting| waiting.sent)
    }

    fn pop_front(&mut self) -> Option<Sent> {
        let front = self.queue.pop_front()?;
        self.first += 1;
        while self.queue.front().is_some_and(Option::is_none) {
            self.queue.pop_front();
            self.first += 1;
        }
        let waiting = front?;
        self.len -= 1;
        self.unlink(&waiting);
        Some(waiting.sent)
    }

    /// `waiting` was the oldest of its key, and was removed.
    fn unlink(&mut self, waiting: &AwaitingShare) {
        let key = key(&waiting.sent);
        match (waiting.next, self.by_key.get_mut(&key)) {
            (Some(next), Some((oldest, _))) => *oldest = next,
            _ => drop(self.by_key.remove(&key)),
        }
    }
}

fn key(sent: &Sent) -> Key {
    (sent.slot, sent.share.nonce)
}

fn slot_of(
    queue: &mut VecDeque<Option<AwaitingShare>>,
    first: u64,
    number: u64,
) -> Option<&mut AwaitingShare> {
    let at = usize::try_from(number.checked_sub(first)?).ok()?;
    queue.get_mut(at)?.as_mut()
}

impl Sent {
    /// The share in a form that can be sent again, if its job still exists.
    pub(super) fn share(&self) -> Option<Share> {
        Some(self.share.clone().with_job(self.share.job.upgrade()?))
    }

    pub(super) fn new(share: Share, slot: u8, at: Instant, replay: bool) -> Self {
        let job = Arc::downgrade(&share.job);
        Self { share: share.with_job(job), slot, at, replay }
    }
}

/// How long to wait for an answer. Pools answer within a second or two, but nothing guarantees it.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A minute of a thousand shares a second, none of which the pool answers; about 12 MB.
pub(super) const AWAITING_MAX: usize = 65_536;
