//! What snow lacks for Stratum V2: the curve, and a cipher that is fast on small messages.

use std::sync::LazyLock;

use bitcoin::secp256k1::{
    All, Secp256k1, SecretKey,
    ellswift::{ElligatorSwift, ElligatorSwiftParty},
};
use rand::{RngCore, rngs::OsRng};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::{ELLSWIFT_LEN, TAG_LEN};

/// Tables for the curve: large, shared by all, and slow to build.
pub(super) fn secp() -> &'static Secp256k1<All> {
    static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(|| {
        let mut secp = Secp256k1::new();
        let mut seed = [0; 32];
        OsRng.fill_bytes(&mut seed);
        secp.seeded_randomize(&seed);
        secp
    });
    &SECP
}

/// Hands snow its parts. One for each role, since the shared secret of two EllSwift keys depends on
/// who began, and snow does not tell that to a [`Dh`].
pub(super) struct Resolver(pub(super) ElligatorSwiftParty);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, _: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(EllSwift { party: self.0, secret: None, public: [0; ELLSWIFT_LEN] }))
    }

    fn resolve_hash(&self, _: &HashChoice) -> Option<Box<dyn Hash>> {
        Some(Box::new(Sha(Sha256::new())))
    }

    fn resolve_cipher(&self, _: &CipherChoice) -> Option<Box<dyn Cipher>> {
        Some(Box::new(ChaChaPoly(Zeroizing::new([0; SECRET_LEN]))))
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        OsRng.try_fill_bytes(dest).map_err(|_| Error::Rng)
    }
}

/// A secret key with its encoded public key: what [`EllSwift::set`] takes for a private key, so
/// that the encoding, a third of a handshake's work, is not recomputed for each connection.
pub(super) struct StaticKey(Zeroizing<[u8; STATIC_KEY_LEN]>);

impl StaticKey {
    pub(super) fn new(secret: &SecretKey, encoded: &ElligatorSwift) -> Self {
        let mut bytes = Zeroizing::new([0; STATIC_KEY_LEN]);
        bytes[..SECRET_LEN].copy_from_slice(&secret.secret_bytes());
        bytes[SECRET_LEN..].copy_from_slice(&encoded.to_array());
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// One side's key of an exchange.
struct EllSwift {
    party: ElligatorSwiftParty,
    secret: Option<SecretKey>,
    public: [u8; ELLSWIFT_LEN],
}

impl EllSwift {
    fn replace(&mut self, secret: SecretKey, public: [u8; ELLSWIFT_LEN]) {
        self.erase();
        self.secret = Some(secret);
        self.public = public;
    }

    fn erase(&mut self) {
        if let Some(secret) = &mut self.secret {
            secret.non_secure_erase();
        }
        self.secret = None;
    }
}

impl Drop for EllSwift {
    fn drop(&mut self) {
        self.erase();
    }
}

impl Dh for EllSwift {
    fn name(&self) -> &'static str {
        "Secp256k1+EllSwift"
    }

    fn pub_len(&self) -> usize {
        ELLSWIFT_LEN
    }

    fn priv_len(&self) -> usize {
        STATIC_KEY_LEN
    }

    /// Unlike a public key, the shared secret is 32 bytes long.
    fn dh_len(&self) -> usize {
        SHARED_LEN
    }

    /// Takes a [`StaticKey`]. With anything else there is no key, and `dh` fails.
    fn set(&mut self, privkey: &[u8]) {
        let parts = privkey.split_first_chunk::<SECRET_LEN>();
        let parts = parts.and_then(|(secret, public)| {
            Some((SecretKey::from_slice(secret).ok()?, public.try_into().ok()?))
        });
        match parts {
            Some((secret, public)) => self.replace(secret, public),
            None => self.erase(),
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = Zeroizing::new([0; 2 * SECRET_LEN]);
        rng.try_fill_bytes(bytes.as_mut_slice())?;
        let (mut secret, mut aux) = ([0; SECRET_LEN], [0; SECRET_LEN]);
        secret.copy_from_slice(&bytes[..SECRET_LEN]);
        aux.copy_from_slice(&bytes[SECRET_LEN..]);
        // All but one in 2^128 are valid keys.
        let secret = SecretKey::from_slice(&secret).map_err(|_| Error::Rng)?;
        let public = ElligatorSwift::from_seckey(secp(), secret, Some(aux));
        self.replace(secret, public.to_array());
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    /// Snow asks for it only to hand out a generated pair, which nobody here needs.
    fn privkey(&self) -> &[u8] {
        &[]
    }

    /// BIP 324's exchange. `pubkey` is snow's buffer for the longest key it knows: 65 bytes.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let secret = self.secret.ok_or(Error::Dh)?;
        let theirs = *pubkey.first_chunk::<ELLSWIFT_LEN>().ok_or(Error::Dh)?;
        let out = out.first_chunk_mut::<SHARED_LEN>().ok_or(Error::Dh)?;
        let ours = ElligatorSwift::from_array(self.public);
        let theirs = ElligatorSwift::from_array(theirs);
        let (a, b) = match self.party {
            ElligatorSwiftParty::A => (ours, theirs),
            ElligatorSwiftParty::B => (theirs, ours),
        };
        *out = ElligatorSwift::shared_secret(a, b, secret, self.party, None).to_secret_bytes();
        Ok(())
    }
}

struct Sha(Sha256);

impl Hash for Sha {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        SHA256_LEN
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..SHA256_LEN].copy_from_slice(&self.0.finalize_reset());
    }
}

/// ring's cipher: on messages as short as shares it is nine times as fast as snow's own. Its key is
/// set up when used, since most of those that snow makes never are.
struct ChaChaPoly(Zeroizing<[u8; SECRET_LEN]>);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; SECRET_LEN]) {
        *self.0 = *key;
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = cipher_key(&self.0)
            .seal_in_place_separate_tag(nonce_bytes(nonce), Aad::from(authtext), text)
            .expect("a handshake's messages are far shorter than the cipher's limit of 256 GiB");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let mut text = ciphertext.to_vec();
        let text = cipher_key(&self.0)
            .open_in_place(nonce_bytes(nonce), Aad::from(authtext), &mut text)
            .map_err(|_| Error::Decrypt)?;
        out.get_mut(..text.len()).ok_or(Error::Decrypt)?.copy_from_slice(text);
        Ok(text.len())
    }
}

pub(super) fn cipher_key(key: &[u8; SECRET_LEN]) -> LessSafeKey {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the cipher takes 32 bytes");
    LessSafeKey::new(key)
}

/// A nonce as Noise writes it for this cipher: four zero bytes, then the number in little endian.
pub(super) fn nonce_bytes(nonce: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

const SECRET_LEN: usize = 32;
const STATIC_KEY_LEN: usize = SECRET_LEN + ELLSWIFT_LEN;
const SHARED_LEN: usize = 32;
const SHA256_LEN: usize = 32;
