//! Requests headers below a node's tip, one after another, while nodes have to be compared.

use std::time::Duration;

use bitcoin::Network;
use tokio::{sync::mpsc, time::sleep};

use super::SourceOutput;
use crate::node::{HeaderFault, NodeError, RpcError, conn::RpcClient, error::is_busy, rpc};

/// Follows the node's chain down whenever that is needed; an error, sent through `answers`, ends
/// it.
pub(super) async fn run<T>(
    mut client: RpcClient,
    network: Network,
    output: SourceOutput,
    answers: mpsc::Sender<Result<T, NodeError>>,
) {
    let (mut wanted, mut chain) = (output.walk.subscribe(), output.chain.subscribe());
    loop {
        if wanted.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let next = chain.borrow_and_update().as_ref().and_then(|chain| chain.wanted());
        let Some(next) = next else {
            // There is nothing to ask until the tip moves.
            if chain.changed().await.is_err() {
                return;
            }
            continue;
        };
        let answer = rpc::header(&mut client, next).await;
        if let Err(NodeError::Rpc(error)) = &answer
            && is_passing(error)
        {
            sleep(PAUSE).await;
            continue;
        }
        let missing = || NodeError::Header(next, HeaderFault::Missing);
        // A header that is not shown whole is as good as none.
        let shown = answer.and_then(|header| header.and_then(|it| it.shown).ok_or_else(missing));
        if let Err(error) = shown.and_then(|shown| output.lengthen(shown, network)) {
            // The node's session ends with that.
            let _ = answers.send(Err(error)).await;
            return;
        }
    }
}

/// A busy node is not a worse node: headers can wait.
fn is_passing(error: &RpcError) -> bool {
    match error {
        RpcError::Timeout { .. } => true,
        RpcError::Http { status, .. } => is_busy(*status),
        _ => false,
    }
}

const PAUSE: Duration = Duration::from_secs(1);
