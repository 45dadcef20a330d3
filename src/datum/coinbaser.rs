//! Checks what the pool wants paid: the split of a coinbase.

use super::protocol::{codec::Reader, message::CoinbaserMessage};
use crate::work::{Coinbaser, CoinbaserRequest, PayoutOutput};

/// A split that has been checked and may be mined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    pub coinbaser: Coinbaser,
    /// The first output that would exceed the value, where the split was cut off.
    pub cut_at: Option<usize>,
}

/// Checks the answer to `request`.
///
/// Outputs are taken in order; the first that would exceed the value ends the split, as the
/// protocol says. If that is the very first, nothing is left of the split and it is refused.
pub fn check(
    message: &CoinbaserMessage<'_>,
    request: CoinbaserRequest,
) -> Result<Checked, CoinbaserFault> {
    if message.value != request.value {
        return Err(CoinbaserFault::Value { asked: request.value, got: message.value });
    }
    if message.len as usize != message.body.len() || message.body.len() > BODY_MAX {
        let here = message.body.len() + message.padding.len();
        return Err(CoinbaserFault::Length { said: message.len, here });
    }
    let mut reader = Reader::new(message.body);
    let id = reader.u8("id").map_err(|_| CoinbaserFault::Length { said: 0, here: 0 })?;
    let mut outputs = Vec::new();
    let (mut left, mut cut_at) = (request.value, None);
    while !reader.is_empty() && outputs.len() < OUTPUTS_MAX {
        let at = outputs.len();
        let value = reader.u64("value").map_err(|_| CoinbaserFault::Truncated { output: at })?;
        let Some(rest) = left.checked_sub(value) else {
            cut_at = Some(at);
            break;
        };
        let len = reader.u8("script").map_err(|_| CoinbaserFault::Truncated { output: at })?;
        if !(SCRIPT_MIN..=SCRIPT_MAX).contains(&len) {
            return Err(CoinbaserFault::Script { output: at, len });
        }
        let script = reader
            .take(len.into(), "script")
            .map_err(|_| CoinbaserFault::Truncated { output: at })?;
        left = rest;
        outputs.push(PayoutOutput { value, script: script.into() });
    }
    if cut_at == Some(0) {
        return Err(CoinbaserFault::Overpays { value: request.value });
    }
    Ok(Checked { coinbaser: Coinbaser { id, request, outputs: outputs.into() }, cut_at })
}

/// Why a split is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CoinbaserFault {
    #[error("a coinbaser for {got} sats when {asked} were asked for")]
    Value { asked: u64, got: u64 },
    #[error("a coinbaser that says it has {said} bytes and has {here}")]
    Length { said: u32, here: usize },
    #[error("a coinbaser that ends within output {output}")]
    Truncated { output: usize },
    #[error("a coinbaser whose output {output} has a script of {len} bytes")]
    Script { output: usize, len: u8 },
    #[error("a coinbaser that pays more than {value} sats with its first output")]
    Overpays { value: u64 },
    #[error("a coinbaser for {got} sats that was not asked for")]
    Unasked { got: u64 },
    #[error("a coinbaser for {got} sats that could belong to either of two tips")]
    Doubtful { got: u64 },
}

/// The size of the C gateway's buffer.
const BODY_MAX: usize = 32 * 1024 - 1;
const OUTPUTS_MAX: usize = 512;
const SCRIPT_MIN: u8 = 2;
const SCRIPT_MAX: u8 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Hash256;

    const REQUEST: CoinbaserRequest = CoinbaserRequest { prevhash: Hash256::ZERO, value: 1000 };

    fn output(value: u64, len: usize) -> PayoutOutput {
        PayoutOutput { value, script: vec![0x51; len].into() }
    }

    fn answer(outputs: &[PayoutOutput]) -> Result<Checked, CoinbaserFault> {
        let body = CoinbaserMessage::encode_body(7, outputs);
        let len = u32::try_from(body.len()).unwrap();
        check(&CoinbaserMessage { value: 1000, len, body: &body, padding: &[] }, REQUEST)
    }

    #[test]
    fn a_split_of_the_whole_value_is_good() {
        let checked = answer(&[output(999, 2), output(1, 64)]).unwrap();
        assert_eq!((checked.coinbaser.outputs.len(), checked.cut_at), (2, None));
        assert_eq!(checked.coinbaser.id, 7);
    }

    #[test]
    fn a_split_is_cut_where_it_would_overrun_the_value() {
        let checked = answer(&[output(600, 2), output(500, 2), output(100, 2)]).unwrap();
        assert_eq!((checked.coinbaser.outputs.len(), checked.cut_at), (1, Some(1)));
        assert_eq!(answer(&[output(1001, 2)]), Err(CoinbaserFault::Overpays { value: 1000 }));
        let wraps = answer(&[output(1000, 2), output(u64::MAX, 2)]).unwrap();
        assert_eq!(wraps.cut_at, Some(1));
    }

    #[test]
    fn impossible_scripts_are_refused() {
        for len in [0u8, 1, 65, 255] {
            let fault = answer(&[output(1, len.into())]).unwrap_err();
            assert_eq!(fault, CoinbaserFault::Script { output: 0, len });
        }
    }

    #[test]
    fn lying_lengths_are_refused() {
        let body = CoinbaserMessage::encode_body(7, &[output(1, 20)]);
        for len in [0, 5, 10_000, u32::MAX] {
            let here = (len as usize).min(body.len());
            let (body, padding) = body.split_at(here);
            let message = CoinbaserMessage { value: 1000, len, body, padding };
            assert!(check(&message, REQUEST).is_err(), "{len}");
        }
    }
}
