//! `mining.authorize`: a name, and a password that may say at which difficulty to mine.

use serde::Deserialize;

use super::suggest_difficulty::bounded;
use crate::{stratum::RequestedDifficulty, sv1::message::RpcRequest, work::Difficulty};

/// Who logs in, and with what request.
#[derive(Debug, Default, PartialEq)]
pub(in crate::sv1) struct AuthorizeParams {
    /// Empty when it is missing or too long for any worker.
    pub(in crate::sv1) name: Box<str>,
    pub(in crate::sv1) asked: Option<RequestedDifficulty>,
}

impl AuthorizeParams {
    pub(in crate::sv1) fn read(request: &RpcRequest<'_>) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Element {
            Text(String),
            Other(serde::de::IgnoredAny),
        }
        let elements: Vec<Element> = request.params().unwrap_or_default();
        let mut texts = elements.into_iter().map(|element| match element {
            Element::Text(text) => text,
            Element::Other(_) => String::new(),
        });
        let name = texts.next().filter(|name| name.len() <= NAME_LEN_MAX).unwrap_or_default();
        let asked = texts.next().and_then(|password| asked(&password));
        Self { name: name.into(), asked }
    }
}

/// `d=65536`, `diff=64k`, `x,d=1M`, `fd=1024;x`: what pools and rental markets use the password
/// for. `fd` is fixed; the others are where vardiff begins, and its floor.
fn asked(password: &str) -> Option<RequestedDifficulty> {
    let parts = password.split([',', ';', '&', '|', ' ']).take(PARTS_MAX);
    let wishes = parts.filter_map(|part| {
        let (key, value) = part.split_once('=')?;
        let difficulty = number(value.trim())?;
        let is = |name: &str| key.trim().eq_ignore_ascii_case(name);
        if is("fd") {
            return Some(RequestedDifficulty::Fixed(difficulty));
        }
        ["d", "diff", "difficulty"]
            .into_iter()
            .any(is)
            .then_some(RequestedDifficulty::AtLeast(difficulty))
    });
    // A fixed one overrides others; otherwise the first counts.
    wishes.reduce(|first, next| match (first, next) {
        (RequestedDifficulty::AtLeast(_), RequestedDifficulty::Fixed(_)) => next,
        _ => first,
    })
}

/// A plain number, or one with a suffix like k or M, as miners show difficulties.
fn number(text: &str) -> Option<Difficulty> {
    let plain = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[plain.len()..].to_ascii_lowercase().as_str() {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        _ => return None,
    };
    bounded(plain.parse::<f64>().ok()? * factor)
}

/// No worker's name is longer: names in shares have the same limit.
const NAME_LEN_MAX: usize = 300;
/// A password of a whole line would have thousands.
const PARTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(password: &str, wanted: Option<RequestedDifficulty>) {
        assert_eq!(asked(password), wanted, "{password:?}");
    }

    fn at_least(difficulty: f64) -> Option<RequestedDifficulty> {
        Difficulty::new(difficulty).map(RequestedDifficulty::AtLeast)
    }

    fn fixed(difficulty: f64) -> Option<RequestedDifficulty> {
        Difficulty::new(difficulty).map(RequestedDifficulty::Fixed)
    }

    #[test]
    fn difficulties_are_read_as_pools_take_them() {
        for (password, wanted) in [
            ("d=65536", at_least(65_536.0)),
            ("d=65536,", at_least(65_536.0)),
            ("x,d=1024", at_least(1024.0)),
            ("d=1024;x", at_least(1024.0)),
            ("D = 512", None),
            ("D=512", at_least(512.0)),
            ("diff=0.5", at_least(0.5)),
            ("difficulty=7", at_least(7.0)),
            ("secret d=64k", at_least(64_000.0)),
            ("d=1M", at_least(1e6)),
            ("d=2.5g", at_least(2.5e9)),
            ("d=1e6", at_least(1e6)),
            ("fd=8192", fixed(8192.0)),
            ("d=4,fd=8192,d=2", fixed(8192.0)),
            ("fd=1,fd=2", fixed(1.0)),
            ("d=0,d=3", at_least(3.0)),
            ("d=1e300", at_least(9_223_372_036_854_775_808.0)),
        ] {
            case(password, wanted);
        }
    }

    #[test]
    fn other_passwords_ask_for_nothing() {
        for password in [
            "",
            "x",
            "123",
            "d",
            "d=",
            "=5",
            "d=-1",
            "d=0",
            "d=NaN",
            "d=inf",
            "d=k",
            "d=5kk",
            "d=5 k=",
            "password=5",
            "md=5",
            "d=0x10",
            "d=é",
            "d=5é",
            "é=5",
            "d==5",
        ] {
            // A space separates: "d=5 k=" is a d of 5.
            let wanted = if password == "d=5 k=" { at_least(5.0) } else { None };
            case(password, wanted);
        }
    }

    #[test]
    fn odd_logins_are_survived() {
        for (params, name) in [
            ("[]", ""),
            ("{}", ""),
            ("7", ""),
            ("[null]", ""),
            ("[\"a\"]", "a"),
            ("[\"a\",null]", "a"),
            ("[\"a\",123]", "a"),
            ("[\"a\",\"x\",[\"more\"]]", "a"),
        ] {
            let line = format!(r#"{{"id":1,"method":"mining.authorize","params":{params}}}"#);
            let login = AuthorizeParams::read(&RpcRequest::parse(line.as_bytes()).unwrap());
            assert_eq!(login, AuthorizeParams { name: name.into(), asked: None }, "{params}");
        }
        let long = "x".repeat(301);
        let line = format!(r#"{{"id":1,"method":"mining.authorize","params":["{long}","d=8"]}}"#);
        let login = AuthorizeParams::read(&RpcRequest::parse(line.as_bytes()).unwrap());
        assert_eq!(login, AuthorizeParams { name: "".into(), asked: at_least(8.0) });
    }
}
