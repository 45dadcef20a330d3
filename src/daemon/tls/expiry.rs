//! Reads when a certificate expires (RFC 5280, 4.1), and nothing else of it.

use time::{Date, Month, PrimitiveDateTime, Time};

/// In seconds since 1970; none: this is not a well-formed certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<u64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields, VERSION)?.1;
    }
    // The serial number, the signature algorithm, and the issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        fields = element(fields, tag)?.1;
    }
    let (validity, _) = element(fields, SEQUENCE)?;
    let (_, rest) = time_at(validity)?;
    Some(time_at(rest)?.0)
}

/// The content of the element at the beginning of `bytes`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[first, len], rest) = bytes.split_first_chunk()?;
    if first != tag {
        return None;
    }
    if len < LONG {
        return rest.split_at_checked(len.into());
    }
    let (digits, rest) =
        rest.split_at_checked(usize::from(len - LONG)).filter(|it| it.0.len() <= 3)?;
    let len = digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit));
    rest.split_at_checked(len)
}

fn time_at(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (text, rest) = element(bytes, UTC_TIME).or_else(|| element(bytes, LONG_TIME))?;
    let is_short = bytes.first() == Some(&UTC_TIME);
    let digits = text.strip_suffix(b"Z").filter(|it| it.iter().all(u8::is_ascii_digit))?;
    let (year, digits) = digits.split_at_checked(if is_short { 2 } else { 4 })?;
    let number =
        |digits: &[u8]| digits.iter().fold(0_u16, |sum, it| sum * 10 + u16::from(it - b'0'));
    let year = match number(year) {
        year if !is_short => year,
        year if year < 50 => 2000 + year,
        year => 1900 + year,
    };
    let mut pairs = digits.chunks_exact(2).map(|pair| u8::try_from(number(pair)).ok());
    let mut next = || pairs.next().flatten();
    let date =
        Date::from_calendar_date(year.into(), Month::try_from(next()?).ok()?, next()?).ok()?;
    let time = Time::from_hms(next()?, next()?, next()?).ok()?;
    let unix_s = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some((u64::try_from(unix_s).unwrap_or_default(), rest))
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;
/// Left out in version 1 certificates.
const VERSION: u8 = 0xA0;
/// A length in the long form, whose bytes follow.
const LONG: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_in_both_ways_to_write_it() {
        for (year, unix_s) in [(2030, 1_893_456_000), (2049, 2_493_072_000), (2051, 2_556_144_000)]
        {
            let mut params = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
            let der = made.der();
            assert_eq!(not_after(der), Some(unix_s), "{year}");
            for len in 0..der.len() {
                not_after(&der[..len]);
            }
        }
        for none in [b"".as_slice(), b"0", b"0\x80", b"0\x84\xff\xff\xff\xff", b"0\x030\x01\x02"] {
            assert_eq!(not_after(none), None, "{none:x?}");
        }
    }
}
