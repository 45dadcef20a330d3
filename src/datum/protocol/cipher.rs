//! Keys, signatures, sealed boxes and the encrypted channel.

use crypto_box::{
    SalsaBox, SecretKey,
    aead::{AeadInPlace, Tag},
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::{CryptoRng, RngCore};
use x25519_dalek::{PublicKey, StaticSecret};

use super::frame::mix;

/// An Ed25519 key pair for signing and an X25519 key pair for receiving sealed messages.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    sealing: StaticSecret,
    public: PublicIdentity,
}

impl Identity {
    pub fn generate(rng: &mut (impl RngCore + CryptoRng)) -> Self {
        let signing = SigningKey::generate(rng);
        Self::of(signing, StaticSecret::random_from_rng(rng))
    }

    /// From an Ed25519 seed and an X25519 scalar.
    pub fn from_secrets(ed25519: &[u8; 32], x25519: [u8; 32]) -> Self {
        Self::of(SigningKey::from_bytes(ed25519), x25519.into())
    }

    fn of(signing: SigningKey, sealing: StaticSecret) -> Self {
        let ed25519 = signing.verifying_key().to_bytes();
        let public = PublicIdentity { ed25519, x25519: PublicKey::from(&sealing) };
        Self { signing, sealing, public }
    }

    pub fn public(&self) -> &PublicIdentity {
        &self.public
    }

    /// Signs all of `message` and appends the signature.
    pub fn sign(&self, message: &mut Vec<u8>) {
        let signature = self.signing.sign(message);
        message.extend_from_slice(&signature.to_bytes());
    }

    /// Opens a box that was sealed to this identity.
    pub fn unseal(&self, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
        self.box_secret().unseal(sealed).map_err(|_| CipherError::Seal)
    }

    /// The X25519 key in the form that sealed boxes need.
    fn box_secret(&self) -> SecretKey {
        SecretKey::from_bytes(self.sealing.to_bytes())
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Identity").field(&self.public).finish()
    }
}

/// The public half of an identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublicIdentity {
    pub ed25519: [u8; 32],
    pub x25519: PublicKey,
}

impl PublicIdentity {
    /// From 64 bytes: Ed25519, then X25519.
    pub(crate) fn from_bytes(bytes: &[u8; PUBLIC_LEN]) -> Self {
        let (mut ed25519, mut x25519) = ([0; 32], [0; 32]);
        ed25519.copy_from_slice(&bytes[..32]);
        x25519.copy_from_slice(&bytes[32..]);
        Self { ed25519, x25519: x25519.into() }
    }

    /// From the 128 hex digits that pools publish.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; PUBLIC_LEN];
        (text.len() == 2 * PUBLIC_LEN).then_some(())?;
        faster_hex::hex_decode(text.as_bytes(), &mut bytes).ok()?;
        Some(Self::from_bytes(&bytes))
    }

    pub(crate) fn to_bytes(self) -> [u8; PUBLIC_LEN] {
        let mut bytes = [0; PUBLIC_LEN];
        bytes[..32].copy_from_slice(&self.ed25519);
        bytes[32..].copy_from_slice(self.x25519.as_bytes());
        bytes
    }

    /// The 128 hex digits.
    pub(crate) fn to_hex(self) -> String {
        faster_hex::hex_string(&self.to_bytes())
    }

    /// Seals `message` so that only the identity's owner can read it.
    pub fn seal(
        &self,
        message: &[u8],
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Vec<u8>, CipherError> {
        box_public(&self.x25519).seal(rng, message).map_err(|_| CipherError::Seal)
    }

    /// The message without the signature at its end, which must be valid.
    pub fn verify<'a>(&self, signed: &'a [u8]) -> Result<&'a [u8], CipherError> {
        let (message, signature) =
            signed.split_last_chunk::<SIGNATURE_LEN>().ok_or(CipherError::Short(signed.len()))?;
        VerifyingKey::from_bytes(&self.ed25519)
            .and_then(|key| key.verify_strict(message, &Signature::from_bytes(signature)))
            .map_err(|_| CipherError::Signature)?;
        Ok(message)
    }
}

/// The two nonces of a channel, which are never sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Nonces {
    pub(crate) to_gateway: Nonce,
    pub(crate) to_pool: Nonce,
}

impl Nonces {
    /// From the number in HELLO and the gateway's session Ed25519 key.
    pub fn derive(nk: u32, gateway_session: &[u8; 32]) -> Self {
        let mut salt = [0; 4];
        salt.copy_from_slice(&gateway_session[7..11]);
        let mut t = nk.wrapping_sub(42) ^ u32::from_le_bytes(salt);
        let (mut to_gateway, mut to_pool) = ([0; 6], [0; 6]);
        for (theirs, ours) in to_gateway.iter_mut().zip(&mut to_pool) {
            let v = mix(t.wrapping_sub(42));
            *theirs = v;
            *ours = v ^ 0x5757_5757;
            t = !v;
        }
        Self { to_gateway: Nonce(to_gateway), to_pool: Nonce(to_pool) }
    }
}

/// A counter of 192 bits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Nonce([u32; 6]);

impl Nonce {
    /// The nonce for one message; the next call gives the next one.
    fn advance(&mut self) -> [u8; NONCE_LEN] {
        let mut bytes = [0; NONCE_LEN];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        for word in &mut self.0 {
            *word = word.wrapping_add(1);
            if *word != 0 {
                break;
            }
        }
        bytes
    }
}

/// An encrypted channel, seen from one of its ends.
pub struct SecureChannel {
    cipher: SalsaBox,
    send: Nonce,
    receive: Nonce,
}

impl SecureChannel {
    /// The gateway's end.
    pub fn of_gateway(ours: &Identity, theirs: &PublicKey, nonces: Nonces) -> Self {
        let cipher = SalsaBox::new(&box_public(theirs), &ours.box_secret());
        Self { cipher, send: nonces.to_pool, receive: nonces.to_gateway }
    }

    /// The pool's end.
    pub fn of_pool(ours: &Identity, theirs: &PublicKey, nonces: Nonces) -> Self {
        let cipher = SalsaBox::new(&box_public(theirs), &ours.box_secret());
        Self { cipher, send: nonces.to_gateway, receive: nonces.to_pool }
    }

    /// Encrypts `frame[start..]`, where `MAC_LEN` bytes were left free in front of the message.
    pub fn encrypt(&mut self, frame: &mut [u8], start: usize) -> Result<(), CipherError> {
        let nonce = self.send.advance();
        let (mac, message) = frame
            .get_mut(start..)
            .and_then(|body| body.split_first_chunk_mut::<MAC_LEN>())
            .ok_or(CipherError::Short(0))?;
        let tag = self
            .cipher
            .encrypt_in_place_detached(&nonce.into(), &[], message)
            .map_err(|_| CipherError::Mac)?;
        mac.copy_from_slice(&tag);
        Ok(())
    }

    /// Decrypts a body in place and returns the message.
    pub fn decrypt<'a>(&mut self, body: &'a mut [u8]) -> Result<&'a [u8], CipherError> {
        let len = body.len();
        let (mac, message) =
            body.split_first_chunk_mut::<MAC_LEN>().ok_or(CipherError::Short(len))?;
        let nonce = self.receive.advance();
        let tag: Tag<SalsaBox> = (*mac).into();
        self.cipher
            .decrypt_in_place_detached(&nonce.into(), &[], message, &tag)
            .map_err(|_| CipherError::Mac)?;
        Ok(message)
    }
}

/// The X25519 key in the form that sealed boxes need.
fn box_public(key: &PublicKey) -> crypto_box::PublicKey {
    crypto_box::PublicKey::from_bytes(key.to_bytes())
}

/// What is wrong with a message that should have been encrypted or signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CipherError {
    #[error("a sealed message that cannot be opened")]
    Seal,
    #[error("an encrypted message that was forged or garbled: its authentication code is wrong")]
    Mac,
    #[error("a message with a wrong signature")]
    Signature,
    #[error("an encrypted or signed message of {0} bytes, too few to be one")]
    Short(usize),
}

pub const MAC_LEN: usize = 16;
/// Ed25519's.
pub(crate) const SIGNATURE_LEN: usize = 64;
/// How much longer a sealed box is than its message.
pub(super) const SEAL_LEN: usize = 48;
pub(super) const PUBLIC_LEN: usize = 64;
const NONCE_LEN: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_carry_into_the_next_word_only_on_wrapping() {
        let mut nonce = Nonce([u32::MAX, 7, 0, 0, 0, 0]);
        nonce.advance();
        assert_eq!(nonce, Nonce([0, 8, 0, 0, 0, 0]));
        nonce.advance();
        assert_eq!(nonce, Nonce([1, 8, 0, 0, 0, 0]));
        let mut last = Nonce([u32::MAX; 6]);
        last.advance();
        assert_eq!(last, Nonce([0; 6]));
    }

    #[test]
    fn public_keys_are_read_as_pools_publish_them() {
        let identity = Identity::from_secrets(&[1; 32], [2; 32]);
        let hex = identity.public().to_hex();
        assert_eq!(PublicIdentity::from_hex(&hex).as_ref(), Some(identity.public()));
        assert_eq!(PublicIdentity::from_hex(&hex[1..]), None);
        assert_eq!(PublicIdentity::from_hex(&hex.replace(&hex[..1], "g")), None);
    }
}
