//! One call to one node. Blocking: for threads that may wait.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

pub use bitcoincore_rpc::Auth;
use bitcoincore_rpc::jsonrpc::{self, Client};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::timeout;
use tracing::debug;

use super::{
    Answer, BlockNode,
    http::{Http, Limits},
};
use crate::{net, work::Hash256};

/// Where a node's RPC was found.
pub(super) type Found = io::Result<SocketAddr>;

/// Finds the node's first address that accepts a connection: the transport would try only the
/// first one there is, and that may be dead, or ::1 where the node listens on 127.0.0.1.
pub(super) async fn find(node: &BlockNode) -> Found {
    let (host, _) = split(&node.rpc_url);
    let found = async {
        if node.is_blvm {
            // Of its few connections, none is spent where there is no choice.
            net::reachable(host).await
        } else {
            net::connect(host).await?.peer_addr()
        }
    };
    let found = timeout(CONNECT_MAX, found).await;
    found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "nothing answers")))
}

/// Submits the block, and asks for its header to know what really became of it: some nodes answer
/// null to a stale block. `params` is the block's hex in a list.
pub(super) fn submit(node: &BlockNode, found: Found, hash: &Hash256, params: &RawValue) -> Answer {
    let client = match connect(node, found) {
        Ok(client) => client,
        Err(error) => return Answer::Unanswered(error.to_string()),
    };
    let said: Result<Option<String>, _> = client.call("submitblock", Some(params));
    let answer = match &said {
        Ok(said) => Answer::of_submitblock(said.as_deref()),
        // Some nodes refuse with an error: only what the node itself said can be final.
        Err(jsonrpc::Error::Rpc(error)) => Answer::of_error(error.code, &error.message),
        Err(error) => Answer::Unanswered(error.to_string()),
    };
    if matches!(answer, Answer::Rejected(_)) {
        return answer;
    }
    settle(answer, said.is_ok(), confirm(&client, hash))
}

/// Asks the node to build on this block rather than on another of the same height that it saw
/// first. It may refuse, or not know how: then the race is decided as ever.
pub(super) fn prefer(node: &BlockNode, found: Found, hash: &Hash256) {
    let Ok(client) = connect(node, found) else { return };
    let Ok(params) = to_raw_value(&[hash.to_string()]) else { return };
    match client.call::<Option<bool>>("preciousblock", Some(&params)) {
        Ok(_) => debug!(%hash, "asked the node to prefer our block to another of its height"),
        Err(error) => debug!(%hash, "the node was asked to prefer our block: {error}"),
    }
}

/// A connection to a blvm-node, kept: it takes 10 in a minute.
#[derive(Default)]
pub(super) struct Line(Mutex<Option<Client>>);

impl Line {
    /// Whether a connection is kept, or somebody is using one.
    pub(super) fn is_open(&self) -> bool {
        self.0.try_lock().map_or(true, |kept| kept.is_some())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the client: it holds a password.
        f.write_str("Line")
    }
}

/// The same for blvm-node, in its dialect. When its NodeAPI can take blocks with their witnesses,
/// this is what changes.
pub(super) fn submit_to_blvm(
    node: &BlockNode,
    line: &Line,
    found: Option<Found>,
    hash: &Hash256,
    params: &RawValue,
) -> Answer {
    let mut kept = line.0.lock().unwrap_or_else(PoisonError::into_inner);
    let is_old = kept.is_some();
    let open = |found: Option<Found>| match found {
        Some(found) => connect(node, found),
        None => connect_by_name(node),
    };
    let answer = match kept.take().map_or_else(|| open(found), Ok) {
        Ok(client) => ask_blvm(client, hash, params, &mut kept),
        Err(error) => Answer::Unanswered(error.to_string()),
    };
    if kept.is_none() && is_old && !answer.is_final() {
        // The node may have another cookie since.
        return match connect_by_name(node) {
            Ok(client) => ask_blvm(client, hash, params, &mut kept),
            Err(error) => Answer::Unanswered(error.to_string()),
        };
    }
    answer
}

/// Keeps the client if its connection is in order.
fn ask_blvm(
    client: Client,
    hash: &Hash256,
    params: &RawValue,
    kept: &mut Option<Client>,
) -> Answer {
    let said = match client.call::<Option<String>>("submitblock", Some(params)) {
        Ok(said) => Answer::of_submitblock(said.as_deref()),
        Err(jsonrpc::Error::Rpc(error)) => Answer::of_blvm_error(error.code, &error.message),
        Err(error) => {
            let error = error.to_string();
            if error.contains(TOO_MANY) {
                // By default 5 calls a second: the next one would be refused as well.
                thread::sleep(PAUSE_TOO_MANY);
            }
            return Answer::Unanswered(transport_words(&error));
        }
    };
    let answer = settle_by_chain(&client, hash, params, said);
    *kept = Some(client);
    answer
}

fn transport_words(error: &str) -> String {
    if error.contains("413") {
        return "its RPC takes no request as long as this block (HTTP 413): raise \
                max_request_size_bytes in its [rpc] if its version heeds that, or add a bitcoind \
                as another [[node]]"
            .into();
    }
    error.to_owned()
}

/// Whatever it said to the submission, its chain decides.
fn settle_by_chain(client: &Client, hash: &Hash256, params: &RawValue, said: Answer) -> Answer {
    if !said.is_final() {
        return said;
    }
    let tip: Result<String, _> = client.call("getbestblockhash", None);
    let Ok(tip) = tip else {
        return Answer::Unanswered("it does not say whether the block is in its chain".into());
    };
    if tip == hash.to_string() {
        return Answer::Accepted;
    }
    match said {
        // It says the same of a bad block and of one on a block that is its tip no more.
        Answer::Rejected(_) if parent(params).is_some_and(|it| it.to_string() != tip) => {
            Answer::Stale
        }
        Answer::Accepted => buried(client, hash),
        said => said,
    }
}

/// Where a block is that is not the tip: below it, beside it, or still on its way.
fn buried(client: &Client, hash: &Hash256) -> Answer {
    #[derive(Deserialize)]
    struct Place {
        height: u32,
    }
    let hash = hash.to_string();
    let place = to_raw_value(&[&hash])
        .map_err(jsonrpc::Error::from)
        .and_then(|params| client.call::<Place>("getblockheader", Some(&params)));
    let height = match place {
        Ok(place) => place.height,
        Err(jsonrpc::Error::Rpc(error)) if error.message.contains("no height index") => {
            return Answer::Stale;
        }
        Err(_) => return Answer::Unanswered(NOT_CONNECTED.into()),
    };
    let there = to_raw_value(&[height])
        .map_err(jsonrpc::Error::from)
        .and_then(|params| client.call::<String>("getblockhash", Some(&params)));
    match there {
        Ok(there) if there == hash => is_below_tip(client, height),
        Ok(_) => Answer::Stale,
        Err(error) => Answer::Unanswered(error.to_string()),
    }
}

/// A block that it stored and then failed to connect has its place among the heights already.
fn is_below_tip(client: &Client, height: u32) -> Answer {
    match client.call::<u32>("getblockcount", None) {
        Ok(tip) if tip > height => Answer::Accepted,
        Ok(_) => Answer::Unanswered(NOT_CONNECTED.into()),
        Err(error) => Answer::Unanswered(error.to_string()),
    }
}

/// The parent of the block whose hex is in a list.
fn parent(params: &RawValue) -> Option<Hash256> {
    let mut hash = [0; 32];
    let header = params.get().strip_prefix("[\"")?.get(8..72)?;
    faster_hex::hex_decode(header.as_bytes(), &mut hash).ok()?;
    Some(Hash256(hash))
}

/// Weighs what the node said to the submission against where it has the block now.
fn settle(answer: Answer, was_answered: bool, known: Option<Answer>) -> Answer {
    match known {
        // It may still be connecting the block: only a submission that it answered was judged.
        Some(Answer::Stale) if !was_answered => answer,
        Some(known) => known,
        None => answer,
    }
}

/// Where the block stands in the node's chain, if the node knows it.
fn confirm(client: &Client, hash: &Hash256) -> Option<Answer> {
    let params = to_raw_value(&[hash.to_string()]).ok()?;
    let header: BlockHeader = client.call("getblockheader", Some(&params)).ok()?;
    Some(if header.confirmations > 0 { Answer::Accepted } else { Answer::Stale })
}

/// Like `connect`, at whichever address comes first.
fn connect_by_name(node: &BlockNode) -> Result<Client, bitcoincore_rpc::Error> {
    let (user, password) = node.auth.clone().get_user_pass()?;
    client(&node.rpc_url, None, user, password)
}

fn client(
    url: &str,
    found: Option<SocketAddr>,
    user: Option<String>,
    password: Option<String>,
) -> Result<Client, bitcoincore_rpc::Error> {
    let login = user.map(|user| (user, password.unwrap_or_default()));
    let transport = Http::new(url, found, login, LIMITS)?;
    Ok(Client::with_transport(transport))
}

/// A new connection each time: the cookie is read anew, and a dead connection is not reused.
fn connect(node: &BlockNode, found: Found) -> Result<Client, bitcoincore_rpc::Error> {
    let (user, password) = node.auth.clone().get_user_pass()?;
    client(&node.rpc_url, Some(found?), user, password)
}

/// Host with port, and path.
fn split(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    rest.find('/').map_or((rest, "/"), |at| rest.split_at(at))
}

#[derive(Deserialize)]
struct BlockHeader {
    /// -1 off the best chain.
    confirmations: i64,
}

const LIMITS: Limits = Limits {
    // A node on a slow disk may take long to connect a block.
    silence: Duration::from_secs(60),
    // 8 MB of hex take four minutes at 256 kbit/s.
    call: Duration::from_secs(300),
};
/// For finding the addresses of a host, where a dead name server may take 5 s before the next one is
/// asked, and for the first of them that answers: a node that is up does at once.
const CONNECT_MAX: Duration = Duration::from_secs(15);
const NOT_CONNECTED: &str = "it has the block, but not in its chain yet";
/// As the transport words HTTP's status.
const TOO_MANY: &str = "code: 429";
const PAUSE_TOO_MANY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_node_is_found_at_the_address_that_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = |rpc_url: String, is_blvm| BlockNode {
            name: "n".into(),
            rpc_url,
            auth: Auth::None,
            is_blvm,
        };
        for is_blvm in [false, true] {
            // Only 127.0.0.1 listens; ::1 may come first.
            let found = find(&node(format!("http://localhost:{port}/wallet/x"), is_blvm)).await;
            assert_eq!(found.unwrap(), listener.local_addr().unwrap());
        }
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = find(&node(format!("http://{closed}"), false)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_blocks_parent_is_read_from_its_hex() {
        let header = format!("01000000{}{}", "ab".repeat(32), "00".repeat(44));
        let params = to_raw_value(&[&header]).unwrap();
        assert_eq!(parent(&params), Some(Hash256([0xAB; 32])));
        assert_eq!(parent(&to_raw_value(&["0100"]).unwrap()), None);
    }

    #[test]
    fn a_submission_without_an_answer_is_not_stale() {
        let unanswered = || Answer::Unanswered("timed out".into());
        assert_eq!(settle(unanswered(), false, Some(Answer::Stale)), unanswered());
        assert_eq!(settle(unanswered(), false, Some(Answer::Accepted)), Answer::Accepted);
        assert_eq!(settle(unanswered(), false, None), unanswered());
        assert_eq!(settle(Answer::Accepted, true, Some(Answer::Stale)), Answer::Stale);
        assert_eq!(settle(Answer::Accepted, true, None), Answer::Accepted);
    }
}
