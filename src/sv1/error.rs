//! Answers: yes, no and why, as miners' firmware expects them.

use crate::{stratum::Closing, work::Reject};

/// Appends the answer to a submit that was accepted, or to anything else that is simply granted.
pub(super) fn write_true(id: &[u8], out: &mut Vec<u8>) {
    write_result(id, b"true", out);
}

/// Appends an answer with `result`, which is JSON.
pub(super) fn write_result(id: &[u8], result: &[u8], out: &mut Vec<u8>) {
    for part in [b"{\"id\":", id, b",\"result\":", result, b",\"error\":null}\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends the answer to a refused submit.
pub(super) fn write_reject(id: &[u8], reject: Reject, out: &mut Vec<u8>) {
    write_error(id, wire_error(reject), out);
}

pub(super) fn write_method_not_found(id: &[u8], out: &mut Vec<u8>) {
    write_error(id, b"[-3,\"Method not found\",null]", out);
}

pub(super) fn write_bad_params(id: &[u8], out: &mut Vec<u8>) {
    write_error(id, b"[-2,\"Invalid parameters\",null]", out);
}

pub(super) fn write_too_many_logins(id: &[u8], out: &mut Vec<u8>) {
    write_error(id, b"[20,\"too-many-logins\",null]", out);
}

/// Says why the connection ends; `why` goes on after "you".
pub(super) fn write_notice(why: &Closing, out: &mut Vec<u8>) {
    let why = why.to_string().replace(['"', '\\'], "'");
    for part in [&b"{\"id\":null,\"result\":null,\"error\":[20,\"closed: you "[..], why.as_bytes()]
    {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\",null]}\n");
}

fn write_error(id: &[u8], error: &[u8], out: &mut Vec<u8>) {
    for part in [b"{\"id\":", id, b",\"result\":null,\"error\":", error, b"}\n"] {
        out.extend_from_slice(part);
    }
}

/// Codes that pools have used since slush's: 20 other, 21 stale, 22 duplicate, 23 low difficulty,
/// 24 unauthorized, 25 not subscribed. The texts are datum_gateway's.
fn wire_error(reject: Reject) -> &'static [u8] {
    match reject {
        Reject::UnknownJob => b"[20,\"unknown-work\",null]",
        Reject::StaleWork => b"[21,\"stale-work\",null]",
        Reject::StalePrevblk => b"[21,\"stale-prevblk\",null]",
        Reject::NtimeTooOld => b"[21,\"time-too-old\",null]",
        Reject::NtimeTooNew => b"[21,\"time-too-new\",null]",
        Reject::Duplicate => b"[22,\"duplicate\",null]",
        Reject::TooMany => b"[20,\"too-many-shares\",null]",
        Reject::HighHash => b"[23,\"high-hash\",null]",
        Reject::HashNotZero => b"[23,\"H-not-zero\",null]",
        Reject::BadVersion => b"[23,\"bad-version\",null]",
        Reject::BadExtranonce => b"[20,\"bad-extranonce2-size\",null]",
        Reject::Unauthorized => b"[24,\"unauthorized-worker\",null]",
        Reject::NotSubscribed => b"[25,\"not-subscribed\",null]",
        Reject::Malformed => b"[20,\"malformed-submit\",null]",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_texts_are_the_reasons_own() {
        for reject in Reject::ALL {
            let (code, text, ()): (i32, String, ()) =
                serde_json::from_slice(wire_error(reject)).unwrap();
            assert_eq!(text, reject.to_string());
            assert!((20..=25).contains(&code));
        }
    }

    #[test]
    fn ids_are_echoed_verbatim() {
        let mut out = Vec::new();
        write_true(b"\"a\\u0041\"", &mut out);
        assert_eq!(out, b"{\"id\":\"a\\u0041\",\"result\":true,\"error\":null}\n");
    }
}
