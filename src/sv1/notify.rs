//! `mining.notify`, rendered once per job and coinbase, patched per miner.

use bytes::Bytes;

use super::hex::{hex_byte, parse_hex_u32, push_hex};
use crate::work::{Coinbase, CoinbaseClass, Job, JobId, RenderKind};

/// What distinguishes one rendering of a job from another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotifyVariant {
    pub class: CoinbaseClass,
    /// The variant that repeats no work of the plain one.
    pub quickdiff: bool,
    /// Older jobs are to be dropped.
    pub clean: bool,
}

/// Appends the notify line of `job` for a miner with `target_byte`.
pub fn write(job: &Job, rendering: NotifyVariant, target_byte: u8, out: &mut Vec<u8>) {
    let coinbase = job.coinbase(rendering.class);
    let NotifyVariant { quickdiff, clean, .. } = rendering;
    let kind = RenderKind::Notify { quickdiff, clean };
    let line = job.rendered(coinbase.id, kind, || render(job, coinbase, rendering));
    let at = out.len() + target_byte_at(job, coinbase, quickdiff);
    out.extend_from_slice(line);
    out[at..at + 2].copy_from_slice(&hex_byte(target_byte));
}

/// The same for a miner that has the job already: not clean, and `later_s` seconds later.
pub(super) fn write_later(
    job: &Job,
    rendering: NotifyVariant,
    target_byte: u8,
    later_s: u32,
    out: &mut Vec<u8>,
) {
    write(job, NotifyVariant { clean: false, ..rendering }, target_byte, out);
    let ntime = first_ntime(job).saturating_add(later_s).to_be_bytes();
    let end = out.len().saturating_sub(NOT_CLEAN.len());
    let digits = out.get_mut(end.saturating_sub(2 * ntime.len())..end).unwrap_or_default();
    for (two, byte) in digits.chunks_exact_mut(2).zip(ntime) {
        two.copy_from_slice(&hex_byte(byte));
    }
}

/// A job's id on the wire: `Q` for quickdiff work, otherwise `N` for subsidy-only work, like
/// datum_gateway's; then the id in hex.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WireJobId {
    pub(super) job: JobId,
    pub(super) quickdiff: bool,
}

impl WireJobId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let quickdiff = text.starts_with('Q');
        let hex = text.strip_prefix(['Q', 'N']).unwrap_or(text);
        Some(Self { job: JobId(parse_hex_u32(hex)?), quickdiff })
    }
}

fn render(job: &Job, coinbase: &Coinbase, rendering: NotifyVariant) -> Bytes {
    let template = &job.template;
    let branches: &[_] = if job.is_empty() { &[] } else { &template.merkle_branches };
    let mut line = Vec::with_capacity(512 + 2 * coinbase.len() + 67 * branches.len());
    line.extend_from_slice(HEAD);
    line.extend(prefix(job, rendering.quickdiff));
    line.extend_from_slice(job.id.to_string().as_bytes());
    line.extend_from_slice(SEPARATOR);
    // Every 32-bit word of the header's hash reversed, as in getwork.
    for word in job.prevhash().0.chunks_exact(4) {
        word.iter().rev().for_each(|byte| line.extend_from_slice(&hex_byte(*byte)));
    }
    line.extend_from_slice(SEPARATOR);
    let mut coinb1 = Vec::with_capacity(coinbase.coinb1.len());
    coinbase.write_coinb1(0, rendering.quickdiff, &mut coinb1);
    push_hex(&coinb1, &mut line);
    line.extend_from_slice(SEPARATOR);
    push_hex(&coinbase.coinb2, &mut line);
    line.extend_from_slice(b"\",[");
    for (at, branch) in branches.iter().enumerate() {
        line.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
        push_hex(&branch.0, &mut line);
        line.push(b'"');
    }
    line.extend_from_slice(b"],\"");
    let ntime = first_ntime(job);
    for (at, field) in [job.version, template.nbits.get(), ntime].into_iter().enumerate() {
        if at > 0 {
            line.extend_from_slice(SEPARATOR);
        }
        push_hex(&field.to_be_bytes(), &mut line);
    }
    line.extend_from_slice(if rendering.clean { CLEAN } else { NOT_CLEAN });
    line.into()
}

/// Where `write` finds the target byte's two digits.
fn target_byte_at(job: &Job, coinbase: &Coinbase, quickdiff: bool) -> usize {
    let id_digits = (job.id.0.max(1).ilog2() / 4 + 1) as usize;
    let prefix = usize::from(prefix(job, quickdiff).is_some());
    HEAD.len() + prefix + id_digits + 2 * SEPARATOR.len() + 64 + 2 * coinbase.target_byte_index
}

fn first_ntime(job: &Job) -> u32 {
    job.template.curtime.max(job.template.mintime)
}

fn prefix(job: &Job, quickdiff: bool) -> Option<u8> {
    if quickdiff { Some(b'Q') } else { job.is_empty().then_some(b'N') }
}

const HEAD: &[u8] = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"";
const SEPARATOR: &[u8] = b"\",\"";
const CLEAN: &[u8] = b"\",true]}\n";
const NOT_CLEAN: &[u8] = b"\",false]}\n";
