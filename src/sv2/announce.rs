//! Sends jobs to the channels of a connection: to a group in one message where possible.
//!
//! A new tip needs one small message, if its subsidy-only job was sent ahead. What peers demand
//! beyond the specification is respected: a first job is a future one, followed by its prevhash; a
//! target never comes without a job; a group is only addressed for what it was sent as a group.

use std::time::Instant;

use super::{
    channel::{ChannelKind, FutureJob, MiningChannel, SentJob, root_for},
    codec::{Message, SetTarget},
    group::ChannelGroups,
    jobs::{self, JobLabel},
};
use crate::{
    validate::Assignment,
    work::{Hash256, Job, UpcomingJob, Work},
};

/// Numbers channels, groups and jobs of one connection, and knows what each group has.
#[derive(Debug, Default)]
pub(super) struct JobAnnouncer {
    groups: ChannelGroups,
    last_id: u32,
    /// The group of standard channels, which is never addressed.
    standard: Option<u32>,
    last_job: u32,
    /// The last prevhash and its time. No job on it may have an earlier one, whichever node's
    /// clock made it.
    prevhash: Option<(Hash256, u32)>,
    /// The miner displays the newest job, even a future one: so a future job is never sent last.
    shows_newest_job: bool,
}

impl JobAnnouncer {
    pub(super) fn set_shows_newest_job(&mut self, to: bool) {
        self.shows_newest_job = to;
    }

    /// A number for a channel or a group: they share one space. Never 0, and never near 2^32: a
    /// connection would have to open channels for years.
    pub(super) fn new_id(&mut self) -> u32 {
        new_id(&mut self.last_id)
    }

    /// Finds a group for a new channel.
    pub(super) fn enter(&mut self, channels: &mut [MiningChannel], at: usize, work: &Work) {
        let Some(channel) = channels.get_mut(at) else { return };
        let last_id = &mut self.last_id;
        channel.group = match channel.kind {
            ChannelKind::Standard => *self.standard.get_or_insert_with(|| new_id(last_id)),
            ChannelKind::Extended => {
                self.groups.join(channel.target_byte(work), || new_id(last_id))
            }
        };
    }

    /// Closes the channel `id`, or all channels of the group `id`.
    pub(super) fn leave(&mut self, channels: &mut Vec<MiningChannel>, id: u32) {
        channels.retain(|channel| {
            let leaves = channel.id == id || channel.group == id;
            if leaves && channel.kind == ChannelKind::Extended {
                self.groups.leave(channel.group);
            }
            !leaves
        });
    }

    /// The first job of a channel that was just opened.
    pub(super) fn send_first(
        &mut self,
        channels: &mut [MiningChannel],
        at: usize,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        self.send_one(channels, at, work, now, out);
        self.send_ahead_last(channels, work, out);
    }

    /// Sends the latest job to all that do not have it.
    pub(super) fn send(
        &mut self,
        channels: &mut [MiningChannel],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        self.begin_ahead(channels, work, now, out);
        let job = work.latest();
        let lacks =
            |channel: &MiningChannel| channel.given.last().is_none_or(|last| last.job != job.id);
        if !channels.iter().any(lacks) {
            return;
        }
        self.groups.settle(channels, work, lacks, || new_id(&mut self.last_id), out);
        for channel in channels.iter_mut().filter(|channel| lacks(channel)) {
            append_target(channel, out);
        }
        if channels.iter().filter(|channel| lacks(channel)).all(|channel| channel.is_on(work)) {
            // Sent before a job on the same tip: some miners restart the running job at any
            // message.
            self.send_ahead(channels, work, out);
        }
        for at in 0..self.groups.all.len() {
            self.send_group(channels, at, work, now, out);
        }
        for at in 0..channels.len() {
            if lacks(&channels[at]) {
                self.send_one(channels, at, work, now, out);
            }
        }
        // Sent after one on a new tip, which made peers forget all future jobs.
        self.send_ahead_last(channels, work, out);
    }

    /// Puts a changed difficulty into effect at once, if that can be done without the miner
    /// repeating work. False if nothing was sent.
    pub(super) fn renew(
        &mut self,
        channels: &mut [MiningChannel],
        at: usize,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(channel) = channels.get_mut(at) else { return false };
        let same = channel.told == Some(channel.vardiff.difficulty());
        if same || channel.terms(work.latest(), work).is_none() {
            return false;
        }
        self.set_target(channels, at, work, out);
        self.send_ahead(channels, work, out);
        self.send_one(channels, at, work, now, out);
        self.send_ahead_last(channels, work, out);
        true
    }

    /// Sends the difficulty of the next job.
    pub(super) fn set_target(
        &mut self,
        channels: &mut [MiningChannel],
        at: usize,
        work: &Work,
        out: &mut Vec<u8>,
    ) {
        let Some(id) = channels.get(at).map(|channel| channel.id) else { return };
        let is_it = |channel: &MiningChannel| channel.id == id;
        self.groups.settle(channels, work, is_it, || new_id(&mut self.last_id), out);
        if let Some(channel) = channels.get_mut(at) {
            append_target(channel, out);
        }
    }

    /// Activates the jobs that were sent ahead, where the latest is one of them.
    fn begin_ahead(
        &mut self,
        channels: &mut [MiningChannel],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let job = work.latest();
        let fits = |channel: &MiningChannel, ahead: FutureJob| {
            let told = channel.told_byte(work);
            ahead.job == job.id && told == Some(ahead.target_byte) && channel.told_is_good()
        };
        for at in 0..self.groups.all.len() {
            let Some(group) = self.groups.all.get_mut(at) else { break };
            let id = group.id;
            let Some(ahead) = group.ahead else { continue };
            // A member that joined later and has a screen was not sent it: then it is activated one
            // by one for those that have it.
            let begins = |channel: &MiningChannel| {
                let own = channel.ahead.map(|own| own.wire.id);
                own == Some(ahead.wire.id) && fits(channel, ahead)
            };
            if !channels.iter().all(|channel| channel.group != id || begins(channel)) {
                continue;
            }
            group.ahead = None;
            self.append_prevhash(job, id, ahead.wire.id, out);
            let members = channels.iter_mut().filter(|channel| channel.group == id);
            members.for_each(|channel| channel.begin(ahead, now));
        }
        for channel in channels {
            if let Some(ahead) = channel.ahead.filter(|ahead| fits(channel, *ahead)) {
                self.append_prevhash(job, channel.id, ahead.wire.id, out);
                channel.begin(ahead, now);
            }
        }
    }

    /// Sends the latest job to a group, if nobody in it has it yet.
    fn send_group(
        &mut self,
        channels: &mut [MiningChannel],
        at: usize,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let Some(group) = self.groups.all.get_mut(at).filter(|group| group.is_shared()) else {
            return;
        };
        let (id, job) = (group.id, work.latest());
        let mut terms: Option<Assignment> = None;
        let mut on_tip: Option<bool> = None;
        for channel in channels.iter().filter(|channel| channel.group == id) {
            // If one already has the job, or has not been moved to the group of its difficulty yet,
            // the others get the job one by one.
            let is_fit = |own: &Assignment| !own.quickdiff && own.target_byte == group.target_byte;
            let lacks = channel.given.last().is_none_or(|last| last.job != job.id);
            let Some(own) = channel.terms(job, work).filter(is_fit).filter(|_| lacks) else {
                return;
            };
            if on_tip.is_some_and(|on_tip| on_tip != channel.is_on(work)) {
                return;
            }
            on_tip = Some(channel.is_on(work));
            terms = Some(own);
        }
        let Some(terms) = terms else { return };
        let is_new_tip = on_tip == Some(false);
        if is_new_tip {
            group.ahead = None;
        }
        let wire = SentJob { id: next(&mut self.last_job), root: None };
        let min_ntime = self.min_ntime(job, is_new_tip);
        jobs::append_extended(
            job,
            &terms,
            JobLabel { channel_id: id, job_id: wire.id, min_ntime },
            out,
        );
        if is_new_tip {
            self.append_prevhash(job, id, wire.id, out);
        }
        for channel in channels.iter_mut().filter(|channel| channel.group == id) {
            if is_new_tip {
                channel.ahead = None;
            }
            if let Some(own) = channel.terms(job, work) {
                channel.give(job.id, own, wire, now);
            }
        }
    }

    /// Sends the latest job to one channel.
    fn send_one(
        &mut self,
        channels: &mut [MiningChannel],
        at: usize,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let Some(channel) = channels.get_mut(at) else { return };
        let job = work.latest();
        let Some(terms) = channel.terms(job, work) else { return };
        let is_new_tip = !channel.is_on(work);
        let wire = SentJob { id: next(&mut self.last_job), root: root_for(channel, job, &terms) };
        let min_ntime = self.min_ntime(job, is_new_tip);
        let label = JobLabel { channel_id: channel.id, job_id: wire.id, min_ntime };
        match &wire.root {
            Some(root) => jobs::append_standard(job.version, root, label, out),
            None => jobs::append_extended(job, &terms, label, out),
        }
        if is_new_tip {
            self.append_prevhash(job, channel.id, wire.id, out);
            channel.ahead = None;
        }
        channel.give(job.id, terms, wire, now);
    }

    /// Sends the next tip's job after the latest one; a miner with a screen gets it before its next
    /// one.
    fn send_ahead_last(&mut self, channels: &mut [MiningChannel], work: &Work, out: &mut Vec<u8>) {
        if !self.shows_newest_job {
            self.send_ahead(channels, work, out);
        }
    }

    /// Sends the next tip's subsidy-only job to everybody who does not have it. Not while such a
    /// job is being worked on: nothing is sent before the full one.
    fn send_ahead(&mut self, channels: &mut [MiningChannel], work: &Work, out: &mut Vec<u8>) {
        let Some(upcoming) = work.upcoming.as_deref() else { return };
        if work.latest().is_empty() {
            return;
        }
        // A miner alone on its connection may have room for few jobs.
        let room = if channels.len() == 1 { AHEAD_JOBS_MAX } else { u32::MAX };
        let last_job = &mut self.last_job;
        for group in self.groups.all.iter_mut().filter(|group| group.is_shared()) {
            let byte = group.target_byte;
            if !is_fresh(group.ahead, upcoming, byte, *last_job, room) {
                let wire = SentJob { id: next(last_job), root: None };
                append_ahead(upcoming, group.id, byte, wire, out);
                let ahead = FutureJob { job: upcoming.id, target_byte: byte, wire };
                group.ahead = Some(ahead);
                let members = channels.iter_mut().filter(|channel| channel.group == group.id);
                members.for_each(|channel| channel.ahead = Some(ahead));
            }
        }
        for channel in channels.iter_mut() {
            let Some(byte) = channel.told_byte(work) else { continue };
            let group = self.groups.all.iter().find(|group| group.id == channel.group);
            let shared = group.filter(|group| group.is_shared()).and_then(|group| group.ahead);
            // One that joined later has what its group has, or has forgotten it.
            let known = channel.ahead.map(|ahead| ahead.wire.id);
            let is_there = match shared {
                Some(shared) => known == Some(shared.wire.id),
                None => is_fresh(channel.ahead, upcoming, byte, *last_job, room),
            };
            if is_there || channel.given.last().is_none() {
                continue;
            }
            let root = (channel.kind == ChannelKind::Standard)
                .then(|| jobs::upcoming_root(upcoming, byte, &channel.extranonce));
            let id = shared.map_or_else(|| next(last_job), |shared| shared.wire.id);
            let wire = SentJob { id, root };
            append_ahead(upcoming, channel.id, byte, wire, out);
            channel.ahead = Some(FutureJob { job: upcoming.id, target_byte: byte, wire });
        }
    }

    /// A job's own time, or none for one that waits for its prevhash.
    fn min_ntime(&self, job: &Job, is_new_tip: bool) -> Option<u32> {
        (!is_new_tip).then(|| self.ntime(job))
    }

    fn ntime(&self, job: &Job) -> u32 {
        let same = self.prevhash.filter(|(prevhash, _)| prevhash == job.prevhash());
        same.map_or(0, |(_, ntime)| ntime).max(jobs::ntime(job))
    }

    fn append_prevhash(&mut self, job: &Job, channel_id: u32, job_id: u32, out: &mut Vec<u8>) {
        let min_ntime = self.ntime(job);
        self.prevhash = Some((*job.prevhash(), min_ntime));
        jobs::append_prevhash(job, min_ntime, channel_id, job_id, out);
    }
}

/// True when a peer has `upcoming` for its difficulty, and still has it in memory.
fn is_fresh(
    ahead: Option<FutureJob>,
    upcoming: &UpcomingJob,
    target_byte: u8,
    last_job: u32,
    room: u32,
) -> bool {
    ahead.is_some_and(|ahead| {
        ahead.job == upcoming.id
            && ahead.target_byte == target_byte
            && last_job.wrapping_sub(ahead.wire.id) < room
    })
}

fn append_ahead(
    upcoming: &UpcomingJob,
    channel_id: u32,
    byte: u8,
    wire: SentJob,
    out: &mut Vec<u8>,
) {
    let label = JobLabel { channel_id, job_id: wire.id, min_ntime: None };
    match &wire.root {
        Some(root) => jobs::append_standard(upcoming.version, root, label, out),
        None => jobs::append_upcoming(upcoming, byte, label, out),
    }
}

/// Sends the channel's difficulty, if it was last sent a different one.
fn append_target(channel: &mut MiningChannel, out: &mut Vec<u8>) {
    let difficulty = channel.vardiff.difficulty();
    if channel.told != Some(difficulty) {
        let maximum_target = crate::work::Target::from_difficulty(difficulty).told();
        SetTarget { channel_id: channel.id, maximum_target }.append(out);
        channel.tell(difficulty);
    }
}

fn next(last: &mut u32) -> u32 {
    *last = last.wrapping_add(1);
    *last
}

fn new_id(last: &mut u32) -> u32 {
    next(last)
}

/// ESP-Miner keeps eight jobs, by their id modulo 8: a job to be activated must be among the last.
const AHEAD_JOBS_MAX: u32 = 4;
