//! What a proxy says about its client: the PROXY header, versions 1 and 2, as HAProxy's
//! `proxy-protocol.txt` specifies it. Pure: `proxy` reads it from the socket.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use thiserror::Error;

/// How much of a header has arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderProgress {
    /// All bytes so far belong to it, and more must follow.
    Partial,
    /// Its length in bytes, and the client that it names; none: the proxy speaks for itself, as its
    /// health checks do.
    Whole(usize, Option<SocketAddr>),
}

/// Why there is no header. Reads on after "the proxy".
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ProxyHeaderError {
    #[error(
        "did not begin with a PROXY header: switch it on there (HAProxy: send-proxy-v2; nginx: \
         proxy_protocol on), or take its network out of stratum.trusted_proxies"
    )]
    Missing,
    #[error("sent a malformed PROXY header: see whether two proxies write into each other's")]
    Garbled,
    #[error(
        "sent a PROXY header of {0} bytes, and {HEADER_LEN_MAX} is the most: have it send fewer fields"
    )]
    TooLong(usize),
}

/// What `bytes` begin with.
pub fn read(bytes: &[u8]) -> Result<HeaderProgress, ProxyHeaderError> {
    let len = match bytes.first() {
        None => return Ok(HeaderProgress::Partial),
        Some(b'P') => len_v1(bytes)?,
        Some(_) => len_v2(bytes)?,
    };
    let Some(header) = len.and_then(|len| bytes.get(..len)) else {
        return Ok(HeaderProgress::Partial);
    };
    let wanted = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (header, used) =
        ProxyHeader::parse(header, wanted).map_err(|_| ProxyHeaderError::Garbled)?;
    let client = header.proxied_address().map(|it| canonical(it.source));
    Ok(HeaderProgress::Whole(used, client))
}

/// The length of a version 1 header, once its end has arrived.
fn len_v1(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let seen = &bytes[..bytes.len().min(V1_HEAD.len())];
    if !V1_HEAD.starts_with(seen) {
        return Err(ProxyHeaderError::Missing);
    }
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(V1_LEN_MAX)]) {
        Some(end) => Ok(Some(end + 1)),
        None if bytes.len() >= V1_LEN_MAX => Err(ProxyHeaderError::Garbled),
        None => Ok(None),
    }
}

/// The length of a version 2 header, once that has arrived.
fn len_v2(bytes: &[u8]) -> Result<Option<usize>, ProxyHeaderError> {
    let seen = &bytes[..bytes.len().min(V2_HEAD.len())];
    if !V2_HEAD.starts_with(seen) {
        return Err(ProxyHeaderError::Missing);
    }
    let Some(&[high, low]) = bytes.get(V2_HEAD_LEN - 2..V2_HEAD_LEN) else { return Ok(None) };
    let len = V2_HEAD_LEN + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_LEN_MAX { Err(ProxyHeaderError::TooLong(len)) } else { Ok(Some(len)) }
}

/// Limits are by address, so each address must have one form.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

const V1_HEAD: &[u8] = b"PROXY ";
/// From the specification, 2.1: two IPv6 addresses at full length.
const V1_LEN_MAX: usize = 107;
const V2_HEAD: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Including version, command, family, and the length of the rest.
const V2_HEAD_LEN: usize = 16;
/// The specification wants a header to fit into a segment of 536 bytes; fields about TLS make some
/// longer.
pub(crate) const HEADER_LEN_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [V2_HEAD, &[command, family], &len, rest].concat()
    }

    /// Feeds `bytes` one at a time: nothing after the header is consumed.
    fn case(bytes: &[u8]) -> Result<HeaderProgress, ProxyHeaderError> {
        for len in 0..bytes.len() {
            match read(&bytes[..len]) {
                Ok(HeaderProgress::Partial) => {}
                end => return end,
            }
        }
        read(bytes)
    }

    fn client(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn both_versions_name_the_client() {
        let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 23334\r\n";
        let more = [v1.as_slice(), b"{\"id\":1"].concat();
        assert_eq!(case(&more), Ok(HeaderProgress::Whole(v1.len(), client("192.0.2.7:4711"))));
        let long = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 23334\r\n";
        assert_eq!(case(long), Ok(HeaderProgress::Whole(long.len(), client("[2001:db8::7]:4711"))));

        let four = v2(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x67, 0x5B, 0x26]);
        let more = [four.as_slice(), b"\x16\x03\x01"].concat();
        assert_eq!(case(&more), Ok(HeaderProgress::Whole(four.len(), client("192.0.2.7:4711"))));
        let mut rest = [0; 36];
        rest[..16]
            .copy_from_slice(&"::ffff:192.0.2.7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        rest[32..34].copy_from_slice(&4711u16.to_be_bytes());
        let six = v2(0x21, 0x21, &rest);
        assert_eq!(case(&six), Ok(HeaderProgress::Whole(six.len(), client("192.0.2.7:4711"))));
        // With a checksum and HAProxy's fields about TLS.
        let fields = [&rest[..], &[3, 0, 4, 1, 2, 3, 4, 0x20, 0, 5, 0, 0, 0, 0, 0]].concat();
        let six = v2(0x21, 0x21, &fields);
        assert_eq!(case(&six), Ok(HeaderProgress::Whole(six.len(), client("192.0.2.7:4711"))));
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        assert_eq!(case(b"PROXY UNKNOWN\r\n"), Ok(HeaderProgress::Whole(15, None)));
        let more = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(case(more), Ok(HeaderProgress::Whole(more.len(), None)));
        assert_eq!(case(&v2(0x20, 0, &[])), Ok(HeaderProgress::Whole(16, None)));
        let checked = v2(0x20, 0x11, &[0; 12]);
        assert_eq!(case(&checked), Ok(HeaderProgress::Whole(28, None)));
        assert_eq!(case(&v2(0x21, 0x31, &[b'/'; 216])), Ok(HeaderProgress::Whole(232, None)));
    }

    #[test]
    fn a_missing_header_is_distinguished_from_a_bad_one() {
        for other in [
            b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n".as_slice(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
            b"POST / HTTP/1.1\r\n",
            b"PROXYING\r\n",
            b"\r\n\r\n\r\n",
            b"\r\n\r\n\0\r\nQUIT\r",
        ] {
            assert_eq!(case(other), Err(ProxyHeaderError::Missing), "{other:x?}");
        }
        for bad in [
            b"PROXY \r\n".as_slice(),
            b"PROXY \n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
            b"PROXY TCP4 ::1 ::1 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
            &[b"PROXY TCP6 ".as_slice(), &[b':'; 200]].concat(),
        ] {
            assert_eq!(case(bad), Err(ProxyHeaderError::Garbled), "{bad:?}");
        }
        for bad in [
            v2(0x11, 0x11, &[0; 12]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x11, &[]),
            v2(0x21, 0x21, &[0; 12]),
            v2(0x21, 0x31, &[0; 215]),
            v2(0x21, 0x44, &[0; 36]),
        ] {
            assert_eq!(case(&bad), Err(ProxyHeaderError::Garbled), "{bad:x?}");
        }
        assert_eq!(case(&v2(0x21, 0x11, &[0; 2000])), Err(ProxyHeaderError::TooLong(2016)));
        assert_eq!(
            case(&v2(0x21, 0x11, &[0; u16::MAX as usize])),
            Err(ProxyHeaderError::TooLong(65_551))
        );
    }
}
