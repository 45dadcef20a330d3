//! A Stratum V2 client of the load generator: a connection with one or many channels.

use std::{mem, sync::Arc};

use bytes::BytesMut;

use super::{
    Speaks,
    conn::{HASHES_PER_SCAN, HASHES_PER_TURN, LEN_MAX, LoadClient, LoadConn, LoadError},
    log::{Log, News, Sight},
};
use crate::{
    clock::unix_seconds,
    devnet::{
        miner::{
            message::Root,
            scan::{Cursor, Found, HashWork},
        },
        sv2_client::{Begin, Event, Kind, Setup, Sv2Client, Sv2Link, Wanted},
    },
    sv2::codec::setup_flags,
    work::Target,
};

/// One connection.
pub(super) struct Sv2LoadClient {
    link: Sv2Link,
    client: Sv2Client,
    /// One for each open channel.
    miners: Vec<Miner>,
    log: Log,
    /// Jobs are kept whole.
    submits: bool,
    out: Vec<u8>,
}

/// What a channel is mined by.
#[derive(Default)]
struct Miner {
    sight: Sight,
    work: Option<Arc<HashWork>>,
    /// Of the work.
    job_id: u32,
    cursor: Cursor,
    /// Shares of the work.
    solved: Vec<Found>,
    under_way: usize,
    sequence_number: u32,
}

impl Sv2LoadClient {
    pub(super) fn new(conn: &LoadConn, log: Log) -> Result<Self, LoadError> {
        let mut out = Vec::new();
        let mut link = Sv2Link::open(conn.authority, LEN_MAX, &mut out)?;
        let (kind, flags) = match conn.speaks {
            Speaks::Sv2Standard => {
                (Kind::Standard { group_jobs: false }, setup_flags::REQUIRES_STANDARD_JOBS)
            }
            _ => (Kind::Extended, 0),
        };
        let (vendor, hardware) = conn.user_agent.split_once('/').unwrap_or((&conn.user_agent, ""));
        let setup = Setup { host: "127.0.0.1", port: 0, vendor, hardware, firmware: "", flags };
        let wanted = Wanted {
            kind,
            users: conn.users.clone(),
            hashrate: HASHRATE,
            max_target: Target::MAX,
            extranonce_size_least: EXTRANONCE_SIZE_LEAST,
            rolls_versions: true,
            hashes: conn.submits,
        };
        let client = Sv2Client::open(&setup, wanted, link.plain());
        Ok(Self { link, client, miners: Vec::new(), log, submits: conn.submits, out })
    }
}

impl Miner {
    fn begin(&mut self, begin: Begin, submits: bool, log: &mut Log) {
        let empty = match &*begin.job.root {
            // Work that was there before its tip can only be subsidy-only. A root alone does not tell.
            Root::Given(_) => begin.has_waited,
            Root::Coinbase { merkle_branch, .. } => merkle_branch.is_empty(),
        };
        let news = News { tip: begin.job.prevhash, clean: begin.job.clean, empty };
        log.on_work(&mut self.sight, news);
        self.solved.clear();
        self.cursor.restart();
        self.job_id = begin.job_id;
        self.work = submits.then(|| begin.work(0));
    }

    /// Hashes until it has a share. The number of hashes, and the share.
    fn solve(&mut self) -> (u32, Option<Found>) {
        if let Some(found) = self.solved.pop() {
            return (1, Some(found));
        }
        let Some(work) = &self.work else { return (0, None) };
        let hashes = self.cursor.scan(work, HASHES_PER_SCAN, &mut self.solved);
        (hashes, self.solved.pop())
    }
}

impl LoadClient for Sv2LoadClient {
    fn on_input(&mut self, input: &mut BytesMut) -> Result<(), LoadError> {
        let Self { link, client, miners, log, submits, out } = self;
        client.begin_read();
        link.on_input(input, unix_seconds(), out, |message, plain| {
            client.on_message(message, plain, |event| {
                on_event(event, miners, *submits, log);
                Ok(())
            })
        })?;
        Ok(())
    }

    fn submit(&mut self, wanted: usize) -> Result<bool, LoadError> {
        let mut hashes = 0;
        for (channel, miner) in self.miners.iter_mut().enumerate() {
            while miner.under_way < wanted && hashes < HASHES_PER_TURN {
                let (count, found) = miner.solve();
                if count == 0 {
                    break;
                }
                hashes += count;
                let Some(found) = found else { continue };
                let numbers = (miner.sequence_number, miner.job_id);
                self.client.submit(channel, numbers, &found, self.link.plain());
                miner.sequence_number = miner.sequence_number.wrapping_add(1);
                miner.under_way += 1;
                self.log.on_submitted();
            }
        }
        self.link.seal(&mut self.out)?;
        Ok(hashes >= HASHES_PER_TURN)
    }

    fn out(&self) -> &[u8] {
        &self.out
    }

    fn on_sent(&mut self) {
        self.out.clear();
        if !self.submits {
            // Thousands of idle connections keep no buffers.
            drop(mem::take(&mut self.out));
            self.link.forget_buffer();
        }
    }

    fn log(&mut self) -> &mut Log {
        &mut self.log
    }

    fn state(&self) -> String {
        if !self.link.is_open() {
            return "in the handshake".into();
        }
        let Self { miners, log, .. } = self;
        let digging = miners.iter().filter(|miner| miner.work.is_some()).count();
        let under_way: usize = miners.iter().map(|miner| miner.under_way).sum();
        let (channels, working) = (miners.len(), log.working);
        format!("{channels} channels, {working} got work, {digging} have it, {under_way} in flight")
    }
}

fn on_event(event: Event<'_>, miners: &mut Vec<Miner>, submits: bool, log: &mut Log) {
    let answered = |miner: Option<&mut Miner>, count: u32| {
        let miners = miner.into_iter();
        miners.for_each(|it| it.under_way = it.under_way.saturating_sub(count as usize));
    };
    match event {
        Event::Opened { .. } => miners.push(Miner::default()),
        Event::Begin { channel, begin } => {
            if let Some(miner) = miners.get_mut(channel) {
                miner.begin(begin, submits, log);
            }
        }
        Event::Target { .. } => {}
        Event::Accepted { channel, success } => {
            let count = success.new_submits_accepted_count;
            answered(miners.get_mut(channel), count);
            log.on_accepted(count);
        }
        Event::Refused { channel, error } => {
            answered(miners.get_mut(channel), 1);
            log.on_rejected(error.error_code.to_string());
        }
    }
}

/// A megahash per second: what a processor can do.
const HASHRATE: f32 = 1e6;
/// Room for a coinbase a share.
const EXTRANONCE_SIZE_LEAST: u16 = 8;
