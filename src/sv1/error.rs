//! Answers, accepting or refusing with a reason, as miners' firmware expects them.

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
    let (code, name) = (code(reject), reject.name().as_bytes());
    let parts = [&b"{\"id\":"[..], id, b",\"result\":null,\"error\":[", code, b",\"", name];
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\",null]}\n");
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

pub(super) fn write_no_address(id: &[u8], out: &mut Vec<u8>) {
    write_error(id, b"[24,\"the user name must begin with your bitcoin address\",null]", out);
}

/// Appends a notice of why the connection ends; `why` reads on after "you".
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
/// 24 unauthorized, 25 not subscribed. The texts beside them are datum_gateway's.
const fn code(reject: Reject) -> &'static [u8; 2] {
    match reject {
        Reject::StaleWork | Reject::StalePrevblk | Reject::NtimeTooOld | Reject::NtimeTooNew => {
            b"21"
        }
        Reject::Duplicate => b"22",
        Reject::HighHash | Reject::HashNotZero | Reject::BadVersion => b"23",
        Reject::Unauthorized => b"24",
        Reject::NotSubscribed => b"25",
        Reject::UnknownJob | Reject::TooMany | Reject::BadExtranonce | Reject::Malformed => b"20",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each reason's line is, letter by letter: firmware compares them.
    #[test]
    fn a_refused_share_has_its_reasons_code_and_name() {
        let wanted = [
            (20, "unknown-work"),
            (21, "stale-work"),
            (21, "stale-prevblk"),
            (21, "time-too-old"),
            (21, "time-too-new"),
            (22, "duplicate"),
            (20, "too-many-shares"),
            (23, "high-hash"),
            (23, "H-not-zero"),
            (23, "bad-version"),
            (20, "bad-extranonce2-size"),
            (24, "unauthorized-worker"),
            (25, "not-subscribed"),
            (20, "malformed-submit"),
        ];
        assert_eq!(Reject::ALL.map(Reject::name), wanted.map(|(_, name)| name));
        for (reject, (code, name)) in Reject::ALL.into_iter().zip(wanted) {
            let mut out = Vec::new();
            write_reject(b"7", reject, &mut out);
            let line = format!("{{\"id\":7,\"result\":null,\"error\":[{code},\"{name}\",null]}}\n");
            assert_eq!(String::from_utf8(out).unwrap(), line);
        }
    }

    #[test]
    fn ids_are_echoed_verbatim() {
        let mut out = Vec::new();
        write_true(b"\"a\\u0041\"", &mut out);
        assert_eq!(out, b"{\"id\":\"a\\u0041\",\"result\":true,\"error\":null}\n");
    }
}
