//! The messages of blvm-node's NodeAPI that mining needs, in both of its layouts. Pure.
//!
//! blvm-node does not say which layout it uses: enum tags moved when 0.1.56 inserted variants in
//! the middle of its lists, and the template's target changed its type with the version of a crate.
//! So whatever is ambiguous is decoded both ways, and only a decoding that leaves no byte over is
//! accepted.

use super::wire::{Reader, WireError, Writer};
use crate::work::{Hash256, Template, printable};

/// Which enum tags the node uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// 0.1.5 to 0.1.55.
    A,
    /// Since 0.1.56.
    B,
}

impl Layout {
    /// By the version in the handshake; one that cannot be parsed counts as newer.
    pub(super) fn of(version: &str) -> Self {
        let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().ok());
        let mut number = || numbers.next().flatten();
        match (number(), number(), number()) {
            (Some(0), Some(0), _) => Self::A,
            (Some(0), Some(1), Some(patch)) if patch < 56 => Self::A,
            _ => Self::B,
        }
    }

    /// The tags of GetBlockTemplate, as message type and as payload.
    const fn template_request(self) -> u32 {
        if matches!(self, Self::A) { 49 } else { 50 }
    }

    const fn template_answer(self) -> u32 {
        if matches!(self, Self::A) { 45 } else { 46 }
    }
}

/// The possible requests. All except the template have the same tags in both layouts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeApiRequest {
    Handshake,
    ChainTip,
    SubscribeEvents,
    ChainInfo,
    BlockTemplate,
}

/// Our name in the handshake.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity<'a> {
    pub(super) module_id: &'a str,
    pub(super) module_name: &'a str,
}

/// Appends the frame with the request `ask`.
pub(super) fn append(
    ask: NodeApiRequest,
    correlation_id: u64,
    layout: Layout,
    identity: Identity<'_>,
    out: &mut Vec<u8>,
) {
    let request = Writer::frame(out).u32(REQUEST).u64(correlation_id);
    match ask {
        NodeApiRequest::Handshake => request
            .u32(8)
            .u32(0)
            .text(identity.module_id)
            .text(identity.module_name)
            .text(env!("CARGO_PKG_VERSION"))
            .end(),
        NodeApiRequest::ChainTip => request.u32(4).u32(5).end(),
        NodeApiRequest::SubscribeEvents => {
            let events = EVENTS.iter();
            let head = request.u32(7).u32(8).u64(EVENTS.len() as u64);
            events.fold(head, |frame, event| frame.u32(*event)).end();
        }
        NodeApiRequest::ChainInfo => request.u32(14).u32(14).end(),
        NodeApiRequest::BlockTemplate => {
            let tag = layout.template_request();
            let rules = request.u32(tag).u32(tag).u64(1).text("segwit");
            // No script for the coinbase, and an address that anybody can spend from: only parts of
            // the answer that do not depend on them are used.
            rules.flag(false).flag(true).text("hex:51").end();
        }
    }
}

/// A message from the node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Incoming<'a> {
    Response {
        correlation_id: u64,
        body: Reader<'a>,
    },
    Event(Event),
    /// Not for us: events that were not subscribed to, calls of other modules.
    Ignored,
}

/// The chain has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    NewBlock { hash: Hash256, height: u64 },
    BlockDisconnected { hash: Hash256, height: u64 },
    ChainReorg { old_tip: Hash256, new_tip: Hash256 },
    BlockMined { hash: Hash256, height: u64 },
    BlockTemplateUpdated { prevhash: Hash256, height: u64 },
}

pub(super) fn incoming(message: &[u8]) -> Result<Incoming<'_>, WireError> {
    let mut body = Reader::new(message);
    match body.u32()? {
        RESPONSE => Ok(Incoming::Response { correlation_id: body.u64()?, body }),
        EVENT => event(body).map(|event| event.map_or(Incoming::Ignored, Incoming::Event)),
        _ => Ok(Incoming::Ignored),
    }
}

fn event(mut body: Reader<'_>) -> Result<Option<Event>, WireError> {
    let (_event_type, payload) = (body.u32()?, body.u32()?);
    let event = match payload {
        0 => Event::NewBlock { hash: body.hash()?, height: body.u64()? },
        2 => Event::BlockDisconnected { hash: body.hash()?, height: body.u64()? },
        3 => Event::ChainReorg { old_tip: body.hash()?, new_tip: body.hash()? },
        12 => {
            let event = Event::BlockMined { hash: body.hash()?, height: body.u64()? };
            if body.flag()? {
                body.text()?;
            }
            event
        }
        13 => {
            let event = Event::BlockTemplateUpdated { prevhash: body.hash()?, height: body.u64()? };
            body.u64()?;
            event
        }
        _ => return Ok(None),
    };
    body.end()?;
    Ok(Some(event))
}

/// A call's result; the error is in the node's own words.
pub(super) fn answer<'a, T>(
    mut body: Reader<'a>,
    payload: impl Fn(u32, &mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Result<T, String>, WireError> {
    if !body.flag()? {
        // Whatever else a refusal contains does not matter.
        return Ok(Err(
            printable(refusal(body).unwrap_or("no reason given"), WORDS_LEN_MAX).into_owned()
        ));
    }
    if !body.flag()? {
        return Err(WireError::Other);
    }
    let tag = body.u32()?;
    let value = payload(tag, &mut body)?;
    if body.flag()? {
        body.text()?;
    }
    body.end()?;
    Ok(Ok(value))
}

fn refusal(mut body: Reader<'_>) -> Option<&str> {
    let has_payload = body.flag().ok()?;
    (!has_payload && body.flag().ok()?).then(|| body.text().ok())?
}

/// The node's version.
pub(super) fn handshake<'a>(tag: u32, body: &mut Reader<'a>) -> Result<&'a str, WireError> {
    if tag == 0 { body.text() } else { Err(WireError::Other) }
}

pub(super) fn chain_tip(tag: u32, body: &mut Reader<'_>) -> Result<Hash256, WireError> {
    if tag == 5 { body.hash() } else { Err(WireError::Other) }
}

pub(super) fn subscribed(tag: u32, _body: &mut Reader<'_>) -> Result<(), WireError> {
    if tag == 8 { Ok(()) } else { Err(WireError::Other) }
}

/// What the node says about its chain, as far as all its versions have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainInfo {
    pub(super) tip: Hash256,
    pub(super) height: u64,
    pub(super) is_synced: bool,
}

/// `widths` are the widths of difficulty and chain work, which have changed.
pub(super) fn chain_info(
    widths: (usize, usize),
) -> impl Fn(u32, &mut Reader<'_>) -> Result<ChainInfo, WireError> {
    move |tag, body| {
        if tag != 14 {
            return Err(WireError::Other);
        }
        let (tip, height) = (body.hash()?, body.u64()?);
        body.take(widths.0)?;
        body.take(widths.1)?;
        Ok(ChainInfo { tip, height, is_synced: body.flag()? })
    }
}

/// The known widths: f64 and u64 today; u32 and u128 in other versions.
pub(super) const CHAIN_INFO_WIDTHS: [(usize, usize); 4] = [(8, 8), (4, 8), (8, 16), (4, 16)];

/// The node's template, as far as it can be compared with another one. It has no witnesses, so it
/// cannot be mined.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiTemplate {
    pub(super) prevhash: Hash256,
    pub(super) bits: u64,
    pub(super) height: u64,
    /// What its coinbase pays.
    pub(super) value: i64,
    pub(super) txids: Vec<Hash256>,
}

/// How the template's target is encoded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// 64 hex digits: blvm-consensus since 0.1.66.
    Text,
    /// A 16-byte number: up to 0.1.61.
    Number,
}

pub(super) fn template(
    layout: Layout,
    target: Target,
) -> impl Fn(u32, &mut Reader<'_>) -> Result<ApiTemplate, WireError> {
    move |tag, body| {
        if tag != layout.template_answer() {
            return Err(WireError::Other);
        }
        let _version = body.i64()?;
        let (prevhash, _merkle_root, _time) = (body.hash()?, body.hash()?, body.u64()?);
        let (bits, _nonce) = (body.u64()?, body.u64()?);
        let (_, value) = transaction(body)?;
        let count = body.count(TRANSACTION_LEN_MIN)?;
        let txids = (0..count).map(|_| transaction(body).map(|(txid, _)| txid));
        let txids = txids.collect::<Result<_, _>>()?;
        match target {
            Target::Text if body.text()?.len() != 64 => return Err(WireError::Other),
            Target::Text => {}
            Target::Number => _ = body.take(16)?,
        }
        let (height, _time) = (body.u64()?, body.u64()?);
        Ok(ApiTemplate { prevhash, bits, height, value, txids })
    }
}

/// A transaction's id, and the sum of its outputs.
fn transaction(body: &mut Reader<'_>) -> Result<(Hash256, i64), WireError> {
    let mut raw = Vec::with_capacity(TRANSACTION_LEN_USUAL);
    raw.extend(body.u64_as_u32()?.to_le_bytes());
    let inputs = body.count(INPUT_LEN_MIN)?;
    put_size(&mut raw, inputs);
    for _ in 0..inputs {
        raw.extend(body.hash()?.0);
        raw.extend(body.u32()?.to_le_bytes());
        let sequence = body.u64_as_u32()?;
        put_bytes(&mut raw, body.bytes()?);
        raw.extend(sequence.to_le_bytes());
    }
    let outputs = body.count(OUTPUT_LEN_MIN)?;
    put_size(&mut raw, outputs);
    let mut sum = 0_i64;
    for _ in 0..outputs {
        let value = body.i64()?;
        sum = sum.saturating_add(value);
        raw.extend(value.to_le_bytes());
        put_bytes(&mut raw, body.bytes()?);
    }
    raw.extend(body.u64_as_u32()?.to_le_bytes());
    Ok((Hash256::sha256d_parts(&[&raw]), sum))
}

fn put_bytes(raw: &mut Vec<u8>, bytes: &[u8]) {
    put_size(raw, bytes.len());
    raw.extend_from_slice(bytes);
}

/// Bitcoin's CompactSize.
fn put_size(raw: &mut Vec<u8>, size: usize) {
    match (u8::try_from(size), u16::try_from(size), u32::try_from(size)) {
        (Ok(size), ..) if size < 0xFD => raw.push(size),
        (_, Ok(size), _) => {
            raw.push(0xFD);
            raw.extend(size.to_le_bytes());
        }
        (_, _, size) => {
            raw.push(0xFE);
            // A frame is shorter than that.
            raw.extend(size.unwrap_or(u32::MAX).to_le_bytes());
        }
    }
}

impl ApiTemplate {
    /// How it contradicts a template on the same tip; none if it does not, or is on another tip.
    pub(super) fn contradicts(&self, other: &Expected) -> Option<String> {
        if self.prevhash != other.prevhash {
            return None;
        }
        if self.height != u64::from(other.height) {
            return Some(format!("height {} against {}", self.height, other.height));
        }
        if self.bits != u64::from(other.nbits) {
            return Some(format!("bits {:08x} against {:08x}", self.bits, other.nbits));
        }
        // The mempool changes between two calls: values can only be compared for the same
        // transactions.
        if self.txids == other.txids && u64::try_from(self.value) != Ok(other.coinbase_value) {
            return Some(format!("a coinbase of {} against {}", self.value, other.coinbase_value));
        }
        None
    }
}

/// The template from RPC, which the NodeAPI's should agree with.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Expected {
    pub(crate) prevhash: Hash256,
    pub(crate) height: u32,
    pub(crate) nbits: u32,
    pub(crate) coinbase_value: u64,
    pub(crate) txids: Vec<Hash256>,
}

impl Expected {
    pub(crate) fn of(template: &Template) -> Self {
        Self {
            prevhash: template.prevhash,
            height: template.height,
            nbits: template.nbits.get(),
            coinbase_value: template.coinbase_value,
            txids: template.transactions.iter().map(|tx| tx.txid).collect(),
        }
    }
}

/// The tag of a refusal.
const WORDS_LEN_MAX: usize = 300;
const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
const EVENT: u32 = 2;
/// NewBlock, BlockDisconnected, ChainReorg, BlockMined, BlockTemplateUpdated: unchanged so far.
const EVENTS: [u32; 5] = [0, 2, 3, 12, 13];
/// Version, two counts, lock time.
const TRANSACTION_LEN_MIN: usize = 32;
/// Outpoint, sequence, length of the script.
const INPUT_LEN_MIN: usize = 52;
const OUTPUT_LEN_MIN: usize = 16;
const TRANSACTION_LEN_USUAL: usize = 400;

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
