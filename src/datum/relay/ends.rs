//! How connections end, and what then becomes of shares.

use std::{sync::Arc, time::Instant};

use tracing::{error, info};

use super::Relay;
use crate::{
    datum::{client::Client, hold::Held, liveness::Trust, stats::Lost, status::PoolState},
    work::Payout,
};

impl Relay {
    /// The connection has ended, for the reason `why`; `next` says what happens now.
    pub fn disconnected(&mut self, why: &str, next: &str, now: Instant) {
        let pool = Arc::clone(&self.pool);
        if self.up || self.status.last_error.as_deref() != Some(why) {
            error!(%pool, "the pool is down: {why}; {next}");
        } else {
            info!(%pool, "the pool is still down: {why}; {next}");
        }
        self.status.last_error = Some(why.into());
        self.cut_off(now);
    }

    /// The operator wants another pool, or none.
    pub(crate) fn left(&mut self, is_last: bool, now: Instant) {
        let (pool, next) = (
            Arc::clone(&self.pool),
            if is_last {
                "solo mining"
            } else {
                "the next \
                                                                  pool"
            },
        );
        info!(%pool, "disconnected from this pool, because the configuration has changed; changing \
                      to {next}");
        self.status.last_error = None;
        self.cut_off(now);
        if is_last {
            self.end_leaving();
            self.stats.add_lost(Lost::TermsChanged, self.hold.clear());
            self.void_up_to(self.series);
            self.payout = None;
            self.is_left = true;
            self.updates.payout = true;
            self.count_waiting();
        }
    }

    /// The connection is over: unanswered shares wait for the next one.
    fn cut_off(&mut self, now: Instant) {
        if let Some(client) = self.client.take() {
            self.trust = self.put_back(*client);
        }
        self.updates.status = true;
        let was_up = std::mem::replace(&mut self.up, false);
        let holds = !self.options.hold_shares.is_zero();
        if was_up {
            self.status.state = PoolState::Down { since: now };
            if self.keeps_ids != Some(true) || !holds {
                self.void_up_to(self.series);
            }
        }
        if was_up && self.keeps_ids == Some(false) {
            // No pool will accept them. Those that were sent may have been counted.
            let (sent, unsent) = self.hold.clear_shares();
            self.note_unanswered(sent);
            self.stats.add_lost(Lost::TermsChanged, unsent);
        }
        if !holds {
            let (sent, unsent) = self.hold.clear_shares();
            self.stats.add_lost(Lost::Expired, sent + unsent);
        }
        self.forget_split();
        self.settle_template();
        self.count_waiting();
    }

    /// The next connection does not know this one's split number.
    fn forget_split(&mut self) {
        let Some(payout) = &self.payout else { return };
        let mut payout = Payout::clone(payout);
        if let Some(terms) = &mut payout.pooled {
            (terms.coinbaser, terms.void_series) = (None, self.void_series);
        }
        self.publish(payout);
    }

    /// Shares that a connection has not answered are held. A share whose job is gone cannot be sent
    /// again. Returns what it has learnt.
    pub(super) fn put_back(&mut self, mut client: Client) -> Trust {
        let mut gone = client.take_unanswered();
        let (awaiting, trust) = client.into_parts();
        let held: Vec<Held> = awaiting
            .filter_map(|sent| {
                let share = sent.share();
                gone += usize::from(share.is_none());
                share.map(|share| Held { share, since: sent.at, replay: true })
            })
            .collect();
        let over = self.hold.put_back(held.into_iter());
        self.note_unanswered(gone);
        self.stats.add_lost(Lost::Overflow, over);
        trust
    }

    /// All pools have been tried in vain.
    pub fn none_left(&mut self, now: Instant) {
        if self.status.state == PoolState::Connecting {
            self.status.state = PoolState::Down { since: now };
            self.updates.status = true;
        }
    }

    /// gatewayd stops: unanswered shares are lost.
    pub fn shut_down(&mut self) {
        self.count_waiting();
        let awaiting = self.awaiting();
        (self.client, self.leaving) = (None, None);
        self.stats.add_lost(Lost::Shutdown, awaiting + self.hold.clear());
        self.count_waiting();
    }
}
