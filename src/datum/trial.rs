//! A trial connection to a pool that has to prove itself while another is in use. Sans-IO.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    client::{Client, ClientError},
    event::PoolEvent,
    protocol::cipher::{Identity, PublicIdentity},
};
use crate::work::Template;

/// From HELLO to the pool's configuration; then the relay takes it over.
pub struct PoolTrial {
    pub(super) pool: Arc<str>,
    pub(super) key: PublicIdentity,
    pub(super) client: Box<Client>,
    /// Bytes for the pool.
    pub out: Vec<u8>,
    /// Events to be handled once the pool is in use.
    pub(super) events: Vec<PoolEvent>,
}

impl PoolTrial {
    /// Says HELLO.
    pub(super) fn new(
        pool: &Arc<str>,
        keys: (&Identity, PublicIdentity),
        user_agent: &str,
        timeout: Duration,
        seed: [u8; 32],
        now: Instant,
    ) -> Result<Self, ClientError> {
        let mut out = Vec::new();
        let (ours, key) = keys;
        let client = Client::new(ours, key, user_agent, timeout, seed, now, &mut out)?;
        let (pool, client) = (Arc::clone(pool), Box::new(client));
        Ok(Self { pool, key, client, out, events: Vec::new() })
    }

    /// True once the pool has proven itself: it has the right key, and has said whom to pay.
    pub fn on_bytes(&mut self, bytes: &[u8], now: Instant) -> Result<bool, ClientError> {
        self.client.on_bytes(bytes, now, &mut self.out, &mut self.events)?;
        if self.events.iter().any(|event| matches!(event, PoolEvent::Configured(_))) {
            return Ok(true);
        }
        // Everything else that a pool sends before is ignored.
        self.events.retain(|event| matches!(event, PoolEvent::Welcome { .. }));
        Ok(false)
    }

    pub fn on_template(
        &mut self,
        template: &Arc<Template>,
        now: Instant,
    ) -> Result<(), ClientError> {
        self.client.on_template(template, now, &mut self.out)
    }

    /// When `on_deadline` is due.
    pub fn deadline(&self) -> Instant {
        self.client.deadline()
    }

    pub fn on_deadline(&mut self, now: Instant) -> Result<(), ClientError> {
        self.client.on_deadline(now, &mut self.events)
    }
}
