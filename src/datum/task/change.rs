//! From one configuration to the next: a pool is left when the next one answers, and not before its
//! last answers.

use std::sync::Arc;

use tokio::{net::TcpStream, time::sleep_until};
use tracing::{info, warn};

use super::{Phase, Task, Turn, now};
use crate::datum::{options::DatumConfig, retry::Ended};

/// A configuration whose first pool is being connected to while another is still good.
pub(super) struct Change {
    pub(super) config: Arc<DatumConfig>,
    /// Which of its pools is tried.
    at: usize,
    phase: Phase,
}

/// How long a pool that is left is listened to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Drain {
    /// Until it has answered all shares.
    Answers,
    /// As long as miners may still send shares for it.
    Stragglers,
}

impl Change {
    pub(super) async fn turn(change: &mut Option<Self>) -> Turn {
        match change {
            Some(change) => change.phase.turn(&[]).await,
            None => std::future::pending().await,
        }
    }
}

impl Task {
    /// Does what the operator wants now: the pool in use stays unless another comes before it.
    pub(super) async fn on_config(&mut self) {
        let config = Arc::clone(&self.configs.borrow_and_update());
        self.change = None;
        self.relay.set_options(config.relay());
        let in_use = self.config.pools.get(self.at);
        let place = config.pools.iter().position(|pool| Some(pool) == in_use);
        let tried = self.config.pools.get(..self.at).unwrap_or_default();
        let stays =
            place.filter(|place| config.pools[..*place].iter().all(|it| tried.contains(it)));
        if let Some(place) = stays {
            (self.config, self.at) = (config, place);
            return;
        }
        match config.pools.first() {
            Some(pool) if self.relay.is_up() => {
                info!(%pool, "pool {pool} comes first now: shares go there once it answers");
                let phase = Phase::connect(pool, config.backoff.connect_timeout);
                self.change = Some(Change { config, at: 0, phase });
            }
            _ => self.switch(config, 0, None).await,
        }
    }

    pub(super) async fn on_change(&mut self, turn: Turn) {
        let Some(mut change) = self.change.take() else { return };
        let backoff = change.config.backoff;
        let Some(pool) = change.config.pools.get(change.at) else { return };
        match turn {
            Turn::Connected(Ok(stream)) => {
                return self.switch(change.config, change.at, Some(stream)).await;
            }
            Turn::Connected(Err(error)) => {
                warn!(
                    %pool,
                    "pool {pool}: no connection: {error}; the pool before it is kept meanwhile. Check \
                     pool.host and pool.port"
                );
                change.at = (change.at + 1) % change.config.pools.len();
                let wait = if change.at == 0 { backoff.least } else { backoff.quick };
                change.phase = Phase::Waiting(now() + wait);
            }
            _ => change.phase = Phase::connect(pool, backoff.connect_timeout),
        }
        self.change = Some(change);
    }

    /// Leaves the pool in use for `stream`, a connection to pool `at` of `config`, or for a new try.
    async fn switch(&mut self, config: Arc<DatumConfig>, at: usize, stream: Option<TcpStream>) {
        let is_last = config.pools.is_empty();
        self.drain(if is_last { Drain::Stragglers } else { Drain::Answers }).await;
        (self.config, self.at) = (config, at);
        if !matches!(self.phase, Phase::Idle) {
            self.relay.left(is_last, now());
        }
        self.out.clear();
        self.phase = if is_last { Phase::Idle } else { Phase::Waiting(now()) };
        if let Some(stream) = stream {
            self.on_turn(Turn::Connected(Ok(stream)));
        }
    }

    /// Sends what shares there are and waits for answers, for a while at the longest.
    pub(super) async fn drain(&mut self, what: Drain) {
        let end = now() + self.config.backoff.drain;
        while let Ok(shares) = self.shares.try_recv() {
            self.relay.on_shares(shares, now(), &mut self.out);
        }
        while matches!(self.phase, Phase::Connected(_))
            && (what == Drain::Stragglers || self.relay.awaiting() > 0 || !self.out.is_empty())
        {
            tokio::select! {
                // First: a pool that never stops talking does not stay for ever.
                biased;
                () = sleep_until(end.into()) => break,
                turn = self.phase.turn(&self.out) => self.on_turn(turn),
                Some(shares) = self.shares.recv() => {
                    self.relay.on_shares(shares, now(), &mut self.out);
                }
            }
            let is_due = self.relay.deadline().is_some_and(|deadline| now() >= deadline);
            if is_due && let Err(error) = self.relay.on_deadline(now()) {
                self.end(Ended::Failed, &error.to_string());
            }
        }
    }
}
