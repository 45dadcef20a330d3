//! The first bytes of a connection tell which protocol is spoken on it.
//!
//! A Stratum V2 client begins with a 64-byte EllSwift key, which is noise: it may begin like JSON,
//! like TLS or like anything else. So nothing is decided by a first byte alone.

use std::{borrow::Cow, sync::Arc, time::Instant};

use super::{browser, tls::TlsAvailability};
use crate::{
    books::client_mistakes::ClientMistake,
    stratum::{Closing, Config, Effects, Origin, Protocol},
    sv1,
    sv2::{self, noise::Identity},
    work::Work,
};

/// A connection's session, whatever it speaks.
#[derive(Debug)]
pub(super) enum AnySession {
    /// Nothing decisive has been received yet.
    Unknown(Box<UndecidedSession>),
    Sv1(Box<sv1::Sv1Session>),
    Sv2(Box<sv2::Sv2Link>),
}

/// A client whose protocol is not known yet.
#[derive(Debug)]
pub(super) struct UndecidedSession {
    config: Arc<Config>,
    identity: Arc<Identity>,
    /// Passed on to the session that it becomes.
    origin: Option<Origin>,
    tls: TlsAvailability,
    began: Instant,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum DetectedProtocol {
    Sv1,
    Sv2,
    Http,
    Tls,
    Proxy,
}

impl AnySession {
    pub(super) fn new(
        config: Arc<Config>,
        identity: Arc<Identity>,
        origin: Origin,
        tls: TlsAvailability,
        now: Instant,
    ) -> Self {
        let origin = Some(origin);
        Self::Unknown(Box::new(UndecidedSession { config, identity, origin, tls, began: now }))
    }
}

impl UndecidedSession {
    /// The session for what `inbox` begins with; none while that is undecided.
    fn start_session(
        &mut self,
        inbox: &[u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Option<AnySession>, Closing> {
        let Some(speaks) = detect_protocol(inbox) else { return Ok(None) };
        let Some(mut origin) = self.origin.take() else { return Ok(None) };
        let config = Arc::clone(&self.config);
        origin.is_secured = self.tls.is_secured();
        match speaks {
            DetectedProtocol::Sv2 | DetectedProtocol::Tls | DetectedProtocol::Proxy
                if origin.is_secured =>
            {
                Err(Closing::Violation(Cow::Borrowed(V1_ALONE)))
            }
            DetectedProtocol::Sv1 => {
                Ok(Some(AnySession::Sv1(Box::new(sv1::Sv1Session::new(config, origin, work, now)))))
            }
            DetectedProtocol::Sv2 => {
                let identity = Arc::clone(&self.identity);
                let link = sv2::Sv2Link::new(config, identity, origin, work, now);
                Ok(Some(AnySession::Sv2(Box::new(link))))
            }
            DetectedProtocol::Http => {
                let dashboard = config.dashboard;
                let shown = browser::Dashboard::for_peer(dashboard, origin.peer.ip());
                browser::answer(inbox, shown, out);
                origin.roster.client_mistakes().note(
                    origin.peer,
                    ClientMistake::Browser { dashboard },
                    now,
                );
                Err(Closing::Violation(Cow::Borrowed(HTTP)))
            }
            DetectedProtocol::Tls => {
                let is_enabled = !matches!(self.tls, TlsAvailability::Off);
                origin.roster.client_mistakes().note(
                    origin.peer,
                    ClientMistake::Tls { is_enabled },
                    now,
                );
                let why = if is_enabled { NO_CERTIFICATE } else { NO_TLS };
                Err(Closing::Violation(Cow::Borrowed(why)))
            }
            DetectedProtocol::Proxy => {
                origin.roster.client_mistakes().note(origin.peer, ClientMistake::ProxyHeader, now);
                Err(Closing::Violation(Cow::Borrowed(NO_PROXY)))
            }
        }
    }
}

/// Which protocol `first` is the beginning of; none when more bytes are needed to tell.
fn detect_protocol(first: &[u8]) -> Option<DetectedProtocol> {
    if is_client_hello(first) {
        return Some(DetectedProtocol::Tls);
    }
    if PROXY_HEADS.iter().any(|head| first.starts_with(head)) {
        return Some(DetectedProtocol::Proxy);
    }
    if browser::is_http(first) && (first.len() >= KEY_LEN || first.contains(&b'\n')) {
        return Some(DetectedProtocol::Http);
    }
    if first.split(|byte| *byte == b'\n').any(is_request) {
        return Some(DetectedProtocol::Sv1);
    }
    if first.len() < KEY_LEN {
        // Any other client that starts with a line of text is told by SV1 that it is wrong.
        let line = memchr::memchr(b'\n', first).and_then(|end| first.get(..end));
        let line = line.unwrap_or_default();
        let printable = line.trim_ascii_end().iter().all(|byte| (b' '..=b'~').contains(byte));
        return (printable && line.len() >= GREETING_LEN_MIN).then_some(DetectedProtocol::Sv1);
    }
    // 64 random bytes are text once in 10^26.
    let key = &first[..KEY_LEN];
    Some(if is_text(key) || is_latin_json(key) {
        DetectedProtocol::Sv1
    } else {
        DetectedProtocol::Sv2
    })
}

/// The beginning of a request with a name in Latin-1: `{"`, then printable bytes of that, and most
/// of them ASCII. A key looks like that once in 10^20.
fn is_latin_json(first: &[u8]) -> bool {
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | 0xA0..);
    if first.iter().filter(|byte| !byte.is_ascii()).count() * 4 > first.len() {
        return false;
    }
    let rest = first.trim_ascii_start().strip_prefix(b"{");
    rest.is_some_and(|rest| {
        rest.trim_ascii_start().starts_with(b"\"") && rest.iter().all(is_printable)
    })
}

/// True for what may be a whole request. Braces alone do not make one: one key in 65,536 begins and
/// ends with them (seen in load tests).
fn is_request(line: &[u8]) -> bool {
    // Firmware has been seen to send its strings with the zero byte that ends them.
    let line = line.trim_ascii();
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    line.starts_with(b"{")
        && line.ends_with(b"}")
        && memchr::memmem::find(line, b"\"method\"").is_some()
}

/// UTF-8 (its last character may be cut off) without control characters other than white space.
fn is_text(bytes: &[u8]) -> bool {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !valid.chars().any(|c| c.is_control() && !c.is_ascii_whitespace())
}

/// A TLS record of a handshake whose message is a ClientHello of the length that the record says
/// (RFC 8446, 5.1 and 4): a key passes for one once in 2^56.
fn is_client_hello(first: &[u8]) -> bool {
    let [0x16, 3, 0..=4, len_high, len_low, 1, 0, hello_high, hello_low, ..] = *first else {
        return false;
    };
    let record = u16::from_be_bytes([len_high, len_low]);
    record.checked_sub(4) == Some(u16::from_be_bytes([hello_high, hello_low]))
}

/// How much of a ClientHello has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ClientHello {
    /// It is something else.
    Other,
    /// It is one or may be, and more bytes are needed.
    Begins,
    Whole,
}

pub(super) fn hello(first: &[u8]) -> ClientHello {
    let fits = |(at, byte): (usize, &u8)| match at {
        0 => *byte == 0x16,
        1 => *byte == 3,
        2 => *byte <= 4,
        5 => *byte == 1,
        6 => *byte == 0,
        _ => true,
    };
    let Some(&[_, _, _, high, low, ..]) = first.first_chunk::<HELLO_HEAD_LEN>() else {
        return if first.iter().enumerate().all(fits) {
            ClientHello::Begins
        } else {
            ClientHello::Other
        };
    };
    if !is_client_hello(first) {
        return ClientHello::Other;
    }
    let record = usize::from(u16::from_be_bytes([high, low]));
    if first.len() < RECORD_HEAD_LEN + record { ClientHello::Begins } else { ClientHello::Whole }
}

impl Protocol for AnySession {
    fn on_bytes(
        &mut self,
        inbox: &mut [u8],
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
        effects: &mut Effects,
    ) -> Result<usize, Closing> {
        match self {
            Self::Sv1(session) => session.on_bytes(inbox, work, now, out, effects),
            Self::Sv2(link) => link.on_bytes(inbox, work, now, out, effects),
            Self::Unknown(undecided) => match undecided.start_session(inbox, work, now, out)? {
                Some(session) => {
                    *self = session;
                    self.on_bytes(inbox, work, now, out, effects)
                }
                None => Ok(0),
            },
        }
    }

    fn on_work(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        match self {
            Self::Sv1(session) => Protocol::on_work(&mut **session, work, now, out),
            Self::Sv2(link) => link.on_work(work, now, out),
            Self::Unknown(_) => work.admits().map_err(Closing::SentAway),
        }
    }

    fn on_config(&mut self, config: &Arc<Config>, work: &Work, now: Instant) {
        match self {
            Self::Sv1(session) => session.on_config(config, work, now),
            Self::Sv2(link) => link.on_config(config, work, now),
            Self::Unknown(undecided) => undecided.config = Arc::clone(config),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Self::Sv1(session) => Protocol::deadline(&**session),
            Self::Sv2(link) => link.deadline(),
            Self::Unknown(undecided) => undecided.began + undecided.config.login_timeout,
        }
    }

    fn on_deadline(&mut self, work: &Work, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        match self {
            Self::Sv1(session) => Protocol::on_deadline(&mut **session, work, now, out),
            Self::Sv2(link) => link.on_deadline(work, now, out),
            Self::Unknown(undecided) => {
                let timeout = undecided.config.login_timeout;
                let late = now >= undecided.began + timeout;
                if late { Err(Closing::LoginTimeout(timeout)) } else { Ok(()) }
            }
        }
    }

    fn is_proven(&self) -> bool {
        match self {
            Self::Sv1(session) => session.is_proven(),
            Self::Sv2(link) => link.is_proven(),
            Self::Unknown(_) => false,
        }
    }

    fn on_limit(&mut self, why: &Closing, out: &mut Vec<u8>) {
        match self {
            Self::Sv1(session) => session.on_limit(why, out),
            Self::Sv2(link) => link.on_limit(why, out),
            Self::Unknown(_) => {}
        }
    }

    fn on_eviction(&mut self, now: Instant, out: &mut Vec<u8>) -> Result<(), Closing> {
        match self {
            Self::Sv1(session) => session.on_eviction(now, out),
            Self::Sv2(link) => link.on_eviction(now, out),
            Self::Unknown(_) => Ok(()),
        }
    }

    fn on_stop(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Sv1(session) => session.on_stop(out),
            Self::Sv2(link) => link.on_stop(out),
            Self::Unknown(_) => {}
        }
    }
}

/// The header of a TLS record.
const RECORD_HEAD_LEN: usize = 5;
const HELLO_HEAD_LEN: usize = 9;
/// An EllSwift encoding.
const KEY_LEN: usize = 64;
/// This many of a key's bytes are printable once in 10^5, and then the key would also have to
/// arrive in pieces, cut after a newline.
const GREETING_LEN_MIN: usize = 12;
/// Versions 1 and 2 of HAProxy's header, the latter without its last byte.
const PROXY_HEADS: [&[u8]; 2] = [b"PROXY TCP", b"\r\n\r\n\0\r\nQUIT"];
const HTTP: &str = "is a web browser: the dashboard is on another port (api.listen)";
const NO_TLS: &str = "speaks TLS, which is off here (stratum.tls.enabled)";
const NO_CERTIFICATE: &str =
    "speaks TLS, for which there is no certificate here (stratum.tls): the dashboard says why";
const V1_ALONE: &str = "speaks something other than Stratum V1 inside TLS: V2 is encrypted by itself, so give it \
                        a stratum2+tcp:// address";
const NO_PROXY: &str =
    "sends a PROXY header from an address that is not in stratum.trusted_proxies";

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds ever longer prefixes of `bytes`: what they are recognized as, and after how many
    /// bytes.
    fn case(bytes: &[u8]) -> Option<(usize, DetectedProtocol)> {
        (1..=bytes.len()).find_map(|len| Some((len, detect_protocol(&bytes[..len])?)))
    }

    fn key(begin: &[u8]) -> [u8; 64] {
        let mut key = [0xE7; 64];
        key[..begin.len()].copy_from_slice(begin);
        key
    }

    #[test]
    fn json_is_sv1_with_its_first_line() {
        let line = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
        assert_eq!(case(line), Some((line.len() - 1, DetectedProtocol::Sv1)));
        let spaced =
            b"\r\n\n  {\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"\xc3\xa4\"]} \r\n";
        assert_eq!(case(spaced), Some((spaced.len() - 3, DetectedProtocol::Sv1)));
        let long =
            [b"{\"id\":1,\"method\":\"mining.configure\",\"params\":[".as_slice(), &[b' '; 64]]
                .concat();
        assert_eq!(case(&long), Some((64, DetectedProtocol::Sv1)));
    }

    #[test]
    fn keys_are_keys_whatever_they_begin_like() {
        for begin in [
            b"".as_slice(),
            b"{\"id\":1,\"method\":",
            b"{\n",
            b"{}\n",
            b"\n\n\n\n",
            b" \t\r\n{",
            b"\x16\x03\x01",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\x00",
            b"PROXY ",
            b"\r\n\r\n\0\r\nQUI",
        ] {
            assert_eq!(case(&key(begin)), Some((64, DetectedProtocol::Sv2)), "{begin:x?}");
        }
        for braces in [b"{".as_slice(), b" {", b"\xE7\n{", b"{\xE7\n\n{"] {
            let mut key = key(braces);
            key[63] = b'}';
            assert_eq!(
                case(&key),
                Some((64, DetectedProtocol::Sv2)),
                "{braces:x?} and }} at the end"
            );
        }
        // All at once, as keys usually arrive.
        assert_eq!(detect_protocol(&key(b"a line that greets us\n")), Some(DetectedProtocol::Sv2));
    }

    #[test]
    fn other_protocols_are_recognized() {
        assert_eq!(
            case(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
            Some((9, DetectedProtocol::Tls))
        );
        assert_eq!(case(b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"), Some((9, DetectedProtocol::Proxy)));
        assert_eq!(case(b"\r\n\r\n\0\r\nQUIT\n\x21\x11"), Some((11, DetectedProtocol::Proxy)));
        assert_eq!(case(b"GET / HTTP/1.1\r\n"), Some((16, DetectedProtocol::Http)));
        let long = [b"GET /".as_slice(), &[b'a'; 90]].concat();
        assert_eq!(case(&long), Some((64, DetectedProtocol::Http)));
        assert_eq!(case(b"some scanner's greeting\r\n"), Some((25, DetectedProtocol::Sv1)));
    }

    #[test]
    fn a_client_hello_is_recognized_early_and_waited_for() {
        let begun = b"\x16\x03\x01\x00\x08\x01\x00\x00\x04\x03\x03\xAA\xBB";
        for len in 0..begun.len() {
            assert_eq!(hello(&begun[..len]), ClientHello::Begins, "{len}");
        }
        assert_eq!(hello(begun), ClientHello::Whole);
        assert_eq!(hello(&[begun.as_slice(), b"more"].concat()), ClientHello::Whole);
        for (len, other) in [
            (1, b"{\"id\":1,\"m".as_slice()),
            (1, b"\xE7\xE7"),
            (2, b"\x16\xE7"),
            (3, b"\x16\x03\x05"),
            (6, b"\x16\x03\x01\x00\x08\x02\x00\x00\x04"),
            (9, b"\x16\x03\x01\x00\x08\x01\x00\x00\x05"),
        ] {
            let told = (1..=other.len()).find(|len| hello(&other[..*len]) == ClientHello::Other);
            assert_eq!(told, Some(len), "{other:x?}");
        }
    }

    #[test]
    fn odd_first_lines_are_sv1_all_the_same() {
        let nul = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\0\n";
        assert_eq!(case(nul).map(|it| it.1), Some(DetectedProtocol::Sv1));
        let latin = b"{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"J\xfcrgen.garage.of.Wei\xdfenburg\",\"x\"]";
        assert_eq!(case(latin), Some((64, DetectedProtocol::Sv1)));
    }
}
