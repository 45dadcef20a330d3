//! A server's static key, and the certificate with which an authority vouches for it.

use std::{fmt, time::Duration};

use bitcoin::secp256k1::{
    Keypair, Message, XOnlyPublicKey, ellswift::ElligatorSwift, schnorr::Signature,
};
use rand::{RngCore, rngs::OsRng};
use sha2::{Digest, Sha256};

use super::{
    AuthorityKey, AuthorityPublicKey, CERTIFICATE_LEN,
    authority::random_secret,
    resolver::{StaticKey, secp},
};

/// What a server presents in every handshake. Made once and shared by all connections: a fresh one
/// costs as much as a handshake.
pub struct Identity {
    pub(super) key: StaticKey,
    pub(super) certificate: [u8; CERTIFICATE_LEN],
    not_valid_after: u32,
}

impl Identity {
    /// A fresh static key, certified for `lifetime` from `now_unix` on, in seconds since 1970.
    pub fn issue(authority: &AuthorityKey, now_unix: u32, lifetime: Duration) -> Self {
        let pair = Keypair::from_secret_key(secp(), &random_secret());
        let mut aux = [0; 32];
        OsRng.fill_bytes(&mut aux);
        let encoded = ElligatorSwift::from_seckey(secp(), pair.secret_key(), Some(aux));
        let lifetime = u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX);
        let certificate = Certificate {
            version: VERSION,
            valid_from: now_unix.saturating_sub(BACKDATED),
            not_valid_after: now_unix.saturating_add(lifetime),
        };
        let public = pair.x_only_public_key().0;
        Self {
            key: StaticKey::new(&pair.secret_key(), &encoded),
            certificate: certificate.sign(authority, &public),
            not_valid_after: certificate.not_valid_after,
        }
    }

    /// When the certificate expires, in seconds since 1970; connections open at that time continue.
    pub fn not_valid_after(&self) -> u32 {
        self.not_valid_after
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("not_valid_after", &self.not_valid_after)
            .finish_non_exhaustive()
    }
}

/// What an authority signs, apart from the static key.
#[derive(Clone, Copy)]
struct Certificate {
    version: u16,
    valid_from: u32,
    not_valid_after: u32,
}

impl Certificate {
    /// The fields, then the signature of them and of `key`.
    fn sign(self, authority: &AuthorityKey, key: &XOnlyPublicKey) -> [u8; CERTIFICATE_LEN] {
        let mut aux = [0; 32];
        OsRng.fill_bytes(&mut aux);
        let fields = self.encode();
        let message = signed_message(&fields, key);
        let signature = secp().sign_schnorr_with_aux_rand(&message, &authority.0, &aux);
        let mut bytes = [0; CERTIFICATE_LEN];
        bytes[..FIELDS_LEN].copy_from_slice(&fields);
        bytes[FIELDS_LEN..].copy_from_slice(signature.as_ref());
        bytes
    }

    fn encode(self) -> [u8; FIELDS_LEN] {
        let mut fields = [0; FIELDS_LEN];
        fields[..2].copy_from_slice(&self.version.to_le_bytes());
        fields[2..6].copy_from_slice(&self.valid_from.to_le_bytes());
        fields[6..].copy_from_slice(&self.not_valid_after.to_le_bytes());
        fields
    }

    fn decode(fields: &[u8; FIELDS_LEN]) -> Self {
        let [v0, v1, f0, f1, f2, f3, u0, u1, u2, u3] = *fields;
        Self {
            version: u16::from_le_bytes([v0, v1]),
            valid_from: u32::from_le_bytes([f0, f1, f2, f3]),
            not_valid_after: u32::from_le_bytes([u0, u1, u2, u3]),
        }
    }
}

/// Whether `certificate` vouches for `key` at `now_unix`. If the user pinned no authority, the
/// signature is not checked; the server is then whoever answered.
pub(super) fn check_certificate(
    certificate: &[u8; CERTIFICATE_LEN],
    key: &XOnlyPublicKey,
    authority: Option<&AuthorityPublicKey>,
    now_unix: u32,
) -> Result<(), CertificateError> {
    let mut fields = [0; FIELDS_LEN];
    let mut signature = [0; CERTIFICATE_LEN - FIELDS_LEN];
    fields.copy_from_slice(&certificate[..FIELDS_LEN]);
    signature.copy_from_slice(&certificate[FIELDS_LEN..]);
    let Certificate { version, valid_from, not_valid_after } = Certificate::decode(&fields);
    if version != VERSION {
        return Err(CertificateError::Version(version));
    }
    if let Some(authority) = authority {
        Signature::from_slice(&signature)
            .and_then(|signature| {
                secp().verify_schnorr(&signature, &signed_message(&fields, key), &authority.0)
            })
            .map_err(|_| CertificateError::Signature(*authority))?;
    }
    if now_unix < valid_from.saturating_sub(SKEW) {
        return Err(CertificateError::NotYetValid { valid_from, now: now_unix });
    }
    if now_unix > not_valid_after.saturating_add(SKEW) {
        return Err(CertificateError::Expired { not_valid_after, now: now_unix });
    }
    Ok(())
}

fn signed_message(fields: &[u8; FIELDS_LEN], key: &XOnlyPublicKey) -> Message {
    let digest = Sha256::new().chain_update(fields).chain_update(key.serialize()).finalize();
    Message::from_digest(digest.into())
}

/// Why a certificate is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    #[error("its version is {0}, and only 0 is known")]
    Version(u16),
    #[error("it is not signed by the authority {0}")]
    Signature(AuthorityPublicKey),
    #[error("it is valid from {valid_from} on, but this clock says {now} (seconds since 1970)")]
    NotYetValid { valid_from: u32, now: u32 },
    #[error("it was valid until {not_valid_after}, but this clock says {now} (seconds since 1970)")]
    Expired { not_valid_after: u32, now: u32 },
}

const VERSION: u16 = 0;
const FIELDS_LEN: usize = 10;
/// How far before its issue a certificate starts, in seconds. A miner whose clock is behind this
/// one would refuse one that starts now; a clock set to the wrong time zone is up to 14 hours
/// behind, and nothing is lost by starting early.
const BACKDATED: u32 = 24 * 60 * 60;
/// How wrong this machine's clock may be, in seconds; the reference client allows the same.
const SKEW: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u32 = 1_800_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    fn public(identity: &Identity) -> XOnlyPublicKey {
        let encoded = identity.key.as_bytes()[32..].try_into().unwrap();
        let key = bitcoin::secp256k1::PublicKey::from_ellswift(ElligatorSwift::from_array(encoded));
        key.x_only_public_key().0
    }

    #[test]
    fn a_certificate_starts_before_it_is_issued_and_ends_when_told() {
        let authority = AuthorityKey::generate();
        let identity = Identity::issue(&authority, NOW, HOUR);
        assert_eq!(identity.not_valid_after(), NOW + 3600);
        let check = |now| {
            let trusted = Some(authority.public());
            check_certificate(&identity.certificate, &public(&identity), trusted.as_ref(), now)
        };
        let (first, last) = (NOW - BACKDATED - SKEW, NOW + 3600 + SKEW);
        for now in [first, NOW, NOW + 3600, last] {
            assert_eq!(check(now), Ok(()), "{now}");
        }
        let early = CertificateError::NotYetValid { valid_from: NOW - BACKDATED, now: first - 1 };
        assert_eq!(check(first - 1), Err(early));
        let late = CertificateError::Expired { not_valid_after: NOW + 3600, now: last + 1 };
        assert_eq!(check(last + 1), Err(late));
    }

    #[test]
    fn the_limits_of_the_clock_do_not_wrap() {
        let authority = AuthorityKey::generate();
        for (now, lifetime) in [(0, Duration::ZERO), (u32::MAX, HOUR), (NOW, Duration::MAX)] {
            let identity = Identity::issue(&authority, now, lifetime);
            let key = public(&identity);
            let trusted = authority.public();
            assert_eq!(
                check_certificate(&identity.certificate, &key, Some(&trusted), now),
                Ok(()),
                "{now} {lifetime:?}"
            );
        }
        assert_eq!(Identity::issue(&authority, NOW, Duration::MAX).not_valid_after(), u32::MAX);
    }

    #[test]
    fn a_changed_certificate_vouches_for_nobody() {
        let authority = AuthorityKey::generate();
        let identity = Identity::issue(&authority, NOW, HOUR);
        let (key, trusted) = (public(&identity), authority.public());
        for at in 0..CERTIFICATE_LEN {
            let mut certificate = identity.certificate;
            certificate[at] ^= 0x40;
            let checked = check_certificate(&certificate, &key, Some(&trusted), NOW);
            let expected = match at {
                0 => CertificateError::Version(0x40),
                1 => CertificateError::Version(0x4000),
                _ => CertificateError::Signature(trusted),
            };
            assert_eq!(checked, Err(expected), "byte {at}");
        }
        let other = public(&Identity::issue(&authority, NOW, HOUR));
        assert_eq!(
            check_certificate(&identity.certificate, &other, Some(&trusted), NOW),
            Err(CertificateError::Signature(trusted))
        );
    }

    #[test]
    fn without_a_trusted_authority_dates_and_version_still_count() {
        let identity = Identity::issue(&AuthorityKey::generate(), NOW, HOUR);
        let key = public(&identity);
        assert_eq!(check_certificate(&identity.certificate, &key, None, NOW), Ok(()));
        let late = check_certificate(&identity.certificate, &key, None, NOW + 2 * 3600);
        assert!(matches!(late, Err(CertificateError::Expired { .. })), "{late:?}");
        let mut newer = identity.certificate;
        newer[0] = 1;
        assert_eq!(check_certificate(&newer, &key, None, NOW), Err(CertificateError::Version(1)));
    }
}
