//! Changes from one configuration to the next: a pool is left once the next one has proven itself,
//! and not before its last answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::RngCore;
use tokio::time::sleep_until;
use tracing::info;

use super::{ConnEvent, ConnPhase, PoolConn, PoolTask};
use crate::{
    clock::now,
    datum::{options::DatumConfig, trial::PoolTrial},
    work::Template,
};

/// Pools that should replace the one in use, which is kept until one of them works.
pub(super) struct PoolChange {
    config: Arc<DatumConfig>,
    /// How many of its pools come before the one in use.
    count: usize,
    /// Which of them is being tried.
    at: usize,
    phase: ConnPhase,
    trial: Option<PoolTrial>,
}

/// How long to keep listening to a pool that is being left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Drain {
    /// Until it has answered all shares.
    Answers,
    /// As long as miners may still send shares for it.
    Stragglers,
}

impl PoolChange {
    pub(super) async fn turn(change: &mut Option<Self>) -> ConnEvent {
        let Some(Self { phase, trial, .. }) = change else { return std::future::pending().await };
        phase.turn(trial.as_ref().map_or(&[], |trial| &trial.out)).await
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(PoolTrial::deadline)
    }

    /// The pool in use is one of the same configuration.
    pub(super) fn is_of(&self, config: &Arc<DatumConfig>) -> bool {
        Arc::ptr_eq(&self.config, config)
    }
}

impl PoolTask {
    /// Applies changed settings: the pool in use stays unless another comes before it.
    pub(super) async fn on_config(&mut self) {
        let config = Arc::clone(&self.configs.borrow_and_update());
        self.relay.set_options(config.relay());
        if let Some(change) = &mut self.change
            && change.config.pools == config.pools
        {
            if change.is_of(&self.config) {
                self.config = Arc::clone(&config);
            }
            change.config = config;
            return;
        }
        // The pools of an unfinished change did not get their turn.
        let tried = if self.drop_change() { 0 } else { self.at };
        let in_use = self.config.pools.get(self.at);
        let place = config.pools.iter().position(|pool| Some(pool) == in_use);
        let tried = self.config.pools.get(..tried).unwrap_or_default();
        let stays =
            place.filter(|place| config.pools[..*place].iter().all(|it| tried.contains(it)));
        if let Some(place) = stays {
            (self.config, self.at) = (config, place);
            return;
        }
        // Without terms, no pool is in use.
        if config.pools.is_empty() || self.relay.payout().is_none() {
            return self.switch(config).await;
        }
        if let Some(place) = place {
            (self.config, self.at) = (Arc::clone(&config), place);
        }
        let count = place.unwrap_or(config.pools.len());
        let next = &config.pools[..count];
        if let Some(pool) = next.first() {
            info!(%pool, "this pool now comes first: shares go there once it accepts them");
        }
        self.relay.set_next(next.iter().map(|pool| pool.name()));
        let phase = ConnPhase::Waiting(now());
        self.change = Some(PoolChange { config, count, at: 0, phase, trial: None });
    }

    /// True if there was one.
    pub(super) fn drop_change(&mut self) -> bool {
        self.relay.set_next([]);
        self.change.take().is_some()
    }

    pub(super) fn on_change(&mut self, turn: ConnEvent) {
        let Some(mut change) = self.change.take() else { return };
        match self.step(&mut change, turn) {
            Ok(false) => self.change = Some(change),
            Ok(true) => self.hand_over(change),
            Err(why) => self.try_another(change, &why),
        }
    }

    /// True once the next pool has proven itself; the error says why it cannot be used.
    fn step(&mut self, change: &mut PoolChange, turn: ConnEvent) -> Result<bool, String> {
        let Some(pool) = change.config.pools.get(change.at) else { return Ok(false) };
        let now = now();
        match (turn, &mut change.trial, &change.phase) {
            (ConnEvent::Retry, ..) => {
                change.phase = ConnPhase::connect(pool, change.config.backoff.connect_timeout);
            }
            (ConnEvent::Connected(stream), ..) => {
                let stream = stream.map_err(|error| format!("no connection: {error}"))?;
                let mut seed = [0; 32];
                self.rng.fill_bytes(&mut seed);
                let trial = self.relay.try_next(&pool.name(), pool.public_key, seed, now);
                change.trial = Some(trial.map_err(|error| error.to_string())?);
                change.phase = ConnPhase::Connected(Box::new(PoolConn::new(stream, now)));
            }
            (ConnEvent::Read(Ok(0)), ..) => return Err("it closed the connection".into()),
            (ConnEvent::Read(Ok(len)), Some(trial), ConnPhase::Connected(conn)) => {
                let done = trial.on_bytes(conn.received(len), now);
                return done.map_err(|error| error.to_string());
            }
            (ConnEvent::Written(Ok(len)), Some(trial), _) => drop(trial.out.drain(..len)),
            (ConnEvent::Read(Err(error)) | ConnEvent::Written(Err(error)), ..) => {
                return Err(format!("the connection was lost: {error}"));
            }
            _ => {}
        }
        Ok(false)
    }

    pub(super) fn on_change_due(&mut self, now: Instant) {
        let is_due = |change: &mut PoolChange| change.deadline().is_some_and(|due| now >= due);
        let Some(mut change) = self.change.take_if(is_due) else { return };
        match change.trial.as_mut().map(|trial| trial.on_deadline(now)) {
            Some(Err(error)) => self.try_another(change, &error.to_string()),
            _ => self.change = Some(change),
        }
    }

    pub(super) fn on_change_template(&mut self, template: &Arc<Template>) {
        let trial = self.change.as_mut().and_then(|change| change.trial.as_mut());
        if let Some(Err(error)) = trial.map(|trial| trial.on_template(template, now()))
            && let Some(change) = self.change.take()
        {
            self.try_another(change, &error.to_string());
        }
    }

    fn try_another(&mut self, mut change: PoolChange, why: &str) {
        let (failed, now, backoff) = (change.at, now(), change.config.backoff);
        change.at = (failed + 1) % change.count.max(1);
        let all = change.at == 0;
        let wait = if all { self.random(backoff.least, backoff.most) } else { Duration::ZERO };
        (change.trial, change.phase) = (None, ConnPhase::Waiting(now + wait));
        self.relay.next_failed(failed, why, wait, now);
        self.change = Some(change);
    }

    /// Uses the next pool from now on.
    fn hand_over(&mut self, mut change: PoolChange) {
        let Some(trial) = change.trial else { return };
        std::mem::swap(&mut self.phase, &mut change.phase);
        self.leaving = change.phase;
        (self.config, self.at) = (change.config, change.at);
        self.relay.take_over(trial, now(), &mut self.out);
    }

    pub(super) fn on_leaving(&mut self, turn: ConnEvent) {
        let (now, out) = (now(), &mut self.out);
        match (turn, &self.leaving) {
            (ConnEvent::Read(Ok(len @ 1..)), ConnPhase::Connected(conn)) => {
                self.relay.on_leaving_bytes(conn.received(len), now, out);
            }
            (ConnEvent::Written(Ok(len)), _) => self.relay.on_leaving_written(len, now, out),
            _ => self.relay.on_leaving_end(now, out),
        }
    }

    /// Replaces the current pools by those of `config`.
    async fn switch(&mut self, config: Arc<DatumConfig>) {
        let is_last = config.pools.is_empty();
        self.drain(if is_last { Drain::Stragglers } else { Drain::Answers }).await;
        (self.config, self.at) = (config, 0);
        if !matches!(self.phase, ConnPhase::Idle) {
            self.relay.left(is_last, now());
        }
        self.out.clear();
        self.phase = if is_last { ConnPhase::Idle } else { ConnPhase::Waiting(now()) };
    }

    /// Sends the remaining shares and waits for answers, but not for long.
    pub(super) async fn drain(&mut self, what: Drain) {
        let end = now() + self.config.backoff.drain;
        while let Ok(batch) = self.shares.try_recv() {
            self.on_batch(batch);
        }
        while self.is_talking() && (what == Drain::Stragglers || self.is_owed()) {
            tokio::select! {
                // First, so that a pool that never stops sending does not stay forever.
                biased;
                () = sleep_until(end.into()) => break,
                turn = self.leaving.turn(self.relay.leaving_out()) => self.on_leaving(turn),
                turn = self.phase.turn(&self.out) => self.on_turn(turn),
                Some(batch) = self.shares.recv() => self.on_batch(batch),
            }
            self.on_due();
        }
    }

    fn is_talking(&self) -> bool {
        matches!(self.phase, ConnPhase::Connected(_)) || self.relay.is_leaving()
    }

    fn is_owed(&self) -> bool {
        self.relay.awaiting() > 0 || !self.out.is_empty() || !self.relay.leaving_out().is_empty()
    }
}
