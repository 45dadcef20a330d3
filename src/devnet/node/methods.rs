//! Each method's answer from the current state. Pure; waiting is done in `server.rs`.

use bitcoin::consensus::serialize;
use serde::{Deserialize, Serialize};

use super::{
    chain::{Body, Chain, Entry, Standing},
    check::Refused,
    rpc::{Answer, Fault, MISC_ERROR, Request, TYPE_ERROR, json},
    state::{State, Undecodable},
};
use crate::{
    node::error::{DESERIALIZATION, INVALID_PARAMETER, METHOD_NOT_FOUND, NOT_FOUND},
    work::{Hash256, push_varint},
};

/// `getblocktemplate`'s parameter.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TemplateRequest<'a> {
    mode: Option<String>,
    data: Option<&'a str>,
    pub(super) longpollid: Option<String>,
    rules: Vec<String>,
}

impl TemplateRequest<'_> {
    /// The proposed block, if this is a proposal.
    pub(super) fn proposal(&self) -> Result<Option<Vec<u8>>, Fault> {
        match (self.mode.as_deref(), self.data) {
            (None | Some("template"), _) => Ok(None),
            (Some("proposal"), Some(data)) => block_bytes(data).map(Some),
            (Some("proposal"), None) => {
                Err(Fault::new(TYPE_ERROR, "Missing data String key for proposal"))
            }
            _ => Err(Fault::new(INVALID_PARAMETER, "Invalid mode")),
        }
    }

    pub(super) fn check_rules(&self) -> Result<(), Fault> {
        if self.rules.iter().any(|rule| rule == "segwit") {
            return Ok(());
        }
        let message = "getblocktemplate must be called with the segwit rule set \
                       (call with {\"rules\": [\"segwit\"]})";
        Err(Fault::new(INVALID_PARAMETER, message))
    }
}

/// Answers every method that only needs the state.
pub(super) fn dispatch(state: &State, request: &Request<'_>, is_downloading: bool) -> Answer {
    let chain = state.chain();
    match &*request.method {
        "getbestblockhash" => json(&chain.tip().hash.to_string()),
        "getblockcount" => json(&chain.tip().height),
        "getblockhash" => {
            let out_of_range = || Fault::new(INVALID_PARAMETER, "Block height out of range");
            let entry = chain.at_height(request.required(0)?).ok_or_else(out_of_range)?;
            json(&entry.hash.to_string())
        }
        "getblockheader" => header(chain, request),
        "getblock" => block(chain, request),
        "getblockchaininfo" => json(&ChainInfo::new(chain, is_downloading)),
        "getnetworkinfo" => json(&NetworkInfo::default()),
        _ => Err(Fault::new(METHOD_NOT_FOUND, "Method not found")),
    }
}

/// A block in hex.
pub(super) fn block_bytes(hex: &str) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; hex.len() / 2];
    let is_good =
        hex.len().is_multiple_of(2) && faster_hex::hex_decode(hex.as_bytes(), &mut bytes).is_ok();
    if is_good { Ok(bytes) } else { Err(undecodable()) }
}

/// BIP 22: null for a valid block, or else the reason.
pub(super) fn verdict(taken: Result<Result<(), Refused>, Undecodable>) -> Answer {
    match taken {
        Ok(Ok(())) => json(&()),
        Ok(Err(refused)) => json(&refused.to_string()),
        Err(Undecodable) => Err(undecodable()),
    }
}

fn undecodable() -> Fault {
    Fault::new(DESERIALIZATION, Undecodable.to_string())
}

fn find<'a>(chain: &'a Chain, request: &Request<'_>) -> Result<(&'a Entry, Standing), Fault> {
    let text: String = request.required(0)?;
    let hash = Hash256::from_display_hex(&text).ok_or_else(|| {
        Fault::new(INVALID_PARAMETER, "blockhash must be of length 64 (hexadecimal)")
    })?;
    chain.find(&hash).ok_or_else(|| Fault::new(NOT_FOUND, "Block not found"))
}

/// `getblockheader hash (verbose)`.
fn header(chain: &Chain, request: &Request<'_>) -> Answer {
    let (entry, standing) = find(chain, request)?;
    if request.optional(1)?.unwrap_or(true) {
        json(&VerboseHeader::new(chain, entry, standing))
    } else {
        json(&faster_hex::hex_string(&serialize(&entry.header)))
    }
}

/// `getblock hash (verbosity)`, with 0 and 1.
fn block(chain: &Chain, request: &Request<'_>) -> Answer {
    #[derive(Serialize)]
    struct Verbose {
        #[serde(flatten)]
        header: VerboseHeader,
        size: usize,
        strippedsize: usize,
        weight: usize,
        tx: Vec<String>,
    }
    let (entry, standing) = find(chain, request)?;
    let body = chain.body(entry.height).filter(|_| standing == Standing::Active);
    let body = body.ok_or_else(|| Fault::new(MISC_ERROR, "Block not available (pruned data)"))?;
    let bytes = whole(entry, body);
    if request.optional(1)?.unwrap_or(1) == 0 {
        return json(&faster_hex::hex_string(&bytes));
    }
    // Of a transaction's bytes, those outside the witness weigh four, the others one.
    let heavier: u64 = body.transactions.iter().map(|tx| tx.weight - tx.raw.len() as u64).sum();
    let head_len = bytes.len()
        - body.transactions.iter().map(|tx| tx.raw.len()).sum::<usize>()
        - body.coinbase.total_size();
    let strippedsize =
        head_len + body.coinbase.base_size() + usize::try_from(heavier / 3).unwrap_or(usize::MAX);
    let ids = body.transactions.iter().map(|tx| tx.txid.to_string());
    json(&Verbose {
        header: VerboseHeader::new(chain, entry, standing),
        size: bytes.len(),
        strippedsize,
        weight: strippedsize * 3 + bytes.len(),
        tx: [body.coinbase.compute_txid().to_string()].into_iter().chain(ids).collect(),
    })
}

fn whole(entry: &Entry, body: &Body) -> Vec<u8> {
    let mut bytes = serialize(&entry.header);
    push_varint(body.transactions.len() + 1, &mut bytes);
    bytes.extend_from_slice(&serialize(&body.coinbase));
    body.transactions.iter().for_each(|tx| bytes.extend_from_slice(&tx.raw));
    bytes
}

#[derive(Debug, Serialize)]
struct VerboseHeader {
    hash: String,
    confirmations: i64,
    height: u32,
    version: i32,
    #[serde(rename = "versionHex")]
    version_hex: String,
    #[serde(rename = "merkleroot")]
    merkle_root: String,
    time: u32,
    mediantime: u32,
    nonce: u32,
    bits: String,
    difficulty: f64,
    chainwork: String,
    #[serde(rename = "nTx")]
    transactions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    previousblockhash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nextblockhash: Option<String>,
}

impl VerboseHeader {
    fn new(chain: &Chain, entry: &Entry, standing: Standing) -> Self {
        let Entry { header, height, .. } = entry;
        let is_active = standing == Standing::Active;
        let confirmations = i64::from(chain.tip().height) - i64::from(*height) + 1;
        let next = chain.at_height(height + 1).filter(|_| is_active);
        Self {
            hash: entry.hash.to_string(),
            confirmations: if is_active { confirmations } else { -1 },
            height: *height,
            version: header.version.to_consensus(),
            version_hex: format!("{:08x}", header.version.to_consensus()),
            merkle_root: header.merkle_root.to_string(),
            time: header.time,
            // For blocks off the chain, the median time of the block at the same height is close
            // enough.
            mediantime: chain.median_time(*height),
            nonce: header.nonce,
            bits: format!("{:08x}", header.bits.to_consensus()),
            difficulty: header.difficulty_float(),
            chainwork: format!("{:x}", entry.work),
            transactions: entry.transactions,
            previousblockhash: (*height > 0).then(|| header.prev_blockhash.to_string()),
            nextblockhash: next.map(|next| next.hash.to_string()),
        }
    }
}

#[derive(Debug, Serialize)]
struct ChainInfo {
    chain: &'static str,
    blocks: u32,
    headers: u32,
    bestblockhash: String,
    bits: String,
    difficulty: f64,
    time: u32,
    mediantime: u32,
    verificationprogress: f64,
    initialblockdownload: bool,
    chainwork: String,
    size_on_disk: u64,
    pruned: bool,
    warnings: [&'static str; 0],
}

impl ChainInfo {
    fn new(chain: &Chain, is_downloading: bool) -> Self {
        let tip = chain.tip();
        let ahead = if is_downloading { HEADERS_AHEAD } else { 0 };
        Self {
            chain: "regtest",
            blocks: tip.height,
            headers: tip.height + ahead,
            bestblockhash: tip.hash.to_string(),
            bits: chain.nbits().to_string(),
            difficulty: chain.nbits().target().difficulty(),
            time: tip.header.time,
            mediantime: chain.median_time(tip.height),
            verificationprogress: if is_downloading { 0.5 } else { 1.0 },
            initialblockdownload: is_downloading,
            chainwork: format!("{:x}", tip.work),
            size_on_disk: 0,
            pruned: false,
            warnings: [],
        }
    }
}

#[derive(Debug, Serialize)]
struct NetworkInfo {
    version: u32,
    subversion: &'static str,
    protocolversion: u32,
    localservices: &'static str,
    localrelay: bool,
    timeoffset: i64,
    networkactive: bool,
    connections: u32,
    networks: [u8; 0],
    relayfee: f64,
    incrementalfee: f64,
    localaddresses: [u8; 0],
    warnings: [&'static str; 0],
}

impl Default for NetworkInfo {
    fn default() -> Self {
        Self {
            version: 290_000,
            subversion: concat!("/gatewayd-devnet:", env!("CARGO_PKG_VERSION"), "/"),
            protocolversion: 70_016,
            localservices: "0000000000000409",
            localrelay: true,
            timeoffset: 0,
            networkactive: true,
            connections: 0,
            networks: [],
            relayfee: 0.000_01,
            incrementalfee: 0.000_01,
            localaddresses: [],
            warnings: [],
        }
    }
}

/// How many more headers a downloading node claims to know.
const HEADERS_AHEAD: u32 = 1000;
