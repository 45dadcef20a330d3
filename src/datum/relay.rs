//! The pool as the rest of the gateway sees it, across all connections: whom to pay, and what
//! became of each share. Sans-IO; `conn.rs` moves the bytes.

mod change;
mod ends;
mod events;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::warn;

use self::change::Leaving;
use super::{
    client::{Client, ClientError},
    event::{PoolEvent, Unsent},
    hold::{Held, Hold},
    liveness::Trust,
    memory::PoolMemory,
    prime_ids::PrimeIds,
    protocol::cipher::{Identity, PublicIdentity},
    stats::{Lost, PoolStats},
    status::{LogAllowance, PoolStatus},
    usernames::Usernames,
};
use crate::work::{Payout, Share, Template, TemplateKind, VoidNow, Work};

/// The state that outlives a single connection.
pub struct Relay {
    options: RelayOptions,
    keys: Identity,
    stats: Arc<PoolStats>,
    hold: Hold,
    client: Option<Box<Client>>,
    /// What the last connection has learnt for the next one to the same pool.
    trust: Trust,
    leaving: Option<Leaving>,
    /// The pool of the current or last connection.
    pool: Arc<str>,
    /// The current connection has been configured.
    up: bool,
    epoch: u64,
    /// See [`PoolTerms::series`]; shares of series up to the second one are void.
    series: u64,
    void_series: u64,
    /// The same, for whoever validates shares.
    void_now: VoidNow,
    prime_ids: PrimeIds,
    /// Whether the pool that was up last keeps its prime ids; not one that is only being tried.
    keeps_ids: Option<bool>,
    payout: Option<Arc<Payout>>,
    status: PoolStatus,
    template: Option<Arc<Template>>,
    work: Option<Arc<Work>>,
    updates: RelayUpdates,
    events: Vec<PoolEvent>,
    last_info: String,
    talk: LogAllowance,
    /// There is no pool any more that shares could be sent to.
    is_left: bool,
}

/// What a relay needs at the start.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    pub usernames: Usernames,
    pub tag_secondary: Box<[u8]>,
    pub unique_id: u16,
    pub own_script: Option<Box<[u8]>>,
    pub user_agent: String,
    pub timeout: Duration,
    pub hold_shares: Duration,
}

/// What has to be published; cleared by whoever publishes it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RelayUpdates {
    pub payout: bool,
    pub status: bool,
    /// The pool says that there is a new block.
    pub new_block: bool,
    /// [`Relay::memory`] has changed.
    pub memory: bool,
}

impl Relay {
    pub fn new(options: RelayOptions, keys: Identity, stats: Arc<PoolStats>) -> Self {
        Self {
            hold: Hold::new(Self::age_max(options.hold_shares)),
            options,
            keys,
            stats,
            client: None,
            trust: Trust::default(),
            leaving: None,
            pool: "".into(),
            up: false,
            epoch: 0,
            series: 0,
            void_series: 0,
            void_now: VoidNow::default(),
            prime_ids: PrimeIds::default(),
            keeps_ids: None,
            payout: None,
            status: PoolStatus::default(),
            template: None,
            work: None,
            updates: RelayUpdates::default(),
            events: Vec::new(),
            last_info: String::new(),
            talk: LogAllowance::default(),
            is_left: false,
        }
    }

    /// What was learnt about pools in earlier runs.
    pub fn remember(&mut self, memory: PoolMemory) {
        self.prime_ids.memory = memory;
    }

    /// What is to be remembered about pools.
    pub fn memory(&self) -> &PoolMemory {
        &self.prime_ids.memory
    }

    /// Applies changed settings. What a pool is told only once takes effect at the next connection.
    pub(crate) fn set_options(&mut self, options: RelayOptions) {
        self.hold.set_age_max(Self::age_max(options.hold_shares));
        self.options = options;
        if let Some(client) = &mut self.client {
            client.set_timeout(self.options.timeout);
        }
        let Some(payout) = self.payout.as_deref() else { return };
        let payout = Payout {
            tag_secondary: self.options.tag_secondary.clone(),
            unique_id: self.options.unique_id,
            own_script: self.options.own_script.clone(),
            ..payout.clone()
        };
        self.publish(payout);
    }

    /// Even if nothing is held for a pool that is away, shares may queue for one that is up.
    fn age_max(hold_shares: Duration) -> Duration {
        if hold_shares.is_zero() { QUEUE_LIMIT } else { hold_shares }
    }

    pub fn payout(&self) -> Option<&Arc<Payout>> {
        self.payout.as_ref()
    }

    pub fn status(&self) -> &PoolStatus {
        &self.status
    }

    pub fn take_news(&mut self) -> RelayUpdates {
        std::mem::take(&mut self.updates)
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// On this connection the pool has accepted a share, or was sent none.
    pub(super) fn served(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.served())
    }

    /// Shares sent but not answered.
    pub(crate) fn awaiting(&self) -> usize {
        let leaving = self.leaving.as_ref().map(|leaving| &leaving.client);
        self.client.iter().chain(leaving).map(|client| client.awaiting()).sum()
    }

    /// A connection to `pool` was opened: sends HELLO.
    pub fn connect(
        &mut self,
        pool: &Arc<str>,
        key: PublicIdentity,
        seed: [u8; 32],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.name_pool(pool);
        self.set_key(key);
        self.is_left = false;
        self.talk = LogAllowance::default();
        let options = &self.options;
        let mut client =
            Client::new(&self.keys, key, &options.user_agent, options.timeout, seed, now, out)?;
        client.set_trust(std::mem::take(&mut self.trust));
        if let Some(template) = &self.template {
            client.on_template(template, now, out)?;
        }
        self.client = Some(Box::new(client));
        Ok(())
    }

    /// Which pool it is a connection to.
    fn set_key(&mut self, key: PublicIdentity) {
        self.prime_ids.set_pool(key);
        self.status.keeps_prime_id = self.prime_ids.are_kept();
        self.updates.status = true;
    }

    /// Which pool is tried now.
    pub fn name_pool(&mut self, pool: &Arc<str>) {
        if self.pool != *pool {
            self.trust = Trust::default();
            self.pool = Arc::clone(pool);
            self.status.pool = Arc::clone(pool);
            self.updates.status = true;
        }
    }

    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        let Some(client) = &mut self.client else { return Ok(()) };
        let mut events = std::mem::take(&mut self.events);
        let result = client.on_bytes(bytes, now, out, &mut events);
        self.on_events(&mut events);
        self.events = events;
        self.send_held(now, out);
        result
    }

    pub fn on_template(
        &mut self,
        template: &Arc<Template>,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        if template.kind != TemplateKind::Full {
            return Ok(());
        }
        self.template = Some(Arc::clone(template));
        if let Some(client) = &mut self.client {
            client.on_template(template, now, out)?;
        }
        if !self.up {
            self.settle_template();
        }
        Ok(())
    }

    pub fn on_work(&mut self, work: &Arc<Work>) {
        self.work = Some(Arc::clone(work));
    }

    /// Takes shares that miners have been told are accepted.
    pub fn on_shares(&mut self, shares: Vec<Share>, now: Instant, out: &mut Vec<u8>) {
        self.stats.add_received(shares.len());
        for share in shares {
            if share.job.payout.pooled.is_none() {
                self.stats.add_lost(Lost::Solo, 1);
            } else if self.hold.len() == 0 && self.can_send(&share, out) {
                self.send(Held { share, since: now, replay: false }, now, out);
            } else if self.is_left {
                self.stats.add_lost(Lost::TermsChanged, 1);
            } else if self.is_worthless(&share) {
                // The validator checked `void_now` before: this share was on its way when the
                // connection ended, like those already in the socket.
                self.note_unanswered(1);
            } else if !self.up && self.options.hold_shares.is_zero() && !share.is_block {
                self.stats.add_lost(Lost::Expired, 1);
            } else {
                self.stats.add_lost(Lost::Overflow, self.hold.push(share, now));
            }
        }
        self.send_held(now, out);
    }

    /// Sends held shares, as far as there is room.
    pub fn send_held(&mut self, now: Instant, out: &mut Vec<u8>) {
        while self.hold.front().is_some_and(|share| self.can_send(share, out)) {
            let Some(held) = self.hold.pop() else { break };
            let overtaken =
                self.work.as_ref().is_some_and(|work| held.share.job.prevhash() != work.tip());
            // A found block makes its own job stale, but the pool wants it all the more.
            if overtaken && !held.share.is_block {
                self.stats.add_lost(Lost::Stale, 1);
            } else {
                self.send(held, now, out);
            }
        }
        self.count_waiting();
    }

    /// When `on_deadline` is due, if ever.
    pub fn deadline(&self) -> Option<Instant> {
        let client = self.client.as_ref().map(|client| client.deadline());
        let leaving = self.leaving.as_ref().map(Leaving::deadline);
        client.into_iter().chain(leaving).chain(self.hold.deadline()).min()
    }

    pub fn on_deadline(&mut self, now: Instant) -> Result<(), ClientError> {
        self.stats.add_lost(Lost::Expired, self.hold.expire(now));
        self.count_waiting();
        let Some(client) = &mut self.client else { return Ok(()) };
        let mut events = std::mem::take(&mut self.events);
        let result = client.on_deadline(now, &mut events);
        self.on_events(&mut events);
        self.events = events;
        result
    }

    /// Shares of series up to this one are void from now on.
    fn void_up_to(&mut self, series: u64) {
        self.void_series = self.void_series.max(series);
        self.void_now.set(self.void_series);
    }

    /// True if the pool, which is away, will not accept the share when it is back.
    fn is_worthless(&self, share: &Share) -> bool {
        !self.up && !share.is_block && self.keeps_ids == Some(false)
    }

    fn can_send(&self, share: &Share, out: &[u8]) -> bool {
        if let Some(leaving) = self.leaving.as_ref().filter(|leaving| leaving.wants(share)) {
            return leaving.can_send();
        }
        let ready = self.client.as_ref().is_some_and(|client| client.can_submit());
        self.up && ready && out.len() < OUT_LEN_MAX
    }

    /// Sends a share, or counts why it cannot be sent.
    fn send(&mut self, held: Held, now: Instant, out: &mut Vec<u8>) {
        let Held { share, replay, .. } = held;
        let is_wanted = self.wants(&share);
        let leaving = self.leaving.as_mut().filter(|leaving| leaving.wants(&share));
        let (client, out) = match (leaving, &mut self.client) {
            (Some(leaving), _) => (&mut leaving.client, &mut leaving.out),
            (None, Some(client)) if is_wanted => (client, out),
            // It has been sent once already.
            (None, _) if replay => return self.note_unanswered(1),
            (None, _) => return self.stats.add_lost(Lost::TermsChanged, 1),
        };
        let username = Arc::clone(&share.username.0);
        let name = self.options.usernames.map(&username, &share.hash);
        match client.submit(share, &name, replay, now, out) {
            Ok(()) if replay => self.stats.add_replayed(),
            Ok(()) => {}
            Err((_, Unsent::Solo)) => self.stats.add_lost(Lost::Solo, 1),
            Err((_, Unsent::NotReady)) => self.stats.add_lost(Lost::Expired, 1),
        }
    }

    /// True if the pool may pay for the share. Blocks are sent in any case: the pool refuses them
    /// under other terms than the current ones, but then it knows of them.
    fn wants(&self, share: &Share) -> bool {
        let Some(terms) = &share.job.payout.pooled else { return false };
        terms.epoch == self.epoch
            || self.payout.as_ref().is_some_and(|it| share.job.payout.same_terms(it))
            || share.is_block && terms.pool == self.pool
    }

    fn count_waiting(&mut self) {
        let of = |client: &mut Client| client.take_unanswered();
        let unanswered = self.client.as_deref_mut().map_or(0, of);
        self.note_unanswered(unanswered);
        if let Some(leaving) = &mut self.leaving {
            let count = of(&mut leaving.client);
            self.stats.add_unanswered(&leaving.pool, count);
        }
        self.stats.set_waiting(self.hold.len(), self.awaiting());
    }

    /// Counts shares that were sent to the pool, or were about to be when its connection ended, and
    /// that it has not answered.
    fn note_unanswered(&self, count: usize) {
        if count == 0 {
            return;
        }
        let pool = &self.pool;
        let total = self.stats.add_unanswered(pool, count);
        // As with rejections, not one line for each.
        if (total - count as u64).checked_ilog2() != total.checked_ilog2() {
            warn!(%pool, "the pool has left {total} shares unanswered since the start, for a \
                          minute or until the connection ended; whether it counted them is not \
                          known");
        }
    }
}

/// How long shares may queue for a slow pool, when they are not held for one that is away.
const QUEUE_LIMIT: Duration = Duration::from_secs(30);
/// With more than this unsent, shares wait in the hold.
const OUT_LEN_MAX: usize = 1 << 20;
