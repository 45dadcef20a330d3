//! Asks a node for headers below its tip, one after another, while nodes are to be compared.

use bitcoin::Network;
use tokio::sync::mpsc;

use super::{HeaderFault, NodeError, Outlet, conn::RpcClient, rpc};

/// Follows the node's chain down whenever that is wanted; an error, through `answers`, ends it.
pub(super) async fn run<T>(
    mut client: RpcClient,
    network: Network,
    outlet: Outlet,
    answers: mpsc::Sender<Result<T, NodeError>>,
) {
    let (mut wanted, mut chain) = (outlet.walk.subscribe(), outlet.chain.subscribe());
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
        let missing = || NodeError::Header(next, HeaderFault::Missing);
        // One that is known and not shown whole is as good as none.
        let shown = answer.and_then(|header| header.and_then(|it| it.shown).ok_or_else(missing));
        if let Err(error) = shown.and_then(|shown| outlet.lengthen(shown, network)) {
            // Whoever serves the node ends with that.
            let _ = answers.send(Err(error)).await;
            return;
        }
    }
}
