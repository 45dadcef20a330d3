//! The key that vouches for a gateway, and its public half, with which miners are configured.

use std::{fmt, str::FromStr};

use bitcoin::{
    base58,
    secp256k1::{Keypair, SecretKey, XOnlyPublicKey},
};
use rand::{RngCore, rngs::OsRng};

use super::resolver::secp;

/// The secret key of an authority: it signs the certificates of gateways.
pub struct AuthorityKey(pub(super) Keypair);

impl AuthorityKey {
    /// A new one, from the system's randomness.
    pub fn generate() -> Self {
        Self(Keypair::from_secret_key(secp(), &random_secret()))
    }

    /// `None` if the bytes are not a secret key: zero, or not below the curve's order.
    pub fn from_secret(secret: [u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_slice(&secret).ok()?;
        Some(Self(Keypair::from_secret_key(secp(), &secret)))
    }

    pub fn public(&self) -> AuthorityPublicKey {
        AuthorityPublicKey(self.0.x_only_public_key().0)
    }

    /// What [`AuthorityKey::parse`] reads: the secret as other Stratum V2 software writes it, below
    /// a few lines for people who open the file.
    pub fn to_file_text(&self) -> String {
        let public = self.public();
        let secret = base58::encode_check(&self.0.secret_bytes());
        format!(
            "# The Stratum V2 authority key of this gateway. Secret: whoever has it can impersonate it.\n\
             # Miners are given its public half: {public}\n\
             {secret}\n"
        )
    }

    /// Parses a file's text: the secret in base58check; blank lines and `#` comments are ignored.
    pub fn parse(text: &str) -> Result<Self, KeyTextError> {
        let is_key = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let mut keys = text.lines().map(str::trim).filter(is_key);
        let key = keys.next().ok_or(KeyTextError::Missing)?;
        if keys.next().is_some() {
            return Err(KeyTextError::Several);
        }
        // The error does not quote the text: it may be most of a secret.
        let bytes = base58::decode_check(key).map_err(|_| KeyTextError::Garbled)?;
        let len = bytes.len();
        let secret = <[u8; 32]>::try_from(bytes).map_err(|_| KeyTextError::Length(len))?;
        Self::from_secret(secret).ok_or(KeyTextError::OffCurve)
    }
}

impl fmt::Debug for AuthorityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthorityKey").field(&self.public()).finish()
    }
}

impl Drop for AuthorityKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// The key that miners are configured with, written in base58check.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct AuthorityPublicKey(pub(super) XOnlyPublicKey);

impl AuthorityPublicKey {
    /// From an x coordinate; `None` if it is not on the curve.
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        XOnlyPublicKey::from_slice(&bytes).ok().map(Self)
    }

    pub fn to_bytes(self) -> [u8; 32] {
        self.0.serialize()
    }
}

impl fmt::Display for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; PUBLIC_PREFIX.len() + 32];
        let (prefix, key) = bytes.split_at_mut(PUBLIC_PREFIX.len());
        prefix.copy_from_slice(&PUBLIC_PREFIX);
        key.copy_from_slice(&self.to_bytes());
        base58::encode_check_to_fmt(f, &bytes)
    }
}

impl fmt::Debug for AuthorityPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPublicKey({self})")
    }
}

impl FromStr for AuthorityPublicKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<Self, KeyTextError> {
        let bytes = base58::decode_check(text).map_err(|_| KeyTextError::Garbled)?;
        let key = bytes.strip_prefix(&PUBLIC_PREFIX).ok_or(KeyTextError::Version)?;
        let key = <[u8; 32]>::try_from(key).map_err(|_| KeyTextError::Length(key.len()))?;
        Self::from_bytes(key).ok_or(KeyTextError::OffCurve)
    }
}

/// What is wrong with the text of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyTextError {
    #[error("there is no key in it")]
    Missing,
    #[error("there is more than one key in it")]
    Several,
    #[error("its base58 checksum does not match: a character is wrong or missing")]
    Garbled,
    #[error("it is not a Stratum V2 authority public key: those begin with a 9")]
    Version,
    #[error("it holds {0} bytes, not the 32 of a key")]
    Length(usize),
    #[error("its 32 bytes are not a secp256k1 key")]
    OffCurve,
}

/// A fresh secret key.
pub(super) fn random_secret() -> SecretKey {
    loop {
        let mut bytes = [0; 32];
        OsRng.fill_bytes(&mut bytes);
        // All but one in 2^128 are valid keys.
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return key;
        }
    }
}

/// Version 1 of the key's format, little endian.
const PUBLIC_PREFIX: [u8; 2] = [1, 0];

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the Stratum V2 specification.
    const SPEC_TEXT: &str = "9bXiEd8boQVhq7WddEcERUL5tyyJVFYdU8th3HfbNXK3Yw6GRXh";
    /// The key pair of the reference implementation's examples.
    const SRI_PUBLIC: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
    const SRI_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

    #[test]
    fn a_public_key_is_written_as_the_specification_does() {
        let key: AuthorityPublicKey = SPEC_TEXT.parse().unwrap();
        assert_eq!(key.to_string(), SPEC_TEXT);
        assert_eq!(AuthorityPublicKey::from_bytes(key.to_bytes()), Some(key));
    }

    #[test]
    fn keys_of_the_reference_implementation_are_read() {
        let key = AuthorityKey::parse(SRI_SECRET).unwrap();
        assert_eq!(key.public().to_string(), SRI_PUBLIC);
        assert!(key.to_file_text().ends_with(&format!("\n{SRI_SECRET}\n")));
    }

    #[test]
    fn a_file_gives_back_the_key_that_went_in() {
        let key = AuthorityKey::generate();
        let text = key.to_file_text();
        let edited = format!("\u{20}\n# mine\r\n\t{}\r\n\r\n", text.trim_end());
        for text in [text, edited] {
            assert_eq!(AuthorityKey::parse(&text).unwrap().0.secret_bytes(), key.0.secret_bytes());
        }
    }

    #[test]
    fn text_that_is_not_a_key_is_refused_with_the_reason() {
        let public = |bytes: &[u8]| base58::encode_check(bytes).parse::<AuthorityPublicKey>();
        let x_of_nothing = [&[1, 0][..], &[0xff; 32]].concat();
        for (refused, why) in [
            ("".parse(), KeyTextError::Garbled),
            (SPEC_TEXT[1..].parse(), KeyTextError::Garbled),
            (SPEC_TEXT.replace('X', "Y").parse(), KeyTextError::Garbled),
            ("Schlüssel".parse(), KeyTextError::Garbled),
            (SRI_SECRET.parse(), KeyTextError::Version),
            (public(&[2; 34]), KeyTextError::Version),
            (public(&[1, 0]), KeyTextError::Length(0)),
            (public(&[1, 0, 3]), KeyTextError::Length(1)),
            (public(&x_of_nothing), KeyTextError::OffCurve),
        ] {
            assert_eq!(refused.unwrap_err(), why);
        }

        let secret = |bytes: &[u8]| AuthorityKey::parse(&base58::encode_check(bytes));
        for (refused, why) in [
            (AuthorityKey::parse("\n# only this\n"), KeyTextError::Missing),
            (AuthorityKey::parse(&format!("{SRI_SECRET}\n{SRI_SECRET}")), KeyTextError::Several),
            (AuthorityKey::parse(SRI_PUBLIC), KeyTextError::Length(34)),
            (AuthorityKey::parse(&SRI_SECRET[1..]), KeyTextError::Garbled),
            (secret(&[0; 32]), KeyTextError::OffCurve),
            (secret(&[0xff; 32]), KeyTextError::OffCurve),
        ] {
            assert_eq!(refused.unwrap_err(), why);
        }
    }
}
