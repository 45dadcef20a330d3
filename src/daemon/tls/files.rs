//! The operator's own certificate and key, in PEM.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use memchr::memmem;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use zeroize::Zeroizing;

use super::{TlsError, expiry::not_after, server_config};

/// What was read. If equal, nothing has changed.
#[derive(PartialEq)]
pub(super) struct Files {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Zeroizing<Vec<u8>>),
}

impl Files {
    pub(super) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: (
                certificate.to_owned(),
                read("stratum.tls.certificate_file", certificate)?,
            ),
            key: (key.to_owned(), Zeroizing::new(read("stratum.tls.key_file", key)?)),
        })
    }

    /// Whether it is valid for some more days.
    pub(super) fn check_end(&self, now: u64) -> Result<(), TlsError> {
        let (path, pem) = &self.certificate;
        let first = CertificateDer::pem_slice_iter(pem).next().and_then(Result::ok);
        // A certificate that this parser cannot read may still be valid.
        let Some(end) = first.and_then(|it| not_after(&it)) else { return Ok(()) };
        let left_s = i128::from(end) - i128::from(now);
        let days = i64::try_from(left_s.div_euclid(DAY_S)).unwrap_or(i64::MAX);
        if days >= DAYS_LEFT { Ok(()) } else { Err(TlsError::Ends { path: path.clone(), days }) }
    }

    pub(super) fn server_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let ((certificate, pem), (key_file, key_pem)) = (&self.certificate, &self.key);
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.unwrap_or_default();
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.clone()));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| {
            let is_locked = memmem::find(key_pem, b"ENCRYPTED").is_some();
            let error = if is_locked { TlsError::LockedKey } else { TlsError::NoKey };
            error(key_file.clone())
        })?;
        server_config(chain, key).map_err(|error| TlsError::Unusable {
            certificate: certificate.clone(),
            key: key_file.clone(),
            error,
        })
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LEN_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(TlsError::Read { key, path: path.to_owned(), error }),
    }
}

const DAY_S: i128 = 86_400;
/// Certificates of 6 days are renewed with 3 left, those of 90 with 30.
const DAYS_LEFT: i64 = 2;
/// A chain has some 6 kB.
const LEN_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_is_wrong_with_files_is_said_with_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let told = |crt: &str, pem: &str| {
            fs::write(&certificate, crt).unwrap();
            fs::write(&key, pem).unwrap();
            let tried = Files::read(&certificate, &key).and_then(|it| it.server_config());
            tried.map(drop).map_err(|error| error.to_string())
        };
        let ((crt, pem), (_, other)) = (pair("one.example"), pair("two.example"));
        assert_eq!(told(&crt, &pem), Ok(()));
        assert_eq!(told(&format!("words before\n{crt}"), &pem), Ok(()));
        for (crt, pem, what) in [
            (crt.as_str(), other.as_str(), "do not match"),
            (&crt, &crt, "key_file) holds no private key"),
            (&pem, &pem, "certificate_file) holds no certificate"),
            ("", &pem, "certificate_file) holds no certificate"),
            (&crt, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "openssl pkey"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &pem,
                "do not match",
            ),
        ] {
            let told = told(crt, pem).unwrap_err();
            assert!(told.contains(what), "{told}");
            assert!(told.contains("tls.crt") || told.contains("tls.key"), "{told}");
        }
        let end = |at| Files::read(&certificate, &key).and_then(|it| it.check_end(at));
        fs::write(&certificate, pair("one.example").0).unwrap();
        // rcgen's are for ever, nearly.
        assert!(end(0).is_ok());
        let told = end(1 << 40).unwrap_err().to_string();
        assert!(told.contains("certificate_file) has expired: renew it"), "{told}");
        fs::remove_file(&key).unwrap();
        let told = Files::read(&certificate, &key).err().unwrap().to_string();
        assert!(told.contains("tls.key (stratum.tls.key_file) cannot be read"), "{told}");
    }
}
