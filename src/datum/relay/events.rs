//! Handles what a pool says, and updates whom to pay.

use std::{sync::Arc, time::Duration};

use tracing::{debug, error, info, warn};

use super::Relay;
use crate::{
    datum::{
        awaiting::Sent,
        event::{Configured, PoolEvent},
        protocol::message::{ShareReason, ShareResponse, ShareStatus},
        stats::PoolVerdict,
        status::PoolState,
    },
    work::{Coinbaser, CoinbaserRequest, Payout, PoolTerms, printable_bytes},
};

impl Relay {
    pub(super) fn on_events(&mut self, events: &mut Vec<PoolEvent>) {
        for event in events.drain(..) {
            self.on_event(event);
        }
        self.count_waiting();
    }

    pub(super) fn on_event(&mut self, event: PoolEvent) {
        let pool = Arc::clone(&self.pool);
        match event {
            PoolEvent::Welcome { motd } => {
                info!(%pool, "message from the pool: {motd}");
                self.status.motd = motd.into();
                self.updates.status = true;
            }
            PoolEvent::Configured(configured) => self.on_configured(configured),
            PoolEvent::Coinbaser { coinbaser, cut_at } => self.on_coinbaser(coinbaser, cut_at),
            PoolEvent::CoinbaserRefused { request, fault } => {
                if self.talk.may_log() {
                    error!(%pool, "the pool sent {fault}, which is not used; {FALLBACK}");
                }
                self.stats.add_coinbaser_refused();
                if let Some(request) = request {
                    self.settle(request, None);
                }
            }
            PoolEvent::CoinbaserLate { request } => {
                if self.talk.may_log() {
                    warn!(%pool, "the pool did not send a coinbaser in time; {FALLBACK}");
                }
                self.settle(request, None);
            }
            PoolEvent::Answered { sent, response, round_trip } => {
                self.on_answer(&pool, &sent, response, round_trip);
            }
            PoolEvent::NewBlock => self.updates.new_block = true,
            // Keep-alives are sent as such texts too.
            PoolEvent::Info { text } if text == self.last_info => debug!(%pool, text, "the pool \
                                                                                   repeated its \
                                                                                   message"),
            PoolEvent::Info { text } => {
                if self.talk.may_log() {
                    info!(%pool, "message from the pool: {text}");
                }
                self.last_info = text;
            }
            PoolEvent::Validated { slot, wanted } => {
                debug!(%pool, slot, ?wanted, "showed the pool a job's transactions");
            }
            PoolEvent::Fault(fault) => {
                if self.talk.may_log() {
                    error!(%pool, "the pool sent {fault}, which is ignored");
                }
            }
        }
    }

    fn on_configured(&mut self, configured: Configured) {
        let pool = Arc::clone(&self.pool);
        let first = !self.up;
        if first {
            self.on_up(configured.prime_id);
        }
        if configured.rounded && self.talk.may_log() {
            warn!(%pool, min_difficulty = configured.min_difficulty,
                "the pool's minimum difficulty is not a power of two, so it is rounded up");
        }
        let tag = printable_bytes(&configured.tag, usize::from(u8::MAX));
        if self.talk.may_log() {
            info!(%pool, tag, prime_id = configured.prime_id,
            min_difficulty = configured.min_difficulty, "the pool is up");
        }
        let mut payout = Payout {
            script: configured.script,
            tag_primary: configured.tag,
            tag_secondary: self.options.tag_secondary.clone(),
            unique_id: self.options.unique_id,
            own_script: self.options.own_script.clone(),
            pooled: Some(PoolTerms {
                pool,
                prime_id: configured.prime_id,
                min_difficulty: configured.min_difficulty,
                coinbaser: None,
                settled: None,
                epoch: self.epoch,
                series: self.series,
                void_series: self.void_series,
                void_now: self.void_now.clone(),
            }),
        };
        let last = self.payout.as_deref().filter(|last| last.same_terms(&payout));
        let is_new = last.is_none() || self.leaving.is_some() || self.series == self.void_series;
        if first && is_new {
            self.begin_series(&mut payout);
        }
        // On the same connection and terms, the last split is valid until the next. Another
        // connection does not know the split's number, so blank work is sent until it answers.
        if let Some(last) = self.payout.as_deref().filter(|last| last.same_terms(&payout))
            && let (Some(terms), Some(last)) = (&mut payout.pooled, &last.pooled)
            && terms.epoch == last.epoch
        {
            terms.coinbaser.clone_from(&last.coinbaser);
            terms.settled = last.settled;
        }
        self.publish(payout);
    }

    /// The pool has sent its configuration for the first time on this connection.
    fn on_up(&mut self, prime_id: u32) {
        self.epoch += 1;
        self.up = true;
        self.status.state = PoolState::Up;
        self.status.last_error = None;
        self.stats.add_connection();
        if self.prime_ids.note(prime_id) {
            self.updates.memory = true;
            let (pool, keeps) = (&self.pool, self.prime_ids.are_kept());
            let what = match keeps {
                Some(true) => {
                    "the pool keeps its prime id across connections: while it is away, work for it \
                     goes on and shares are held (pooling.hold_shares)"
                }
                _ => {
                    "the pool gives each connection a new prime id: while it is away, miners work \
                     for mining.address (pooling.reconnect_grace)"
                }
            };
            info!(%pool, "{what}");
        }
        self.keeps_ids = self.prime_ids.are_kept();
        self.status.keeps_prime_id = self.keeps_ids;
        self.updates.status = true;
    }

    /// From now on, work belongs to a new series. That of earlier ones is void, except what a
    /// former pool still accepts.
    fn begin_series(&mut self, payout: &mut Payout) {
        if self.leaving.is_none() {
            self.void_up_to(self.series);
        }
        self.series += 1;
        if let Some(terms) = &mut payout.pooled {
            (terms.series, terms.void_series) = (self.series, self.void_series);
        }
    }

    fn on_coinbaser(&mut self, coinbaser: Arc<Coinbaser>, cut_at: Option<usize>) {
        let pool = &self.pool;
        if let Some(at) = cut_at {
            let value = coinbaser.request.value;
            error!(%pool, "the pool sent a coinbaser that pays more than {value} sats; outputs \
                           from number {at} on are left out");
        }
        self.stats.add_coinbaser(cut_at.is_some());
        self.settle(coinbaser.request, Some(coinbaser));
    }

    pub(super) fn on_answer(
        &mut self,
        pool: &Arc<str>,
        sent: &Sent,
        response: ShareResponse,
        round_trip: Duration,
    ) {
        // It accepted the share the first time; only its answer was lost.
        let is_known = sent.replay && response.reason == ShareReason::DUPLICATE;
        let rejected = !response.status.is_accepted() && !is_known;
        let verdict = PoolVerdict {
            target_byte: sent.share.target_byte,
            tentative: response.status == ShareStatus::Tentative,
            rejected: rejected.then_some(response.reason),
        };
        let count = self.stats.add_answer(pool, verdict, round_trip);
        if !rejected {
            return;
        }
        // Logging every single one would fill the disk when a pool refuses them all.
        if !count.is_power_of_two() {
            return;
        }
        let (reason, username) = (response.reason.name(), &sent.share.username);
        if let ShareStatus::Unknown(status) = response.status {
            warn!(%pool, %username, "the pool answered a share with the unknown status \
                                     {status:#04x}; counted as rejected: {reason} ({count} since \
                                     the start)");
        } else {
            warn!(%pool, %username,
                "the pool rejected a share: {reason} ({count} since the start)");
        }
    }

    /// No split is expected for the current template any more.
    pub(super) fn settle_template(&mut self) {
        if let Some(request) = self.template.as_deref().map(CoinbaserRequest::of) {
            self.settle(request, None);
        }
    }

    /// A request has ended, successfully if there is a `coinbaser`. One for an earlier template
    /// says nothing about this one: the pool computes a split from the template's value.
    pub(super) fn settle(&mut self, request: CoinbaserRequest, coinbaser: Option<Arc<Coinbaser>>) {
        let current = self.template.as_deref().map(CoinbaserRequest::of);
        let Some(payout) = self.payout.as_ref().filter(|_| current == Some(request)) else {
            return;
        };
        let mut payout = Payout::clone(payout);
        if let Some(terms) = &mut payout.pooled {
            terms.settled = Some(request);
            if coinbaser.is_some() {
                terms.coinbaser = coinbaser;
            }
        }
        self.publish(payout);
    }

    pub(super) fn publish(&mut self, payout: Payout) {
        if self.payout.as_deref() != Some(&payout) {
            self.payout = Some(Arc::new(payout));
            self.updates.payout = true;
        }
    }
}

/// What is mined without a split for the current template.
const FALLBACK: &str =
    "mining goes on, with only the pool's single output where a template has no split";
