//! The pool as the rest of the gateway sees it, over all connections: whom to pay, and what became
//! of each share. Sans-IO; `conn.rs` moves the bytes.

mod change;
mod ends;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};

use self::change::Leaving;
use super::{
    cipher::{Identity, PublicIdentity},
    client::{Client, ClientError},
    event::{Configured, Event, Sent, Unsent},
    hold::{Held, Hold},
    message::{ShareReason, ShareResponse, ShareStatus},
    stats::{Lost, PoolStats, Verdict},
    status::{PoolState, PoolStatus, Talk},
    usernames::Usernames,
};
use crate::work::{
    Coinbaser, CoinbaserRequest, Payout, PoolTerms, Share, Template, TemplateKind, Work,
};

/// What stays when connections come and go.
pub struct Relay {
    options: RelayOptions,
    keys: Identity,
    stats: Arc<PoolStats>,
    hold: Hold,
    client: Option<Box<Client>>,
    leaving: Option<Leaving>,
    /// The pool of the current or last connection.
    pool: Arc<str>,
    /// The current connection has been configured.
    up: bool,
    epoch: u64,
    payout: Option<Arc<Payout>>,
    status: PoolStatus,
    template: Option<Arc<Template>>,
    work: Option<Arc<Work>>,
    news: News,
    events: Vec<Event>,
    last_info: String,
    talk: Talk,
    /// There is no pool any more that shares could be for.
    is_left: bool,
}

/// What a relay needs to know from the start.
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

/// What the outside has to be told; cleared by whoever tells it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct News {
    pub payout: bool,
    pub status: bool,
    /// The pool says that there is a new block.
    pub new_block: bool,
}

impl Relay {
    pub fn new(options: RelayOptions, keys: Identity, stats: Arc<PoolStats>) -> Self {
        Self {
            hold: Hold::new(Self::age_max(options.hold_shares)),
            options,
            keys,
            stats,
            client: None,
            leaving: None,
            pool: "".into(),
            up: false,
            epoch: 0,
            payout: None,
            status: PoolStatus::default(),
            template: None,
            work: None,
            news: News::default(),
            events: Vec::new(),
            last_info: String::new(),
            talk: Talk::default(),
            is_left: false,
        }
    }

    /// What the operator wants now. What is said to a pool only once takes effect at the next
    /// connection.
    pub fn set_options(&mut self, options: RelayOptions) {
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

    /// Who holds nothing for a pool that is away still lets shares queue for one that is there.
    fn age_max(hold_shares: Duration) -> Duration {
        if hold_shares.is_zero() { QUEUE_LIMIT } else { hold_shares }
    }

    pub fn payout(&self) -> Option<&Arc<Payout>> {
        self.payout.as_ref()
    }

    pub fn status(&self) -> &PoolStatus {
        &self.status
    }

    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// On this connection the pool has accepted a share, or was sent none.
    pub(super) fn served(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.served())
    }

    /// Shares sent and not answered.
    pub fn awaiting(&self) -> usize {
        let leaving = self.leaving.as_ref().map(|leaving| &leaving.client);
        self.client.iter().chain(leaving).map(|client| client.awaiting()).sum()
    }

    /// A connection to `pool` stands: says HELLO.
    pub fn connect(
        &mut self,
        pool: &Arc<str>,
        key: PublicIdentity,
        seed: [u8; 32],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), ClientError> {
        self.name_pool(pool);
        self.is_left = false;
        self.talk = Talk::default();
        let options = &self.options;
        let mut client =
            Client::new(&self.keys, key, &options.user_agent, options.timeout, seed, now, out)?;
        if let Some(work) = &self.work {
            client.on_work(work);
        }
        if let Some(template) = &self.template {
            client.on_template(template, now, out)?;
        }
        self.client = Some(Box::new(client));
        Ok(())
    }

    /// Which pool is tried now.
    pub fn name_pool(&mut self, pool: &Arc<str>) {
        if self.pool != *pool {
            self.pool = Arc::clone(pool);
            self.status.pool = Arc::clone(pool);
            self.news.status = true;
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
        if let Some(client) = &mut self.client {
            client.on_work(work);
        }
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
            } else if !self.up && self.options.hold_shares.is_zero() {
                self.stats.add_lost(Lost::Expired, 1);
            } else if self.hold.push(share, now) {
                self.stats.add_lost(Lost::Overflow, 1);
            }
        }
        self.send_held(now, out);
    }

    /// Sends what was held, as far as there is room.
    pub fn send_held(&mut self, now: Instant, out: &mut Vec<u8>) {
        while self.hold.front().is_some_and(|share| self.can_send(share, out)) {
            let Some(held) = self.hold.pop() else { break };
            let overtaken =
                self.work.as_ref().is_some_and(|work| held.share.job.prevhash() != work.tip());
            // A block is overtaken by itself, and the pool wants it all the more.
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
        let job = &share.job.payout;
        let same_connection = job.pooled.as_ref().is_some_and(|terms| terms.epoch == self.epoch);
        let same = same_connection || self.payout.as_ref().is_some_and(|it| job.same_terms(it));
        let leaving = self.leaving.as_mut().filter(|leaving| leaving.wants(&share));
        let (client, out) = match (leaving, &mut self.client) {
            (Some(leaving), _) => (&mut leaving.client, &mut leaving.out),
            (None, Some(client)) if same => (client, out),
            (None, _) => return self.stats.add_lost(Lost::TermsChanged, 1),
        };
        let username = Arc::clone(&share.username.0);
        let name = self.options.usernames.map(&username, &share.hash);
        match client.submit(share, &name, replay, now, out) {
            Ok(()) if replay => self.stats.add_replayed(),
            Ok(()) => {}
            Err((_, Unsent::SlotReused)) => self.stats.add_lost(Lost::SlotReused, 1),
            Err((_, Unsent::Solo)) => self.stats.add_lost(Lost::Solo, 1),
            Err((_, Unsent::NotReady)) => self.stats.add_lost(Lost::Expired, 1),
        }
    }

    fn count_waiting(&self) {
        self.stats.set_waiting(self.hold.len(), self.awaiting());
    }

    fn on_events(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            self.on_event(event);
        }
        self.count_waiting();
    }

    fn on_event(&mut self, event: Event) {
        let pool = Arc::clone(&self.pool);
        match event {
            Event::Welcome { motd } => {
                info!(%pool, "pool {pool} says: {motd}");
                self.status.motd = motd.into();
                self.news.status = true;
            }
            Event::Configured(configured) => self.on_configured(configured),
            Event::Coinbaser { coinbaser, cut_at } => self.on_coinbaser(coinbaser, cut_at),
            Event::CoinbaserRefused { request, fault } => {
                if self.talk.may_log() {
                    let next = self.fallback();
                    error!(%pool, "pool {pool}: it sent {fault}; it is not used, {next}");
                }
                self.stats.add_coinbaser_refused();
                if let Some(request) = request {
                    self.settle(request, None);
                }
            }
            Event::CoinbaserLate { request } => {
                warn!(%pool, "pool {pool}: it sent no coinbaser in time; {}", self.fallback());
                self.settle(request, None);
            }
            Event::Answered { sent, response, round_trip } => {
                self.on_answer(&pool, &sent, response, round_trip);
            }
            Event::NewBlock => self.news.new_block = true,
            // Keep-alives are such texts, too.
            Event::Info { text } if text == self.last_info => debug!(%pool, text, "said again"),
            Event::Info { text } => {
                if self.talk.may_log() {
                    info!(%pool, "pool {pool} says: {text}");
                }
                self.last_info = text;
            }
            Event::Validated { slot, wanted } => {
                debug!(%pool, slot, ?wanted, "showed the pool a job's transactions");
            }
            Event::Fault(fault) => {
                if self.talk.may_log() {
                    error!(%pool, "pool {pool}: it sent {fault}; it is ignored");
                }
            }
        }
    }

    fn on_configured(&mut self, configured: Configured) {
        let pool = Arc::clone(&self.pool);
        let first = !self.up;
        if first {
            self.epoch += 1;
            self.up = true;
            self.status.state = PoolState::Up;
            self.status.last_error = None;
            self.news.status = true;
            self.stats.add_connection();
        }
        if configured.rounded {
            warn!(%pool, min_difficulty = configured.min_difficulty,
                "pool {pool}: its minimum difficulty is no power of two; rounded up");
        }
        let tag = super::handshake::printable(&configured.tag, usize::from(u8::MAX));
        info!(%pool, tag, prime_id = configured.prime_id,
            min_difficulty = configured.min_difficulty, "pool {pool} is up");
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
            }),
        };
        // The same connection on the same terms: its last split still holds until the next. Another
        // connection may not know the split's number, so blank work goes out until it answers.
        if let Some(last) = self.payout.as_deref().filter(|last| last.same_terms(&payout))
            && let (Some(terms), Some(last)) = (&mut payout.pooled, &last.pooled)
            && terms.epoch == last.epoch
        {
            terms.coinbaser.clone_from(&last.coinbaser);
            terms.settled = last.settled;
        }
        self.publish(payout);
    }

    fn on_coinbaser(&mut self, coinbaser: Arc<Coinbaser>, cut_at: Option<usize>) {
        let pool = &self.pool;
        if let Some(at) = cut_at {
            let value = coinbaser.request.value;
            error!(%pool, "pool {pool}: it sent a coinbaser that pays more than {value} sats; \
                outputs from number {at} on are left out");
        }
        self.stats.add_coinbaser(cut_at.is_some());
        self.settle(coinbaser.request, Some(coinbaser));
    }

    fn on_answer(
        &mut self,
        pool: &Arc<str>,
        sent: &Sent,
        response: ShareResponse,
        round_trip: Duration,
    ) {
        // It took the share the first time; only its answer was lost.
        let is_known = sent.replay && response.reason == ShareReason::DUPLICATE;
        let rejected = response.status == ShareStatus::Rejected && !is_known;
        let verdict = Verdict {
            target_byte: sent.share.target_byte,
            tentative: response.status == ShareStatus::Tentative,
            rejected: rejected.then_some(response.reason),
        };
        let count = self.stats.add_answer(pool, verdict, round_trip);
        if !rejected {
            return;
        }
        let reason = response.reason.name();
        // Every single one would fill the disk when a pool refuses all.
        if count.is_power_of_two() {
            warn!(%pool, username = %sent.share.username, job = %sent.share.job.id,
                "pool {pool}: it rejected a share: {reason} ({count} since the start)");
        }
    }

    /// What is mined on without a new split.
    fn fallback(&self) -> &'static str {
        let terms = self.payout.as_ref().and_then(|payout| payout.pooled.as_ref());
        let split = terms.and_then(|terms| terms.coinbaser.as_ref());
        let tip = self.template.as_ref().map(|template| template.prevhash);
        if split.is_some_and(|split| Some(split.request.prevhash) == tip) {
            "mining goes on with the last good split"
        } else {
            "mining goes on with the pool's single output"
        }
    }

    /// Nothing is to be expected for the current template any more.
    fn settle_template(&mut self) {
        if let Some(template) = &self.template {
            let (prevhash, value) = (template.prevhash, template.coinbase_value);
            self.settle(CoinbaserRequest { prevhash, value }, None);
        }
    }

    /// A request has ended, well when there is a `coinbaser`.
    fn settle(&mut self, request: CoinbaserRequest, coinbaser: Option<Arc<Coinbaser>>) {
        let Some(payout) = &self.payout else { return };
        let mut payout = Payout::clone(payout);
        if let Some(terms) = &mut payout.pooled {
            terms.settled = Some(request);
            // A late answer for an earlier tip must not displace the current one's.
            let tip = self.template.as_ref().map(|template| template.prevhash);
            if coinbaser.is_some() && (terms.coinbaser.is_none() || tip == Some(request.prevhash)) {
                terms.coinbaser = coinbaser;
            }
        }
        self.publish(payout);
    }

    fn publish(&mut self, payout: Payout) {
        if self.payout.as_deref() != Some(&payout) {
            self.payout = Some(Arc::new(payout));
            self.news.payout = true;
        }
    }
}

/// How long shares may queue for a pool that is slow, when they are not held for one that is away.
const QUEUE_LIMIT: Duration = Duration::from_secs(30);
/// Above this much unsent, shares wait in the hold.
const OUT_LEN_MAX: usize = 1 << 20;
