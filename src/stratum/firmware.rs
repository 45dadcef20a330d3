//! Models of small miners' firmware for tests: its buffers, and how it reads coinbases and targets.
//! Based on the facts of each source, which is named.

use std::sync::Arc;

use crate::{
    work::fixture,
    work::{
        Coinbaser, CoinbaserRequest, Payout, PayoutOutput, PoolTerms, Target, Template, VoidNow,
    },
};

/// What a miner's screen shows of a coinbase.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Shown {
    pub(crate) height: u32,
    pub(crate) outputs: Vec<(u64, Vec<u8>)>,
}

impl Shown {
    pub(crate) fn total(&self) -> u64 {
        self.outputs.iter().fold(0, |sum, (value, _)| sum.wrapping_add(*value))
    }

    /// What the coinbase pays to the miner's own address.
    pub(crate) fn to_user(&self) -> u64 {
        let own = self.outputs.iter().filter(|(_, script)| **script == *user_script());
        own.map(|(value, _)| *value).sum()
    }
}

/// As ESP-Miner's components/stratum/coinbase_decoder.c and NerdQAxe's components/coinbase_decoder:
/// the height is the scriptSig's first push, and the outputs are looked for in coinb2 alone, after
/// the rest of the scriptSig and a sequence. None where they give up.
pub(crate) fn read_coinbase(coinb1: &[u8], coinb2: &[u8], extranonce: usize) -> Option<Shown> {
    let script_len = usize::from(*coinb1.get(41)?);
    let height_len = usize::from(*coinb1.get(42)?);
    if !(1..=4).contains(&height_len) {
        return None;
    }
    let height = coinb1.get(43..43 + height_len)?;
    let height = height.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let here = coinb1.len() - 43 - height_len;
    let rest = (script_len - 1 - height_len).saturating_sub(here).saturating_sub(extranonce);
    let mut outputs = Vec::new();
    let mut left = coinb2.get(rest + 4..)?;
    for _ in 0..take_varint(&mut left)? {
        // A truncated output is left out; it is not an error.
        let Some(output) = take_output(&mut left) else { break };
        outputs.push(output);
    }
    Some(Shown { height, outputs })
}

fn take_output(left: &mut &[u8]) -> Option<(u64, Vec<u8>)> {
    let (value, rest) = left.split_first_chunk()?;
    *left = rest;
    let len = usize::try_from(take_varint(left)?).ok()?;
    let (script, rest) = left.split_at_checked(len)?;
    *left = rest;
    Some((u64::from_le_bytes(*value), script.to_vec()))
}

fn take_varint(left: &mut &[u8]) -> Option<u64> {
    let (first, rest) = left.split_first()?;
    let len = match *first {
        0xFD => 2,
        0xFE => 4,
        0xFF => 8,
        small => {
            *left = rest;
            return Some(small.into());
        }
    };
    let (number, rest) = rest.split_at_checked(len)?;
    *left = rest;
    Some(number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

/// The difficulty of a target for ESP-Miner up to 2.14 and for NerdQAxe (`sv2_target_to_pdiff`):
/// four words in floating point, then truncated to a whole number of at least 1.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as the firmware does")]
pub(crate) fn whole_difficulty(target: &Target) -> u32 {
    let bytes = target.to_le_bytes();
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * at..8 * at + 8]);
        u64::from_le_bytes(word) as f64
    };
    let words = word(3) * 2f64.powi(192) + word(2) * 2f64.powi(128) + word(1) * 2f64.powi(64);
    let difficulty = 65_535.0 * 2f64.powi(208) / (words + word(0));
    (difficulty as u32).max(1)
}

/// Numbers of splits: none, few, more than a screen lists, more than any class holds.
pub(crate) const SPLITS: [usize; 4] = [0, 6, 50, 200];
/// NerdQAxe's BIG_BUFFER_SIZE (main/stratum/stratum_api.h): a line with its end and a zero.
pub(crate) const NERDQAXE_LINE_MAX: usize = 16_384 - 2;
/// SV2_MAX_FRAME_SIZE of ESP-Miner up to 2.14 and of NerdQAxe: a payload.
pub(crate) const AXE_FRAME_MAX: usize = 2048;
/// SV2_MAX_MERKLE_BRANCHES of both.
pub(crate) const AXE_BRANCHES_MAX: usize = 20;
/// NerdMiner's coinbase_buffer[512] (src/utils.cpp): hex digits, not counting the zero after them.
pub(crate) const NERDMINER_COINBASE_MAX: usize = 512 - 1;
/// NerdMiner's BUFFER_JSON_DOC (src/stratum.h): all strings and nodes of a line.
pub(crate) const NERDMINER_JSON_MAX: usize = 4096;

/// The script of the miner's username.
pub(crate) fn user_script() -> Box<[u8]> {
    [&[0, 20][..], &[0xA5, 0x5A].repeat(10)].concat().into()
}

/// A pool with this many splits on `tip`, one of them the user's, and tags of the maximum length.
pub(crate) fn pooled(tip: u8, splits: usize) -> Arc<Payout> {
    let split = |at: usize| {
        let script = match at {
            3 => user_script(),
            // Taproot and segwit alternately.
            _ if at.is_multiple_of(2) => {
                [&[0x51, 32][..], &[at.to_le_bytes()[0]; 32]].concat().into()
            }
            _ => [&[0, 20][..], &[at.to_le_bytes()[0]; 20]].concat().into(),
        };
        PayoutOutput { value: 1_000_000 + at as u64, script }
    };
    let coinbaser = (splits > 0).then(|| {
        Arc::new(Coinbaser {
            id: 1,
            request: CoinbaserRequest::of(&template(tip)),
            outputs: (0..splits).map(split).collect(),
        })
    });
    let pooled = PoolTerms {
        pool: "pool:1".into(),
        prime_id: 7,
        min_difficulty: 0,
        coinbaser,
        settled: None,
        epoch: 1,
        series: 1,
        void_series: 0,
        void_now: VoidNow::default(),
    };
    Arc::new(Payout {
        script: [&[0x51, 32][..], &[9; 32]].concat().into(),
        tag_primary: b"< OCEAN.XYZ >".as_slice().into(),
        tag_secondary: [b'x'; 60].into(),
        unique_id: 4242,
        own_script: None,
        pooled: Some(pooled),
    })
}

/// A full template on `tip` with a commitment of the real length and as many branches as on mainnet.
pub(crate) fn template(tip: u8) -> Arc<Template> {
    let mut full = fixture::template(tip, fixture::HARD, 5000);
    Arc::get_mut(&mut full).unwrap().witness_commitment =
        Some([&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[5; 32]].concat().into());
    full
}
