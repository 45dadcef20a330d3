//! Checks a share: first, once, the contexts of its slot, then the share itself. Pure.

use std::sync::Arc;

use bitcoin::{Transaction, consensus::encode::deserialize, script::Instruction};

use super::{
    ledger::PoolTime,
    options::{PoolConfig, TAG_MAX},
};
use crate::{
    datum::message::{CoinbaseContext, JobContext, ShareFlags, ShareMessage, ShareReason},
    work::{CoinbaseClass, Difficulty, Hash256, Nbits, PayoutOutput, Target},
};

/// What a connection knows about one job slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) job: JobContext<'static>,
    /// None if the job itself is impossible.
    nbits: Option<Nbits>,
    verdict: Result<(), ShareReason>,
    /// The split that the job claims to pay.
    splits: Arc<[PayoutOutput]>,
    /// The first share's version, without rolled bits.
    version: Option<u32>,
    /// Whether it was decided if the template will be checked.
    pub(super) considered: bool,
    coinbases: [Option<Parts>; COINBASES],
}

/// One coinbase of a job, and the verdict on it when it arrived.
#[derive(Debug)]
pub(super) struct Parts {
    id: u8,
    coinb1: Box<[u8]>,
    coinb2: Box<[u8]>,
    pub(super) verdict: Result<Paid, ShareReason>,
    /// The prime id in the coinbase, if it can be read.
    pub(super) prime_id: Option<u32>,
}

/// What a coinbase pays.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Paid {
    pub(super) outputs: usize,
    /// How many of the pool's splits are paid.
    pub(super) splits: usize,
}

impl Slot {
    /// `splits`: those of the job's coinbaser id, or why it has none.
    pub(super) fn new(
        job: &JobContext<'_>,
        splits: Result<Arc<[PayoutOutput]>, ShareReason>,
    ) -> Self {
        let nbits = Nbits::new(job.nbits);
        let verdict = match (nbits, &splits) {
            (None, _) => Err(ShareReason::BAD_TARGET),
            (_, Err(reason)) => Err(*reason),
            _ if job.branches.len() != branch_count(job.tx_count) => {
                Err(ShareReason::BAD_MERKLE_COUNT)
            }
            _ => Ok(()),
        };
        let job = JobContext { branches: job.branches.to_vec().into(), ..job.clone() };
        let splits = splits.unwrap_or_default();
        Self {
            job,
            nbits,
            verdict,
            splits,
            version: None,
            considered: false,
            coinbases: Default::default(),
        }
    }

    /// Remembers a coinbase of this job; `configs` are those that may have produced it, newest
    /// first.
    pub(super) fn add(&mut self, parts: &CoinbaseContext<'_>, configs: &[&PoolConfig]) {
        let Some(at) = coinbase_index(parts.coinbase_id) else {
            return;
        };
        let mut verdict = Err(ShareReason::BAD_COINBASE);
        for config in configs {
            verdict = check_coinbase(parts, &self.job, &self.splits, config);
            if verdict.is_ok() {
                break;
            }
        }
        self.coinbases[at] = Some(Parts {
            id: parts.coinbase_id,
            coinb1: parts.coinb1.into(),
            coinb2: parts.coinb2.into(),
            verdict,
            prime_id: prime_id(parts, &self.job),
        });
    }

    pub(super) fn coinbase(&self, id: u8) -> Option<&Parts> {
        self.coinbases.get(coinbase_index(id)?)?.as_ref()
    }

    pub(super) fn is_block(&self, hash: &Hash256) -> bool {
        self.nbits.is_some_and(|nbits| nbits.target().is_met_by(hash))
    }

    /// Everything about a share except staleness and repetition, which depend on more than the
    /// share.
    pub(super) fn check(
        &mut self,
        share: &ShareMessage<'_>,
        hash: &Hash256,
        now: PoolTime,
    ) -> Result<(), ShareReason> {
        self.verdict?;
        self.coinbase(share.coinbase_id).ok_or(ShareReason::COINBASE_MISSING)?.verdict?;
        let ntime = u64::from(share.ntime);
        if ntime.abs_diff(now.unix) > NTIME_SLACK {
            return Err(ShareReason::BAD_NTIME);
        }
        let version = share.version & !ROLLED;
        if version >> 29 != 1 || *self.version.get_or_insert(version) != version {
            return Err(ShareReason::BAD_VERSION);
        }
        // A username must be text, and must not fool the log's reader.
        let name = std::str::from_utf8(share.username);
        if name.is_err()
            || name.is_ok_and(|name| name.is_empty() || name.contains(char::is_control))
        {
            return Err(ShareReason::BAD_USERNAME);
        }
        if share.flags.has(ShareFlags::BLOCK) && !self.is_block(hash) {
            return Err(ShareReason::BAD_TARGET);
        }
        Ok(())
    }
}

impl Parts {
    pub(super) fn context(&self) -> CoinbaseContext<'_> {
        CoinbaseContext { coinbase_id: self.id, coinb1: &self.coinb1, coinb2: &self.coinb2 }
    }
}

/// Checks a share without its contexts.
pub(super) fn check_form(share: &ShareMessage<'_>) -> Result<(), ShareReason> {
    if usize::from(share.slot) >= SLOTS {
        return Err(ShareReason::BAD_JOB_ID);
    }
    if coinbase_index(share.coinbase_id).is_none() {
        return Err(ShareReason::BAD_COINBASE_ID);
    }
    let subsidy_only = share.flags.has(ShareFlags::SUBSIDY_ONLY);
    let other = share.coinbase.is_some_and(|parts| parts.coinbase_id != share.coinbase_id);
    if other || subsidy_only != (share.coinbase_id == CoinbaseClass::Empty.wire()) {
        return Err(ShareReason::COINBASE_ID_MISMATCH);
    }
    if share.extranonce.len() != EXTRANONCE_LEN {
        return Err(ShareReason::BAD_EXTRANONCE);
    }
    Ok(())
}

/// Checks the hash against what the target byte claims. Returns the credited difficulty.
pub(super) fn check_work(
    hash: &Hash256,
    target_byte: u8,
    config: &PoolConfig,
) -> Result<f64, ShareReason> {
    if !(config.target_byte_min()..=TARGET_BYTE_MAX).contains(&target_byte) {
        return Err(ShareReason::BAD_TARGET);
    }
    let difficulty = if target_byte == 0 && config.min_difficulty == 0 {
        let Some(floor) = config.share_floor else {
            return Ok(0.0);
        };
        floor
    } else {
        Difficulty::pow2(target_byte.into())
    };
    if Target::from_difficulty(difficulty).is_met_by(hash) {
        return Ok(difficulty.get());
    }
    let nonzero = difficulty >= Difficulty::ONE && hash.0[28..] != [0; 4];
    Err(if nonzero { ShareReason::HASH_NOT_ZERO } else { ShareReason::HIGH_HASH })
}

/// Checks everything about a coinbase that does not change from share to share.
fn check_coinbase(
    parts: &CoinbaseContext<'_>,
    job: &JobContext<'_>,
    splits: &[PayoutOutput],
    config: &PoolConfig,
) -> Result<Paid, ShareReason> {
    let len = parts.coinb1.len() + EXTRANONCE_LEN + parts.coinb2.len();
    let limit =
        CoinbaseClass::CLASSES.get(usize::from(parts.coinbase_id)).map_or(0, |id| id.limit());
    if len > if limit == 0 { CoinbaseClass::Huge.limit() } else { limit } {
        return Err(ShareReason::COINBASE_TOO_LARGE);
    }
    let target_byte_index = usize::from(job.target_byte_index);
    if parts.coinb1.get(target_byte_index) != Some(&TARGET_BYTE_BLANK) {
        return Err(ShareReason::TARGET_MISMATCH);
    }
    let bytes = [parts.coinb1, &[0; EXTRANONCE_LEN], parts.coinb2].concat();
    let coinbase: Transaction = deserialize(&bytes).map_err(|_| ShareReason::BAD_COINBASE)?;
    let [input] = coinbase.input.as_slice() else {
        return Err(ShareReason::BAD_COINBASE);
    };
    if !coinbase.is_coinbase() || !input.witness.is_empty() {
        return Err(ShareReason::BAD_COINBASE);
    }
    let script = input.script_sig.as_bytes();
    // Version, input count, null outpoint and a length of one byte come before the scriptSig.
    let blank_at = target_byte_index.checked_sub(4 + 1 + 36 + 1);
    check_script_sig(script, blank_at.ok_or(ShareReason::TARGET_MISMATCH)?, job.height, config)?;
    let subsidy_only = parts.coinbase_id == CoinbaseClass::Empty.wire();
    check_outputs(&coinbase, job.coinbase_value, splits, &config.script, subsidy_only)
}

/// The prime id in a coinbase of this job: the last part of the push that contains the target byte.
fn prime_id(parts: &CoinbaseContext<'_>, job: &JobContext<'_>) -> Option<u32> {
    let at = usize::from(job.target_byte_index);
    let push = parts.coinb1.get(at.checked_sub(1)?..at + UNIQUE_ID_LEN)?;
    let [_, _, _, _, id @ ..]: [u8; 1 + UNIQUE_ID_LEN] = push.try_into().ok()?;
    (usize::from(push[0]) == UNIQUE_ID_LEN).then(|| u32::from_le_bytes(id))
}

/// Height, tags, unique id with target byte and prime id, in this order.
fn check_script_sig(
    script: &[u8],
    blank_at: usize,
    height: u32,
    config: &PoolConfig,
) -> Result<(), ShareReason> {
    let prefix = bitcoin::script::Builder::new().push_int(height.into()).into_script();
    if !(2..=SCRIPT_SIG_MAX).contains(&script.len()) || !script.starts_with(prefix.as_bytes()) {
        return Err(ShareReason::BAD_COINBASE);
    }
    let rest = bitcoin::Script::from_bytes(&script[prefix.len()..]);
    let mut pushes = rest.instruction_indices().map(|found| match found {
        Ok((at, Instruction::PushBytes(bytes))) => Some((at, bytes.as_bytes())),
        _ => None,
    });
    let (_, tags) = pushes.next().flatten().ok_or(ShareReason::MISSING_TAG)?;
    let tag = &config.tag[..config.tag.len().min(TAG_MAX)];
    let after = tags.strip_prefix(tag).ok_or(ShareReason::MISSING_TAG)?;
    if !tag.is_empty() && !matches!(after.first(), Some(0 | 0x0F)) {
        return Err(ShareReason::MISSING_TAG);
    }
    let (at, id) = pushes.next().flatten().ok_or(ShareReason::MISSING_TAG)?;
    if id.len() != UNIQUE_ID_LEN || id[3..] != config.prime_id.to_le_bytes() {
        return Err(ShareReason::MISSING_TAG);
    }
    if blank_at != prefix.len() + at + 1 {
        return Err(ShareReason::TARGET_MISMATCH);
    }
    Ok(())
}

/// Checks that the coinbase pays the pool's splits in order, as far as it has them, and everything
/// else to the pool.
fn check_outputs(
    coinbase: &Transaction,
    value: u64,
    splits: &[PayoutOutput],
    pool_script: &[u8],
    subsidy_only: bool,
) -> Result<Paid, ShareReason> {
    let splits = if subsidy_only { &[] } else { splits };
    let mut paid = Paid { outputs: coinbase.output.len(), splits: 0 };
    let (mut later, mut sum) = (splits.iter(), 0u64);
    for output in &coinbase.output {
        let (sats, script) = (output.value.to_sat(), output.script_pubkey.as_bytes());
        sum = sum.checked_add(sats).ok_or(ShareReason::BAD_COINBASE)?;
        if sats == 0 && output.script_pubkey.is_op_return() {
            continue;
        }
        let before = later.clone();
        if later.any(|split| split.value == sats && *split.script == *script) {
            paid.splits += 1;
        } else if script == pool_script {
            later = before;
        } else {
            return Err(ShareReason::BAD_OUTPUTS);
        }
    }
    match sum.cmp(&value) {
        std::cmp::Ordering::Greater => Err(ShareReason::BAD_COINBASE),
        // Whatever a gateway leaves out is lost to everybody. Subsidy-only work has no fees to pay.
        std::cmp::Ordering::Less if !subsidy_only => Err(ShareReason::BAD_OUTPUTS),
        _ => Ok(paid),
    }
}

/// Length of the coinbase's merkle path in a block with this many other transactions.
fn branch_count(tx_count: u32) -> usize {
    (u64::from(tx_count) + 1).next_power_of_two().trailing_zeros() as usize
}

/// The index of the coinbase with this id.
fn coinbase_index(id: u8) -> Option<usize> {
    match id {
        0..=5 => Some(id.into()),
        0xFF => Some(COINBASES - 1),
        _ => None,
    }
}

/// Jobs that a pool remembers per connection.
pub(super) const SLOTS: usize = 8;
/// Six classes and the subsidy-only one.
const COINBASES: usize = 7;
const EXTRANONCE_LEN: usize = 12;
/// Consensus.
const SCRIPT_SIG_MAX: usize = 100;
/// Target byte, unique id (2) and prime id (4).
const UNIQUE_ID_LEN: usize = 7;
const TARGET_BYTE_BLANK: u8 = 0xFF;
/// 2^63 is the largest possible minimum difficulty.
const TARGET_BYTE_MAX: u8 = 63;
/// BIP 323's bits: what Stratum V2 lets miners roll.
const ROLLED: u32 = 0x1fff_ffe0;
/// Two hours, as nodes allow, plus a minute for differing clocks.
const NTIME_SLACK: u64 = 2 * 3600 + 60;
