//! Shares that wait for their pool.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::work::Share;

/// A bounded queue, oldest first, that shares leave when they are sent or too old.
#[derive(Debug)]
pub(super) struct Hold {
    shares: VecDeque<Held>,
    age_max: Duration,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) share: Share,
    pub(super) since: Instant,
    /// It was sent already, and its connection broke before the answer.
    pub(super) replay: bool,
}

impl Hold {
    pub(super) fn new(age_max: Duration) -> Self {
        Self { shares: VecDeque::new(), age_max }
    }

    pub(super) fn set_age_max(&mut self, age_max: Duration) {
        self.age_max = age_max;
    }

    /// Adds a share; true when the oldest had to go for it.
    pub(super) fn push(&mut self, share: Share, now: Instant) -> bool {
        let full = self.shares.len() >= SHARES_MAX;
        if full {
            self.shares.pop_front();
        }
        self.shares.push_back(Held { share, since: now, replay: false });
        full
    }

    /// Puts shares back that were sent and not answered, in front of all others.
    ///
    /// Gives the number of shares that had to go.
    pub(super) fn put_back(&mut self, shares: impl DoubleEndedIterator<Item = Held>) -> usize {
        shares.rev().for_each(|held| self.shares.push_front(held));
        let over = self.shares.len().saturating_sub(SHARES_MAX);
        self.shares.drain(..over);
        over
    }

    pub(super) fn front(&self) -> Option<&Share> {
        self.shares.front().map(|held| &held.share)
    }

    pub(super) fn pop(&mut self) -> Option<Held> {
        self.shares.pop_front()
    }

    /// Drops shares that have waited for too long; gives their number.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let age_max = self.age_max;
        let young = |held: &Held| now.saturating_duration_since(held.since) < age_max;
        let count = self.shares.iter().take_while(|held| !young(held)).count();
        self.shares.drain(..count);
        count
    }

    /// When the oldest share is too old.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.shares.front().map(|held| held.since + self.age_max)
    }

    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }

    pub(super) fn clear(&mut self) -> usize {
        let count = self.shares.len();
        self.shares.clear();
        count
    }
}

/// Two minutes of 4,000 miners at 8 shares a minute; about 13 MB.
const SHARES_MAX: usize = 65_536;
