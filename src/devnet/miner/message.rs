//! Stratum V1 messages from a miner's side. Only syntax: `session` handles them.

use std::{fmt::Write as _, sync::Arc};

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::work::{Hash256, Nbits};

/// Why a line from the server cannot be understood.
#[derive(Debug, Error)]
pub(crate) enum ParseError {
    #[error("not a JSON-RPC message: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not a JSON object")]
    NoObject,
    #[error("{0} without parameters")]
    NoParams(&'static str),
    #[error("{what} is {text:?}")]
    Field { what: &'static str, text: String },
    #[error("{0} merkle branches, more than any block has")]
    TooManyBranches(usize),
}

/// One line from the server.
#[derive(Debug)]
pub(crate) enum ServerMessage<'a> {
    Answer(Answer<'a>),
    Notify(Box<StratumJob>),
    SetDifficulty(f64),
    SetVersionMask(u32),
    SetExtranonce(Extranonce),
    /// Its id, to be echoed.
    Ping(&'a str),
    GetVersion(&'a str),
    Other,
}

/// The server's answer to our request.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// None if the server answered to an id that we never use.
    pub(crate) id: Option<u64>,
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<WireError>,
}

/// `[21,"stale-prevblk",null]`, or the same as an object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct WireError {
    pub(crate) code: i64,
    pub(crate) text: String,
}

/// The extranonce that distinguishes miners, and the length of the part that they roll.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Extranonce {
    pub(crate) extranonce1: Vec<u8>,
    pub(crate) extranonce2_len: usize,
}

/// A `mining.notify`, or its Stratum V2 equivalent, in binary.
#[derive(Clone, Debug)]
pub(crate) struct StratumJob {
    /// Contains no character that JSON would escape.
    pub(crate) id: Box<str>,
    pub(crate) prevhash: Hash256,
    pub(crate) root: Arc<Root>,
    pub(crate) version: u32,
    pub(crate) nbits: Nbits,
    pub(crate) ntime: u32,
    pub(crate) clean: bool,
}

/// Where a header's merkle root comes from.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// A coinbase with room for an extranonce, and its merkle branch.
    Coinbase { coinb1: Vec<u8>, coinb2: Vec<u8>, merkle_branch: Vec<Hash256> },
    /// Computed by the server: a standard channel of Stratum V2.
    Given(Hash256),
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<'a> ServerMessage<'a> {
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, ParseError> {
        // Serde would take an array for a struct.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(ParseError::NoObject);
        }
        let wire: Wire<'a> = serde_json::from_slice(line)?;
        let id = wire.id.map_or("null", RawValue::get);
        let Some(method) = wire.method else {
            let error = wire.error.map(|error| WireError::parse(error.get()));
            return Ok(Self::Answer(Answer { id: id.parse().ok(), result: wire.result, error }));
        };
        let params = |what| wire.params.map(RawValue::get).ok_or(ParseError::NoParams(what));
        Ok(match method {
            "mining.notify" => Self::Notify(Box::new(StratumJob::parse(params("notify")?)?)),
            "mining.set_difficulty" => {
                let (difficulty,) = serde_json::from_str(params("set_difficulty")?)?;
                Self::SetDifficulty(difficulty)
            }
            "mining.set_version_mask" => {
                let (mask,) = serde_json::from_str(params("set_version_mask")?)?;
                Self::SetVersionMask(hex_u32("version mask", mask)?)
            }
            "mining.set_extranonce" => {
                let (extranonce1, len) = serde_json::from_str(params("set_extranonce")?)?;
                Self::SetExtranonce(Extranonce::new(extranonce1, len)?)
            }
            "mining.ping" => Self::Ping(id),
            "client.get_version" => Self::GetVersion(id),
            _ => Self::Other,
        })
    }
}

impl Answer<'_> {
    pub(crate) fn is_true(&self) -> bool {
        self.error.is_none() && self.result.is_some_and(|result| result.get() == "true")
    }

    /// The extranonces that the answer to a subscription assigns.
    pub(crate) fn extranonce(&self) -> Result<Extranonce, ParseError> {
        let result = self.result.ok_or(ParseError::NoParams("subscribe"))?;
        let (_, extranonce1, len): (serde::de::IgnoredAny, &str, usize) =
            serde_json::from_str(result.get())?;
        Extranonce::new(extranonce1, len)
    }

    /// The version bits that `mining.configure` granted; none when it refused.
    pub(crate) fn version_mask(&self) -> Option<u32> {
        #[derive(Deserialize)]
        struct Granted<'a> {
            #[serde(rename = "version-rolling", default)]
            rolling: bool,
            #[serde(borrow, rename = "version-rolling.mask", default)]
            mask: Option<&'a str>,
        }
        let granted: Granted<'_> = serde_json::from_str(self.result?.get()).ok()?;
        granted.rolling.then_some(())?;
        hex_u32("version mask", granted.mask?).ok()
    }
}

impl WireError {
    fn parse(json: &str) -> Self {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Array(i64, String, serde::de::IgnoredAny),
            Object { code: i64, message: String },
            Text(String),
        }
        match serde_json::from_str(json) {
            Ok(Form::Array(code, text, _) | Form::Object { code, message: text }) => {
                Self { code, text: printable(&text) }
            }
            Ok(Form::Text(text)) => Self { code: 0, text: printable(&text) },
            Err(_) => Self { code: 0, text: printable(json) },
        }
    }
}

impl Extranonce {
    fn new(extranonce1: &str, extranonce2_len: usize) -> Result<Self, ParseError> {
        if extranonce1.len() > 2 * EXTRANONCE1_LEN_MAX || extranonce2_len > EXTRANONCE2_LEN_MAX {
            let text = format!("{} + {extranonce2_len} bytes", extranonce1.len() / 2);
            return Err(ParseError::Field { what: "extranonce", text });
        }
        Ok(Self { extranonce1: hex("extranonce1", extranonce1)?, extranonce2_len })
    }
}

impl Root {
    pub(crate) fn with(&self, extranonce1: &[u8], extranonce2: &[u8]) -> Hash256 {
        match self {
            Self::Given(root) => *root,
            Self::Coinbase { coinb1, coinb2, merkle_branch } => {
                let parts = [coinb1, extranonce1, extranonce2, coinb2];
                let coinbase = Hash256::sha256d_parts(&parts);
                merkle_branch.iter().fold(coinbase, |hash, branch| hash.merkle_step(branch))
            }
        }
    }
}

impl StratumJob {
    fn parse(params: &str) -> Result<Self, ParseError> {
        type Params<'a> =
            (&'a str, &'a str, &'a str, &'a str, Vec<&'a str>, &'a str, &'a str, &'a str, bool);
        let (id, prevhash, coinb1, coinb2, branches, version, nbits, ntime, clean): Params<'_> =
            serde_json::from_str(params)?;
        if branches.len() > MERKLE_BRANCHES_MAX {
            return Err(ParseError::TooManyBranches(branches.len()));
        }
        let mut prevhash = hash("prevhash", prevhash)?;
        // Every 32-bit word of the header's hash is reversed on the wire.
        prevhash.0.chunks_exact_mut(4).for_each(<[u8]>::reverse);
        let branch = |text: &&str| hash("merkle branch", text);
        Ok(Self {
            id: id.into(),
            prevhash,
            root: Arc::new(Root::Coinbase {
                coinb1: hex("coinb1", coinb1)?,
                coinb2: hex("coinb2", coinb2)?,
                merkle_branch: branches.iter().map(branch).collect::<Result<_, _>>()?,
            }),
            version: hex_u32("version", version)?,
            nbits: Nbits::from_hex(nbits)
                .ok_or_else(|| ParseError::Field { what: "nbits", text: printable(nbits) })?,
            ntime: hex_u32("ntime", ntime)?,
            clean,
        })
    }
}

/// A share as it is submitted.
pub(crate) struct SubmitFields<'a> {
    pub(crate) username: &'a str,
    pub(crate) job_id: &'a str,
    pub(crate) extranonce2: &'a [u8],
    pub(crate) ntime: u32,
    pub(crate) nonce: u32,
    /// None when version rolling was not granted.
    pub(crate) version_bits: Option<u32>,
}

// Writing to a string cannot fail.

pub(crate) fn write_submit(id: u64, fields: &SubmitFields<'_>, out: &mut String) {
    let SubmitFields { username, job_id, extranonce2, ntime, nonce, version_bits } = fields;
    let _ =
        write!(out, r#"{{"id":{id},"method":"mining.submit","params":["{username}","{job_id}",""#);
    extranonce2.iter().for_each(|byte| {
        let _ = write!(out, "{byte:02x}");
    });
    let _ = write!(out, r#"","{ntime:08x}","{nonce:08x}""#);
    if let Some(bits) = version_bits {
        let _ = write!(out, r#","{bits:08x}""#);
    }
    out.push_str("]}\n");
}

/// Appends a request; `params` is JSON.
pub(crate) fn write_request(id: u64, method: &str, params: &str, out: &mut String) {
    let _ = writeln!(out, r#"{{"id":{id},"method":"{method}","params":{params}}}"#);
}

/// Appends an answer to the server's request; `id` and `result` are JSON.
pub(crate) fn write_answer(id: &str, result: &str, out: &mut String) {
    let _ = writeln!(out, r#"{{"id":{id},"result":{result},"error":null}}"#);
}

/// `text` without the characters that JSON would have to escape, in quotes.
pub(crate) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}

fn hex(what: &'static str, text: &str) -> Result<Vec<u8>, ParseError> {
    let mut bytes = vec![0; text.len() / 2];
    let decoded = faster_hex::hex_decode(text.as_bytes(), &mut bytes);
    match decoded {
        Ok(()) if text.len().is_multiple_of(2) => Ok(bytes),
        _ => Err(ParseError::Field { what, text: printable(text) }),
    }
}

fn hash(what: &'static str, text: &str) -> Result<Hash256, ParseError> {
    let wrong = |_| ParseError::Field { what, text: printable(text) };
    <[u8; 32]>::try_from(hex(what, text)?).map(Hash256).map_err(wrong)
}

fn hex_u32(what: &'static str, text: &str) -> Result<u32, ParseError> {
    u32::from_str_radix(text, 16).map_err(|_| ParseError::Field { what, text: printable(text) })
}

fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_LEN_MAX).collect()
}

/// More than any server sends; gatewayd's has 4.
const EXTRANONCE1_LEN_MAX: usize = 32;
/// Extranonce2 is counted in a `u64`.
pub(crate) const EXTRANONCE2_LEN_MAX: usize = 8;
/// 2^32 transactions.
const MERKLE_BRANCHES_MAX: usize = 32;
/// Enough of someone else's text to recognise it.
const TEXT_LEN_MAX: usize = 80;
/// What the requests of a login go by, and the first share.
pub(crate) const ID_CONFIGURE: u64 = 1;
pub(crate) const ID_SUBSCRIBE: u64 = 2;
pub(crate) const ID_AUTHORIZE: u64 = 3;
pub(crate) const ID_SUGGEST: u64 = 4;
pub(crate) const ID_EXTRANONCE: u64 = 5;
pub(crate) const ID_SUBMIT_FIRST: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_three_forms() {
        let error = |json| WireError::parse(json);
        assert_eq!(error(r#"[21,"stale",null]"#), error(r#"{"code":21,"message":"stale"}"#));
        assert_eq!(error(r#""no""#).text, "no");
        assert_eq!(error("7").text, "7");
    }

    #[test]
    fn answers_are_read() {
        let line = br#"{"id":2,"result":[[["mining.notify","a"]],"0a0b0c0d",8],"error":null}"#;
        let Ok(ServerMessage::Answer(answer)) = ServerMessage::parse(line) else { panic!() };
        assert_eq!(answer.id, Some(2));
        let extranonce = answer.extranonce().unwrap();
        assert_eq!(extranonce.extranonce1, [10, 11, 12, 13]);
        assert_eq!(extranonce.extranonce2_len, 8);
        let line =
            br#"{"id":1,"result":{"version-rolling":true,"version-rolling.mask":"1fffe000"}}"#;
        let Ok(ServerMessage::Answer(answer)) = ServerMessage::parse(line) else { panic!() };
        assert_eq!(answer.version_mask(), Some(0x1fff_e000));
    }

    #[test]
    fn nonsense_is_an_error_not_a_panic() {
        for line in [
            "",
            "[]",
            "{",
            r#"{"method":"mining.notify"}"#,
            r#"{"method":"mining.notify","params":["a","b","c","d",[],"e","f","g",true]}"#,
            r#"{"method":"mining.set_difficulty","params":["x"]}"#,
            r#"{"method":"mining.set_extranonce","params":["aa",9]}"#,
            r#"{"method":"mining.set_extranonce","params":["aaa",8]}"#,
        ] {
            assert!(ServerMessage::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
