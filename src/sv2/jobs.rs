//! Jobs as frames. What is the same for all miners is encoded once; the rest is patched in.

use bytes::Bytes;

use super::codec::{
    Bytes64K, Message, NewExtendedMiningJob, NewMiningJob, Seq255, SetNewPrevHash, frame,
};
use crate::{
    validate::Assignment,
    work::{Coinbase, Hash256, Job, RenderKind, UpcomingJob, Variant, merkle},
};

/// Where a job goes, and under which id.
#[derive(Clone, Copy, Debug)]
pub(super) struct JobLabel {
    /// A channel's or a group's.
    pub(super) channel_id: u32,
    pub(super) job_id: u32,
    /// None for a future job.
    pub(super) min_ntime: Option<u32>,
}

/// The time that a miner may start with.
pub(super) fn ntime(job: &Job) -> u32 {
    job.template.curtime.max(job.template.mintime)
}

/// Appends `job` for extended channels.
pub(super) fn append_extended(
    job: &Job,
    assignment: &Assignment,
    label: JobLabel,
    out: &mut Vec<u8>,
) {
    let coinbase = job.coinbase(assignment.class);
    let quickdiff = assignment.quickdiff;
    let kind = RenderKind::Extended { quickdiff };
    let render = || render(job.version, job.branches(), coinbase, quickdiff);
    let body = job.rendered(coinbase.id, kind, render);
    let at = target_byte_at(job.branches().len(), coinbase);
    append_body(body, at, assignment.target_byte, label, out);
}

/// Appends the subsidy-only job of the next tip for extended channels.
pub(super) fn append_upcoming(
    upcoming: &UpcomingJob,
    target_byte: u8,
    label: JobLabel,
    out: &mut Vec<u8>,
) {
    let UpcomingJob { version, coinbase, .. } = upcoming;
    let body = upcoming.rendered(|| render(*version, &[], coinbase, false));
    append_body(body, target_byte_at(0, coinbase), target_byte, label, out);
}

/// Appends a job for one standard channel.
pub(super) fn append_standard(version: u32, root: &Hash256, label: JobLabel, out: &mut Vec<u8>) {
    let JobLabel { channel_id, job_id, min_ntime } = label;
    NewMiningJob { channel_id, job_id, min_ntime, version, merkle_root: *root }.append(out);
}

/// Appends the message that activates a future job.
pub(super) fn append_prevhash(
    job: &Job,
    min_ntime: u32,
    channel_id: u32,
    job_id: u32,
    out: &mut Vec<u8>,
) {
    SetNewPrevHash {
        channel_id,
        job_id,
        prev_hash: *job.prevhash(),
        min_ntime,
        nbits: job.template.nbits.get(),
    }
    .append(out);
}

/// The merkle root of a channel that cannot change its extranonce.
pub(super) fn root(job: &Job, assignment: &Assignment, extranonce: &[u8; 12]) -> Hash256 {
    let coinbase = job.coinbase(assignment.class);
    let mut bytes = Vec::with_capacity(coinbase.len());
    let txid = coinbase.txid(assignment.variant(), extranonce, &mut bytes);
    merkle::root(txid, job.branches())
}

/// The same for the next tip's subsidy-only job: its coinbase is the only transaction.
pub(super) fn upcoming_root(
    upcoming: &UpcomingJob,
    target_byte: u8,
    extranonce: &[u8; 12],
) -> Hash256 {
    let variant = Variant { target_byte, quickdiff: false };
    upcoming.coinbase.txid(variant, extranonce, &mut Vec::with_capacity(512))
}

/// An extended job from its version on.
fn render(version: u32, branches: &[Hash256], coinbase: &Coinbase, quickdiff: bool) -> Bytes {
    let mut prefix = Vec::with_capacity(coinbase.coinb1.len());
    coinbase.write_coinb1(0, quickdiff, &mut prefix);
    let message = NewExtendedMiningJob {
        channel_id: 0,
        job_id: 0,
        min_ntime: None,
        version,
        version_rolling_allowed: true,
        // A template of 2^255 transactions, or a coinbase of 64 KiB, would not fit a block.
        merkle_path: Seq255::new(branches).unwrap_or_default(),
        coinbase_tx_prefix: Bytes64K::new(&prefix).unwrap_or_default(),
        coinbase_tx_suffix: Bytes64K::new(&coinbase.coinb2).unwrap_or_default(),
    };
    let mut payload = Vec::with_capacity(64 + 32 * branches.len() + coinbase.len());
    message.encode(&mut payload);
    Bytes::from(payload).split_off(BODY_AT)
}

/// Where the target byte is in the output of `render`: after version, flag, path and the prefix's
/// length.
fn target_byte_at(branches: usize, coinbase: &Coinbase) -> usize {
    4 + 1 + (1 + 32 * branches) + 2 + coinbase.target_byte_index
}

fn append_body(body: &[u8], at: usize, target_byte: u8, label: JobLabel, out: &mut Vec<u8>) {
    type M = NewExtendedMiningJob<'static>;
    let JobLabel { channel_id, job_id, min_ntime } = label;
    frame::append(<M as Message>::EXTENSION, true, <M as Message>::TYPE, out, |out| {
        out.extend_from_slice(&channel_id.to_le_bytes());
        out.extend_from_slice(&job_id.to_le_bytes());
        out.push(min_ntime.is_some().into());
        if let Some(ntime) = min_ntime {
            out.extend_from_slice(&ntime.to_le_bytes());
        }
        let start = out.len();
        out.extend_from_slice(body);
        if let Some(place) = out.get_mut(start + at) {
            *place = target_byte;
        }
    });
}

/// Channel id, job id and a future job's empty option precede the shared part.
const BODY_AT: usize = 4 + 4 + 1;
