//! `getblocktemplate`: the node's answer, parsed in place, checked, and made into a [`Template`].
//!
//! Strings stay borrowed from the answer; raw transactions are decoded into one shared buffer.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bitcoin::Network;
use bytes::{Bytes, BytesMut};
use serde::Deserialize;

use super::{
    fork::BLAKE2B,
    header::{self, HEIGHT_MAX},
};
use crate::work::{
    BlockLimits, Hash256, Nbits, Template, TemplateKind, TemplateTx, VERSION_ROLLING_MASK, merkle,
};

/// The answer as the node wrote it; fields that are not needed are skipped.
#[derive(Debug, Deserialize)]
pub struct RawTemplate<'a> {
    version: i64,
    #[serde(borrow, default)]
    rules: Vec<Cow<'a, str>>,
    /// Version bits that a block must have.
    #[serde(default)]
    vbrequired: u32,
    /// What the node would like to have in the coinbase; no current node wants anything.
    #[serde(borrow, default)]
    coinbaseaux: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    previousblockhash: &'a str,
    #[serde(borrow)]
    transactions: Vec<RawTx<'a>>,
    coinbasevalue: u64,
    #[serde(borrow, default)]
    longpollid: Option<Cow<'a, str>>,
    mintime: u32,
    curtime: u32,
    bits: &'a str,
    height: u32,
    sigoplimit: Option<u32>,
    sizelimit: Option<u32>,
    weightlimit: Option<u32>,
    default_witness_commitment: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct RawTx<'a> {
    data: &'a str,
    txid: &'a str,
    hash: &'a str,
    #[serde(default)]
    depends: Vec<usize>,
    fee: u64,
    #[serde(default)]
    sigops: u32,
    weight: Option<u32>,
}

/// A template, and what else is known about it.
#[derive(Debug)]
pub struct Parsed {
    pub template: Template,
    /// To be sent with the next long poll.
    pub(crate) longpollid: Option<Box<str>>,
    /// Transactions left out because of [`Fit`].
    pub(crate) cut: usize,
    /// Names of what the node would like to have in the coinbase but does not get: BIP 22 leaves
    /// that to the miner, and a DATUM pool to nobody.
    pub(crate) unmet: Vec<Box<str>>,
}

/// Limits for a template, and what its node leaves to us.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fit {
    /// As many transactions as a pool accepts.
    pub(crate) transactions: usize,
    /// Bytes of all transactions together.
    pub(crate) size: usize,
    /// The node does not give the witness commitment, so it is computed.
    pub(crate) computes_commitment: bool,
}

impl Fit {
    /// What Bitcoin Core and Knots need.
    pub const POOL: Self =
        Self { transactions: TRANSACTIONS_MAX, size: usize::MAX, computes_commitment: false };
}

/// What is wrong with a node's template.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GbtError {
    #[error("a block must follow the rule {0:?}, which gatewayd does not know")]
    Rule(String),
    #[error("a block must have version bits that miners may change (vbrequired {0:#010x})")]
    VersionBits(u32),
    #[error("previousblockhash {0:?} is not a hash")]
    Prevhash(String),
    #[error("bits {0:?} is not a target")]
    Bits(String),
    #[error("height {0} is impossible")]
    Height(u32),
    #[error("transaction {at}: {field} is invalid")]
    Transaction { at: usize, field: &'static str },
    #[error("the transactions' total {0} is more than a block may have")]
    Total(&'static str),
    #[error("coinbasevalue {value} is less than the fees of {fees}, or more than is possible")]
    CoinbaseValue { value: u64, fees: u64 },
    #[error("there are segwit transactions or rules, but no valid default_witness_commitment")]
    WitnessCommitment,
    #[error(
        "coinbasevalue contains {subsidy} sats besides the fees, but block {height} may have only \
         {max}"
    )]
    Subsidy { subsidy: u64, height: u32, max: u64 },
    #[error(
        "its chain's time is {ahead_s} s ahead of this machine's clock, but blocks may be at most \
         {FUTURE_MAX} s ahead: one of the two clocks is wrong; check `date` on this machine"
    )]
    Future { ahead_s: u32 },
}

impl Parsed {
    /// Checks the template against the chain and the clock; true if this machine's time now
    /// replaces the node's in it.
    pub(crate) fn check(&mut self, network: Network, unix_now: u32) -> Result<bool, GbtError> {
        let template = &mut self.template;
        let (subsidy, height) = (template.subsidy(), template.height);
        let max = header::subsidy_max(height, network);
        if subsidy > max {
            return Err(GbtError::Subsidy { subsidy, height, max });
        }
        // A machine whose clock is not set yet proves nothing, and on regtest the clock may be
        // anything.
        if unix_now < CLOCK_MIN || network == Network::Regtest {
            return Ok(false);
        }
        if template.mintime > unix_now.saturating_add(CLOCKS_APART_MAX) {
            return Err(GbtError::Future { ahead_s: template.mintime - unix_now });
        }
        // A time that is only behind this clock is valid, and this clock may be the wrong one: if
        // we moved the time up to it, blocks could be too far in the future.
        let is_wrong =
            template.curtime < CLOCK_MIN || template.curtime > unix_now.saturating_add(FUTURE_MAX);
        if is_wrong {
            template.curtime = unix_now.max(template.mintime);
        }
        Ok(is_wrong)
    }
}

impl RawTemplate<'_> {
    /// The same without the rules that the operator allows us to ignore. One that changes the proof
    /// of work can never be ignored.
    pub(crate) fn allowing(mut self, allowed: &[Box<str>]) -> Self {
        let is_allowed = |rule: &str| rule != BLAKE2B && allowed.iter().any(|it| **it == *rule);
        self.rules.retain(|rule| !rule.strip_prefix('!').is_some_and(is_allowed));
        self
    }

    /// Checks the answer and turns it into a template of `source`.
    pub fn into_template(self, source: Arc<str>) -> Result<Parsed, GbtError> {
        self.into_template_that_fits(source, &Fit::POOL)
    }

    /// The same for a node with special limits.
    pub fn into_template_that_fits(
        mut self,
        source: Arc<str>,
        fit: &Fit,
    ) -> Result<Parsed, GbtError> {
        self.check_rules()?;
        let cut = self.cut(fit);
        let prevhash = Hash256::from_display_hex(self.previousblockhash)
            .ok_or_else(|| GbtError::Prevhash(excerpt(self.previousblockhash)))?;
        let nbits = Nbits::from_hex(self.bits).ok_or_else(|| GbtError::Bits(excerpt(self.bits)))?;
        if self.height == 0 || self.height > HEIGHT_MAX {
            return Err(GbtError::Height(self.height));
        }
        let transactions = self.transactions()?;
        let limits = BlockLimits {
            size: limit(self.sizelimit, BlockLimits::CONSENSUS.size),
            weight: limit(self.weightlimit, BlockLimits::CONSENSUS.weight),
            sigops: limit(self.sigoplimit, BlockLimits::CONSENSUS.sigops),
        };
        let totals = Totals::of(&transactions, &limits)?;
        let coinbase_value = self.coinbase_value(cut.fees, totals.fees)?;
        let witness_commitment = self.witness_commitment(&transactions, fit, cut.count > 0)?;
        let template = Template {
            source,
            kind: TemplateKind::Full,
            height: self.height,
            version: version(self.version) | self.vbrequired,
            prevhash,
            nbits,
            curtime: self.curtime.max(self.mintime),
            mintime: self.mintime,
            coinbase_value,
            fees: totals.fees,
            witness_commitment,
            merkle_branches: Template::branches(transactions.iter().map(|tx| tx.txid)),
            transactions,
            total_size: totals.size,
            total_weight: totals.weight,
            total_sigops: totals.sigops,
            limits,
        };
        let longpollid = self.longpollid.map(|id| Box::from(&*id));
        let wishes = self.coinbaseaux.iter().filter(|(_, data)| !data.is_empty());
        let unmet = wishes.map(|(name, _)| excerpt(name).into()).take(UNMET_MAX).collect();
        Ok(Parsed { template, longpollid, cut: cut.count, unmet })
    }

    /// A rule marked with `!` changes what a block must be (BIP 9): without knowing it, we would
    /// make blocks that the node refuses.
    fn check_rules(&self) -> Result<(), GbtError> {
        let forced = self.rules.iter().filter_map(|rule| rule.strip_prefix('!'));
        if let Some(unknown) = forced.into_iter().find(|rule| !RULES.contains(rule)) {
            return Err(GbtError::Rule(excerpt(unknown)));
        }
        if self.vbrequired & VERSION_ROLLING_MASK != 0 {
            return Err(GbtError::VersionBits(self.vbrequired));
        }
        Ok(())
    }

    /// Drops the last transactions until they fit. A transaction depends only on earlier ones
    /// (`transactions` checks that), so the rest stays valid.
    fn cut(&mut self, fit: &Fit) -> Cut {
        let sizes = self.transactions.iter().scan(0_usize, |size, tx| {
            *size = size.saturating_add(tx.data.len() / 2);
            Some(*size)
        });
        let kept = sizes.take(fit.transactions).take_while(|size| *size <= fit.size).count();
        let count = self.transactions.len() - kept;
        let fees = self.transactions.drain(kept..).map(|tx| tx.fee);
        Cut { count, fees: fees.fold(0, u64::saturating_add) }
    }

    fn coinbase_value(&self, fees_cut: u64, fees: u64) -> Result<u64, GbtError> {
        let wrong = GbtError::CoinbaseValue { value: self.coinbasevalue, fees };
        let value = self.coinbasevalue.checked_sub(fees_cut).ok_or_else(|| wrong.clone())?;
        if value < fees || value > SATS_MAX { Err(wrong) } else { Ok(value) }
    }

    fn transactions(&self) -> Result<Box<[TemplateTx]>, GbtError> {
        let raw = self.raw_transactions()?;
        let mut start = 0;
        let decoded = self.transactions.iter().enumerate().map(|(at, tx)| {
            let wrong = |field| GbtError::Transaction { at, field };
            if tx.depends.iter().any(|parent| *parent == 0 || *parent > at) {
                return Err(wrong("depends"));
            }
            let bytes = raw.slice(start..start + tx.data.len() / 2);
            start += bytes.len();
            let size = u32::try_from(bytes.len()).map_err(|_| wrong("data"))?;
            Ok(TemplateTx {
                txid: Hash256::from_display_hex(tx.txid).ok_or_else(|| wrong("txid"))?,
                wtxid: Hash256::from_display_hex(tx.hash).ok_or_else(|| wrong("hash"))?,
                raw: bytes,
                fee: tx.fee,
                weight: tx.weight.unwrap_or_else(|| size.saturating_mul(4)),
                sigops: tx.sigops,
            })
        });
        decoded.collect()
    }

    /// All raw transactions one after another.
    fn raw_transactions(&self) -> Result<Bytes, GbtError> {
        let length = self.transactions.iter().map(|tx| tx.data.len() / 2).sum();
        let mut raw = BytesMut::zeroed(length);
        let mut rest = &mut raw[..];
        for (at, tx) in self.transactions.iter().enumerate() {
            let (out, after) = rest.split_at_mut(tx.data.len() / 2);
            let is_good = !out.is_empty()
                && tx.data.len().is_multiple_of(2)
                && faster_hex::hex_decode(tx.data.as_bytes(), out).is_ok();
            if !is_good {
                return Err(GbtError::Transaction { at, field: "data" });
            }
            rest = after;
        }
        Ok(raw.freeze())
    }

    fn witness_commitment(
        &self,
        transactions: &[TemplateTx],
        fit: &Fit,
        is_cut: bool,
    ) -> Result<Option<Box<[u8]>>, GbtError> {
        let rules_segwit = self.rules.iter().any(|rule| rule.trim_start_matches('!') == "segwit");
        let has_witness = transactions.iter().any(|tx| tx.txid != tx.wtxid);
        let is_needed = rules_segwit || has_witness;
        let Some(hex) = self.default_witness_commitment else {
            return match (is_needed, fit.computes_commitment) {
                (true, true) => Ok(Some(commitment_to(transactions))),
                (true, false) => Err(GbtError::WitnessCommitment),
                (false, _) => Ok(None),
            };
        };
        if is_cut {
            return Ok(Some(commitment_to(transactions)));
        }
        let mut script = vec![0; hex.len() / 2].into_boxed_slice();
        let is_good = hex.len().is_multiple_of(2)
            && faster_hex::hex_decode(hex.as_bytes(), &mut script).is_ok()
            && script.starts_with(&COMMITMENT_HEAD)
            && (COMMITMENT_LEN..=COMMITMENT_LEN_MAX).contains(&script.len());
        if is_good { Ok(Some(script)) } else { Err(GbtError::WitnessCommitment) }
    }
}

/// How many transactions were left out.
struct Cut {
    count: usize,
    fees: u64,
}

/// Sums over transactions.
struct Totals {
    fees: u64,
    size: u32,
    weight: u32,
    sigops: u32,
}

impl Totals {
    fn of(transactions: &[TemplateTx], limits: &BlockLimits) -> Result<Self, GbtError> {
        let sum =
            |of: fn(&TemplateTx) -> u64| transactions.iter().map(of).fold(0, u64::saturating_add);
        let held = |name, sum: u64, limit: u32| {
            let sum = u32::try_from(sum).ok().filter(|sum| *sum <= limit);
            sum.ok_or(GbtError::Total(name))
        };
        let fees = sum(|tx| tx.fee);
        if fees > SATS_MAX {
            return Err(GbtError::Total("fee"));
        }
        Ok(Self {
            fees,
            size: held("size", sum(|tx| tx.raw.len() as u64), limits.size)?,
            weight: held("weight", sum(|tx| tx.weight.into()), limits.weight)?,
            sigops: held("sigops", sum(|tx| tx.sigops.into()), limits.sigops)?,
        })
    }
}

/// BIP 141's output for these transactions and a coinbase whose witness is 32 zero bytes.
fn commitment_to(transactions: &[TemplateTx]) -> Box<[u8]> {
    // The coinbase's own wtxid counts as zero.
    let branches = merkle::branches(transactions.iter().map(|tx| tx.wtxid));
    let root = merkle::root(Hash256::ZERO, &branches);
    let commitment = Hash256::sha256d_parts(&[&root.0, &[0; 32]]);
    [&COMMITMENT_HEAD[..], &commitment.0].concat().into()
}

/// The node's limit, if that is not more than a block may have.
fn limit(said: Option<u32>, consensus: u32) -> u32 {
    said.unwrap_or(consensus).min(consensus)
}

/// The header's version from the node's signed number.
fn version(version: i64) -> u32 {
    // Nodes print an i32 with the same bits as in the header.
    let [a, b, c, d, ..] = version.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// How much of a hostile string goes into an error.
fn excerpt(text: &str) -> String {
    text.chars().take(EXCERPT_LEN).collect()
}

/// The rules that we follow.
const RULES: [&str; 4] = ["csv", "segwit", "taproot", "signet"];
/// How many names of such wishes go into a log line.
const UNMET_MAX: usize = 4;
/// With the coinbase 2^14: a tree of 14 levels, the most that a DATUM pool accepts.
pub const TRANSACTIONS_MAX: usize = 16_383;
/// All the bitcoins there can be.
const SATS_MAX: u64 = 21_000_000 * 100_000_000;
/// OP_RETURN, a push of 36 bytes, and BIP 141's marker.
const COMMITMENT_HEAD: [u8; 6] = [0x6A, 0x24, 0xAA, 0x21, 0xA9, 0xED];
const COMMITMENT_LEN: usize = 38;
/// Signet's solution may follow; a script of this length still fits easily into a coinbase.
const COMMITMENT_LEN_MAX: usize = 600;
const EXCERPT_LEN: usize = 80;
/// By consensus a block's time is at most this far ahead, in seconds.
const FUTURE_MAX: u32 = 2 * 3600;
/// How far a chain may be ahead of this machine's clock: a clock set to local time, or one that is
/// some hours off, must not stop mining.
const CLOCKS_APART_MAX: u32 = 86_400;
/// 2025: an earlier clock has not been set.
const CLOCK_MIN: u32 = 1_735_689_600;

#[cfg(test)]
#[path = "gbt_tests.rs"]
mod tests;
