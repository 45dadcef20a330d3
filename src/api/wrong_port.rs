//! Miners that connect to the dashboard's port: recognised by their first bytes, and told where to
//! connect.

/// The protocol of a miner that sends these first bytes; none for a browser, or anything else that
/// the HTTP code can answer.
pub(super) fn protocol_of(first: &[u8]) -> Option<&'static str> {
    if first.trim_ascii_start().starts_with(b"{") {
        return Some(SV1);
    }
    // An SV2 key is 64 random bytes, and HTTP begins with a line of ASCII. TLS has its own marker.
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let is_tls = first.starts_with(&[0x16, 3]);
    let is_noise = first.iter().filter(|byte| !is_text(byte)).count() * 4 > first.len();
    (first.len() == KEY_LEN && is_noise && !is_tls).then_some(SV2)
}

/// The answer, which a miner shows in its log.
pub(super) fn answer(protocol: &str, port: Option<u16>) -> Option<String> {
    let port = port.map_or_else(String::new, |port| format!(" {port}"));
    (protocol == SV1).then(|| {
        format!(
            "{{\"id\":null,\"result\":null,\"error\":[20,\"this is the dashboard's port: miners \
             connect to port{port} (stratum.listen)\",null]}}\n"
        )
    })
}

/// An EllSwift encoding.
pub(super) const KEY_LEN: usize = 64;
const SV1: &str = "Stratum V1";
const SV2: &str = "Stratum V2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn miners_are_told_from_browsers() {
        let noise: Vec<u8> = (0..64).map(|at: u8| at.wrapping_mul(167).wrapping_add(90)).collect();
        let mut tls = noise.clone();
        tls[..3].copy_from_slice(&[0x16, 3, 1]);
        for (first, wanted) in [
            (b"{\"id\":1,\"method\":\"mining.subscribe\"".as_slice(), Some(SV1)),
            (b" \r\n{", Some(SV1)),
            (b"GET / HTTP/1.1\r\nHost: x\r\n", None),
            (
                b"POST /api/v1/login HTTP/1.1\r\nCookie: name=\xe4\xf6\xfc; more of it, to 64 b",
                None,
            ),
            (b"", None),
            (&noise, Some(SV2)),
            (&noise[..40], None),
            (&tls, None),
        ] {
            assert_eq!(protocol_of(first), wanted, "{first:x?}");
        }
    }

    #[test]
    fn the_answer_is_json_that_names_the_port() {
        let answer = answer(SV1, Some(23_334)).unwrap();
        #[derive(serde::Deserialize)]
        struct Answer {
            error: (u32, String, ()),
        }
        let told: Answer = serde_json::from_str(&answer).unwrap();
        assert!(told.error.1.contains("port 23334"), "{answer}");
    }
}
