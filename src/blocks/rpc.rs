//! One call to one node. Blocking: for threads that may wait.

use std::time::Duration;

pub use bitcoincore_rpc::Auth;
use bitcoincore_rpc::jsonrpc::{self, Client, simple_http::SimpleHttpTransport};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{Answer, BlockNode};
use crate::work::Hash256;

/// Submits the block, and asks for its header to know what really became of it: some nodes answer
/// null to a stale block. `params` is the block's hex in a list.
pub(super) fn submit(node: &BlockNode, hash: &Hash256, params: &RawValue) -> Answer {
    let client = match connect(node) {
        Ok(client) => client,
        Err(error) => return Answer::Unanswered(error.to_string()),
    };
    let said: Result<Option<String>, _> = client.call("submitblock", Some(params));
    let answer = match &said {
        Ok(said) => Answer::of_submitblock(said.as_deref()),
        // Some nodes refuse with an error: only what the node itself said can be final.
        Err(jsonrpc::Error::Rpc(error)) => match error.code {
            RPC_VERIFY_ERROR | RPC_VERIFY_REJECTED | RPC_DESERIALIZATION => {
                Answer::Rejected(error.message.clone())
            }
            _ => Answer::Unanswered(error.message.clone()),
        },
        Err(error) => Answer::Unanswered(error.to_string()),
    };
    if matches!(answer, Answer::Rejected(_)) {
        return answer;
    }
    confirm(&client, hash).unwrap_or(answer)
}

/// Where the block stands in the node's chain, if the node knows it.
fn confirm(client: &Client, hash: &Hash256) -> Option<Answer> {
    let params = to_raw_value(&[hash.to_string()]).ok()?;
    let header: BlockHeader = client.call("getblockheader", Some(&params)).ok()?;
    Some(if header.confirmations > 0 { Answer::Accepted } else { Answer::Stale })
}

/// A new connection each time: the cookie is read anew, and a dead connection is not reused.
fn connect(node: &BlockNode) -> Result<Client, bitcoincore_rpc::Error> {
    let (user, password) = node.auth.clone().get_user_pass()?;
    let transport = SimpleHttpTransport::builder()
        .url(&node.rpc_url)
        .map_err(|error| bitcoincore_rpc::Error::JsonRpc(error.into()))?
        .timeout(TIMEOUT)
        .auth(user.unwrap_or_default(), password)
        .build();
    Ok(Client::with_transport(transport))
}

#[derive(Deserialize)]
struct BlockHeader {
    /// -1 off the best chain.
    confirmations: i64,
}

/// A node on a slow disk may take long to connect a block.
const TIMEOUT: Duration = Duration::from_secs(60);
/// RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED, RPC_DESERIALIZATION_ERROR of Bitcoin Core's protocol.h.
const RPC_VERIFY_ERROR: i32 = -25;
const RPC_VERIFY_REJECTED: i32 = -26;
const RPC_DESERIALIZATION: i32 = -22;
