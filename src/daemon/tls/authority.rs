//! This gateway's own certificate authority: miners are given its certificate once; it then signs
//! the server certificates, for all names by which miners reach this machine.
//!
//! It is created once. If it exists and cannot be read, the operator has to resolve that: with a
//! new one, every miner would need another certificate.

use std::{
    fs::File,
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tracing::info;
use zeroize::Zeroizing;

use super::{TlsError, server_config};
use crate::{config::Config, daemon::authority::write};

/// The authority, and the certificate that it signed last.
pub(super) struct Authority {
    path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The authority's own certificate, for miners.
    certificate: Arc<str>,
    names: Arc<[String]>,
    /// When the current server certificate was signed.
    issued: u64,
}

/// The file with the authority's key and certificate.
pub(super) fn authority_file(config: &Config) -> PathBuf {
    config.ledger.data_dir.join("stratum-ca.pem")
}

/// Whether there is one; an error if it cannot be used.
pub(super) fn look(path: PathBuf) -> Result<bool, TlsError> {
    let is_there = path.exists();
    if is_there { Authority::load(path).map(|_| true) } else { Ok(false) }
}

impl Authority {
    pub(super) fn load_or_create(path: PathBuf) -> Result<Self, TlsError> {
        if path.exists() { Self::load(path) } else { Self::create(path) }
    }

    fn load(path: PathBuf) -> Result<Self, TlsError> {
        let mut text = Zeroizing::new(String::new());
        let read = File::open(&path).and_then(|file| file.take(LEN_MAX).read_to_string(&mut text));
        read.map_err(|error| failed(&path, "cannot be read", &error))?;
        let broken = |error: &dyn ToString| failed(&path, BROKEN, &error.to_string());
        // Only the certificate: a key may follow it, and this is given to anybody.
        let certificate = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let certificate = certificate.map(|(body, _)| format!("{BEGIN}{body}{END}\n"));
        let certificate = certificate.ok_or_else(|| broken(&"it holds no certificate"))?;
        let key = KeyPair::from_pem(&text).map_err(|error| broken(&error))?;
        Self::new(path, key, &certificate)
    }

    fn create(path: PathBuf) -> Result<Self, TlsError> {
        let failed_to = |error: &dyn ToString| failed(&path, "cannot be made", &error.to_string());
        let key = KeyPair::generate().map_err(|error| failed_to(&error))?;
        let certificate = own_params(&key).self_signed(&key).map_err(|error| failed_to(&error))?;
        let certificate = certificate.pem();
        let text = Zeroizing::new(format!("{}{certificate}", *Zeroizing::new(key.serialize_pem())));
        match write(&path, &text) {
            Ok(()) => info!(
                "created a certificate authority for TLS in {}; keep a copy of it: with another \
                 one, every miner needs another certificate",
                path.display()
            ),
            // Another gateway was faster, and its authority is the one that stays.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::load(path),
            Err(error) => return Err(failed(&path, "cannot be written", &error)),
        }
        Self::new(path, key, &certificate)
    }

    fn new(path: PathBuf, key: KeyPair, certificate: &str) -> Result<Self, TlsError> {
        let issuer = Issuer::new(own_params(&key), key);
        let certificate = certificate.into();
        Ok(Self { path, issuer, certificate, names: Arc::default(), issued: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn certificate(&self) -> Arc<str> {
        Arc::clone(&self.certificate)
    }

    pub(super) fn names(&self) -> Arc<[String]> {
        Arc::clone(&self.names)
    }

    /// Whether the current certificate is still good: it has these names, and less than half of its
    /// lifetime is over. By the wall clock, which may jump.
    pub(super) fn is_current(&self, names: &[String], now: u64) -> bool {
        *self.names == *names && now >= self.issued && now < self.issued + LIFETIME_S / 2
    }

    /// Signs a certificate for these names, with a key of its own.
    pub(super) fn issue(
        &mut self,
        names: Vec<String>,
        now: u64,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let failed_to =
            |error: &dyn ToString| failed(&self.path, "cannot sign", &error.to_string());
        let key = KeyPair::generate().map_err(|error| failed_to(&error))?;
        let mut params =
            CertificateParams::new(names.clone()).map_err(|error| failed_to(&error))?;
        params.distinguished_name = named("gatewayd".into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Miners' clocks differ.
        params.not_before = at(now.saturating_sub(DAY_S));
        params.not_after = at(now + LIFETIME_S);
        let signed = params.signed_by(&key, &self.issuer).map_err(|error| failed_to(&error))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let shown =
            server_config(vec![signed.der().clone()], key).map_err(|error| failed_to(&error))?;
        info!(names = names.join(","), "new TLS connections get a new certificate");
        (self.names, self.issued) = (names.into(), now);
        Ok(shown)
    }
}

/// The authority's parameters: they depend on its key alone, so they are the same each time.
fn own_params(key: &KeyPair) -> CertificateParams {
    let id = faster_hex::hex_string(&Sha256::digest(key.public_key_raw())[..4]);
    let mut params = CertificateParams::default();
    params.distinguished_name = named(format!("gatewayd authority {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 12, 31);
    params
}

fn named(name: String) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn at(unix_s: u64) -> OffsetDateTime {
    let unix_s = i64::try_from(unix_s).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn failed(path: &Path, what: &'static str, error: &dyn ToString) -> TlsError {
    TlsError::Authority { path: path.to_owned(), what, error: error.to_string() }
}

/// All names by which miners may reach this machine: its name and addresses, those it listens on,
/// and `more`.
pub(super) fn names(config: &Config, more: &[String]) -> Vec<String> {
    let mut all: Vec<String> = more.to_vec();
    all.extend(["localhost", "127.0.0.1", "::1"].map(String::from));
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !host.is_empty() && host.chars().all(is_part) {
        all.push(host.clone());
        if !host.contains('.') {
            all.push(format!("{host}.local"));
        }
    }
    let all_here = if_addrs::get_if_addrs().unwrap_or_default();
    let mut here: Vec<IpAddr> = all_here.iter().map(if_addrs::Interface::ip).collect();
    here.extend(OUTSIDE.into_iter().filter_map(address_towards));
    here.extend(config.stratum.listen.iter().map(|addr| addr.ip()));
    here.retain(|ip| !ip.is_unspecified() && !is_link_local(*ip));
    here.sort();
    all.extend(here.iter().map(ToString::to_string));
    let mut names = Vec::new();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.truncate(NAMES_MAX);
    names
}

/// This machine's address on the route there; nothing is sent. For systems where services may not
/// list all addresses.
fn address_towards(far: (IpAddr, IpAddr)) -> Option<IpAddr> {
    let (any, far) = far;
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((far, 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// Link-local addresses: nobody types one into a miner, since it needs the name of a network card.
fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Addresses reserved for documentation: outside any local network.
const OUTSIDE: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1))),
];
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const BROKEN: &str = "is damaged; restore the file from a copy. Without a copy, move it away: the \
                      next start creates a new authority, whose certificate every miner then needs";
const LEN_MAX: u64 = 16_384;
const DAY_S: u64 = 86_400;
/// Renewed at half of it. Miners do not care how long it is.
const LIFETIME_S: u64 = 90 * DAY_S;
/// A miner has room for about 4 kB of certificate; machines with containers have dozens of
/// addresses.
const NAMES_MAX: usize = 64;
