//! Changes from one pool to another without a gap: the next pool has to prove itself first, and the
//! last one still gets the shares for its own work.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{OUT_LEN_MAX, Relay};
use crate::{
    datum::{
        client::{Client, ClientError},
        event::PoolEvent,
        protocol::cipher::PublicIdentity,
        status::{LogAllowance, NextPool},
        trial::PoolTrial,
    },
    work::Share,
};

/// The pool that was in use before.
pub(super) struct Leaving {
    pub(super) pool: Arc<str>,
    epoch: u64,
    series: u64,
    pub(super) client: Box<Client>,
    pub(super) out: Vec<u8>,
    until: Instant,
}

impl Leaving {
    /// The share is for work that pays this pool.
    pub(super) fn wants(&self, share: &Share) -> bool {
        share.job.payout.pooled.as_ref().is_some_and(|terms| terms.epoch == self.epoch)
    }

    pub(super) fn can_send(&self) -> bool {
        self.client.can_submit() && self.out.len() < OUT_LEN_MAX
    }

    pub(super) fn deadline(&self) -> Instant {
        self.client.deadline().min(self.until)
    }
}

impl Relay {
    /// The pools that should replace the one in use as soon as one of them works.
    pub fn set_next(&mut self, pools: impl IntoIterator<Item = Arc<str>>) {
        let next: Vec<_> = pools.into_iter().map(|pool| NextPool { pool, failing: None }).collect();
        self.updates.status |= self.status.next != next;
        self.status.next = next;
    }

    /// A connection to the next pool was opened: sends HELLO.
    pub fn try_next(
        &self,
        pool: &Arc<str>,
        key: PublicIdentity,
        seed: [u8; 32],
        now: Instant,
    ) -> Result<PoolTrial, ClientError> {
        let options = &self.options;
        let keys = (&self.keys, key);
        let mut trial =
            PoolTrial::new(pool, keys, &options.user_agent, options.timeout, seed, now)?;
        if let Some(template) = &self.template {
            trial.on_template(template, now)?;
        }
        Ok(trial)
    }

    /// Number `at` of the next pools cannot be used, for the reason `why`.
    pub fn next_failed(&mut self, at: usize, why: &str, wait: Duration, now: Instant) {
        let kept = &self.pool;
        let Some(NextPool { pool, failing }) = self.status.next.get_mut(at) else { return };
        let (since, last) = failing.take().unzip();
        if last.as_deref() == Some(why) {
            info!(%pool, "still cannot change to this pool: {why}; {kept} is kept; retrying in \
                          {wait:.1?}");
        } else {
            warn!(%pool, "cannot change to this pool: {why}; {kept} is kept for now; retrying in \
                          {wait:.1?}. Check the new pool's host, port and public_key");
            self.updates.status = true;
        }
        *failing = Some((since.unwrap_or(now), why.into()));
    }

    /// The next pool has proven itself: it is in use from now on. `out` was for the old one.
    pub fn take_over(&mut self, trial: PoolTrial, now: Instant, out: &mut Vec<u8>) {
        self.end_leaving();
        let PoolTrial { pool, key, client, out: unsent, events } = trial;
        let unsent = std::mem::replace(out, unsent);
        let old = self.client.replace(client);
        if let Some(client) = old.filter(|_| self.up) {
            let (pool, epoch, series) = (Arc::clone(&self.pool), self.epoch, self.series);
            let until = now + LEAVING;
            self.leaving = Some(Leaving { pool, epoch, series, client, out: unsent, until });
        }
        self.set_next([]);
        self.name_pool(&pool);
        self.set_key(key);
        self.talk = LogAllowance::default();
        // Only until its configuration is handled, a moment later; nobody else sees this.
        self.up = false;
        for event in events {
            self.on_event(event);
        }
        self.send_held(now, out);
    }

    /// There is a former pool that still gets the last shares of its work.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Bytes for it.
    pub fn leaving_out(&self) -> &[u8] {
        self.leaving.as_ref().map_or(&[], |leaving| &leaving.out)
    }

    /// This many bytes were sent to it.
    pub fn on_leaving_written(&mut self, len: usize, now: Instant, out: &mut Vec<u8>) {
        if let Some(leaving) = &mut self.leaving {
            leaving.out.drain(..len);
        }
        self.send_held(now, out);
    }

    /// Handles what it sent; only its answers to shares still count.
    pub fn on_leaving_bytes(&mut self, bytes: &[u8], now: Instant, out: &mut Vec<u8>) {
        let Some(leaving) = &mut self.leaving else { return };
        let (pool, mut events) = (Arc::clone(&leaving.pool), Vec::new());
        let result = leaving.client.on_bytes(bytes, now, &mut leaving.out, &mut events);
        for event in events {
            if let PoolEvent::Answered { sent, response, round_trip } = event {
                self.on_answer(&pool, &sent, response, round_trip);
            }
        }
        if result.is_err() {
            self.end_leaving();
        }
        self.send_held(now, out);
    }

    pub fn on_leaving_deadline(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(leaving) = &mut self.leaving else { return };
        if now >= leaving.until || leaving.client.on_deadline(now, &mut Vec::new()).is_err() {
            self.on_leaving_end(now, out);
        }
    }

    /// Its connection is over, or has to be.
    pub fn on_leaving_end(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.end_leaving();
        self.send_held(now, out);
    }

    pub(super) fn end_leaving(&mut self) {
        let Some(Leaving { pool, client, series, .. }) = self.leaving.take() else { return };
        info!(%pool, "disconnected from this pool, because the configuration has changed");
        self.put_back(*client);
        // From here on, shares of its work are void.
        self.void_up_to(series);
        if let Some(mut payout) = self.payout.as_deref().cloned() {
            if let Some(terms) = &mut payout.pooled {
                terms.void_series = self.void_series;
            }
            self.publish(payout);
        }
        self.count_waiting();
    }
}

/// How long miners may go on with the last pool's work: they get new work at once, but some finish
/// what they are doing, and networks are slow.
const LEAVING: Duration = Duration::from_secs(30);
