//! Coinbase transactions, cut in two around the extranonce.
//!
//! scriptSig = BIP34 height, tags, unique id with the target byte, extranonce push. Outputs = the
//! pool's splits that fit, the rest to the payout script, the witness commitment.

use bitcoin::Script;

use super::{CoinbaseClass, Hash256, Payout, PayoutOutput, Template};

/// One coinbase of a job: `coinb1 ‖ extranonce (12 bytes) ‖ coinb2`, without witness.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coinbase {
    pub id: CoinbaseClass,
    /// Holds 0xFF at `target_byte_index`.
    pub coinb1: Box<[u8]>,
    pub(crate) coinb2: Box<[u8]>,
    /// Where the target byte goes in `coinb1`.
    pub(crate) target_byte_index: usize,
}

impl Coinbase {
    /// Builds the coinbase of class `id`, or the subsidy-only one for `CoinbaseClass::Empty`.
    pub(crate) fn build(
        id: CoinbaseClass,
        template: &Template,
        payout: &Payout,
        extranonce_prefix: u16,
    ) -> Self {
        Layout::new(id, template, payout, extranonce_prefix).build()
    }

    /// The last two bytes of coinb1 for quickdiff work, which must not repeat plain work.
    pub(crate) fn quickdiff_tail(&self) -> [u8; 2] {
        quickdiff_tail(&self.coinb1)
    }

    /// Appends coinb1 as a miner with this target byte has it.
    pub(crate) fn write_coinb1(&self, target_byte: u8, quickdiff: bool, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.coinb1);
        out[start + self.target_byte_index] = target_byte;
        if quickdiff {
            let end = out.len();
            out[end - 2..].copy_from_slice(&self.quickdiff_tail());
        }
    }

    /// Appends the whole transaction as hashed for the merkle root.
    pub fn write(&self, variant: Variant, extranonce: &[u8; 12], out: &mut Vec<u8>) {
        self.write_coinb1(variant.target_byte, variant.quickdiff, out);
        out.extend_from_slice(extranonce);
        out.extend_from_slice(&self.coinb2);
    }

    /// Length of the whole transaction, without witness.
    #[expect(clippy::len_without_is_empty, reason = "a coinbase is never empty")]
    pub fn len(&self) -> usize {
        self.coinb1.len() + EXTRANONCE_LEN + self.coinb2.len()
    }

    /// The txid, hashed in `scratch`, whose old content is lost.
    pub(crate) fn txid(
        &self,
        variant: Variant,
        extranonce: &[u8; 12],
        scratch: &mut Vec<u8>,
    ) -> Hash256 {
        scratch.clear();
        self.write(variant, extranonce, scratch);
        Hash256::sha256d(scratch)
    }
}

/// As [`Coinbase::quickdiff_tail`], for any coinb1.
pub(crate) fn quickdiff_tail(coinb1: &[u8]) -> [u8; 2] {
    if coinb1.ends_with(&QUICKDIFF_TAIL) { QUICKDIFF_TAIL_OTHER } else { QUICKDIFF_TAIL }
}

/// What differs between miners of one class in the same job.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Variant {
    pub target_byte: u8,
    pub quickdiff: bool,
}

/// A coinbase under construction.
struct Layout<'a> {
    id: CoinbaseClass,
    template: &'a Template,
    payout: &'a Payout,
    extranonce_prefix: u16,
    script_sig: Vec<u8>,
    target_byte_at: usize,
    extranonce_in_output: bool,
}

impl<'a> Layout<'a> {
    fn new(
        id: CoinbaseClass,
        template: &'a Template,
        payout: &'a Payout,
        extranonce_prefix: u16,
    ) -> Self {
        let mut script_sig = Vec::with_capacity(SCRIPT_SIG_MAX);
        push_height(template.height, &mut script_sig);
        let unique_id_len = if payout.pooled.is_some() { 8 } else { 4 };
        let room = SCRIPT_SIG_MAX - script_sig.len() - unique_id_len - EXTRANONCE_PUSH_LEN;
        push_tags(&payout.tag_primary, &payout.tag_secondary, room, &mut script_sig);
        let target_byte_at = script_sig.len() + 1;
        push_unique_id(payout, &mut script_sig);
        let extranonce_in_output =
            id == CoinbaseClass::Default || script_sig.len() + EXTRANONCE_PUSH_LEN > SCRIPT_SIG_MAX;
        Self {
            id,
            template,
            payout,
            extranonce_prefix,
            script_sig,
            target_byte_at,
            extranonce_in_output,
        }
    }

    fn build(self) -> Coinbase {
        let splits = self.splits();
        let rest = self.value() - splits.iter().map(|split| split.value).sum::<u64>();
        // Where there is no subsidy left, an output of zero: a transaction must have at least one
        // output.
        let has_rest = rest > 0 || splits.is_empty();
        let mut coinb1 = self.head();
        let target_byte_index = coinb1.len() - self.script_sig.len() + self.target_byte_at;
        let count = splits.len()
            + usize::from(has_rest)
            + usize::from(self.commitment().is_some())
            + usize::from(self.extranonce_in_output);
        let mut coinb2 = Vec::new();
        let mut later = splits.iter();
        if self.extranonce_in_output {
            coinb1.extend_from_slice(&SEQUENCE);
            push_varint(count, &mut coinb1);
            if self.id == CoinbaseClass::Default {
                while let Some(split) = later.as_slice().first() {
                    if coinb1.len() + output_len(&split.script) > LONG_COINB1_LEN {
                        break;
                    }
                    push_output(split.value, &split.script, &mut coinb1);
                    later.next();
                }
            }
            // Value 0, then a script of 16 bytes: OP_RETURN and a push of 14.
            coinb1.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x6a]);
        } else {
            coinb2.extend_from_slice(&SEQUENCE);
            push_varint(count, &mut coinb2);
        }
        coinb1.push(EXTRANONCE_PUSH);
        coinb1.extend_from_slice(&self.extranonce_prefix.to_be_bytes());
        later.for_each(|split| push_output(split.value, &split.script, &mut coinb2));
        if has_rest {
            push_output(rest, &self.payout.script, &mut coinb2);
        }
        if let Some(script) = self.commitment() {
            push_output(0, script, &mut coinb2);
        }
        coinb2.extend_from_slice(&[0; 4]); // Lock time.
        Coinbase { id: self.id, coinb1: coinb1.into(), coinb2: coinb2.into(), target_byte_index }
    }

    /// Version, the one input, and its scriptSig up to the extranonce push.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(256);
        head.extend_from_slice(&1u32.to_le_bytes());
        head.push(1);
        head.extend_from_slice(&[0; 32]);
        head.extend_from_slice(&[0xFF; 4]);
        let extra = if self.extranonce_in_output { 0 } else { EXTRANONCE_PUSH_LEN };
        push_varint(self.script_sig.len() + extra, &mut head);
        head.extend_from_slice(&self.script_sig);
        head
    }

    fn value(&self) -> u64 {
        if self.id == CoinbaseClass::Empty {
            self.template.subsidy()
        } else {
            self.template.coinbase_value
        }
    }

    fn commitment(&self) -> Option<&'a [u8]> {
        let wanted = self.id != CoinbaseClass::Empty;
        self.template.witness_commitment.as_deref().filter(|_| wanted)
    }

    /// The pool's outputs that fit the class, the block and the value, in the pool's order.
    fn splits(&self) -> Vec<&'a PayoutOutput> {
        let wanted = !matches!(self.id, CoinbaseClass::Empty | CoinbaseClass::Tiny);
        let Some(coinbaser) = self.payout.split(self.template).filter(|_| wanted) else {
            return Vec::new();
        };
        let mut room = self.room();
        let mut sigops = self
            .template
            .limits
            .sigops
            .saturating_sub(self.template.total_sigops + sigop_cost(&self.payout.script));
        let mut value = self.value();
        let mut fits = |output: &PayoutOutput| {
            let (len, cost) = (output_len(&output.script), sigop_cost(&output.script));
            let fits = len <= room && cost <= sigops && output.value <= value;
            if fits {
                room -= len;
                sigops -= cost;
                value -= output.value;
            }
            fits
        };
        // The operator's own split gets room first; the order stays the pool's.
        let own = |output: &PayoutOutput| self.payout.own_script.as_ref() == Some(&output.script);
        let mut taken = vec![false; coinbaser.outputs.len()];
        for wanted in [true, false] {
            for (output, taken) in coinbaser.outputs.iter().zip(&mut taken) {
                *taken |= own(output) == wanted && fits(output);
            }
        }
        let taken = coinbaser.outputs.iter().zip(taken).filter(|(_, taken)| *taken);
        taken.map(|(output, _)| output).collect()
    }

    /// Bytes left for splits.
    fn room(&self) -> usize {
        let commitment = self.commitment().map_or(0, output_len);
        let extranonce = if self.extranonce_in_output { 9 + 16 } else { 0 };
        let fixed = 4 + 1 + 36 + 1 + self.script_sig.len()
            + if self.extranonce_in_output { 0 } else { EXTRANONCE_PUSH_LEN }
            + SEQUENCE.len()
            + 3 // The longest output count possible.
            + extranonce
            + output_len(&self.payout.script)
            + commitment
            + 4;
        let limits = &self.template.limits;
        let by_size = (limits.size as usize)
            .saturating_sub(self.template.total_size as usize + BLOCK_HEAD_LEN + WITNESS_LEN);
        let by_weight = (limits.weight as usize)
            .saturating_sub(self.template.total_weight as usize + 4 * BLOCK_HEAD_LEN + WITNESS_LEN)
            / 4;
        self.id.limit().min(by_size).min(by_weight).saturating_sub(fixed)
    }
}

/// BIP34, as nodes check it: 1 to 16 are OP_N, others a minimal push of a little-endian number.
fn push_height(height: u32, out: &mut Vec<u8>) {
    match height {
        0 => out.push(0),
        1..=16 => out.push(0x50 + height.to_le_bytes()[0]),
        _ => {
            let bytes = height.to_le_bytes();
            // One bit more than the number needs: the highest is the sign.
            let len = (33 - height.leading_zeros()).div_ceil(8) as usize;
            out.push(len.to_le_bytes()[0]);
            out.extend_from_slice(&bytes[..len.min(4)]);
            out.extend(std::iter::repeat_n(0, len.saturating_sub(4)));
        }
    }
}

/// One push: primary 0F secondary 00; the secondary is cut, then dropped, to fit `room`. Where that
/// is not enough, the extranonce will not be in the scriptSig, and there is room for more of both.
fn push_tags(primary: &[u8], secondary: &[u8], room: usize, out: &mut Vec<u8>) {
    let primary = &primary[..primary.len().min(TAGS_MAX - 1)];
    let separators = if primary.is_empty() && secondary.is_empty() { 1 } else { 2 };
    // A push's length takes one byte, and above 75 a second one.
    let most = if room > 77 { room - 2 } else { room.saturating_sub(1).min(75) };
    let most = if primary.len() < most { most } else { TAGS_MAX };
    let room = most.saturating_sub(primary.len() + separators);
    let secondary = &secondary[..secondary.len().min(room)];
    let mut tags = primary.to_vec();
    if !secondary.is_empty() {
        tags.push(0x0F);
        tags.extend_from_slice(secondary);
    }
    tags.push(0);
    if tags.len() > 75 {
        out.push(0x4C); // OP_PUSHDATA1
    }
    out.push(tags.len().to_le_bytes()[0]);
    out.extend_from_slice(&tags);
}

/// 03 or 07, the target byte, the unique id, and the prime id when pooled.
fn push_unique_id(payout: &Payout, out: &mut Vec<u8>) {
    out.push(if payout.pooled.is_some() { 7 } else { 3 });
    out.push(TARGET_BYTE_BLANK);
    out.extend_from_slice(&payout.unique_id.to_le_bytes());
    if let Some(terms) = &payout.pooled {
        out.extend_from_slice(&terms.prime_id.to_le_bytes());
    }
}

fn push_output(value: u64, script: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
    push_varint(script.len(), out);
    out.extend_from_slice(script);
}

/// Bytes of an output, exactly.
fn output_len(script: &[u8]) -> usize {
    8 + if script.len() < 0xFD { 1 } else { 3 } + script.len()
}

fn sigop_cost(script: &[u8]) -> u32 {
    let count = Script::from_bytes(script).count_sigops_legacy();
    u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(4)
}

/// Appends Bitcoin's CompactSize.
pub(crate) fn push_varint(value: usize, out: &mut Vec<u8>) {
    let bytes = (value as u64).to_le_bytes();
    match value {
        0..=0xFC => out.push(bytes[0]),
        0xFD..=0xFFFF => {
            out.push(0xFD);
            out.extend_from_slice(&bytes[..2]);
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(0xFE);
            out.extend_from_slice(&bytes[..4]);
        }
        _ => {
            out.push(0xFF);
            out.extend_from_slice(&bytes);
        }
    }
}

/// What the template sent to the pool holds in place of the target byte.
const TARGET_BYTE_BLANK: u8 = 0xFF;
/// extranonce1 (4) and extranonce2 (8): the pool demands 12 in all.
const EXTRANONCE_LEN: usize = 12;
const EXTRANONCE_PUSH: u8 = 0x0E;
/// The push, the job prefix and the extranonces.
const EXTRANONCE_PUSH_LEN: usize = 1 + 2 + EXTRANONCE_LEN;
/// Consensus: a coinbase scriptSig has 2 to 100 bytes.
const SCRIPT_SIG_MAX: usize = 100;
/// Leaves room for height, unique id and (mostly) the extranonce. The pool expects it.
const TAGS_MAX: usize = 86;
const SEQUENCE: [u8; 4] = [0xFF; 4];
/// How long coinb1 may get with splits before the extranonce output in the default class.
const LONG_COINB1_LEN: usize = 150;
/// Header and the longest transaction count.
const BLOCK_HEAD_LEN: usize = 80 + 5;
/// Marker, flag and the coinbase's witness: one weight unit a byte.
const WITNESS_LEN: usize = 36;
const QUICKDIFF_TAIL: [u8; 2] = [0x44, 0x51];
const QUICKDIFF_TAIL_OTHER: [u8; 2] = [0xBB, 0xAE];

#[cfg(test)]
#[path = "coinbase_tests.rs"]
mod tests;
