//! `mining.subscribe`: the user agent in, extranonce1 out.

use serde::Deserialize;

use super::submit::EXTRANONCE2_LEN;
use crate::{
    sv1::{error::write_result, hex::push_hex, message::RpcRequest},
    work::printable,
};

/// The miner's user agent; empty if it sends none.
pub(in crate::sv1) fn user_agent(request: &RpcRequest<'_>) -> Box<str> {
    /// Later elements, such as the session to resume, are of no use here.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Element {
        Text(String),
        Other(serde::de::IgnoredAny),
    }
    let elements: Vec<Element> = request.params().unwrap_or_default();
    let Some(Element::Text(text)) = elements.into_iter().next() else {
        return Box::default();
    };
    printable(&text, USER_AGENT_LEN_MAX).into()
}

pub(in crate::sv1) fn write_answer(id: &[u8], extranonce1: [u8; 4], out: &mut Vec<u8>) {
    let mut hex = Vec::with_capacity(8);
    push_hex(&extranonce1, &mut hex);
    let mut result = Vec::with_capacity(96);
    for part in [
        b"[[[\"mining.set_difficulty\",\"".as_slice(),
        &hex,
        b"\"],[\"mining.notify\",\"",
        &hex,
        b"\"]],\"",
        &hex,
        b"\",",
        EXTRANONCE2_LEN.to_string().as_bytes(),
        b"]",
    ] {
        result.extend_from_slice(part);
    }
    write_result(id, &result, out);
}

/// As much as logs and the dashboard show.
const USER_AGENT_LEN_MAX: usize = 100;
