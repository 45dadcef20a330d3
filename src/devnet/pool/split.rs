//! Coinbasers: who gets how much of a block, and ways to get it wrong on purpose.

use super::options::{Fault, PoolConfig};
use crate::{datum::message::CoinbaserMessage, work::PayoutOutput};

/// Divides `value` by weight. Rounding, and the pool's own weight, leave the rest to the pool.
pub(super) fn divide(value: u64, config: &PoolConfig) -> Vec<PayoutOutput> {
    let weights = config.splits.iter().map(|split| u128::from(split.weight));
    let total = weights.sum::<u128>() + u128::from(config.own_weight);
    let share = |weight: u64| {
        let sats = (u128::from(value) * u128::from(weight)).checked_div(total)?;
        u64::try_from(sats).ok().filter(|sats| *sats > 0)
    };
    let outputs = config.splits.iter().filter_map(|split| {
        let value = share(split.weight)?;
        Some(PayoutOutput { value, script: split.script.as_slice().into() })
    });
    outputs.take(OUTPUTS_MAX).collect()
}

/// A coinbaser's bytes, correct or with `fault`.
#[derive(Debug)]
pub(super) struct CoinbaserAnswer {
    pub(super) value: u64,
    pub(super) len: u32,
    pub(super) body: Vec<u8>,
}

impl CoinbaserAnswer {
    pub(super) fn new(value: u64, id: u8, outputs: &[PayoutOutput], fault: Option<Fault>) -> Self {
        let mut outputs = outputs.to_vec();
        match fault {
            Some(Fault::OverpayingCoinbaser) => {
                let script = [&[0x00, 20][..], &[0xEE; 20]].concat().into();
                outputs.insert(0, PayoutOutput { value: value.saturating_mul(2).max(1), script });
            }
            Some(Fault::ImpossibleScripts) => {
                outputs.insert(0, PayoutOutput { value: value / 2, script: [0x6a].into() });
            }
            _ => {}
        }
        let body = CoinbaserMessage::encode_body(id, &outputs);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let len = if fault == Some(Fault::LyingCoinbaser) { len + LIE } else { len };
        let value = if fault == Some(Fault::UnaskedCoinbaser) { value ^ 1 } else { value };
        Self { value, len, body }
    }

    pub(super) fn message(&self) -> CoinbaserMessage<'_> {
        let Self { value, len, .. } = *self;
        CoinbaserMessage { value, len, body: &self.body, padding: &[] }
    }
}

/// The maximum of a coinbaser; the gateway reads no more.
const OUTPUTS_MAX: usize = 512;
/// By how much a lying coinbaser overstates its length.
const LIE: u32 = 1000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::devnet::pool::options::Split;

    proptest! {
        #[test]
        fn splits_never_pay_more_than_there_is(
            value: u64,
            weights in prop::collection::vec(any::<u64>(), 0..600),
            own_weight: u64,
        ) {
            let splits = weights.iter().map(|&weight| Split { script: vec![0x51, 2], weight });
            let config = PoolConfig { splits: splits.collect(), own_weight, ..Default::default() };
            let outputs = divide(value, &config);
            prop_assert!(outputs.len() <= OUTPUTS_MAX);
            let sum: u128 = outputs.iter().map(|output| u128::from(output.value)).sum();
            prop_assert!(sum <= u128::from(value));
        }
    }

    #[test]
    fn splits_are_in_proportion() {
        let split = |weight: u8| Split { script: vec![0x51, weight], weight: weight.into() };
        let splits = vec![split(1), split(3)];
        let config = PoolConfig { splits, own_weight: 4, ..Default::default() };
        let values: Vec<u64> = divide(800, &config).iter().map(|output| output.value).collect();
        assert_eq!(values, [100, 300]);
    }
}
