//! The gateway's connections to its pools, as `datum::task` keeps them, on simulated wires.

use std::{sync::Arc, time::Instant};

use gatewayd::{
    datum::{PoolTrial, message::ShareReason},
    devnet::pool::Fault,
    work::{Share, Template},
};

use crate::{
    record::Promise,
    world::{Event, World},
};

#[derive(Default)]
pub struct Uplink {
    wires: u64,
    main: Option<Wire>,
    trial: Option<(Wire, PoolTrial)>,
    leaving: Option<Wire>,
    /// The pool being tried or used.
    at: usize,
    out: Vec<u8>,
    news_due: bool,
    /// Shares that were handed over in this run of the gateway.
    handed: u64,
    /// How many of those are blocks, which a pool is sent on any terms.
    blocks: u64,
    run: u64,
}

/// A connection. Bytes arrive in the order in which they were sent.
struct Wire {
    number: u64,
    pool: usize,
    to_pool: u64,
    to_gateway: u64,
}

impl Uplink {
    pub fn deadline(&self) -> Option<Instant> {
        self.trial.as_ref().map(|(_, trial)| trial.deadline())
    }

    fn wire(&mut self, number: u64) -> Option<&mut Wire> {
        let trial = self.trial.as_mut().map(|(wire, _)| wire);
        let all = self.main.iter_mut().chain(trial).chain(self.leaving.iter_mut());
        all.into_iter().find(|wire| wire.number == number)
    }

    fn serves(&self, pool: usize) -> bool {
        self.wires().any(|wire| wire.pool == pool)
    }

    fn wires(&self) -> impl Iterator<Item = &Wire> {
        let trial = self.trial.as_ref().map(|(wire, _)| wire);
        self.main.iter().chain(trial).chain(&self.leaving)
    }
}

impl World {
    pub fn run_number(&self) -> u64 {
        self.uplink.run
    }

    /// Connects to the pool whose turn it is.
    pub fn on_pool_try(&mut self) {
        if self.uplink.main.is_some() || self.pools.is_empty() {
            return;
        }
        let at = self.uplink.at % self.pools.len();
        self.relay.name_pool(&name(at));
        if !self.can_connect(at) {
            return self.end("no connection");
        }
        let wire = self.new_wire(at);
        self.uplink.main = Some(wire);
        let (key, seed) = (*self.pools[at].identity.public(), self.chance.bytes());
        let now = self.instant();
        let mut out = std::mem::take(&mut self.uplink.out);
        self.relay.connect(&name(at), key, seed, now, &mut out).expect("a HELLO");
        self.uplink.out = out;
        self.flush();
    }

    fn can_connect(&self, at: usize) -> bool {
        let pool = &self.pools[at];
        let refuses = pool.control.fault == Some(Fault::RefuseConnections);
        !pool.is_away && !refuses && !self.uplink.serves(at)
    }

    fn new_wire(&mut self, pool: usize) -> Wire {
        self.uplink.wires += 1;
        let (moment, seed) = (self.moment(), self.chance.next());
        self.pools[pool].accept(seed, moment);
        Wire { number: self.uplink.wires, pool, to_pool: self.now, to_gateway: self.now }
    }

    /// The connection in use, or an attempt, is over.
    fn end(&mut self, why: &str) {
        let now = self.instant();
        self.uplink.out.clear();
        if let Some(wire) = self.uplink.main.take() {
            self.pools[wire.pool].session = None;
        }
        let is_last = self.uplink.at + 1 >= self.pools.len();
        if is_last {
            self.relay.none_left(now);
        }
        self.relay.disconnected(why, "trying again", now);
        self.uplink.at = if is_last || self.chance.one_in(4) { 0 } else { self.uplink.at + 1 };
        let wait = if is_last { 1000 + self.chance.below(15_000) } else { self.chance.below(500) };
        self.after(wait, Event::PoolTry);
        self.flush();
    }

    pub fn relay_template(&mut self, template: &Arc<Template>) {
        let now = self.instant();
        let mut out = std::mem::take(&mut self.uplink.out);
        let told = self.relay.on_template(template, now, &mut out);
        self.uplink.out = out;
        if told.is_err() {
            self.end("it took no template");
        }
        if let Some((_, trial)) = &mut self.uplink.trial {
            trial.on_template(template, now).expect("room for it");
        }
        self.flush();
    }

    /// Shares on their way from a miner's connection, from this run or an earlier one.
    pub fn on_batch(&mut self, run: u64, shares: Vec<Share>) {
        if run != self.uplink.run {
            return;
        }
        self.uplink.handed += shares.len() as u64;
        self.uplink.blocks += shares.iter().filter(|share| share.is_block).count() as u64;
        let now = self.instant();
        let mut out = std::mem::take(&mut self.uplink.out);
        self.relay.on_shares(shares, now, &mut out);
        self.uplink.out = out;
        self.flush();
    }

    /// Sends what is to be sent, and publishes what is to be published.
    fn flush(&mut self) {
        let out = std::mem::take(&mut self.uplink.out);
        match self.uplink.main.as_ref().map(|wire| wire.number) {
            Some(number) => self.send_to_pool(number, out),
            None => drop(out),
        }
        let left = self.relay.leaving_out().to_vec();
        if let Some(number) = self.uplink.leaving.as_ref().map(|wire| wire.number)
            && !left.is_empty()
        {
            let now = self.instant();
            let mut out = Vec::new();
            self.relay.on_leaving_written(left.len(), now, &mut out);
            self.uplink.out = out;
            self.send_to_pool(number, left);
        }
        if !self.relay.is_leaving()
            && let Some(wire) = self.uplink.leaving.take()
        {
            self.pools[wire.pool].session = None;
        }
        if let Some((wire, trial)) = &mut self.uplink.trial {
            let (number, out) = (wire.number, std::mem::take(&mut trial.out));
            self.send_to_pool(number, out);
        }
        if !self.uplink.news_due {
            self.uplink.news_due = true;
            let wait = self.chance.below(5);
            self.after(wait, Event::RelayNews);
        }
        self.check_accounts();
    }

    fn send_to_pool(&mut self, number: u64, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let arrives = self.now + self.lag();
        let Some(wire) = self.uplink.wire(number) else { return };
        wire.to_pool = wire.to_pool.max(arrives);
        let at = wire.to_pool;
        self.at(at, Event::ToPool(number, bytes));
    }

    fn send_to_gateway(&mut self, number: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let arrives = self.now + self.lag();
        let (cut, is_cut) = (self.chance.index(bytes.len()), self.chance.one_in(4));
        let Some(wire) = self.uplink.wire(number) else { return };
        wire.to_gateway = wire.to_gateway.max(arrives);
        let at = wire.to_gateway;
        let (first, rest) = bytes.split_at(if is_cut { cut } else { bytes.len() });
        self.at(at, Event::ToGateway(number, first.to_vec()));
        if !rest.is_empty() {
            self.at(at, Event::ToGateway(number, rest.to_vec()));
        }
    }

    fn lag(&mut self) -> u64 {
        let is_slow = self.chance.one_in(40) && !self.is_calm;
        if is_slow {
            self.tally.mishap("the wire to the pool stalls for up to 20 s");
        }
        self.chance.below(if is_slow { 20_000 } else { 150 })
    }

    pub fn on_to_pool(&mut self, number: u64, bytes: &[u8]) {
        let Some(pool) = self.uplink.wire(number).map(|wire| wire.pool) else { return };
        let (moment, mut out) = (self.moment(), Vec::new());
        let it = &mut self.pools[pool];
        let Some(session) = &mut it.session else { return };
        let heard = session.on_bytes(bytes, moment, &it.control, &mut it.ledger, &mut out);
        if heard.is_err() {
            it.session = None;
        }
        self.check_pool(pool);
        self.send_to_gateway(number, &out);
        if heard.is_err() {
            let at = self.uplink.wire(number).map_or(self.now, |wire| wire.to_gateway);
            self.at(at, Event::PoolGone(number));
        }
    }

    pub fn on_to_gateway(&mut self, number: u64, bytes: &[u8]) {
        let now = self.instant();
        let mut out = std::mem::take(&mut self.uplink.out);
        let is = |wire: &Option<Wire>| wire.as_ref().is_some_and(|wire| wire.number == number);
        if is(&self.uplink.main) {
            let heard = self.relay.on_bytes(bytes, now, &mut out);
            self.uplink.out = out;
            if let Err(why) = heard {
                return self.end(&why.to_string());
            }
        } else if is(&self.uplink.leaving) {
            self.relay.on_leaving_bytes(bytes, now, &mut out);
            self.uplink.out = out;
        } else if let Some((wire, mut trial)) = self.uplink.trial.take() {
            self.uplink.out = out;
            if wire.number != number {
                self.uplink.trial = Some((wire, trial));
            } else {
                match trial.on_bytes(bytes, now) {
                    Ok(false) => self.uplink.trial = Some((wire, trial)),
                    Ok(true) => self.hand_over(wire, trial),
                    Err(why) => self.give_up_trial(&wire, &why.to_string()),
                }
            }
        } else {
            self.uplink.out = out;
        }
        self.flush();
    }

    fn hand_over(&mut self, wire: Wire, trial: PoolTrial) {
        self.tally.takeovers += 1;
        let now = self.instant();
        self.uplink.at = wire.pool;
        if let Some(old) = self.uplink.leaving.take() {
            self.pools[old.pool].session = None;
        }
        self.uplink.leaving = self.uplink.main.replace(wire);
        let mut out = std::mem::take(&mut self.uplink.out);
        self.relay.take_over(trial, now, &mut out);
        self.uplink.out = out;
    }

    fn give_up_trial(&mut self, wire: &Wire, why: &str) {
        self.pools[wire.pool].session = None;
        let now = self.instant();
        self.relay.next_failed(0, why, std::time::Duration::ZERO, now);
        self.relay.set_next([]);
    }

    pub fn on_pool_gone(&mut self, number: u64) {
        let is = |wire: &Option<Wire>| wire.as_ref().is_some_and(|wire| wire.number == number);
        if is(&self.uplink.main) {
            self.end("it closed the connection");
        } else if is(&self.uplink.leaving) {
            let now = self.instant();
            let mut out = std::mem::take(&mut self.uplink.out);
            self.relay.on_leaving_end(now, &mut out);
            self.uplink.out = out;
            self.flush();
        } else if let Some((wire, _)) = self.uplink.trial.take_if(|(wire, _)| wire.number == number)
        {
            self.give_up_trial(&wire, "it closed the connection");
        }
    }

    pub fn on_uplink_deadlines(&mut self) {
        let now = self.instant();
        let is_due = |due: Option<Instant>| due.is_some_and(|due| now >= due);
        let mut touched = false;
        if is_due(self.relay.deadline()) {
            touched = true;
            if let Err(why) = self.relay.on_deadline(now) {
                self.end(&why.to_string());
            }
            let mut out = std::mem::take(&mut self.uplink.out);
            self.relay.on_leaving_deadline(now, &mut out);
            self.uplink.out = out;
        }
        if let Some((wire, mut trial)) = self.uplink.trial.take_if(|it| now >= it.1.deadline()) {
            touched = true;
            match trial.on_deadline(now) {
                Ok(()) => self.uplink.trial = Some((wire, trial)),
                Err(why) => self.give_up_trial(&wire, &why.to_string()),
            }
        }
        for pool in 0..self.pools.len() {
            if is_due(self.pools[pool].session.as_ref().and_then(|session| session.deadline())) {
                self.pool_acts(pool);
            }
        }
        if touched {
            self.flush();
        }
    }

    /// The pool does what is due, or what its operator wants.
    pub fn pool_acts(&mut self, pool: usize) {
        let (moment, mut out) = (self.moment(), Vec::new());
        let it = &mut self.pools[pool];
        let Some(session) = &mut it.session else { return };
        let done = session
            .on_deadline(moment, &it.control, &mut out)
            .and_then(|()| session.on_control(moment, &it.control, &mut out));
        if done.is_err() {
            it.session = None;
        }
        let Some(number) = self.uplink.wires().find(|it| it.pool == pool).map(|it| it.number)
        else {
            return;
        };
        self.send_to_gateway(number, &out);
        if done.is_err() {
            let at = self.uplink.wire(number).map_or(self.now, |wire| wire.to_gateway);
            self.at(at, Event::PoolGone(number));
        }
    }

    /// Publishes what has changed, payouts first.
    pub fn on_relay_news(&mut self) {
        self.uplink.news_due = false;
        let (news, now) = (self.relay.take_news(), self.instant());
        if news.payout {
            let work = match self.relay.payout().cloned() {
                Some(payout) => self.assembler.on_payout(&payout, now),
                None => self.assembler.on_no_payout(),
            };
            self.publish(work);
        }
        if news.status {
            let health = self.relay.status().health();
            let work = self.assembler.on_pool_health(health, now);
            self.publish(work);
        }
        if news.new_block && self.chance.one_in(2) {
            let template = self.node.full_template(self.unix(), &mut self.chance);
            self.after(100, Event::Template(template));
        }
    }

    /// The operator puts the other pool first.
    pub fn change_pools(&mut self) {
        let Some(main) = &self.uplink.main else { return };
        if self.uplink.trial.is_some() || !self.relay.is_up() || self.pools.len() < 2 {
            return;
        }
        let other = 1 - main.pool;
        if !self.can_connect(other) {
            return;
        }
        let wire = self.new_wire(other);
        let (key, seed) = (*self.pools[other].identity.public(), self.chance.bytes());
        self.relay.set_next([name(other)]);
        self.tally.mishap("the operator wants the other pool");
        let trial = self.relay.try_next(&name(other), key, seed, self.instant()).unwrap();
        self.uplink.trial = Some((wire, trial));
        self.flush();
    }

    /// The wire breaks between the gateway and the pool in use.
    pub fn cut_main(&mut self) {
        if let Some(number) = self.uplink.main.as_ref().map(|wire| wire.number) {
            self.tally.mishap("the wire to the pool breaks");
            self.on_pool_gone(number);
        }
    }

    pub fn drop_uplink(&mut self) {
        let run = self.uplink.run + 1;
        let wires = self.uplink.wires;
        self.uplink = Uplink { run, wires, ..Uplink::default() };
        for pool in &mut self.pools {
            pool.session = None;
        }
    }

    /// Every share is accounted for in exactly one way.
    pub fn check_accounts(&self) {
        let view = self.stats.view();
        let answered = view.accepted + view.rejected_total() + view.unanswered;
        let sum = answered + view.lost_total() + view.held + view.awaiting;
        assert_eq!(view.received, sum, "{view:?}");
        assert_eq!(view.received, self.uplink.handed, "a share that nobody handed over");
        assert!(view.held <= 65_536 + 64 && view.awaiting <= 1 << 20, "{view:?}");
        let pools: u64 = self.pools.iter().map(|pool| pool.accepted()).sum();
        assert!(view.accepted <= pools, "accepted {}, and pools have {pools}", view.accepted);
    }

    /// Whatever the pool finds wrong is its own doing.
    fn check_pool(&mut self, pool: usize) {
        self.tally.checked(Promise::Pool);
        let it = &self.pools[pool];
        let stats = it.ledger.stats();
        assert_eq!(stats.blocks_misflagged, 0, "a share was wrongly flagged as a block or not");
        assert_eq!(stats.validations_failed, 0, "{:?}", stats.last_validation_failure);
        let is_known = |reason: &ShareReason| {
            it.allowed.contains(reason) || self.node.was_off && *reason == ShareReason::BAD_NTIME
        };
        // Blocks are sent on any terms.
        let not_blocks = |reason: ShareReason| {
            let recent = it.ledger.recent().filter(|share| !share.is_block);
            recent.filter(|share| share.verdict == Err(reason)).last().cloned()
        };
        // A template that was read only after the machine had slept has a time of hours ago, which
        // the node accepts and a pool may not, until the next template.
        let is_of_a_sleeper = |reason: ShareReason, unix: u64| {
            reason == ShareReason::BAD_NTIME && self.woke > 0 && unix <= self.woke + 600
        };
        for (reason, count) in &stats.rejected_by {
            if !is_known(reason)
                && let Some(share) = not_blocks(*reason)
                && !is_of_a_sleeper(*reason, share.unix)
            {
                panic!("{count} refused: {} {share:?}", reason.name());
            }
        }
        let misused = stats.splits_misused;
        let of_others = misused.of_other_tip + misused.of_other_value;
        assert!(of_others <= stats.blocks || it.has_forgotten, "{misused:?}");
        let is_fine = it.keeps_ids() || misused.total() <= stats.blocks;
        assert!(is_fine, "{misused:?}");
        assert!(stats.foreign_prime_ids <= stats.blocks, "{} foreign", stats.foreign_prime_ids);
    }

    pub fn close_books(&mut self) {
        let view = self.stats.view();
        self.tally.pool_accepted += view.accepted;
        self.tally.pool_unanswered += view.unanswered;
        self.tally.lost += view.lost_total();
    }
}

fn name(at: usize) -> Arc<str> {
    format!("pool:{at}").into()
}
