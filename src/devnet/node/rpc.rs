//! JSON-RPC 1.0 and 2.0: the envelopes of requests and answers. Pure.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use crate::node::error::METHOD_NOT_FOUND;

/// A call, parsed as far as possible before its method is known.
#[derive(Debug, Deserialize)]
pub(super) struct Request<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

/// Why a call has no result: Bitcoin Core's code and message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message} ({code})")]
pub(super) struct Fault {
    pub(super) code: i32,
    pub(super) message: Cow<'static, str>,
}

pub(super) type Answer = Result<Box<RawValue>, Fault>;

impl Fault {
    pub(super) fn new(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

impl<'a> Request<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        serde_json::from_slice(body).map_err(|_| Fault::new(PARSE_ERROR, "Parse error"))
    }

    /// The parameter at `at`; none if it was left out or is null.
    pub(super) fn optional<T: Deserialize<'a>>(&self, at: usize) -> Result<Option<T>, Fault> {
        let Some(raw) = self.params.as_ref().and_then(|params| params.get(at)) else {
            return Ok(None);
        };
        let wrong =
            |error: serde_json::Error| Fault::new(TYPE_ERROR, format!("parameter {at}: {error}"));
        serde_json::from_str(raw.get()).map_err(wrong)
    }

    pub(super) fn required<T: Deserialize<'a>>(&self, at: usize) -> Result<T, Fault> {
        let missing = || Fault::new(MISC_ERROR, format!("parameter {at} is missing"));
        self.optional(at)?.ok_or_else(missing)
    }

    /// HTTP status and body. Version 2.0 gives every answer status 200.
    pub(super) fn reply(&self, answer: &Answer) -> (u16, Vec<u8>) {
        reply(self.id, self.jsonrpc.as_deref() == Some("2.0"), answer)
    }
}

/// The answer to something that is not a request.
pub(super) fn reply_to_unreadable(fault: Fault) -> (u16, Vec<u8>) {
    reply(None, false, &Err(fault))
}

pub(super) fn json(value: &impl Serialize) -> Answer {
    to_raw_value(value).map_err(|error| Fault::new(INTERNAL_ERROR, error.to_string()))
}

fn reply(id: Option<&RawValue>, is_version_2: bool, answer: &Answer) -> (u16, Vec<u8>) {
    #[derive(Serialize)]
    struct Error<'a> {
        code: i32,
        message: &'a str,
    }
    #[derive(Serialize)]
    struct One<'a> {
        result: Option<&'a RawValue>,
        error: Option<Error<'a>>,
        id: Option<&'a RawValue>,
    }
    /// Exactly one of result and error is present; a null result counts as present.
    #[derive(Serialize)]
    struct Two<'a> {
        jsonrpc: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Error<'a>>,
        id: Option<&'a RawValue>,
    }
    let result = answer.as_deref().ok();
    let error =
        answer.as_ref().err().map(|fault| Error { code: fault.code, message: &fault.message });
    let status =
        error.as_ref().map_or(200, |error| if is_version_2 { 200 } else { status(error.code) });
    let body = if is_version_2 {
        serde_json::to_vec(&Two { jsonrpc: "2.0", result, error, id })
    } else {
        serde_json::to_vec(&One { result, error, id })
    };
    // Strings, numbers and JSON that was parsed before: writing them cannot fail.
    (status, body.unwrap_or_default())
}

fn status(code: i32) -> u16 {
    match code {
        METHOD_NOT_FOUND => 404,
        INVALID_REQUEST => 400,
        _ => 500,
    }
}

pub(super) const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const INTERNAL_ERROR: i32 = -32603;
pub(super) const MISC_ERROR: i32 = -1;
pub(super) const TYPE_ERROR: i32 = -3;
pub(super) const IN_INITIAL_DOWNLOAD: i32 = -10;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(request: &str, answer: &Answer, status: u16, body: &str) {
        let (is_status, is_body) = Request::parse(request.as_bytes()).unwrap().reply(answer);
        assert_eq!((is_status, String::from_utf8(is_body).unwrap().as_str()), (status, body));
    }

    #[test]
    fn envelopes_are_as_each_version_demands() {
        let one = r#"{"jsonrpc":"1.0","method":"m","params":[],"id":"a"}"#;
        let two = r#"{"jsonrpc":"2.0","method":"m","id":7}"#;
        let fault = || Err(Fault::new(METHOD_NOT_FOUND, "Method not found"));
        let null = json(&());
        case(one, &json(&1), 200, r#"{"result":1,"error":null,"id":"a"}"#);
        case(
            one,
            &fault(),
            404,
            r#"{"result":null,"error":{"code":-32601,"message":"Method not found"},"id":"a"}"#,
        );
        case(two, &null, 200, r#"{"jsonrpc":"2.0","result":null,"id":7}"#);
        case(
            two,
            &fault(),
            200,
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":7}"#,
        );
        case(r#"{"method":"m"}"#, &null, 200, r#"{"result":null,"error":null,"id":null}"#);
    }

    #[test]
    fn parameters_are_typed() {
        let request = Request::parse(br#"{"method":"m","params":["a",null,3]}"#).unwrap();
        assert_eq!(request.required::<&str>(0).unwrap(), "a");
        assert_eq!(request.optional::<&str>(1).unwrap(), None);
        assert_eq!(request.required::<&str>(2).unwrap_err().code, TYPE_ERROR);
        assert_eq!(request.required::<u32>(3).unwrap_err().code, MISC_ERROR);
        assert_eq!(Request::parse(b"[]").unwrap_err().code, PARSE_ERROR);
    }
}
