//! The set-up code that protects the first settings: whoever can read the log may make them,
//! whoever only reaches the port may not.

use std::fmt;

use rand::Rng;
use subtle::ConstantTimeEq;

/// Valid in this process, until set-up is finished: there is a password, or work for miners.
pub(crate) struct SetupCode(String);

impl SetupCode {
    pub(crate) fn make() -> Self {
        let mut random = rand::thread_rng();
        let letter = |_| char::from(LETTERS[random.gen_range(0..LETTERS.len())]);
        Self((0..LEN).map(letter).collect())
    }

    /// In two halves, easy to copy; only for the log.
    pub(crate) fn shown(&self) -> String {
        let (one, other) = self.0.split_at(LEN / 2);
        format!("{one}-{other}")
    }

    /// Normalises the code, however it was typed.
    pub(super) fn is(&self, given: &str) -> bool {
        let given = given.chars().take(GIVEN_LEN_MAX).filter(char::is_ascii_alphanumeric);
        // As in Crockford's alphabet: these are easily confused.
        let read = given.map(|c| match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c => c,
        });
        read.collect::<String>().as_bytes().ct_eq(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for SetupCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Without letters that are easily mistaken for others.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 40 bits: at one guess a second, tens of thousands of years.
const LEN: usize = 8;
const GIVEN_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_however_it_is_typed() {
        let code = SetupCode("01AB2CDE".into());
        assert_eq!(code.shown(), "01AB-2CDE");
        for given in ["01AB-2CDE", "01ab2cde", " oiab 2cde\n", "O1AB-2CDE"] {
            assert!(code.is(given), "{given}");
        }
        for given in ["", "01AB-2CDF", "01AB-2CDE1", "01AB"] {
            assert!(!code.is(given), "{given}");
        }
        assert_eq!(format!("{code:?}"), "<redacted>");
        let (one, other) = (SetupCode::make(), SetupCode::make());
        assert!(one.is(&one.shown()) && !one.is(&other.shown()));
    }
}
