//! The miners' side: connections as `stratum::conn` serves them, on simulated wires.

use std::{sync::Arc, time::Instant};

use gatewayd::{
    stratum::{Closing, ConnectionLimits, Effects, Origin, Protocol},
    sv1, sv2,
    work::{Admission, Work},
};

use crate::{
    chance::Chance,
    lane::{Due, Expected, Lane, Lives},
    record::Promise,
    v1::V1,
    v2::{Scene, V2},
    world::{Event, Parcel, World},
};

/// A miner and its connection, if it has one.
pub struct Rig {
    name: String,
    speaks: u64,
    hashrate: f64,
    client: Client,
    conn: Option<Conn>,
    /// The counts of connections that are over.
    accepted: u64,
    refused: u64,
}

enum Client {
    Away,
    V1(Box<V1>),
    V2(Box<V2>),
}

struct Conn {
    number: u64,
    session: Box<dyn Protocol>,
    work: Arc<Work>,
    inbox: Vec<u8>,
    effects: Effects,
    /// When the last byte in flight arrives.
    arrives: u64,
    /// The miner has sent something that it must not.
    is_rude: bool,
}

impl Rig {
    pub fn new(at: usize, hashrate: f64, chance: &mut Chance) -> Self {
        let hashrate = [0.3, 1.0, 1.0, 4.0][chance.index(4)] * hashrate;
        let (name, speaks) = (format!("bcrt1qsimulated.rig{at}"), chance.below(3));
        Self { name, speaks, hashrate, client: Client::Away, conn: None, accepted: 0, refused: 0 }
    }

    pub fn conn_number(&self) -> Option<u64> {
        self.conn.as_ref().map(|conn| conn.number)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.conn.as_ref().map(|conn| conn.session.deadline())
    }

    pub fn scores(&self) -> (u64, u64) {
        let (mut accepted, mut refused) = (self.accepted, self.refused);
        let channels = |v2: &V2| {
            let lanes = v2.channels.values().map(|channel| &channel.lane);
            lanes.fold((0, 0), |sum, lane| (sum.0 + lane.accepted, sum.1 + lane.refused))
        };
        let more = match &self.client {
            Client::Away => (0, 0),
            Client::V1(v1) => (v1.lane.accepted, v1.lane.refused),
            Client::V2(v2) => channels(v2),
        };
        accepted += more.0;
        refused += more.1;
        (accepted, refused)
    }
}

impl World {
    pub fn on_connect(&mut self, rig: usize) {
        if self.rigs[rig].conn.is_some() {
            return;
        }
        let Some(work) = self.work.clone().filter(|work| work.admission == Admission::Open) else {
            let wait = 1000 + self.chance.below(10_000);
            return self.after(wait, Event::Connect(rig));
        };
        self.tally.connections += 1;
        let number = self.tally.connections;
        let (now, config) = (self.instant(), Arc::clone(&self.config));
        // Extranonce prefixes that no other connection has.
        let first = u32::try_from(number << 8).unwrap().to_be_bytes();
        let limits = ConnectionLimits { connections: 0xFE, ..ConnectionLimits::NONE };
        let mut origin = Origin::standalone_within(limits, &Arc::default(), first, now);
        (origin.roster, origin.seen_budget) =
            (Arc::clone(&self.roster), Arc::clone(&self.seen_budget));
        let name = self.rigs[rig].name.clone();
        let speaks = self.rigs[rig].speaks;
        let session: Box<dyn Protocol> = if speaks == 0 {
            Box::new(sv1::Sv1Session::new(config, origin, &work, now))
        } else {
            Box::new(sv2::Sv2Link::new(config, Arc::clone(&self.identity), origin, &work, now))
        };
        self.rigs[rig].conn = Some(Conn {
            number,
            session,
            work,
            inbox: Vec::new(),
            effects: Effects::default(),
            arrives: self.now,
            is_rude: false,
        });
        let (client, hello) = match speaks {
            0 => {
                let mut v1 = V1::new(name);
                let hello = v1.greet(&mut self.chance);
                (Client::V1(Box::new(v1)), hello)
            }
            kind => {
                let mut v2 = V2::new(name, kind == 1);
                let hello = v2.greet();
                (Client::V2(Box::new(v2)), hello)
            }
        };
        self.rigs[rig].client = client;
        self.send(rig, hello, Vec::new(), None);
        self.after(1000, Event::Mine(rig, number));
    }

    fn short_lag(&mut self) -> u64 {
        let is_slow = self.chance.one_in(30);
        if is_slow {
            self.tally.mishap("a miner's wire stalls for up to 5 s");
        }
        self.chance.below(if is_slow { 5000 } else { 100 })
    }

    /// A miner sends something, which arrives in one piece or in several.
    fn send(&mut self, rig: usize, bytes: Vec<u8>, claims: Vec<(u32, u32)>, closes: Option<u32>) {
        let lag = self.short_lag();
        let now = self.now;
        let Some(conn) = &mut self.rigs[rig].conn else { return };
        conn.arrives = conn.arrives.max(now + lag);
        let (mut at, number) = (conn.arrives, conn.number);
        let mut rest = bytes;
        while rest.len() > 1 && self.chance.one_in(6) {
            let behind = rest.split_off(1 + self.chance.index(rest.len() - 1));
            let first = std::mem::replace(&mut rest, behind);
            let parcel = Parcel { bytes: first, claims: Vec::new(), closes: None };
            self.at(at, Event::Arrive(rig, number, parcel));
            at += self.chance.below(20);
        }
        self.at(at, Event::Arrive(rig, number, Parcel { bytes: rest, claims, closes }));
        if let Some(conn) = &mut self.rigs[rig].conn {
            conn.arrives = at;
        }
    }

    /// What a miner finds, and what else it does.
    pub fn on_mine(&mut self, rig: usize, number: u64) {
        if self.rigs[rig].conn_number() != Some(number) {
            return;
        }
        let (now, is_calm) = (self.now, self.is_calm);
        let chance = &mut self.chance;
        match &mut self.rigs[rig].client {
            Client::V1(v1) => {
                if let Some((id, line)) = v1.submit(now, chance) {
                    self.send(rig, line, vec![(0, id)], None);
                }
            }
            Client::V2(v2) if v2.is_open() => {
                if chance.one_in(100) {
                    let fidgets = v2.fidget(chance);
                    let (frame, closes) = fidgets.unwrap_or_default();
                    self.send(rig, frame, Vec::new(), closes);
                } else if chance.one_in(150) && v2.channels.len() < 6 {
                    let frame = v2.open(chance);
                    self.send(rig, frame, Vec::new(), None);
                } else if let Some((channel, id, frame)) = v2.submit(now, chance) {
                    self.send(rig, frame, vec![(channel, id)], None);
                }
            }
            _ => {}
        }
        if !is_calm && self.chance.one_in(4000) {
            self.tally.mishap("a miner sends nonsense");
            self.say_nonsense(rig);
        }
        if !is_calm && self.chance.one_in(1500) {
            self.tally.mishap("a miner's connection breaks");
            return self.drop_rig(rig);
        }
        let wait = self.time_to_share(rig);
        self.after(wait, Event::Mine(rig, number));
    }

    /// From its hashrate and the difficulty that it was told.
    fn time_to_share(&mut self, rig: usize) -> u64 {
        let it = &self.rigs[rig];
        let easiest = match &it.client {
            Client::V1(v1) => v1.lane.jobs.last().map(|job| job.target.difficulty()),
            Client::V2(v2) => {
                let jobs = v2.channels.values().filter_map(|channel| channel.lane.jobs.last());
                jobs.map(|job| job.target.difficulty()).reduce(f64::min)
            }
            Client::Away => None,
        };
        let hashes = easiest.unwrap_or(1e-8) * 4_294_967_296.0;
        let mean = (hashes / it.hashrate * 1000.0).max(500.0);
        self.chance.wait(mean)
    }

    fn say_nonsense(&mut self, rig: usize) {
        if let Some(conn) = &mut self.rigs[rig].conn {
            conn.is_rude = true;
        }
        let mut bytes = self.chance.bytes().to_vec();
        bytes.push(b'\n');
        self.send(rig, bytes, Vec::new(), None);
    }

    /// Bytes of a miner have arrived: the connection answers all that is complete.
    pub fn on_arrive(&mut self, rig: usize, number: u64, parcel: &Parcel) {
        if self.rigs[rig].conn_number() != Some(number) {
            return;
        }
        // A connection takes new work before it reads.
        self.on_take_work(rig, number);
        let (now, instant) = (self.now, self.instant());
        let lives = Lives { job: 160_000, grace: 30_000 };
        let Rig { client, conn: Some(conn), .. } = &mut self.rigs[rig] else { return };
        for (channel, number) in &parcel.claims {
            client.judge(*channel, *number, &conn.work, now, lives);
        }
        if let (Client::V2(v2), Some(id)) = (&mut *client, parcel.closes) {
            let gone = v2.channels.remove(&id);
            if let Some(gone) = gone {
                self.tally.accepted += gone.lane.accepted;
                self.tally.refused += gone.lane.refused;
            }
        }
        conn.inbox.extend_from_slice(&parcel.bytes);
        let (mut out, mut ended) = (Vec::new(), None);
        loop {
            conn.effects.is_cut = false;
            let Conn { session, inbox, work, effects, .. } = conn;
            match session.on_bytes(inbox, work, instant, &mut out, effects) {
                Ok(used) => _ = conn.inbox.drain(..used),
                Err(close) => ended = Some(close),
            }
            if ended.is_some() || !conn.effects.is_cut {
                break;
            }
        }
        self.take_effects(rig, &parcel.claims);
        self.receive(rig, &out);
        if let Some(close) = ended {
            self.close(rig, &close);
        }
    }

    /// Blocks go to the nodes first, then shares to the pool; exactly these.
    fn take_effects(&mut self, rig: usize, claims: &[(u32, u32)]) {
        let Rig { client, conn: Some(conn), .. } = &mut self.rigs[rig] else { return };
        let due: Vec<_> = claims.iter().filter_map(|it| client.due(*it)).collect();
        let blocks: Vec<_> = conn.effects.blocks.drain(..).collect();
        let mut shares: Vec<_> = conn.effects.shares.drain(..).collect();
        for due in &due {
            if let Some(hash) = due.block {
                assert!(blocks.iter().any(|block| block.hash == hash), "a block is lost: {due:?}");
            }
        }
        shares.retain(|share| share.job.payout.pooled.is_some());
        let is_for_pool =
            |due: &&Due| due.is_pooled && (due.expected == Expected::Accepted || due.is_new_block);
        assert_eq!(shares.len(), due.iter().filter(is_for_pool).count(), "{due:?}");
        for _ in &due {
            self.tally.checked(Promise::Answers);
        }
        let mut tip = false;
        for block in &blocks {
            self.tally.checked(Promise::Blocks);
            tip |= self.node.submit(block);
        }
        if tip {
            self.node.extend();
            self.on_new_tip();
        }
        if !shares.is_empty() && !self.pools.is_empty() {
            let (wait, run) = (self.chance.below(5), self.run_number());
            self.after(wait, Event::Batch(run, shares));
        }
    }

    /// A miner reads what the gateway sends, and may have to reply.
    fn receive(&mut self, rig: usize, out: &[u8]) {
        if out.is_empty() {
            return;
        }
        let lag = self.short_lag();
        let (now, here_at) = (self.now, self.now + lag);
        let unix = u32::try_from(self.unix()).unwrap();
        let Rig { client, conn: Some(conn), .. } = &mut self.rigs[rig] else { return };
        let reply = match client {
            Client::Away => Vec::new(),
            Client::V1(v1) => {
                v1.receive(out, now, here_at);
                Vec::new()
            }
            Client::V2(v2) => {
                let scene = Scene { work: &conn.work, now, here_at, unix };
                v2.receive(out, scene, &mut self.chance)
            }
        };
        if !reply.is_empty() {
            self.send(rig, reply, Vec::new(), None);
        }
    }

    pub fn on_take_work(&mut self, rig: usize, number: u64) {
        let (instant, latest) = (self.instant(), self.work.clone());
        let Rig { client, conn: Some(conn), .. } = &mut self.rigs[rig] else { return };
        let Some(latest) = latest.filter(|latest| latest.sequence != conn.work.sequence) else {
            return;
        };
        if conn.number != number {
            return;
        }
        conn.work = latest;
        client.retain(&conn.work);
        let mut out = Vec::new();
        let told = conn.session.on_work(&conn.work, instant, &mut out);
        self.receive(rig, &out);
        match told {
            Ok(()) => self.check_on_tip(rig),
            Err(close) => self.close(rig, &close),
        }
    }

    /// Whoever mines at all mines on the tip, as soon as its connection knows about it.
    fn check_on_tip(&mut self, rig: usize) {
        self.tally.checked(Promise::Tip);
        let Rig { client, conn: Some(conn), .. } = &self.rigs[rig] else { return };
        let tip = conn.work.tip();
        let is_on_tip = |lane: &Lane| lane.jobs.last().is_none_or(|job| job.prevhash == *tip);
        match client {
            Client::V1(v1) => assert!(is_on_tip(&v1.lane), "a miner is left on an old tip"),
            Client::V2(v2) => {
                let all = v2.channels.values().all(|channel| is_on_tip(&channel.lane));
                assert!(all, "a channel is left on an old tip");
            }
            Client::Away => {}
        }
    }

    pub fn on_rig_deadline(&mut self, rig: usize) {
        let instant = self.instant();
        let Rig { conn: Some(conn), .. } = &mut self.rigs[rig] else { return };
        let mut out = Vec::new();
        let done = conn.session.on_deadline(&conn.work, instant, &mut out);
        self.receive(rig, &out);
        if let Err(close) = done {
            self.close(rig, &close);
        }
    }

    fn close(&mut self, rig: usize, close: &Closing) {
        let is_rude = self.rigs[rig].conn.as_ref().is_some_and(|conn| conn.is_rude);
        self.tally.checked(Promise::Honest);
        if let Closing::Violation(what) = close {
            assert!(is_rude, "an honest miner is sent away: {what}");
        }
        self.drop_rig(rig);
    }

    /// A miner disconnects, and comes back.
    pub fn drop_rig(&mut self, rig: usize) {
        let it = &mut self.rigs[rig];
        let (accepted, refused) = it.scores();
        (it.accepted, it.refused) = (accepted, refused);
        it.client = Client::Away;
        it.conn = None;
        let wait = 500 + self.chance.below(if self.is_calm { 5000 } else { 60_000 });
        self.after(wait, Event::Connect(rig));
    }
}

impl Client {
    fn judge(&mut self, channel: u32, number: u32, work: &Work, now: u64, lives: Lives) {
        match self {
            Self::V1(v1) => v1.lane.judge(number, work, now, lives),
            Self::V2(v2) => {
                if let Some(channel) = v2.channels.get_mut(&channel) {
                    channel.lane.judge(number, work, now, lives);
                    channel.judged(number);
                }
            }
            Self::Away => {}
        }
    }

    fn due(&self, (channel, number): (u32, u32)) -> Option<Due> {
        match self {
            Self::V1(v1) => v1.lane.due.get(&number).copied(),
            Self::V2(v2) => v2.channels.get(&channel)?.lane.due.get(&number).copied(),
            Self::Away => None,
        }
    }

    fn retain(&mut self, work: &Work) {
        match self {
            Self::V1(v1) => v1.lane.retain(work),
            Self::V2(v2) => v2.channels.values_mut().for_each(|it| it.lane.retain(work)),
            Self::Away => {}
        }
    }
}
