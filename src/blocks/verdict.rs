//! A node's verdict on a block: submits it, and then checks the node's chain.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::sleep;

use super::BlockOutcome;
use crate::{
    node::{
        RpcError,
        blvm::rpc::{block_at, block_height, tip_hash, tip_height},
        conn::RpcClient,
        error::TOO_LONG,
        rpc::{confirmations, submit_block},
    },
    work::Hash256,
};

/// Submits the block, and requests its header to know what really became of it: some nodes answer
/// null to a stale block. `params` is the block's hex in a list.
pub(super) async fn submit(
    client: &mut RpcClient,
    hash: Hash256,
    params: &RawValue,
) -> BlockOutcome {
    let said = submit_block(client, params).await;
    let answer = match &said {
        Ok(said) => BlockOutcome::of_submitblock(said.as_deref()),
        // Some nodes refuse with an error: only what the node itself said can be final.
        Err(RpcError::Node { code, message }) => BlockOutcome::of_error(*code, message),
        Err(error) => BlockOutcome::Unanswered(error.to_string()),
    };
    let is_reached = !matches!(said, Err(RpcError::Connect { .. } | RpcError::Cookie { .. }));
    if matches!(answer, BlockOutcome::Rejected(_)) || !is_reached {
        return answer;
    }
    settle(answer, said.is_ok(), confirm(client, hash).await)
}

/// The block's position in the node's chain, if the node knows it.
async fn confirm(client: &mut RpcClient, hash: Hash256) -> Option<BlockOutcome> {
    let confirmations = confirmations(client, hash).await.ok()?;
    Some(if confirmations > 0 { BlockOutcome::Accepted } else { BlockOutcome::Stale })
}

/// Combines the node's answer to the submission with where it has the block now.
fn settle(answer: BlockOutcome, was_answered: bool, known: Option<BlockOutcome>) -> BlockOutcome {
    match known {
        // It may still be connecting the block: only an answered submission was judged.
        Some(BlockOutcome::Stale) if !was_answered => answer,
        Some(known) => known,
        None => answer,
    }
}

/// The same for blvm-node, in its dialect. When its NodeAPI can accept blocks with witnesses, this
/// will change.
pub(super) async fn submit_to_blvm(
    client: &mut RpcClient,
    hash: Hash256,
    params: &RawValue,
) -> BlockOutcome {
    let said = match submit_block(client, params).await {
        Ok(said) => BlockOutcome::of_submitblock(said.as_deref()),
        Err(error) => {
            if error.is_too_much() {
                // By default it allows 5 calls a second: the next one would be refused as well.
                sleep(PAUSE_TOO_MUCH).await;
            }
            of_blvm_error(&error)
        }
    };
    settle_by_chain(client, hash, params, said).await
}

fn of_blvm_error(error: &RpcError) -> BlockOutcome {
    match error {
        RpcError::Node { code, message } => BlockOutcome::of_blvm_error(*code, message),
        RpcError::Http { status: TOO_LONG, .. } => BlockOutcome::Unanswered(
            "its RPC refuses requests as long as this block (HTTP 413): raise \
             max_request_size_bytes in its [rpc] if its version supports that, or add a bitcoind \
             as another [[node]]"
                .into(),
        ),
        error => BlockOutcome::Unanswered(error.to_string()),
    }
}

/// Whatever it answered to the submission, its chain decides.
async fn settle_by_chain(
    client: &mut RpcClient,
    hash: Hash256,
    params: &RawValue,
    said: BlockOutcome,
) -> BlockOutcome {
    if !said.is_final() {
        return said;
    }
    let Ok(tip) = tip_hash(client).await else {
        return BlockOutcome::Unanswered(
            "it does not say whether the block is in its chain".into(),
        );
    };
    if tip == hash.to_string() {
        return BlockOutcome::Accepted;
    }
    match said {
        // It says the same about an invalid block and about one whose parent is no longer its tip.
        BlockOutcome::Rejected(_) if parent(params).is_some_and(|it| it.to_string() != tip) => {
            BlockOutcome::Stale
        }
        BlockOutcome::Accepted => buried(client, hash).await,
        said => said,
    }
}

/// Where a block is that is not the tip: below it, on another branch, or not connected yet.
async fn buried(client: &mut RpcClient, hash: Hash256) -> BlockOutcome {
    let height = match block_height(client, hash).await {
        Ok(height) => height,
        Err(RpcError::Node { message, .. }) if message.contains("no height index") => {
            return BlockOutcome::Stale;
        }
        Err(_) => return BlockOutcome::Unanswered(NOT_CONNECTED.into()),
    };
    match block_at(client, height).await {
        Ok(there) if there == hash.to_string() => is_below_tip(client, height).await,
        Ok(_) => BlockOutcome::Stale,
        Err(error) => BlockOutcome::Unanswered(error.to_string()),
    }
}

/// A block that it stored but failed to connect is already in its height index.
async fn is_below_tip(client: &mut RpcClient, height: u32) -> BlockOutcome {
    match tip_height(client).await {
        Ok(tip) if tip > height => BlockOutcome::Accepted,
        Ok(_) => BlockOutcome::Unanswered(NOT_CONNECTED.into()),
        Err(error) => BlockOutcome::Unanswered(error.to_string()),
    }
}

/// The parent of the block whose hex is in a list.
fn parent(params: &RawValue) -> Option<Hash256> {
    let mut hash = [0; 32];
    let header = params.get().strip_prefix("[\"")?.get(8..72)?;
    faster_hex::hex_decode(header.as_bytes(), &mut hash).ok()?;
    Some(Hash256(hash))
}

const NOT_CONNECTED: &str = "it has the block, but not in its chain yet";
const PAUSE_TOO_MUCH: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn a_blocks_parent_is_read_from_its_hex() {
        let header = format!("01000000{}{}", "ab".repeat(32), "00".repeat(44));
        let params = to_raw_value(&[&header]).unwrap();
        assert_eq!(parent(&params), Some(Hash256([0xAB; 32])));
        assert_eq!(parent(&to_raw_value(&["0100"]).unwrap()), None);
    }

    #[test]
    fn a_submission_without_an_answer_is_not_stale() {
        let unanswered = || BlockOutcome::Unanswered("timed out".into());
        assert_eq!(settle(unanswered(), false, Some(BlockOutcome::Stale)), unanswered());
        assert_eq!(
            settle(unanswered(), false, Some(BlockOutcome::Accepted)),
            BlockOutcome::Accepted
        );
        assert_eq!(settle(unanswered(), false, None), unanswered());
        assert_eq!(
            settle(BlockOutcome::Accepted, true, Some(BlockOutcome::Stale)),
            BlockOutcome::Stale
        );
        assert_eq!(settle(BlockOutcome::Accepted, true, None), BlockOutcome::Accepted);
    }

    #[test]
    fn a_refusal_of_something_before_the_node_judges_no_block() {
        for status in [413, 429, 502, 503] {
            let error = RpcError::Http { status, text: "block was not connected".into() };
            assert!(!of_blvm_error(&error).is_final(), "{status}");
        }
    }
}
